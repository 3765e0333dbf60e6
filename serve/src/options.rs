//! What an operator decides.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use crate::scheduler::SchedulerOptions;

/// How a server listens, and what it allows.
///
/// ```
/// use std::time::Duration;
///
/// use polychord_serve::ServerOptions;
///
/// let options = ServerOptions::new().max_body_bytes(64 << 10).drain(Duration::from_secs(5));
/// assert!(options.address.ip().is_loopback());
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ServerOptions {
    /// Where it listens; port 8080 of the loopback interface by default.
    pub address: SocketAddr,
    /// A file with an API key in each line; without one, and without `api_keys`, none is needed.
    pub api_key_file: Option<PathBuf>,
    /// Keys that clients may give.
    pub api_keys: Vec<String>,
    /// Origins whose pages may call the server; none by default, and `*` is all.
    pub cors_origins: Vec<String>,
    /// Most bytes of a request's body; 1 MiB by default.
    pub max_body_bytes: usize,
    /// Most connections at once; 512 by default. Others wait in the system's queue.
    pub max_connections: usize,
    /// Longest time for a request's headers; 10 seconds by default.
    pub header_time: Duration,
    /// How long bytes may wait for a client that does not take them, before its connection ends; 60 seconds by
    /// default. Where the system has no such limit, only clients that are gone are noticed.
    pub unread_time: Duration,
    /// Longest time for an answer, with its time in the queue; 10 minutes by default.
    pub answer_time: Duration,
    /// How long answers may still take once the server is to end; 30 seconds by default.
    pub drain: Duration,
    /// How each model's answers share the machine.
    pub scheduler: SchedulerOptions,
    /// The folder of the package `@polychord/web`, whose page is then at `/demo/`; none by default.
    pub web_folder: Option<PathBuf>,
    /// A model file that this page finds by itself, for those who have a key.
    pub web_model: Option<PathBuf>,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)),
            api_key_file: None,
            api_keys: Vec::new(),
            cors_origins: Vec::new(),
            max_body_bytes: 1 << 20,
            max_connections: 512,
            header_time: Duration::from_secs(10),
            unread_time: Duration::from_secs(60),
            answer_time: Duration::from_secs(600),
            drain: Duration::from_secs(30),
            scheduler: SchedulerOptions::default(),
            web_folder: None,
            web_model: None,
        }
    }
}

impl ServerOptions {
    /// The defaults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets where it listens.
    #[must_use]
    pub fn address(mut self, address: impl Into<SocketAddr>) -> Self {
        self.address = address.into();
        self
    }

    /// Sets the file with an API key in each line.
    #[must_use]
    pub fn api_key_file(mut self, path: impl Into<Option<PathBuf>>) -> Self {
        self.api_key_file = path.into();
        self
    }

    /// Sets keys that clients may give.
    #[must_use]
    pub fn api_keys<T: Into<String>>(mut self, keys: impl IntoIterator<Item = T>) -> Self {
        self.api_keys = keys.into_iter().map(Into::into).collect();
        self
    }

    /// Sets the origins whose pages may call the server.
    #[must_use]
    pub fn cors_origins<T: Into<String>>(mut self, origins: impl IntoIterator<Item = T>) -> Self {
        self.cors_origins = origins.into_iter().map(Into::into).collect();
        self
    }

    /// Sets the most bytes of a request's body.
    #[must_use]
    pub const fn max_body_bytes(mut self, most: usize) -> Self {
        self.max_body_bytes = most;
        self
    }

    /// Sets the most connections at once.
    #[must_use]
    pub const fn max_connections(mut self, most: usize) -> Self {
        self.max_connections = most;
        self
    }

    /// Sets the longest time for a request's headers.
    #[must_use]
    pub const fn header_time(mut self, most: Duration) -> Self {
        self.header_time = most;
        self
    }

    /// Sets how long bytes may wait for a client that does not take them.
    #[must_use]
    pub const fn unread_time(mut self, most: Duration) -> Self {
        self.unread_time = most;
        self
    }

    /// Sets the longest time for an answer.
    #[must_use]
    pub const fn answer_time(mut self, most: Duration) -> Self {
        self.answer_time = most;
        self
    }

    /// Sets how long answers may still take once the server is to end.
    #[must_use]
    pub const fn drain(mut self, most: Duration) -> Self {
        self.drain = most;
        self
    }

    /// Sets how each model's answers share the machine.
    #[must_use]
    pub fn scheduler(mut self, options: SchedulerOptions) -> Self {
        self.scheduler = options;
        self
    }

    /// Sets the folder of the page that computes in browsers.
    #[must_use]
    pub fn web_folder(mut self, folder: impl Into<Option<PathBuf>>) -> Self {
        self.web_folder = folder.into();
        self
    }

    /// Sets the model file that this page finds by itself.
    #[must_use]
    pub fn web_model(mut self, path: impl Into<Option<PathBuf>>) -> Self {
        self.web_model = path.into();
        self
    }
}
