//! Receipts of what a session computes, and computing them again.

use std::io::Read;
use std::ops::Range;

use polychord_model::Sampling;
use polychord_model::sampler::Sampler;
use polychord_receipts::{Difference, Digest, Head, Receipt, ReceiptBuilder};

use crate::digests::{sampling_by_name, sampling_of};
use crate::error::{Error, Result};
use crate::model::Model;
use crate::options::SessionOptions;
use crate::session::Session;
use crate::snapshot::{ACTIVATIONS, CACHE_TYPE, identity};
use crate::transformer::Transformer;

/// Computes what a receipt says, or a part of it, and compares.
///
/// It may do so on any engine, in any placement and with any number of ranks.
///
/// ```no_run
/// # use polychord_session::{Error, Model, SessionOptions, Transformer, Verdict, Verifier};
/// # fn run(model: &Model, transformer: &Transformer) -> Result<(), Box<dyn std::error::Error>> {
/// let receipt = polychord_receipts::Receipt::read(std::fs::File::open("receipt.json")?)?;
/// let verifier = Verifier::new(&receipt).window(100..120);
/// match verifier.verify(transformer, model, &SessionOptions::new())? {
///     Verdict::Verified { steps } => println!("steps {steps:?} are what the model computes"),
///     differs => println!("{differs}"),
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Verifier<'a> {
    receipt: &'a Receipt,
    window: Range<u64>,
}

/// What came of computing a receipt again.
///
/// ```
/// use polychord_session::Verdict;
///
/// let verdict = Verdict::Verified { steps: 0..3 };
/// assert!(verdict.is_verified());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verdict {
    /// These steps are what the model computes, bit for bit.
    Verified {
        /// The steps that were computed and compared.
        steps: Range<u64>,
    },
    /// The logits of these steps are what the model computes, bit for bit, for the tokens of the receipt. Its head
    /// has no options of a sampler, so nothing is known about why these are its tokens.
    LogitsVerified {
        /// The steps that were computed and compared.
        steps: Range<u64>,
    },
    /// This is the first step whose logits are others.
    LogitsDiffer {
        /// Which step.
        step: u64,
        /// The digest of its logits in the receipt.
        receipt: Digest,
        /// The digest of the logits that were computed.
        computed: Digest,
    },
    /// This is the first step whose logits give another token.
    TokenDiffers {
        /// Which step.
        step: u64,
        /// The token in the receipt.
        receipt: u32,
        /// The token that its options choose.
        computed: u32,
    },
}

impl Verdict {
    /// Whether nothing differs.
    #[must_use]
    pub const fn is_verified(&self) -> bool {
        matches!(self, Self::Verified { .. } | Self::LogitsVerified { .. })
    }
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Verified { steps } => {
                write!(f, "steps {}..{} are what the model computes", steps.start, steps.end)
            }
            Self::LogitsVerified { steps } => write!(
                f,
                "the logits of steps {}..{} are what the model computes for these tokens; how the tokens were chosen is not in the receipt",
                steps.start, steps.end
            ),
            Self::LogitsDiffer { step, receipt, computed } => write!(
                f,
                "step {step} differs: its logits are {receipt} in the receipt, and {computed} were computed"
            ),
            Self::TokenDiffers { step, receipt, computed } => write!(
                f,
                "step {step} differs: its token is {receipt} in the receipt, and its logits give {computed}"
            ),
        }
    }
}

impl Session {
    /// Begins a receipt for what follows `prompt`, which is everything from the first token on. The
    /// caller adds each step: the token, and the logits that it was chosen from.
    ///
    /// ```no_run
    /// # use polychord_model::Sampling;
    /// # use polychord_session::{Error, GenerateOptions, Generator, Session};
    /// # fn run(session: Session, prompt: &[u32]) -> Result<(), Error> {
    /// let sampling = Sampling::greedy();
    /// let mut receipt = session.receipt(prompt, &sampling, 0)?;
    /// let mut generator = Generator::new(session)?;
    /// generator.begin(prompt, &GenerateOptions::new().sampling(sampling).max_tokens(8))?;
    /// while let Some(token) = generator.next() {
    ///     receipt.push(token?.id, generator.logits().as_bytes());
    /// }
    /// println!("{}", receipt.finish().to_json());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Model::digests`].
    pub fn receipt(
        &self,
        prompt: &[u32],
        sampling: &Sampling,
        drawn: u64,
    ) -> Result<ReceiptBuilder> {
        let (model, engine) = (self.model(), self.engine());
        let digests = model.digests()?.clone();
        Ok(ReceiptBuilder::new(&self.identity()?, digests, prompt, model.config().vocab)
            .sampling(sampling_by_name(sampling), drawn)
            .information("engine", engine.engine)
            .information("engine_version", engine.version)
            .information("placement", self.placed().name)
            .information("ranks", self.ranks()))
    }
}

impl<'a> Verifier<'a> {
    /// Computes all steps of a receipt.
    #[must_use]
    pub fn new(receipt: &'a Receipt) -> Self {
        Self { receipt, window: 0..receipt.head().steps }
    }

    /// Compares these steps alone. Those before are evaluated as a prompt is, which is faster.
    #[must_use]
    pub const fn window(mut self, steps: Range<u64>) -> Self {
        self.window = steps;
        self
    }

    /// Computes the steps by a new session. Of the options, those that change bits are taken from the
    /// receipt, and the context is as long as needed.
    ///
    /// # Errors
    ///
    /// [`Error::Receipt`] if the receipt is of another model or guest, [`Error::Window`] if it does not
    /// have these steps, or none at all, and those of [`Transformer::start`] and [`Session::eval`].
    pub fn verify(
        &self,
        transformer: &Transformer,
        model: &Model,
        options: &SessionOptions,
    ) -> Result<Verdict> {
        let options = self.check(transformer, model, options, 1)?;
        self.run(transformer.start(model, &options)?)
    }

    /// Computes the steps as [`verify`](Self::verify) does, from a snapshot of the conversation on, so
    /// that less has to be computed before them. The snapshot is believed: it may be one that the
    /// verifier has made.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`verify`](Self::verify) and of [`Transformer::restore`].
    pub fn verify_from(
        &self,
        transformer: &Transformer,
        model: &Model,
        options: &SessionOptions,
        snapshot: impl Read,
    ) -> Result<Verdict> {
        // The snapshot may be of a later step than the window.
        let usual = SessionOptions::new().context_of(model)?;
        let options = self.check(transformer, model, options, usual)?;
        self.run(transformer.restore(model, snapshot, &options)?.session)
    }

    /// Makes sure that the receipt is about this model and guest, and returns how to compute it: in
    /// that context at least, unless the options have another.
    fn check(
        &self,
        transformer: &Transformer,
        model: &Model,
        options: &SessionOptions,
        context: u32,
    ) -> Result<SessionOptions> {
        let Range { start, end } = self.window;
        let Head { steps, options: named, vocabulary, .. } = self.receipt.head();
        if start >= end || end > *steps {
            return Err(Error::Window { start, end, steps: *steps });
        }
        let mut options = options.clone();
        let choice = |name: &str, here: &str| {
            let theirs = named.get(name).map_or("not set", String::as_str).to_owned();
            let differences = vec![Difference::new(name, theirs, format!("{here} or the like"))];
            polychord_receipts::Error::Differs { what: "receipt", differences }
        };
        let value = |name: &str| named.get(name).map_or("", String::as_str);
        options.activations = (value(ACTIVATIONS).parse())
            .map_err(|_| choice(ACTIVATIONS, options.activations.name()))?;
        options.cache_type =
            value(CACHE_TYPE).parse().map_err(|_| choice(CACHE_TYPE, options.cache_type.name()))?;
        check_model(self.receipt, model, *vocabulary)?;
        check_prompt(self.receipt.prompt(), *vocabulary)?;
        let here = identity(model, transformer.guest(), &options)?;
        self.receipt.identity().check("receipt", &here)?;
        let needed = (self.receipt.prompt().len() as u64).saturating_add(end - 1);
        let needed = u32::try_from(needed).unwrap_or(u32::MAX);
        options.context = Some(options.context.unwrap_or(context).max(needed));
        Ok(options)
    }

    fn run(&self, mut session: Session) -> Result<Verdict> {
        let Range { start, end } = self.window;
        let (prompt, steps) = (self.receipt.prompt(), self.receipt.steps());
        // Checked to be within the steps, which are in memory.
        let [first, last] = [start, end].map(|step| usize::try_from(step).unwrap_or(usize::MAX));
        let mut tokens = prompt.to_vec();
        tokens.extend(steps[..first].iter().map(|step| step.id));
        let Some(most) = tokens.len().checked_sub(1) else { return Err(Error::EmptyPrompt) };
        let same = session.tokens().iter().zip(&tokens).take_while(|(a, b)| a == b).count();
        session.truncate(u32::try_from(same.min(most)).unwrap_or(u32::MAX))?;
        let mut sampler = self.sampler(start)?;
        for step in &steps[first..last] {
            let seen = session.tokens().len();
            let logits = session.eval(&tokens[seen..])?;
            let computed = Digest::of(logits.as_bytes());
            if computed != step.logits {
                let (step, receipt) = (step.step, step.logits);
                return Ok(Verdict::LogitsDiffer { step, receipt, computed });
            }
            if let Some(sampler) = &mut sampler {
                let computed = sampler.sample(logits.iter(), &tokens)?;
                if computed != step.id {
                    let (step, receipt) = (step.step, step.id);
                    return Ok(Verdict::TokenDiffers { step, receipt, computed });
                }
            }
            tokens.push(step.id);
        }
        let steps = start..end;
        Ok(match sampler {
            Some(_) => Verdict::Verified { steps },
            None => Verdict::LogitsVerified { steps },
        })
    }

    /// What chooses the tokens from a step on; none if the receipt does not say.
    fn sampler(&self, start: u64) -> Result<Option<Sampler>> {
        let Head { sampling, drawn, .. } = self.receipt.head();
        if sampling.is_empty() {
            return Ok(None);
        }
        let sampling = sampling_of(sampling)?;
        if sampling.temperature == 0.0 && *drawn != 0 {
            let (what, place) = ("receipt", "drawn".to_owned());
            let reason = format!("it is {drawn}, and temperature 0 draws no random numbers");
            return Err(polychord_receipts::Error::Damaged { what, place, reason }.into());
        }
        // One for each step, unless the best token is taken.
        let before = if sampling.temperature == 0.0 { 0 } else { start };
        Ok(Some(Sampler::after(&sampling, drawn.saturating_add(before))?))
    }
}

/// Makes sure that a prompt has tokens, and that they are in the vocabulary.
fn check_prompt(prompt: &[u32], vocabulary: u32) -> Result<()> {
    let reason = match prompt.iter().find(|token| **token >= vocabulary) {
        Some(token) => format!("token {token} of {vocabulary} that there are"),
        None if prompt.is_empty() => "it has no tokens".to_owned(),
        None => return Ok(()),
    };
    let place = "the prompt".to_owned();
    Err(polychord_receipts::Error::Damaged { what: "receipt", place, reason }.into())
}

/// Makes sure that a receipt is about a model, and names a layer if it is not.
fn check_model(receipt: &Receipt, model: &Model, vocabulary: u32) -> Result<()> {
    let (theirs, ours) = (&receipt.head().model, model.digests()?);
    let mut differences = Vec::new();
    if theirs.sha256 != ours.sha256 {
        differences.push(Difference::new("the model", theirs.sha256, ours.sha256));
    }
    if theirs.bytes != ours.bytes {
        differences.push(Difference::new("the model's length", theirs.bytes, ours.bytes));
    }
    if let Some(layer) = theirs.first_difference(ours) {
        let of = |digests: &polychord_receipts::ModelDigests| {
            let found = digests.layers.iter().find(|it| it.name == layer);
            found.map_or("not there".to_owned(), |it| it.sha256.to_string())
        };
        let layer = format!("the layer {layer}, the first that differs,");
        differences.push(Difference::new(layer, of(theirs), of(ours)));
    } else if theirs.layers.len() != ours.layers.len() {
        let [theirs, ours] = [theirs, ours].map(|it| it.layers.len());
        differences.push(Difference::new("the number of layers", theirs, ours));
    }
    if vocabulary != model.config().vocab {
        differences.push(Difference::new("the vocabulary", vocabulary, model.config().vocab));
    }
    if differences.is_empty() {
        return Ok(());
    }
    Err(polychord_receipts::Error::Differs { what: "receipt", differences }.into())
}
