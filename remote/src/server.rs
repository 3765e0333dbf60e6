//! One file on a server: asking for ranges of it, and doubting the answers.

use std::fmt;
use std::io::Read as _;
use std::time::{Duration, Instant};

use ureq::http::{HeaderMap, Response};
use ureq::{Agent, Body};

use crate::error::Error;
use crate::options::Options;
use crate::s3::Object;

/// A file on a server.
#[derive(Debug)]
pub(crate) struct Server {
    agent: Agent,
    pub(crate) url: String,
    /// If it is one of a bucket: requests for it are signed.
    object: Option<Object>,
    /// How long an answer may take at its start, and for each [`PIECE`].
    stall: Duration,
}

/// Bytes of a body for which a server has as long as it may be silent: one that sends a byte now and then is
/// not waited for.
const PIECE: usize = 64 << 10;

/// What a server says about a file: all answers have to say the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Meta {
    pub(crate) len: u64,
    pub(crate) validator: Validator,
}

/// What changes with the bytes of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Validator {
    ETag(String),
    LastModified(String),
}

impl Meta {
    /// As lines of a text.
    pub(crate) fn to_text(&self) -> String {
        let (kind, value) = match &self.validator {
            Validator::ETag(tag) => ("etag", tag),
            Validator::LastModified(date) => ("last-modified", date),
        };
        format!("{kind}\n{value}\n{}", self.len)
    }

    pub(crate) fn from_text(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        let (kind, value) = (lines.next()?, lines.next()?.to_owned());
        let validator = match kind {
            "etag" => Validator::ETag(value),
            "last-modified" => Validator::LastModified(value),
            _ => return None,
        };
        Some(Self { len: lines.next()?.parse().ok()?, validator })
    }
}

impl fmt::Display for Validator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ETag(tag) => write!(f, "ETag {tag}"),
            Self::LastModified(date) => write!(f, "Last-Modified {date}"),
        }
    }
}

impl Server {
    pub(crate) fn new(url: &str, options: &Options) -> Result<Self, Error> {
        let object = url.starts_with("s3://").then(|| options.s3.object(url)).transpose()?;
        let address = object.as_ref().map_or_else(|| url.to_owned(), Object::address);
        let stall = Some(options.stall);
        let config = Agent::config_builder();
        // No proxy leads to this machine itself.
        let config = if is_local(&address) { config.proxy(None) } else { config };
        let agent = config
            // What begins safely does not go on otherwise, wherever it leads.
            .https_only(address.starts_with("https://"))
            .user_agent(concat!("polychord/", env!("CARGO_PKG_VERSION")))
            .http_status_as_error(false)
            .timeout_resolve(stall)
            .timeout_connect(stall)
            .timeout_recv_response(stall)
            .timeout_per_read(stall)
            .build()
            .into();
        Ok(Self { agent, url: url.to_owned(), object, stall: options.stall })
    }

    /// What tells the file from all others: its address without a signature.
    pub(crate) fn place(&self) -> String {
        self.object.as_ref().map_or_else(|| self.url.clone(), Object::place)
    }

    /// Asks for the first `most` bytes of a file that is not known yet.
    pub(crate) fn open(&self, most: u64) -> Result<(Meta, Vec<u8>), Error> {
        let response = self.ask(0, most, None)?;
        let headers = response.headers();
        let validator =
            validator(headers).ok_or_else(|| Error::NoValidator { url: self.url.clone() })?;
        let wrong = |what: &str| self.wrong(0, most, what);
        let (start, end, len) =
            content_range(headers).ok_or_else(|| wrong("it has no sound Content-Range"))?;
        let bytes = most.min(len);
        if (start, end) != (0, bytes) {
            return Err(wrong(&format!("it says that it has bytes {start} to {end} of {len}")));
        }
        let body = self.body(response, 0, bytes)?;
        Ok((Meta { len, validator }, body))
    }

    /// Asks for bytes of a file that was opened before.
    pub(crate) fn range(&self, meta: &Meta, start: u64, end: u64) -> Result<Vec<u8>, Error> {
        let response = self.ask(start, end, Some(&meta.validator))?;
        let headers = response.headers();
        match validator(headers) {
            Some(same) if same == meta.validator => {}
            Some(other) => return Err(self.changed(format!("{other} was {}", meta.validator))),
            // It does not say which version these bytes are of.
            None => {
                let what =
                    format!("the server does not say any more that it has {}", meta.validator);
                return Err(self.changed(what));
            }
        }
        match content_range(headers) {
            Some((_, _, len)) if len != meta.len => {
                Err(self.changed(format!("it has {len} bytes, and had {}", meta.len)))
            }
            Some((from, to, _)) if (from, to) == (start, end) => self.body(response, start, end),
            other => Err(self.wrong(start, end, &format!("its Content-Range is {other:?}"))),
        }
    }

    fn ask(
        &self,
        start: u64,
        end: u64,
        validator: Option<&Validator>,
    ) -> Result<Response<Body>, Error> {
        let last = end.saturating_sub(1);
        let address = self.object.as_ref().map_or_else(|| self.url.clone(), Object::address);
        let request = self
            .agent
            .get(&address)
            .header("range", format!("bytes={start}-{last}"))
            .header("accept-encoding", "identity");
        let request = match validator {
            Some(Validator::ETag(tag)) => request.header("if-match", tag),
            Some(Validator::LastModified(date)) => request.header("if-unmodified-since", date),
            None => request,
        };
        let response = request.call().map_err(|error| self.broken(&error))?;
        let url = || self.url.clone();
        match response.status().as_u16() {
            206 => match encoding(response.headers()) {
                None => Ok(response),
                Some(other) => Err(self.wrong(start, end, &format!("it is encoded as {other}"))),
            },
            200 => match (validator, self::validator(response.headers())) {
                (Some(old), Some(new)) if *old != new => {
                    Err(self.changed(format!("{new} was {old}")))
                }
                _ => Err(Error::RangesIgnored { url: url() }),
            },
            412 => Err(self.changed("the server says so".into())),
            416 if validator.is_some() => Err(self.changed("it has become shorter".into())),
            416 => Err(self.wrong(start, end, "the file is empty, or has no ranges")),
            status @ (408 | 425 | 429 | 500..=599) => {
                Err(Error::Busy { url: url(), status, wait: retry_after(response.headers()) })
            }
            status => Err(Error::Refused { url: url(), status }),
        }
    }

    /// The body of an answer, which has exactly the bytes of the range.
    fn body(&self, mut response: Response<Body>, start: u64, end: u64) -> Result<Vec<u8>, Error> {
        let wanted = end - start;
        // No more than a block, which was asked for.
        let len = usize::try_from(wanted).unwrap_or(0);
        let mut bytes = Vec::with_capacity(len);
        let mut reader = response.body_mut().as_reader().take(wanted.saturating_add(1));
        let pieces = u32::try_from(len.div_ceil(PIECE)).unwrap_or(u32::MAX);
        let (began, most) = (Instant::now(), self.stall.saturating_mul(pieces.saturating_add(1)));
        let mut piece = vec![0; len.saturating_add(1).min(PIECE)];
        loop {
            match reader.read(&mut piece).map_err(|error| self.broken(&error.into()))? {
                0 => break,
                got => bytes.extend_from_slice(&piece[..got]),
            }
            if began.elapsed() > most {
                let reason = format!(
                    "{} of {wanted} bytes came in {:.1} s",
                    bytes.len(),
                    most.as_secs_f64()
                );
                return Err(Error::Connection { url: self.url.clone(), reason });
            }
        }
        match bytes.len() as u64 {
            got if got == wanted => Ok(bytes),
            got if got < wanted => Err(Error::Connection {
                url: self.url.clone(),
                reason: format!("{got} bytes came where {wanted} were announced"),
            }),
            _ => Err(self.wrong(
                start,
                end,
                &format!("it has more than the {wanted} bytes of the range"),
            )),
        }
    }

    fn broken(&self, error: &ureq::Error) -> Error {
        let (url, reason) = (self.url.clone(), error.to_string());
        match error {
            ureq::Error::RequireHttpsOnly(to) => {
                let reason = format!("it leads from https to {to}, which is not safe");
                Error::Address { url, reason }
            }
            ureq::Error::BadUri(_) | ureq::Error::TooManyRedirects | ureq::Error::Http(_) => {
                Error::Address { url, reason }
            }
            _ => Error::Connection { url, reason },
        }
    }

    pub(crate) fn changed(&self, what: String) -> Error {
        Error::Changed { url: self.url.clone(), what }
    }

    fn wrong(&self, start: u64, end: u64, what: &str) -> Error {
        Error::WrongRange { url: self.url.clone(), start, end, what: what.to_owned() }
    }
}

fn is_local(url: &str) -> bool {
    let host = url.split_once("://").map_or("", |(_, host)| host);
    let rest = ["127.0.0.1", "localhost", "[::1]"].iter().find_map(|it| host.strip_prefix(it));
    rest.is_some_and(|rest| rest.starts_with([':', '/']))
}

/// A weak ETag may stay when bytes change, and counts for nothing.
fn validator(headers: &HeaderMap) -> Option<Validator> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let strong = text("etag").filter(|tag| !tag.starts_with("W/") && !tag.is_empty());
    strong.map(Validator::ETag).or_else(|| text("last-modified").map(Validator::LastModified))
}

/// How a body is encoded, if it is not the bytes of the file.
fn encoding(headers: &HeaderMap) -> Option<String> {
    let all = headers.get_all("content-encoding").iter();
    let mut names = all.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    names.find(|name| !name.eq_ignore_ascii_case("identity"))
}

/// How many seconds a server asks to wait. A date would need a clock that is right.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get("retry-after")?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

/// `bytes 0-99/1234` as start, end and length, if they are possible.
fn content_range(headers: &HeaderMap) -> Option<(u64, u64, u64)> {
    let text = headers.get("content-range")?.to_str().ok()?;
    let (range, len) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let [first, last, len] = [first, last, len].map(|number| number.trim().parse::<u64>().ok());
    let (first, end, len) = (first?, last?.checked_add(1)?, len?);
    (first < end && end <= len).then_some((first, end, len))
}
