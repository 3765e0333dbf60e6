//! Random numbers: those of the host, or a sequence that a seed determines.

use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use wasi_common::RngCore;

/// Where a guest's random numbers come from.
///
/// ```
/// use polychord_wasi::{Random, WasiBuilder};
///
/// let wasi = WasiBuilder::new().random(Random::Seed(42)).build()?;
/// # Ok::<(), polychord_wasi::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Random {
    /// A generator that the operating system has seeded, for cryptography.
    #[default]
    System,
    /// A generator with this seed (`ChaCha20`): the same numbers in each run, and no secret.
    Seed(u64),
}

/// The generator for a guest.
pub(crate) fn generator(random: Random) -> Box<dyn RngCore + Send + Sync> {
    match random {
        Random::System => wasi_common::sync::random_ctx(),
        Random::Seed(seed) => Box::new(Seeded(ChaCha20Rng::seed_from_u64(seed))),
    }
}

struct Seeded(ChaCha20Rng);

impl RngCore for Seeded {
    fn next_u32(&mut self) -> u32 {
        self.0.next_u32()
    }

    fn next_u64(&mut self) -> u64 {
        self.0.next_u64()
    }

    fn fill_bytes(&mut self, into: &mut [u8]) {
        self.0.fill_bytes(into);
    }

    fn try_fill_bytes(&mut self, into: &mut [u8]) -> Result<(), cap_rand::Error> {
        self.fill_bytes(into);
        Ok(())
    }
}
