//! Jobs that wait, one user after another.

use std::collections::VecDeque;
use std::time::Instant;

use tokio::sync::mpsc::UnboundedSender;

use super::job::{Event, Job};

/// Jobs that wait: users take their places in turn, and each user's jobs keep their order.
#[derive(Default)]
pub(super) struct Queue {
    /// The user whose turn it is comes first. None has no job.
    users: VecDeque<(String, VecDeque<Waiting>)>,
    len: usize,
}

/// A job that waits, and where its events go.
pub(super) struct Waiting {
    pub(super) job: Job,
    pub(super) events: UnboundedSender<Event>,
    pub(super) since: Instant,
}

impl Queue {
    pub(super) fn push(&mut self, waiting: Waiting) {
        self.len += 1;
        let user = &waiting.job.user;
        match self.users.iter_mut().find(|(name, _)| name == user) {
            Some((_, jobs)) => jobs.push_back(waiting),
            None => self.users.push_back((user.clone(), VecDeque::from([waiting]))),
        }
    }

    /// The next job, of which the user waits longest for a turn.
    pub(super) fn pop(&mut self) -> Option<Waiting> {
        let (name, mut jobs) = self.users.pop_front()?;
        let next = jobs.pop_front();
        self.len -= 1;
        if !jobs.is_empty() {
            self.users.push_back((name, jobs));
        }
        next
    }

    /// Takes out the jobs that are not wanted any more.
    pub(super) fn remove_if(&mut self, mut unwanted: impl FnMut(&Waiting) -> bool) -> Vec<Waiting> {
        let mut removed = Vec::new();
        for (_, jobs) in &mut self.users {
            for waiting in std::mem::take(jobs) {
                if unwanted(&waiting) { removed.push(waiting) } else { jobs.push_back(waiting) }
            }
        }
        self.users.retain(|(_, jobs)| !jobs.is_empty());
        self.len -= removed.len();
        removed
    }

    pub(super) const fn len(&self) -> usize {
        self.len
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.len == 0
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn waiting(user: &str, number: u32) -> Waiting {
        let (events, _) = tokio::sync::mpsc::unbounded_channel();
        Waiting { job: Job::new([number]).user(user), events, since: Instant::now() }
    }

    fn order(queue: &mut Queue) -> Vec<u32> {
        std::iter::from_fn(|| queue.pop()).map(|it| it.job.prompt[0]).collect()
    }

    #[test]
    fn one_user_does_not_keep_another_waiting() {
        let mut queue = Queue::default();
        for (user, number) in [("a", 1), ("a", 2), ("a", 3), ("b", 4), ("c", 5), ("b", 6)] {
            queue.push(waiting(user, number));
        }
        assert_eq!(queue.len(), 6);
        assert_eq!(order(&mut queue), [1, 4, 5, 2, 6, 3]);
        assert!(queue.is_empty());
    }

    #[test]
    fn what_is_not_wanted_is_taken_out() {
        let mut queue = Queue::default();
        for (user, number) in [("a", 1), ("a", 2), ("b", 3)] {
            queue.push(waiting(user, number));
        }
        let removed = queue.remove_if(|it| it.job.prompt[0] != 2);
        assert_eq!(removed.len(), 2);
        assert_eq!((queue.len(), order(&mut queue)), (1, vec![2]));
    }
}
