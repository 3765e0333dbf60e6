//! Keeps WasmEdge's signal handlers in place for as long as the process lives.
//!
//! WasmEdge counts the compiled calls that run, in all threads: the first one sets its signal
//! handlers, and the last one to end resets them. It does neither under a lock, so that a call
//! which begins while the last one ends may run without handlers, and its next trap ends the
//! process. One call that never ends, in a thread that sleeps, keeps the count above zero.
//!
//! LLVM sets handlers, too, when it first links in a process. Called by the trap of a guest, they
//! remove the file that another thread is linking, and more than one at a time ends the process.
//! It takes the signals of the program, too, such as SIGINT, SIGTERM and SIGUSR1. So LLVM links
//! once before WasmEdge sets its handlers, and the handlers from before are restored: LLVM sets its
//! own once for a process.

use std::sync::{Mutex, PoisonError, mpsc};
use std::thread;

use polychord_runtime_api::Result;
use wasmedge_sdk::error::CoreError;
use wasmedge_sdk::{
    CallingFrame, FuncType, ImportObjectBuilder, Instance, Module, Store, WasmEdgeResult, WasmValue,
};

use crate::aot::Cache;
use crate::config::{MAX_PAGES64, Mode, runtime_config};
use crate::error;
use crate::executor::Executor;
use crate::handlers::Handlers;
use crate::memory::ExportedFunction;

/// `(module (import "k" "w" (func)) (func (export "f") (call 0)))`
const GUEST: &[u8] = b"\0asm\x01\0\0\0\
    \x01\x04\x01\x60\0\0\
    \x02\x07\x01\x01k\x01w\0\0\
    \x03\x02\x01\0\
    \x07\x05\x01\x01f\0\x01\
    \x0a\x06\x01\x04\0\x10\0\x0b";

/// Told when the call has begun.
type Begun = mpsc::Sender<()>;

/// Begins the call that never ends, if this is the first time.
pub(crate) fn start(cache: &Cache) -> Result<()> {
    // Whether LLVM has linked in this process, once the call has begun.
    static STARTED: Mutex<Option<bool>> = Mutex::new(None);
    let mut started = STARTED.lock().unwrap_or_else(PoisonError::into_inner);
    let compiles_here = cache.compiles_here();
    match *started {
        Some(false) if compiles_here => {
            return Err(error::compile(
                "an engine with a compiler command came first, and LLVM in this process would \
                 replace WasmEdge's signal handlers: give all engines of a process such a \
                 command, or none",
            ));
        }
        Some(_) => return Ok(()),
        None if compiles_here => {
            // SIGINT, SIGTERM, SIGUSR1 and others belong to the program that embeds us.
            let _handlers = Handlers::now();
            cache.compile_and_discard(GUEST)?;
        }
        None => {}
    }
    let module = cache.within("keeper")?.load(GUEST)?;
    let config = runtime_config(Mode::Aot, MAX_PAGES64)?;
    let (begun, has_begun) = mpsc::channel();
    thread::Builder::new()
        .name("wasmedge keeper".into())
        .spawn(move || sleep_in_guest(&config, &module, begun))
        .map_err(|e| error::compile(&format!("a thread cannot be started: {e}")))?;
    // Fails when the thread has ended, which it does only if something is wrong.
    has_begun
        .recv()
        .map_err(|_| error::compile("WasmEdge cannot run the module that it compiled"))?;
    *started = Some(compiles_here);
    Ok(())
}

#[allow(unsafe_code, reason = "the contract of the executor module is met here")]
fn sleep_in_guest(
    config: &wasmedge_sdk::config::Config,
    module: &Module,
    begun: Begun,
) -> WasmEdgeResult<()> {
    let mut builder = ImportObjectBuilder::new("k", begun)?;
    builder.with_func_by_type("w", FuncType::new(Vec::new(), Vec::new()), sleep)?;
    let mut imports = builder.build();
    let mut store = Store::new(Some(config), [("k".to_owned(), &mut imports)].into())?;
    let instance = store.register_active_module(module)?;
    let function = ExportedFunction::find(&instance, "f");
    if let (Some(function), Some(executor)) = (function, Executor::new()) {
        // SAFETY: the function has neither arguments nor results, and `instance` lives until the
        // end of this one.
        _ = unsafe { executor.invoke(function, &[], &mut []) };
    }
    Ok(())
}

fn sleep(
    begun: &mut Begun,
    _: &mut Instance,
    _: &mut CallingFrame,
    _: Vec<WasmValue>,
) -> Result<Vec<WasmValue>, CoreError> {
    _ = begun.send(());
    loop {
        thread::park();
    }
}
