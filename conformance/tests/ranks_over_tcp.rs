//! Ranks that reach each other by TCP pass the same cases as ranks that are threads: a transport
//! may be anything that exchanges bytes.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::{BTreeSet, VecDeque};
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Instant;

use polychord_backend_wasmtime::WasmtimeEngine;
use polychord_conformance::cases::ranks::{self, Connect};
use polychord_runtime_api::ranks::{Deadline, Failure, Rank, Transport};
use polychord_runtime_api::{Error, Result};

/// A rank with a connection to each other one, and a thread that reads from each.
struct Tcp {
    rank: u32,
    peers: Vec<Option<TcpStream>>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// What each rank has sent and this one has not used yet.
    inbox: Vec<VecDeque<Message>>,
    /// Ranks that send nothing any more. A failure only for an exchange that they are missing in.
    gone: BTreeSet<usize>,
    failure: Option<Failure>,
}

/// What a rank tells all others.
#[derive(Debug, PartialEq, Eq)]
enum Message {
    /// Sizes of a gather, and the chunk of the sender.
    Gather {
        chunk: u64,
        total: u64,
        bytes: Vec<u8>,
    },
    Finish,
    Failed {
        rank: u32,
        reason: String,
    },
}

impl Message {
    fn send(&self, mut to: &TcpStream) -> io::Result<()> {
        let (kind, numbers, bytes) = match self {
            Self::Gather { chunk, total, bytes } => (0, [*chunk, *total], &**bytes),
            Self::Finish => (1, [0; 2], &[][..]),
            Self::Failed { rank, reason } => (2, [u64::from(*rank), 0], reason.as_bytes()),
        };
        let header = [kind, numbers[0], numbers[1], bytes.len() as u64].map(u64::to_le_bytes);
        to.write_all(&[header.as_flattened(), bytes].concat())
    }

    fn receive(mut from: &TcpStream) -> io::Result<Self> {
        let mut header = [[0; 8]; 4];
        from.read_exact(header.as_flattened_mut())?;
        let [kind, first, second, len] = header.map(u64::from_le_bytes);
        let mut bytes = vec![0; usize::try_from(len).unwrap()];
        from.read_exact(&mut bytes)?;
        Ok(match kind {
            0 => Self::Gather { chunk: first, total: second, bytes },
            1 => Self::Finish,
            _ => Self::Failed {
                rank: u32::try_from(first).unwrap(),
                reason: String::from_utf8(bytes).unwrap(),
            },
        })
    }

    fn does(&self) -> String {
        match self {
            Self::Gather { chunk, total, .. } => {
                format!("gathers {total} bytes in chunks of {chunk}")
            }
            _ => "has finished".into(),
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps the first failure; whether it is this one.
    fn fail(&self, failure: Failure) -> bool {
        let mut state = self.state();
        let first = state.failure.is_none();
        state.failure.get_or_insert(failure);
        self.changed.notify_all();
        first
    }

    /// Reads from one rank until it is gone.
    fn read(&self, peer: u32, from: &TcpStream) {
        loop {
            match Message::receive(from) {
                Ok(Message::Failed { rank, reason }) => {
                    self.fail(Failure::new(rank, reason));
                }
                Ok(message) => {
                    self.state().inbox[peer as usize].push_back(message);
                    self.changed.notify_all();
                }
                Err(_) => {
                    self.state().gone.insert(peer as usize);
                    self.changed.notify_all();
                    return;
                }
            }
        }
    }
}

impl Tcp {
    fn new(rank: u32, peers: Vec<Option<TcpStream>>) -> Self {
        let shared = Arc::new(Shared::default());
        shared.state().inbox.resize_with(peers.len(), VecDeque::new);
        for (peer, stream) in (0..).zip(&peers) {
            let Some(stream) = stream.as_ref().map(|stream| stream.try_clone().unwrap()) else {
                continue;
            };
            let shared = shared.clone();
            thread::spawn(move || shared.read(peer, &stream));
        }
        Self { rank, peers, shared }
    }

    fn tell(&self, message: &Message) {
        for peer in self.peers.iter().flatten() {
            // A rank that is gone is noticed by the thread that reads from it.
            _ = message.send(peer);
        }
    }

    /// Tells all others, and waits for what each of them does next.
    fn exchange(&self, own: &Message, deadline: Option<Deadline>) -> Result<Vec<(usize, Message)>> {
        self.renew()?;
        self.tell(own);
        let others: Vec<_> =
            (0..self.peers.len()).filter(|peer| *peer != self.rank as usize).collect();
        let mut state = self.shared.state();
        loop {
            // First: a rank may be gone after it has told what belongs to this exchange.
            if others.iter().all(|peer| !state.inbox[*peer].is_empty()) {
                let mut take = |peer: usize| Some((peer, state.inbox[peer].pop_front()?));
                return Ok(others.iter().filter_map(|peer| take(*peer)).collect());
            }
            let is_missing =
                |peer: &&usize| state.gone.contains(peer) && state.inbox[**peer].is_empty();
            if let Some(peer) = others.iter().find(is_missing) {
                let peer = u32::try_from(*peer).unwrap();
                state.failure.get_or_insert(Failure::new(peer, "it is gone"));
            }
            if state.failure.is_some() {
                drop(state);
                self.renew()?;
                state = self.shared.state();
            }
            let Some(deadline) = deadline else {
                state = self.shared.changed.wait(state).unwrap();
                continue;
            };
            let left = deadline.at.saturating_duration_since(Instant::now());
            if left.is_zero() {
                drop(state);
                self.fail(Failure::waited(self.rank, deadline.limit));
                state = self.shared.state();
            } else {
                state = self.shared.changed.wait_timeout(state, left).unwrap().0;
            }
        }
    }

    fn disagree(&self, own: &Message, other: usize, theirs: &Message) -> Error {
        let (does, other_does) = (own.does(), theirs.does());
        Error::RanksDisagree { rank: self.rank as usize, does, other, other_does }
    }
}

impl Transport for Tcp {
    fn rank(&self) -> u32 {
        self.rank
    }

    fn ranks(&self) -> u32 {
        u32::try_from(self.peers.len()).unwrap()
    }

    fn all_gather(
        &self,
        buffer: &mut [u8],
        chunk: usize,
        deadline: Option<Deadline>,
    ) -> Result<()> {
        let total = buffer.len();
        let part = |rank: usize| (rank * chunk).min(total)..((rank + 1) * chunk).min(total);
        let bytes = buffer[part(self.rank as usize)].to_vec();
        let own = Message::Gather { chunk: chunk as u64, total: total as u64, bytes };
        for (peer, theirs) in self.exchange(&own, deadline)? {
            match &theirs {
                Message::Gather { bytes, .. } if theirs.does() == own.does() => {
                    buffer[part(peer)].copy_from_slice(bytes);
                }
                _ => return Err(self.disagree(&own, peer, &theirs)),
            }
        }
        Ok(())
    }

    fn finish(&self, deadline: Option<Deadline>) -> Result<()> {
        for (peer, theirs) in self.exchange(&Message::Finish, deadline)? {
            if theirs != Message::Finish {
                return Err(self.disagree(&Message::Finish, peer, &theirs));
            }
        }
        Ok(())
    }

    fn fail(&self, failure: Failure) {
        let Failure { rank, reason, .. } = failure.clone();
        if self.shared.fail(failure) {
            self.tell(&Message::Failed { rank, reason });
        }
    }

    fn failure(&self) -> Option<Failure> {
        self.shared.state().failure.clone()
    }

    fn renew(&self) -> Result<()> {
        match self.failure() {
            None => Ok(()),
            Some(failure) => Err(failure.into_error(self.peers.len())),
        }
    }
}

impl Drop for Tcp {
    fn drop(&mut self) {
        for peer in self.peers.iter().flatten() {
            // The threads that read, here and there, end.
            _ = peer.shutdown(std::net::Shutdown::Both);
        }
    }
}

/// Connects each rank with each other one.
struct OverTcp;

impl Connect for OverTcp {
    fn group(count: usize) -> Result<Vec<Rank>> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let mut peers: Vec<Vec<Option<TcpStream>>> =
            (0..count).map(|_| (0..count).map(|_| None).collect()).collect();
        let pairs = (0..count).flat_map(|first| (first + 1..count).map(move |it| (first, it)));
        for (first, second) in pairs {
            let stream = TcpStream::connect(address).unwrap();
            let (other, _) = listener.accept().unwrap();
            for stream in [&stream, &other] {
                stream.set_nodelay(true).unwrap();
            }
            peers[first][second] = Some(stream);
            peers[second][first] = Some(other);
        }
        (0..).zip(peers).map(|(rank, peers)| Rank::over(Tcp::new(rank, peers))).collect()
    }
}

#[test]
fn ranks_over_tcp_pass_the_cases_of_ranks() {
    let engine = WasmtimeEngine::new().unwrap();
    for case in ranks::cases::<OverTcp>() {
        case.check(&engine).unwrap_or_else(|failure| panic!("{}: {failure}", case.name));
    }
}

#[test]
fn a_rank_that_is_gone_stops_the_others() {
    let mut ranks = OverTcp::group(3).unwrap();
    drop(ranks.pop());
    for rank in &ranks {
        let error = rank.finish().unwrap_err();
        assert!(matches!(error, Error::RankStopped { rank: 2, ranks: 3, .. }), "{error}");
    }
}

#[test]
fn a_transport_that_is_no_rank_of_its_group_is_refused() {
    let refused = |rank: u32, ranks: usize| {
        let peers = (0..ranks).map(|_| None).collect();
        Rank::over(Tcp::new(rank, peers)).map(|_| ()).unwrap_err().to_string()
    };
    assert!(refused(0, 0).contains("a group of 0 ranks"));
    assert!(refused(2, 2).contains("rank 2 of 2 is not possible"));
}
