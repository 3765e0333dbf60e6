//! Caches that other users read or write, and links that lead out of them.
#![cfg(unix)]

use std::fs::Permissions;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};

use super::server::{Behavior, Server};
use super::*;

/// Another user, who need not have a name.
const STRANGER: u32 = 12_345;

/// A cache, a server, and a file that no fetch may touch.
struct Bench {
    dir: TempDir,
    hub: Hub,
    _server: Server,
    file: ModelRef,
}

impl Bench {
    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let root = dir.path().join("cache");
        let mut hub = hub(&root, &model());
        let server = Server::start(Behavior::good(model(), hub.pinned.sha256));
        hub.settings.hugging_face.endpoint.clone_from(&server.url);
        hub.settings.hugging_face.offline = false;
        fs::write(dir.path().join("victim"), "precious").unwrap();
        let file = "hf:owner/repo/model.gguf".parse().unwrap();
        Self { dir, hub, _server: server, file }
    }

    fn resolve(&self) -> Result<PathBuf, Error> {
        self.hub.resolve(&self.file, &mut Silent)
    }

    #[track_caller]
    fn complete(&self) {
        assert_eq!(fs::read(self.resolve().unwrap()).unwrap(), model());
        self.victim_is_well();
    }

    #[track_caller]
    fn refused(&self, parts: &[&str]) {
        let error = self.resolve().unwrap_err();
        assert!(matches!(error, Error::UnsafeCache { .. }), "{error:?}");
        let message = error.to_string();
        for part in parts.iter().chain(&["POLYCHORD_CACHE"]) {
            assert!(message.contains(part), "no {part} in: {message}");
        }
        self.victim_is_well();
    }

    #[track_caller]
    fn victim_is_well(&self) {
        let victim = self.dir.path().join("victim");
        assert_eq!(fs::read_to_string(victim).unwrap(), "precious");
    }

    /// The folder for work in progress, made before a fetch needs it.
    fn work(&self) -> PathBuf {
        let name = "hf/owner/repo/main/model.gguf";
        let digest = digest::hash_text(name);
        let key = format!("{}-{}", &digest[..16], polychord_folders::user());
        let work = self.hub.root.join("partial").join(key);
        fs::create_dir_all(&work).unwrap();
        work
    }

    fn victim(&self) -> PathBuf {
        self.dir.path().join("victim")
    }
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

fn is_root(test: &str) -> bool {
    let is_root = polychord_folders::user() == 0;
    if !is_root {
        eprintln!("SKIPPED {test}: only root can act as another user");
    }
    is_root
}

#[test]
fn links_in_the_cache_lead_a_fetch_to_no_other_file() {
    for name in ["download", "download.etag", "unpacked", ".mark"] {
        let bench = Bench::new();
        symlink(bench.victim(), bench.work().join(name)).unwrap();
        bench.complete();
    }
    // With the note that makes a fetch go on where it stopped.
    let bench = Bench::new();
    let work = bench.work();
    symlink(bench.victim(), work.join("download")).unwrap();
    fs::write(work.join("download.etag"), bench.hub.pinned.sha256).unwrap();
    bench.complete();
    // A second name of a file is as good as a link.
    let bench = Bench::new();
    let work = bench.work();
    fs::hard_link(bench.victim(), work.join("download")).unwrap();
    fs::hard_link(bench.victim(), work.join("download.etag")).unwrap();
    bench.complete();
    // In place of the lock, of the model and of its mark.
    let bench = Bench::new();
    symlink(bench.victim(), bench.work().with_extension("lock")).unwrap();
    let models = bench.hub.root.join("models/hf/owner/repo/main");
    fs::create_dir_all(&models).unwrap();
    symlink(bench.victim(), models.join("model.gguf")).unwrap();
    symlink(bench.victim(), models.join("model.gguf.sha256-ok")).unwrap();
    bench.complete();
    bench.complete();
}

#[test]
fn a_link_in_place_of_the_work_folder_is_not_emptied() {
    let bench = Bench::new();
    let work = bench.work();
    fs::remove_dir(&work).unwrap();
    let home = bench.dir.path().join("home");
    fs::create_dir(&home).unwrap();
    chmod(&home, 0o777);
    fs::write(home.join("letter"), "dear").unwrap();
    symlink(&home, &work).unwrap();
    bench.refused(&[home.to_str().unwrap(), "0777", "chmod"]);
    assert_eq!(fs::read_to_string(home.join("letter")).unwrap(), "dear");
}

#[test]
fn a_cache_in_which_others_could_exchange_files_is_refused() {
    for (below, mode) in [("", 0o777), ("", 0o775), ("partial", 0o777), ("models/hf", 0o770)] {
        let bench = Bench::new();
        let folder = bench.hub.root.join(below);
        fs::create_dir_all(&folder).unwrap();
        chmod(&folder, mode);
        let folder = folder.to_str().unwrap().trim_end_matches('/');
        bench.refused(&[folder, &format!("{mode:04o}"), "chmod"]);
        // Shared in this way it is safe.
        chmod(Path::new(folder), mode | 0o1000);
        bench.complete();
    }
    if !is_root("a_cache_in_which_others_could_exchange_files_is_refused") {
        return;
    }
    for below in ["", "partial", "models"] {
        let bench = Bench::new();
        let folder = bench.hub.root.join(below);
        fs::create_dir_all(&folder).unwrap();
        chown(&folder, Some(STRANGER), None).unwrap();
        let owner = format!("belongs to user {STRANGER} (mode 0755)");
        bench.refused(&[folder.to_str().unwrap().trim_end_matches('/'), &owner]);
    }
}

#[test]
fn what_is_made_cannot_be_written_by_others() {
    let bench = Bench::new();
    let path = bench.resolve().unwrap();
    let mark = path.with_extension("gguf.sha256-ok");
    for file in [&path, &mark] {
        assert_eq!(fs::metadata(file).unwrap().mode() & 0o022, 0);
    }
    for folder in path.ancestors().skip(1).take_while(|path| path.starts_with(&bench.hub.root)) {
        assert_eq!(fs::metadata(folder).unwrap().mode() & 0o022, 0, "{}", folder.display());
    }
}

/// A cache that belongs to another user is read, and what its owner verified is believed.
#[test]
fn a_shared_cache_that_is_complete_is_used() {
    let bench = Bench::new();
    let path = bench.resolve().unwrap();
    let mut hub = bench.hub.clone();
    hub.settings.hugging_face.offline = true;
    if is_root("a_shared_cache_that_is_complete_is_used") {
        for found in [path.clone(), path.with_extension("gguf.sha256-ok"), hub.root.clone()] {
            chown(found, Some(STRANGER), None).unwrap();
        }
    }
    assert_eq!(hub.cached(&bench.file), Some(path.clone()));
    assert_eq!(hub.resolve(&bench.file, &mut Silent).unwrap(), path);
}

/// A user who may add files to a shared cache cannot pass a model off as the default one.
#[test]
fn a_forged_mark_is_not_believed() {
    let bench = Bench::new();
    let path = bench.hub.resolve(&ModelRef::Default, &mut Silent).unwrap();
    let mark = path.with_extension("gguf.sha256-ok");
    let forge = || {
        let mut bytes = model();
        bytes[500] ^= 1;
        fs::write(&path, bytes).unwrap();
        let meta = fs::metadata(&path).unwrap();
        let modified = meta.modified().unwrap().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        let text = format!("{} {} {}\n", bench.hub.pinned.sha256, meta.len(), modified.as_nanos());
        fs::write(&mark, text).unwrap();
    };
    forge();
    assert!(bench.hub.cached(&ModelRef::Default).is_some(), "the user may deceive themselves");
    chmod(&mark, 0o666);
    assert_eq!(bench.hub.cached(&ModelRef::Default), None);
    chmod(&mark, 0o644);
    if is_root("a_forged_mark_is_not_believed") {
        for foreign in [&mark, &path] {
            chown(foreign, Some(STRANGER), None).unwrap();
            assert_eq!(bench.hub.cached(&ModelRef::Default), None);
            chown(foreign, Some(0), None).unwrap();
        }
    }
}

/// A model or mark that is a pipe is not waited for.
#[test]
fn pipes_are_not_waited_for() {
    let bench = Bench::new();
    let models = bench.hub.root.join("models");
    fs::create_dir_all(&models).unwrap();
    for name in ["model.gguf", "model.gguf.sha256-ok"] {
        let made = std::process::Command::new("mkfifo").arg(models.join(name)).status();
        assert!(made.unwrap().success());
        assert_eq!(bench.hub.cached(&ModelRef::Default), None);
    }
}
