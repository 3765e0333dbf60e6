//! The HTTP API: embeddings, keys, and what a client may take of the machine.

use std::io::{ErrorKind as IoErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;

use polychord::api::Engine;
use polychord::serve::{Server, ServerOptions};
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::common::encoders::Encoder;
use super::*;

/// A server in a thread, which ends with it.
pub(super) struct Running {
    address: SocketAddr,
    end: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Running {
    pub(super) fn start(engine: &Arc<dyn Engine>, path: PathBuf, options: ServerOptions) -> Self {
        let transformer = Arc::new(transformer(engine));
        let load = move || {
            let session = SessionOptions::new().ranks(Ranks::Exactly(1));
            Ok((transformer.clone(), Model::open(&path)?, session))
        };
        let server = Server::new(options.address(([127, 0, 0, 1], 0))).model("it", load);
        let (end, ended) = oneshot::channel();
        let (address, bound) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let mut runtime = tokio::runtime::Builder::new_multi_thread();
            let runtime = runtime.worker_threads(2).enable_all().build();
            runtime.unwrap().block_on(async {
                let server = server.bind().await.unwrap();
                address.send(server.address()).unwrap();
                server.run(async { _ = ended.await }).await.unwrap();
            });
        });
        Self { address: bound.recv().unwrap(), end: Some(end), thread: Some(thread) }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream
    }

    /// The status and the body of a request, with further headers.
    pub(super) fn ask(&self, method: &str, path: &str, headers: &str, body: &str) -> (u16, String) {
        self.send(method, path, headers, body.as_bytes())
    }

    /// The status and the body of a request whose body is any bytes.
    pub(super) fn send(
        &self,
        method: &str,
        path: &str,
        headers: &str,
        body: &[u8],
    ) -> (u16, String) {
        let mut stream = self.connect();
        let length = body.len();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n"
        );
        stream.write_all(&[head.as_bytes(), body].concat()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        let (status, body) = self.ask("POST", path, "", &body.to_string());
        (status, serde_json::from_str(&body).unwrap())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.end.take());
        _ = self.thread.take().map(std::thread::JoinHandle::join);
    }
}

pub(super) fn small(folder: &Path) -> PathBuf {
    let shape = Shape { blocks: 1, context: 256, ..Shape::of(GgmlType::Q4_0) };
    Llama::random(shape).save(folder)
}

pub(super) fn an_engine() -> Arc<dyn Engine> {
    polychord::open(polychord::default_engine().unwrap()).unwrap()
}

/// Whether the server ends a connection within this time.
fn ends_within(stream: &mut TcpStream, time: Duration) -> bool {
    stream.set_read_timeout(Some(time)).unwrap();
    let mut rest = Vec::new();
    match stream.read_to_end(&mut rest) {
        Ok(_) => true,
        Err(error) => !matches!(error.kind(), IoErrorKind::WouldBlock | IoErrorKind::TimedOut),
    }
}

#[derive(serde::Deserialize)]
struct Golden {
    model: Encoder,
    inputs: Vec<Input>,
}

#[derive(serde::Deserialize)]
struct Input {
    ids: Vec<u32>,
}

/// The vectors are those of a session, whatever their form and their company.
#[test]
fn embeddings_are_those_of_a_session() {
    each_engine(test_name!(), |engine| {
        let folder = tempfile::tempdir().unwrap();
        let golden = include_str!("../data/embeddings/gemma-embedding-small.json");
        let golden: Golden = serde_json::from_str(golden).unwrap();
        let path = folder.path().join("model.gguf");
        std::fs::write(&path, golden.model.file()).unwrap();
        let model = Model::open(&path).unwrap();
        let mut session = transformer(engine).start(&model, &SessionOptions::new()).unwrap();
        let all: Vec<_> = golden.inputs.into_iter().map(|input| input.ids).collect();
        let expected: Vec<_> = all.iter().map(|ids| session.embed(ids).unwrap()).collect();
        let server = Running::start(engine, path, ServerOptions::new());

        let (status, answer) = server.post("/v1/embeddings", &json!({ "input": all }));
        assert_eq!(status, 200, "{answer}");
        let tokens: usize = all.iter().map(Vec::len).sum();
        assert_eq!(answer["usage"], json!({ "prompt_tokens": tokens, "total_tokens": tokens }));
        for (index, vector) in expected.iter().enumerate() {
            let entry = &answer["data"][index];
            let found: Vec<f32> = serde_json::from_value(entry["embedding"].clone()).unwrap();
            assert_eq!((&found, &entry["index"]), (vector, &index.into()));
        }
        // Many clients at once, each with a list of its own.
        std::thread::scope(|scope| {
            for (ids, vector) in all.iter().zip(&expected) {
                let server = &server;
                scope.spawn(move || {
                    let lists = [ids, ids, ids];
                    let (_, answer) = server.post("/v1/embeddings", &json!({ "input": lists }));
                    for at in 0..3 {
                        let found = answer["data"][at]["embedding"].clone();
                        assert_eq!(&serde_json::from_value::<Vec<f32>>(found).unwrap(), vector);
                    }
                });
            }
        });
        let one = json!({ "input": all[0], "encoding_format": "base64" });
        let (_, answer) = server.post("/v1/embeddings", &one);
        let text = answer["data"][0]["embedding"].as_str().unwrap();
        assert_eq!(text.len(), (expected[0].len() * 4).div_ceil(3) * 4);

        let long = vec![1; model.config().context_length as usize + 1];
        for (request, param) in [
            (json!({ "input": "a", "dimensions": 8 }), "dimensions"),
            (json!({ "input": "a", "encoding_format": "int8" }), "encoding_format"),
            (json!({ "input": [] }), "input"),
            (json!({ "input": [[]] }), "input"),
            (json!({ "input": "" }), "input"),
            (json!({ "input": [99_999_999] }), "input"),
            (json!({ "input": long }), "input"),
        ] {
            let (status, answer) = server.post("/v1/embeddings", &request);
            assert_eq!((status, &answer["error"]["param"]), (400, &json!(param)), "{answer}");
        }
        let message = json!({ "messages": [{ "role": "user", "content": "hi" }] });
        for (path, body) in
            [("/v1/chat/completions", message), ("/v1/completions", json!({ "prompt": "hi" }))]
        {
            let (status, answer) = server.post(path, &body);
            let reason = answer["error"]["message"].as_str().unwrap();
            assert!(status == 400 && reason.contains("/v1/embeddings"), "{answer}");
        }
        let models = server.ask("GET", "/v1/models", "", "").1;
        assert!(models.contains("\"embeddings\":true"), "{models}");
    });
}

#[test]
fn a_model_without_pooling_gives_no_embeddings() {
    let folder = tempfile::tempdir().unwrap();
    let server = Running::start(&an_engine(), small(folder.path()), ServerOptions::new());
    let (status, answer) = server.post("/v1/embeddings", &json!({ "input": "hi" }));
    let reason = answer["error"]["message"].as_str().unwrap();
    assert!(status == 400 && reason.contains("no pooling"), "{answer}");
}

#[test]
fn a_key_is_needed_for_all_but_health() {
    let folder = tempfile::tempdir().unwrap();
    let keys = folder.path().join("keys");
    std::fs::write(&keys, "first\nsecond\n").unwrap();
    let options = ServerOptions::new().api_key_file(keys).api_keys(["third"]);
    let server = Running::start(&an_engine(), small(folder.path()), options);
    let status = |method, path, key: &str| {
        let header = format!("authorization: {key}\r\n");
        let header = if key.is_empty() { "" } else { &header };
        server.ask(method, path, header, "").0
    };
    for (method, path) in [
        ("GET", "/v1/models"),
        ("GET", "/v1/models/it"),
        ("GET", "/metrics"),
        ("POST", "/v1/chat/completions"),
        ("POST", "/v1/completions"),
        ("POST", "/v1/embeddings"),
        ("POST", "/tokenize"),
        ("POST", "/detokenize"),
    ] {
        for key in ["", "Bearer ", "Bearer firs", "Bearer first1", "Bearer second\t1", "first"] {
            assert_eq!(status(method, path, key), 401, "{path} {key:?}");
        }
        // What comes in with a key may be no request.
        let known = if method == "GET" { 200 } else { 400 };
        for key in ["Bearer first", "Bearer second", "Bearer third"] {
            assert_eq!(status(method, path, key), known, "{path} {key:?}");
        }
    }
    for path in ["/", "/health", "/ready"] {
        assert_eq!(status("GET", path, ""), 200, "{path}");
    }
    // No page may call, as none was named.
    let asked = server.ask("OPTIONS", "/v1/models", "origin: https://example.org\r\n", "");
    assert_ne!(asked.0, 204);
}

#[test]
fn slow_clients_are_not_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let options = ServerOptions::new().header_time(Duration::from_secs(1));
    let server = Running::start(&an_engine(), small(folder.path()), options);
    let begun = Instant::now();
    let head = "POST /tokenize HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{";
    let sent = ["", "GET / HT", "GET / HTTP/1.1\r\nhost:", head];
    let mut slow: Vec<_> = sent
        .iter()
        .map(|sent| {
            let mut stream = server.connect();
            stream.write_all(sent.as_bytes()).unwrap();
            stream
        })
        .collect();
    // One that asked and then says nothing, with its connection kept.
    let mut kept = server.connect();
    kept.write_all(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    slow.push(kept);
    for (index, stream) in slow.iter_mut().enumerate() {
        assert!(ends_within(stream, Duration::from_secs(20)), "connection {index} stays");
    }
    assert!(begun.elapsed() >= Duration::from_millis(900));
}

#[test]
fn no_more_connections_than_allowed() {
    let folder = tempfile::tempdir().unwrap();
    let options = ServerOptions::new().max_connections(3).header_time(Duration::from_secs(60));
    let server = Running::start(&an_engine(), small(folder.path()), options);
    let silent: Vec<_> = (0..3).map(|_| server.connect()).collect();
    // These are accepted first.
    std::thread::sleep(Duration::from_millis(300));
    let mut next = server.connect();
    next.write_all(b"GET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
    assert!(!ends_within(&mut next, Duration::from_millis(700)), "it is served as a fourth");
    drop(silent);
    assert!(ends_within(&mut next, Duration::from_secs(20)), "it waits on");
}

/// A client that asks and takes nothing, as one whose machine has gone, holds its connection for a bounded time.
#[test]
#[cfg(target_os = "linux")]
fn what_is_not_read_ends_a_connection() {
    let folder = tempfile::tempdir().unwrap();
    let options = ServerOptions::new().max_connections(1).unread_time(Duration::from_secs(1));
    let server = Running::start(&an_engine(), small(folder.path()), options);
    let mut deaf = server.connect();
    deaf.set_write_timeout(Some(Duration::from_secs(2))).unwrap();
    // More than what sockets keep: the server reads no further request while its answer is not read.
    let asks = "GET / HTTP/1.1\r\nhost: x\r\n\r\n".repeat(1000);
    let stuck = (0..2000).find_map(|_| deaf.write_all(asks.as_bytes()).err()).unwrap();
    assert!(
        matches!(
            stuck.kind(),
            IoErrorKind::WouldBlock | IoErrorKind::TimedOut | IoErrorKind::ConnectionReset
        ),
        "{stuck}"
    );
    assert_eq!(server.ask("GET", "/health", "", "").0, 200);
    drop(deaf);
}

/// What comes when as many wait as may is told when to come again; and the end waits for no longer than it may.
#[test]
fn a_full_queue_says_when_to_come_again() {
    let folder = tempfile::tempdir().unwrap();
    let scheduler = SchedulerOptions::new().parallel(1).waiting(1);
    let options = ServerOptions::new().scheduler(scheduler).drain(Duration::ZERO);
    let server = Running::start(&an_engine(), small(folder.path()), options);
    // Longer than all of this takes, and with a token that does not end it.
    let long = json!({ "prompt": [1, 2, 3], "max_tokens": 250, "stream": true, "logit_bias": { "96": -100 } });
    let body = long.to_string();
    let head = format!(
        "POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut refused = 0;
    let mut running = Vec::new();
    for _ in 0..6 {
        let mut stream = server.connect();
        stream.write_all(head.as_bytes()).unwrap();
        let mut answer = [0; 512];
        let count = stream.read(&mut answer).unwrap();
        let answer = String::from_utf8_lossy(&answer[..count]).to_lowercase();
        if answer.starts_with("http/1.1 429 ") {
            let (_, rest) =
                answer.split_once("retry-after: ").unwrap_or_else(|| panic!("{answer}"));
            let seconds: u64 = rest.split("\r\n").next().unwrap().parse().unwrap();
            assert!((1..=600).contains(&seconds), "{seconds}");
            refused += 1;
        } else {
            assert!(answer.starts_with("http/1.1 200 "), "{answer}");
            running.push(stream);
        }
    }
    assert!(refused >= 1, "none of six was refused");
    let begun = Instant::now();
    drop(server);
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
}

/// The page for browsers, with the headers that its workers need, and the model for it by ranges.
#[test]
fn the_page_for_browsers_is_served_with_its_headers() {
    let folder = tempfile::tempdir().unwrap();
    let model = small(folder.path());
    let web = folder.path().join("web");
    for (file, text) in [
        ("demo/index.html", "<title>It</title>"),
        ("demo/main.js", "0"),
        ("dist/files.js", "1"),
        ("sw.js", "2"),
        ("package.json", "{}"),
        (".hidden", "3"),
    ] {
        std::fs::create_dir_all(web.join(file).parent().unwrap()).unwrap();
        std::fs::write(web.join(file), text).unwrap();
    }
    // Of several pieces.
    let weights = folder.path().join("weights");
    let stored: Vec<u8> = (0..200_000_u32).flat_map(u32::to_le_bytes).collect();
    std::fs::write(&weights, &stored).unwrap();
    let options = ServerOptions::new().web_folder(web.clone()).web_model(weights);
    let server = Running::start(&an_engine(), model.clone(), options.clone());
    let whole = |path: &str, headers: &str| {
        let mut stream = server.connect();
        let head = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{headers}\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let end = answer.windows(4).position(|it| it == b"\r\n\r\n").unwrap();
        (String::from_utf8(answer[..end].to_vec()).unwrap(), answer[end + 4..].to_vec())
    };
    let (head, body) = whole("/demo/", "");
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert_eq!(body, b"<title>It</title>");
    for header in [
        "content-type: text/html; charset=utf-8",
        "cross-origin-opener-policy: same-origin",
        "cross-origin-embedder-policy: require-corp",
    ] {
        assert!(head.contains(header), "{head}");
    }
    for path in ["/demo/main.js", "/dist/files.js", "/sw.js"] {
        assert_eq!(server.ask("GET", path, "", "").0, 200, "{path}");
    }
    for path in [
        "/demo/none.js",
        "/demo/../package.json",
        "/demo/%2e%2e/package.json",
        "/package.json",
        "/demo/.hidden",
        "/dist/",
    ] {
        assert_eq!(server.ask("GET", path, "", "").0, 404, "{path}");
    }

    let (head, body) = whole("/model.gguf", "");
    assert_eq!(body, stored);
    let tag = head.lines().find_map(|line| line.strip_prefix("etag: ")).unwrap();
    let size = stored.len();
    for (range, start, end) in [
        ("bytes=0-0", 0, 1),
        ("bytes=5-1000000000", 5, size),
        ("bytes=100000-700000", 100_000, 700_001),
    ] {
        let (head, body) = whole("/model.gguf", &format!("range: {range}\r\nif-range: {tag}\r\n"));
        assert!(head.starts_with("HTTP/1.1 206"), "{range}: {head}");
        assert!(
            head.contains(&format!("content-range: bytes {start}-{}/{size}", end - 1)),
            "{head}"
        );
        assert_eq!(body, stored[start..end], "{range}");
    }
    // Of another version there is no range.
    let (head, body) = whole("/model.gguf", "range: bytes=0-0\r\nif-range: \"other\"\r\n");
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert_eq!(body.len(), size);
    let (head, _) = whole("/model.gguf", &format!("range: bytes={size}-\r\n"));
    assert!(head.starts_with("HTTP/1.1 416"), "{head}");
    drop(server);

    // Where keys are needed the model is behind them, and the page is not.
    let keyed = Running::start(&an_engine(), model.clone(), options.clone().api_keys(["key"]));
    assert_eq!(keyed.ask("GET", "/demo/", "", "").0, 200);
    assert_eq!(keyed.ask("GET", "/model.gguf", "", "").0, 401);
    drop(keyed);
    std::fs::remove_file(web.join("dist/files.js")).unwrap();
    let options = options.address(([127, 0, 0, 1], 0));
    let load = || unreachable!("the folder is looked at first");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let error = runtime.block_on(Server::new(options).model("it", load).bind()).unwrap_err();
    assert!(error.to_string().contains("files.js: name the folder"), "{error}");
}

/// With receipts, `system_fingerprint` is the digest of one, which can be fetched and verified.
#[test]
fn a_fingerprint_is_the_digest_of_a_receipt() {
    use polychord::model::{Placement, Verifier};
    use polychord::receipts::Receipt;

    let (folder, engine) = (tempfile::tempdir().unwrap(), an_engine());
    let path = small(folder.path());
    let scheduler = SchedulerOptions::new().receipt_bytes(1 << 20);
    let options = ServerOptions::new().scheduler(scheduler);
    let server = Running::start(&engine, path.clone(), options);
    let verify = |digest: &str, steps: u64, by_sampler: bool| {
        let (status, json) = server.ask("GET", &format!("/v1/receipts/{digest}"), "", "");
        assert_eq!(status, 200, "{json}");
        let receipt = Receipt::from_json(&json).unwrap();
        assert_eq!(
            (receipt.digest().to_string(), receipt.head().steps),
            (digest.to_owned(), steps)
        );
        assert_eq!(receipt.head().sampling.is_empty(), !by_sampler);
        let elsewhere =
            SessionOptions::new().placement(Placement::sharded32(2)).ranks(Ranks::Exactly(2));
        let model = Model::open(&path).unwrap();
        let verdict = Verifier::new(&receipt).verify(&transformer(&engine), &model, &elsewhere);
        assert!(verdict.unwrap().is_verified());
    };
    let ask =
        json!({ "prompt": [1, 2, 3], "max_tokens": 5, "seed": 7, "logit_bias": { "96": -100 } });
    let (status, biased) = server.post("/v1/completions", &ask);
    assert_eq!(status, 200, "{biased}");
    verify(biased["system_fingerprint"].as_str().unwrap(), 5, false);

    let ask =
        json!({ "prompt": [1, 2, 3], "max_tokens": 5, "seed": 7, "n": 2, "presence_penalty": 0.5 });
    let (_, two) = server.post("/v1/completions", &ask);
    let digests: Vec<_> = two["system_fingerprint"].as_str().unwrap().split(',').collect();
    assert_eq!(digests.len(), 2);
    let tokens = two["usage"]["completion_tokens"].as_u64().unwrap();
    let steps = |digest: &str| {
        let (_, json) = server.ask("GET", &format!("/v1/receipts/{digest}"), "", "");
        Receipt::from_json(&json).unwrap().head().steps
    };
    assert_eq!(digests.iter().map(|digest| steps(digest)).sum::<u64>(), tokens);
    digests.iter().for_each(|digest| verify(digest, steps(digest), true));

    // Of a stream it comes with the end of the answer; the same answer has the same receipt.
    let ask = json!({ "prompt": [1, 2, 3], "max_tokens": 5, "seed": 7, "logit_bias": { "96": -100 }, "stream": true });
    let (_, stream) = server.ask("POST", "/v1/completions", "", &ask.to_string());
    let frames = stream.lines().filter_map(|line| line.strip_prefix("data: {"));
    let frames: Vec<Value> =
        frames.map(|frame| serde_json::from_str(&format!("{{{frame}")).unwrap()).collect();
    let (last, others) = frames.split_last().unwrap();
    assert_eq!(last["system_fingerprint"], biased["system_fingerprint"]);
    assert!(
        others
            .iter()
            .all(|it| it["system_fingerprint"].as_str().unwrap().starts_with("polychord-"))
    );

    let get = |digest: &str| server.ask("GET", &format!("/v1/receipts/{digest}"), "", "").0;
    assert_eq!((get(&"0".repeat(64)), get("0"), get(&"g".repeat(64))), (404, 400, 400));
}

/// Without them it is the program's name.
#[test]
fn without_receipts_there_are_none() {
    let folder = tempfile::tempdir().unwrap();
    let server = Running::start(&an_engine(), small(folder.path()), ServerOptions::new());
    let (_, answer) = server.post("/v1/completions", &json!({ "prompt": [1], "max_tokens": 1 }));
    assert!(answer["system_fingerprint"].as_str().unwrap().starts_with("polychord-"), "{answer}");
    assert_eq!(server.ask("GET", &format!("/v1/receipts/{}", "0".repeat(64)), "", "").0, 404);
}

/// Answers with one system prompt share its keys and values: one image, however many they are.
#[test]
#[cfg(target_os = "linux")]
fn a_system_prompt_is_shared() {
    let folder = tempfile::tempdir().unwrap();
    let shape = Shape {
        blocks: 2,
        context: 1024,
        dim: 64,
        heads: 4,
        kv_heads: 2,
        head_dim: 64,
        rope_dim: 64,
        ..Shape::of(GgmlType::F32)
    };
    let path = Llama::random(shape).save(folder.path());
    let gauge = |server: &Running, name: &str| -> u64 {
        let (_, metrics) = server.ask("GET", "/metrics", "", "");
        let line = metrics.lines().find(|line| line.starts_with(&format!("polychord_{name}{{")));
        line.unwrap().rsplit(' ').next().unwrap().parse().unwrap()
    };
    let system: Vec<u32> = (0..600).map(|at| at * 7 % 90 + 3).collect();
    let row_bytes = 2 * 2 * 2 * 64 * 4 * 600;
    let mut texts = Vec::new();
    // Of the second, what is set aside has no room for what is shared.
    for memory in [None, Some(())] {
        let mut scheduler = SchedulerOptions::new().parallel(4);
        if memory.is_some() {
            let server = Running::start(&an_engine(), path.clone(), ServerOptions::new());
            scheduler = scheduler.memory_bytes(4 * gauge(&server, "session_bytes"));
        }
        let options = ServerOptions::new().scheduler(scheduler);
        let server = Running::start(&an_engine(), path.clone(), options);
        // All at once: it is computed for the first one, and the others wait for it.
        let (server, system) = (&server, &system);
        let ask = |end: u32| {
            let prompt = [&system[..], &[end, end + 1]].concat();
            let ask = json!({ "prompt": prompt, "max_tokens": 200, "temperature": 0, "logit_bias": { "96": -100 } });
            let (_, answer) = server.post("/v1/completions", &ask);
            let cached = &answer["usage"]["prompt_tokens_details"]["cached_tokens"];
            (answer["choices"][0]["text"].to_string(), cached.as_u64().unwrap_or(0))
        };
        let mut cached = 0;
        std::thread::scope(|scope| {
            let ask = &ask;
            let threads = [0, 1, 2, 3].map(|end| scope.spawn(move || ask(end)));
            for (text, seen) in threads.map(|thread| thread.join().unwrap()) {
                texts.push(text);
                cached += seen;
            }
        });
        assert_eq!(cached, 3 * 600);
        let (shared, image) = (gauge(server, "kv_shared_bytes"), gauge(server, "kv_image_bytes"));
        if memory.is_none() {
            assert!((row_bytes..row_bytes / 4 * 5).contains(&image), "{image} {row_bytes}");
            assert!(shared > 2 * image, "{shared} {image}");
        } else {
            assert_eq!((shared, image), (0, 0));
        }
    }
    assert_eq!(texts[..4], texts[4..]);
}

/// What is wrong with a request is said with the parameter, in the form of OpenAI's API.
#[test]
fn what_is_wrong_with_a_request_is_said_with_the_parameter() {
    let folder = tempfile::tempdir().unwrap();
    let server = Running::start(&an_engine(), small(folder.path()), ServerOptions::new());
    let said = |content: Value| json!({ "messages": [{ "role": "user", "content": content }] });
    let tool = json!({ "type": "function", "function": { "name": "clock" } });
    for (more, param, words) in [
        (json!({ "messages": null }), "messages", "missing"),
        (json!({ "messages": [] }), "messages", "empty"),
        (json!({ "messages": "hi" }), "messages", "expected a sequence"),
        (
            json!({ "messages": [{ "role": "user" }] }),
            "messages",
            "messages[0]: content is missing",
        ),
        (json!({ "messages": [{ "content": "hi" }] }), "messages", "missing field `role`"),
        (
            json!({ "messages": [{ "role": "boss", "content": "hi" }] }),
            "messages",
            "developer, system",
        ),
        (said(json!(5)), "messages", "content is a text, or a list of parts"),
        (said(json!([])), "messages", "a list without parts"),
        (said(json!([{ "type": "text" }])), "messages", "has no text"),
        (
            said(json!([{ "type": "image_url", "image_url": {} }])),
            "messages",
            "only text is possible",
        ),
        (json!({ "model": 5 }), "model", "expected a string"),
        (json!({ "temperature": "hot" }), "temperature", "invalid type: string"),
        (json!({ "top_p": 1.5 }), "top_p", "top_p is 1.5"),
        (json!({ "max_tokens": -1 }), "max_tokens", "integer `-1`"),
        (json!({ "max_completion_tokens": 0 }), "max_completion_tokens", "at least 1"),
        (json!({ "n": 0 }), "n", "1 to 16"),
        (json!({ "stop": 5 }), "stop", "stop is a text, or a list of texts"),
        (json!({ "seed": 1.5 }), "seed", "floating point"),
        (json!({ "logit_bias": [1] }), "logit_bias", "sequence"),
        (json!({ "logit_bias": { "1": "much" } }), "logit_bias", "logit_bias.1: "),
        (json!({ "stream_options": 1 }), "stream_options", "expected an object"),
        (json!({ "n": null, "seed": [1] }), "seed", "sequence"),
        (json!({ "tools": [tool, { "type": "function" }] }), "tools", "tools[1] is no function"),
        (json!({ "tools": [5] }), "tools", "tools[0] is no function"),
        (
            json!({ "grammar": "start: \"a\"", "response_format": { "type": "json_object" } }),
            "grammar",
            "one of both",
        ),
    ] {
        let mut request = said(json!("hi"));
        let fields = more.as_object().unwrap().clone();
        request.as_object_mut().unwrap().extend(fields);
        let (status, answer) = server.post("/v1/chat/completions", &request);
        let error = &answer["error"];
        assert_eq!((status, &error["param"]), (400, &json!(param)), "{request}: {answer}");
        assert_eq!(error["type"], "invalid_request_error", "{request}: {answer}");
        let message = error["message"].as_str().unwrap();
        assert!(message.contains(words) && !message.contains("struct"), "{request}: {message}");
    }
    for (path, param) in [("/v1/completions", "prompt"), ("/v1/embeddings", "input")] {
        for request in
            [json!({}), json!({ param: null }), json!({ param: 5 }), json!({ param: [1, "a"] })]
        {
            let (status, answer) = server.post(path, &request);
            assert_eq!((status, &answer["error"]["param"]), (400, &json!(param)), "{answer}");
        }
    }
    let bias = json!({ "prompt": [1], "logit_bias": { "9999": 1 } });
    let (status, answer) = server.post("/v1/completions", &bias);
    assert_eq!((status, &answer["error"]["param"]), (400, &json!("logit_bias")), "{answer}");
    for body in ["", "{", "[]", "null", "{} {}", "\u{0}", &"[".repeat(100_000)] {
        let (status, answer) = server.ask("POST", "/v1/completions", "", body);
        assert!(status == 400 && answer.contains("the body is not "), "{body:.10}: {answer}");
    }
}

/// Clients send `null` for what they do not say, and 0 as `top_p` for the best token.
#[test]
fn what_is_null_is_not_said() {
    let folder = tempfile::tempdir().unwrap();
    let server = Running::start(&an_engine(), small(folder.path()), ServerOptions::new());
    let plain = json!({ "prompt": [1, 2, 3], "max_tokens": 4, "temperature": 0 });
    let (status, expected) = server.post("/v1/completions", &plain);
    assert_eq!(status, 200, "{expected}");
    let mut request = plain.clone();
    for name in [
        "model",
        "echo",
        "suffix",
        "best_of",
        "logprobs",
        "top_p",
        "top_k",
        "min_p",
        "seed",
        "stop",
        "n",
        "logit_bias",
        "frequency_penalty",
        "presence_penalty",
        "repeat_penalty",
        "repeat_last_n",
        "response_format",
        "grammar",
        "stream",
        "stream_options",
        "user",
    ] {
        request[name] = Value::Null;
    }
    let (status, found) = server.post("/v1/completions", &request);
    assert_eq!((status, &found["choices"]), (200, &expected["choices"]), "{found}");
    let best = json!({ "prompt": [1, 2, 3], "max_tokens": 4, "temperature": 1, "top_p": 0 });
    let (status, found) = server.post("/v1/completions", &best);
    assert_eq!((status, &found["choices"]), (200, &expected["choices"]), "{found}");
}
