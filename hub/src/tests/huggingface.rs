//! Downloads from a server, and files of the cache that Hugging Face's tools keep.

use super::server::{Behavior, Server};
use super::*;

struct Bench {
    dir: TempDir,
    hub: Hub,
    server: Server,
    file: ModelRef,
}

impl Bench {
    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let mut hub = hub(&dir.path().join("cache"), &model());
        let server = Server::start(Behavior::good(model(), hub.pinned.sha256));
        hub.settings.hugging_face.endpoint.clone_from(&server.url);
        hub.settings.hugging_face.offline = false;
        let file = "hf:owner/repo/sub/model.gguf".parse().unwrap();
        Self { dir, hub, server, file }
    }

    fn resolve(&self) -> Result<PathBuf, Error> {
        self.hub.resolve(&self.file, &mut Silent)
    }

    fn complete(&self) {
        assert_eq!(fs::read(self.resolve().unwrap()).unwrap(), model());
        assert!(!files(&self.hub.root).iter().any(|name| name.starts_with("partial")));
    }

    fn refused(&self) -> Error {
        let error = self.resolve().unwrap_err();
        assert_eq!(self.hub.cached(&self.file), None);
        error
    }

    /// The sizes of downloads that can be resumed.
    fn partial(&self) -> Vec<u64> {
        let names = files(&self.hub.root);
        let partial = names.iter().filter(|name| name.ends_with("/download"));
        partial.map(|name| fs::metadata(self.hub.root.join(name)).unwrap().len()).collect()
    }
}

#[test]
fn a_file_is_fetched_once_with_the_token() {
    let mut bench = Bench::new();
    bench.hub.settings.hugging_face.token = Some("hf_secret".into());
    bench.complete();
    let requests = bench.server.requests();
    assert_eq!(requests.len(), 2);
    for request in &requests {
        assert!(request.contains(" /owner/repo/resolve/main/sub/model.gguf "), "{request}");
        assert!(request.contains("authorization: bearer hf_secret"), "{request}");
    }
    bench.complete();
    assert_eq!(bench.server.requests().len(), 0);
}

#[test]
fn revisions_do_not_mix() {
    let mut bench = Bench::new();
    bench.file = "hf:owner/repo/model.gguf@refs/pr/1".parse().unwrap();
    bench.complete();
    assert!(bench.server.requests()[0].contains("/resolve/refs%2fpr%2f1/model.gguf"));
    let main = "hf:owner/repo/model.gguf".parse().unwrap();
    assert_eq!(bench.hub.cached(&main), None);
}

#[test]
fn the_default_model_comes_from_here_too() {
    let mut bench = Bench::new();
    bench.file = ModelRef::Default;
    bench.complete();
}

#[test]
fn other_bytes_than_the_pinned_ones_are_refused_before_they_come() {
    let mut bench = Bench::new();
    bench.file = ModelRef::Default;
    bench.server.change(|is| is.etag = Some("0".repeat(64)));
    let error = bench.refused();
    assert!(matches!(causes(&error)[..], [Cause::Sha256 { .. }, Cause::Pip(_)]), "{error}");
    bench.server.change(|is| is.linked_size = Some(5));
    let error = bench.refused();
    assert!(matches!(causes(&error)[..], [Cause::Size { found: 5, .. }, Cause::Pip(_)]), "{error}");
    assert!(bench.server.requests().iter().all(|request| request.starts_with("head")));
}

#[test]
fn bytes_that_are_not_as_announced_are_refused() {
    let bench = Bench::new();
    bench.server.change(|is| is.body[5000] ^= 1);
    assert!(matches!(causes(&bench.refused())[..], [Cause::Sha256 { .. }]));
    bench.server.change(|is| is.linked_size = Some(100));
    assert!(matches!(causes(&bench.refused())[..], [Cause::Size { expected: 100, .. }]));
    assert!(bench.partial().is_empty());
}

#[test]
fn a_login_page_is_no_model() {
    let bench = Bench::new();
    bench.server.change(|is| {
        is.body = b"<html>please log in</html>".into();
        is.etag = None;
    });
    assert!(matches!(causes(&bench.refused())[..], [Cause::NotGguf]));
}

#[test]
fn a_server_without_digests_is_believed_about_the_size_only() {
    let bench = Bench::new();
    bench.server.change(|is| is.etag = None);
    bench.complete();
    // Still noticed afterwards: the digest was taken on arrival.
    let path = bench.resolve().unwrap();
    let mut bytes = model();
    bytes[7000] ^= 1;
    tamper(&path, &bytes);
    assert_eq!(bench.hub.cached(&bench.file), None);
    bench.complete();
}

#[test]
fn an_interrupted_download_goes_on_where_it_stopped() {
    let bench = Bench::new();
    bench.server.change(|is| is.cut = Some(100_000));
    assert!(matches!(causes(&bench.refused())[..], [Cause::Connection { .. }]));
    assert_eq!(bench.partial(), [100_000]);
    bench.server.change(|is| is.status = 503);
    assert!(matches!(causes(&bench.refused())[..], [Cause::Status { status: 503, .. }]));
    assert_eq!(bench.partial(), [100_000]);
    bench.server.change(|is| (is.status, is.cut) = (200, None));
    bench.server.requests();
    bench.complete();
    let requests = bench.server.requests();
    assert!(requests[1].contains("range: bytes=100000-"), "{requests:?}");
}

#[test]
fn a_server_that_ignores_or_garbles_ranges_does_no_harm() {
    type Break = fn(&mut Behavior);
    // With the number of requests: the whole file is taken where it comes, and asked for otherwise.
    let break_it: [(Break, usize); 2] =
        [(|is| is.ignore_range = true, 2), (|is| is.wrong_range = true, 3)];
    for (change, requests) in break_it {
        let bench = Bench::new();
        bench.server.change(|is| is.cut = Some(100_000));
        bench.refused();
        bench.server.change(|is| is.cut = None);
        bench.server.change(change);
        bench.server.requests();
        bench.complete();
        assert_eq!(bench.server.requests().len(), requests);
    }
}

#[test]
fn a_bad_partial_download_is_begun_again() {
    for size in [100_000, 400_000, model().len()] {
        let bench = Bench::new();
        bench.server.change(|is| is.cut = Some(10));
        bench.refused();
        let name = files(&bench.hub.root).into_iter().find(|n| n.ends_with("/download")).unwrap();
        fs::write(bench.hub.root.join(name), vec![7; size]).unwrap();
        bench.server.change(|is| is.cut = None);
        bench.complete();
    }
}

#[test]
fn a_partial_download_of_another_version_is_dropped() {
    let bench = Bench::new();
    bench.server.change(|is| (is.cut, is.etag) = (Some(100_000), Some("1".repeat(64))));
    bench.refused();
    bench.server.change(|is| (is.cut, is.etag) = (None, Some(bench.hub.pinned.sha256.into())));
    bench.server.requests();
    bench.complete();
    assert!(!bench.server.requests().concat().contains("range:"));
}

#[test]
fn refusals_say_what_to_do() {
    let bench = Bench::new();
    for (status, hint) in
        [(401, "HF_TOKEN"), (403, "terms"), (404, "revision or file"), (500, "500")]
    {
        bench.server.change(|is| is.status = status);
        let message = bench.refused().to_string();
        assert!(message.contains(hint), "{message}");
        assert!(message.contains("POLYCHORD_CACHE"), "{message}");
    }
}

#[test]
fn silence_is_an_error() {
    let mut bench = Bench::new();
    bench.hub.settings.hugging_face.stall = Duration::from_millis(300);
    bench.server.change(|is| is.silent_after = Some(50_000));
    assert!(matches!(causes(&bench.refused())[..], [Cause::Stalled(_)]));
}

#[test]
fn an_unreachable_server_costs_no_time() {
    let mut bench = Bench::new();
    bench.hub.settings.hugging_face.endpoint = "http://127.0.0.1:1".into();
    let begun = std::time::Instant::now();
    assert!(matches!(causes(&bench.refused())[..], [Cause::Connection { .. }]));
    assert!(begun.elapsed() < Duration::from_secs(30));
}

#[test]
fn a_renamed_repository_is_followed() {
    let bench = Bench::new();
    bench.server.change(|is| is.renamed = true);
    bench.complete();
}

#[test]
fn the_store_of_large_files_does_not_see_the_token() {
    let mut bench = Bench::new();
    bench.hub.settings.hugging_face.token = Some("hf_secret".into());
    let store = Server::start(Behavior::good(model(), "the store has another etag"));
    // The same machine by another name.
    let other_name = store.url.replace("127.0.0.1", "localhost");
    bench.server.change(|is| is.store = Some(other_name));
    bench.complete();
    let seen = store.requests();
    assert_eq!(seen.len(), 1);
    assert!(!seen[0].contains("secret"), "{seen:?}");
}

/// Puts `bytes` where Hugging Face's own tools keep the file of the bench.
#[cfg(unix)]
fn keep_locally(bench: &mut Bench, bytes: &[u8]) {
    let root = bench.dir.path().join("hf/hub");
    let repo = root.join("models--owner--repo");
    let snapshot = repo.join("snapshots/c0ffee/sub");
    let blob = repo.join("blobs").join(bench.hub.pinned.sha256);
    for dir in [&snapshot, &repo.join("refs"), &repo.join("blobs")] {
        fs::create_dir_all(dir).unwrap();
    }
    fs::write(&blob, bytes).unwrap();
    fs::write(repo.join("refs/main"), "c0ffee").unwrap();
    std::os::unix::fs::symlink(&blob, snapshot.join("model.gguf")).unwrap();
    bench.hub.settings.hugging_face.cache = Some(root);
}

#[cfg(unix)]
#[test]
fn what_hugging_faces_tools_have_is_not_fetched_again() {
    for name in ["hf:owner/repo/sub/model.gguf", "hf:owner/repo/sub/model.gguf@c0ffee"] {
        let mut bench = Bench::new();
        keep_locally(&mut bench, &model());
        bench.file = name.parse().unwrap();
        bench.complete();
        assert_eq!(bench.server.requests().len(), 0);
    }
}

#[cfg(unix)]
#[test]
fn what_hugging_faces_tools_have_is_verified() {
    let mut bench = Bench::new();
    let mut bytes = model();
    bytes[9] ^= 1;
    keep_locally(&mut bench, &bytes);
    bench.complete();
    assert_eq!(bench.server.requests().len(), 2);
}

#[test]
fn failures_of_the_network_say_what_helps() {
    let mut bench = Bench::new();
    bench.server.change(|is| is.cut = Some(100_000));
    let message = bench.refused().to_string();
    assert!(message.contains("broke off; run it again"), "{message}");
    bench.hub.settings.hugging_face.endpoint = "http://127.0.0.1:1".into();
    let message = bench.refused().to_string();
    assert!(message.contains("cannot be reached; check the network"), "{message}");
    bench.hub.settings.hugging_face.endpoint.clone_from(&bench.server.url);
    bench.server.change(|is| is.linked_size = Some(usize::MAX / 2));
    let message = bench.refused().to_string();
    assert!(message.contains("the disk is full"), "{message}");
}
