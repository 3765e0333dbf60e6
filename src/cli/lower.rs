//! `polychord lower`: a module with 64-bit memories as one that needs no memory64.

use std::path::{Path, PathBuf};

use bytesize::ByteSize;
use polychord_memory64_lowering::{Options, Report, lower};

use super::terminal::{self, Plain};
use super::{Failure, size};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The module
    module: PathBuf,

    /// Where to write the lowered module
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,

    /// Largest size of a 64-bit memory; one without a maximum of its own gets this one
    #[arg(long, value_name = "SIZE", default_value = "16GiB")]
    max_memory: ByteSize,

    /// Cut a larger maximum that the module declares, in place of refusing it
    #[arg(long)]
    cut_maximum: bool,

    /// Pages of 64 KiB in a segment, a power of two
    #[arg(long, value_name = "PAGES", default_value_t = 65_536)]
    segment_pages: u32,

    /// Memories that the engine allows in a module
    #[arg(long, value_name = "NUMBER", default_value_t = 100)]
    max_memories: u32,
}

/// Largest module that engines read.
const LARGEST: u64 = 1 << 30;

/// Lowers a module, and tells where its memories are now.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let wasm = read(&args.module)?;
    let options = Options::default()
        .max_memory(args.max_memory.0)
        .cut_maximum(args.cut_maximum)
        .segment_pages(args.segment_pages)
        .max_memories(args.max_memories);
    let lowered = lower(&wasm, &options)
        .map_err(|error| format!("cannot lower {}: {error}", args.module.display()))?;
    std::fs::write(&args.output, &lowered.wasm)
        .map_err(|error| format!("cannot write {}: {error}", args.output.display()))?;
    tell(&mut Plain::new(std::io::stdout().lock()), &lowered.report)?;
    Ok(())
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let cannot = |error: &dyn std::fmt::Display| format!("cannot read {}: {error}", path.display());
    let found = std::fs::metadata(path).map_err(|error| cannot(&error))?;
    // A pipe may have nothing to read, and a device never ends.
    if !found.is_file() {
        return Err(cannot(&"it is no file: write the module to one first").into());
    }
    if found.len() > LARGEST {
        let long = format!(
            "it has {} bytes, and modules have at most {LARGEST}: divide the program",
            found.len()
        );
        return Err(cannot(&long).into());
    }
    Ok(std::fs::read(path).map_err(|error| cannot(&error))?)
}

fn tell(out: &mut impl std::io::Write, report: &Report) -> std::io::Result<()> {
    if report.memories.is_empty() && report.tables.is_empty() {
        return writeln!(out, "nothing to lower: written as it was");
    }
    for memory in &report.memories {
        let names: Vec<_> = memory.exports.iter().map(terminal::line).collect();
        let exported = match names.is_empty() {
            true => "not exported".to_owned(),
            false => format!("exported as {}", names.join(", ")),
        };
        writeln!(
            out,
            "memory {}: at most {} in {} segments, memories {} to {}, {exported}",
            memory.index,
            size::bytes(memory.maximum << 16),
            memory.segments,
            memory.first,
            memory.first + memory.segments - 1,
        )?;
    }
    writeln!(
        out,
        "code: {} before, {} after; {} accesses checked alone, {} together in {} regions",
        size::bytes(report.code_before),
        size::bytes(report.code_after),
        report.checked,
        report.proved,
        report.regions,
    )?;
    for section in &report.dropped {
        writeln!(out, "left out: section {}", terminal::line(section))?;
    }
    Ok(())
}
