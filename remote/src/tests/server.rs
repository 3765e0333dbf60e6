//! A web server with one file.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// How the server behaves.
#[derive(Debug, Clone)]
pub(super) struct Behavior {
    pub(super) body: Vec<u8>,
    /// As it is sent; none if it is empty.
    pub(super) etag: String,
    /// Of all answers, if not the right one.
    pub(super) status: u16,
    pub(super) ignores_ranges: bool,
    pub(super) ignores_conditions: bool,
    /// How many requests fail from now on: by this status, or by a connection that breaks off.
    pub(super) failures: u32,
    pub(super) failing_status: Option<u16>,
    /// Breaks off after this many bytes of a body.
    pub(super) cut: Option<usize>,
    /// Sends more than the range, without a length.
    pub(super) more: usize,
    /// Whether a request may be answered, given its target and its host.
    pub(super) allows: Option<fn(&str, &str) -> bool>,
    /// How far the range that is sent is from the one that was asked for.
    pub(super) shift: usize,
    /// More lines of each answer, which end in CR and LF.
    pub(super) more_headers: String,
    /// What is said instead of the right Content-Range; none if it is empty.
    pub(super) content_range: Option<String>,
    /// Where requests are sent instead, with status 302.
    pub(super) leads_to: Option<String>,
    /// How long each byte of a body takes.
    pub(super) drip: Duration,
}

impl Behavior {
    pub(super) fn good(body: Vec<u8>) -> Self {
        Self {
            body,
            etag: "\"1\"".into(),
            status: 0,
            ignores_ranges: false,
            ignores_conditions: false,
            failures: 0,
            failing_status: None,
            cut: None,
            more: 0,
            allows: None,
            shift: 0,
            more_headers: String::new(),
            content_range: None,
            leads_to: None,
            drip: Duration::ZERO,
        }
    }
}

pub(super) struct TestServer {
    pub(super) url: String,
    behavior: Arc<Mutex<Behavior>>,
    requests: Arc<Mutex<Vec<String>>>,
}

impl TestServer {
    pub(super) fn start(behavior: Behavior) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/model.gguf", listener.local_addr().unwrap());
        let behavior = Arc::new(Mutex::new(behavior));
        let requests = Arc::default();
        let server = Self { url, behavior: Arc::clone(&behavior), requests: Arc::clone(&requests) };
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (behavior, requests) = (Arc::clone(&behavior), Arc::clone(&requests));
                // A client that is gone ends its thread.
                thread::spawn(move || serve(&stream, &behavior, &requests));
            }
        });
        server
    }

    pub(super) fn change(&self, change: impl FnOnce(&mut Behavior)) {
        change(&mut self.behavior.lock().unwrap());
    }

    /// The ranges that were asked for, which are forgotten.
    pub(super) fn requests(&self) -> Vec<String> {
        std::mem::take(&mut self.requests.lock().unwrap())
    }
}

/// Answers one request, and closes the connection.
fn serve(
    mut stream: &TcpStream,
    behavior: &Mutex<Behavior>,
    requests: &Mutex<Vec<String>>,
) -> Option<()> {
    let lines: Vec<_> = BufReader::new(stream)
        .lines()
        .map_while(Result::ok)
        .take_while(|line| !line.is_empty())
        .collect();
    let header = |name: &str| {
        let fields = lines.iter().filter_map(|line| line.split_once(": "));
        let mut found = fields.filter(|(field, _)| field.eq_ignore_ascii_case(name));
        found.next().map(|(_, value)| value.to_owned())
    };
    let range = header("range")?;
    requests.lock().unwrap().push(range.clone());
    let mut it = behavior.lock().unwrap();
    if it.failures > 0 {
        it.failures -= 1;
        let status = it.failing_status?;
        let more = &it.more_headers;
        let head =
            format!("HTTP/1.1 {status} No\r\ncontent-length: 0\r\nconnection: close\r\n{more}\r\n");
        stream.write_all(head.as_bytes()).ok()?;
        return Some(());
    }
    let mut it = it.clone();
    let target = lines.first()?.split(' ').nth(1)?;
    if it.allows.is_some_and(|allows| !allows(target, &header("host").unwrap_or_default())) {
        it.status = 403;
    }
    let (first, last) = range.strip_prefix("bytes=")?.split_once('-')?;
    let first = first.parse::<usize>().ok()? + it.shift;
    let end = (last.parse::<usize>().ok()? + it.shift + 1).min(it.body.len());
    let etag = if it.etag.is_empty() { String::new() } else { format!("etag: {}\r\n", it.etag) };
    let matches = header("if-match").is_none_or(|tag| tag == it.etag);
    let (status, body) = match (it.status, matches || it.ignores_conditions) {
        (0, false) => (412, &[][..]),
        (0, true) if it.ignores_ranges => (200, &it.body[..]),
        (0, true) if first >= end => (416, &[][..]),
        (0, true) => (206, &it.body[first..end]),
        (status, _) => (status, &[][..]),
    };
    if let Some(to) = &it.leads_to {
        let head = format!(
            "HTTP/1.1 302 There\r\nlocation: {to}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
        );
        return stream.write_all(head.as_bytes()).ok();
    }
    let mut head =
        format!("HTTP/1.1 {status} It\r\nconnection: close\r\n{etag}{}", it.more_headers);
    let right = format!("bytes {first}-{}/{}", end.max(1) - 1, it.body.len());
    let range = it.content_range.as_ref().unwrap_or(&right);
    if status == 206 && !range.is_empty() {
        head += &format!("content-range: {range}\r\n");
    }
    if it.more == 0 {
        head += &format!("content-length: {}\r\n", body.len());
    }
    stream.write_all(format!("{head}\r\n").as_bytes()).ok()?;
    let body = &body[..it.cut.unwrap_or(body.len()).min(body.len())];
    if it.drip.is_zero() {
        stream.write_all(body).ok()?;
    } else {
        for byte in body {
            stream.write_all(&[*byte]).ok()?;
            thread::sleep(it.drip);
        }
    }
    stream.write_all(&vec![0; it.more]).ok()
}
