//! How weights came into guests.

use std::time::Duration;

/// How the weights came into the guests, those of all ranks together.
///
/// ```no_run
/// # fn run(session: &polychord_session::Session) {
/// let load = session.load_report();
/// println!("{} layers mapped, {} copied, in {:?}", load.mapped, load.copied, load.took);
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LoadReport {
    /// Layers that were mapped.
    pub mapped: usize,
    /// Layers that were copied.
    pub copied: usize,
    /// Bytes of all layers.
    pub bytes: u64,
    /// Time for all layers.
    pub took: Duration,
}
