//! Several sessions that are advanced together.

use crate::error::{Error, Result};
use crate::rank_pool::RankPool;
use crate::session::Session;

/// How a token of each of several sessions was computed: see [`step`](Self::step).
///
/// ```no_run
/// use polychord_session::{Batch, Error, Session};
///
/// /// Two ends of one beginning.
/// fn run(mut session: Session, prompt: &[u32], ends: [u32; 2]) -> Result<(), Error> {
///     session.eval(prompt)?;
///     let mut other = session.fork()?;
///     let batch = Batch::step(&mut [(&mut session, ends[0]), (&mut other, ends[1])])?;
///     println!("{} passes over the weights", batch.passes);
///     println!("{} and {}", session.logits().iter().len(), other.logits().iter().len());
///     Ok(())
/// }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Batch {
    /// Passes over weights that it took.
    pub passes: usize,
    /// Most sessions that were computed in one of them.
    pub together: usize,
}

/// Products have tiles of that many columns, and one that is not full takes as long.
const TILE: usize = 4;

impl Batch {
    /// Appends one token to each of some sessions, with one pass over the weights for all of them, and
    /// computes what follows each. [`Session::logits`] has it.
    ///
    /// Each session has the bits that [`Session::eval`] would have given it, whatever the others are, in
    /// every placement and with any number of ranks. The sessions stay independent: they can be at any
    /// position, join and leave from step to step, and be forked, truncated, saved and dropped as ever.
    ///
    /// One pass is for sessions of one [`Model`](crate::Model) (or clones of it), with the same guests, ranks,
    /// activations and type of cache, such as [`Session::fork`] and starting with the same options make.
    /// It takes no more than the first of them has in its [`batch`](crate::SessionOptions::batch). Others,
    /// stages of a pipeline and sessions that lead others are evaluated one after another, and so are up to
    /// three that are left of full tiles of four. Time and counters of a pass are those of the first of its
    /// sessions.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Session::eval`], for any of the sessions. Every session is then as long as
    /// before, and can go on; until then, [`Session::logits`] has no meaning for any of them.
    pub fn step(members: &mut [(&mut Session, u32)]) -> Result<Self> {
        if members.is_empty() {
            return Err(Error::EmptyPrompt);
        }
        for (session, token) in &*members {
            session.check_step(*token)?;
        }
        let before: Vec<u32> = members.iter().map(|(session, _)| session.position()).collect();
        let done = step_by_group(members);
        if done.is_err() {
            for ((session, _), position) in members.iter_mut().zip(before) {
                session.take_back(position);
            }
        }
        done
    }
}

fn step_by_group(members: &mut [(&mut Session, u32)]) -> Result<Batch> {
    let mut batch = Batch::default();
    for group in groups(members) {
        let of_group = (0..).zip(members.iter_mut()).filter(|(index, _)| group.contains(index));
        let mut of_group: Vec<_> = of_group.map(|(_, member)| member).collect();
        let (together, alone) = of_group.split_at_mut(worth(group.len()));
        if !together.is_empty() {
            step_together(together)?;
            batch.passes += 1;
            batch.together = batch.together.max(together.len());
        }
        for (session, token) in alone.iter_mut().map(|member| &mut **member) {
            session.eval(&[*token])?;
            batch.passes += 1;
            batch.together = batch.together.max(1);
        }
    }
    Ok(batch)
}

/// How many of some sessions are computed together, so that it takes no longer than one by one: full
/// tiles, and one that is almost full behind others.
const fn worth(sessions: usize) -> usize {
    let rest = sessions % TILE;
    if sessions > TILE && rest == TILE - 1 { sessions } else { sessions - rest }
}

/// Which sessions are computed together, by their numbers.
fn groups(members: &[(&mut Session, u32)]) -> Vec<Vec<usize>> {
    let mut groups: Vec<Vec<usize>> = Vec::new();
    for (index, (session, _)) in members.iter().enumerate() {
        let fitting = groups.iter_mut().find(|group| {
            let first = &members[group[0]].0;
            group.len() < first.batch() as usize && first.steps_with(session)
        });
        match fitting {
            Some(group) => group.push(index),
            None => groups.push(vec![index]),
        }
    }
    groups
}

fn step_together(members: &mut [&mut (&mut Session, u32)]) -> Result<()> {
    let tokens: Vec<u32> = members.iter().map(|(_, token)| *token).collect();
    let positions = members.iter_mut().map(|(session, _)| session.begin_step());
    let positions: Vec<u32> = positions.collect::<Result<_>>()?;
    let Some(((first, _), others)) = members.split_first_mut() else { return Ok(()) };
    let mut pools: Vec<&mut RankPool> =
        others.iter_mut().map(|(session, _)| session.pool_mut()).collect();
    let done = first.pool_mut().step(&mut pools, &tokens, &positions);
    done.map_err(|error| first.name_token(error, &tokens))?;
    for (session, token) in members.iter_mut().map(|member| &mut **member) {
        session.end_step(*token);
    }
    Ok(())
}
