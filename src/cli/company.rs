//! The processes that compute together with this one, if there are any.

mod digest;
#[cfg(feature = "mpi")]
mod mpi;
#[cfg(not(feature = "mpi"))]
#[path = "company/without_mpi.rs"]
mod mpi;

use std::path::Path;

use polychord::api::Rank;
use polychord::model::{Session, SessionOptions};

use super::Failure;
use mpi::Job;

/// The processes of one job, of which this one is a rank; or this process alone.
pub(crate) struct Company(Option<Member>);

struct Member {
    // Dropped first: it uses the job.
    rank: Rank,
    job: Job,
    /// Whether processes are stages, and not ranks of one network.
    stages: bool,
}

impl Company {
    /// Joins the others, if there are to be any.
    pub(crate) fn join(with_others: bool, stages: bool) -> Result<Self, Failure> {
        if !with_others {
            return Ok(Self(None));
        }
        let (job, rank) = Job::join()?;
        Ok(Self(Some(Member { rank, job, stages })))
    }

    /// Whether this process decides what is computed.
    pub(crate) fn leads(&self) -> bool {
        self.0.as_ref().is_none_or(|member| member.rank.index() == 0)
    }

    /// Makes a session's options those of a rank; the context is what rank 0 needs.
    pub(crate) fn prepare(&self, options: &mut SessionOptions) -> Result<(), Failure> {
        let Some(Member { rank, stages, .. }) = &self.0 else { return Ok(()) };
        let mut context = options.context.unwrap_or_default().to_le_bytes().to_vec();
        rank.broadcast(&mut context, size_of::<u32>())?;
        options.context = context.first_chunk().map(|context| u32::from_le_bytes(*context));
        let place = if *stages { &mut options.stage } else { &mut options.rank };
        *place = Some(rank.clone());
        Ok(())
    }

    /// Makes sure that all processes have the same program, model and options. The model's version is what a
    /// server says; a file is read.
    pub(crate) fn agree(
        &self,
        session: &Session,
        version: Option<String>,
        plan: Option<&Path>,
    ) -> Result<(), Failure> {
        if self.0.is_none() {
            return Ok(());
        }
        let plan = plan.map_or_else(|| Ok("none".to_owned()), digest::of_file)?;
        let model = version.map_or_else(|| digest::of_model(session.model().path()), Ok)?;
        Ok(session.agree(&[("model", model), ("plan", plan)])?)
    }

    /// Lets the others compute what a session does.
    pub(crate) fn lead(&self, session: &mut Session) -> Result<(), Failure> {
        if self.0.is_some() {
            session.lead()?;
        }
        Ok(())
    }

    /// Ends this process's part. If it has failed, or another one has, all of them end with one error.
    pub(crate) fn end(self, done: Result<(), Failure>) -> Result<(), Failure> {
        let Some(Member { rank, job, .. }) = &self.0 else { return done };
        match done.and_then(|()| Ok(rank.finish()?)) {
            Ok(()) => Ok(()),
            Err(failure) => {
                let message = failure.message();
                rank.stop(&message);
                let own = rank.stopped_by() == Some(rank.index());
                let own =
                    own.then(|| format!("rank {} of {}: {message}", rank.index(), rank.count()));
                job.give_up(rank.index(), &own.unwrap_or(message))
            }
        }
    }
}
