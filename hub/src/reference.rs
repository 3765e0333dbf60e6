//! What a user writes to name a model.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use polychord_runtime_api::plan::Part;

use super::default_name::DEFAULT_NAME;
use super::error::Error;

/// Names a model: a file, a file or a repository on Hugging Face, or the built-in default.
///
/// ```
/// use polychord_hub::ModelRef;
///
/// let model: ModelRef = "hf:owner/repo/sub/model.gguf@main".parse()?;
/// assert!(matches!(model, ModelRef::HuggingFace(_)));
/// let model: ModelRef = "hf:owner/repo:Q8_0".parse()?;
/// assert!(matches!(model, ModelRef::Repository(_)));
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
    /// A model repository of Hugging Face, of which a file is chosen.
    Repository(HfRepo),
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
            let parsed = match rest.matches('/').count() {
                0 | 1 => HfRepo::parse(rest).map(Self::Repository),
                _ => HfFile::parse(rest).map(Self::HuggingFace),
            };
            return parsed.map_err(|reason| bad(text, reason));
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
            Self::Repository(repo) => repo.fmt(f),
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

    /// All files of the model that this is one of: itself, or every part of a split one, in order.
    pub(super) fn parts(&self) -> Vec<Self> {
        let Some(part) = Part::of_name(&self.path) else { return vec![self.clone()] };
        let other = |number| part.name_of(&self.path, number);
        let paths = (0..part.count).filter_map(other);
        paths.map(|path| Self { path, ..self.clone() }).collect()
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

/// A repository of which a file is chosen: `hf:owner/repo`, with an optional `:tag` (a type of
/// weights such as `Q8_0`) and `@revision`, in any order.
///
/// The file is the first one whose name has the tag; without one, `Q4_K_M` if there is such a file,
/// else `Q8_0`, else the first of all. Of a model in several parts that is the first, and all are
/// fetched.
///
/// ```
/// use polychord_hub::ModelRef;
///
/// let ModelRef::Repository(repo) = "hf:owner/repo:Q8_0@v1".parse()? else { panic!() };
/// assert_eq!((repo.tag(), repo.revision()), (Some("Q8_0"), "v1"));
/// # Ok::<(), polychord_hub::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HfRepo {
    owner: String,
    repo: String,
    tag: Option<String>,
    revision: Option<String>,
}

impl HfRepo {
    /// The user or organization.
    pub fn owner(&self) -> &str {
        &self.owner
    }

    /// The name of the repository, without its owner.
    pub fn repo(&self) -> &str {
        &self.repo
    }

    /// What the name of the file has to have.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The revision asked for, or `main`.
    pub fn revision(&self) -> &str {
        self.revision.as_deref().unwrap_or("main")
    }

    /// A file of this repository, if its path is one that [`HfFile`] can have.
    pub(super) fn file(&self, path: &str) -> Option<HfFile> {
        let revision = self.revision.as_ref().map(|it| format!("@{it}")).unwrap_or_default();
        HfFile::parse(&format!("{}/{}/{path}{revision}", self.owner, self.repo)).ok()
    }

    /// Reads what follows `hf:`, which has one slash at most.
    fn parse(text: &str) -> Result<Self, String> {
        let (owner, rest) = text.split_once('/').ok_or("the repository is missing")?;
        let end = rest.find([':', '@']).unwrap_or(rest.len());
        let (repo, mut rest) = rest.split_at(end);
        let (mut tag, mut revision) = (None, None);
        while let Some(mark) = rest.chars().next() {
            let next = rest[1..].find([':', '@']).map_or(rest.len(), |at| at + 1);
            let (slot, what, twice) = match mark {
                ':' => (&mut tag, "tag", "it has two tags"),
                _ => (&mut revision, "revision", "it has two revisions"),
            };
            plain(what, &rest[1..next])?;
            if slot.replace(rest[1..next].to_owned()).is_some() {
                return Err(twice.into());
            }
            rest = &rest[next..];
        }
        plain("owner", owner)?;
        plain("repository", repo)?;
        Ok(Self { owner: owner.into(), repo: repo.into(), tag, revision })
    }
}

impl fmt::Display for HfRepo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "hf:{}/{}", self.owner, self.repo)?;
        self.tag.as_ref().map_or(Ok(()), |tag| write!(f, ":{tag}"))?;
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
