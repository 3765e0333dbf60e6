//! What threads do to each other in every order that there is, as loom finds them: the barrier of ranks, the switch
//! that stops a guest, the watchdog, and the thread that reads layers ahead.
//!
//! The files are those of `runtime-api`, with loom's locks, conditions and atomics in place of the standard library's.
//! A model that fails panics, and says what each thread did. `cargo run --release`, in this folder.
#![allow(dead_code, reason = "of the shared files a part is used")]

use std::process::ExitCode;
use std::time::Instant;

mod models;
mod stand_in;
mod sync;

use stand_in::{Error, Result, TrapKind};

/// Where the barrier looks for it.
mod ranks {
    pub(super) mod transport {
        pub(crate) use crate::stand_in::{Deadline, Failure};
    }
}

/// Where the reader of layers looks for it.
mod layers {
    pub(super) mod source {
        pub(crate) use crate::stand_in::Source;
    }
}

fn main() -> ExitCode {
    let chosen: Vec<_> = std::env::args().skip(1).collect();
    for (name, model) in models::ALL {
        if !chosen.is_empty() && !chosen.iter().any(|it| name.contains(it.as_str())) {
            continue;
        }
        let start = Instant::now();
        let orders = models::check(*model);
        println!("{name}: {orders} orders, {:.1} s", start.elapsed().as_secs_f64());
    }
    ExitCode::SUCCESS
}
