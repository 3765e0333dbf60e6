//! The page that computes in a browser: the files of the package `web`, and the first model for it.
//!
//! Answers have the headers that let its workers share memory.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Redirect, Response};
use axum::routing::get;
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tokio_stream::wrappers::ReceiverStream;

use super::app::App;
use super::failure::Failure;

/// Where the page is.
const PAGE: &str = "/demo/";

/// The paths of the page.
pub(super) fn pages() -> Router<Arc<App>> {
    Router::new()
        .route("/demo", get(|| async { Redirect::permanent(PAGE) }))
        .route(PAGE, get(package))
        .route("/demo/{*file}", get(package))
        .route("/dist/{*file}", get(package))
        .route("/sw.js", get(package))
}

/// The path of the model that the page finds by itself.
pub(super) fn weights() -> Router<Arc<App>> {
    Router::new().route("/model.gguf", get(model))
}

/// A file of the package.
async fn package(State(app): State<Arc<App>>, uri: Uri, headers: HeaderMap) -> Response {
    let path = uri.path();
    let name = if path == PAGE { "/demo/index.html" } else { path };
    let file = app.options.web_folder.as_ref().filter(|_| is_plain(name));
    let file = file.map(|folder| folder.join(name.trim_start_matches('/')));
    answer(file.as_deref(), name, &headers).await
}

/// The file of the first model.
async fn model(State(app): State<Arc<App>>, headers: HeaderMap) -> Response {
    answer(app.options.web_model.as_deref(), "model.gguf", &headers).await
}

/// Whether a path has such parts alone as files of the package have, and so leads nowhere else.
fn is_plain(path: &str) -> bool {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let mut parts = path.trim_start_matches('/').split('/');
    parts.all(|part| !part.is_empty() && !part.starts_with('.') && part.bytes().all(known))
}

async fn answer(path: Option<&Path>, name: &str, headers: &HeaderMap) -> Response {
    let missing = || Failure::new(StatusCode::NOT_FOUND, "there is no such file of the page");
    let Some(path) = path.map(Path::to_owned) else { return missing().into_response() };
    let found = spawn_blocking(move || Found::open(&path)).await;
    let Ok(Ok(found)) = found else { return missing().into_response() };
    let mut response = found.respond(headers);
    for (name, value) in [
        (header::CONTENT_TYPE, type_of(name)),
        (header::CACHE_CONTROL, "no-cache"),
        (header::ACCEPT_RANGES, "bytes"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-embedder-policy"), "require-corp"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

fn type_of(name: &str) -> &'static str {
    match name.rsplit_once('.').map_or("", |(_, end)| end) {
        "html" => "text/html; charset=utf-8",
        "js" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "wasm" => "application/wasm",
        "svg" => "image/svg+xml",
        _ => "application/octet-stream",
    }
}

/// A file that is open.
struct Found {
    file: File,
    bytes: u64,
    /// Tells this version of it from others.
    tag: String,
}

/// Bytes that are read at once, and pieces that wait for a slow client.
const PIECE: usize = 256 << 10;
const PIECES: usize = 2;

impl Found {
    fn open(path: &Path) -> io::Result<Self> {
        let about = std::fs::metadata(path)?;
        if !about.is_file() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let changed = about.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
        let tag = format!("\"{}-{}\"", about.len(), changed.as_nanos());
        Ok(Self { file: File::open(path)?, bytes: about.len(), tag })
    }

    /// All of it, or the range that was asked for.
    fn respond(self, headers: &HeaderMap) -> Response {
        let bytes = self.bytes;
        let of = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
        let is_this = of(header::IF_RANGE).is_none_or(|tag| tag == self.tag);
        let range = of(header::RANGE).filter(|_| is_this).and_then(range_of);
        let tag = HeaderValue::from_str(&self.tag);
        let mut response = match range {
            None => self.send(0..bytes),
            Some((start, end)) if start < bytes && start <= end => {
                let end = end.saturating_add(1).min(bytes);
                let mut response = self.send(start..end);
                *response.status_mut() = StatusCode::PARTIAL_CONTENT;
                with_range(response, &format!("bytes {start}-{}/{bytes}", end - 1))
            }
            Some(_) => {
                let response = StatusCode::RANGE_NOT_SATISFIABLE.into_response();
                with_range(response, &format!("bytes */{bytes}"))
            }
        };
        if let Ok(tag) = tag {
            response.headers_mut().insert(header::ETAG, tag);
        }
        response
    }

    /// Sends a range piece by piece. A client that goes away ends it.
    fn send(self, range: Range<u64>) -> Response {
        let (pieces, receiver) = mpsc::channel::<io::Result<Vec<u8>>>(PIECES);
        let length = range.end - range.start;
        spawn_blocking(move || {
            // An error ends the connection, as less has come than was promised.
            let sent = read(self.file, range, |piece| pieces.blocking_send(Ok(piece)).is_ok());
            _ = sent.map_err(|error| pieces.blocking_send(Err(error)));
        });
        let mut response = Body::from_stream(ReceiverStream::new(receiver)).into_response();
        response.headers_mut().insert(header::CONTENT_LENGTH, length.into());
        response
    }
}

/// Hands out a range of a file, as long as it is taken.
fn read(mut file: File, range: Range<u64>, take: impl Fn(Vec<u8>) -> bool) -> io::Result<()> {
    file.seek(SeekFrom::Start(range.start))?;
    let mut left = range.end - range.start;
    while left > 0 {
        let mut piece = vec![0; usize::try_from(left).unwrap_or(PIECE).min(PIECE)];
        file.read_exact(&mut piece)?;
        left -= piece.len() as u64;
        if !take(piece) {
            break;
        }
    }
    Ok(())
}

fn with_range(mut response: Response, range: &str) -> Response {
    if let Ok(range) = HeaderValue::from_str(range) {
        response.headers_mut().insert(header::CONTENT_RANGE, range);
    }
    response
}

/// The first and the last byte of a range; none of several ranges, which may be answered by all.
fn range_of(text: &str) -> Option<(u64, u64)> {
    let (start, end) = text.strip_prefix("bytes=")?.split_once('-')?;
    let end = if end.is_empty() { u64::MAX } else { end.parse().ok()? };
    Some((start.parse().ok()?, end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_lead_to_the_package_alone() {
        for path in ["/demo/main.js", "/sw.js", "/dist/model/model_bg.wasm"] {
            assert!(is_plain(path), "{path}");
        }
        for path in
            ["/demo/../x", "/demo/%2e%2e/x", "/demo//x", "/demo/", "/demo/.git", "/demo/a\\b", ""]
        {
            assert!(!is_plain(path), "{path}");
        }
    }

    #[test]
    fn ranges_are_read_as_they_are_sent() {
        assert_eq!(range_of("bytes=0-0"), Some((0, 0)));
        assert_eq!(range_of("bytes=5-"), Some((5, u64::MAX)));
        for text in ["bytes=-5", "bytes=1-2,4-5", "bytes=a-b", "items=0-1", "bytes=1", ""] {
            assert_eq!(range_of(text), None, "{text}");
        }
    }
}
