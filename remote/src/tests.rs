//! Files on a server that behaves, or does not.

mod s3;
mod server;

use std::time::{Duration, Instant};

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

/// What a server does from now on.
type Change = Box<dyn Fn(&mut Behavior)>;

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
    // Damaged ones are read again; the first is read each time.
    let blocks = || std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path());
    let is_later = |path: &std::path::PathBuf| {
        let name = path.to_str().unwrap();
        !name.ends_with("-0") && !name.ends_with("-file")
    };
    for (path, bytes) in blocks().filter(is_later).zip([&b"short"[..], &[7; BLOCK + 32]]) {
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

#[test]
fn a_model_that_was_read_once_needs_no_server() {
    let folder = tempfile::tempdir().unwrap();
    let server = TestServer::start(Behavior::good(body()));
    let kept = || options().attempts(2).cache(folder.path(), 1 << 20);
    let unknown = open(&server.url, &kept().offline(true)).unwrap_err();
    assert!(matches!(unknown, Error::NotKept { .. }), "{unknown}");
    let file = open(&server.url, &kept()).unwrap();
    file.source.read_at(3_000, &mut [0; 7_000]).unwrap();
    let version = file.version;
    server.requests();
    // Without asking: what was read is there, and nothing else.
    let file = open(&server.url, &kept().offline(true)).unwrap();
    assert_eq!(file.version, version);
    let mut out = [0; 4];
    file.source.read_at(8_000, &mut out).unwrap();
    assert_eq!(out, 2_000_u32.to_le_bytes());
    let error = text(&file.source.read_at(40_000, &mut out).unwrap_err());
    assert!(error.contains("the cache does not have bytes 40000 to 41000"), "{error}");
    assert!(server.requests().is_empty());
    // A server that has no answer; when it has one, and it is another file, the two are not mixed.
    server.change(|it| it.status = 503);
    let file = open(&server.url, &kept()).unwrap();
    file.source.read_at(8_000, &mut out).unwrap();
    assert_eq!(out, 2_000_u32.to_le_bytes());
    assert!(file.source.read_at(40_000, &mut out).is_err());
    server.change(|it| (it.status, it.etag) = (0, "\"2\"".into()));
    let error = text(&file.source.read_at(40_000, &mut out).unwrap_err());
    assert!(error.contains("has changed"), "{error}");
    // A refusal is an answer.
    server.change(|it| it.status = 404);
    assert!(matches!(open(&server.url, &kept()), Err(Error::Refused { .. })));
}

#[test]
fn blocks_of_a_file_that_changed_behind_its_etag_are_forgotten() {
    let folder = tempfile::tempdir().unwrap();
    let server = TestServer::start(Behavior::good(body()));
    let kept = || options().cache(folder.path(), 1 << 20);
    all(&open(&server.url, &kept()).unwrap().source).unwrap();
    let other: Vec<u8> = body().iter().map(|byte| byte ^ 1).collect();
    server.change(|it| it.body.clone_from(&other));
    assert!(all(&open(&server.url, &kept()).unwrap().source).unwrap() == other);
}

#[test]
fn answers_that_are_not_what_they_say_are_refused() {
    let more = |lines: &'static str| move |it: &mut Behavior| it.more_headers = lines.to_owned();
    let range = |text: &'static str| move |it: &mut Behavior| it.content_range = Some(text.into());
    let cases: [(Change, &str); 9] = [
        (Box::new(more("content-encoding: gzip\r\n")), "encoded as gzip"),
        (Box::new(more("content-encoding: identity\r\ncontent-encoding: br\r\n")), "as br"),
        (Box::new(range("bytes 7001-8000/42000")), "Content-Range"),
        (Box::new(range("bytes 7000-7998/42000")), "Content-Range"),
        (Box::new(range("bytes 7000-7999/*")), "Content-Range"),
        (Box::new(range("bytes 7000-7999/42001")), "it has 42001 bytes, and had 42000"),
        (Box::new(range("")), "Content-Range"),
        // It does not say any more which version it has; another kind of version.
        (Box::new(|it| it.etag = String::new()), "has changed"),
        (Box::new(|it| it.etag = "W/\"1\"".into()), "has changed"),
    ];
    for (change, says) in cases {
        let server = TestServer::start(Behavior::good(body()));
        let source = open(&server.url, &options()).unwrap().source;
        server.change(|it| {
            change(it);
            it.ignores_conditions = true;
        });
        let error = text(&source.read_at(7_000, &mut [0; 900]).unwrap_err());
        assert!(error.contains(says), "{says}: {error}");
    }
    // The same at the start, where nothing is known yet.
    for (range, says) in [
        ("", "no sound Content-Range"),
        ("bytes 0-999/*", "no sound Content-Range"),
        ("bytes 0-999/500", "no sound Content-Range"),
        ("bytes 0-9/42000", "bytes 0 to 10 of 42000"),
        ("bytes 0-18446744073709551615/18446744073709551615", "no sound Content-Range"),
        ("items 0-999/42000", "no sound Content-Range"),
    ] {
        let server = TestServer::start(Behavior::good(body()));
        server.change(|it| it.content_range = Some(range.into()));
        let error = open(&server.url, &options()).unwrap_err().to_string();
        assert!(error.contains(says), "{range}: {error}");
    }
    let empty = TestServer::start(Behavior::good(Vec::new()));
    let error = open(&empty.url, &options()).unwrap_err().to_string();
    assert!(error.contains("is empty"), "{error}");
    // A file that has no ETag that counts, but a time.
    let server = TestServer::start(Behavior::good(body()));
    server.change(|it| {
        it.etag = "W/\"1\"".into();
        it.more_headers = "last-modified: Fri, 27 Nov 2026 08:00:00 GMT\r\n".into();
        it.ignores_conditions = true;
    });
    let file = open(&server.url, &options()).unwrap();
    assert_eq!(file.version, "Last-Modified Fri, 27 Nov 2026 08:00:00 GMT");
    assert!(all(&file.source).unwrap() == body());
    server.change(|it| it.more_headers = "last-modified: Fri, 27 Nov 2026 08:00:01 GMT\r\n".into());
    let error = text(&file.source.read_at(7_000, &mut [0; 900]).unwrap_err());
    assert!(error.contains("has changed"), "{error}");
}

#[test]
fn redirects_are_followed_and_not_believed() {
    let there = TestServer::start(Behavior::good(body()));
    let here = TestServer::start(Behavior::good(body()));
    here.change(|it| it.leads_to = Some(there.url.clone()));
    let source = open(&here.url, &options()).unwrap().source;
    assert!(all(&source).unwrap() == body());
    // To a file of another version.
    let other = TestServer::start(Behavior::good(body()));
    other.change(|it| (it.etag, it.ignores_conditions) = ("\"9\"".into(), true));
    here.change(|it| it.leads_to = Some(other.url.clone()));
    let error = text(&source.read_at(20_000, &mut [0; 9]).unwrap_err());
    assert!(error.contains("has changed"), "{error}");
    // To itself, for ever.
    let circle = here.url.clone();
    here.change(|it| it.leads_to = Some(circle));
    here.requests();
    let error = open(&here.url, &options()).unwrap_err();
    assert!(matches!(error, Error::Address { .. }), "{error}");
    assert!(here.requests().len() < 20);
}

#[test]
fn a_server_may_ask_to_wait_and_may_not_drip() {
    let server = TestServer::start(Behavior::good(body()));
    let source = open(&server.url, &options()).unwrap().source;
    server.change(|it| {
        (it.failures, it.failing_status) = (1, Some(503));
        it.more_headers = "retry-after: 1\r\n".into();
    });
    let start = Instant::now();
    source.read_at(8_000, &mut [0; 4]).unwrap();
    assert!(start.elapsed() >= Duration::from_secs(1), "{:?}", start.elapsed());
    server.change(|it| {
        (it.failures, it.failing_status) = (1, Some(429));
        it.more_headers = "retry-after: 86400\r\n".into();
    });
    let start = Instant::now();
    let error = text(&source.read_at(12_000, &mut [0; 4]).unwrap_err());
    assert!(error.contains("try again in 86400 s"), "{error}");
    assert!(start.elapsed() < Duration::from_secs(20));
    // Each byte comes in time, and a block would take half a minute.
    let impatient = options().attempts(2).stall(Duration::from_millis(300));
    server.change(|it| it.more_headers.clear());
    let source = open(&server.url, &impatient).unwrap().source;
    server.change(|it| it.drip = Duration::from_millis(30));
    let start = Instant::now();
    let error = text(&source.read_at(16_000, &mut [0; 4]).unwrap_err());
    assert!(error.contains("of 1000 bytes came in 0.6 s"), "{error}");
    assert!(start.elapsed() < Duration::from_secs(15), "{:?}", start.elapsed());
}
