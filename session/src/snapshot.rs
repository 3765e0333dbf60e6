//! Sessions that travel: writing the state of a sequence, and going on from it elsewhere.

use std::io::{Read, Write};
use std::ops::Range;

use polychord_model::config::Config;
use polychord_receipts as receipts;
use polychord_receipts::snapshot::{
    AnswerState, Compression, Meta, Reader, RowHeader, State, Turn, Writer, tag,
};
use polychord_receipts::{Digest, Identity};

use crate::build::Build;
use crate::error::{Error, Result};
use crate::model::Model;
use crate::options::SessionOptions;
use crate::rank_pool::{Place, RankPool};
use crate::session::Session;
use crate::transformer::Transformer;

/// What a snapshot has beside the state of the session, and how it is written.
///
/// ```no_run
/// # fn run(session: &polychord_session::Session) -> Result<(), Box<dyn std::error::Error>> {
/// use polychord_session::SaveOptions;
///
/// let file = std::fs::File::create("session.snapshot")?;
/// session.save_with(file, &SaveOptions::new().compress())?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct SaveOptions {
    /// Whether blocks are compressed.
    pub compression: Compression,
    /// The whole sequence, if the session has not seen all of it yet.
    pub tokens: Option<Vec<u32>>,
    /// How the tokens of an answer are chosen, and how far that is.
    pub answer: Option<AnswerState>,
    /// The turns of a conversation.
    pub turns: Option<Vec<Turn>>,
}

/// What a snapshot gave: a session that goes on where another one was.
///
/// ```no_run
/// # use polychord_session::{Error, GenerateOptions, Model, SessionOptions, Transformer};
/// # fn run(model: &Model, transformer: &Transformer) -> Result<(), Box<dyn std::error::Error>> {
/// let file = std::fs::File::open("session.snapshot")?;
/// let restored = transformer.restore(model, file, &SessionOptions::new())?;
/// println!("{} tokens", restored.tokens.len());
/// let mut generator = restored.into_generator(&GenerateOptions::new().max_tokens(20))?;
/// for token in &mut generator {
///     print!("{}", token?.text);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub struct Restored {
    /// The session.
    pub session: Session,
    /// The whole sequence, of which the session has seen the beginning.
    pub tokens: Vec<u32>,
    /// How the tokens of an answer are chosen, and how far that is.
    pub answer: Option<AnswerState>,
    /// The turns of a conversation.
    pub turns: Option<Vec<Turn>>,
    /// The digest of the snapshot.
    pub digest: Digest,
}

impl SaveOptions {
    /// The session alone, not compressed.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Compresses by zstd what becomes smaller.
    #[must_use]
    pub const fn compress(mut self) -> Self {
        self.compression = Compression::Zstd;
        self
    }

    /// Sets the whole sequence, which begins with what the session has seen.
    #[must_use]
    pub fn tokens(mut self, tokens: impl Into<Vec<u32>>) -> Self {
        self.tokens = Some(tokens.into());
        self
    }

    /// Sets how the tokens of an answer are chosen.
    #[must_use]
    pub fn answer(mut self, answer: impl Into<Option<AnswerState>>) -> Self {
        self.answer = answer.into();
        self
    }

    /// Sets the turns of a conversation.
    #[must_use]
    pub fn turns(mut self, turns: impl Into<Option<Vec<Turn>>>) -> Self {
        self.turns = turns.into();
        self
    }
}

impl Session {
    /// Writes all of the sequence: tokens, keys and values, and the logits of the last evaluation.
    /// Returns the digest of the snapshot.
    ///
    /// It is the same snapshot, byte for byte, on any engine and in any placement and number of ranks,
    /// and is [restored](Transformer::restore) on any other. It is written as it is read from the
    /// guests, 64 KiB at a time. The first one of a model reads the model's file, for its digest.
    ///
    /// # Errors
    ///
    /// [`Error::Receipt`] if it cannot be written, [`Error::Runtime`] if the model's file cannot be
    /// read, [`Error::PartOfRanks`] if the session is one rank of several ([`SessionOptions::rank`]),
    /// and [`Error::PartOfStages`] if it is a stage ([`SessionOptions::stage`]).
    pub fn save(&self, out: impl Write) -> Result<Digest> {
        self.save_with(out, &SaveOptions::new())
    }

    /// Writes the sequence as [`save`](Self::save) does, with more beside it.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`save`](Self::save), and [`Error::Receipt`] for a sequence that begins otherwise.
    pub fn save_with(&self, out: impl Write, options: &SaveOptions) -> Result<Digest> {
        if self.options().stage.is_some() {
            return Err(Error::PartOfStages { operation: "save" });
        }
        let (ranks, here) = (self.ranks(), self.pool().ranks_here());
        if here < ranks {
            return Err(Error::PartOfRanks { rank: self.pool().first_rank(), ranks });
        }
        let position = self.position();
        let tokens = options.tokens.as_deref().unwrap_or_else(|| self.tokens());
        if !tokens.starts_with(self.tokens()) {
            return Err(damaged("the tokens", "they do not begin with what the session has seen"));
        }
        let mut state = State::new(Meta::new(self.identity()?, position), tokens);
        state.answer.clone_from(&options.answer);
        state.turns.clone_from(&options.turns);
        let mut writer = Writer::new(out, options.compression)?;
        state.write(&mut writer)?;
        if self.has_logits() {
            let logits = self.logits();
            writer.begin(tag::LOGITS, logits.as_bytes().len() as u64)?;
            writer.write(logits.as_bytes())?;
        }
        let places = self.pool().places();
        let config = self.model().config();
        writer.begin(tag::ROWS, rows_len(&places, config, position))?;
        for same in heads(&places) {
            // Where several ranks compute one head of keys and values, all have the same rows.
            let first = same[0];
            writer.write(&first.head.to_bytes())?;
            let kept = kept(first.head, config, position);
            let write = &mut |rows: &[u8]| Ok::<_, Error>(writer.write(rows)?);
            self.pool().read_rows(first, kept, write)?;
        }
        Ok(writer.finish()?)
    }

    /// What decides about the bits of its logits: model, guest, options.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Model::digests`].
    pub fn identity(&self) -> Result<Identity> {
        identity(self.model(), self.guest(), self.options())
    }

    fn read_from<R: Read>(&mut self, state: &State, reader: &mut Reader<R>) -> Result<()> {
        let position = state.meta.position;
        let vocabulary = self.model().config().vocab;
        let config = self.model().clone();
        let config = config.config();
        self.fill(&state.tokens[..position as usize], |pool| {
            let logits = reader.find_section(tag::LOGITS)?;
            if let Some(section) = logits {
                let expected = u64::from(vocabulary) * 4;
                if section.bytes != expected {
                    let reason = format!("it has {} bytes, and not {expected}", section.bytes);
                    return Err(damaged("the section LGTS", reason));
                }
                // As many as the vocabulary has, which the model's file has, too.
                let mut logits = vec![0; vocabulary as usize * 4];
                reader.read(&mut logits)?;
                pool.write_logits(&logits)?;
            }
            read_rows(pool, config, position, reader)?;
            pool.resume(position)?;
            Ok(logits.is_some())
        })
    }
}

impl Transformer {
    /// Starts a session that goes on where the session of a snapshot was: what is computed next has
    /// the bits that it would have there.
    ///
    /// Engine, placement, ranks, context and batch are what the options say. Model and guest, and
    /// options that change bits, have to be those of the snapshot, which is found out before anything
    /// is started. Nothing is computed; rows go from the reader into the guests, and no more is
    /// allocated than a session of these options takes, whatever the snapshot says.
    ///
    /// # Errors
    ///
    /// [`Error::Receipt`] if it is no snapshot, is damaged, of a newer version, or of another model,
    /// guest or option, all of which are named; [`Error::ContextFull`] if it does not fit in the
    /// context; [`Error::PartOfStages`] for a stage ([`SessionOptions::stage`]); and those of
    /// [`start`](Self::start).
    pub fn restore(
        &self,
        model: &Model,
        snapshot: impl Read,
        options: &SessionOptions,
    ) -> Result<Restored> {
        if options.stage.is_some() {
            return Err(Error::PartOfStages { operation: "restore" });
        }
        let mut reader = Reader::new(snapshot)?;
        let meta = State::read_meta(&mut reader)?;
        meta.identity.check("snapshot", &identity(model, self.guest(), options)?)?;
        let context = options.context_of(model)?;
        if meta.position > context {
            return Err(Error::ContextFull {
                asked: meta.position as usize,
                used: 0,
                context,
                limit: model.config().context_length,
            });
        }
        // The last token of an answer may be one more than the context has room for.
        let most = model.config().context_length.saturating_add(1);
        let state = State::read_rest(&mut reader, meta, most)?;
        let vocabulary = model.config().vocab;
        if let Some(token) = state.tokens.iter().find(|token| **token >= vocabulary) {
            let reason = format!("token {token} is not in the vocabulary of {vocabulary}");
            return Err(damaged("the section TOKN", reason));
        }
        let mut session = self.start(model, options)?;
        session.read_from(&state, &mut reader)?;
        reader.expect_end()?;
        let digest = reader.finish()?;
        let State { tokens, answer, turns, .. } = state;
        Ok(Restored { session, tokens, answer, turns, digest })
    }
}

/// What decides about the bits of logits.
pub(crate) fn identity(
    model: &Model,
    guest: Option<Digest>,
    options: &SessionOptions,
) -> Result<Identity> {
    let guest = guest.unwrap_or_else(Build::family);
    Ok(Identity::new(model.digests()?.sha256, guest)
        .option(ACTIVATIONS, options.activations.name())
        .option(CACHE_TYPE, options.cache_type.name()))
}

/// Names of options that change bits.
pub(crate) const ACTIVATIONS: &str = "activations";
pub(crate) const CACHE_TYPE: &str = "cache_type";

/// Reads the rows of all heads that are here, and skips those that other ranks have.
fn read_rows<R: Read>(
    pool: &mut RankPool,
    config: &Config,
    position: u32,
    reader: &mut Reader<R>,
) -> Result<()> {
    let wrong = |reason: String| damaged("the section ROWS", reason);
    let Some(section) = reader.find_section(tag::ROWS)? else {
        return Err(wrong("it is missing".into()));
    };
    let places = pool.places();
    let expected = rows_len(&places, config, position);
    let is_whole = pool.ranks_here() == pool.ranks();
    if is_whole && section.bytes != expected {
        return Err(wrong(format!("it has {} bytes, and not {expected}", section.bytes)));
    }
    for same in heads(&places) {
        let head = same[0].head;
        loop {
            let mut header = [0; RowHeader::BYTES];
            reader.read(&mut header)?;
            let found = RowHeader::from_bytes(header);
            if found == head {
                break;
            }
            if is_whole || found > head || found.row_bytes != head.row_bytes {
                return Err(wrong(format!("{found:?} stands where {head:?} is due")));
            }
            each_piece(reader, rows_of(found, config, position), |_, _| Ok(()))?;
        }
        let kept = kept(head, config, position);
        each_piece(reader, rows_of(head, config, position), |at, piece| {
            same.iter().try_for_each(|place| pool.write_rows(*place, kept.clone(), at, piece))
        })?;
    }
    Ok(())
}

/// Reads bytes of a section, a piece at a time; `take` gets each with its place among them.
fn each_piece<R: Read>(
    reader: &mut Reader<R>,
    bytes: u64,
    mut take: impl FnMut(u64, &[u8]) -> Result<()>,
) -> Result<()> {
    let mut piece = [0; 8192];
    let mut at = 0;
    while at < bytes {
        let count = usize::try_from(bytes - at).unwrap_or(usize::MAX).min(piece.len());
        reader.read(&mut piece[..count])?;
        take(at, &piece[..count])?;
        at += count as u64;
    }
    Ok(())
}

/// The places of each head: several where its keys and values are computed by several ranks.
fn heads(places: &[Place]) -> impl Iterator<Item = &[Place]> {
    places.chunk_by(|one, two| one.head == two.head)
}

/// Bytes of the rows of all heads, with their names.
fn rows_len(places: &[Place], config: &Config, position: u32) -> u64 {
    let len = |same: &[Place]| RowHeader::BYTES as u64 + rows_of(same[0].head, config, position);
    heads(places).map(len).sum()
}

/// The positions of which a snapshot has the rows of a head: those that its block needs to go on. In which
/// placement and batch it runs makes no difference.
fn kept(head: RowHeader, config: &Config, position: u32) -> Range<u32> {
    config.first_kept(head.block, position)..position
}

/// Bytes of the rows of a head.
fn rows_of(head: RowHeader, config: &Config, position: u32) -> u64 {
    u64::from(head.row_bytes) * kept(head, config, position).len() as u64
}

fn damaged(place: &str, reason: impl Into<String>) -> Error {
    let (place, reason) = (place.to_owned(), reason.into());
    receipts::Error::Damaged { what: "snapshot", place, reason }.into()
}
