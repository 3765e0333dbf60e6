//! A guest in the other process, and a copy of its memories here.
//!
//! Whenever control goes from one process to the other, pages that have changed go with it.

use std::io;
use std::sync::Arc;

use polychord_runtime_api::spi::{GlobalAt, Host, HostFunction, Instance, with_values};
use polychord_runtime_api::{Error, LinearMemories, Result, TrapKind, Value};

use crate::channel::Channel;
use crate::message::{Answer, At, Command, Pages, read, type_name, write};

/// Bytes of a page.
const PAGE: usize = 65_536;

/// A guest in the other process.
pub(crate) struct Guest {
    engine: &'static str,
    id: u64,
    channel: Arc<Channel>,
    host: Arc<Host>,
    /// By the index of the import.
    functions: Vec<Option<HostFunction>>,
    memories: Vec<Mirror>,
}

/// A memory as it is here, and as the other process knows it.
#[derive(Default)]
struct Mirror {
    here: Vec<u8>,
    there: Vec<u8>,
}

impl Guest {
    pub(crate) fn new(
        engine: &'static str,
        id: u64,
        channel: Arc<Channel>,
        host: Arc<Host>,
        functions: Vec<Option<HostFunction>>,
    ) -> Self {
        Self { engine, id, channel, host, functions, memories: Vec::new() }
    }

    /// Takes the pages that have changed there.
    pub(crate) fn take(&mut self, pages: &Pages, bytes: &[u8]) -> io::Result<()> {
        self.memories.resize_with(pages.lengths.len(), Mirror::default);
        for (memory, length) in self.memories.iter_mut().zip(&pages.lengths) {
            memory.here.resize(*length, 0);
            memory.there.resize(*length, 0);
        }
        for ((memory, page), bytes) in pages.changed.iter().zip(bytes.chunks(PAGE)) {
            let memory = self.memories.get_mut(*memory);
            let wrong = || io::Error::other("it sent a page that does not exist");
            let Mirror { here, there } = memory.ok_or_else(wrong)?;
            let range = page * PAGE..page * PAGE + bytes.len();
            here.get_mut(range.clone()).ok_or_else(wrong)?.copy_from_slice(bytes);
            there.get_mut(range).ok_or_else(wrong)?.copy_from_slice(bytes);
        }
        Ok(())
    }

    /// The pages that have changed here.
    fn changed(&mut self) -> (Pages, Vec<u8>) {
        let (mut pages, mut bytes) = (Pages::default(), Vec::new());
        for (index, Mirror { here, there }) in self.memories.iter_mut().enumerate() {
            pages.lengths.push(here.len());
            for (page, (here, there)) in here.chunks(PAGE).zip(there.chunks_mut(PAGE)).enumerate() {
                if here != there {
                    there.copy_from_slice(here);
                    pages.changed.push((index, page));
                    bytes.extend(here);
                }
            }
        }
        (pages, bytes)
    }

    /// Says something, and serves the functions that are called until it is done.
    fn ask(&mut self, mut command: Command, operation: &str) -> Result<Vec<Value>> {
        let (engine, channel) = (self.engine, self.channel.clone());
        let broken = |error: io::Error| Error::call(engine, operation, None, error);
        let turn = channel.turn();
        loop {
            let (pages, bytes) = self.changed();
            let (answer, pages, bytes) = turn.exchange(command, pages, &bytes).map_err(broken)?;
            self.take(&pages, &bytes).map_err(broken)?;
            match answer {
                Answer::Done { values } => {
                    let values = values.iter().map(|value| read(value)).collect::<Option<_>>();
                    return values.ok_or_else(|| broken(io::Error::other("it sent no values")));
                }
                Answer::Failed { kind, message } => {
                    let kind = kind.map(|kind| trap_kind(&kind));
                    return Err(Error::call(engine, operation, kind, message));
                }
                Answer::Call { import, args } => command = self.serve(import, &args),
                Answer::Hello(_) => return Err(broken(io::Error::other("it has started anew"))),
            }
        }
    }

    /// Calls a function of the host.
    fn serve(&mut self, import: usize, args: &[String]) -> Command {
        let guest = self.id;
        let stop = |why: &str| Command::Stop { guest, why: why.to_owned() };
        let Some(function) = self.functions.get(import).cloned().flatten() else {
            return stop("it called what is no function");
        };
        let Some(args) = args.iter().map(|arg| read(arg)).collect::<Option<Vec<_>>>() else {
            return stop("it passed what are no values");
        };
        let (host, count) = (self.host.clone(), function.ty().results.len());
        with_values(args.len() + count, |values| {
            let (params, results) = values.split_at_mut(args.len());
            params.copy_from_slice(&args);
            match function.call(&host, self, params, results) {
                Ok(()) => {
                    Command::Return { guest, values: results.iter().map(|it| write(*it)).collect() }
                }
                Err(stopped) => Command::Stop { guest, why: stopped.to_string() },
            }
        })
    }
}

/// What the other process calls a trap.
pub(crate) fn trap_kind(name: &str) -> TrapKind {
    match name {
        "unreachable" => TrapKind::Unreachable,
        "memory" => TrapKind::MemoryOutOfBounds,
        "table" => TrapKind::TableOutOfBounds,
        "null" => TrapKind::IndirectCallToNull,
        "signature" => TrapKind::IndirectCallTypeMismatch,
        "overflow" => TrapKind::IntegerOverflow,
        "zero" => TrapKind::IntegerDivisionByZero,
        "conversion" => TrapKind::InvalidConversionToInteger,
        "stack" => TrapKind::StackOverflow,
        _ => TrapKind::Other,
    }
}

impl LinearMemories for Guest {
    fn linear_memory(&self, index: usize) -> &[u8] {
        self.memories.get(index).map_or(&[], |memory| &memory.here)
    }

    fn linear_memory_mut(&mut self, index: usize) -> &mut [u8] {
        self.memories.get_mut(index).map_or(&mut [], |memory| &mut memory.here)
    }
}

impl Instance for Guest {
    fn grow(&mut self, memory: usize, pages: u64) -> Result<u64> {
        let grown =
            self.ask(Command::Grow { guest: self.id, memory, by: pages }, "growing a memory");
        match grown.map_err(|error| Error::cannot_grow(self.engine, pages, error.to_string()))?[..]
        {
            [Value::I64(before)] => Ok(before.cast_unsigned()),
            _ => {
                Err(Error::cannot_grow(self.engine, pages, "it did not say by how much".to_owned()))
            }
        }
    }

    fn invoke(&mut self, export: &str, args: &[Value], results: &mut [Value]) -> Result<()> {
        let command = Command::Invoke {
            guest: self.id,
            export: export.to_owned(),
            args: args.iter().map(|value| write(*value)).collect(),
            results: results.iter().map(|value| type_name(value.ty())).collect(),
        };
        let values = self.ask(command, export)?;
        for (result, value) in results.iter_mut().zip(values) {
            *result = value;
        }
        Ok(())
    }

    fn global(&mut self, at: GlobalAt<'_>) -> Result<Value> {
        let place = place(at).ok_or_else(|| Error::lost_global(self.engine, at))?;
        let command = Command::Global { guest: self.id, at: place, value: None };
        match self.ask(command, "reading a global")?[..] {
            [value] => Ok(value),
            _ => Err(Error::lost_global(self.engine, at)),
        }
    }

    fn set_global(&mut self, at: GlobalAt<'_>, value: Value) -> Result<()> {
        let place = place(at).ok_or_else(|| Error::lost_global(self.engine, at))?;
        let value = Some(write(value));
        self.ask(Command::Global { guest: self.id, at: place, value }, "setting a global").map(drop)
    }
}

fn place(at: GlobalAt<'_>) -> Option<At> {
    match at {
        GlobalAt::Export(name) => Some(At::Export(name.to_owned())),
        GlobalAt::Import(index) => Some(At::Import(index)),
        _ => None,
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let turn = self.channel.turn();
        // A process that has ended has no guests.
        _ = turn.exchange(Command::DropGuest { guest: self.id }, Pages::default(), &[]);
    }
}
