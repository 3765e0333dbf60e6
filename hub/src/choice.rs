//! Which file of a repository is meant where none is named.

use std::fs;
use std::path::Path;

use polychord_runtime_api::plan::Part;

/// Tags that are looked for where none is given.
const DEFAULT_TAGS: [&str; 2] = ["Q4_K_M", "Q8_0"];

/// What the names of files have that are no models by themselves.
const COMPANIONS: [&str; 6] = ["mmproj", "imatrix", "mtp-", "eagle3-", "dflash-", "dspark-"];

/// Most files that are looked at in a folder of the cache.
const MOST_FILES: usize = 10_000;

/// Chooses as llama.cpp's `-hf` does: the first file whose name has the tag, followed by a dot or a
/// hyphen; without a tag, one of the [`DEFAULT_TAGS`], or else the first model.
pub(super) fn choose<'a>(paths: &'a [String], tag: Option<&str>) -> Option<&'a str> {
    let tagged = |tag: &str| models(paths).find(|path| has_tag(path, tag));
    match tag {
        Some(tag) => tagged(tag),
        None => DEFAULT_TAGS.into_iter().find_map(tagged).or_else(|| models(paths).next()),
    }
}

/// Whether a path is what is preferred most, so that nothing better can be in the repository.
pub(super) fn is_best(path: &str, tag: Option<&str>) -> bool {
    has_tag(path, tag.unwrap_or(DEFAULT_TAGS[0]))
}

/// The paths of GGUF files below a folder, in order, with slashes.
pub(super) fn files_below(folder: &Path) -> Vec<String> {
    fn walk(folder: &Path, prefix: &str, depth: usize, found: &mut Vec<String>) {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let Some(name) = entry.file_name().to_str().map(|name| format!("{prefix}{name}"))
            else {
                continue;
            };
            if found.len() >= MOST_FILES {
                return;
            }
            // Follows links: Hugging Face's own cache is made of them.
            match fs::metadata(entry.path()) {
                Ok(meta) if meta.is_dir() && depth > 0 => {
                    walk(&entry.path(), &format!("{name}/"), depth - 1, found);
                }
                Ok(meta) if meta.is_file() => found.push(name),
                _ => {}
            }
        }
    }
    let mut found = Vec::new();
    walk(folder, "", 8, &mut found);
    found.sort_unstable();
    found
}

/// Models, and the first parts of those in several.
fn models(paths: &[String]) -> impl Iterator<Item = &str> {
    let is_model = |path: &&str| {
        let name = path.rsplit('/').next().unwrap_or(path);
        let is_first = Part::of_name(name).is_none_or(|part| part.number == 0);
        path.ends_with(".gguf") && is_first && !COMPANIONS.iter().any(|it| name.contains(it))
    };
    paths.iter().map(String::as_str).filter(is_model)
}

/// Whether a path has a tag in any case, with a dot or a hyphen behind it.
fn has_tag(path: &str, tag: &str) -> bool {
    let (path, tag) = (path.to_ascii_lowercase(), tag.to_ascii_lowercase());
    path.match_indices(&tag).any(|(at, _)| path[at + tag.len()..].starts_with(['.', '-']))
}

#[cfg(test)]
mod tests {
    use super::{choose, is_best};

    fn chosen(paths: &[&str], tag: Option<&str>) -> Option<String> {
        let paths: Vec<_> = paths.iter().map(|path| (*path).to_owned()).collect();
        choose(&paths, tag).map(str::to_owned)
    }

    #[test]
    fn files_are_chosen_as_llama_cpp_does() {
        let repo = [
            "README.md",
            "imatrix-Q4_K_M.gguf",
            "m-IQ4_XS.gguf",
            "m-Q8_0.gguf",
            "m-q4_k_m.gguf",
            "mmproj-m-Q4_K_M.gguf",
        ];
        assert_eq!(chosen(&repo, None).unwrap(), "m-q4_k_m.gguf");
        assert_eq!(chosen(&repo, Some("q8_0")).unwrap(), "m-Q8_0.gguf");
        assert_eq!(chosen(&repo, Some("Q5_K_M")), None);
        assert_eq!(chosen(&repo[..4], None).unwrap(), "m-Q8_0.gguf");
        assert_eq!(chosen(&repo[..3], None).unwrap(), "m-IQ4_XS.gguf");
        assert_eq!(chosen(&repo[..2], None), None);
        let split = ["Q4_K_M/m-Q4_K_M-00002-of-00002.gguf", "Q4_K_M/m-Q4_K_M-00001-of-00002.gguf"];
        assert_eq!(chosen(&split, None).unwrap(), split[1]);
        // A folder is part of the name, and a longer tag is another.
        assert_eq!(chosen(&["BF16-x/m.gguf"], Some("bf16")).unwrap(), "BF16-x/m.gguf");
        assert_eq!(chosen(&["m-Q4_K_M_L.gguf"], Some("Q4_K_M")), None);
        assert!(is_best("m.Q4_K_M.gguf", None) && !is_best("m.Q8_0.gguf", None));
    }
}
