//! How a network rotates, by its keys.

use std::f64::consts::PI;

use polychord_abi::transformer::{NO_FACTORS, Rope};

use super::config::Config;
use super::error::Error;
use super::keys::Keys;

/// What YaRN needs beyond the factor.
struct Yarn {
    factor: f64,
    original: f64,
    fast: f64,
    slow: f64,
    /// The logarithm's share of a second magnitude, which divides the first; 0 for none.
    log_multiplier: f64,
}

impl Keys<'_> {
    /// The rope of all blocks, unless the architecture has others.
    pub(super) fn rope(
        &self,
        head_dim: u32,
        context_length: u32,
        halves: bool,
    ) -> Result<Rope, Error> {
        let dim = self.optional("rope.dimension_count", u32::MAX)?.unwrap_or(head_dim);
        let base = self.positive("rope.freq_base")?.unwrap_or(10_000.0);
        let factor = self.stretch()?;
        let magnitude = self.factor("rope.scaling.attn_factor")?.unwrap_or(1.0);
        let mut rope = Rope {
            dim,
            halves: halves.into(),
            factors: NO_FACTORS,
            base,
            scale: 1.0 / factor,
            yarn_low: -1.0,
            yarn_high: -1.0,
            magnitude,
        };
        match self.metadata.str(&self.key("rope.scaling.type"))? {
            Some("none") => rope.scale = 1.0,
            Some("linear" | "longrope") | None => {}
            Some("yarn") => self.yarn(factor.into(), context_length)?.apply(&mut rope),
            Some(kind) => return Err(Error::RopeScaling { kind: kind.to_owned() }),
        }
        Ok(rope)
    }

    /// The number of the rope of blocks with a window: the first one, or one like it with a base of
    /// its own, if the file has one.
    pub(crate) fn local_rope(&self, config: &mut Config) -> Result<u32, Error> {
        let first = &config.ropes[0];
        let base = self.positive("rope.freq_base_swa")?.unwrap_or(first.base);
        if base.to_bits() == first.base.to_bits() {
            return Ok(0);
        }
        let mut rope = Rope { base, ..*first };
        if rope.yarn_high >= 0.0 {
            rope.magnitude = self.factor("rope.scaling.attn_factor")?.unwrap_or(1.0);
            self.yarn(self.stretch()?.into(), config.context_length)?.apply(&mut rope);
        }
        Ok(config.add_rope(rope))
    }

    /// The number of a new rope with this base, which no scaling stretches; but results are multiplied as those of
    /// the first one are where YaRN does nothing.
    pub(crate) fn unstretched_rope(&self, config: &mut Config, base: f32) -> Result<u32, Error> {
        let magnitude = self.factor("rope.scaling.attn_factor")?.unwrap_or(1.0);
        let rope = config.add_plain_rope(base);
        if let Some(plain) = config.ropes.get_mut(rope as usize) {
            plain.magnitude = magnitude;
        }
        Ok(rope)
    }

    /// How much longer contexts are than at first.
    fn stretch(&self) -> Result<f32, Error> {
        let old = self.factor("rope.scale_linear")?;
        let factor = self.factor("rope.scaling.factor")?;
        let factor = if self.is_there("rope.scaling.factor") { factor } else { old };
        Ok(factor.unwrap_or(1.0))
    }

    fn yarn(&self, factor: f64, context_length: u32) -> Result<Yarn, Error> {
        let original = self.optional("rope.scaling.original_context_length", u32::MAX)?;
        let original = original.unwrap_or(context_length).into();
        Ok(Yarn { factor, original, fast: 32.0, slow: 1.0, log_multiplier: 0.0 })
    }

    /// Stretches the first rope by more keys, if it is stretched by YaRN: llama.cpp looks at them
    /// in few families.
    pub(crate) fn read_own_yarn(&self, config: &mut Config) -> Result<(), Error> {
        let context_length = config.context_length;
        let rope = &mut config.ropes[0];
        if rope.yarn_high < 0.0 {
            return Ok(());
        }
        let or = |value: Option<f32>, default: f64| value.map_or(default, f64::from);
        let factor = self.stretch()?.into();
        let yarn = Yarn {
            fast: or(self.positive("rope.scaling.yarn_beta_fast")?, 32.0),
            slow: or(self.positive("rope.scaling.yarn_beta_slow")?, 1.0),
            log_multiplier: or(self.factor("rope.scaling.yarn_log_multiplier")?, 0.0),
            ..self.yarn(factor, context_length)?
        };
        rope.magnitude = self.factor("rope.scaling.attn_factor")?.unwrap_or(1.0);
        yarn.apply(rope);
        Ok(())
    }
}

impl Yarn {
    #[expect(clippy::cast_possible_truncation, reason = "rounding to f32 is meant")]
    fn apply(&self, rope: &mut Rope) {
        let (dim, base) = (f64::from(rope.dim), f64::from(rope.base));
        // The pair that turns so often within the original context.
        let pair = |turns: f64| dim * (self.original / (turns * 2.0 * PI)).ln() / (2.0 * base.ln());
        rope.yarn_low = pair(self.fast).floor().max(0.0) as f32;
        rope.yarn_high = pair(self.slow).ceil().min(dim - 1.0).max(0.0) as f32;
        let log = self.factor.ln();
        let magnitude = (1.0 + 0.1 * log) / (1.0 + 0.1 * self.log_multiplier * log);
        rope.magnitude = (f64::from(rope.magnitude) * magnitude) as f32;
    }
}
