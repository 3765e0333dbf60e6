use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::{PIECE, Rank, check_chunk};
use crate::{Error, Result, TrapKind};

/// Runs every rank of a group in a thread of its own.
fn all<T: Send>(ranks: Vec<Rank>, work: impl Fn(Rank) -> T + Sync) -> Vec<T> {
    thread::scope(|scope| {
        let work = &work;
        let threads: Vec<_> =
            ranks.into_iter().map(|rank| scope.spawn(move || work(rank))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

/// A buffer with the rank's own chunk, the rest being zero.
fn own(whole: &[u8], rank: usize, chunk: usize) -> Vec<u8> {
    let owner = |at: usize| at.checked_div(chunk).unwrap_or(0);
    let byte = |(at, byte): (usize, &u8)| if owner(at) == rank { *byte } else { 0 };
    whole.iter().enumerate().map(byte).collect()
}

fn low(number: usize) -> u8 {
    number.to_le_bytes()[0]
}

fn gather(rank: &Rank, buffer: &mut [u8], chunk: usize) -> Result<()> {
    rank.all_gather(Ok(buffer), chunk as u64)
}

/// The first failure of a group, and that all others report it.
fn only_reason(results: &[Result<()>], failed: usize) -> &Error {
    for (rank, result) in results.iter().enumerate().filter(|(rank, _)| *rank != failed) {
        let by = matches!(result, Err(Error::RankStopped { rank, .. }) if *rank == failed);
        assert!(by, "rank {rank}: {result:?}");
    }
    results[failed].as_ref().unwrap_err()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn everybody_has_all_parts(
        ranks in 1_usize..6,
        total in prop_oneof![0_usize..100, 0..3 * PIECE],
        more in 0_usize..100,
        seed in any::<u8>(),
    ) {
        let whole: Vec<u8> = (0..total).map(|at| low(at % 251) ^ seed).collect();
        let chunk = total.div_ceil(ranks).saturating_add(more).min(total);
        let got = all(Rank::group(ranks), |rank| {
            let mut buffer = own(&whole, rank.index(), chunk);
            gather(&rank, &mut buffer, chunk).and_then(|()| rank.finish()).map(|()| buffer)
        });
        for got in got {
            prop_assert!(got.unwrap() == whole);
        }
    }
}

#[test]
fn a_turn_never_shows_bytes_of_another() {
    const ROUNDS: usize = 3_000;
    all(Rank::group(3), |rank| {
        for round in 0..ROUNDS {
            let mut buffer = [0_u8; 9];
            buffer[3 * rank.index()..][..3].fill(low(round + rank.index()));
            gather(&rank, &mut buffer, 3).unwrap();
            let expected = [0, 1, 2].map(|other| [low(round + other); 3]);
            assert_eq!(buffer, *expected.as_flattened());
        }
    });
}

#[test]
fn one_rank_is_all_ranks() {
    let [rank] = Rank::group(0).try_into().unwrap();
    assert_eq!((rank.index(), rank.count()), (0, 1));
    let mut buffer = *b"whole";
    gather(&rank, &mut buffer, 5).unwrap();
    assert_eq!(buffer, *b"whole");
    rank.finish().unwrap();
}

#[test]
fn chunks_make_up_the_total() {
    for (chunk, total, ranks) in [(0, 0, 1), (5, 5, 1), (3, 5, 2), (5, 5, 2), (2, 9, 5)] {
        check_chunk(chunk, total, ranks).unwrap();
    }
    for (chunk, total, ranks) in
        [(4, 5, 1), (6, 5, 1), (2, 5, 2), (6, 5, 2), (0, 1, 3), (u64::MAX, 1, usize::MAX)]
    {
        let refused = check_chunk(chunk, total, ranks);
        assert!(matches!(refused, Err(Error::BadChunk { .. })), "{chunk} {total} {ranks}");
    }
}

#[test]
fn ranks_that_do_not_do_the_same_are_refused() {
    for different in ["chunk", "total", "finish"] {
        let results = all(Rank::group(3), |rank| match (rank.index(), different) {
            (1, "chunk") => gather(&rank, &mut [0; 9], 5),
            (1, "total") => gather(&rank, &mut [0; 10], 4),
            (1, _) => rank.finish(),
            _ => gather(&rank, &mut [0; 9], 4),
        });
        for (rank, result) in results.iter().enumerate() {
            let fair = matches!(
                result,
                Err(Error::RanksDisagree { rank: by, .. }) if *by == rank
            ) || matches!(result, Err(Error::RankStopped { .. }));
            assert!(fair, "rank {rank}: {result:?}");
        }
        assert!(results.iter().any(|result| matches!(result, Err(Error::RanksDisagree { .. }))));
    }
}

#[test]
fn a_refused_gather_stops_all() {
    let results = all(Rank::group(3), |rank| match rank.index() {
        2 => gather(&rank, &mut [0; 9], 2),
        _ => gather(&rank, &mut [0; 9], 3),
    });
    assert!(matches!(only_reason(&results, 2), Error::BadChunk { chunk: 2, total: 9, ranks: 3 }));
}

#[test]
fn a_rank_that_is_dropped_stops_all_for_good() {
    let results = all(Rank::group(3), |rank| {
        if rank.index() == 0 {
            // The others are likely to sleep by then.
            thread::sleep(Duration::from_millis(5));
            return Err(Error::Instantiate { engine: "none", reason: String::new() });
        }
        let result = gather(&rank, &mut [0; 9], 3);
        rank.renew();
        assert!(rank.finish().is_err());
        result
    });
    only_reason(&results, 0);
}

#[test]
fn a_call_that_fails_stops_all_until_it_is_forgotten() {
    let together = Barrier::new(3);
    let results = all(Rank::group(3), |rank| {
        rank.begin_call(None);
        let done = match rank.index() {
            1 => {
                let kind = TrapKind::Unreachable;
                Err(Error::Trap { engine: "none", operation: "it".into(), kind })
            }
            _ => gather(&rank, &mut [0; 9], 3),
        };
        let result = rank.end_call("none", "it", done);
        assert_eq!(rank.stopped_by(), Some(1));
        assert!(gather(&rank, &mut [0; 9], 3).is_err());

        together.wait();
        rank.renew();
        together.wait();
        assert_eq!(rank.stopped_by(), None);
        gather(&rank, &mut [0; 9], 3).and_then(|()| rank.finish()).unwrap();
        result
    });
    assert!(matches!(only_reason(&results, 1), Error::Trap { .. }));
}

#[test]
fn nobody_waits_beyond_the_time_of_a_call() {
    let limit = Duration::from_millis(20);
    let (start, done) = (Instant::now(), Barrier::new(2));
    let results = all(Rank::group(2), |rank| {
        if rank.index() == 1 {
            // Never comes.
            done.wait();
            return rank.finish();
        }
        rank.begin_call(Some(limit));
        // The guest is told that it was refused, and returns.
        assert!(gather(&rank, &mut [0; 9], 5).is_err());
        let result = rank.end_call("none", "it", Ok(()));
        done.wait();
        result
    });
    assert!(start.elapsed() >= limit);
    let Error::Trap { kind, .. } = only_reason(&results, 0) else { panic!("no trap") };
    assert_eq!(*kind, TrapKind::DeadlineExceeded(limit));
}
