//! Experts that are brought in when they are chosen.
#![allow(clippy::unwrap_used, reason = "tests")]
#![allow(clippy::print_stdout, reason = "shown by --nocapture")]

mod common;

use std::path::Path;

use polychord::api::{Policy, SourceRange};
use polychord::model::gguf::GgmlType;
use polychord::model::{
    Activations, ExpertStats, Model, Placement, Ranks, Session, SessionOptions, Split, Transformer,
};

use common::architecture::Family;
use common::{alone_within, each_engine, engines_agree, open, skip, test_name, transformer};

const PAGE: u64 = 65_536;

/// Two blocks of 16 experts, of which each token chooses 4; or one with experts and a dense block.
fn write(golden: &str, folder: &Path) -> std::path::PathBuf {
    let mut family = Family::of(golden);
    // Rows of some of their tensors are shorter than a block.
    if !["gemma4", "deepseek2", "qwen3next"].contains(&family.architecture.as_str()) {
        family.shape = family.shape.quantized(GgmlType::Q8_0);
    }
    family.save(folder)
}

const QWEN: &str = include_str!("data/architectures/qwen3moe-wide.json");
const OTHERS: [&str; 6] = [
    include_str!("data/architectures/gemma4-moe.json"),
    include_str!("data/architectures/deepseek2-v3.json"),
    include_str!("data/architectures/qwen3next-small.json"),
    include_str!("data/architectures/qwen2moe-small.json"),
    include_str!("data/architectures/gpt-oss-small.json"),
    include_str!("data/architectures/llama4-wide.json"),
];

fn paged(pages: u64, policy: Policy) -> Placement {
    Placement::Paged { resident_bytes: Some(pages * PAGE), policy }
}

fn start(transformer: &Transformer, path: &Path, options: SessionOptions, mapped: bool) -> Session {
    let options = options.activations(Activations::Int8).context(96);
    transformer.start(&open(path, mapped), &options).unwrap()
}

#[test]
fn experts_in_windows_change_no_bit() {
    engines_agree(test_name!(), |engine| {
        let (transformer, folder) = (transformer(engine), tempfile::tempdir().unwrap());
        let mut all = String::new();
        for golden in [QWEN].into_iter().chain(OTHERS) {
            let path = write(golden, folder.path());
            let resident = SessionOptions::new().placement(Placement::resident32());
            let mut session = start(&transformer, &path, resident, false);
            assert!(session.expert_stats().is_empty());
            let expected = common::logits(&mut session, [3, 50, 200]);
            for (pages, policy, ranks, batch, mapped, profile) in [
                (24, Policy::Pinned, 1, 64, false, false),
                (24, Policy::Lru, 2, 5, true, false),
                (14, Policy::Pinned, 2, 64, true, true),
                (14, Policy::Lru, 1, 3, false, true),
            ] {
                let mut options = SessionOptions::new()
                    .placement(paged(pages, policy))
                    .ranks(Ranks::Exactly(ranks))
                    .batch(batch);
                options.profile = profile;
                let mut session = start(&transformer, &path, options, mapped);
                assert_eq!(session.placed().name, "paged");
                let found = common::logits(&mut session, [3, 50, 200]);
                assert!(found == expected, "{pages} pages, {policy}, {ranks} ranks: {golden:.80}");
                let stats = session.expert_stats();
                assert!(stats.iter().any(|expert| expert.misses > 0));
                if profile {
                    let parts = session.profile().prompt;
                    assert!(parts.attention.as_nanos() > 0 && parts.feed_forward.as_nanos() > 0);
                }
            }
            all += &format!("{expected:?}");
        }
        all
    });
}

/// Each token chooses its experts once in each block; what was used stays until there is no room.
#[test]
fn hits_are_counted_for_each_expert() {
    each_engine(test_name!(), |engine| {
        let (transformer, folder) = (transformer(engine), tempfile::tempdir().unwrap());
        let path = write(QWEN, folder.path());
        let model = Model::open(&path).unwrap();
        let config = model.config();
        let (blocks, used) = (u64::from(config.blocks), u64::from(config.layers[0].experts_used));
        let sum = |stats: &[ExpertStats], count: fn(&ExpertStats) -> u64| -> u64 {
            stats.iter().map(count).sum()
        };
        // Room for all but a few pages: what was chosen once is there again.
        let roomy = SessionOptions::new().placement(paged(100, Policy::Lru));
        let mut session = start(&transformer, &path, roomy, false);
        let tokens = [3, 50, 200, 3, 50, 200];
        for token in tokens {
            session.eval(&[token]).unwrap();
        }
        let stats = session.expert_stats();
        assert_eq!(sum(&stats, |expert| expert.tokens), tokens.len() as u64 * blocks * used);
        assert_eq!(sum(&stats, |expert| expert.misses), stats.len() as u64, "{stats:?}");
        let all = sum(&stats, |expert| expert.hits + expert.misses);
        assert_eq!(all, tokens.len() as u64 * blocks * used);
        assert!(stats.is_sorted_by_key(|expert| (expert.block, expert.expert)));
        let paging = session.pager_stats().unwrap();

        // A small window brings in more, and never more bytes than the experts that were chosen have.
        let tight = SessionOptions::new().placement(paged(20, Policy::Pinned));
        let mut session = start(&transformer, &path, tight, false);
        session.eval(&tokens).unwrap();
        for token in tokens {
            session.eval(&[token]).unwrap();
        }
        let stats = session.expert_stats();
        let again = session.pager_stats().unwrap();
        assert!(sum(&stats, |expert| expert.misses) > stats.len() as u64, "{stats:?}");
        assert!(again.evictions > 0 && again.bytes_loaded > paging.bytes_loaded, "{again:?}");
    });
}

/// Experts that no token chooses are not read.
#[test]
fn experts_that_are_not_chosen_are_not_brought_in() {
    each_engine(test_name!(), |engine| {
        let (transformer, folder) = (transformer(engine), tempfile::tempdir().unwrap());
        let path = write(QWEN, folder.path());
        let options = SessionOptions::new().placement(paged(100, Policy::Lru));
        let mut session = start(&transformer, &path, options, true);
        session.eval(&[7]).unwrap();
        let chosen = session.expert_stats();
        let plan = session.placed().plan.clone();
        let is_of_expert = |source: &&SourceRange| source.name.contains(" of expert ");
        let sources = || plan.layers.iter().map(|layer| &layer.source);
        let of_experts = sources().filter(is_of_expert).count();
        let config = session.model().config();
        let all: u32 = config.layers.iter().map(|block| block.experts).sum();
        assert_eq!(of_experts, 3 * all as usize);
        assert!(chosen.len() < all as usize);
        // Gate, up and down of those that were chosen, and each other layer once.
        let paging = session.pager_stats().unwrap();
        let others = sources().count() - of_experts;
        assert!(paging.misses <= (3 * chosen.len() + others) as u64, "{paging:?}");
    });
}

/// A plan with experts apart is a plan like others: it can be written, and made again.
#[test]
fn plans_know_experts() {
    each_engine(test_name!(), |engine| {
        let (transformer, folder) = (transformer(engine), tempfile::tempdir().unwrap());
        let path = write(QWEN, folder.path());
        let model = Model::open(&path).unwrap();
        let options = |placement| SessionOptions::new().placement(placement).context(96);
        let placed = model.place(&options(paged(24, Policy::Lru)), engine.capabilities()).unwrap();
        let text = serde_json::to_string(&placed.plan).unwrap();
        let plan = polychord::api::Plan::from_json(&text).unwrap();
        assert_eq!(plan, placed.plan);
        let resident = options(Placement::resident32().with_split(Split::ByKind).unwrap());
        let mut expected = transformer.start(&model, &resident).unwrap();
        let expected = common::logits(&mut expected, [3, 50, 200]);
        let planned = options(Placement::Planned(plan));
        let mut session = transformer.start(&model, &planned).unwrap();
        assert!(common::logits(&mut session, [3, 50, 200]) == expected);
        // As large as all layers: nothing is paged, and experts are still apart.
        let whole = options(paged(10_000, Policy::Lru));
        let mut session = transformer.start(&model, &whole).unwrap();
        assert!(session.pager_stats().is_none() && session.expert_stats().is_empty());
        assert!(common::logits(&mut session, [3, 50, 200]) == expected);
        // Less than what one expert needs beside its block.
        let tiny = transformer.start(&model, &options(paged(2, Policy::Lru)));
        let error = tiny.err().unwrap().to_string();
        assert!(error.contains("has to be in memory at once"), "{error}");
    });
}

/// The shape of Qwen3-30B-A3B, 18 GB, in a process that cannot have 4 GiB. One engine, a few
/// seconds.
#[test]
#[cfg(target_os = "linux")]
fn a_30b_a3b_model_generates_within_4_gib() {
    use common::experts::{BLOCKS, EXPERTS, TOKENS, USED, write};

    const GIB: u64 = 1 << 30;
    alone_within(test_name!(), 4 * GIB, || {
        let free = status_bytes("/proc/meminfo", "MemAvailable:");
        let folder = tempfile::tempdir().unwrap();
        let disk = rustix::fs::statvfs(folder.path()).unwrap();
        let room = disk.f_bavail * disk.f_frsize;
        if free < 4 * GIB || room < GIB / 4 {
            return skip(&format!("it needs 4 GiB of memory and 256 MiB of disk: {free}, {room}"));
        }
        let path = folder.path().join("model.gguf");
        let bytes = write(&path);
        assert!(bytes > 17 * GIB, "{bytes}");
        let engine = polychord::open(polychord::default_engine().unwrap()).unwrap();
        let start = std::time::Instant::now();
        let transformer = Transformer::new(&engine).unwrap();
        let options = SessionOptions::new()
            .placement(Placement::Paged {
                resident_bytes: Some(5 * GIB / 2),
                policy: Policy::default(),
            })
            .context(64);
        let mut session = transformer.start(&open(&path, true), &options).unwrap();
        let ready = start.elapsed();
        let mut misses = Vec::new();
        for token in [5, 5, 9] {
            assert!(u64::from(token) < TOKENS);
            session.eval(&[token]).unwrap();
            let stats = session.expert_stats();
            misses.push(stats.iter().map(|expert| expert.misses).sum::<u64>());
        }
        let stats = session.expert_stats();
        let sum = |count: fn(&ExpertStats) -> u64| stats.iter().map(count).sum::<u64>();
        let (hits, all) = (sum(|expert| expert.hits), sum(|expert| expert.tokens));
        let paging = session.pager_stats().unwrap();
        let peak = status_bytes("/proc/self/status", "VmHWM:");
        println!(
            "ready after {ready:?}, three tokens after {:?}; {} experts, {hits} hits, misses {misses:?}; {peak} bytes at most; {paging:?}",
            start.elapsed(),
            stats.len()
        );
        assert!(peak < 3 * GIB, "{peak} bytes at most");
        assert_eq!(all, 3 * BLOCKS * USED);
        // The same token chooses the same, and finds them.
        assert_eq!(misses[..2], [BLOCKS * USED; 2]);
        assert!(stats.len() as u64 > BLOCKS * USED && hits >= BLOCKS * USED, "{hits} hits");
        // The others, of which no byte was read, are most of the model.
        assert!((stats.len() as u64) < BLOCKS * EXPERTS / 5);
        assert!(paging.bytes_loaded < bytes / 4, "{paging:?}");
    });
}

/// A size that the system knows, in bytes.
#[cfg(target_os = "linux")]
fn status_bytes(path: &str, key: &str) -> u64 {
    let status = std::fs::read_to_string(path).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap();
    line.trim().trim_end_matches(" kB").trim().parse::<u64>().unwrap() * 1024
}
