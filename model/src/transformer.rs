use std::sync::Arc;

use polychord_runtime_api::{Capabilities, Engine, Module, RelaxedSimd};

use crate::error::Result;
use crate::model::Model;
use crate::session::{Session, SessionOptions};

/// The transformer guest, compiled for one engine: any number of sessions can be started
/// from it.
pub struct Transformer(Arc<dyn Module>);

/// A build of the guest: all have the same results, bit for bit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Guest {
    /// The one that the engine runs faster.
    #[default]
    Auto,
    /// Without the relaxed SIMD instructions.
    Plain,
    /// With them.
    Relaxed,
}

impl Guest {
    /// The guest as it comes with this crate; see `scripts/build-guest`.
    const fn wasm(self, engine: &Capabilities) -> &'static [u8] {
        let faster = matches!(engine.relaxed_simd, RelaxedSimd::Faster);
        match self {
            Self::Relaxed => include_bytes!("../../guest/built/transformer-wasm32-relaxed.wasm"),
            Self::Auto if faster => Self::Relaxed.wasm(engine),
            Self::Auto | Self::Plain => {
                include_bytes!("../../guest/built/transformer-wasm32-plain.wasm")
            }
        }
    }
}

impl Transformer {
    /// Compiles the guest that comes with this crate, in the build that the engine runs faster.
    ///
    /// # Errors
    ///
    /// [`Error::Runtime`](crate::Error::Runtime) if the engine refuses it.
    pub fn new(engine: &dyn Engine) -> Result<Self> {
        Self::with_guest(engine, Guest::Auto)
    }

    /// Compiles a build of the guest that comes with this crate.
    ///
    /// # Errors
    ///
    /// [`Error::Runtime`](crate::Error::Runtime) if the engine refuses it.
    pub fn with_guest(engine: &dyn Engine, guest: Guest) -> Result<Self> {
        Self::from_wasm(engine, guest.wasm(engine.capabilities()))
    }

    /// Compiles another build of the guest.
    ///
    /// # Errors
    ///
    /// [`Error::Runtime`](crate::Error::Runtime) if the engine refuses it.
    pub fn from_wasm(engine: &dyn Engine, wasm: &[u8]) -> Result<Self> {
        Ok(Self(engine.compile(wasm)?))
    }

    /// Loads a model into a guest and makes it ready for its first token.
    ///
    /// # Errors
    ///
    /// See [`Session`].
    pub fn start(&self, model: &Model, options: &SessionOptions) -> Result<Session> {
        Session::start(&*self.0, model, options, &mut |_| ())
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
        Session::start(&*self.0, model, options, progress)
    }
}

impl std::fmt::Debug for Transformer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Transformer").field(&self.0.capabilities().engine).finish()
    }
}
