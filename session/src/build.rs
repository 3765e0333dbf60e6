//! The builds of the transformer guest, and which one an engine gets.

use std::sync::OnceLock;

use polychord_receipts::Digest;
use polychord_runtime_api as api;
use polychord_runtime_api::plan::named;
use polychord_runtime_api::{AddressType, Capabilities, Module, Plan, PlannedMemory, RelaxedSimd};

use crate::error::Error;
use crate::options::Placement;

/// Whether the guest uses the relaxed SIMD instructions: the results are the same, bit for bit.
///
/// ```no_run
/// # use std::sync::Arc;
/// use polychord_runtime_api::Engine;
/// use polychord_session::{Error, SimdFlavor, Transformer};
///
/// fn plain(engine: &Arc<dyn Engine>) -> Result<Transformer, Error> {
///     Transformer::with_flavor(engine, SimdFlavor::Plain)
/// }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum SimdFlavor {
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
    pub(crate) const ALL: [Self; 3] = [Self::Memory32, Self::Memory64, Self::Memories32];

    /// Its name in the names of files.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Memory32 => "wasm32",
            Self::Memory64 => "wasm64",
            Self::Memories32 => "multi32",
        }
    }

    /// The build as it comes with this crate; see `scripts/build-guest`.
    pub(crate) const fn wasm(self, relaxed: bool) -> &'static [u8] {
        match (self, relaxed) {
            (Self::Memory32, false) => polychord_transformer::WASM32_PLAIN,
            (Self::Memory32, true) => polychord_transformer::WASM32_RELAXED,
            (Self::Memory64, false) => polychord_transformer::WASM64_PLAIN,
            (Self::Memory64, true) => polychord_transformer::WASM64_RELAXED,
            (Self::Memories32, false) => polychord_transformer::MULTI32_PLAIN,
            (Self::Memories32, true) => polychord_transformer::MULTI32_RELAXED,
        }
    }

    /// The digest of the guest that comes with this crate: of the digests of all its builds, which
    /// compute the same.
    pub(crate) fn family() -> Digest {
        static FAMILY: OnceLock<Digest> = OnceLock::new();
        *FAMILY.get_or_init(|| {
            let all: Vec<_> = Self::every().map(Digest::of).collect();
            Digest::of_all(all.iter().map(AsRef::as_ref))
        })
    }

    /// The digest of a guest, if it is none of these builds.
    pub(crate) fn digest_of_other(wasm: &[u8]) -> Option<Digest> {
        Self::every().all(|build| build != wasm).then(|| Digest::of(wasm))
    }

    fn every() -> impl Iterator<Item = &'static [u8]> {
        Self::ALL.into_iter().flat_map(|build| [false, true].map(|relaxed| build.wasm(relaxed)))
    }

    /// The build that a module is.
    pub(crate) fn of(module: &dyn Module) -> Self {
        match module.info().memories() {
            [first, ..] if first.address == AddressType::I64 => Self::Memory64,
            [] | [_] => Self::Memory32,
            _ => Self::Memories32,
        }
    }
}

named!(SimdFlavor, "SIMD flavor", {
    Auto = "auto": "The one that the engine runs faster",
    Plain = "plain": "Without the relaxed SIMD instructions",
    Relaxed = "relaxed": "With them",
});

impl SimdFlavor {
    pub(crate) const fn is_relaxed(self, engine: &Capabilities) -> bool {
        match self {
            Self::Auto => matches!(engine.relaxed_simd, RelaxedSimd::Faster),
            Self::Plain => false,
            Self::Relaxed => true,
        }
    }
}

impl Placement {
    /// The build of the guest that sessions run.
    pub(crate) fn build(&self) -> Build {
        match self {
            Self::Native64 { .. } | Self::Flat64 { .. } => Build::Memory64,
            Self::Multi32 { .. } => Build::Memories32,
            Self::Planned(plan) if plan.guests() == 1 && plan_bytes(plan) > MEMORY32 => {
                let cached = |memory: &PlannedMemory| memory.region == PlannedMemory::KV;
                let small = plan.memories.iter().all(|memory| memory.bytes <= MEMORY32);
                match small && plan.memories.iter().any(cached) {
                    true => Build::Memories32,
                    false => Build::Memory64,
                }
            }
            _ => Build::Memory32,
        }
    }

    /// What to say where an engine has no memory of the kind that this is about.
    pub(crate) fn unavailable(&self, error: api::Error) -> Error {
        match self.build() {
            Build::Memory32 => error.into(),
            Build::Memories32 => Error::Unavailable {
                placement: "multi32",
                reason: error,
                available: "engines that run guests with several memories (multi_memory)",
            },
            Build::Memory64 if matches!(self, Self::Native64 { .. }) => Error::Unavailable {
                placement: "native64",
                reason: error,
                available: "engines that have 64-bit memories of that size (native memory64), and as \
                            flat64 others that have several memories",
            },
            Build::Memory64 => Error::Unavailable {
                placement: "flat64",
                reason: error,
                available: "engines that have 64-bit memories of that size, of their own or lowered",
            },
        }
    }
}

/// The bytes of all memories.
fn plan_bytes(plan: &Plan) -> u64 {
    plan.memories.iter().fold(0, |sum, memory| sum.saturating_add(memory.bytes))
}

/// What 32 bits can address.
const MEMORY32: u64 = 1 << 32;
