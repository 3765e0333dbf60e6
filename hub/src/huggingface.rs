//! Files of Hugging Face: from the cache its own tools keep on this machine, or over the network.
//!
//! `hf-hub` knows the layout of that cache and where the token is. The bytes are read here through
//! `ureq`, because `hf-hub` has no timeouts, and cannot tell a server that ignored a range.

use std::env;
use std::fmt;
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use hf_hub::{Cache, Repo, RepoType};
use polychord_folders::Folder;
use ureq::config::RedirectAuthHeaders;
use ureq::http::{HeaderMap, Response, StatusCode};
use ureq::{Agent, Body};

use super::cache::unique;
use super::digest::{self, Expected, Sink, Verified};
use super::error::{Cause, Context as _, require_space};
use super::reference::{HfFile, HfRepo};

const ENDPOINT: &str = "https://huggingface.co";

/// How many relative redirects (a renamed repository) are followed to a file's description.
const MAX_RENAMES: usize = 4;

/// How to reach Hugging Face, as its own tools are told: `HF_ENDPOINT`, `HF_TOKEN`, `HF_HOME`,
/// `HF_HUB_CACHE`, `HF_HUB_OFFLINE`.
#[derive(Clone)]
pub(super) struct Settings {
    pub(super) endpoint: String,
    pub(super) token: Option<String>,
    /// The cache of Hugging Face's own tools.
    pub(super) cache: Option<PathBuf>,
    pub(super) offline: bool,
    /// For finding the server, and for connecting to it.
    pub(super) connect: Duration,
    /// For an answer, and between two pieces of one.
    pub(super) stall: Duration,
}

impl Settings {
    pub(super) fn from_env() -> Self {
        let set = |name| env::var(name).ok().filter(|value| !value.trim().is_empty());
        let home = set("HF_HOME")
            .map(PathBuf::from)
            .or_else(|| Some(dirs::home_dir()?.join(".cache").join("huggingface")));
        let hub = home.map(|home| home.join("hub"));
        let offline = set("HF_HUB_OFFLINE").is_some_and(|v| {
            ["1", "true", "yes", "on"].iter().any(|yes| v.eq_ignore_ascii_case(yes))
        });
        Self {
            endpoint: set("HF_ENDPOINT").unwrap_or_else(|| ENDPOINT.into()),
            token: set("HF_TOKEN").or_else(|| Cache::new(hub.clone()?).token()),
            cache: set("HF_HUB_CACHE").map(PathBuf::from).or(hub),
            offline,
            connect: Duration::from_secs(5),
            stall: Duration::from_secs(20),
        }
    }

    fn url(&self, file: &HfFile) -> String {
        let revision = file.revision().replace('/', "%2F");
        let endpoint = self.endpoint.trim_end_matches('/');
        format!("{endpoint}/{}/{}/resolve/{revision}/{}", file.owner(), file.repo(), file.path())
    }

    fn agent(&self) -> Agent {
        let config = Agent::config_builder();
        // No proxy leads to this machine itself.
        let config = if self.is_local() { config.proxy(None) } else { config };
        config
            .user_agent(concat!("polychord/", env!("CARGO_PKG_VERSION")))
            .accept_encoding("identity")
            .http_status_as_error(false)
            .redirect_auth_headers(RedirectAuthHeaders::SameHost)
            .timeout_resolve(Some(self.connect))
            .timeout_connect(Some(self.connect))
            .timeout_recv_response(Some(self.stall))
            .timeout_per_read(Some(self.stall))
            .build()
            .into()
    }
}

impl Settings {
    fn is_local(&self) -> bool {
        let host = self.endpoint.split_once("://").map_or("", |(_, host)| host);
        ["127.0.0.1", "localhost", "[::1]"].iter().any(|local| {
            host.strip_prefix(local)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with([':', '/']))
        })
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("endpoint", &self.endpoint)
            .field("token", &self.token.as_ref().map(|_| "<secret>"))
            .field("cache", &self.cache)
            .field("offline", &self.offline)
            .finish_non_exhaustive()
    }
}

/// Takes the file from the cache of Hugging Face's own tools, if it is there.
pub(super) fn from_local_cache(
    settings: &Settings,
    file: &HfFile,
    expected: &Expected,
    work: &Folder,
) -> Result<Option<Verified>, Cause> {
    let Some(found) = settings.cache.as_ref().and_then(|cache| find_local(cache, file)) else {
        return Ok(None);
    };
    let blob = fs::canonicalize(&found).in_source("find", &found)?;
    let mut expected = expected.clone();
    // Large files are stored there under their digest.
    let name = blob.file_name().and_then(|name| name.to_str());
    if let (None, Some(name)) = (&expected.sha256, name.filter(|name| digest::is_sha256(name))) {
        expected.sha256 = Some(name.to_ascii_lowercase());
    }
    let name = unique("local");
    let target = work.path().join(&name);
    if fs::hard_link(&blob, &target).is_err() {
        let mut from = fs::File::open(&blob).in_source("open", &blob)?;
        let mut to = work.create_file(&name, 0o644)?;
        io::copy(&mut from, &mut to).in_source("copy to", &target)?;
    }
    digest::verify(target, &expected).map(Some)
}

fn find_local(cache: &Path, file: &HfFile) -> Option<PathBuf> {
    let id = format!("{}/{}", file.owner(), file.repo());
    let repo = Repo::with_revision(id, RepoType::Model, file.revision().into());
    let repo = Cache::new(cache.into()).repo(repo);
    let by_commit =
        || Some(repo.pointer_path(file.revision()).join(file.path())).filter(|p| p.is_file());
    repo.get(file.path()).or_else(by_commit)
}

/// Where Hugging Face's own tools keep the files of a repository, if they do.
pub(super) fn local_folder(settings: &Settings, repo: &HfRepo) -> Option<PathBuf> {
    let id = format!("{}/{}", repo.owner(), repo.repo());
    let known = Repo::with_revision(id, RepoType::Model, repo.revision().into());
    let cache = settings.cache.as_ref()?;
    let refs = cache.join(known.folder_name()).join("refs").join(repo.revision());
    let commit = fs::read_to_string(refs).unwrap_or_else(|_| repo.revision().into());
    // A name of a folder, and nothing else.
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let commit = commit.trim();
    let is_name = commit.chars().all(is_plain) && !commit.starts_with('.');
    is_name.then(|| Cache::new(cache.clone()).repo(known).pointer_path(commit))
}

/// Most bytes of a list of files, and most lists that are read one after the other.
const LIST_BYTES: u64 = 8 << 20;
const LISTS: usize = 16;

/// The paths of all files of a repository, in the order of the server.
pub(super) fn list(settings: &Settings, repo: &HfRepo) -> Result<Vec<String>, Cause> {
    let endpoint = settings.endpoint.trim_end_matches('/');
    let revision = repo.revision().replace('/', "%2F");
    let (owner, name) = (repo.owner(), repo.repo());
    let mut at = format!("{endpoint}/api/models/{owner}/{name}/tree/{revision}?recursive=true");
    let agent = settings.agent();
    let mut paths = Vec::new();
    for _ in 0..LISTS {
        let request = authorized(agent.get(&at), settings);
        let mut response = request.call().map_err(|e| connection(&at, settings, e))?;
        check_status(&at, &response)?;
        let text = response.body_mut().with_config().limit(LIST_BYTES).read_to_string();
        let text = text.map_err(|e| connection(&at, settings, e))?;
        paths.extend(
            paths_of(&text).map_err(|problem| Cause::Listing { url: at.clone(), problem })?,
        );
        // On this server and no other.
        let next = header(response.headers(), "link").and_then(next_page);
        match next.filter(|next| origin(next) == origin(endpoint)) {
            Some(next) => next.clone_into(&mut at),
            None => break,
        }
    }
    Ok(paths)
}

/// The paths in a list of files.
fn paths_of(text: &str) -> Result<Vec<String>, String> {
    #[derive(serde::Deserialize)]
    struct Entry {
        path: String,
        #[serde(rename = "type")]
        kind: String,
    }
    let entries: Vec<Entry> = serde_json::from_str(text).map_err(|error| error.to_string())?;
    Ok(entries.into_iter().filter(|it| it.kind == "file").map(|it| it.path).collect())
}

/// The address in `<https://...>; rel="next"`.
fn next_page(link: &str) -> Option<&str> {
    let is_next = |part: &&str| part.contains("rel=\"next\"");
    link.split(',').find(is_next)?.split_once('<')?.1.split_once('>').map(|(address, _)| address)
}

/// Where a download goes.
pub(super) struct Target<'a> {
    pub(super) work: &'a Folder,
    pub(super) name: &'a str,
    /// Whether to go on where an earlier run stopped.
    pub(super) resume: bool,
}

/// Downloads the file into `target`.
pub(super) fn download(
    settings: &Settings,
    file: &HfFile,
    expected: &Expected,
    target: &Target<'_>,
    advanced: &mut dyn FnMut(u64, Option<u64>),
) -> Result<Verified, Cause> {
    let url = settings.url(file);
    let agent = settings.agent();
    let remote = Remote::ask(&agent, settings, &url)?;
    let expected = remote.agree_with(expected)?;
    let mut sink = remote.open(target)?;
    let resumed = sink.len() > 0;
    let needed = expected.size.unwrap_or_default().saturating_sub(sink.len());
    require_space(target.work.path(), needed)?;
    let mut judged = transfer(&agent, settings, &url, &mut sink, &expected, advanced)
        .and_then(|()| sink.finish(&expected));
    if resumed && judged.as_ref().is_err_and(is_wrong_content) {
        // The earlier part was bad: once more from the start.
        let mut sink = Sink::create(target.work, target.name)?;
        judged = transfer(&agent, settings, &url, &mut sink, &expected, advanced)
            .and_then(|()| sink.finish(&expected));
    }
    if judged.as_ref().is_err_and(is_wrong_content) {
        let _ = target.work.remove_file(target.name);
    }
    judged
}

/// Whether going on with the same bytes is of no use.
fn is_wrong_content(cause: &Cause) -> bool {
    matches!(cause, Cause::Size { .. } | Cause::Sha256 { .. } | Cause::NotGguf)
}

/// What the server says about a file before it sends it.
#[derive(Debug, Default)]
struct Remote {
    etag: Option<String>,
    size: Option<u64>,
}

impl Remote {
    /// Asks without following the redirect to the store of large files: its answer has no digest.
    fn ask(agent: &Agent, settings: &Settings, url: &str) -> Result<Self, Cause> {
        let mut at = url.to_owned();
        for _ in 0..=MAX_RENAMES {
            let request = authorized(agent.head(&at), settings);
            let request = request
                .config()
                .timeout_global(Some(settings.connect.saturating_mul(2)))
                .max_redirects(0)
                .max_redirects_will_error(false)
                .build();
            let response = request.call().map_err(|e| connection(&at, settings, e))?;
            if !response.status().is_redirection() {
                check_status(&at, &response)?;
            } else if let Some(path) = header(response.headers(), "location")
                && path.starts_with('/')
                && !path.starts_with("//")
            {
                at = format!("{}{path}", origin(&at));
                continue;
            }
            let headers = response.headers();
            let etag = header(headers, "x-linked-etag").or_else(|| header(headers, "etag"));
            let length =
                || header(headers, "content-length").filter(|_| response.status().is_success());
            let size = header(headers, "x-linked-size").or_else(length);
            return Ok(Self {
                etag: etag.map(|etag| etag.trim_start_matches("W/").trim_matches('"').to_owned()),
                size: size.and_then(|size| size.parse().ok()),
            });
        }
        Err(Cause::Status { url: url.into(), status: 310, hint: " (too many redirects)" })
    }

    /// What the file must be, by us and by the server; an error if they differ already.
    fn agree_with(&self, expected: &Expected) -> Result<Expected, Cause> {
        let digest = self.etag.as_ref().filter(|etag| digest::is_sha256(etag));
        let announced =
            Expected { size: self.size, sha256: digest.map(|d| d.to_ascii_lowercase()) };
        match (expected.size, announced.size) {
            (Some(expected), Some(found)) if expected != found => {
                return Err(Cause::Size { expected, found });
            }
            _ => {}
        }
        match (&expected.sha256, &announced.sha256) {
            (Some(expected), Some(found)) if expected != found => {
                return Err(Cause::Sha256 { expected: expected.clone(), found: found.clone() });
            }
            _ => {}
        }
        Ok(Expected {
            size: expected.size.or(announced.size),
            sha256: expected.sha256.clone().or(announced.sha256),
        })
    }

    /// Opens the partial file: the one that is there, if it is of the same version.
    fn open(&self, target: &Target<'_>) -> Result<Sink, Cause> {
        let Target { work, name, resume } = *target;
        let note = format!("{name}.etag");
        if let (true, Some(etag)) = (resume, &self.etag)
            && read_note(work, &note).is_some_and(|noted| noted == *etag)
        {
            return Sink::resume(work, name);
        }
        // The note goes first, so that it never describes older bytes.
        work.remove_file(&note)?;
        let sink = Sink::create(work, name)?;
        if let (true, Some(etag)) = (resume, &self.etag) {
            let mut file = work.create_file_anew(&note, 0o644)?;
            file.write_all(etag.as_bytes()).in_source("write", &work.path().join(&note))?;
        }
        Ok(sink)
    }
}

/// The version that a partial file is of, if this user noted it.
fn read_note(work: &Folder, note: &str) -> Option<String> {
    const LONGEST: u64 = 4096;
    let mut text = String::new();
    work.open_file(note).ok()??.take(LONGEST).read_to_string(&mut text).ok()?;
    Some(text)
}

/// Reads the rest of the file into `sink`.
fn transfer(
    agent: &Agent,
    settings: &Settings,
    url: &str,
    sink: &mut Sink,
    expected: &Expected,
    advanced: &mut dyn FnMut(u64, Option<u64>),
) -> Result<(), Cause> {
    let start = sink.len();
    if start > 0 && expected.size == Some(start) {
        return Ok(());
    }
    let mut request = authorized(agent.get(url), settings);
    if start > 0 {
        request = request.header("range", format!("bytes={start}-"));
    }
    let mut response = request.call().map_err(|e| connection(url, settings, e))?;
    if start > 0 && !continues_at(&response, start) {
        // All of it (the range was ignored), or the wrong part. Any other answer is an error below,
        // and what is here stays for the next run.
        match response.status() {
            StatusCode::OK => sink.restart()?,
            StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE => {
                sink.restart()?;
                return transfer(agent, settings, url, sink, expected, advanced);
            }
            _ => {}
        }
    }
    check_status(url, &response)?;
    let total = expected.size;
    // ureq wraps its own errors for a reader; `from` unwraps them.
    let broken = |e: io::Error| connection(url, settings, ureq::Error::from(e));
    let mut body = response.body_mut().as_reader();
    sink.fill(&mut body, expected, broken, |done| advanced(done, total))
}

/// Whether the server sends what follows the first `start` bytes, and not something else.
fn continues_at(response: &Response<Body>, start: u64) -> bool {
    response.status() == StatusCode::PARTIAL_CONTENT
        && header(response.headers(), "content-range")
            .is_some_and(|range| range.starts_with(&format!("bytes {start}-")))
}

fn authorized<T>(request: ureq::RequestBuilder<T>, settings: &Settings) -> ureq::RequestBuilder<T> {
    match &settings.token {
        Some(token) => request.header("authorization", format!("Bearer {}", token.trim())),
        None => request,
    }
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn check_status(url: &str, response: &Response<Body>) -> Result<(), Cause> {
    let status = response.status();
    if status.is_success() {
        return Ok(());
    }
    let hint = match status.as_u16() {
        401 => " (no such repository, or one that wants a token in HF_TOKEN)",
        403 => " (the token in HF_TOKEN may not read it, or its terms were not accepted)",
        404 => " (no such repository, revision or file)",
        429 => " (too many requests; try later, or set HF_TOKEN)",
        _ => "",
    };
    Err(Cause::Status { url: url.into(), status: status.as_u16(), hint })
}

/// `https://host` of `https://host/path`.
fn origin(url: &str) -> &str {
    let host = url.find("://").map_or(0, |at| at.saturating_add(3));
    let end = url.get(host..).and_then(|rest| rest.find('/')).map(|at| host.saturating_add(at));
    end.and_then(|end| url.get(..end)).unwrap_or(url)
}

fn connection(url: &str, settings: &Settings, error: ureq::Error) -> Cause {
    match error {
        ureq::Error::Timeout(ureq::Timeout::PerRead | ureq::Timeout::RecvResponse) => {
            Cause::Stalled(settings.stall)
        }
        error => {
            let problem = problem(&error);
            Cause::Connection { problem, url: url.into(), source: Box::new(error) }
        }
    }
}

/// What went wrong, and what may help.
fn problem(error: &ureq::Error) -> &'static str {
    use io::ErrorKind as Kind;

    const BROKEN: &str = "the connection broke off; run it again, it goes on where it stopped";
    const UNREACHABLE: &str = "the server cannot be reached; check the network, the proxy \
                               (HTTPS_PROXY) and HF_ENDPOINT";
    match error {
        ureq::Error::HostNotFound => {
            "there is no network, or no server of this name; check the network, the proxy \
             (HTTPS_PROXY) and HF_ENDPOINT"
        }
        ureq::Error::Timeout(ureq::Timeout::Resolve | ureq::Timeout::Connect)
        | ureq::Error::ConnectionFailed => UNREACHABLE,
        ureq::Error::Timeout(_) => "the server took too long; try again later",
        ureq::Error::Io(error) => match error.kind() {
            Kind::ConnectionReset
            | Kind::ConnectionAborted
            | Kind::BrokenPipe
            | Kind::UnexpectedEof => BROKEN,
            Kind::TimedOut | Kind::WouldBlock => "the server took too long; try again later",
            Kind::ConnectionRefused
            | Kind::NetworkUnreachable
            | Kind::NetworkDown
            | Kind::HostUnreachable
            | Kind::AddrNotAvailable => UNREACHABLE,
            _ => "the connection failed",
        },
        ureq::Error::Tls(_) | ureq::Error::Rustls(_) | ureq::Error::TlsRequired => {
            "there is no trusted connection; check the clock and the certificates of this machine"
        }
        ureq::Error::InvalidProxyUrl | ureq::Error::ConnectProxyFailed(_) => {
            "the proxy does not connect; check HTTPS_PROXY"
        }
        ureq::Error::Protocol(_) => "the server does not answer as one of the web should",
        ureq::Error::BadUri(_) | ureq::Error::Http(_) => "this is no address; check HF_ENDPOINT",
        _ => "the request failed",
    }
}
