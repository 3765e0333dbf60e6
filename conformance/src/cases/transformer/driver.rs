//! Drives the transformer guest through its exports.

use polychord_runtime_api::abi::PAGE;
use polychord_runtime_api::abi::transformer::export;
use polychord_runtime_api::{
    Engine, LayerId, LayerSpec, Limits, LoadMethod, MemorySpec, Runtime, Source, Value,
};

use super::network::{self, BATCH, BLOCKS, LAYER_PAGES, LAYERS, VOCAB};
use crate::check::equal;
use crate::{Failure, Outcome};

/// The guest that comes with Polychord; see `scripts/build-guest`.
const GUEST: &[u8] = polychord_transformer::WASM32_PLAIN;

/// A guest with a network, and how many tokens it has seen.
pub(super) struct Transformer {
    runtime: Box<dyn Runtime>,
    position: i32,
}

impl Transformer {
    /// Starts the guest, loads the weights and hands the network to it.
    pub(super) fn start(
        engine: &dyn Engine,
        weights: &Source,
        method: LoadMethod,
    ) -> Result<Self, Failure> {
        let runtime = engine.compile(GUEST)?.instantiate(&Limits::default())?;
        let mut guest = Self { runtime, position: 0 };
        guest.load(weights, method)?;
        let descriptor = network::descriptor();
        let len = i32::try_from(descriptor.len())?;
        let at = guest.call(export::ALLOC, &[len])?;
        guest.write(at, &descriptor)?;
        guest.stage(export::INIT, &[at, len])?;
        Ok(guest)
    }

    /// Takes in one token after the other, and returns the logits after each.
    pub(super) fn eval_each(&mut self, tokens: &[u32]) -> Result<Vec<f32>, Failure> {
        let mut logits = Vec::new();
        for token in tokens {
            logits.extend(self.eval(&[*token], 1)?);
        }
        Ok(logits)
    }

    /// Takes in tokens in batches of a size, and returns the logits after the last one.
    pub(super) fn eval(&mut self, tokens: &[u32], size: usize) -> Result<Vec<f32>, Failure> {
        let blocks = BLOCKS.cast_signed();
        let mut rows = 0;
        for batch in tokens.chunks(size.min(BATCH as usize)) {
            rows = i32::try_from(batch.len())?;
            let at = self.call(export::TOKENS, &[])?;
            let ids: Vec<_> = batch.iter().flat_map(|id| id.to_le_bytes()).collect();
            self.write(at, &ids)?;
            self.stage(export::EMBED, &[rows])?;
            self.stage(export::BLOCKS, &[0, blocks, self.position, rows])?;
            self.position += rows;
        }
        self.stage(export::HEAD, &[rows - 1])?;
        let at = usize::try_from(self.call(export::LOGITS, &[])?)?;
        let logits = self.runtime.memory().get(at..at + 4 * VOCAB as usize);
        let (words, _) = logits.unwrap_or_default().as_chunks::<4>();
        Ok(words.iter().map(|word| f32::from_le_bytes(*word)).collect())
    }

    fn load(&mut self, weights: &Source, method: LoadMethod) -> Outcome {
        let bytes = u64::from(LAYERS) * LAYER_PAGES * PAGE;
        let memory = self.runtime.create_memory64(&MemorySpec::guest(bytes))?;
        for layer in 0..LAYERS {
            let offset = u64::from(layer) * LAYER_PAGES * PAGE;
            let spec = LayerSpec::new(LayerId(layer), memory, weights).offset(offset);
            self.runtime.register_layer(spec.part(offset, network::layer_bytes(layer)))?;
            equal("method", self.runtime.load_layer(LayerId(layer))?.method, method)?;
        }
        Ok(())
    }

    fn stage(&mut self, export: &str, args: &[i32]) -> Outcome {
        equal(&format!("status of {export}"), self.call(export, args)?, 0)
    }

    fn call(&mut self, export: &str, args: &[i32]) -> Result<i32, Failure> {
        let args: Vec<_> = args.iter().copied().map(Value::I32).collect();
        let got = self.runtime.call(export, &args)?;
        let number = got.first().and_then(|value| value.as_i32());
        number.ok_or_else(|| Failure::new(format!("{export} returned {got:?}")))
    }

    fn write(&mut self, at: i32, bytes: &[u8]) -> Outcome {
        let at = usize::try_from(at)?;
        let Some(slot) = self.runtime.memory_mut().get_mut(at..at + bytes.len()) else {
            return Err(Failure::new(format!("{at} is not in the guest's memory")));
        };
        slot.copy_from_slice(bytes);
        Ok(())
    }
}
