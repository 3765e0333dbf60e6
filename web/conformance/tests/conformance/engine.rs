//! The engine, and its compiled modules.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use polychord_conformance::Expectations;
use polychord_runtime_api::spi::{self, Item, Start, Started};
use polychord_runtime_api::{
    AddressType, Capabilities, Error, Memory64, ModuleInfo, RelaxedSimd, Result,
};

use crate::channel::Channel;
use crate::expected;
use crate::guest::{Guest, trap_kind};
use crate::message::{
    Answer, Command, Hello, Import, Item as Sent, MemoryOf, Pages, type_name, write,
};

/// The engine of a browser or of Node, in a process of its own.
#[derive(Debug)]
pub(crate) struct Remote {
    capabilities: Arc<Capabilities>,
    channel: Arc<Channel>,
}

/// A module that it has compiled.
struct Compiled {
    id: u64,
    info: Arc<ModuleInfo>,
    name: &'static str,
    channel: Arc<Channel>,
}

/// Largest memory that is claimed here: each is compared with a copy of it before and after each call.
const MAX_MEMORY: u64 = 256 << 20;

impl Remote {
    pub(crate) fn start() -> Result<Self> {
        let fail = |reason: String| Error::Instantiate { engine: "web", reason };
        let (channel, hello) = Channel::start().map_err(|e| fail(e.to_string()))?;
        let Answer::Hello(hello) = hello else {
            return Err(fail("it did not say what it is".into()));
        };
        Ok(Self { capabilities: Arc::new(capabilities(hello)), channel: Arc::new(channel) })
    }

    /// What it is known to fail.
    pub(crate) fn expectations(&self) -> Expectations {
        expected::of(self.capabilities.engine)
    }
}

fn capabilities(hello: Hello) -> Capabilities {
    // One for the whole process.
    let (name, version): (&str, &str) = (hello.engine.leak(), hello.version.leak());
    let mut has = Capabilities::new(name, version, "compiler of its JavaScript engine");
    if hello.memory64 {
        has.memory64 = Memory64::Native { max_bytes: MAX_MEMORY };
    }
    has.memory32_max_bytes = MAX_MEMORY;
    has.multi_memory = hello.multi_memory;
    if hello.relaxed_simd {
        has.relaxed_simd = RelaxedSimd::Faster;
    }
    has.stack_overflow_trap = true;
    has.reentrance = true;
    // One conversation at a time, and no file is mapped into a memory of JavaScript.
    (has.mapping, has.time_limit, has.threads) = (false, false, false);
    has
}

/// The next number of a module or guest.
fn next() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

impl spi::Engine for Remote {
    fn capabilities(&self) -> &Arc<Capabilities> {
        &self.capabilities
    }

    fn translate(&self, wasm: &[u8], info: Arc<ModuleInfo>) -> Result<Arc<dyn spi::Module>> {
        let (id, engine) = (next(), self.capabilities.engine);
        let answer =
            self.channel.turn().exchange(Command::Compile { module: id }, Pages::default(), wasm);
        let refused = |reason: String| Err(Error::Compile { engine, reason });
        match answer {
            Ok((Answer::Done { .. }, ..)) => {
                Ok(Arc::new(Compiled { id, info, name: engine, channel: self.channel.clone() }))
            }
            Ok((Answer::Failed { message, .. }, ..)) => refused(message),
            Ok((other, ..)) => refused(format!("{other:?}")),
            Err(error) => refused(error.to_string()),
        }
    }
}

impl spi::Module for Compiled {
    fn start(&self, start: Start) -> Result<Started> {
        let host = start.host().clone();
        let items = start.define(|item| Ok(item.clone()))?;
        let imports = self.info.imports().iter().zip(&items).map(|(import, item)| {
            let item = sent(item).map_err(|reason| self.refuse(reason))?;
            Ok(Import { module: import.module.clone(), name: import.name.clone(), item })
        });
        let imports = imports.collect::<Result<Vec<_>>>()?;
        let memories = self.info.memories().iter().map(|memory| match memory.import {
            Some(index) => MemoryOf::Import(index),
            None => MemoryOf::Export(memory.name.clone()),
        });
        let memories = memories.collect();
        let functions = items.into_iter().map(|item| match item {
            Item::Function(function) => Some(function),
            _ => None,
        });
        let id = next();
        let command = Command::Start { module: self.id, guest: id, imports, memories };
        let answer = self.channel.turn().exchange(command, Pages::default(), &[]);
        let (answer, pages, bytes) = answer.map_err(|e: io::Error| self.refuse(e.to_string()))?;
        let functions = functions.collect();
        let mut guest = Guest::new(self.name, id, self.channel.clone(), host, functions);
        match answer {
            Answer::Done { .. } => {
                guest.take(&pages, &bytes).map_err(|e| self.refuse(e.to_string()))?
            }
            Answer::Failed { kind: Some(kind), message } => {
                let kind = trap_kind(&kind);
                return Err(Error::call(self.name, "the start function", Some(kind), message));
            }
            Answer::Failed { message, .. } => return Err(self.refuse(message)),
            other => return Err(self.refuse(format!("{other:?}"))),
        }
        Ok(start.finish(guest))
    }
}

impl Compiled {
    fn refuse(&self, reason: String) -> Error {
        Error::Instantiate { engine: self.name, reason }
    }
}

impl Drop for Compiled {
    fn drop(&mut self) {
        // A process that has ended has no modules.
        _ = self.channel.turn().exchange(
            Command::DropModule { module: self.id },
            Pages::default(),
            &[],
        );
    }
}

/// Something that a guest imports.
fn sent(item: &Item) -> std::result::Result<Sent, String> {
    let names = |types: &[polychord_runtime_api::ValueType]| {
        types.iter().map(|ty| type_name(*ty)).collect()
    };
    match item {
        Item::Function(function) => {
            let ty = function.ty();
            Ok(Sent::Function { params: names(&ty.params), results: names(&ty.results) })
        }
        Item::Memory(ty) => Ok(Sent::Memory {
            is64: ty.address == AddressType::I64,
            min: ty.min_pages,
            max: ty.max_pages,
        }),
        Item::Global(ty, value) => {
            Ok(Sent::Global { ty: type_name(ty.ty), mutable: ty.mutable, value: write(*value) })
        }
        other => Err(format!("it imports {other:?}")),
    }
}
