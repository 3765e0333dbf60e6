//! Models as large as people run: `scripts/test --scale`.
//!
//! Each writes a file of its own to `POLYCHORD_SCALE_DIR` (default: the folder for temporary
//! files) and removes it; without room for it, it says so and passes.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]

mod common;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use polychord::api::{Engine, Policy};
use polychord::model::gguf::GgmlType;
use polychord::model::{Model, Placement, SessionOptions, Transformer};
use sha2::{Digest, Sha256};

use common::{alone, alone_within, engines_agree, large, skip, test_name};

const GIB: u64 = 1 << 30;

/// 5.5 GB of random blocks: more than any 32-bit memory holds.
#[test]
#[ignore = "writes 5.5 GB and computes for minutes; scripts/test --scale runs it"]
fn beyond_4_gib_every_engine_computes_the_same() {
    engines_agree(test_name!(), |engine| {
        let Some(file) = File::write("8b", GgmlType::Q4_1, false, 6 * GIB) else {
            return String::new();
        };
        let mut placements = vec![
            (Placement::auto(), "sharded32"),
            (Placement::sharded32(5), "sharded32"),
            (paged(2 * GIB), "paged"),
            (Placement::multi32(), "multi32"),
        ];
        let wide = common::wide(engine.capabilities().memory64);
        let name = if wide == Some(Placement::flat64()) { "flat64" } else { "native64" };
        placements.extend(wide.map(|placement| (placement, name)));
        same_everywhere(engine, &file, &placements)
    });
}

/// 13B in full, in half of the memory that it would take.
#[test]
#[ignore = "writes 8.3 GB and computes for minutes; scripts/test --scale runs it"]
fn a_13b_model_in_full() {
    engines_agree(test_name!(), |engine| {
        let Some(file) = File::write("13b", GgmlType::Q4_1, false, 9 * GIB) else {
            return String::new();
        };
        let sharded = Placement::sharded32(None);
        same_everywhere(engine, &file, &[(sharded, "sharded32"), (paged(4 * GIB), "paged")])
    });
}

/// 80 blocks and 40 GB of a sparse file, in a process that cannot have 3.5 GiB.
#[test]
#[ignore = "reads 40 GB of zeros and computes for minutes; scripts/test --scale runs it"]
fn a_70b_model_pages_through_a_small_window() {
    let window = 2 * GIB;
    let limit = window + 3 * GIB / 2;
    alone_within(test_name!(), limit, || {
        let Some(file) = File::write("70b", GgmlType::Q4_K, true, GIB) else { return };
        let before = peak_memory();
        let start = Instant::now();
        let model = file.open();
        let opened = start.elapsed();
        println!("opened {} bytes in {opened:?}", file.bytes);
        assert!(file.bytes > 36 * GIB);
        let engine = polychord::open(polychord::default_engine().unwrap()).unwrap();
        let placed = model.place(&options(paged(window)), engine.capabilities()).unwrap();
        println!("{}: {}", placed.name, placed.reason);
        let took = peak_memory() - before;
        assert!(took < 64 << 20, "opening and planning took {took} bytes");

        let transformer = Transformer::new(&engine).unwrap();
        let refused = transformer.start(&model, &options(paged(8 * GIB))).unwrap_err();
        println!("beyond the limit: {refused}");
        let mut session = transformer.start(&model, &options(paged(window))).unwrap();
        session.eval(&[1]).unwrap();
        let stats = session.pager_stats().unwrap();
        println!("one token in {:?}: {stats:?}", start.elapsed());
        // The embedding, 80 blocks, and the output.
        assert_eq!(stats.misses, 82);
        assert!(stats.bytes_loaded > 36 * GIB);
        let peak = peak_memory();
        assert!(peak < window + GIB / 2, "{peak} bytes at most");
    });
}

/// All of the 40 GB in guests at once, of which the system keeps what it likes.
#[test]
#[ignore = "reads 40 GB of zeros and computes for minutes; scripts/test --scale runs it"]
fn a_70b_model_in_many_guests() {
    alone(test_name!(), &[], || {
        let Some(file) = File::write("70b", GgmlType::Q4_K, true, GIB) else { return };
        let engine = polychord::open(polychord::default_engine().unwrap()).unwrap();
        let sharded = Placement::sharded32(None);
        same_everywhere(&engine, &file, &[(sharded, "sharded32")]);
    });
}

/// All of the 40 GB in one 64-bit memory, in a process that can have 1.5 GiB beside it.
#[test]
#[ignore = "reads 40 GB of zeros and computes for minutes; scripts/test --scale runs it"]
fn a_70b_model_in_one_64_bit_memory() {
    let limit = 38 * GIB + 3 * GIB / 2;
    alone_within(test_name!(), limit, || {
        let Ok(engine) = polychord::open("wasmtime") else {
            return skip("Wasmtime, which has 64-bit memories of such a size, is not compiled in");
        };
        let Some(file) = File::write("70b", GgmlType::Q4_K, true, GIB) else { return };
        assert!(file.bytes > 36 * GIB && file.bytes < 38 * GIB, "{}", file.bytes);
        let start = Instant::now();
        let model = file.open();
        let transformer = Transformer::new(&engine).unwrap();
        let mut session = transformer.start(&model, &options(Placement::native64())).unwrap();
        let ready = start.elapsed();
        assert_eq!(session.load_report().mapped, 82);
        let logits = session.eval(&[1]).unwrap().to_vec();
        println!("ready in {ready:?}, one token in {:?}", start.elapsed());
        // The weights are zeros.
        assert!(logits.iter().all(|logit| *logit == 0.0));
        let own = status("RssAnon:");
        assert!(own < GIB, "{own} bytes that are not the file's");
    });
}

/// Runs two stages with each placement, and returns the hash of their logits, which must be one.
fn same_everywhere(
    engine: &Arc<dyn Engine>,
    file: &File,
    placements: &[(Placement, &str)],
) -> String {
    let transformer = Transformer::new(engine).unwrap();
    let run = |(placement, name): &(Placement, &str)| {
        let start = Instant::now();
        let model = file.open();
        let mut session = transformer.start(&model, &options(placement.clone())).unwrap();
        let ready = start.elapsed();
        assert_eq!(session.placed().name, *name);
        let guests = session.placed().plan.guests();
        let mut hash = Sha256::new();
        for tokens in [&[1, 2, 3][..], &[4]] {
            hash.update(session.eval(tokens).unwrap().as_bytes());
        }
        let engine = engine.capabilities().engine;
        let done = start.elapsed();
        println!("{engine} {name} ({guests} guests): ready in {ready:?}, done in {done:?}");
        hash.finalize().to_vec()
    };
    let results: Vec<_> = placements.iter().map(run).collect();
    assert!(results.windows(2).all(|pair| pair[0] == pair[1]));
    format!("{:?}", results[0])
}

fn paged(resident_bytes: u64) -> Placement {
    Placement::Paged { resident_bytes: Some(resident_bytes), policy: Policy::Pinned }
}

/// A model file that goes away with its owner.
struct File {
    path: PathBuf,
    bytes: u64,
}

impl File {
    /// None, loudly, if there are fewer bytes free than needed.
    fn write(shape: &str, kind: GgmlType, sparse: bool, needed: u64) -> Option<Self> {
        let folder = std::env::var_os("POLYCHORD_SCALE_DIR");
        let folder = folder.map_or_else(std::env::temp_dir, PathBuf::from);
        let free = free_bytes(&folder);
        if free < needed {
            let folder = folder.display();
            skip(&format!("{shape} needs {needed} bytes in {folder}, which has {free}"));
            return None;
        }
        let path = folder.join(format!("polychord-scale-{}.gguf", std::process::id()));
        let bytes = large::write(&large::shape(shape, kind).unwrap(), sparse, &path);
        Some(Self { path, bytes })
    }

    /// The file may be removed while a session lives, and keeps its pages.
    fn open(&self) -> Model {
        common::open(&self.path, true)
    }
}

impl Drop for File {
    fn drop(&mut self) {
        _ = std::fs::remove_file(&self.path);
    }
}

fn options(placement: Placement) -> SessionOptions {
    let mut options = SessionOptions::default();
    options.placement = placement;
    options.context = Some(64);
    options
}

fn free_bytes(folder: &Path) -> u64 {
    let disk = rustix::fs::statvfs(folder).unwrap();
    disk.f_bavail * disk.f_frsize
}

/// Most resident memory of this process so far, in bytes.
fn peak_memory() -> u64 {
    status("VmHWM:")
}

/// A size that the system knows of this process, in bytes.
fn status(key: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}
