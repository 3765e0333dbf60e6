//! What a user writes to name a model.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::default_name::DEFAULT_NAME;
use super::error::Error;

/// Names a model: a file, a file on Hugging Face, or the built-in default.
///
/// ```
/// use polychord_hub::ModelRef;
///
/// let model: ModelRef = "hf:owner/repo/sub/model.gguf@main".parse()?;
/// assert!(matches!(model, ModelRef::HuggingFace(_)));
/// assert_eq!("smollm2-135m-instruct-q4_1".parse::<ModelRef>()?, ModelRef::Default);
/// assert_eq!("models/my.gguf".parse::<ModelRef>()?, ModelRef::Path("models/my.gguf".into()));
/// # Ok::<(), polychord_hub::Error>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ModelRef {
    /// A file on this machine.
    Path(PathBuf),
    /// A file in a model repository of Hugging Face (or of the server `HF_ENDPOINT` names).
    HuggingFace(HfFile),
    /// The built-in default: SmolLM2-135M-Instruct, 98 MB.
    #[default]
    Default,
}

impl FromStr for ModelRef {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        if text == DEFAULT_NAME || text == "default" {
            return Ok(Self::Default);
        }
        if let Some(rest) = text.strip_prefix("hf:") {
            return HfFile::parse(rest).map(Self::HuggingFace).map_err(|reason| bad(text, reason));
        }
        if text.trim().is_empty() {
            return Err(bad(text, "it is empty"));
        }
        if text.starts_with("https://") || text.starts_with("http://") {
            return Err(bad(
                text,
                "web addresses are not fetched; download the file, or use `hf:`",
            ));
        }
        Ok(Self::Path(text.into()))
    }
}

impl From<PathBuf> for ModelRef {
    fn from(path: PathBuf) -> Self {
        Self::Path(path)
    }
}

impl From<&Path> for ModelRef {
    fn from(path: &Path) -> Self {
        Self::Path(path.into())
    }
}

impl fmt::Display for ModelRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => path.display().fmt(f),
            Self::HuggingFace(file) => file.fmt(f),
            Self::Default => f.write_str(DEFAULT_NAME),
        }
    }
}

fn bad(text: &str, reason: impl Into<String>) -> Error {
    Error::Reference { text: text.into(), reason: reason.into() }
}

/// A GGUF file in a repository: `hf:owner/repo/path/file.gguf`, with an optional `@revision` (a
/// branch, tag or commit) at the end or after the repository.
///
/// Without a revision it is `main` at the time of the first fetch; what is cached stays.
///
/// ```
/// use polychord_hub::ModelRef;
///
/// let ModelRef::HuggingFace(file) = "hf:owner/repo/sub/model.gguf@v1".parse()? else {
///     unreachable!("it begins with hf:")
/// };
/// assert_eq!((file.owner(), file.repo()), ("owner", "repo"));
/// assert_eq!((file.path(), file.revision()), ("sub/model.gguf", "v1"));
/// # Ok::<(), polychord_hub::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HfFile {
    owner: String,
    repo: String,
    path: String,
    revision: Option<String>,
}

impl HfFile {
    /// The user or organization.
    pub fn owner(&self) -> &str {
        &self.owner
    }

    /// The name of the repository, without its owner.
    pub fn repo(&self) -> &str {
        &self.repo
    }

    /// The path of the file inside the repository.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The revision asked for, or `main`.
    pub fn revision(&self) -> &str {
        self.revision.as_deref().unwrap_or("main")
    }

    /// Reads what follows `hf:`. Every part is later a part of a path on disk and of a URL, so only
    /// plain characters pass, and no part is `.` or `..`.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut parts = text.splitn(3, '/');
        let owner = parts.next().unwrap_or_default();
        let repo = parts.next().ok_or("the repository is missing")?;
        let path = parts.next().ok_or("the path of the file is missing")?;
        let (repo, early) = split_revision(repo);
        let (path, late) = split_revision(path);
        if early.is_some() && late.is_some() {
            return Err("it has two revisions".into());
        }
        plain("owner", owner)?;
        plain("repository", repo)?;
        for part in path.split('/') {
            plain("path", part)?;
        }
        if !Path::new(path).extension().is_some_and(|e| e.eq_ignore_ascii_case("gguf")) {
            return Err("the file is no .gguf".into());
        }
        let revision = early.or(late);
        for part in revision.into_iter().flat_map(|r| r.split('/')) {
            plain("revision", part)?;
        }
        Ok(Self {
            owner: owner.into(),
            repo: repo.into(),
            path: path.into(),
            revision: revision.map(Into::into),
        })
    }
}

impl fmt::Display for HfFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "hf:{}/{}/{}", self.owner, self.repo, self.path)?;
        self.revision.as_ref().map_or(Ok(()), |revision| write!(f, "@{revision}"))
    }
}

fn split_revision(text: &str) -> (&str, Option<&str>) {
    text.split_once('@').map_or((text, None), |(name, revision)| (name, Some(revision)))
}

fn plain(what: &str, part: &str) -> Result<(), String> {
    if part.is_empty() {
        return Err(format!("its {what} has an empty part"));
    }
    if part == "." || part == ".." {
        return Err(format!("its {what} has a part `{part}`"));
    }
    match part.chars().find(|c| !(c.is_ascii_alphanumeric() || "._-+=,()".contains(*c))) {
        Some(c) => Err(format!("its {what} has the character {c:?}")),
        None => Ok(()),
    }
}
