//! Digests by which processes know that their files are the same.

use std::fmt::Write as _;
use std::io::Read as _;
use std::path::Path;

use polychord::model::open_source;
use sha2::{Digest as _, Sha256};

use crate::cli::Failure;

/// Models of at most this many bytes are read as a whole.
const WHOLE: u64 = 4 << 30;
/// Of larger ones, this much from the start, where the header is, ...
const START: u64 = 64 << 20;
/// ... and a sample of this much of each further step: each process is to need its own layers only.
const SAMPLE: usize = 64 << 10;
const STEP: usize = 16 << 20;

/// A digest of a model, of all its parts if it is split.
pub(super) fn of_model(path: &Path) -> Result<String, Failure> {
    let source = open_source(path)?;
    let mut hash = Sha256::new();
    hash.update(source.len().to_le_bytes());
    if source.len() <= WHOLE {
        for (_, part) in source.parts() {
            add(&mut hash, &mut part.reader())?;
        }
        return Ok(hex(hash));
    }
    for (_, part) in source.parts() {
        add(&mut hash, &mut part.reader().take(START))?;
        let mut sample = vec![0; SAMPLE];
        let last = part.len().saturating_sub(SAMPLE as u64);
        for offset in (START..last).step_by(STEP).chain([last]) {
            let sample = &mut sample[..usize::try_from(part.len() - offset)?.min(SAMPLE)];
            part.read_at(offset, sample)?;
            hash.update(sample);
        }
    }
    Ok(format!("{} (of samples)", hex(hash)))
}

pub(super) fn of_file(path: &Path) -> Result<String, Failure> {
    let read = std::fs::read(path);
    let bytes = read.map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    let mut hash = Sha256::new();
    hash.update(bytes);
    Ok(hex(hash))
}

fn add(hash: &mut Sha256, reader: &mut dyn std::io::Read) -> Result<(), Failure> {
    let mut buffer = vec![0; 1 << 20];
    loop {
        match reader.read(&mut buffer)? {
            0 => return Ok(()),
            read => hash.update(&buffer[..read]),
        }
    }
}

fn hex(hash: Sha256) -> String {
    hash.finalize().iter().fold(String::new(), |mut text, byte| {
        _ = write!(text, "{byte:02x}");
        text
    })
}
