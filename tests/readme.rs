//! The programs that README.md and the crate's documentation show are those in `examples/`,
//! which are compiled and run.
#![allow(clippy::unwrap_used, reason = "tests")]

/// An example without its first line, which is for our lints alone.
fn shown(example: &str) -> &str {
    let (lints, program) = example.split_once("\n\n").unwrap();
    assert!(lints.starts_with("#![allow(") && !lints.contains('\n'), "{lints}");
    program
}

#[test]
fn the_readme_shows_the_examples() {
    let readme = include_str!("../README.md");
    for example in
        [include_str!("../examples/generate.rs"), include_str!("../examples/host_api.rs")]
    {
        let block = format!("```rust\n{}```\n", shown(example));
        assert!(readme.contains(&block), "README.md does not show this:\n{block}");
    }
}

#[test]
fn the_documentation_shows_the_first_example() {
    let lines = shown(include_str!("../examples/generate.rs")).lines();
    let docs: String =
        lines.map(|line| format!("{}\n", format!("//! {line}").trim_end())).collect();
    assert!(
        include_str!("../src/lib.rs").contains(&docs),
        "src/lib.rs does not show this:\n{docs}"
    );
}
