//! The processes that compute together with this one, if there are any.

mod digest;
#[cfg(feature = "mpi")]
mod mpi;
#[cfg(not(feature = "mpi"))]
#[path = "company/without_mpi.rs"]
mod mpi;

use std::path::Path;
use std::time::Duration;

use polychord::api::Rank;
use polychord::model::{Flow, Placement, Session, SessionOptions, Stage};
use serde_json::{Value, json};

use super::Failure;
use mpi::Job;

/// The processes of one job, of which this one is a rank; or this process alone.
pub(crate) struct Company(Option<Member>);

struct Member {
    // Dropped first: it uses the job.
    rank: Rank,
    job: Job,
    /// Whether each process is a stage, if no plan names hosts.
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

    /// Makes the context of a session what rank 0 needs.
    pub(crate) fn agree_on_context(&self, options: &mut SessionOptions) -> Result<(), Failure> {
        let Some(Member { rank, .. }) = &self.0 else { return Ok(()) };
        let mut context = options.context.unwrap_or_default().to_le_bytes().to_vec();
        rank.broadcast(&mut context, size_of::<u32>())?;
        options.context = context.first_chunk().map(|context| u32::from_le_bytes(*context));
        Ok(())
    }

    /// Makes a session's options those of a rank, or of a stage.
    pub(crate) fn prepare(&self, options: &mut SessionOptions) -> Result<(), Failure> {
        let Some(Member { rank, stages, .. }) = &self.0 else { return Ok(()) };
        let hosts = match &options.placement {
            Placement::Planned(plan) if !plan.hosts.is_empty() => Some(plan.host_count() as usize),
            _ => stages.then(|| rank.count()),
        };
        let Some(hosts) = hosts else {
            options.rank = Some(rank.clone());
            return Ok(());
        };
        let (stage, team) = Stage::of(rank, hosts).map_err(|_| {
            let processes = rank.count();
            format!("{processes} processes cannot be divided over {hosts} hosts: start as many for each host")
        })?;
        (options.stage, options.rank) = (Some(stage), team);
        Ok(())
    }

    /// Makes sure that all processes have the same program, model and options. The model's version is what a
    /// server says; a file is read.
    pub(crate) fn agree(
        &self,
        session: &Session,
        version: Option<String>,
        plan: Option<&Path>,
        sequences: u32,
    ) -> Result<(), Failure> {
        if self.0.is_none() {
            return Ok(());
        }
        let plan = plan.map_or_else(|| Ok("none".to_owned()), digest::of_file)?;
        let model = version.map_or_else(|| digest::of_model(session.model().path()), Ok)?;
        let sequences = sequences.to_string();
        Ok(session.agree(&[("model", model), ("plan", plan), ("sequences", sequences)])?)
    }

    /// Lets the others compute what a session does.
    pub(crate) fn lead(&self, session: &mut Session) -> Result<(), Failure> {
        if self.0.is_some() {
            session.lead()?;
        }
        Ok(())
    }

    /// Whether there are other processes which are no stages.
    pub(crate) fn has_ranks_alone(&self, session: &Session) -> bool {
        self.0.as_ref().is_some_and(|member| !member.stages)
            && session.placed().plan.hosts.is_empty()
    }

    /// What each process has exchanged with others: all of them call it, at the end.
    pub(crate) fn traffic(&self) -> Result<Vec<Value>, Failure> {
        let Some(Member { rank, .. }) = &self.0 else { return Ok(Vec::new()) };
        let own = rank.traffic();
        let waited = u64::try_from(own.waited.as_micros()).unwrap_or(u64::MAX);
        let numbers = [own.messages, own.sent_bytes, own.received_bytes, waited];
        let object = |(rank, [messages, sent, received, waited]): (usize, [u64; 4])| {
            json!({
                "rank": rank,
                "messages": messages,
                "sent_bytes": sent,
                "received_bytes": received,
                "waited_ms": Duration::from_micros(waited).as_secs_f64() * 1e3,
            })
        };
        let all = exchange(rank, numbers)?;
        Ok(all.into_iter().enumerate().map(object).collect())
    }

    /// Which part of the time each process was busy for: all of them call it.
    pub(crate) fn tell_of(&self, flow: &Flow) -> Result<Vec<f64>, Failure> {
        let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let own = [micros(flow.busy), micros(flow.took)];
        let all = match &self.0 {
            Some(Member { rank, .. }) => exchange(rank, own)?,
            None => vec![own],
        };
        let seconds = |micros: u64| Duration::from_micros(micros).as_secs_f64();
        Ok(all.into_iter().map(|[busy, took]| seconds(busy) / seconds(took).max(1e-9)).collect())
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

/// Numbers of each process.
fn exchange<const N: usize>(rank: &Rank, own: [u64; N]) -> Result<Vec<[u64; N]>, Failure> {
    let bytes = own.map(u64::to_le_bytes);
    let all = rank.exchange(bytes.as_flattened(), N * size_of::<u64>())?;
    let numbers = |bytes: Vec<u8>| {
        let (words, _) = bytes.as_chunks::<8>();
        let mut words = words.iter().map(|word| u64::from_le_bytes(*word));
        std::array::from_fn(|_| words.next().unwrap_or_default())
    };
    Ok(all.into_iter().map(numbers).collect())
}
