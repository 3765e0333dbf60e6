//! A guest that really breaks out of its engine, in this process and in one that only computes.
//!
//! WasmEdge 0.17.1 compiles accesses to 64-bit memories without a bounds check
//! (<https://github.com/WasmEdge/WasmEdge/issues/5282>), so this backend never has it compile one. Here it does,
//! through its own interface: what the guest reads then is all that its process has.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]
#![allow(unsafe_code, reason = "an engine that is known to be unsafe here")]

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::{env, fs};

use polychord_isolate::{Confinement, Error};
use wasmedge_sdk::config::{CommonConfigOptions, CompilerConfigOptions, Config, ConfigBuilder};
use wasmedge_sdk::vm::SyncInst;
use wasmedge_sdk::{
    AsInstance, Compiler, CompilerOutputFormat, LogManager, Module, RunMode, Store, Vm, WasmValue,
};

/// Counts two words, one after the other, in a range of addresses. They are given with a mask: so nothing that looks
/// for them has them.
const GUEST: &str = r#"(module
    (memory (export "memory") i64 1)
    (func (export "count")
        (param $at i64) (param $len i64) (param $mask i64) (param $first i64) (param $second i64)
        (result i64)
        (local $count i64)
        (block $end (loop $next
            (br_if $end (i64.lt_u (local.get $len) (i64.const 16)))
            (if (i32.and
                    (i64.eq (i64.xor (i64.load (local.get $at)) (local.get $mask)) (local.get $first))
                    (i64.eq (i64.xor (i64.load offset=8 (local.get $at)) (local.get $mask)) (local.get $second)))
                (then (local.set $count (i64.add (local.get $count) (i64.const 1)))))
            (local.set $at (i64.add (local.get $at) (i64.const 8)))
            (local.set $len (i64.sub (local.get $len) (i64.const 8)))
            (br $next)))
        (local.get $count)))"#;

const MASK: u64 = 0x5a5a_c3c3_1234_5678;
/// Where the code is, for the process that is confined, and what it looks for.
const CODE: &str = "ESCAPE_CODE";
const WANTED: &str = "ESCAPE_WANTED";

fn main() -> ExitCode {
    if let (Ok(code), Ok(wanted)) = (env::var(CODE), env::var(WANTED)) {
        let wanted: Vec<u64> = wanted.split(' ').map(|word| word.parse().unwrap()).collect();
        return confined(Path::new(&code), [wanted[0], wanted[1]]);
    }
    // As a test of cargo's: it has one, which no other name selects.
    let filter = env::args().skip(1).find(|arg| !arg.starts_with('-'));
    if filter.is_some_and(|filter| !"an_escape_is_contained".contains(&filter)) {
        return ExitCode::SUCCESS;
    }
    an_escape_is_contained();
    println!("test an_escape_is_contained ... ok");
    ExitCode::SUCCESS
}

fn an_escape_is_contained() {
    let folder = tempfile::tempdir().unwrap();
    let code = compile(folder.path());
    let secret = secret();
    let wanted = masked(&secret);

    let mut guest = Guest::load(&code);
    assert!(guest.count_everywhere(wanted) > 0, "WasmEdge checks bounds now: nothing was found");

    let told = Command::new(env::current_exe().unwrap())
        .env(CODE, &code)
        .env(WANTED, format!("{} {}", wanted[0], wanted[1]))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&told.stdout);
    print!("{said}");
    assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
    drop(black_box(secret));
}

/// The same guest, in a process that can only read its code: it reads all of that process, and finds nothing there.
fn confined(code: &Path, wanted: [u64; 2]) -> ExitCode {
    match Confinement::new().readable(code).enter() {
        Ok(_) => {}
        Err(Error::NoLandlock) => {
            println!("SKIPPED: the kernel has no Landlock");
            return ExitCode::SUCCESS;
        }
        Err(error) => panic!("{error}"),
    }
    let mut guest = Guest::load(code);
    let own = secret();
    assert!(guest.count_everywhere(masked(&own)) > 0, "the guest does not read its process");
    assert_eq!(guest.count_everywhere(wanted), 0, "the guest has found what is the parent's");
    drop(black_box(own));
    ExitCode::SUCCESS
}

/// A key, say, which no other process has.
fn secret() -> Box<[u64; 2]> {
    let random = RandomState::new();
    black_box(Box::new([random.hash_one(1), random.hash_one(2)]))
}

fn masked(words: &[u64; 2]) -> [u64; 2] {
    words.map(|word| word ^ MASK)
}

/// What the backend never sets for compiled code: 64-bit memories.
fn config() -> Config {
    LogManager::log_off();
    let options = CommonConfigOptions::new().run_mode(RunMode::Aot).memory64(true);
    let compiler = CompilerConfigOptions::new().out_format(CompilerOutputFormat::Native);
    ConfigBuilder::new(options).with_compiler_config(compiler).build().unwrap()
}

fn compile(folder: &Path) -> PathBuf {
    let compiler = Compiler::new(Some(&config())).unwrap();
    compiler.compile_from_bytes(wat::parse_str(GUEST).unwrap(), "guest", folder).unwrap()
}

struct Guest {
    vm: Vm<'static, dyn SyncInst>,
    /// Where its memory begins.
    base: u64,
}

impl Guest {
    fn load(code: &Path) -> Self {
        let config = config();
        let module = Module::from_file(Some(&config), code).unwrap();
        let none = HashMap::<String, &mut dyn SyncInst>::new();
        let mut vm = Vm::new(Store::new(Some(&config), none).unwrap());
        vm.register_module(None, module).unwrap();
        let memory = vm.active_module().unwrap().get_memory_ref("memory").unwrap();
        // SAFETY: the pointer is only a number here.
        let base = unsafe { memory.data_pointer(0, 1) }.unwrap() as u64;
        Self { vm, base }
    }

    /// How often two words are in what this process can read, as the guest sees it.
    fn count_everywhere(&mut self, wanted: [u64; 2]) -> i64 {
        let maps = fs::read_to_string("/proc/self/maps").unwrap();
        let mut count = 0;
        for line in maps.lines() {
            let mut words = line.split_whitespace();
            let (range, rights, name) =
                (words.next().unwrap(), words.next().unwrap(), words.nth(3).unwrap_or(""));
            // Not what belongs to the kernel.
            if !rights.starts_with('r') || name.starts_with("[v") {
                continue;
            }
            let (start, end) = range.split_once('-').unwrap();
            let [start, end] = [start, end].map(|it| u64::from_str_radix(it, 16).unwrap());
            // A trap ends one page: a file may be shorter than its mapping.
            count += (start..end).step_by(4096).map(|page| self.count(page, wanted)).sum::<i64>();
        }
        count
    }

    fn count(&mut self, page: u64, [first, second]: [u64; 2]) -> i64 {
        let from = page.wrapping_sub(self.base);
        let args =
            [from, 4096, MASK, first, second].map(|it| WasmValue::from_i64(it.cast_signed()));
        self.vm.run_func(None, "count", args).map_or(0, |found| found[0].to_i64())
    }
}
