//! The processes that mpirun has started.

use std::io::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use polychord::api::Rank;
use polychord_ranks_mpi::{Link, Patience, World};

use crate::cli::predict::{parse_link, parse_time};
use crate::cli::{Failure, terminal};

/// All processes of a job.
pub(super) struct Job {
    /// MPI ends when it is dropped.
    _world: World,
}

/// How much longer than the one before a rank waits for it to tell what happened, and to end all, which a busy
/// machine may need most of a second for. What has failed is noticed within seven seconds, and told within ten.
const TURN: Duration = Duration::from_secs(1);
/// Ranks that wait longer than the one before; the others come together, if these are all gone.
const TURNS: u32 = 3;

impl Job {
    pub(super) fn join() -> Result<(Self, Rank), Failure> {
        let world = World::join()?;
        let (index, count) = world.place();
        let mesh = world.mesh(link()?, Patience::default(), move |failure| {
            end_all(index, &failure.into_error(count).to_string());
        })?;
        let rank = Rank::over(mesh)?;
        Ok((Self { _world: world }, rank))
    }

    /// Ends all processes with one message.
    pub(super) fn give_up(&self, rank: usize, message: &str) -> ! {
        end_all(rank, message)
    }
}

/// A link that experiments ask for (`scripts/netns-ranks`, `scripts/test-mpi`), as a delay and a rate, and when it
/// is lost, if it is: `1ms,10Gbit,20s`.
fn link() -> Result<Option<Link>, Failure> {
    let Ok(text) = std::env::var("POLYCHORD_LINK") else { return Ok(None) };
    let parts: Vec<_> = text.split(',').collect();
    Ok(Some(match parts[..] {
        [delay, rate] => Link::new(parse_time(delay)?, parse_link(rate)?),
        [delay, rate, lost] => {
            Link::new(parse_time(delay)?, parse_link(rate)?).lost_after(parse_time(lost)?)
        }
        _ => return Err("POLYCHORD_LINK is no delay and rate as 1ms,10Gbit".into()),
    }))
}

/// Ends all processes. The first rank that still can says why: it ends the others before they do.
fn end_all(rank: usize, message: &str) -> ! {
    static SAID: AtomicBool = AtomicBool::new(false);
    let turns = u32::try_from(rank).unwrap_or(TURNS).min(TURNS);
    thread::sleep(TURN * turns);
    if !SAID.swap(true, Ordering::Relaxed) {
        let mut stderr = std::io::stderr().lock();
        // Nothing is left to do if it cannot be written.
        _ = writeln!(stderr, "error: {}", terminal::lines(message));
        _ = stderr.flush();
        // mpirun passes on what it has read, and then ends itself.
        thread::sleep(Duration::from_millis(100));
    }
    World::abort(1)
}
