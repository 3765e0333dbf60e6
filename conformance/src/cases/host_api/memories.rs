//! Making memories, in the guest and in the host.

use polychord_runtime_api::abi::PAGE;
use polychord_runtime_api::{Engine, Error, MemoryId, MemoryKind, MemorySpec};

use super::requests::{WAT, counts, refuses};
use crate::Outcome;
use crate::check::{equal, holds};
use crate::guest::{self, PAGE_LEN};

/// Memories have whole pages, are zero, and lie one after the other.
pub fn create_memory64(engine: &dyn Engine) -> Outcome {
    let mut runtime = guest::start(engine, WAT)?;
    runtime.memory_mut().fill(0xee);
    equal("at the start", runtime.stats().memory64_bytes, 0)?;
    let specs = [
        (MemorySpec::host(1), 1),
        (MemorySpec::guest(PAGE), 1),
        (MemorySpec::guest(PAGE + 1), 2),
        (MemorySpec::host(3 * PAGE), 3),
    ];
    for (id, (spec, pages)) in (0..).zip(specs) {
        let grown = if spec.kind == MemoryKind::Host { 0 } else { pages * PAGE };
        let memory = counts(
            &mut *runtime,
            |runtime| runtime.create_memory64(&spec),
            |stats| {
                stats.memory64_bytes += pages * PAGE;
                stats.guest_bytes += grown;
            },
        )??;
        equal("number", memory, MemoryId(id))?;
        let mut all = vec![1; usize::try_from(pages * PAGE)?];
        runtime.read_memory64(memory, 0, &mut all)?;
        equal("first byte that is not zero", all.iter().position(|byte| *byte != 0), None)?;
    }
    let size = runtime.call("size", &[])?;
    equal("pages of the guest", size, vec![5.into()])
}

/// A memory without bytes or beyond the limits is refused with the numbers.
pub fn create_memory64_refusals(engine: &dyn Engine) -> Outcome {
    let mut runtime = guest::start(engine, WAT)?;
    let limit = 1_u64 << 32;
    for spec in [
        MemorySpec::host(0),
        MemorySpec::guest(0),
        MemorySpec::host((16 << 40) + 1),
        MemorySpec::host(u64::MAX),
        MemorySpec::guest(u64::MAX),
        MemorySpec::guest(u64::MAX - PAGE),
        MemorySpec::guest(limit),
        // The guest has two pages, so this is one byte too many.
        MemorySpec::guest(limit - 2 * PAGE + 1),
    ] {
        let error = refuses(&mut *runtime, &[], |runtime| runtime.create_memory64(&spec))?;
        holds(matches!(error, Error::TooLarge { .. }), || format!("{spec:?}: {error}"))?;
    }
    let after = runtime.create_memory64(&MemorySpec::guest(PAGE))?;
    equal("the first that succeeds", after, MemoryId(0))
}

/// A memory in the guest is the range that the guest was grown by.
pub fn guest_and_host_memory_agree(engine: &dyn Engine) -> Outcome {
    let mut runtime = guest::start(engine, WAT)?;
    let memory = runtime.create_memory64(&MemorySpec::guest(2 * PAGE))?;
    runtime.write_memory64(memory, PAGE - 1, &[7, 9])?;
    for (address, value) in [(3 * PAGE - 1, 7), (3 * PAGE, 9), (3 * PAGE + 1, 0)] {
        let index = usize::try_from(address)?;
        equal("as the host sees it", runtime.memory()[index], u8::try_from(value)?)?;
        let got = runtime.call("load", &[i32::try_from(address)?.into()])?;
        equal("as the guest sees it", got, vec![value.into()])?;
    }
    runtime.memory_mut()[2 * PAGE_LEN] = 4;
    let mut first = [0];
    runtime.read_memory64(memory, 0, &mut first)?;
    equal("as the host API sees it", first, [4])
}
