//! Snapshots: what is written is read again, and whatever was changed is found.
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "tests")]

use polychord_receipts::snapshot::{
    AnswerState, Compression, Meta, Reader, RowHeader, State, Turn, Writer, tag,
};
use polychord_receipts::{Digest, Error, ErrorKind, Identity};
use proptest::prelude::*;

/// A snapshot with all sections, of two positions and a little more than two blocks.
fn snapshot(compression: Compression) -> (Vec<u8>, Digest) {
    let mut bytes = Vec::new();
    let mut writer = Writer::new(&mut bytes, compression).unwrap();
    state().write(&mut writer).unwrap();
    writer.begin(tag::LOGITS, 8).unwrap();
    writer.write(&[1, 2, 3, 4, 5, 6, 7, 8]).unwrap();
    let rows = rows();
    writer.begin(tag::ROWS, rows.len() as u64).unwrap();
    // However it comes.
    rows.chunks(1000).for_each(|part| writer.write(part).unwrap());
    let digest = writer.finish().unwrap();
    (bytes, digest)
}

fn rows() -> Vec<u8> {
    let noise = (0..70_000_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8);
    let header = RowHeader::new(0, 1, 2, 70_000).to_bytes();
    header.into_iter().chain(noise).chain(std::iter::repeat_n(7, 70_000)).collect()
}

fn state() -> State {
    let identity = Identity::new(Digest::of("m"), Digest::of("g")).option("cache_type", "f32");
    let mut state = State::new(Meta::new(identity, 2), [5, 6, 7]);
    state.answer = Some(AnswerState::new([("seed".into(), "1".into())].into(), 9, 1));
    state.turns = Some(vec![Turn::new("user", "Hello \u{1f980}")]);
    state
}

/// Reads all of a snapshot, as a session does.
fn read(bytes: &[u8]) -> Result<(State, Vec<u8>, Digest), Error> {
    let mut reader = Reader::new(bytes)?;
    let state = State::read(&mut reader, 100)?;
    let mut all = Vec::new();
    for name in [tag::LOGITS, tag::ROWS] {
        let found = reader.find_section(name)?;
        let section = found.ok_or_else(|| Error::Foreign { what: "it", reason: "gone".into() })?;
        let mut left = section.bytes;
        while left > 0 {
            let mut piece = [0; 999];
            let count = left.min(999);
            reader.read(&mut piece[..count as usize])?;
            all.extend_from_slice(&piece[..count as usize]);
            left -= count;
        }
    }
    reader.expect_end()?;
    Ok((state, all, reader.finish()?))
}

#[test]
fn what_is_written_is_read_again() {
    let mut lengths = Vec::new();
    for compression in [Compression::None, Compression::Zstd] {
        let (bytes, written) = snapshot(compression);
        let (found, rest, digest) = read(&bytes).unwrap();
        assert_eq!((found, digest), (state(), written));
        assert!(rest[8..] == rows());
        lengths.push(bytes.len());
    }
    assert!(lengths[1] < lengths[0] - 60_000, "{lengths:?}");
}

/// Each bit of each byte of a small one, and one bit of each byte about the edges of blocks of a large one.
#[test]
fn every_changed_bit_is_found() {
    for compression in [Compression::None, Compression::Zstd] {
        let mut small = Vec::new();
        let mut writer = Writer::new(&mut small, compression).unwrap();
        state().write(&mut writer).unwrap();
        for name in [tag::LOGITS, tag::ROWS] {
            writer.begin(name, 100).unwrap();
            writer.write(&[5; 100]).unwrap();
        }
        writer.finish().unwrap();
        assert!(read(&small).is_ok());
        for at in 0..small.len() {
            for bit in 0..8 {
                let mut bytes = small.clone();
                bytes[at] ^= 1 << bit;
                assert!(read(&bytes).is_err(), "bit {bit} of byte {at}");
            }
        }
        let (large, _) = snapshot(compression);
        let block = 12 + (64 << 10) + 32;
        let about = [16, 16 + block, 16 + 2 * block].map(|edge: usize| edge - 16..edge + 44);
        for at in about.into_iter().flatten().filter(|at| *at < large.len()) {
            let mut bytes = large.clone();
            bytes[at] ^= 1 << (at % 8);
            assert!(read(&bytes).is_err(), "byte {at}");
        }
    }
}

#[test]
fn a_block_may_be_full_and_the_last() {
    for fill in [(64 << 10) - 12, (64 << 10) - 11, (64 << 10) - 13, 2 * (64 << 10) - 12, 0] {
        let mut bytes = Vec::new();
        let mut writer = Writer::new(&mut bytes, Compression::None).unwrap();
        writer.begin(*b"fill", fill).unwrap();
        writer.write(&vec![3; fill as usize]).unwrap();
        let digest = writer.finish().unwrap();
        let mut reader = Reader::new(&bytes[..]).unwrap();
        assert_eq!(reader.next_section().unwrap().unwrap().bytes, fill);
        assert!(reader.next_section().unwrap().is_none());
        assert_eq!(reader.finish().unwrap(), digest);
    }
}

#[test]
fn a_section_gets_what_it_says() {
    let mut writer = Writer::new(Vec::new(), Compression::None).unwrap();
    writer.begin(tag::ROWS, 3).unwrap();
    assert!(writer.write(&[0; 4]).is_err());
    assert!(writer.begin(tag::ROWS, 3).is_err());
    assert!(writer.finish().is_err());
}

#[test]
fn what_is_cut_short_is_no_snapshot() {
    for compression in [Compression::None, Compression::Zstd] {
        let (bytes, _) = snapshot(compression);
        let ends = (0..200).chain((200..bytes.len()).step_by(997)).chain([bytes.len() - 1]);
        for end in ends {
            let error = read(&bytes[..end]).unwrap_err();
            assert!(matches!(error, Error::Cut { .. }), "{end}: {error}");
        }
        let longer = [&bytes[..], &[0]].concat();
        assert_eq!(read(&longer).unwrap_err().kind(), ErrorKind::Damaged);
    }
}

#[test]
fn blocks_that_moved_or_are_gone_are_found() {
    let (bytes, _) = snapshot(Compression::None);
    let block = 12 + (64 << 10) + 32;
    let (start, first, second) =
        (&bytes[..16], &bytes[16..16 + block], &bytes[16 + block..16 + 2 * block]);
    let last = &bytes[16 + 2 * block..];
    for parts in [
        vec![start, second, first, last],
        vec![start, first, last],
        vec![start, last],
        vec![start, first, first, second, last],
    ] {
        let error = read(&parts.concat()).unwrap_err();
        assert!(error.to_string().contains("not those that were written"), "{error}");
    }
}

#[test]
fn other_files_and_other_versions_are_refused() {
    let error = read(b"GGUF and more than sixteen bytes").unwrap_err();
    assert!(matches!(error, Error::Foreign { .. }), "{error}");
    let (mut bytes, _) = snapshot(Compression::None);
    bytes[8] = 2;
    let error = read(&bytes).unwrap_err();
    assert!(matches!(error, Error::Version { found: 2, known: 1, .. }), "{error}");
    assert_eq!(error.kind(), ErrorKind::Unsupported);
}

/// A snapshot that is well made, with these sections.
fn made(sections: &[([u8; 4], u64, &[u8])]) -> Vec<u8> {
    let mut plain = Vec::new();
    for (tag, bytes, content) in sections {
        plain.extend_from_slice(tag);
        plain.extend_from_slice(&bytes.to_le_bytes());
        plain.extend_from_slice(content);
    }
    // As one section whose header is then cut away would be: blocks know nothing of sections.
    let start = b"\x89PCSNAP\n\x01\0\0\0\0\0\0\0";
    let mut header = [0; 12];
    header[..4].copy_from_slice(&(plain.len() as u32).to_le_bytes());
    header[4..8].copy_from_slice(&(plain.len() as u32).to_le_bytes());
    header[9] = 1;
    let chain = Digest::of_all([Digest::of(start).as_bytes(), &header[..], &plain]);
    [&start[..], &header, &plain, chain.as_bytes()].concat()
}

#[test]
fn counts_that_cannot_be_are_refused_before_anything_is_allocated() {
    let meta = serde_json::to_vec(&state().meta).unwrap();
    let meta = (tag::META, meta.len() as u64, &meta[..]);
    let tokens = (tag::TOKENS, 12, &[1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0][..]);
    let huge = 1 << 60;
    for (sections, expected) in [
        (vec![(tag::META, huge, &b"{}"[..])], "more than"),
        (vec![meta, (tag::TOKENS, huge, &[])], "tokens"),
        (vec![meta, (tag::TOKENS, 404, &[0; 404])], "tokens"),
        (vec![meta, (tag::TOKENS, 12, &[])], "cut short"),
        (vec![meta, (tag::TOKENS, 11, &[0; 11])], "four bytes"),
        (vec![meta, (tag::TOKENS, 4, &[0; 4])], "1 tokens have 2 positions"),
        (vec![tokens, meta], "META is missing"),
        (vec![meta], "TOKN is missing"),
        (vec![meta, tokens, (tag::ANSWER, huge, &[])], "more than"),
        (vec![meta, tokens, (tag::ANSWER, 2, b"{}")], "ANSW"),
        (vec![meta, tokens, (tag::ROWS, huge, &[])], "gone"),
        (vec![meta, tokens, (tag::LOGITS, huge, &[])], "cut short"),
        (vec![meta, tokens, (*b"RECR", 0, &[])], "RECR"),
        (vec![meta, tokens, (*b"recr", huge, &[])], "cut short"),
        (vec![meta, tokens, (tag::LOGITS, 0, &[]), (tag::ROWS, 0, &[]), meta], "twice"),
        (
            vec![meta, tokens, (tag::LOGITS, 0, &[]), (tag::ROWS, 0, &[]), (*b"NEWS", 0, &[])],
            "NEWS",
        ),
    ] {
        let error = read(&made(&sections)).unwrap_err().to_string();
        assert!(error.contains(expected), "{expected}: {error}");
    }
    let skipped = [
        meta,
        (*b"more", 3, b"abc"),
        tokens,
        (tag::LOGITS, 0, &[]),
        (*b"note", 1, b"x"),
        (tag::ROWS, 0, &[]),
        (*b"last", 0, &[]),
    ];
    assert_eq!(read(&made(&skipped)).unwrap().0.tokens, [1, 2, 3]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn one_changed_bit_anywhere_is_found(at in any::<prop::sample::Index>(), bit in 0..8_u32, zstd in any::<bool>()) {
        let compression = if zstd { Compression::Zstd } else { Compression::None };
        let (mut bytes, _) = snapshot(compression);
        let at = at.index(bytes.len());
        bytes[at] ^= 1_u8 << bit;
        prop_assert!(read(&bytes).is_err());
    }

    #[test]
    fn any_bytes_are_an_error(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(read(&bytes).is_err());
        // Also behind a good beginning.
        let (start, _) = snapshot(Compression::None);
        prop_assert!(read(&[&start[..16], &bytes].concat()).is_err());
    }

    #[test]
    fn any_sections_are_an_error_or_a_state(plain in prop::collection::vec(any::<u8>(), 0..200)) {
        let meta = serde_json::to_vec(&state().meta).unwrap();
        _ = read(&made(&[(tag::META, meta.len() as u64, &meta), (tag::TOKENS, plain.len() as u64, &plain)]));
        _ = read(&made(&[(tag::META, plain.len() as u64, &plain)]));
    }
}
