//! One rank that decides, and others that follow it.

use polychord_runtime_api::Rank;

use crate::error::{Error, Result};
use crate::pipeline::Wanted;
use crate::session::Session;
use crate::terms::{self, Terms};

/// What rank 0 tells the others to compute.
struct Job {
    wanted: Wanted,
    position: u32,
    tokens: Vec<u32>,
}

/// Bytes of a job before its tokens: what it is, and its position.
const HEADER: usize = 5;
const END: u8 = 0;
const CACHE: u8 = 1;
const LOGITS: u8 = 2;

impl Session {
    /// Compares what all ranks of a group were started with, and refuses if two of them differ: they
    /// would compute something else, or wait for each other in vain. All ranks call it after the start.
    ///
    /// `facts` are what only the caller knows, such as digests of the model and of the program, by their
    /// names. The session adds versions, the shape of the network, and every option that changes results or
    /// the order of the work. Engines, builds of the guest and load modes may differ.
    ///
    /// # Errors
    ///
    /// [`Error::RanksDiffer`] with all differences, the same on all ranks; [`Error::Runtime`] if one of
    /// them has failed, and [`Error::NoRank`] if the session was given none.
    pub fn agree(&self, facts: &[(&str, String)]) -> Result<()> {
        let rank = self.given_rank("compare what ranks were started with")?;
        let own = Terms::of(self, facts);
        let all = rank.exchange(&own.to_bytes(), terms::MOST)?;
        let differences = terms::differences(&all);
        if differences.is_empty() {
            return Ok(());
        }
        let error = Error::RanksDiffer { differences };
        rank.stop(&error);
        Err(error)
    }

    /// Makes this session, which is rank 0 of a group, the one that decides: whatever it evaluates from now
    /// on, the others compute as well, each in [`follow`](Self::follow). It alone needs the prompt and
    /// draws tokens.
    ///
    /// # Errors
    ///
    /// [`Error::NoRank`] if the session was given no rank, or another than 0.
    pub fn lead(&mut self) -> Result<()> {
        let operation = "lead others";
        if self.given_rank(operation)?.index() != 0 {
            return Err(Error::NoRank { operation });
        }
        self.set_leading(true);
        Ok(())
    }

    /// Ends the work of those that follow: their [`follow`](Self::follow) returns. Does nothing if this
    /// session does not lead.
    ///
    /// # Errors
    ///
    /// [`Error::Runtime`] if a rank has failed.
    pub fn dismiss(&mut self) -> Result<()> {
        if self.is_leading() {
            self.set_leading(false);
            self.given_rank("lead others")?.broadcast(&mut vec![END; HEADER], HEADER)?;
        }
        Ok(())
    }

    /// Computes what rank 0 evaluates ([`lead`](Self::lead)), until it has no more
    /// ([`dismiss`](Self::dismiss)).
    ///
    /// # Errors
    ///
    /// [`Error::Runtime`] if a rank has failed, or rank 0 asks for what this session has no room for;
    /// and the errors of [`eval`](Self::eval). All ranks are stopped then.
    pub fn follow(&mut self) -> Result<()> {
        let rank = self.given_rank("follow rank 0")?.clone();
        let done = self.follow_rank(&rank);
        if let Err(error) = &done {
            rank.stop(error);
        }
        done
    }

    fn follow_rank(&mut self, rank: &Rank) -> Result<()> {
        let most = HEADER.saturating_add(self.context() as usize * size_of::<u32>());
        let mut bytes = Vec::new();
        loop {
            rank.broadcast(&mut bytes, most)?;
            let Some(job) = Job::read(&bytes) else { return Ok(()) };
            self.truncate(job.position)?;
            self.append(&job.tokens, job.wanted)?;
        }
    }

    /// Tells the others what this session evaluates next, if it leads them.
    pub(crate) fn tell(&self, tokens: &[u32], wanted: Wanted) -> Result<()> {
        if !self.is_leading() {
            return Ok(());
        }
        let job = Job { wanted, position: self.position(), tokens: tokens.to_vec() };
        let mut bytes = job.to_bytes();
        let most = bytes.len();
        Ok(self.given_rank("lead others")?.broadcast(&mut bytes, most)?)
    }
}

impl Job {
    fn to_bytes(&self) -> Vec<u8> {
        let kind = if self.wanted == Wanted::Cache { CACHE } else { LOGITS };
        let numbers = std::iter::once(&self.position).chain(&self.tokens);
        std::iter::once(kind).chain(numbers.flat_map(|number| number.to_le_bytes())).collect()
    }

    /// None if it is the end. Bytes that make up no job cannot come from a rank that has agreed; what they
    /// ask for is checked as if a caller had asked.
    fn read(bytes: &[u8]) -> Option<Self> {
        let (kind, numbers) = bytes.split_first()?;
        let wanted = match *kind {
            CACHE => Wanted::Cache,
            LOGITS => Wanted::Logits,
            _ => return None,
        };
        let (numbers, _) = numbers.as_chunks::<4>();
        let mut numbers = numbers.iter().map(|number| u32::from_le_bytes(*number));
        Some(Self { wanted, position: numbers.next()?, tokens: numbers.collect() })
    }
}
