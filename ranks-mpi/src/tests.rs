//! A mesh over channels of one process, of which some are cut.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant};

use polychord_runtime_api::ranks::{Deadline, Failure, Transport};
use polychord_runtime_api::{Error, Result};

use crate::message::{Message, PIECE, Step};
use crate::{Broken, Link, Mesh, Patience, Slow, Wire};

/// A rank that is connected by channels.
struct Channels {
    rank: u32,
    to: Vec<Sender<(u32, Vec<u8>)>>,
    from: Receiver<(u32, Vec<u8>)>,
    /// Neither sends nor receives, as a process that was stopped.
    stopped: Arc<AtomicBool>,
}

impl Wire for Channels {
    fn rank(&self) -> u32 {
        self.rank
    }

    fn ranks(&self) -> u32 {
        u32::try_from(self.to.len()).unwrap()
    }

    fn send(&mut self, to: u32, message: &[u8]) -> Result<(), Broken> {
        if !self.stopped.load(Ordering::Relaxed) {
            // As for a network, sending to who is gone is no error.
            _ = self.to[to as usize].send((self.rank, message.to_vec()));
        }
        Ok(())
    }

    fn receive(&mut self, into: &mut Vec<u8>) -> Result<Option<u32>, Broken> {
        if self.stopped.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let Ok((from, message)) = self.from.try_recv() else { return Ok(None) };
        *into = message;
        Ok(Some(from))
    }
}

fn wires(count: usize) -> Vec<Channels> {
    let (to, from): (Vec<_>, Vec<_>) = (0..count).map(|_| mpsc::channel()).unzip();
    let wire = |(rank, from)| Channels { rank, to: to.clone(), from, stopped: Arc::default() };
    (0..).zip(from).map(wire).collect()
}

fn patience() -> Patience {
    Patience::default().silence(Duration::from_millis(400)).grace(Duration::from_millis(100))
}

fn mesh(wire: Channels) -> Mesh {
    Mesh::new(wire, patience(), |_| ()).unwrap()
}

fn group(count: usize) -> Vec<Mesh> {
    wires(count).into_iter().map(mesh).collect()
}

/// Runs each rank in a thread of its own.
fn all<T: Send>(group: Vec<Mesh>, work: impl Fn(Mesh) -> T + Sync) -> Vec<T> {
    thread::scope(|scope| {
        let work = &work;
        let threads: Vec<_> = group.into_iter().map(|it| scope.spawn(move || work(it))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

fn stopped_by(result: &Result<()>) -> Option<usize> {
    match result {
        Err(Error::RankStopped { rank, .. }) => Some(*rank),
        _ => None,
    }
}

#[test]
fn all_have_all_parts_again_and_again() {
    all(group(4), |mesh| {
        for (chunk, total) in [(3, 10), (0, 0), (5, 5), (PIECE + 9, 3 * PIECE), (1, 2), (3, 10)] {
            let whole: Vec<u8> = (0..total).map(|at| u8::try_from(at % 251).unwrap()).collect();
            let own = mesh.rank() as usize;
            let part = |at: usize| if at / chunk.max(1) == own { whole[at] } else { 0 };
            let mut buffer: Vec<_> = (0..total).map(part).collect();
            mesh.all_gather(&mut buffer, chunk, None).unwrap();
            assert!(buffer == whole, "{chunk} {total}");
        }
        mesh.finish(None).unwrap();
    });
}

#[test]
fn any_rank_can_say_something() {
    all(group(3), |mesh| {
        for (from, len) in [(0, 5), (2, PIECE + 1), (1, 0), (2, 7)] {
            let mut bytes = vec![u8::try_from(mesh.rank()).unwrap(); len];
            mesh.broadcast(from, &mut bytes, None).unwrap();
            assert!(bytes.iter().all(|byte| u32::from(*byte) == from) && bytes.len() == len);
        }
    });
}

#[test]
fn a_slow_link_delays_and_changes_nothing() {
    let link = Link::new(Duration::from_millis(20), 8e6);
    let slow = |wire| Mesh::new(Slow::new(wire, link), patience(), |_| ()).unwrap();
    let took = all(wires(2).into_iter().map(slow).collect(), |mesh| {
        let start = Instant::now();
        let mut bytes = vec![u8::try_from(mesh.rank()).unwrap(); 40_000];
        mesh.all_gather(&mut bytes, 20_000, None).unwrap();
        assert!(bytes[..20_000].iter().all(|byte| *byte == 0));
        assert!(bytes[20_000..].iter().all(|byte| *byte == 1));
        start.elapsed()
    });
    // 20 ms on the way, and 20 KB by a megabyte a second.
    assert!(took.iter().all(|took| *took >= Duration::from_millis(40)), "{took:?}");
}

#[test]
fn a_rank_that_is_silent_is_named_by_all_others() {
    let wires = wires(3);
    let stopped = wires[1].stopped.clone();
    let start = Instant::now();
    let results = all(wires.into_iter().map(mesh).collect(), |mesh| {
        mesh.finish(None)?;
        if mesh.rank() == 1 {
            stopped.store(true, Ordering::Relaxed);
            // As long as the others wait.
            thread::sleep(Duration::from_secs(2));
            return Ok(());
        }
        mesh.finish(None)
    });
    assert_eq!([0, 2].map(|rank| stopped_by(&results[rank])), [Some(1); 2], "{results:?}");
    assert!(results[0].as_ref().unwrap_err().to_string().contains("for 400 ms"));
    assert!(start.elapsed() < Duration::from_secs(6), "{:?}", start.elapsed());
}

#[test]
fn a_rank_whose_network_is_lost_is_named_by_all_others() {
    let link = Link::new(Duration::ZERO, 1e12);
    let start = Instant::now();
    let meshes = (0..).zip(wires(3)).map(|(rank, wire)| {
        let lost = link.lost_after(Duration::from_millis(200));
        let link = if rank == 1 { lost } else { link };
        Mesh::new(Slow::new(wire, link), patience(), |_| ()).unwrap()
    });
    let results = all(meshes.collect(), |mesh| {
        while start.elapsed() < Duration::from_secs(4) {
            mesh.finish(None)?;
        }
        Ok(())
    });
    // The one that is lost hears of no other, and cannot tell.
    assert_eq!([0, 2].map(|rank| stopped_by(&results[rank])), [Some(1); 2], "{results:?}");
    assert!(results[1].is_err());
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
}

#[test]
fn messages_of_any_length_go_to_one_rank_in_their_order() {
    let lengths = [0, 1, PIECE, PIECE + 1, 5 * PIECE + 7, 3];
    let byte = |round: usize, len: usize| u8::try_from((round + len) % 251).unwrap();
    all(group(3), |mesh| {
        let own = mesh.rank();
        let mut got = Vec::new();
        for round in 0..3 {
            for len in lengths {
                // Two exchange, and the third takes what both send.
                let sent = vec![byte(round, len); len];
                if own < 2 {
                    mesh.send(1 - own, &sent, None).unwrap();
                    mesh.send(2, &sent, None).unwrap();
                    mesh.receive(1 - own, &mut got, len, None).unwrap();
                    assert!(got == sent);
                } else {
                    for from in [1, 0] {
                        mesh.receive(from, &mut got, len, None).unwrap();
                        assert!(got == sent);
                    }
                }
            }
        }
        mesh.finish(None).unwrap();
        let traffic = mesh.traffic();
        assert!(traffic.messages > 20 && traffic.received_bytes > 0 && traffic.sent_bytes > 0);
    });
}

#[test]
fn a_rank_that_is_far_ahead_waits() {
    let count = usize::try_from(super::mesh::WINDOW).unwrap() * 3;
    let sent = std::sync::atomic::AtomicUsize::new(0);
    all(group(2), |mesh| {
        if mesh.rank() == 0 {
            for number in 0..count {
                mesh.send(1, &number.to_le_bytes(), None).unwrap();
                sent.store(number, Ordering::Relaxed);
            }
        } else {
            thread::sleep(Duration::from_millis(300));
            assert!(sent.load(Ordering::Relaxed) < count / 3);
            let mut got = Vec::new();
            for number in 0..count {
                mesh.receive(0, &mut got, 8, None).unwrap();
                assert_eq!(got, number.to_le_bytes());
            }
        }
        mesh.finish(None).unwrap();
    });
}

#[test]
fn messages_that_are_too_long_or_in_no_order_are_refused() {
    for (notes, says) in [
        (&[(5, 0, 5)][..], "at most 4 bytes"),
        (&[(4, 1, 3)], "from byte 1 of 4"),
        (&[(4, 0, 2), (4, 1, 3)], "of which it has 2"),
        (&[(4, 0, 2), (4, 2, 3)], "brings 3 from byte 2 of 4"),
        (&[(4, 0, 0)], "brings 0"),
        (&[(u64::MAX, 0, 4)], "at most 4 bytes"),
    ] {
        let mut wires = wires(2);
        let mut liar = wires.pop().unwrap();
        let mut out = Vec::new();
        for (total, at, len) in notes {
            Message::Note { total: *total, at: *at, bytes: &[0; 5][..*len] }.write(&mut out);
            liar.send(0, &out).unwrap();
        }
        let mesh = mesh(wires.pop().unwrap());
        let error = mesh.receive(1, &mut Vec::new(), 4, None).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
    // One that ignores how much it may send.
    let mut wires = wires(2);
    let mut liar = wires.pop().unwrap();
    let mut out = Vec::new();
    Message::Note { total: 1, at: 0, bytes: b"a" }.write(&mut out);
    (0..=super::mesh::WINDOW).for_each(|_| liar.send(0, &out).unwrap());
    let mesh = mesh(wires.pop().unwrap());
    let error = mesh.finish(None).unwrap_err().to_string();
    assert!(error.contains("more than this rank takes"), "{error}");
}

#[test]
fn a_rank_that_computes_for_long_is_not_silent() {
    let results = all(group(3), |mesh| {
        if mesh.rank() == 2 {
            thread::sleep(Duration::from_millis(1200));
        }
        mesh.finish(None)
    });
    assert!(results.iter().all(Result::is_ok), "{results:?}");
}

#[test]
fn a_rank_that_leaves_or_fails_stops_the_others_with_its_reason() {
    let results = all(group(3), |mesh| {
        if mesh.rank() == 2 {
            return Ok(());
        }
        mesh.finish(None)
    });
    assert_eq!(stopped_by(&results[0]), Some(2));
    let results = all(group(3), |mesh| {
        if mesh.rank() == 0 {
            mesh.fail(Failure::new(0, "the model is not there"));
        }
        mesh.all_gather(&mut [0; 9], 3, None)
    });
    for result in results {
        let error = result.unwrap_err().to_string();
        assert!(error.contains("rank 0 of 3") && error.contains("is not there"), "{error}");
    }
}

#[test]
fn a_deadline_ends_waiting() {
    let results = all(group(2), |mesh| {
        if mesh.rank() == 1 {
            while mesh.failure().is_none() {
                thread::sleep(Duration::from_millis(5));
            }
            return mesh.finish(None);
        }
        mesh.finish(Deadline::after(Duration::from_millis(50)))
    });
    let late = |it: &Result<()>| matches!(it, Err(Error::RankStopped { rank: 0, reason, .. }) if reason.contains("50 ms"));
    assert!(results.iter().all(late), "{results:?}");
}

#[test]
fn other_steps_and_other_lengths_are_refused() {
    let results = all(group(2), |mesh| {
        if mesh.rank() == 1 { mesh.finish(None) } else { mesh.all_gather(&mut [0; 4], 2, None) }
    });
    assert!(results.iter().all(|it| matches!(it, Err(Error::RanksDisagree { .. }))), "{results:?}");
    // A rank that says one thing and does another, and one that does not wait.
    let step = Step::Gather { chunk: 2, total: 4, at: 0 };
    for (bytes, times, says) in
        [(&b"abc"[..], 1, "takes 2 bytes"), (b"", 1, "brings 0"), (b"ab", 3, "does not wait")]
    {
        let mut wires = wires(2);
        let mut liar = wires.pop().unwrap();
        let mut out = Vec::new();
        Message::Step(step, bytes).write(&mut out);
        (0..times).for_each(|_| liar.send(0, &out).unwrap());
        let mesh = mesh(wires.pop().unwrap());
        // What one rank has sent too much may be noticed one step later.
        let gather = || mesh.all_gather(&mut [0; 4], 2, None);
        let error = gather().and_then(|()| gather()).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
}

#[test]
fn bytes_that_are_no_messages_are_refused() {
    for bytes in [&b""[..], b"GET / HTTP/1.1\r\n", &[0; 40]] {
        let mut wires = wires(2);
        let mut stranger = wires.pop().unwrap();
        stranger.send(0, bytes).unwrap();
        let mesh = mesh(wires.pop().unwrap());
        let error = mesh.finish(None).unwrap_err().to_string();
        assert!(error.contains("rank 1 of 2") && error.contains("the same program"), "{error}");
    }
}

#[test]
fn last_words_are_said_once_while_a_guest_computes() {
    let (say, said) = mpsc::channel();
    let mut wires = wires(2);
    let other = mesh(wires.pop().unwrap());
    let mesh =
        Mesh::new(wires.pop().unwrap(), patience(), move |failure| say.send(failure).unwrap());
    let mesh = mesh.unwrap();
    other.fail(Failure::new(1, "it has no memory left"));
    // This rank computes: nothing of the mesh is called.
    let failure = said.recv_timeout(Duration::from_secs(5)).unwrap();
    assert_eq!((failure.rank, &*failure.reason), (1, "it has no memory left"));
    drop(mesh);
    assert!(said.recv().is_err());
}
