//! WASI preview 1 for guests of one's own, the same on every engine.
//!
//! A guest that a C or Rust compiler made for WASI imports functions of the module
//! `wasi_snapshot_preview1`. [`add_to_imports`] defines them, once for all guests; a [`WasiBuilder`] makes
//! the context of one guest: its arguments, environment, directories, standard streams, clocks and random
//! numbers.
//!
//! None of the engines' own implementations of WASI is used: the functions are those of `wasi-common`,
//! over the bytes of the guest's memory, and of `cap-std`, which keeps paths in their directories.
//!
//! ```
//! use polychord_runtime_api::imports::Imports;
//! use polychord_runtime_api::{Error, Instantiation, Limits, Module, Result};
//! use polychord_wasi::{Output, Wasi, WasiBuilder, add_to_imports};
//!
//! /// The exit code of a command, and what it has written.
//! fn run(module: &dyn Module, args: &[&str]) -> Result<(i32, Vec<u8>), Box<dyn std::error::Error>> {
//!     let mut imports = Imports::new(); // may serve any number of guests
//!     add_to_imports::<Wasi>(&mut imports)?;
//!     let wasi = WasiBuilder::new().args(args.iter().copied()).stdout(Output::Captured).build()?;
//!     let start = Instantiation::new(&Limits::default()).imports(&imports).state(wasi);
//!     let mut guest = module.instantiate_with(start)?;
//!     let code = match guest.call("_start", &[]) {
//!         Ok(_) => 0,
//!         Err(Error::Exit { code }) => code,
//!         Err(error) => return Err(error.into()),
//!     };
//!     Ok((code, guest.state::<Wasi>().map(Wasi::stdout).unwrap_or_default()))
//! }
//! ```
#![forbid(unsafe_code)]

mod access;
mod answer;
mod builder;
mod context;
mod directory;
mod error;
mod functions;
mod guard;
mod open;
mod random;
#[cfg(unix)]
mod stdin;
mod stdio;
mod stop;
mod time;
mod wait;

pub use access::Access;
pub use builder::WasiBuilder;
pub use context::{HasWasi, Wasi};
pub use error::{Error, Result};
pub use functions::{MODULE, add_to_imports};
pub use random::Random;
pub use stdio::{Input, Output};
pub use time::Clock;
