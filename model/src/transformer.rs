use std::sync::{Arc, OnceLock};

use polychord_runtime_api::{AddressType, Capabilities, Engine, Module, RelaxedSimd};

use crate::error::{Error, Result};
use crate::model::Model;
use crate::placement::Placement;
use crate::session::{Session, SessionOptions};

/// The transformer guest on one engine: any number of sessions can be started from it.
///
/// There is a build of the guest for each kind of memory. Each is compiled once, when the first
/// session needs it.
pub struct Transformer {
    engine: Arc<dyn Engine>,
    guest: Guest,
    /// Compiled for each of [`Build::ALL`].
    modules: [OnceLock<Arc<dyn Module>>; Build::ALL.len()],
    /// The only build, if it was given and does not come with this crate.
    only: Option<Build>,
}

/// Whether the guest uses the relaxed SIMD instructions: the results are the same, bit for bit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Guest {
    /// If the engine runs them faster.
    #[default]
    Auto,
    /// Without the relaxed SIMD instructions.
    Plain,
    /// With them.
    Relaxed,
}

/// What memory a build of the guest has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Build {
    /// One with 32-bit addresses.
    Memory32,
    /// One with 64-bit addresses.
    Memory64,
    /// Several with 32-bit addresses.
    Memories32,
}

impl Build {
    const ALL: [Self; 3] = [Self::Memory32, Self::Memory64, Self::Memories32];

    /// As in the names of files.
    const fn name(self) -> &'static str {
        match self {
            Self::Memory32 => "wasm32",
            Self::Memory64 => "wasm64",
            Self::Memories32 => "multi32",
        }
    }

    /// The build as it comes with this crate; see `scripts/build-guest`.
    const fn wasm(self, relaxed: bool) -> &'static [u8] {
        match (self, relaxed) {
            (Self::Memory32, false) => {
                include_bytes!("../../guest/built/transformer-wasm32-plain.wasm")
            }
            (Self::Memory32, true) => {
                include_bytes!("../../guest/built/transformer-wasm32-relaxed.wasm")
            }
            (Self::Memory64, false) => {
                include_bytes!("../../guest/built/transformer-wasm64-plain.wasm")
            }
            (Self::Memory64, true) => {
                include_bytes!("../../guest/built/transformer-wasm64-relaxed.wasm")
            }
            (Self::Memories32, false) => {
                include_bytes!("../../guest/built/transformer-multi32-plain.wasm")
            }
            (Self::Memories32, true) => {
                include_bytes!("../../guest/built/transformer-multi32-relaxed.wasm")
            }
        }
    }

    /// The build that a module is.
    fn of(module: &dyn Module) -> Self {
        match module.info().memories() {
            [first, ..] if first.address == AddressType::I64 => Self::Memory64,
            [] | [_] => Self::Memory32,
            _ => Self::Memories32,
        }
    }
}

impl Guest {
    const fn is_relaxed(self, engine: &Capabilities) -> bool {
        match self {
            Self::Auto => matches!(engine.relaxed_simd, RelaxedSimd::Faster),
            Self::Plain => false,
            Self::Relaxed => true,
        }
    }
}

impl Transformer {
    /// The guest that comes with this crate, in the builds that the engine runs faster.
    ///
    /// # Errors
    ///
    /// Those of [`with_guest`](Self::with_guest).
    pub fn new(engine: &Arc<dyn Engine>) -> Result<Self> {
        Self::with_guest(engine, Guest::Auto)
    }

    /// The guest that comes with this crate, with or without relaxed SIMD.
    ///
    /// # Errors
    ///
    /// [`Error::Runtime`] if the engine does not know the instructions.
    pub fn with_guest(engine: &Arc<dyn Engine>, guest: Guest) -> Result<Self> {
        let needs = polychord_runtime_api::Requirements::NONE;
        let needs = if guest == Guest::Relaxed { needs.relaxed_simd() } else { needs };
        needs.check(engine.capabilities())?;
        let modules = std::array::from_fn(|_| OnceLock::new());
        Ok(Self { engine: engine.clone(), guest, modules, only: None })
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

    /// The same, and tells `progress` how many bytes of weights are loaded, after each layer.
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
        Session::start(&**module, model, options, progress)
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
        let relaxed = self.guest.is_relaxed(self.engine.capabilities());
        let module = self.engine.compile(build.wasm(relaxed));
        let module = module.map_err(|error| placement.unavailable(error))?;
        Ok(slot.get_or_init(|| module))
    }
}

impl std::fmt::Debug for Transformer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Transformer")
            .field("engine", &self.engine)
            .field("guest", &self.guest)
            .finish_non_exhaustive()
    }
}
