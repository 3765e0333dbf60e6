use std::time::Duration;

use polychord_abi::transformer::{self, export, status};
use polychord_runtime_api as api;
use polychord_runtime_api::{
    LayerSpec, Limits, LoadMethod, MemorySpec, Module, Plan, Runtime, Stats, Value,
};

use crate::descriptor;
use crate::error::{Error, Result};
use crate::model::Model;

/// How to run a model.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SessionOptions {
    /// Most tokens of prompt and answer together; by default 4,096 or the model's own context
    /// if that is shorter. Memory is used as the context fills.
    pub context: Option<u32>,
    /// Most tokens that are computed at once; changes speed and memory, never a result.
    pub batch: u32,
    /// Longest time that the guest may take for a stage of one batch; none by default.
    pub call_time: Option<Duration>,
}

impl Default for SessionOptions {
    fn default() -> Self {
        Self { context: None, batch: 64, call_time: None }
    }
}

/// A model in a guest, and the sequence of tokens that it has seen.
///
/// Starting one may fail with [`Error::Context`], [`Error::TooLargeForMemory32`],
/// [`Error::GuestVersion`], [`Error::Guest`], or [`Error::Runtime`] if the engine cannot run
/// the guest or the file cannot be read any more.
pub struct Session {
    runtime: Box<dyn Runtime>,
    blocks: u32,
    context: u32,
    model_context: u32,
    batch: usize,
    position: u32,
    tokens: usize,
    logits: std::ops::Range<usize>,
    load: LoadReport,
}

/// How the weights came into the guest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LoadReport {
    /// Layers that were mapped.
    pub mapped: usize,
    /// Layers that were copied.
    pub copied: usize,
    /// Bytes of all layers.
    pub bytes: u64,
    /// Time for all layers.
    pub took: Duration,
}

impl Session {
    pub(crate) fn start(
        module: &dyn Module,
        model: &Model,
        options: &SessionOptions,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Self> {
        let context = context(model, options)?;
        let batch = options.batch.clamp(1, context);
        let plan = model.plan()?;
        let limits = Limits { call_time: options.call_time, ..Limits::default() };
        check_size(&plan, context, &limits)?;
        let mut runtime = module.instantiate(&limits)?;
        check_version(&mut *runtime)?;
        let load = load(&mut *runtime, model, &plan, progress)?;
        let descriptor = descriptor::bytes(model, context, batch);
        initialise(&mut *runtime, &descriptor, &plan, context)?;
        let tokens = pointer(&mut *runtime, export::TOKENS, &[], batch as usize * 4)?;
        let vocab = model.config().vocab as usize;
        let logits = pointer(&mut *runtime, export::LOGITS, &[], vocab * 4)?;
        Ok(Self {
            runtime,
            blocks: model.config().blocks,
            context,
            model_context: model.config().context_length,
            batch: batch as usize,
            position: 0,
            tokens,
            logits: logits..logits + vocab * 4,
            load,
        })
    }

    /// Appends tokens to the sequence and computes what follows the last of them.
    ///
    /// # Errors
    ///
    /// [`Error::ContextFull`] if there is no room for them and [`Error::EmptyPrompt`] if there
    /// are none; [`Error::Guest`] if a token is not in the vocabulary, and
    /// [`Error::Runtime`] if the guest is stopped. The sequence is then as long as before.
    pub fn eval(&mut self, tokens: &[u32]) -> Result<Logits<'_>> {
        if tokens.is_empty() {
            return Err(Error::EmptyPrompt);
        }
        if tokens.len() > (self.context - self.position) as usize {
            return Err(Error::ContextFull {
                asked: tokens.len(),
                used: self.position,
                context: self.context,
                limit: self.model_context,
            });
        }
        let mut position = self.position;
        let mut last = 0;
        for batch in tokens.chunks(self.batch) {
            let rows = int(batch.len())?;
            self.write_tokens(batch)?;
            self.stage(export::EMBED, &[Value::I32(rows)])?;
            let blocks = [0, self.blocks.cast_signed(), position.cast_signed(), rows];
            self.stage(export::BLOCKS, &blocks.map(Value::I32))?;
            position += rows.cast_unsigned();
            last = rows - 1;
        }
        self.stage(export::HEAD, &[Value::I32(last)])?;
        self.position = position;
        Ok(self.logits())
    }

    /// The logits that the last [`eval`](Self::eval) computed.
    #[must_use]
    pub fn logits(&self) -> Logits<'_> {
        Logits(self.runtime.memory().get(self.logits.clone()).unwrap_or(&[]))
    }

    /// Forgets the sequence; the next [`eval`](Self::eval) starts a new one.
    pub const fn reset(&mut self) {
        self.position = 0;
    }

    /// How many tokens the sequence has.
    #[must_use]
    pub const fn position(&self) -> u32 {
        self.position
    }

    /// How many tokens it can have.
    #[must_use]
    pub const fn context(&self) -> u32 {
        self.context
    }

    /// How the weights came into the guest.
    #[must_use]
    pub const fn load_report(&self) -> LoadReport {
        self.load
    }

    /// What the guest's memory was used for.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.runtime.stats()
    }

    /// The guest.
    #[must_use]
    pub fn runtime(&self) -> &dyn Runtime {
        &*self.runtime
    }

    fn write_tokens(&mut self, batch: &[u32]) -> Result<()> {
        let range = self.tokens..self.tokens + batch.len() * 4;
        let Some(slots) = self.runtime.memory_mut().get_mut(range) else {
            return Err(outside(export::TOKENS));
        };
        for (slot, token) in slots.chunks_exact_mut(4).zip(batch) {
            slot.copy_from_slice(&token.to_le_bytes());
        }
        Ok(())
    }

    fn stage(&mut self, operation: &'static str, args: &[Value]) -> Result<()> {
        call_status(&mut *self.runtime, operation, args)
    }
}

/// One `f32` for each token of the vocabulary, in place in the guest's memory.
#[derive(Clone, Copy, Debug)]
pub struct Logits<'a>(&'a [u8]);

impl Logits<'_> {
    /// The little-endian bytes, four for each token.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8] {
        self.0
    }

    /// Copies the numbers to `out`, which is emptied first.
    pub fn copy_to(&self, out: &mut Vec<f32>) {
        out.clear();
        let (words, _) = self.0.as_chunks::<4>();
        out.extend(words.iter().map(|word| f32::from_le_bytes(*word)));
    }

    /// The numbers.
    #[must_use]
    pub fn to_vec(&self) -> Vec<f32> {
        let mut out = Vec::new();
        self.copy_to(&mut out);
        out
    }
}

/// How much a session uses when nobody says.
const DEFAULT_CONTEXT: u32 = 4096;

fn context(model: &Model, options: &SessionOptions) -> Result<u32> {
    let limit = model.config().context_length;
    match options.context {
        None => Ok(limit.min(DEFAULT_CONTEXT)),
        Some(asked) if asked > 0 && asked <= limit => Ok(asked),
        Some(asked) => Err(Error::Context { asked, limit }),
    }
}

fn check_size(plan: &Plan, context: u32, limits: &Limits) -> Result<()> {
    let weights = plan.memories.iter().map(|memory| memory.bytes).sum::<u64>();
    if weights >= limits.memory_bytes {
        return Err(Error::TooLargeForMemory32 { weights, context, limit: limits.memory_bytes });
    }
    Ok(())
}

fn check_version(runtime: &mut dyn Runtime) -> Result<()> {
    let found = first_number(export::VERSION, &runtime.call(export::VERSION, &[])?)?;
    match i32::try_from(found) {
        Ok(transformer::VERSION) => Ok(()),
        found => Err(Error::GuestVersion {
            found: found.unwrap_or(i32::MAX),
            expected: transformer::VERSION,
        }),
    }
}

/// Makes the plan's memories, registers its layers, and loads them all.
fn load(
    runtime: &mut dyn Runtime,
    model: &Model,
    plan: &Plan,
    progress: &mut dyn FnMut(u64),
) -> Result<LoadReport> {
    let mut memories = Vec::with_capacity(plan.memories.len());
    for memory in &plan.memories {
        memories.push(runtime.create_memory64(&MemorySpec::guest(memory.bytes))?);
    }
    let mut report = LoadReport::default();
    for layer in &plan.layers {
        let Some(memory) = memories.get(layer.memory as usize) else { continue };
        runtime.register_layer(LayerSpec {
            id: layer.source.id,
            name: layer.source.name.clone(),
            memory: *memory,
            offset: layer.offset,
            source: model.source().clone(),
            source_offset: layer.source.start,
            bytes: layer.source.bytes,
        })?;
        let loaded = runtime.load_layer(layer.source.id)?;
        match loaded.method {
            LoadMethod::Mapped => report.mapped += 1,
            LoadMethod::Copied => report.copied += 1,
        }
        report.bytes += loaded.bytes;
        report.took += loaded.took;
        progress(report.bytes);
    }
    Ok(report)
}

/// Hands the descriptor to the guest, which then allocates its caches.
fn initialise(
    runtime: &mut dyn Runtime,
    descriptor: &[u8],
    plan: &Plan,
    context: u32,
) -> Result<()> {
    let len = int(descriptor.len())?;
    let at = pointer(runtime, export::ALLOC, &[Value::I32(len)], descriptor.len())?;
    runtime.memory_mut()[at..at + descriptor.len()].copy_from_slice(descriptor);
    let args = [Value::I32(int(at)?), Value::I32(len)];
    let refused = call_status(runtime, export::INIT, &args);
    match refused {
        Err(Error::Guest { status: status::OUT_OF_MEMORY, .. }) => {
            let weights = plan.memories.iter().map(|memory| memory.bytes).sum();
            let limit = runtime.host().memory_limit();
            Err(Error::TooLargeForMemory32 { weights, context, limit })
        }
        other => other,
    }
}

/// Calls an export that returns a pointer to `len` bytes, and checks that they are there.
fn pointer(
    runtime: &mut dyn Runtime,
    operation: &'static str,
    args: &[Value],
    len: usize,
) -> Result<usize> {
    let number = first_number(operation, &runtime.call(operation, args)?)?;
    let start = number as usize;
    let end = start.checked_add(len).filter(|end| *end <= runtime.memory().len());
    match end {
        Some(_) if start != 0 => Ok(start),
        _ => Err(outside(operation)),
    }
}

fn call_status(runtime: &mut dyn Runtime, operation: &'static str, args: &[Value]) -> Result<()> {
    let results = runtime.call(operation, args)?;
    match results.first().and_then(|value| value.as_i32()) {
        Some(status::OK) => Ok(()),
        Some(status) => Err(Error::Guest { operation, status, reason: explain(runtime, status) }),
        None => Err(outside(operation)),
    }
}

/// The result of a function that returns an address or an unsigned number.
fn first_number(operation: &'static str, results: &[Value]) -> Result<u32> {
    let number = results.first().and_then(|value| value.as_i32());
    number.map(i32::cast_unsigned).ok_or_else(|| outside(operation))
}

fn outside(operation: &'static str) -> Error {
    let reason = "its result is not in its memory, so it is no transformer guest".into();
    Error::Guest { operation, status: 0, reason }
}

fn explain(runtime: &dyn Runtime, status: i32) -> String {
    let reason = match status {
        status::BAD_DESCRIPTOR => "it does not understand the descriptor",
        status::BAD_SHAPE => "a size of the network is impossible",
        status::MISSING_TENSOR => "a tensor is missing or given twice",
        status::UNSUPPORTED_TYPE => "it has no kernel for a tensor's type",
        status::OUT_OF_MEMORY => "its memory cannot grow any more",
        status::BAD_BATCH => "the batch is empty or too large",
        status::CONTEXT_FULL => "the context is full",
        status::BAD_TOKEN => "a token is not in the vocabulary",
        status::BAD_BLOCK => "it does not hold these blocks",
        status::BAD_ORDER => "calls came in the wrong order",
        status::LAYER_REFUSED => {
            let why = runtime.host().last_refusal().map(|error| error.to_string());
            return format!("a layer could not be had: {}", why.unwrap_or_default());
        }
        _ => "for a reason that this host does not know",
    };
    reason.to_owned()
}

/// A size as a guest takes it.
fn int(size: usize) -> Result<i32> {
    u32::try_from(size).map(u32::cast_signed).map_err(|_| {
        Error::Runtime(api::Error::TooLarge {
            what: "an argument".into(),
            asked: size as u64,
            limit: u32::MAX.into(),
            limited_by: "a 32-bit guest".into(),
        })
    })
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session")
            .field("engine", &self.runtime.host().capabilities().engine)
            .field("position", &self.position)
            .field("context", &self.context)
            .finish_non_exhaustive()
    }
}
