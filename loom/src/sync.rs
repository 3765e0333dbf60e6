//! What the shared files use, of loom. How locks are poisoned is the standard library's.

pub(crate) use std::sync::PoisonError;

pub(crate) use loom::sync::{Arc, Condvar, Mutex, MutexGuard, atomic};
pub(crate) use loom::thread;

/// Channels: loom's own does not tell a receiver that its sender is gone.
pub(crate) mod mpsc {
    use std::collections::VecDeque;
    use std::sync::mpsc::{RecvError, SendError, TryRecvError};

    use super::{Arc, Condvar, Mutex};

    #[derive(Debug)]
    pub(crate) struct Sender<T>(Arc<Channel<T>>);

    #[derive(Debug)]
    pub(crate) struct Receiver<T>(Arc<Channel<T>>);

    #[derive(Debug)]
    struct Channel<T> {
        state: Mutex<State<T>>,
        changed: Condvar,
    }

    #[derive(Debug)]
    struct State<T> {
        queue: VecDeque<T>,
        /// Whether both ends are there.
        open: bool,
    }

    pub(crate) fn channel<T>() -> (Sender<T>, Receiver<T>) {
        let state = Mutex::new(State { queue: VecDeque::new(), open: true });
        let channel = Arc::new(Channel { state, changed: Condvar::new() });
        (Sender(channel.clone()), Receiver(channel))
    }

    impl<T> Sender<T> {
        pub(crate) fn send(&self, message: T) -> Result<(), SendError<T>> {
            let mut state = self.0.state.lock().unwrap();
            if !state.open {
                return Err(SendError(message));
            }
            state.queue.push_back(message);
            self.0.changed.notify_one();
            Ok(())
        }
    }

    impl<T> Receiver<T> {
        pub(crate) fn recv(&self) -> Result<T, RecvError> {
            let mut state = self.0.state.lock().unwrap();
            loop {
                if let Some(message) = state.queue.pop_front() {
                    return Ok(message);
                }
                if !state.open {
                    return Err(RecvError);
                }
                state = self.0.changed.wait(state).unwrap();
            }
        }

        pub(crate) fn try_recv(&self) -> Result<T, TryRecvError> {
            let mut state = self.0.state.lock().unwrap();
            let none = if state.open { TryRecvError::Empty } else { TryRecvError::Disconnected };
            state.queue.pop_front().ok_or(none)
        }
    }

    impl<T> Drop for Sender<T> {
        fn drop(&mut self) {
            self.0.close();
        }
    }

    impl<T> Drop for Receiver<T> {
        fn drop(&mut self) {
            self.0.close();
        }
    }

    impl<T> Channel<T> {
        fn close(&self) {
            self.state.lock().unwrap().open = false;
            self.changed.notify_one();
        }
    }
}
