//! The transformer guest, compiled for an engine.

use std::sync::{Arc, OnceLock};

use polychord_receipts::Digest;
use polychord_runtime_api::{Engine, Memory64Choice, Module, ModuleLimits};

use crate::build::{Build, SimdFlavor};
use crate::error::{Error, Result};
use crate::model::Model;
use crate::options::{Placement, SessionOptions};
use crate::session::Session;

/// The transformer guest on one engine: any number of sessions can be started from it.
///
/// There is a build of the guest for each kind of memory. Each is compiled once, when the first
/// session needs it.
///
/// ```no_run
/// use std::sync::Arc;
///
/// use polychord_runtime_api::Engine;
/// use polychord_session::{Error, Model, Session, SessionOptions, Transformer};
///
/// // `polychord::open("wasmtime")` gives such an engine.
/// fn start(engine: &Arc<dyn Engine>) -> Result<Session, Error> {
///     let model = Model::open("model.gguf")?;
///     Transformer::new(engine)?.start(&model, &SessionOptions::new().context(2048))
/// }
/// ```
pub struct Transformer {
    engine: Arc<dyn Engine>,
    flavor: SimdFlavor,
    memory64: Memory64Choice,
    /// Compiled for each of [`Build::ALL`].
    modules: [OnceLock<Arc<dyn Module>>; Build::ALL.len()],
    /// The only build, if it was given and does not come with this crate.
    only: Option<Build>,
    /// Of the guest, if it does not come with this crate.
    guest: Option<Digest>,
}

impl Transformer {
    /// The guest that comes with this crate, in the builds that the engine runs faster.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`with_flavor`](Self::with_flavor).
    pub fn new(engine: &Arc<dyn Engine>) -> Result<Self> {
        Self::with_flavor(engine, SimdFlavor::Auto)
    }

    /// The guest that comes with this crate, with or without relaxed SIMD.
    ///
    /// # Errors
    ///
    /// [`Error::Runtime`] if the engine does not know the instructions.
    pub fn with_flavor(engine: &Arc<dyn Engine>, flavor: SimdFlavor) -> Result<Self> {
        let needs = polychord_runtime_api::Requirements::NONE;
        let needs = if flavor == SimdFlavor::Relaxed { needs.relaxed_simd() } else { needs };
        needs.check(engine.capabilities())?;
        let modules = std::array::from_fn(|_| OnceLock::new());
        let (engine, memory64) = (engine.clone(), Memory64Choice::Auto);
        Ok(Self { engine, flavor, memory64, modules, only: None, guest: None })
    }

    /// How the guest is to get its 64-bit memory, for placements that have one; sessions of a transformer
    /// that lowers it compute the same, bit for bit. To be set before the first of them starts.
    #[must_use]
    pub const fn memory64(mut self, choice: Memory64Choice) -> Self {
        self.memory64 = choice;
        self
    }

    /// Compiles another build of the guest, for the placements that its memory is made for.
    ///
    /// # Errors
    ///
    /// [`Error::Runtime`] if the engine refuses it.
    pub fn from_wasm(engine: &Arc<dyn Engine>, wasm: &[u8]) -> Result<Self> {
        let module = engine.compile(wasm)?;
        let build = Build::of(&*module);
        let mut transformer = Self::new(engine)?;
        transformer.modules[build as usize] = module.into();
        transformer.only = Some(build);
        transformer.guest = Build::digest_of_other(wasm);
        Ok(transformer)
    }

    /// Compiles what sessions of a placement run, which starting the first of them does
    /// otherwise.
    ///
    /// # Errors
    ///
    /// [`Error::Runtime`] if the engine refuses the guest, and [`Error::Unavailable`] if it has
    /// no memory of the kind that the placement is about.
    pub fn prepare(&self, placement: &Placement) -> Result<()> {
        self.module(placement).map(|_| ())
    }

    /// Loads a model into a guest and makes it ready for its first token.
    ///
    /// # Errors
    ///
    /// See [`Session`].
    pub fn start(&self, model: &Model, options: &SessionOptions) -> Result<Session> {
        self.start_with_progress(model, options, &mut |_| ())
    }

    /// Loads a model as [`start`](Self::start) does, and tells `progress` how many bytes of
    /// weights are loaded, after each layer.
    ///
    /// # Errors
    ///
    /// See [`Session`].
    pub fn start_with_progress(
        &self,
        model: &Model,
        options: &SessionOptions,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Session> {
        let module = self.module(&options.placement)?;
        Session::start(module, self.guest, model, options, progress)
    }

    /// The digest of a guest that does not come with this crate.
    pub(crate) const fn guest(&self) -> Option<Digest> {
        self.guest
    }

    fn module(&self, placement: &Placement) -> Result<&Arc<dyn Module>> {
        let build = placement.build();
        if let Some(only) = self.only.filter(|only| *only != build) {
            let reason = format!(
                "it needs the guest as it is built for {}, and the one that was given is built for {}",
                build.name(),
                only.name()
            );
            return Err(Error::Plan { reason });
        }
        let slot = &self.modules[build as usize];
        if let Some(module) = slot.get() {
            return Ok(module);
        }
        let relaxed = self.flavor.is_relaxed(self.engine.capabilities());
        // It comes with this crate. Lowered, one of its functions costs more than a stranger's may.
        let limits = ModuleLimits::trusted().memory64(self.memory64);
        let module = self.engine.compile_within(build.wasm(relaxed), &limits);
        let module = module.map_err(|error| placement.unavailable(error))?;
        Ok(slot.get_or_init(|| module))
    }
}

impl std::fmt::Debug for Transformer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Transformer")
            .field("engine", &self.engine)
            .field("flavor", &self.flavor)
            .finish_non_exhaustive()
    }
}
