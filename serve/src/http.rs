//! The HTTP API.
//!
//! - `app`: models and what all requests share; `connections`: what a client may take of the machine.
//! - `request`: what clients send; `read`: reading it; `failure`: errors in `OpenAI`'s form.
//! - `chat`, `completions`, `embeddings`, `models`, `receipts`, `tokens`, `state`: a path each, or a few.
//! - `page`, `site`: pages that talk to the model, and that compute in the browser.
//! - `choice`, `stream`: answers as JSON, at once or token by token.
//! - `fuzzing`: what a fuzz target calls.

mod app;
mod auth;
mod chat;
mod choice;
mod completions;
mod connections;
mod embeddings;
mod failure;
#[cfg(fuzzing)]
pub mod fuzzing;
mod models;
mod page;
mod prepare;
mod read;
mod receipts;
mod request;
mod router;
mod site;
mod state;
mod stream;
mod tokens;

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpListener;

use self::app::{App, Load, Loaded};
use crate::error::{Error, Result};
use crate::options::ServerOptions;

/// An OpenAI-compatible server of one model or several.
///
/// ```no_run
/// use std::sync::Arc;
///
/// use polychord_serve::{Server, ServerOptions};
/// use polychord_session::{Model, SessionOptions, Transformer};
///
/// async fn serve(transformer: Arc<Transformer>) -> Result<(), polychord_serve::Error> {
///     let load = move || Ok((transformer.clone(), Model::open("model.gguf")?, SessionOptions::new()));
///     let bound = Server::new(ServerOptions::new()).model("tiny", load).bind().await?;
///     println!("http://{}", bound.address());
///     bound.run(std::future::pending()).await
/// }
/// ```
pub struct Server {
    options: ServerOptions,
    models: Vec<(String, Load)>,
}

/// A server that listens, and has its first model loaded.
///
/// ```no_run
/// async fn start(server: polychord_serve::Server) -> Result<(), polychord_serve::Error> {
///     let bound = server.bind().await?;
///     println!("http://{}", bound.address());
///     bound.run(std::future::pending()).await
/// }
/// ```
pub struct Bound {
    listener: TcpListener,
    address: SocketAddr,
    app: Arc<App>,
}

impl Server {
    /// A server of no model yet.
    #[must_use]
    pub const fn new(options: ServerOptions) -> Self {
        Self { options, models: Vec::new() }
    }

    /// Adds a model by the name that clients give. The first one is loaded when the server starts,
    /// and is what requests get that name none; others are loaded when they are first asked for.
    #[must_use]
    pub fn model<L>(mut self, name: impl Into<String>, load: L) -> Self
    where
        L: Fn() -> polychord_session::Result<Loaded> + Send + Sync + 'static,
    {
        self.models.push((name.into(), Box::new(load)));
        self
    }

    /// Loads the first model, and listens.
    ///
    /// # Errors
    ///
    /// [`Error::NoModel`] without a model, [`Error::Session`] and [`Error::Budget`] if it cannot be
    /// loaded, [`Error::Keys`] if the keys cannot be read, [`Error::Web`] if the folder has no page, and
    /// [`Error::Bind`] if the address cannot be bound.
    pub async fn bind(self) -> Result<Bound> {
        let Self { options, models } = self;
        let address = options.address;
        let app = Arc::new(App::new(options, models)?);
        app.first()?.load_once().await?;
        let bind = |reason| Error::Bind { address, reason };
        let listener = TcpListener::bind(address).await.map_err(bind)?;
        let address = listener.local_addr().map_err(bind)?;
        Ok(Bound { listener, address, app })
    }

    /// Serves until `end` is ready, and then until the answers have ended or their time is over.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`bind`](Self::bind).
    pub async fn run(self, end: impl Future<Output = ()> + Send) -> Result<()> {
        self.bind().await?.run(end).await
    }
}

impl Bound {
    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `end` is ready, and then until the answers have ended or their time is over.
    ///
    /// # Errors
    ///
    /// None so far: what goes wrong with a connection ends that connection.
    pub async fn run(self, end: impl Future<Output = ()> + Send) -> Result<()> {
        connections::serve(self.listener, self.app, end).await;
        Ok(())
    }
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<_> = self.models.iter().map(|(name, _)| name).collect();
        f.debug_struct("Server").field("models", &names).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Bound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bound").field("address", &self.address).finish_non_exhaustive()
    }
}
