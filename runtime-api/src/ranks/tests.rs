//! Tests of ranks as threads.

use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::threads::PIECE;
use super::{Rank, check_chunk};
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
        let got = all(Rank::group(ranks).unwrap(), |rank| {
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
    all(Rank::group(3).unwrap(), |rank| {
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
    let [rank] = Rank::group(1).unwrap().try_into().unwrap();
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
        let results = all(Rank::group(3).unwrap(), |rank| match (rank.index(), different) {
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
    let results = all(Rank::group(3).unwrap(), |rank| match rank.index() {
        2 => gather(&rank, &mut [0; 9], 2),
        _ => gather(&rank, &mut [0; 9], 3),
    });
    assert!(matches!(only_reason(&results, 2), Error::BadChunk { chunk: 2, total: 9, ranks: 3 }));
}

#[test]
fn a_rank_that_is_dropped_stops_all_for_good() {
    let results = all(Rank::group(3).unwrap(), |rank| {
        if rank.index() == 0 {
            // The others are likely to sleep by then.
            thread::sleep(Duration::from_millis(5));
            return Err(Error::Instantiate { engine: "none", reason: String::new() });
        }
        let result = gather(&rank, &mut [0; 9], 3);
        assert!(rank.finish().is_err());
        // Others may still be in their gather.
        if let Err(error) = rank.renew() {
            assert!(matches!(error, Error::RankBusy { .. }), "{error}");
        }
        assert!(rank.finish().is_err());
        result
    });
    only_reason(&results, 0);
}

#[test]
fn a_call_that_fails_stops_all_until_it_is_forgotten() {
    let together = Barrier::new(3);
    let results = all(Rank::group(3).unwrap(), |rank| {
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
        rank.renew().unwrap();
        together.wait();
        assert_eq!(rank.stopped_by(), None);
        gather(&rank, &mut [0; 9], 3).and_then(|()| rank.finish()).unwrap();
        result
    });
    assert!(matches!(only_reason(&results, 1), Error::Trap { .. }));
}

#[test]
fn no_rank_waits_beyond_the_time_of_a_call() {
    let limit = Duration::from_millis(20);
    let (start, done) = (Instant::now(), Barrier::new(2));
    let results = all(Rank::group(2).unwrap(), |rank| {
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

#[test]
fn a_rank_that_does_not_finish_is_waited_for_no_longer_than_a_call() {
    let limit = Duration::from_millis(50);
    let ranks = Rank::group(2).unwrap();
    ranks[0].begin_call(Some(limit));
    ranks[0].end_call("none", "work", Ok(())).unwrap();
    let start = Instant::now();
    let error = ranks[0].finish().unwrap_err();
    assert!(start.elapsed() >= limit);
    assert!(matches!(error, Error::RankStopped { rank: 0, .. }), "{error}");
    assert!(error.to_string().contains("waited for the others beyond 50 ms"), "{error}");
    // The one that comes late hears of it, and both can begin anew.
    assert!(matches!(ranks[1].finish(), Err(Error::RankStopped { rank: 0, .. })));
    ranks[0].renew().unwrap();
    let finished = all(ranks, |rank| rank.finish());
    assert!(finished.iter().all(Result::is_ok), "{finished:?}");
}

#[test]
fn a_group_has_as_many_ranks_as_can_be() {
    for count in [0, Rank::MAX + 1, usize::MAX] {
        let error = Rank::group(count).map(|_| ()).unwrap_err();
        let expected = Error::RankCount { asked: count, limit: Rank::MAX }.to_string();
        assert_eq!(error.to_string(), expected);
        assert!(expected.contains(&count.to_string()) && expected.contains("1 to 1024"));
    }
    assert_eq!(Rank::group(Rank::MAX).unwrap().len(), Rank::MAX);
}

#[test]
fn ranks_begin_anew_only_when_none_of_them_computes() {
    let [first, second] = Rank::group(2).unwrap().try_into().unwrap();
    // Without a failure there is nothing to forget.
    first.begin_call(None);
    first.renew().unwrap();
    second.stop("it must");
    assert!(matches!(first.renew(), Err(Error::RankBusy { running: 1, ranks: 2 })));
    assert!(gather(&first, &mut [0; 2], 1).is_err());
    assert_eq!(second.stopped_by(), Some(1));
    assert!(first.end_call("none", "it", Ok(())).is_ok());
    first.renew().unwrap();
    assert_eq!(second.stopped_by(), None);
}

#[test]
fn ranks_that_begin_anew_all_the_time_wait_for_no_one() {
    let results = all(Rank::group(3).unwrap(), |rank| {
        let mut met = 0_u32;
        for round in 0..2_000_u32 {
            match rank.index() {
                0 if round % 3 == 0 => rank.stop("it must"),
                0 | 1 if round % 3 == 1 => _ = rank.renew(),
                _ => met += u32::from(gather(&rank, &mut [0; 3], 1).is_ok()),
            }
            // A rank that is left behind is not waited for.
            if round == 1_999 {
                rank.stop("it has ended");
            }
        }
        met
    });
    assert_eq!(results.len(), 3);
}

#[test]
fn a_rank_that_panics_lets_no_other_wait() {
    let results = all(Rank::group(3).unwrap(), |rank| {
        rank.begin_call(None);
        if rank.index() == 1 {
            let work = || {
                let _guard = rank.stop_if_panicking();
                panic!("as it should");
            };
            _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
            return Ok(());
        }
        let done = gather(&rank, &mut [0; 9], 3);
        rank.end_call("none", "it", done)
    });
    for rank in [0, 2] {
        let error = results[rank].as_ref().unwrap_err();
        assert!(matches!(error, Error::RankStopped { rank: 1, .. }), "{error}");
        assert!(error.to_string().contains("panicked"), "{error}");
    }
}

/// A guest whose memory cannot be looked at.
struct Broken;

impl crate::LinearMemories for Broken {
    fn linear_memory(&self, _index: usize) -> &[u8] {
        panic!("as it should")
    }

    fn linear_memory_mut(&mut self, _index: usize) -> &mut [u8] {
        panic!("as it should")
    }
}

impl crate::spi::Instance for Broken {
    fn grow(&mut self, _: usize, _: u64) -> Result<u64> {
        unreachable!()
    }

    fn invoke(&mut self, _: &str, _: &[crate::Value], _: &mut [crate::Value]) -> Result<()> {
        unreachable!()
    }

    fn global(&mut self, _: crate::spi::GlobalAt<'_>) -> Result<crate::Value> {
        unreachable!()
    }

    fn set_global(&mut self, _: crate::spi::GlobalAt<'_>, _: crate::Value) -> Result<()> {
        unreachable!()
    }
}

#[test]
fn a_panic_in_all_gather_stops_the_rank() {
    use crate::Runtime as _;
    let results = all(Rank::group(2).unwrap(), |rank| {
        if rank.index() == 0 {
            return gather(&rank, &mut [0; 4], 2).unwrap_err().to_string();
        }
        let mut guest = crate::idle::Idle::start(1);
        guest.join(rank.clone()).unwrap();
        let args = [crate::Value::I32(0); 3];
        let function = crate::imports::layer_function("all_gather");
        let host = guest.shared_host();
        let mut result = [crate::Value::I32(0)];
        function.call(&host, &mut Broken, &args, &mut result).unwrap();
        assert_eq!(result, [crate::Value::I32(polychord_abi::code::INTERNAL)]);
        host.last_refusal().unwrap().to_string()
    });
    assert!(results[0].contains("rank 1 of 2 has stopped"), "{results:?}");
    assert!(results[1].contains("all_gather panicked in the host"), "{results:?}");
}

#[test]
fn all_have_what_rank_0_says() {
    for len in [0, 1, 252, 253, 3 * PIECE + 5] {
        let said: Vec<u8> = (0..len).map(|at| low(at % 251)).collect();
        let heard = all(Rank::group(3).unwrap(), |rank| {
            let mut bytes = if rank.index() == 0 { said.clone() } else { vec![9; 400] };
            rank.broadcast(&mut bytes, len).map(|()| bytes)
        });
        assert!(heard.iter().all(|it| it.as_ref().unwrap() == &said), "{len}");
    }
    // A rank that takes less than the others makes no room for it.
    let results = all(Rank::group(3).unwrap(), |rank| {
        let most = if rank.index() == 2 { 300 } else { 301 };
        rank.broadcast(&mut vec![1; 301], most)
    });
    let error = results[2].as_ref().unwrap_err().to_string();
    assert!(error.contains("takes at most 300 bytes") && error.contains("brings 301"), "{error}");
    assert!(matches!(only_reason(&results, 2), Error::RanksDisagree { other: 0, .. }));
}

#[test]
fn any_rank_can_say_something() {
    for group in [Rank::group(3).unwrap(), threads_of_processes()] {
        all(group, |rank| {
            for from in 0..3 {
                let mut bytes = vec![low(rank.index()); 500];
                rank.broadcast_from(from, &mut bytes).unwrap();
                assert_eq!(bytes, [low(from); 500]);
            }
        });
    }
    let alone = Rank::group(1).unwrap().remove(0);
    assert!(matches!(alone.broadcast_from(1, &mut [0]), Err(Error::RankNumber { rank: 1, .. })));
}

#[test]
fn each_has_what_each_has_brought() {
    let brought = [&b"one"[..], b"", b"three and more"];
    let got = all(Rank::group(3).unwrap(), |rank| rank.exchange(brought[rank.index()], 14));
    assert!(got.iter().all(|it| *it.as_ref().unwrap() == brought));
    let results =
        all(Rank::group(3).unwrap(), |rank| rank.exchange(brought[rank.index()], 13).map(|_| ()));
    assert!(matches!(only_reason(&results, 2), Error::RanksDisagree { rank: 2, .. }));
}

/// All threads of three processes that have two each.
fn threads_of_processes() -> Vec<Rank> {
    let processes = Rank::group(3).unwrap();
    processes.iter().flat_map(|process| Rank::within(process, 2).unwrap()).collect()
}

#[test]
fn threads_of_processes_are_one_group() {
    let ranks = threads_of_processes();
    assert!((0..).zip(&ranks).all(|(at, rank)| rank.index() == at && rank.count() == 6));
    all(ranks, |rank| {
        for (chunk, total) in [(2, 11), (4, 8), (0, 0), (7, 7), (PIECE, 5 * PIECE + 3), (2, 12)] {
            let whole: Vec<u8> = (0..total).map(|at| low(at % 251)).collect();
            let mut buffer = own(&whole, rank.index(), chunk);
            gather(&rank, &mut buffer, chunk).unwrap();
            assert!(buffer == whole, "{chunk} {total}");
        }
        rank.finish().unwrap();
    });
    assert!(Rank::within(&Rank::group(3).unwrap()[0], 400).is_err());
}

#[test]
fn a_thread_of_another_process_stops_all() {
    for failed in 0..6 {
        let results = all(threads_of_processes(), |rank| {
            if rank.index() == failed {
                rank.stop("it has no memory left");
            }
            gather(&rank, &mut [0; 12], 2)
        });
        for (index, result) in results.iter().enumerate() {
            let Err(Error::RankStopped { rank, ranks: 6, reason, .. }) = result else {
                panic!("{result:?}");
            };
            // In another process, the first of its threads stands for it.
            let known = if index / 2 == failed / 2 { failed } else { failed / 2 * 2 };
            assert_eq!(*rank, known, "{reason}");
            assert!(reason.contains("it has no memory left"), "{reason}");
        }
    }
    let results = all(threads_of_processes(), |rank| {
        let chunk = if rank.index() == 4 { 3 } else { 2 };
        gather(&rank, &mut [0; 12], chunk)
    });
    assert!(results.iter().all(Result::is_err), "{results:?}");
}

#[test]
fn messages_go_to_one_rank_in_their_order() {
    let results = all(Rank::group(3).unwrap(), |rank| {
        let mut got = Vec::new();
        let next = (rank.index() + 1) % 3;
        let before = (rank.index() + 2) % 3;
        // More than may wait for a rank, so that the first has to take some of them.
        for number in 0..100_u8 {
            if rank.index() == 0 {
                rank.send_to(next, &vec![number; number.into()])?;
                rank.receive_from(before, &mut got, 100)?;
            } else {
                rank.receive_from(before, &mut got, 100)?;
                rank.send_to(next, &got)?;
            }
            assert_eq!(got, vec![number; number.into()]);
        }
        rank.finish()?;
        assert!(matches!(rank.send_to(rank.index(), b""), Err(Error::RankNumber { .. })));
        Ok(())
    });
    assert!(results.iter().all(|result| matches!(result, Err(Error::RankStopped { .. }) | Ok(()))));
    let results = all(Rank::group(2).unwrap(), |rank| {
        if rank.index() == 0 {
            rank.send_to(1, b"four")?;
            return rank.finish();
        }
        rank.receive_from(0, &mut Vec::new(), 3)
    });
    let error = only_reason(&results, 1).to_string();
    assert!(error.contains("brings 4") && error.contains("at most 3"), "{error}");
}

#[test]
fn what_was_sent_before_a_failure_is_forgotten() {
    let ranks = Rank::group(2).unwrap();
    ranks[0].send_to(1, b"old").unwrap();
    ranks[1].stop("no disk");
    assert!(ranks[0].send_to(1, b"new").is_err());
    ranks[0].renew().unwrap();
    ranks[0].send_to(1, b"newest").unwrap();
    let mut got = Vec::new();
    ranks[1].receive_from(0, &mut got, 100).unwrap();
    assert_eq!(got, b"newest");
}

#[test]
fn some_ranks_of_a_group_are_a_group() {
    let results = all(Rank::group(5).unwrap(), |all| {
        let members: &[usize] = if all.index().is_multiple_of(2) { &[4, 0, 2] } else { &[1, 3] };
        let rank = all.subgroup(members)?;
        assert_eq!(members[rank.index()], all.index());
        for round in 0..20 {
            let mut bytes = vec![0; 2 * members.len() - 1];
            let own = rank.index() * 2;
            bytes[own] = low(all.index() + round);
            rank.all_gather(Ok(&mut bytes), 2)?;
            let expected = members.iter().map(|member| low(member + round));
            assert!(bytes.iter().step_by(2).copied().eq(expected));
            let mut said = [low(all.index())];
            rank.broadcast_from(1, &mut said)?;
            assert_eq!(usize::from(said[0]), members[1]);
            rank.finish()?;
        }
        all.finish()?;
        // A failure is that of all, and is named by its number among all.
        if all.index() == 3 {
            rank.stop("no disk");
        }
        // The even ranks may all have finished before rank 3 stops: they learn it from all.
        rank.finish()?;
        all.finish()
    });
    let named = |result: &Result<()>| matches!(result, Err(Error::RankStopped { rank: 3, .. }));
    assert!(results.iter().all(named), "{results:?}");
    let ranks = Rank::group(3).unwrap();
    for members in [&[0, 0][..], &[1, 2], &[0, 3], &[]] {
        let error = ranks[0].subgroup(members).unwrap_err();
        assert!(matches!(error, Error::RankNumber { .. } | Error::RankCount { .. }), "{error}");
    }
}
