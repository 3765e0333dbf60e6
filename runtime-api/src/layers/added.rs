//! Ranges of a file, brought into a guest as layers in one call.

use polychord_plan::range::check_range;
use polychord_plan::{LayerId, Plan, SourceRange};

use crate::error::LayerProblem;
use crate::layers::layer::{CopyReason, LayerSpec, LoadMethod, LoadedLayer};
use crate::layers::source::Source;
use crate::memory::region::MemorySpec;
use crate::runtime::Runtime;
use crate::{Error, Result};

/// The layers that [`add_layers`](Runtime#method.add_layers) has brought in.
///
/// ```
/// use polychord_runtime_api::{AddedLayers, LayerId};
///
/// fn show(added: &AddedLayers) {
///     println!("{} of {} layers are mapped", added.mapped(), added.layers().len());
///     for (layer, reason) in added.copied() {
///         println!("layer {} was copied: {reason}", layer.0);
///     }
///     if let Some(first) = added.get(LayerId(0)) {
///         println!("layer 0 is at {:?}", first.address);
///     }
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct AddedLayers(Vec<(LayerId, LoadedLayer)>);

impl AddedLayers {
    /// All of them, in the order in which they were given.
    #[must_use]
    pub fn layers(&self) -> &[(LayerId, LoadedLayer)] {
        &self.0
    }

    /// One of them.
    #[must_use]
    pub fn get(&self, id: LayerId) -> Option<&LoadedLayer> {
        self.0.iter().find(|(layer, _)| *layer == id).map(|(_, loaded)| loaded)
    }

    /// How many are mapped.
    #[must_use]
    pub fn mapped(&self) -> usize {
        self.0.iter().filter(|(_, loaded)| loaded.method == LoadMethod::Mapped).count()
    }

    /// Those that were copied, and why.
    pub fn copied(&self) -> impl Iterator<Item = (LayerId, CopyReason)> {
        self.0.iter().filter_map(|(layer, loaded)| Some((*layer, loaded.reason?)))
    }
}

impl dyn Runtime + '_ {
    /// Brings ranges of a source into the guest's own memory, as layers that the guest can ask for by
    /// their numbers: makes room for them, registers and loads them. What can be mapped is mapped.
    ///
    /// This is what [`create_memory64`](Runtime::create_memory64),
    /// [`register_layer`](Runtime::register_layer) and [`load_layer`](Runtime::load_layer) do together,
    /// with places for the layers at which their pages can be mapped. Other places, memories of the
    /// host and layers that are loaded later take those three.
    ///
    /// ```
    /// use polychord_runtime_api::{LayerId, Result, Runtime, Source, SourceRange, Value};
    ///
    /// fn run(guest: &mut dyn Runtime) -> Result<Vec<Value>> {
    ///     let weights = Source::open("weights.bin")?;
    ///     guest.add_layers(
    ///         &weights,
    ///         [
    ///             SourceRange::new(LayerId(0), "embedding", 0, 1 << 20),
    ///             SourceRange::new(LayerId(1), "output", 1 << 20, 1 << 20),
    ///         ],
    ///     )?;
    ///     guest.call("run", &[])
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::InvalidLayer`] if a range has no bytes, leaves the source, or has a number that is taken,
    /// and [`Error::TooLarge`] or [`Error::OutOfMemory`] if there is no room. If reading a layer fails, the
    /// error of [`load_layer`](Runtime::load_layer). None of the layers is registered then; room that was made
    /// stays the host's.
    pub fn add_layers(
        &mut self,
        source: &Source,
        ranges: impl IntoIterator<Item = SourceRange>,
    ) -> Result<AddedLayers> {
        let ranges: Vec<_> = ranges.into_iter().collect();
        ranges.iter().try_for_each(|range| check(source, range))?;
        let mut added = Vec::with_capacity(ranges.len());
        // One after another where there are several linear memories: a layer lies in one of them.
        let together = if self.host().module().memories().len() > 1 { 1 } else { ranges.len() };
        for ranges in ranges.chunks(together.max(1)) {
            if let Err(error) = self.add_memory_of(source, ranges, &mut added) {
                for (id, _) in added {
                    if let Err(error) = self.unregister_layer(id) {
                        tracing::warn!(layer = id.0, %error, "a layer stays registered");
                    }
                }
                return Err(error);
            }
        }
        Ok(AddedLayers(added))
    }

    /// Makes a memory for ranges, and layers of them.
    fn add_memory_of(
        &mut self,
        source: &Source,
        ranges: &[SourceRange],
        added: &mut Vec<(LayerId, LoadedLayer)>,
    ) -> Result<()> {
        let plan = Plan::resident(ranges.iter().cloned())?;
        let Some(memory) = plan.memories.first() else { return Ok(()) };
        let memory = self.create_memory64(&MemorySpec::guest(memory.bytes))?;
        for layer in &plan.layers {
            let id = layer.source.id;
            self.register_layer(LayerSpec::of(&layer.source, source, memory, layer.offset))?;
            let loaded = self.load_layer(id).inspect_err(|_| {
                // Nothing of it is loaded that could not be released.
                let _ = self.unregister_layer(id);
            })?;
            added.push((id, loaded));
        }
        Ok(())
    }
}

/// Refuses a range before room is made for it.
fn check(source: &Source, range: &SourceRange) -> Result<()> {
    let refuse = |problem, reason| {
        let (layer, name) = (range.id.0, range.name.clone());
        Err(Error::InvalidLayer { layer, name, problem, reason })
    };
    if range.bytes == 0 {
        return refuse(LayerProblem::Empty, "it has no bytes".into());
    }
    check_range("its source", range.start, range.bytes, source.len())
        .or_else(|error| refuse(LayerProblem::Source, error.to_string()))
}

#[cfg(test)]
mod tests {
    use polychord_abi::PAGE;

    use super::*;
    use crate::idle::Idle;

    fn source() -> (Vec<u8>, Source) {
        let bytes: Vec<_> = (0..300_000_u32).map(|at| u8::try_from(at % 251).unwrap()).collect();
        (bytes.clone(), Source::from_bytes(bytes))
    }

    fn ranges() -> [SourceRange; 3] {
        [(3, 0, 100), (1, 100, 70_000), (7, 200_000, 100_000)]
            .map(|(id, start, bytes)| SourceRange::new(LayerId(id), format!("{id}"), start, bytes))
    }

    #[test]
    fn ranges_become_layers() {
        for memories in [1, 3] {
            let mut guest = Idle::start(memories);
            let guest: &mut dyn Runtime = &mut guest;
            let (bytes, source) = source();
            let added = guest.add_layers(&source, ranges()).unwrap();
            assert_eq!((added.layers().len(), added.mapped(), added.copied().count()), (3, 0, 3));
            for range in ranges() {
                let address = added.get(range.id).unwrap().address.unwrap();
                let (memory, at) = (address >> 32, usize::try_from(address & 0xffff_ffff).unwrap());
                let len = usize::try_from(range.bytes).unwrap();
                let there = &guest.linear_memory(usize::try_from(memory).unwrap())[at..at + len];
                assert_eq!(there, &bytes[usize::try_from(range.start).unwrap()..][..len]);
                assert_eq!(address % PAGE, range.start % PAGE, "it could be mapped");
            }
            // More, later.
            let more =
                guest.add_layers(&source, [SourceRange::new(LayerId(9), "9", 5, 6)]).unwrap();
            assert_eq!(more.layers().len(), 1);
        }
    }

    #[test]
    fn nothing_is_left_of_ranges_that_cannot_be_added() {
        let mut guest = Idle::start(1);
        let guest: &mut dyn Runtime = &mut guest;
        let (_, source) = source();
        let bad = |id, start, bytes| SourceRange::new(LayerId(id), "bad", start, bytes);
        for (range, expected) in [
            (bad(9, 300_000, 1), "its source"),
            (bad(9, u64::MAX, 2), "its source"),
            (bad(9, 0, 0), "no bytes"),
        ] {
            let error = guest.add_layers(&source, ranges().into_iter().chain([range])).unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
            // Found out before room was made.
            assert_eq!((guest.stats().layers, guest.stats().memory64_bytes), (0, 0));
        }
        let twice = ranges().into_iter().chain([bad(7, 0, 1)]);
        assert!(guest.add_layers(&source, twice).is_err());
        assert_eq!(guest.stats().layers, 0);
        let broken = Source::broken(300_000, 1000);
        assert!(matches!(guest.add_layers(&broken, ranges()), Err(Error::Io { .. })));
        assert_eq!(guest.stats().layers, 0);
        guest.add_layers(&source, ranges()).unwrap();
        assert!(guest.add_layers(&source, [bad(7, 0, 1)]).is_err());
        assert_eq!(guest.stats().layers, 3);
    }
}
