//! Standard streams, and whose they are.

use polychord_runtime_api::Engine;
use polychord_wasi::{Input, Output, WasiBuilder};

use super::probe::{BUFFER, OTHER, Probe, RESULT, VECTORS, errno};
use crate::Outcome;
use crate::check::equal;

/// Standard input is read, and standard output and error are captured up to a limit.
pub(super) fn streams(engine: &dyn Engine) -> Outcome {
    let wasi = WasiBuilder::new().stdin(Input::bytes("some text")).captured_bytes(10);
    let mut probe = Probe::new(engine, wasi.stdout(Output::Captured).stderr(Output::Captured))?;
    equal("the first bytes", probe.read(0, 5)?, b"some ".to_vec())?;
    equal("the rest", probe.read(0, 500)?, b"text".to_vec())?;
    equal("the end", probe.read(0, 500)?, Vec::new())?;
    equal("output", probe.write(1, b"123")?, errno::SUCCESS)?;
    equal("errors", probe.write(2, b"abc")?, errno::SUCCESS)?;
    // Two buffers, of which the first may be all that is taken.
    probe.put(BUFFER, b"4");
    probe.put(OTHER, b"56");
    let vectors: Vec<_> = [BUFFER, 1, OTHER, 2]
        .iter()
        .flat_map(|number| u32::try_from(*number).unwrap_or_default().to_le_bytes())
        .collect();
    probe.put(VECTORS, &vectors);
    let errno = probe.call("fd_write", &[1, VECTORS as i64, 2, RESULT as i64])?;
    equal("two buffers", errno, errno::SUCCESS)?;
    let rest = &b"456"[probe.number(RESULT).min(3) as usize..];
    equal("the rest of two buffers", probe.write(1, rest)?, errno::SUCCESS)?;
    equal("what was written", probe.output(), [b"123456".to_vec(), b"abc".to_vec()])?;
    equal("as much as there is room for", probe.write(1, b"789xyz")?, errno::SUCCESS)?;
    equal("how much that is", probe.number(RESULT), 4)?;
    equal("more than there is room for", probe.write(1, b"y")?, errno::NOSPC)?;
    equal("what was kept", probe.output()[0].clone(), b"123456789x".to_vec())?;
    equal("writing to the input", probe.write(0, b"x")?, errno::BADF)?;
    let read = probe.call("fd_read", &[1, VECTORS as i64, 1, RESULT as i64])?;
    equal("reading the output", read, errno::BADF)
}

/// Guests with the same imports have contexts of their own.
pub(super) fn guests(engine: &dyn Engine) -> Outcome {
    let mut probes = Vec::new();
    for _ in 0..2 {
        let wasi = WasiBuilder::new().stdout(Output::Captured);
        probes.push(Probe::new(engine, wasi)?);
    }
    for (probe, text) in probes.iter_mut().zip([&b"one"[..], b"two"]) {
        equal("output", probe.write(1, text)?, errno::SUCCESS)?;
    }
    equal("fd_close", probes[0].call("fd_close", &[1])?, errno::SUCCESS)?;
    equal("output of the one that closed it", probes[0].write(1, b"!")?, errno::BADF)?;
    equal("output of the other one", probes[1].write(1, b"!")?, errno::SUCCESS)?;
    let written = [probes[0].output()[0].clone(), probes[1].output()[0].clone()];
    equal("what they wrote", written, [b"one".to_vec(), b"two!".to_vec()])
}
