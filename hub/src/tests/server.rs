//! A web server that answers as Hugging Face does, or worse.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// How the server behaves.
#[derive(Debug, Clone)]
pub(super) struct Behavior {
    pub(super) body: Vec<u8>,
    /// In quotes, without the quotes.
    pub(super) etag: Option<String>,
    /// What the head says about the size, if not the truth.
    pub(super) linked_size: Option<usize>,
    pub(super) status: u16,
    /// Breaks off after this many bytes of a body.
    pub(super) cut: Option<usize>,
    /// Sends nothing more after this many bytes of a body.
    pub(super) silent_after: Option<usize>,
    pub(super) ignore_range: bool,
    pub(super) wrong_range: bool,
    /// Sends those who ask for `/owner` to `/renamed`.
    pub(super) renamed: bool,
    /// The address of the server itself.
    pub(super) host: Option<String>,
    /// The list of files of a repository, and with it a list that follows.
    pub(super) listing: Option<Vec<&'static str>>,
    /// Sends `GET` to this other server.
    pub(super) store: Option<String>,
}

impl Behavior {
    pub(super) fn good(body: Vec<u8>, etag: &str) -> Self {
        Self {
            body,
            etag: Some(etag.into()),
            linked_size: None,
            status: 200,
            cut: None,
            silent_after: None,
            ignore_range: false,
            wrong_range: false,
            renamed: false,
            host: None,
            listing: None,
            store: None,
        }
    }
}

pub(super) struct Server {
    pub(super) url: String,
    behavior: Arc<Mutex<Behavior>>,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Server {
    pub(super) fn start(behavior: Behavior) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let behavior = Behavior { host: Some(url.clone()), ..behavior };
        let behavior = Arc::new(Mutex::new(behavior));
        let requests = Arc::default();
        let server = Self { url, behavior: Arc::clone(&behavior), requests: Arc::clone(&requests) };
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (behavior, requests) = (Arc::clone(&behavior), Arc::clone(&requests));
                thread::spawn(move || serve(&stream, &behavior, &requests));
            }
        });
        server
    }

    pub(super) fn change(&self, change: impl FnOnce(&mut Behavior)) {
        change(&mut self.behavior.lock().unwrap());
    }

    /// All requests so far, in lower case, and forgets them.
    pub(super) fn requests(&self) -> Vec<String> {
        std::mem::take(&mut self.requests.lock().unwrap())
    }
}

/// One request per connection.
fn serve(stream: &TcpStream, behavior: &Mutex<Behavior>, requests: &Mutex<Vec<String>>) {
    let mut request = String::new();
    for line in BufReader::new(stream).lines().map_while(Result::ok) {
        if line.is_empty() {
            break;
        }
        request.push_str(&line.to_lowercase());
        request.push('\n');
    }
    requests.lock().unwrap().push(request.clone());
    let behavior = behavior.lock().unwrap().clone();
    // The client may hang up; that is its right.
    let _ = answer(stream, &request, &behavior);
}

/// One file for each request, with the address of the next.
fn list(mut stream: &TcpStream, path: &str, is: &Behavior) -> std::io::Result<()> {
    let Some(files) = &is.listing else {
        return write!(stream, "HTTP/1.1 404 No\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    };
    let at: usize = path.split_once("cursor=").map_or(0, |(_, at)| at.parse().unwrap_or(0));
    let next = if at + 1 < files.len() {
        let host = is.host.as_deref().unwrap_or_default();
        format!(
            "link: <{host}/api/models/owner/repo/tree/main?cursor={}>; rel=\"next\"\r\n",
            at + 1
        )
    } else {
        String::new()
    };
    let body = match files.get(at) {
        Some(file) => format!(
            "[{{\"type\":\"directory\",\"path\":\"sub\"}},{{\"type\":\"file\",\"path\":\"{file}\",\"size\":1}}]"
        ),
        None => "[]".into(),
    };
    write!(
        stream,
        "HTTP/1.1 200 OK\r\n{next}content-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    )
}

fn answer(mut stream: &TcpStream, request: &str, is: &Behavior) -> std::io::Result<()> {
    let path = request.split(' ').nth(1).unwrap_or("/");
    if is.renamed && path.starts_with("/owner") {
        let to = path.replacen("/owner", "/renamed", 1);
        return write!(
            stream,
            "HTTP/1.1 307 Moved\r\nlocation: {to}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
        );
    }
    if path.starts_with("/api/models/owner/repo/tree/main") {
        return list(stream, path, is);
    }
    if is.status != 200 {
        return write!(
            stream,
            "HTTP/1.1 {} No\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
            is.status
        );
    }
    let mut headers = String::new();
    if let Some(etag) = &is.etag {
        headers += &format!("x-linked-etag: \"{etag}\"\r\n");
        headers += &format!("x-linked-size: {}\r\n", is.linked_size.unwrap_or(is.body.len()));
    }
    if let Some(store) = &is.store {
        return write!(
            stream,
            "HTTP/1.1 302 Found\r\n{headers}location: {store}/blob\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
        );
    }
    let range = request.lines().find_map(|line| line.strip_prefix("range: bytes="));
    let start: Option<usize> = range.and_then(|range| range.trim_end_matches('-').parse().ok());
    let start = start.filter(|_| !is.ignore_range);
    let body = is.body.get(start.unwrap_or(0)..).unwrap_or_default();
    let status = if let Some(start) = start {
        let says = if is.wrong_range { 0 } else { start };
        let last = is.body.len().saturating_sub(1);
        headers += &format!("content-range: bytes {says}-{last}/{}\r\n", is.body.len());
        "206 Partial"
    } else {
        "200 OK"
    };
    write!(
        stream,
        "HTTP/1.1 {status}\r\n{headers}content-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    )?;
    if request.starts_with("head") {
        return Ok(());
    }
    let stop = is.cut.or(is.silent_after).unwrap_or(body.len()).min(body.len());
    stream.write_all(&body[..stop])?;
    stream.flush()?;
    if is.silent_after.is_some() {
        thread::sleep(Duration::from_secs(30));
    }
    Ok(())
}
