//! Files on a server that behaves, or does not.

mod s3;
mod server;

use std::time::Duration;

use polychord_runtime_api::{Error as ApiError, Source};
use sha2::{Digest as _, Sha256};

use crate::{Error, Options, RangeDigest, open};
use server::{Behavior, TestServer};

const BLOCK: usize = 1000;

fn body() -> Vec<u8> {
    (0..10_500_u32).flat_map(|number| number.to_le_bytes()).collect()
}

fn options() -> Options {
    Options::new().block(BLOCK).ahead(0).attempts(4).backoff(Duration::from_millis(5))
}

fn all(source: &Source) -> Result<Vec<u8>, String> {
    let mut bytes = vec![0; usize::try_from(source.len()).unwrap()];
    // In pieces that are not blocks.
    for (piece, out) in bytes.chunks_mut(2_777).enumerate() {
        source.read_at(piece as u64 * 2_777, out).map_err(|error| text(&error))?;
    }
    Ok(bytes)
}

fn text(error: &ApiError) -> String {
    match error {
        ApiError::Io { source, .. } => source.to_string(),
        error => error.to_string(),
    }
}

#[test]
fn a_file_is_read_range_by_range() {
    let server = TestServer::start(Behavior::good(body()));
    for ahead in [0, 5_000] {
        let source = open(&server.url, &options().ahead(ahead)).unwrap().source;
        assert_eq!(source.len(), 42_000);
        let mut middle = [0; 8];
        source.read_at(20_000, &mut middle).unwrap();
        assert_eq!(middle, [136, 19, 0, 0, 137, 19, 0, 0]);
        let asked = server.requests();
        assert!(ahead > 0 || asked == ["bytes=0-999", "bytes=20000-20999"], "{asked:?}");
        assert!(all(&source).unwrap() == body());
        assert!(matches!(source.read_at(41_999, &mut middle), Err(ApiError::OutOfRange { .. })));
        server.requests();
    }
}

#[test]
fn blocks_are_kept_on_disk_as_far_as_they_may() {
    let folder = tempfile::tempdir().unwrap();
    let server = TestServer::start(Behavior::good(body()));
    let kept = |bytes| options().cache(folder.path(), bytes);
    assert!(all(&open(&server.url, &kept(1 << 20)).unwrap().source).unwrap() == body());
    server.requests();
    // Another process has them.
    assert!(all(&open(&server.url, &kept(1 << 20)).unwrap().source).unwrap() == body());
    assert_eq!(server.requests(), ["bytes=0-999"]);
    // Damaged ones are read again.
    let blocks = || std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path());
    for (path, bytes) in blocks().zip([&b"short"[..], &[7; BLOCK + 32]]) {
        std::fs::write(path, bytes).unwrap();
    }
    assert!(all(&open(&server.url, &kept(1 << 20)).unwrap().source).unwrap() == body());
    assert_eq!(server.requests().len(), 3);
    // Another file at the address has blocks of its own.
    let other: Vec<u8> = body().iter().map(|byte| byte ^ 1).collect();
    server.change(|it| (it.body, it.etag) = (other.clone(), "\"other\"".into()));
    assert!(all(&open(&server.url, &kept(1 << 20)).unwrap().source).unwrap() == other);
    // Room for ten of them.
    assert!(all(&open(&server.url, &kept(10_320)).unwrap().source).unwrap() == other);
    let used: u64 = blocks().map(|path| path.metadata().unwrap().len()).sum();
    assert!(used <= 10_320, "{used}");
}

#[test]
fn what_a_server_cannot_do_is_said_before_anything_is_read() {
    let refused = |change: fn(&mut Behavior)| {
        let server = TestServer::start(Behavior::good(body()));
        server.change(change);
        open(&server.url, &options()).unwrap_err()
    };
    assert!(matches!(refused(|it| it.ignores_ranges = true), Error::RangesIgnored { .. }));
    assert!(matches!(refused(|it| it.etag = String::new()), Error::NoValidator { .. }));
    assert!(matches!(refused(|it| it.etag = "W/\"1\"".into()), Error::NoValidator { .. }));
    assert!(matches!(refused(|it| it.status = 404), Error::Refused { status: 404, .. }));
    assert!(matches!(refused(|it| it.status = 503), Error::Busy { status: 503, .. }));
    assert!(matches!(refused(|it| it.shift = 1), Error::WrongRange { .. }));
    let nowhere = open("http://127.0.0.1:9/model.gguf", &options()).unwrap_err();
    assert!(matches!(nowhere, Error::Connection { .. }), "{nowhere}");
}

#[test]
fn a_file_that_changes_is_never_mixed_with_what_it_was() {
    for (change, says) in [
        // A server that knows what If-Match is, and one that does not.
        ((|it| it.etag = "\"2\"".into()) as fn(&mut Behavior), "has changed"),
        (|it| (it.etag, it.ignores_conditions) = ("\"2\"".into(), true), "has changed"),
        (|it| it.body.truncate(30_000), "it has 30000 bytes, and had 42000"),
        (|it| it.body.truncate(2_000), "it has become shorter"),
        (
            |it| (it.etag, it.ignores_ranges, it.ignores_conditions) = ("\"2\"".into(), true, true),
            "has changed",
        ),
    ] {
        let server = TestServer::start(Behavior::good(body()));
        let source = open(&server.url, &options()).unwrap().source;
        source.read_at(500, &mut [0; 2_000]).unwrap();
        server.change(change);
        let mut out = [0; 100];
        let error = text(&source.read_at(5_000, &mut out).unwrap_err());
        assert!(error.contains(says), "{error}");
    }
    // One that says nothing, and changes the bytes: seen where they were read before.
    let server = TestServer::start(Behavior::good(body()));
    let source = open(&server.url, &options()).unwrap().source;
    all(&source).unwrap();
    server.change(|it| it.body[1_500] ^= 1);
    let error = text(&source.read_at(1_000, &mut [0; 10]).unwrap_err());
    assert!(error.contains("are not what they were"), "{error}");
}

#[test]
fn connections_that_break_are_made_again_a_few_times() {
    let server = TestServer::start(Behavior::good(body()));
    let source = open(&server.url, &options()).unwrap().source;
    server.change(|it| it.failures = 3);
    let mut out = [0; 4];
    source.read_at(8_000, &mut out).unwrap();
    assert_eq!(out, 2_000_u32.to_le_bytes());
    server.change(|it| it.failures = 4);
    let error = text(&source.read_at(12_000, &mut out).unwrap_err());
    assert!(error.contains("cannot be read"), "{error}");
    // And what failed can be read later.
    source.read_at(12_000, &mut out).unwrap();
    assert_eq!(out, 3_000_u32.to_le_bytes());
    server.change(|it| (it.failures, it.failing_status) = (2, Some(429)));
    source.read_at(16_000, &mut out).unwrap();
    assert_eq!(out, 4_000_u32.to_le_bytes());
}

#[test]
fn lies_about_lengths_are_refused() {
    for (change, says) in [
        // Shorter and longer than announced, and another range.
        ((|it| it.cut = Some(400)) as fn(&mut Behavior), "cannot be read"),
        (|it| it.more = 3, "more than the 1000 bytes"),
        (|it| it.shift = 7, "Content-Range"),
    ] {
        let server = TestServer::start(Behavior::good(body()));
        let source = open(&server.url, &options()).unwrap().source;
        server.change(change);
        let error = text(&source.read_at(7_000, &mut [0; 900]).unwrap_err());
        assert!(error.contains(says), "{error}");
    }
}

#[test]
fn ranges_with_digests_are_compared_before_they_are_used() {
    let server = TestServer::start(Behavior::good(body()));
    let digest = |start: usize, end: usize| {
        let sha256 = Sha256::digest(&body()[start..end]).into();
        RangeDigest::new(start as u64, (end - start) as u64, sha256)
    };
    let options = options().digest(digest(500, 9_500)).digest(digest(9_500, 42_000));
    let source = open(&server.url, &options).unwrap().source;
    assert!(all(&source).unwrap() == body());
    let source = open(&server.url, &options).unwrap().source;
    // In a block that is not asked for, but of the same layer.
    server.change(|it| it.body[41_000] ^= 1);
    source.read_at(500, &mut [0; 100]).unwrap();
    let error = text(&source.read_at(10_000, &mut [0; 100]).unwrap_err());
    assert!(error.contains("have the SHA-256"), "{error}");
    let beyond = open(&server.url, &options.digest(RangeDigest::new(u64::MAX, 2, [0; 32])));
    assert!(matches!(beyond, Err(Error::DigestRange { len: 42_000, .. })));
}
