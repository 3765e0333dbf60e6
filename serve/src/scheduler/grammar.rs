//! Answers that are held to a grammar.

use std::fmt;
use std::sync::Arc;

use llguidance::api::TopLevelGrammar;
use llguidance::toktrie::{ApproximateTokEnv, TokEnv, TokRxInfo, TokTrie};
use llguidance::{Matcher, ParserFactory};
use polychord_model::tokenizer::Tokenizer;
use polychord_session::generate::Hold;
use serde_json::{Value, json};

/// What an answer is held to.
///
/// ```
/// use polychord_serve::scheduler::Format;
///
/// let schema = serde_json::json!({ "type": "object", "required": ["answer"] });
/// let formats = [Format::JsonObject, Format::JsonSchema(schema)];
/// # let _ = formats;
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Format {
    /// Any JSON object.
    JsonObject,
    /// JSON of a schema, as far as the crate `llguidance` knows schemas.
    JsonSchema(Value),
    /// A grammar in the dialect of Lark of the crate `llguidance`.
    Lark(String),
}

/// The vocabulary of a model, as grammars need it.
///
/// ```no_run
/// use polychord_model::tokenizer::Tokenizer;
/// use polychord_serve::scheduler::{Format, Grammars, Job};
///
/// fn constrain(job: Job, tokenizer: &Tokenizer) -> Result<Job, String> {
///     Ok(job.constraint(Grammars::new(tokenizer)?.compile(&Format::JsonObject)?))
/// }
/// ```
pub struct Grammars(ParserFactory);

/// A compiled grammar, and how far an answer has come in it.
///
/// ```no_run
/// use polychord_model::tokenizer::Tokenizer;
/// use polychord_serve::scheduler::{Constraint, Format, Grammars};
///
/// fn digits(tokenizer: &Tokenizer) -> Result<Constraint, String> {
///     Grammars::new(tokenizer)?.compile(&Format::Lark("start: /[0-9]+/".into()))
/// }
/// ```
pub struct Constraint(Matcher);

impl Grammars {
    /// Prepares a vocabulary: some ten milliseconds for a hundred thousand tokens.
    ///
    /// # Errors
    ///
    /// The reason why answers of this model cannot be held to a grammar.
    pub fn new(tokenizer: &Tokenizer) -> Result<Self, String> {
        let eos = tokenizer.eos().ok_or("the model names no token that ends a text")?;
        let vocabulary = tokenizer.vocab_size();
        let words = (0..vocabulary).map(|id| {
            let piece = tokenizer.piece(id).unwrap_or_default();
            if !piece.is_empty() {
                return piece;
            }
            // A control token, which no text has.
            let name = tokenizer.token_text(id).unwrap_or_default();
            [&[TokTrie::SPECIAL_TOKEN_MARKER], name.as_bytes()].concat()
        });
        let words: Vec<_> = words.collect();
        let trie = TokTrie::from(&TokRxInfo::new(vocabulary, eos), &words);
        let env: TokEnv = Arc::new(ApproximateTokEnv::new(trie));
        let mut factory = ParserFactory::new_simple(&env).map_err(|error| error.to_string())?;
        factory.quiet();
        Ok(Self(factory))
    }

    /// Compiles a format. The crate bounds what that and each token may cost.
    ///
    /// # Errors
    ///
    /// What is wrong with the format.
    pub fn compile(&self, format: &Format) -> Result<Constraint, String> {
        let grammar = match format {
            Format::JsonObject => TopLevelGrammar::from_json_schema(json!({ "type": "object" })),
            Format::JsonSchema(schema) => TopLevelGrammar::from_json_schema(schema.clone()),
            Format::Lark(text) => TopLevelGrammar::from_lark(text.clone()),
        };
        let mut matcher = Matcher::new(self.0.create_parser(grammar));
        if let Some(error) = matcher.get_error() {
            return Err(error);
        }
        // Some have no beginning: a schema that refers to itself and to nothing else, say.
        matcher.compute_mask_or_eos().map_err(|error| first_line(&error.to_string()))?;
        Ok(Constraint(matcher))
    }
}

impl Constraint {
    /// Excludes what may not follow. `ends` are the tokens that end an answer: they may come where
    /// the grammar has come to an end.
    pub(super) fn mask(
        &mut self,
        logits: &mut [f32],
        ends: impl Fn(u32) -> bool,
    ) -> Result<(), String> {
        let mask = self.0.compute_mask_or_eos().map_err(|error| first_line(&error.to_string()))?;
        let may_end = self.0.is_accepting().unwrap_or(false) || self.0.is_stopped();
        for (id, logit) in (0..).zip(logits) {
            let is_allowed = if ends(id) { may_end } else { mask.get(id as usize) };
            if !is_allowed {
                *logit = f32::NEG_INFINITY;
            }
        }
        Ok(())
    }

    /// Takes the token that was chosen; tells whether nothing can follow.
    pub(super) fn take(&mut self, id: u32) -> Result<bool, String> {
        self.0.consume_token(id).map_err(|error| first_line(&error.to_string()))?;
        Ok(self.0.is_stopped())
    }
}

/// What people can read of an error of the crate; the state of its parser follows.
fn first_line(error: &str) -> String {
    match error.lines().next().unwrap_or_default() {
        "NoExtensionBias" => "no text can follow".to_owned(),
        line => line.to_owned(),
    }
}

impl Hold for Constraint {
    fn exclude(&mut self, logits: &mut [f32], tokenizer: &Tokenizer) -> Result<(), String> {
        self.mask(logits, |id| tokenizer.is_end_of_generation(id))
    }

    fn follow(&mut self, id: u32) -> Result<bool, String> {
        self.take(id)
    }
}

/// A beginning of its own.
impl Clone for Constraint {
    fn clone(&self) -> Self {
        Self(self.0.deep_clone())
    }
}

impl fmt::Debug for Grammars {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Grammars").finish_non_exhaustive()
    }
}

impl fmt::Debug for Constraint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Constraint").field("error", &self.0.get_error()).finish_non_exhaustive()
    }
}
