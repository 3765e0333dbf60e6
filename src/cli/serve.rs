//! `polychord serve`: an OpenAI-compatible server.

use std::io::Write as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytesize::ByteSize;
use polychord::api::Engine;
use polychord::hub::ModelRef;
use polychord::model::{Error, Model, SessionOptions, Transformer};
use polychord::serve::scheduler::SchedulerOptions;
use polychord::serve::{Server, ServerOptions};

use super::Failure;
use super::engine::EngineArgs;
use super::load::open;
use super::model::FindArgs;
use super::session::SessionArgs;
use super::template::{TemplateArg, tell};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A model, and the name that clients give: `NAME=MODEL`, or a model as `generate` takes it. May be
    /// given several times: the first is loaded at the start, others when they are asked for
    #[arg(short, long, value_name = "[NAME=]MODEL")]
    model: Vec<Named>,

    #[command(flatten)]
    find: FindArgs,

    #[command(flatten)]
    engine: EngineArgs,

    #[command(flatten)]
    template: TemplateArg,

    #[command(flatten)]
    session: SessionArgs,

    /// Most answers that are computed at the same time, each in guests of its own
    #[arg(long, value_name = "N", default_value_t = 4)]
    parallel: usize,

    /// Most answers that wait; what comes then is refused
    #[arg(long, value_name = "N", default_value_t = 64)]
    waiting: usize,

    /// Most bytes of all answers' guests beside the weights, for each model (such as 4GiB)
    #[arg(long, value_name = "SIZE")]
    memory: Option<ByteSize>,

    /// Most bytes of conversations that wait while others have their guests, for each model (such as 1GiB):
    /// compressed, and taken up again bit for bit. Without it they are computed again
    #[arg(long, value_name = "SIZE")]
    idle: Option<ByteSize>,

    /// Keep these conversations in files in this folder, not in memory. The files have no names, and end
    /// with the server
    #[arg(long, value_name = "FOLDER", requires = "idle")]
    idle_folder: Option<PathBuf>,

    /// Make a receipt of each answer, and keep this many bytes of the newest ones, for each model (such as 64MiB):
    /// `system_fingerprint` is the digest, and GET /v1/receipts/DIGEST has the receipt for `polychord verify`
    #[arg(long, value_name = "SIZE")]
    receipts: Option<ByteSize>,

    /// Longest time of one stage of the guest, in milliseconds: a guest that takes longer ends its
    /// request
    #[arg(long, value_name = "MS")]
    call_time: Option<u64>,

    /// The address to listen on; other machines reach 0.0.0.0
    #[arg(long, default_value = "127.0.0.1")]
    host: IpAddr,

    /// The port to listen on; 0 is any that is free
    #[arg(long, default_value_t = 8080)]
    port: u16,

    /// A file with an API key in each line, of which clients have to give one. A single key can be in
    /// the variable POLYCHORD_API_KEY
    #[arg(long, value_name = "FILE")]
    api_key_file: Option<PathBuf>,

    /// Let pages of this origin call the server (`https://example.org`, or `*`)
    #[arg(long, value_name = "ORIGIN")]
    cors_origin: Vec<String>,

    /// Serve the page that computes in the browser, too, at /demo/, with the first model: its folder, which
    /// is `web` in the repository (`scripts/build-web`)
    #[arg(long, value_name = "FOLDER", num_args = 0..=1, default_missing_value = "web")]
    web: Option<PathBuf>,

    /// Longest time of an answer, with its time in the queue, in seconds
    #[arg(long, value_name = "S", default_value_t = 600)]
    answer_time: u64,

    /// How long answers may still take after SIGTERM or Ctrl-C, in seconds
    #[arg(long, value_name = "S", default_value_t = 30)]
    drain: u64,
}

/// A model, and its name.
#[derive(Clone, Debug)]
struct Named {
    name: Option<String>,
    model: ModelRef,
}

impl FromStr for Named {
    type Err = polychord::hub::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // A path may have a `=` in it, but hardly before a name's end.
        let (name, model) = match text.split_once('=') {
            Some((name, model)) if !name.is_empty() && !name.contains(['/', ':']) => {
                (Some(name.to_owned()), model)
            }
            _ => (None, text),
        };
        Ok(Self { name, model: model.parse()? })
    }
}

/// Serves until it is told to end.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let engine = args.engine.open()?;
    let default = [Named { name: None, model: ModelRef::Default }];
    let models = if args.model.is_empty() { &default[..] } else { &args.model };
    let shared = Arc::new(OnceLock::new());
    // Fetched now, so that no request waits for it.
    let found = models.iter().map(|named| args.find.find(&named.model));
    let paths = found.collect::<Result<Vec<_>, _>>()?;
    let mut server = Server::new(args.options().web_model(paths.first().cloned()));
    for (Named { name, .. }, path) in models.iter().zip(paths) {
        let name = name.clone().unwrap_or_else(|| name_of(&path));
        server = server.model(name, args.load(&engine, path, shared.clone())?);
    }
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.map_err(|error| format!("no threads for the server: {error}"))?.block_on(async {
        let bound = server.bind().await?;
        writeln!(std::io::stderr(), "listening on http://{}", bound.address())?;
        if args.web.is_some() {
            writeln!(
                std::io::stderr(),
                "the page for browsers: http://localhost:{}/demo/",
                bound.address().port()
            )?;
        }
        bound.run(told_to_end()).await?;
        Ok(())
    })
}

impl Args {
    fn options(&self) -> ServerOptions {
        let key = std::env::var("POLYCHORD_API_KEY").ok().filter(|key| !key.is_empty());
        let scheduler = SchedulerOptions::new()
            .parallel(self.parallel)
            .waiting(self.waiting)
            .memory_bytes(self.memory.map(|size| size.as_u64()))
            .idle_bytes(self.idle.map(|size| size.as_u64()))
            .idle_folder(self.idle_folder.clone())
            .receipt_bytes(self.receipts.map(|size| size.as_u64()));
        ServerOptions::new()
            .address((self.host, self.port))
            .api_key_file(self.api_key_file.clone())
            .api_keys(key)
            .cors_origins(self.cors_origin.iter().cloned())
            .web_folder(self.web.clone())
            .answer_time(Duration::from_secs(self.answer_time))
            .drain(Duration::from_secs(self.drain))
            .scheduler(scheduler)
    }

    /// How a model is loaded; all of them share the compiled guest.
    #[allow(clippy::type_complexity, reason = "what a server takes")]
    fn load(
        &self,
        engine: &Arc<dyn Engine>,
        path: PathBuf,
        shared: Arc<OnceLock<Arc<Transformer>>>,
    ) -> Result<
        impl Fn() -> Result<(Arc<Transformer>, Model, SessionOptions), Error> + use<>,
        Failure,
    > {
        let options = self.session.options()?.call_time(self.call_time.map(Duration::from_millis));
        let (engine, load, guest) = (engine.clone(), self.session.load, self.session.guest);
        let template = self.template.read()?;
        Ok(move || {
            let mut model = open(&path, load)?;
            if let Some(given) = &template {
                model = model.with_chat_template(given)?;
            }
            // A model without one still completes texts.
            if let Some(note) =
                model.chat_template().ok().and_then(|it| it.note().map(str::to_owned))
            {
                _ = tell(&note);
            }
            let transformer = match shared.get() {
                Some(transformer) => transformer.clone(),
                None => {
                    let made = Arc::new(Transformer::with_flavor(&engine, guest)?);
                    shared.get_or_init(|| made).clone()
                }
            };
            Ok((transformer, model, options.clone()))
        })
    }
}

/// The name of a file without its end.
fn name_of(path: &Path) -> String {
    path.file_stem().map_or_else(|| "model".to_owned(), |name| name.to_string_lossy().into_owned())
}

/// Ctrl-C, and what service managers send.
#[cfg(unix)]
async fn told_to_end() {
    use tokio::signal::unix::{SignalKind, signal};

    let interrupted = tokio::signal::ctrl_c();
    match signal(SignalKind::terminate()) {
        Ok(mut terminated) => {
            tokio::select! {
                _ = interrupted => {}
                _ = terminated.recv() => {}
            }
        }
        Err(_) => _ = interrupted.await,
    }
}

#[cfg(not(unix))]
async fn told_to_end() {
    // Without it there is no way to end but by force.
    _ = tokio::signal::ctrl_c().await;
}
