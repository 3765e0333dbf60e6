//! Many layers and many memories: adding one takes about as long as adding the first.

use std::time::Instant;

use polychord_abi::PAGE;
use polychord_plan::LayerId;

use crate::layers::layer::{LayerSpec, Layers};
use crate::layers::source::Source;
use crate::memory::memory64::Storage;
use crate::memory::segment::Backing;
use crate::memory::space::Memories;
use crate::memory::stats::MemoryId;

const MANY: u32 = 1_000_000;

#[test]
fn a_million_layers_are_registered_at_once() {
    let source = Source::from_bytes(vec![0; 1]);
    let end = u64::from(MANY) * PAGE;
    let spec = |number: u32| LayerSpec {
        id: LayerId(number),
        name: String::new(),
        memory: MemoryId(0),
        offset: u64::from(number) * PAGE,
        source: source.clone(),
        source_offset: 0,
        bytes: 1,
    };
    let start = Instant::now();
    let mut layers = Layers::default();
    // The second half backwards, between what is there and nothing.
    for number in (0..MANY / 2).chain((MANY / 2..MANY).rev()) {
        layers.register(spec(number), end, end).unwrap();
    }
    for number in (0..MANY).step_by(1000) {
        assert!(layers.register(spec(number), end, end).is_err());
    }
    (0..MANY).for_each(|number| layers.remove(LayerId(number)));
    assert!(start.elapsed().as_secs() < 60, "{:?}", start.elapsed());
}

#[test]
fn a_million_memories_are_added_at_once() {
    let start = Instant::now();
    let mut memories = Memories::default();
    for _ in 0..MANY {
        memories.add(Vec::new(), Backing::Host, Storage::Guest(Vec::new())).unwrap();
    }
    assert_eq!(memories.bytes(MemoryId(MANY - 1)).unwrap(), 0);
    assert!(start.elapsed().as_secs() < 20, "{:?}", start.elapsed());
}
