//! Sessions, and which of them gets a job.

use polychord_session::Session;

use super::turn::{Turn, common};

/// A session, and the answer that it computes.
pub(super) struct Slot {
    pub(super) session: Session,
    pub(super) turn: Option<Turn>,
    /// When its last answer ended, counted in answers.
    pub(super) used: u64,
}

/// Where a job goes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// To a session that has nothing to do.
    Idle(usize),
    /// To a copy of a session, in place of another one or in a new place.
    Fork { from: usize, instead_of: Option<usize> },
    /// To a new session.
    New,
}

/// What a choice is made by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate {
    pub(super) is_busy: bool,
    /// Tokens that it has seen.
    pub(super) len: usize,
    /// Of these, how many the prompt begins with.
    pub(super) common: usize,
    pub(super) used: u64,
}

/// A copy pays from 32 common tokens on: it starts guests and copies rows.
pub(super) const WORTH_A_COPY: usize = 32;

impl Slot {
    pub(super) const fn new(session: Session) -> Self {
        Self { session, turn: None, used: 0 }
    }

    pub(super) fn candidate(&self, prompt: &[u32]) -> Candidate {
        let tokens = self.session.tokens();
        Candidate {
            is_busy: self.turn.is_some(),
            len: tokens.len(),
            common: common(tokens, prompt),
            used: self.used,
        }
    }
}

/// Chooses a place: the session of the same conversation; else a copy of the one with the longest
/// common beginning; else a new one or the one that was not used for longest.
pub(super) fn choose(slots: &[Candidate], parallel: usize) -> Place {
    let best = (0..slots.len()).max_by_key(|index| slots[*index].common);
    let idle = (0..slots.len()).filter(|index| !slots[*index].is_busy);
    let oldest = idle.min_by_key(|index| (slots[*index].len > 0, slots[*index].used));
    let has_room = slots.len() < parallel;
    if let Some(best) = best.filter(|best| slots[*best].common > 0) {
        let Candidate { is_busy, len, common, .. } = slots[best];
        // It goes on, or little of it is lost.
        if !is_busy && common >= len.div_ceil(2) {
            return Place::Idle(best);
        }
        if common >= WORTH_A_COPY {
            match oldest {
                _ if has_room => return Place::Fork { from: best, instead_of: None },
                Some(oldest) if oldest == best => return Place::Idle(best),
                Some(oldest) => return Place::Fork { from: best, instead_of: Some(oldest) },
                None => {}
            }
        }
    }
    match oldest {
        Some(oldest) if !has_room || slots[oldest].len == 0 => Place::Idle(oldest),
        _ => Place::New,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn idle(len: usize, common: usize, used: u64) -> Candidate {
        Candidate { is_busy: false, len, common, used }
    }

    const fn busy(len: usize, common: usize) -> Candidate {
        Candidate { is_busy: true, len, common, used: 0 }
    }

    #[test]
    fn a_conversation_finds_its_session_again() {
        assert_eq!(choose(&[idle(100, 3, 9), idle(80, 80, 1)], 2), Place::Idle(1));
    }

    #[test]
    fn a_common_beginning_is_copied_and_another_conversation_kept() {
        let fork = Place::Fork { from: 0, instead_of: None };
        assert_eq!(choose(&[busy(200, 50)], 2), fork);
        assert_eq!(choose(&[idle(200, 50, 1)], 2), fork);
        let instead = Place::Fork { from: 0, instead_of: Some(1) };
        assert_eq!(choose(&[busy(200, 50), idle(90, 4, 2)], 2), instead);
        // Too little of it.
        assert_eq!(choose(&[busy(200, 9)], 2), Place::New);
    }

    #[test]
    fn what_was_not_used_for_longest_makes_place() {
        assert_eq!(choose(&[idle(50, 2, 7), idle(60, 2, 3), busy(9, 2)], 3), Place::Idle(1));
        assert_eq!(choose(&[idle(0, 0, 0), idle(60, 2, 3)], 4), Place::Idle(0));
        assert_eq!(choose(&[idle(60, 2, 3)], 4), Place::New);
    }
}
