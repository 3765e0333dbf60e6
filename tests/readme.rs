//! The programs that README.md and the crate's documentation show are those in `examples/`, which
//! are compiled and run; and the files that documents name exist.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use sha2::Digest as _;

/// An example without what it begins with: what it shows, and our lints.
fn shown(example: &str) -> &str {
    let (begin, program) = example.split_once("\n\nuse ").unwrap();
    let is_begin = |line: &str| line.starts_with("//!") || line.starts_with("#![allow(");
    assert!(begin.lines().all(is_begin), "an example begins with a comment: {begin}");
    &example[example.len() - program.len() - "use ".len()..]
}

fn read(path: impl AsRef<Path>) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn the_readme_shows_the_examples() {
    let readme = read("README.md");
    for name in ["chat", "own_guest"] {
        let block = format!("```rust\n{}```\n", shown(&read(format!("examples/{name}.rs"))));
        assert!(readme.contains(&block), "README.md does not show this:\n{block}");
    }
}

#[test]
fn the_readme_lists_every_example() {
    let readme = read("README.md");
    for example in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("examples")).unwrap() {
        let name = example.unwrap().file_name().into_string().unwrap();
        // Tools of scripts; docs/placements.md, docs/testing.md and scripts/bench-peers have them.
        let tools = ["family_speed", "make_families", "make_model", "sequences", "verify_all"];
        let Some(name) = name.strip_suffix(".rs").filter(|name| !tools.contains(name)) else {
            continue;
        };
        let row = format!("| [{name}](examples/{name}.rs) | ");
        assert!(readme.contains(&row), "README.md does not list examples/{name}.rs: {row}");
    }
}

#[test]
fn the_documentation_shows_the_first_example() {
    let example = read("examples/chat.rs");
    let lines = shown(&example).lines();
    let docs: String =
        lines.map(|line| format!("{}\n", format!("//! {line}").trim_end())).collect();
    assert!(read("src/lib.rs").contains(&docs), "src/lib.rs does not show this:\n{docs}");
}

#[test]
fn the_files_that_documents_name_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut missing = BTreeSet::new();
    let pages = fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let pages = pages.filter(|path| path.extension().is_some_and(|extension| extension == "md"));
    let others = ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md"].map(|name| root.join(name));
    for page in pages.chain(others) {
        let text = read(&page);
        let folder = page.parent().unwrap();
        let here: Vec<_> = quoted(&text).filter(|path| !exists(root, path)).collect();
        let links: Vec<_> = links(&text).filter(|link| !folder.join(link).exists()).collect();
        missing.extend([here, links].concat().into_iter().map(|it| (page.clone(), it.to_owned())));
    }
    assert!(missing.is_empty(), "documents name files that do not exist: {missing:#?}");
}

/// What stands in backticks and is a path in this repository: it begins as one does, and names a
/// folder by a final slash, or a file that has an extension or is a script.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    let parts = text.lines().flat_map(|line| line.split('`').skip(1).step_by(2));
    parts.filter(|part| {
        let is_path = |c: char| c.is_ascii_alphanumeric() || "_-./*".contains(c);
        let (folder, name) = part.rsplit_once('/').unwrap_or_default();
        let is_file = name.is_empty() || name.contains('.') || folder == "scripts";
        let is_ours = ROOTS.iter().any(|root| part.starts_with(root));
        // A placeholder, of how-tos.
        part.chars().all(is_path) && is_file && is_ours && !part.contains("NAME")
    })
}

/// How paths in this repository begin.
const ROOTS: [&str; 17] = [
    "abi/",
    "backend-",
    "conformance/",
    "docs/",
    "examples/",
    "folders/",
    "fuzz/",
    "guest/",
    "hub/",
    "model/",
    "passes/",
    "plan/",
    "runtime-api/",
    "scripts/",
    "session/",
    "src/",
    "tests/",
];

/// Targets of links that are no addresses, without the heading that they point to.
fn links(text: &str) -> impl Iterator<Item = &str> {
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split_once(')'));
    let files = targets.map(|(target, _)| target.split('#').next().unwrap_or_default());
    files.filter(|target| !target.is_empty() && !target.contains(':'))
}

/// Whether there is a file or folder of this name, each part of which may have one `*`.
fn exists(folder: &Path, path: &str) -> bool {
    let (first, rest) = path.split_once('/').unwrap_or((path, ""));
    if first.is_empty() {
        return folder.exists();
    }
    let Some((begin, end)) = first.split_once('*') else {
        return exists(&folder.join(first), rest);
    };
    let Ok(entries) = fs::read_dir(folder) else { return false };
    let mut names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names.any(|name| {
        name.starts_with(begin) && name.ends_with(end) && exists(&folder.join(&name), rest)
    })
}

/// Each built guest is listed once, with the size and the digest that it has.
#[test]
fn the_list_of_built_guests_is_that_of_the_files() {
    let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("guest/built");
    let info = fs::read_to_string(built.join("BUILD-INFO")).unwrap();
    let listed: Vec<_> = info.lines().filter(|line| line.ends_with(".wasm")).collect();
    let mut files = 0;
    for entry in fs::read_dir(&built).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if !name.ends_with(".wasm") {
            continue;
        }
        files += 1;
        assert_eq!(listed.iter().filter(|line| **line == name).count(), 1, "{name}");
        let bytes = fs::read(&path).unwrap();
        let entry = info.split_once(&format!("{name}\n")).unwrap().1;
        let lines: Vec<_> = entry.lines().take(3).map(str::trim).collect();
        let digest: String =
            sha2::Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(lines[1], format!("sha256    {digest}"), "{name}");
        assert_eq!(lines[2], format!("bytes     {}", bytes.len()), "{name}");
    }
    assert_eq!(files, listed.len());
}
