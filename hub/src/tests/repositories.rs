//! Repositories of which a file is chosen, and models in several files.

use super::server::{Behavior, Server};
use super::*;

struct Bench {
    dir: TempDir,
    hub: Hub,
    server: Server,
}

impl Bench {
    fn new(listing: &[&'static str]) -> Self {
        let dir = TempDir::new().unwrap();
        let mut hub = hub(&dir.path().join("cache"), &model());
        let listing = Some(listing.to_vec());
        let good = Behavior { listing, ..Behavior::good(model(), hub.pinned.sha256) };
        let server = Server::start(good);
        hub.settings.hugging_face.endpoint.clone_from(&server.url);
        hub.settings.hugging_face.offline = false;
        Self { dir, hub, server }
    }

    /// The path that a name leads to, below the folder of the repository.
    fn resolve(&self, name: &str) -> Result<String, Error> {
        let path = self.hub.resolve(&name.parse()?, &mut Silent)?;
        let folder = self.dir.path().join("cache/models/hf/owner/repo/main");
        Ok(path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned())
    }
}

#[test]
fn the_preferred_file_is_fetched_and_asked_for_once() {
    let bench = Bench::new(&["README.md", "a.Q8_0.gguf", "b/a.Q4_K_M.gguf", "z.gguf"]);
    assert_eq!(bench.resolve("hf:owner/repo").unwrap(), "b/a.Q4_K_M.gguf");
    let requests = bench.server.requests();
    assert!(
        requests[0].contains("/api/models/owner/repo/tree/main?recursive=true"),
        "{requests:?}"
    );
    assert_eq!(requests.len(), 4 + 2, "a page for each file, then a head and the file");
    // Nothing better could be there.
    assert_eq!(bench.resolve("hf:owner/repo").unwrap(), "b/a.Q4_K_M.gguf");
    assert_eq!(bench.resolve("hf:owner/repo:q4_k_m").unwrap(), "b/a.Q4_K_M.gguf");
    assert!(bench.server.requests().is_empty());
    assert_eq!(bench.resolve("hf:owner/repo:Q8_0").unwrap(), "a.Q8_0.gguf");
    let cached = bench.hub.cached(&"hf:owner/repo".parse().unwrap());
    assert!(cached.unwrap().ends_with("b/a.Q4_K_M.gguf"));
}

#[test]
fn what_a_repository_has_in_place_of_it_is_named() {
    let bench = Bench::new(&["a.Q8_0.gguf", "mmproj-a.gguf"]);
    let error = bench.resolve("hf:owner/repo:Q5_K_M").unwrap_err().to_string();
    assert!(error.contains("hf:owner/repo:Q5_K_M") && error.contains("a.Q8_0.gguf"), "{error}");
    bench.server.change(|is| is.listing = Some(vec!["model.safetensors"]));
    let error = bench.resolve("hf:owner/repo").unwrap_err().to_string();
    assert!(error.contains("no GGUF file at all"), "{error}");
    // Paths are parts of paths on disk.
    bench.server.change(|is| is.listing = Some(vec!["../../x.Q4_K_M.gguf"]));
    assert!(matches!(bench.resolve("hf:owner/repo"), Err(Error::NotInRepository { .. })));
    bench.server.change(|is| is.listing = None);
    let error = bench.resolve("hf:owner/repo").unwrap_err();
    assert!(matches!(causes(&error)[..], [Cause::Status { status: 404, .. }]), "{error}");
}

#[test]
fn without_the_network_what_is_cached_will_do() {
    let mut bench = Bench::new(&["a.Q8_0.gguf"]);
    assert_eq!(bench.resolve("hf:owner/repo").unwrap(), "a.Q8_0.gguf");
    bench.server.requests();
    bench.hub = bench.hub.offline(true);
    assert_eq!(bench.resolve("hf:owner/repo").unwrap(), "a.Q8_0.gguf");
    for name in ["hf:owner/repo:Q4_0", "hf:owner/repo/b.gguf", "default"] {
        let error = bench.resolve(name).unwrap_err();
        assert!(matches!(causes(&error)[..], [Cause::Offline]), "{error}");
        assert!(error.to_string().contains("--offline"), "{error}");
    }
    assert!(bench.server.requests().is_empty());
    bench.hub = bench.hub.offline(false);
    bench.hub.settings.hugging_face.endpoint = "http://127.0.0.1:1".into();
    assert_eq!(bench.resolve("hf:owner/repo").unwrap(), "a.Q8_0.gguf");
}

#[test]
fn all_parts_of_a_model_are_fetched() {
    let bench = Bench::new(&["m-Q4_K_M-00001-of-00003.gguf", "m-Q4_K_M-00002-of-00003.gguf"]);
    for name in ["hf:owner/repo", "hf:owner/repo/m-Q4_K_M-00002-of-00003.gguf"] {
        assert_eq!(bench.resolve(name).unwrap(), "m-Q4_K_M-00001-of-00003.gguf");
        let folder = bench.dir.path().join("cache/models/hf/owner/repo/main");
        let there = files(&folder).into_iter().filter(|name| name.ends_with(".gguf")).count();
        assert_eq!(there, 3);
    }
    let third =
        bench.dir.path().join("cache/models/hf/owner/repo/main/m-Q4_K_M-00003-of-00003.gguf");
    fs::remove_file(&third).unwrap();
    let model = "hf:owner/repo".parse().unwrap();
    assert_eq!(bench.hub.cached(&model), None);
    bench.server.requests();
    // The one that is missing alone; and goes on where it stopped.
    bench.server.change(|is| is.cut = Some(100_000));
    let error = bench.resolve("hf:owner/repo").unwrap_err().to_string();
    assert!(error.contains("part 3 of 3"), "{error}");
    bench.server.change(|is| is.cut = None);
    bench.resolve("hf:owner/repo").unwrap();
    let requests = bench.server.requests();
    assert!(requests.iter().all(|request| request.contains("00003-of-00003")), "{requests:?}");
    assert!(requests.last().unwrap().contains("range: bytes=100000-"), "{requests:?}");
}
