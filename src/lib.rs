//! One WebAssembly guest, many engines.
//!
//! Polychord runs large-memory WebAssembly guests, first of all the inference of language
//! models, on Wasmer, Wasmtime and WasmEdge behind one set of traits, with the same results to
//! the last bit.
//!
//! ```no_run
//! use polychord::model::{Chat, GenerateOptions, Model, SessionOptions, Transformer};
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let path = std::env::args().nth(1).ok_or("usage: chat MODEL.gguf")?;
//!     let engine = polychord::open("wasmer")?;
//!     let model = Model::open(path)?;
//!     let session = Transformer::new(&engine)?.start(&model, &SessionOptions::new())?;
//!     let mut chat = Chat::new(session)?;
//!     let options = GenerateOptions::new().max_tokens(60);
//!     for question in ["Explain in one sentence what a language model is.", "What can I use one for?"]
//!     {
//!         chat.user(question)?;
//!         println!("> {question}");
//!         for token in chat.answer(&options)? {
//!             print!("{}", token?.text);
//!         }
//!         println!("\n[{:?}]", chat.finish());
//!     }
//!     Ok(())
//! }
//! ```
//!
//! # The data path
//!
//! ```text
//!  model.gguf            prompt                                      text
//!      │                   │                                           ▲
//!      │                   ▼                                           │
//!  ┌───┴────┐  header  ┌───────────────────────────────────────────────┴───┐
//!  │ Source ├─────────►│ model      GGUF, tokenizer, chat, sampling        │
//!  └───┬────┘          │ session    placement, evaluation, answers         │
//!      │               └───┬───────────────────────────────────────▲───────┘
//!      │                   │ plan, calls                           │ logits
//!      │ layers        ┌───▼───────────────────────────────────────┴───────┐
//!      ├──────────────►│ api        validates, registers, loads, counts    │
//!      │               ├─ ─ ─ ─ ─ ─ ─ ─ ─ ─ spi ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─┤
//!      │               │ backends   wasmer   │   wasmtime   │   wasmedge   │
//!      │               └───┬───────────────────────────────────────▲───────┘
//!      │                   │ one module of WebAssembly             │ logits
//!      │ pages, mapped ┌───▼───────────────────────────────────────┴───────┐
//!      └──────────────►│ guest      weights │ keys and values │ activations│
//!        or copied     └───────────────────────────────────────────────────┘
//! ```
//!
//! Above the line `spi` nothing knows which engine runs; below it nothing decides. The guest knows
//! neither engine nor file: it asks for the address of each layer. Logits are read where the guest
//! has them.
//!
//! # Who validates what
//!
//! | what | validated by | before |
//! | --- | --- | --- |
//! | header of a model file | [`model::gguf`] | anything is allocated for it |
//! | shape of the network, each tensor | [`model::config`], and again the guest | a plan is made |
//! | plans, from wherever they come | [`Plan::from_json`](api::Plan::from_json), [`Plan::validate`](api::Plan::validate) | a guest is started |
//! | options of a session | [`Transformer::start`](model::Transformer::start) | a guest is started |
//! | modules: syntax, types, imports, features, cost | [`Engine::compile`](api::Engine::compile) | the engine sees a byte |
//! | what an engine claims | the conformance suite, with engines that are wrong on purpose | a release |
//! | limits of memory and time | [`Module::instantiate`](api::Module::instantiate); kept by the engine | the guest runs |
//! | layers: place, source, overlap | [`Runtime::register_layer`](api::Runtime::register_layer) | a byte moves |
//! | names and types of a call | [`Runtime::call`](api::Runtime::call) | the engine is called |
//! | pointers that a guest passes | [`api::imports`], against its memory as it is then | a byte is read |
//! | options of an answer | [`model::Sampling`], [`model::GenerateOptions`] | the first token |
//!
//! # Modules
//!
//! | module | has |
//! | --- | --- |
//! | [`model`] | models, sessions, answers: [`Model`](model::Model), [`Transformer`](model::Transformer), [`Session`](model::Session), [`Chat`](model::Chat), [`Generator`](model::Generator) |
//! | [`receipts`] | snapshots and receipts as data: [`Receipt`](receipts::Receipt), [`Key`](receipts::Key) |
//! | [`api`] | guests of one's own: [`Engine`](api::Engine), [`Module`](api::Module), [`Runtime`](api::Runtime), [`Plan`](api::Plan) |
//! | [`api::spi`] | what the backend of an engine implements |
//! | [`api::abi`] | what guests import |
#![cfg_attr(feature = "hub", doc = "| [`hub`] | the model cache, by the feature `hub` |")]
#![cfg_attr(
    feature = "serve",
    doc = "| [`serve`] | an OpenAI-compatible server, by the feature `serve` |"
)]
#![cfg_attr(
    all(feature = "isolate", target_os = "linux"),
    doc = "| [`isolate`] | sessions in a process that may only compute, by the feature `isolate` |"
)]
#![cfg_attr(
    feature = "wasi",
    doc = "| [`wasi`] | WASI for guests of one's own, by the feature `wasi` |"
)]
//! | `wasmer`, `wasmtime`, `wasmedge` | one engine each, by the feature of its name, for settings beyond [`EngineOptions`] |
//!
//! # Cookbook
//!
//! `examples/` has a program for each of these and more, which CI runs.
//!
//! **Start a session within limits.** What the guests need is known before they start.
//!
//! ```no_run
//! use std::time::Duration;
//! # use polychord::model::{Error, Model, Session, SessionOptions, Transformer};
//! # fn run(model: &Model, transformer: &Transformer) -> Result<Session, Error> {
//! let options = SessionOptions::new()
//!     .context(2048)
//!     .memory_bytes(512 << 20)
//!     .call_time(Duration::from_secs(5));
//! transformer.start(model, &options)
//! # }
//! ```
//!
//! **End an answer**: by length, text, time, or from another thread.
//!
//! ```no_run
//! use std::time::Duration;
//! # use polychord::model::{CancelHandle, Chat, Error, Finish, GenerateOptions};
//! # fn run(chat: &mut Chat) -> Result<(), Error> {
//! let cancel = CancelHandle::new(); // clones share it, in any thread
//! let options = GenerateOptions::new()
//!     .max_tokens(200)
//!     .stop(["\n\n"])
//!     .deadline(Duration::from_secs(20))
//!     .cancel(&cancel);
//! for token in chat.answer(&options)? {
//!     print!("{}", token?.text);
//! }
//! match chat.finish() {
//!     Some(Finish::Cancelled | Finish::Deadline) => println!("[stopped]"),
//!     finish => println!("[{finish:?}]"),
//! }
//! # Ok(())
//! # }
//! ```
//!
//! **Map weights** in place of copying them. No program may write to the file meanwhile.
//!
//! ```no_run
//! # use polychord::model::{Error, Model};
//! # fn run() -> Result<Model, Error> {
//! // SAFETY: our models are read-only, and replaced by renaming alone.
//! let model = unsafe { Model::open_mapped("/var/lib/models/model.gguf")? };
//! # Ok(model)
//! # }
//! ```
//!
//! **Try another end** of the same beginning.
//!
//! ```no_run
//! # use polychord::model::{Error, Session};
//! # fn run(session: &mut Session, prompt: &[u32], other: &[u32]) -> Result<(), Error> {
//! session.eval(prompt)?;
//! let beginning = session.position();
//! session.eval(&[7])?;
//! session.truncate(beginning)?;
//! session.eval(other)?; // the bits of a session that has never seen token 7
//! # Ok(())
//! # }
//! ```
//!
//! **Use more than memory has**, or several processors. The logits stay the same.
//!
//! ```no_run
//! # use polychord::api::Policy;
//! # use polychord::model::{Placement, Ranks, SessionOptions};
//! let resident_bytes = Some(6 << 30);
//! let paged = Placement::Paged { resident_bytes, policy: Policy::default() };
//! let options = SessionOptions::new().placement(paged).ranks(Ranks::Auto);
//! # let _ = options;
//! ```
//!
//! **Store a plan**, and carry it out elsewhere.
//!
//! ```no_run
//! use polychord::api::Plan;
//! use polychord::model::{Placement, SessionOptions};
//! # use polychord::model::Model;
//! # fn run(model: &Model) -> Result<(), Box<dyn std::error::Error>> {
//! # let engine = polychord::open("wasmer")?;
//! let placed = model.place(&SessionOptions::new(), engine.capabilities())?;
//! let json = serde_json::to_string(&placed.plan)?;
//! let plan = Plan::from_json(&json)?; // checked
//! let options = SessionOptions::new().placement(Placement::Planned(plan));
//! # Ok(())
//! # }
//! ```
//!
//! **Run a guest of your own.**
//!
//! ```
//! use polychord::api::{Limits, Value};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let Some(name) = polychord::default_engine() else { return Ok(()) };
//! let wasm = wat::parse_str(
//!     r#"(module (memory (export "memory") 1)
//!         (func (export "double") (param i32) (result i32)
//!             (i32.mul (local.get 0) (i32.const 2))))"#,
//! )?;
//! let engine = polychord::open(name)?;
//! let limits = Limits::default().memory_bytes(1 << 20);
//! let mut guest = engine.compile(&wasm)?.instantiate(&limits)?;
//! assert_eq!(guest.call("double", &[Value::I32(21)])?, [Value::I32(42)]);
//! # Ok(())
//! # }
//! ```
//!
//! **Run a WASI command**, with a directory and nothing else of this machine (the feature `wasi`).
//!
//! ```no_run
//! # #[cfg(feature = "wasi")]
//! # fn run(wasm: &[u8]) -> Result<(), Box<dyn std::error::Error>> {
//! use polychord::api::imports::Imports;
//! use polychord::api::{Error, Instantiation, Limits};
//! use polychord::wasi::{self, Access, Output, Wasi, WasiBuilder};
//!
//! let mut imports = Imports::new();
//! wasi::add_to_imports::<Wasi>(&mut imports)?;
//! let context = WasiBuilder::new()
//!     .args(["wc", "/data/log"])
//!     .directory("/var/log/mine", "/data", Access::ReadOnly)
//!     .stdout(Output::Captured)
//!     .build()?;
//! let start = Instantiation::new(&Limits::default()).imports(&imports).state(context);
//! let mut guest = polychord::open("wasmtime")?.compile(wasm)?.instantiate_with(start)?;
//! match guest.call("_start", &[]) {
//!     Ok(_) | Err(Error::Exit { code: 0 }) => {}
//!     Err(error) => return Err(error.into()),
//! }
//! let output = guest.state::<Wasi>().map(Wasi::stdout).unwrap_or_default();
//! println!("{}", String::from_utf8_lossy(&output));
//! # Ok(())
//! # }
//! ```
//!
//! **Ask what an engine can do** before you rely on it.
//!
//! ```
//! use polychord::api::Requirements;
//!
//! let mut needs = Requirements::default();
//! needs.mapping = true;
//! needs.time_limit = true;
//! for name in polychord::available() {
//!     match polychord::open(name).map(|engine| needs.check(engine.capabilities())) {
//!         Ok(Ok(())) => println!("{name} will do"),
//!         Ok(Err(unmet)) => println!("{unmet}"), // all that is missing, not only the first
//!         Err(error) => println!("{error}"),
//!     }
//! }
//! ```

mod engines;

/// GGUF models: headers, tokenizers, chat templates and sampling, and the sessions that run them.
///
/// [`Model`](model::Model) is a file, [`Transformer`](model::Transformer) the guest that computes,
/// [`Session`](model::Session) the two of them with the tokens that were seen. Text comes from a
/// [`Chat`](model::Chat) or a [`Generator`](model::Generator).
pub mod model {
    pub use polychord_model::{
        Activations, CacheType, Sampling, UnevenRow, chat, config, descriptor, gguf, layout,
        sampler, tokenizer,
    };
    pub use polychord_session::*;
}

pub use engines::{
    Choice, ENGINES, EngineEntry, EngineOptions, OpenError, Variant, available, default_engine,
    entry, open,
};
#[cfg(feature = "wasmedge")]
pub use polychord_backend_wasmedge as wasmedge;
#[cfg(feature = "wasmer")]
pub use polychord_backend_wasmer as wasmer;
#[cfg(feature = "wasmtime")]
pub use polychord_backend_wasmtime as wasmtime;
pub use polychord_code_cache as code_cache;
#[cfg(feature = "hub")]
pub use polychord_hub as hub;
#[cfg(all(feature = "isolate", target_os = "linux"))]
pub use polychord_isolate as isolate;
pub use polychord_receipts as receipts;
pub use polychord_runtime_api as api;
#[cfg(feature = "serve")]
pub use polychord_serve as serve;
#[cfg(feature = "wasi")]
pub use polychord_wasi as wasi;
