//! Snapshots of any bytes: an error, or what a writer makes the same bytes of again.
//!
//! The first byte says whether the rest is the file, or what is in its blocks: a mutation of the file
//! never gets beyond the hashes.
//!
//! `cargo fuzz run snapshot -- -rss_limit_mb=256 -timeout=5`, from the repository's root.

#![no_main]

use libfuzzer_sys::fuzz_target;
use polychord_receipts::snapshot::{Compression, Reader, State, Writer};
use polychord_receipts::{Error, Receipt, StepProof};

/// Most tokens of a sequence that are taken.
const MOST: u32 = 1000;

fuzz_target!(|bytes: &[u8]| {
    let Some((kind, bytes)) = bytes.split_first() else { return };
    match kind % 3 {
        0 => _ = read(bytes),
        1 => _ = read(&in_blocks(bytes)),
        _ => {
            let Ok(text) = std::str::from_utf8(bytes) else { return };
            if let Ok(receipt) = Receipt::from_json(text) {
                assert_eq!(receipt.to_json(), text.strip_suffix('\n').unwrap_or(text));
            }
            _ = StepProof::from_json(text);
        }
    }
});

/// Reads all of a snapshot, as a session does.
fn read(bytes: &[u8]) -> Result<(), Error> {
    let mut reader = Reader::new(bytes)?;
    let state = State::read(&mut reader, MOST)?;
    assert!(state.tokens.len() <= MOST as usize);
    assert!(state.meta.position as usize <= state.tokens.len());
    let mut piece = [0; 1000];
    while reader.next_section()?.is_some() {
        while reader.left() > 0 {
            let count = reader.left().min(piece.len() as u64) as usize;
            reader.read(&mut piece[..count])?;
        }
    }
    reader.finish()?;
    // What was understood is written, and understood again.
    let mut again = Vec::new();
    let mut writer = Writer::new(&mut again, Compression::Zstd)?;
    state.write(&mut writer)?;
    writer.finish()?;
    assert_eq!(State::read(&mut Reader::new(&again[..])?, MOST)?, state);
    Ok(())
}

/// A file whose hashes are right, with these bytes in one block.
fn in_blocks(plain: &[u8]) -> Vec<u8> {
    let plain = &plain[..plain.len().min(64 << 10)];
    let start = b"\x89PCSNAP\n\x01\0\0\0\0\0\0\0";
    let len = (plain.len() as u32).to_le_bytes();
    let header = [&len[..], &len, &[0, 1, 0, 0]].concat();
    let chain = polychord_receipts::Digest::of(start);
    let chain = polychord_receipts::Digest::of_all([&chain.as_bytes()[..], &header, plain]);
    [&start[..], &header, plain, chain.as_bytes()].concat()
}
