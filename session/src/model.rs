//! A model file that is open: its header in memory, its tensors on disk.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use polychord_model::chat::ChatTemplate;
use polychord_model::config::Config;
use polychord_model::gguf::Gguf;
use polychord_model::layout::{Cut, Layout};
use polychord_model::tokenizer::Tokenizer;
use polychord_receipts::ModelDigests;
use polychord_runtime_api::{Plan, PlannedLayer, Source, SourceRange};

use crate::digests;
use crate::error::{Error, Result};
use crate::files::open_with;
use crate::header::header_of;
use crate::values;

/// A model file: its header in memory, its tensors on disk.
///
/// Opening reads the header alone. Weights go from the file straight into guests, when a
/// session starts. Clones are cheap and share everything; a session keeps one.
///
/// ```no_run
/// use polychord_session::Model;
///
/// let model = Model::open("model.gguf")?;
/// let config = model.config();
/// println!("{} blocks, {} tokens of context", config.blocks, config.context_length);
/// # Ok::<(), polychord_session::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Model(Arc<Opened>, Option<Arc<str>>);

#[derive(Debug)]
struct Opened {
    path: PathBuf,
    gguf: Gguf,
    config: Config,
    /// By part, and by kind.
    layouts: [Layout; 2],
    /// With each expert apart: made when it is needed, as that may be very many layers.
    by_expert: OnceLock<Layout>,
    source: Source,
    /// Made when first needed: a vocabulary takes longer to prepare than the header to read.
    tokenizer: OnceLock<Tokenizer>,
    /// Made when first needed: all of the file is read for them.
    digests: OnceLock<ModelDigests>,
    /// Set once norms and biases are known to be numbers.
    checked: OnceLock<()>,
}

impl Model {
    /// Whether it is a clone of the other one.
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Opens a model whose weights are copied into guests. One that is split over several files is
    /// opened by any of them: they are in one folder, under names that end in
    /// `-00001-of-00003.gguf` and so on.
    ///
    /// # Errors
    ///
    /// [`Error::Runtime`] if the file cannot be opened, [`Error::Gguf`] if it is damaged or
    /// no GGUF file, or other parts of it are not there, and [`Error::Config`] if it is no network that the guest computes.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let (source, gguf) = open_with(path, &|path| Source::open(path))?;
        Self::from_header(path, source, gguf)
    }

    /// Opens a model whose pages are mapped into guests, copy-on-write, where engine and
    /// system allow it: nothing is read before it is used, and guests share what was read.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`open`](Self::open).
    ///
    /// # Safety
    ///
    /// While a session of this model lives, neither the file nor, if it is one of several parts,
    /// another part may be written to or truncated: see [`Source::open_mapped`].
    #[allow(unsafe_code, reason = "the contract is the caller's")]
    pub unsafe fn open_mapped(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let (source, gguf) = open_with(path, &|path| {
            // SAFETY: the caller has made this promise to us, for all parts of the model.
            unsafe { Source::open_mapped(path) }
        })?;
        Self::from_header(path, source, gguf)
    }

    /// Takes a model from a source that is open: its header and its weights are from the same
    /// file, whatever is found by a path. `path` names it in errors. All parts of a model that is
    /// split have to be in the source: see [`open_source`](crate::open_source).
    ///
    /// # Errors
    ///
    /// Returns the errors of [`open`](Self::open), for a source that cannot be read or is no such model.
    pub fn from_source(path: impl AsRef<Path>, source: Source) -> Result<Self> {
        let path = path.as_ref();
        let wrong_file = |reason| Error::Gguf { path: path.to_owned(), reason };
        let gguf = header_of(&source).map_err(wrong_file)?;
        Self::from_header(path, source, gguf)
    }

    fn from_header(path: &Path, source: Source, gguf: Gguf) -> Result<Self> {
        let wrong_model = |reason| Error::Config { path: path.to_owned(), reason };
        let (config, tensors) = Config::from_gguf(&gguf).map_err(wrong_model)?;
        let layouts = [Cut::ByPart, Cut::ByKind].map(|cut| Layout::new(&tensors, cut));
        let (by_expert, tokenizer, digests) = (OnceLock::new(), OnceLock::new(), OnceLock::new());
        let path = path.to_owned();
        let checked = OnceLock::new();
        let opened =
            Opened { path, gguf, config, layouts, by_expert, source, tokenizer, digests, checked };
        Ok(Self(Arc::new(opened), None))
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// The file's header.
    #[must_use]
    pub fn gguf(&self) -> &Gguf {
        &self.0.gguf
    }

    /// The shape of the network.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.0.config
    }

    /// The layers of the file, in the order in which they are used.
    #[must_use]
    pub fn layers(&self) -> &[SourceRange] {
        &self.0.layouts[0].layers
    }

    /// The tokenizer of the model's vocabulary.
    ///
    /// # Errors
    ///
    /// [`Error::Tokenizer`] if the file has none, or one of a kind that is not supported.
    pub fn tokenizer(&self) -> Result<&Tokenizer> {
        if let Some(tokenizer) = self.0.tokenizer.get() {
            return Ok(tokenizer);
        }
        let tokenizer = Tokenizer::from_gguf(&self.0.gguf)?;
        Ok(self.0.tokenizer.get_or_init(|| tokenizer))
    }

    /// The model's chat template: the one that was given, or that of the file, or one that the vocabulary was
    /// made for ([`ChatTemplate::from_gguf`]).
    ///
    /// # Errors
    ///
    /// [`Error::Chat`] if there is none, or one that cannot be parsed.
    pub fn chat_template(&self) -> Result<ChatTemplate> {
        Ok(match &self.1 {
            Some(given) => ChatTemplate::given(&self.0.gguf, given)?,
            None => ChatTemplate::from_gguf(&self.0.gguf)?,
        })
    }

    /// Takes another chat template in place of the model's own: the name of a
    /// [`BuiltIn`](polychord_model::chat::BuiltIn) one, or the text of any. All conversations with this clone
    /// of the model, and with sessions that it starts, are rendered by it.
    ///
    /// ```no_run
    /// use polychord_session::Model;
    ///
    /// let model = Model::open("model.gguf")?.with_chat_template("chatml")?;
    /// assert!(model.chat_template()?.source().contains("<|im_start|>"));
    /// # Ok::<(), polychord_session::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Chat`] for a name that none has, or a template that cannot be parsed.
    pub fn with_chat_template(mut self, name_or_source: &str) -> Result<Self> {
        ChatTemplate::given(&self.0.gguf, name_or_source)?;
        self.1 = Some(name_or_source.into());
        Ok(self)
    }

    /// Finds out whether norms, biases and factors are numbers, once. Of a file on a server each would be a
    /// request: there, a sampler refuses what comes of it.
    pub(crate) fn check_values(&self) -> Result<()> {
        let Opened { source, gguf, path, checked, .. } = &*self.0;
        if checked.get().is_none() && !source.is_remote() {
            values::check(source, gguf.tensors(), path)?;
            checked.get_or_init(|| ());
        }
        Ok(())
    }

    /// SHA-256 digests of the file and of each layer, by which snapshots and receipts tell models
    /// apart. The first call reads all of the file, which must not change while a session runs.
    ///
    /// # Errors
    ///
    /// [`Error::Runtime`] if the file cannot be read any more.
    pub fn digests(&self) -> Result<&ModelDigests> {
        if let Some(digests) = self.0.digests.get() {
            return Ok(digests);
        }
        let digests = digests::of_model(&self.0.source, self.layers(), &self.0.path)?;
        Ok(self.0.digests.get_or_init(|| digests))
    }

    /// Writes into a plan the SHA-256 of each of its layers, which are compared from then on whenever a layer
    /// is loaded. Reads all of the plan's layers.
    ///
    /// ```no_run
    /// use polychord_session::{Error, Model};
    ///
    /// # fn hash(model: &Model, mut plan: polychord_runtime_api::Plan) -> Result<(), Error> {
    /// model.hash_layers(&mut plan)?;
    /// assert!(plan.layers.iter().all(|layer| layer.sha256.is_some()));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Runtime`] if the file cannot be read.
    pub fn hash_layers(&self, plan: &mut Plan) -> Result<()> {
        digests::hash_layers(&self.0.source, &self.0.path, plan)
    }

    /// The source, with the hashes of layers that a plan has.
    pub(crate) fn expecting(&self, plan: &Plan) -> Source {
        let layers = plan.layers.iter();
        let hash = |layer: &PlannedLayer| {
            let SourceRange { start, bytes, .. } = layer.source;
            Some(((start, bytes), layer.sha256?))
        };
        self.0.source.expecting(layers.filter_map(hash))
    }

    pub(crate) fn source(&self) -> &Source {
        &self.0.source
    }

    pub(crate) fn layout(&self, cut: Cut) -> &Layout {
        match cut {
            Cut::ByPart => &self.0.layouts[0],
            Cut::ByKind => &self.0.layouts[1],
            Cut::ByExpert if !self.has_experts() => &self.0.layouts[0],
            Cut::ByExpert => self.0.by_expert.get_or_init(|| {
                // They were found before.
                let (_, tensors) = Config::from_gguf(&self.0.gguf)
                    .unwrap_or_else(|_| (self.0.config.clone(), Vec::new()));
                Layout::new(&tensors, Cut::ByExpert)
            }),
        }
    }

    /// Whether feed-forward parts are divided into experts.
    pub(crate) fn has_experts(&self) -> bool {
        self.0.config.layers.iter().any(|block| block.experts > 0)
    }

    /// The layout that a plan was made from.
    pub(crate) fn layout_of(&self, plan: &Plan) -> Result<&Layout> {
        let [by_part, by_kind] = &self.0.layouts;
        if plan.check_model(&by_kind.layers).is_ok() {
            return Ok(by_kind);
        }
        if self.has_experts() && plan.layers.len() > by_part.layers.len() {
            let by_expert = self.layout(Cut::ByExpert);
            if plan.check_model(&by_expert.layers).is_ok() {
                return Ok(by_expert);
            }
        }
        plan.check_model(&by_part.layers)?;
        Ok(by_part)
    }
}
