//! Listing a folder.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::time::SystemTime;

use polychord_folders::{Access, Folder};

#[test]
fn plain_files_alone_are_listed() {
    let dir = tempfile::tempdir().unwrap();
    let folder = Folder::make(&dir.path().join("private"), Access::Private).unwrap();
    assert_eq!(folder.files().unwrap(), []);
    folder.replace("a", &[b"12", b"345"], 0o600).unwrap();
    std::fs::create_dir(folder.path().join("below")).unwrap();
    #[cfg(unix)]
    std::os::unix::fs::symlink("a", folder.path().join("link")).unwrap();
    // It lists the folder again each time.
    for _ in 0..2 {
        let files = folder.files().unwrap();
        assert_eq!(files.len(), 1, "{files:?}");
        assert_eq!((&*files[0].name, files[0].len), ("a", 5));
        assert!(files[0].modified <= SystemTime::now());
        assert!(files[0].modified.elapsed().unwrap().as_secs() < 600);
    }
}
