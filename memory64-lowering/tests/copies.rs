//! Copies of loops and of straight code are all entered, those without checks and those for what is far:
//! counters in lowered modules tell how often. So what other tests compare is what each copy does.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]
#![allow(clippy::cast_possible_truncation, reason = "small numbers")]

mod common;
#[path = "common/kernel.rs"]
mod kernel;

use common::{Guest, engine};
use kernel::kernel;
use polychord_memory64_lowering::{Options, lower};
use wasm_encoder::reencode::{Error, Reencode, utils};
use wasm_encoder::{
    CodeSection, ConstExpr, ExportKind, ExportSection, GlobalSection, GlobalType, Instruction as I,
    Module, ValType,
};
use wasmparser::{ExportSectionReader, FunctionBody, GlobalSectionReader, Operator, Parser};
use wasmtime::Val;

const PAGE: u64 = 1 << 16;

/// Most places that are counted.
const COUNTERS: u32 = 200;

/// Where a counter is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// The head of a loop.
    Head,
    /// Behind the first branch of a loop, where the check at the head of a copy has passed.
    Inside,
    Then,
    Else,
}

/// Counts how often places of one function are reached.
struct Counted {
    /// The function, by its number among those of the module.
    function: usize,
    functions: usize,
    first_global: u32,
    places: Vec<Place>,
}

impl Reencode for Counted {
    type Error = std::convert::Infallible;

    fn parse_global_section(
        &mut self,
        globals: &mut GlobalSection,
        section: GlobalSectionReader<'_>,
    ) -> Result<(), Error> {
        self.first_global = section.count();
        utils::parse_global_section(self, globals, section)?;
        let ty = GlobalType { val_type: ValType::I64, mutable: true, shared: false };
        (0..COUNTERS).for_each(|_| _ = globals.global(ty, &ConstExpr::i64_const(0)));
        Ok(())
    }

    fn parse_export_section(
        &mut self,
        exports: &mut ExportSection,
        section: ExportSectionReader<'_>,
    ) -> Result<(), Error> {
        utils::parse_export_section(self, exports, section)?;
        for index in 0..COUNTERS {
            let name = format!("count.{index}");
            exports.export(&name, ExportKind::Global, self.first_global + index);
        }
        Ok(())
    }

    fn parse_function_body(
        &mut self,
        code: &mut CodeSection,
        body: FunctionBody<'_>,
    ) -> Result<(), Error> {
        self.functions += 1;
        if self.functions - 1 != self.function {
            return utils::parse_function_body(self, code, body);
        }
        let mut function = self.new_function_with_parsed_locals(&body)?;
        let mut reader = body.get_operators_reader()?;
        // For each block around, whether it is a loop without a branch so far.
        let mut waits = vec![false];
        while !reader.eof() {
            let operator = reader.clone().read()?;
            function.instruction(&self.parse_instruction(&mut reader)?);
            let place = match operator {
                Operator::Loop { .. } => Some(Place::Head),
                Operator::If { .. } => Some(Place::Then),
                Operator::Else => Some(Place::Else),
                Operator::BrIf { .. } if waits.last() == Some(&true) => {
                    *waits.last_mut().unwrap() = false;
                    Some(Place::Inside)
                }
                _ => None,
            };
            match operator {
                Operator::Loop { .. } => waits.push(true),
                Operator::Block { .. } | Operator::If { .. } => waits.push(false),
                Operator::End => _ = waits.pop(),
                _ => {}
            }
            if let Some(place) = place {
                let global = self.first_global + self.places.len() as u32;
                let add = [I::GlobalGet(global), I::I64Const(1), I::I64Add, I::GlobalSet(global)];
                add.iter().for_each(|it| _ = function.instruction(it));
                self.places.push(place);
            }
        }
        code.function(&function);
        Ok(())
    }
}

/// A lowered module that counts in a function, and where; nothing if there are too many places.
fn counted(wasm: &[u8], function: usize) -> Option<(Vec<u8>, Vec<Place>)> {
    let mut counted = Counted { function, functions: 0, first_global: 0, places: Vec::new() };
    let mut module = Module::new();
    counted.parse_core_module(&mut module, Parser::new(0), wasm).unwrap();
    let fits = counted.places.len() <= COUNTERS as usize;
    fits.then(|| (module.finish(), counted.places))
}

/// How often each place was reached.
fn counts(guest: &mut Guest, places: &[Place]) -> Vec<(Place, u64)> {
    let count = |(index, place): (usize, &Place)| {
        let name = format!("count.{index}");
        let global = guest.instance.get_global(&mut guest.store, &name).unwrap();
        (*place, global.get(&mut guest.store).unwrap_i64().cast_unsigned())
    };
    places.iter().enumerate().map(count).collect()
}

/// How many iterations began in each copy of the only loop: all but the last have a check at their head.
fn iterations(counts: &[(Place, u64)]) -> Vec<u64> {
    let heads = counts.iter().enumerate().filter(|(_, (place, _))| *place == Place::Head);
    let heads: Vec<usize> = heads.map(|(at, _)| at).collect();
    let Some((last, checked)) = heads.split_last() else { return Vec::new() };
    let inside = |at: &usize| {
        let after = counts[*at..].iter().find(|(place, _)| *place == Place::Inside);
        after.map_or(0, |(_, count)| *count)
    };
    checked.iter().map(inside).chain([counts[*last].1]).collect()
}

#[test]
fn each_copy_of_a_loop_is_entered_and_does_the_same() {
    let engines = [engine(true, 1 << 20), engine(false, 1 << 20)];
    let mut state = 17_u64;
    let mut next = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    // By the number of copies: how many loops have it, and the iterations in each.
    let mut all = [(); 8].map(|()| (0_u32, Vec::new()));
    for round in 0..200 {
        let mut bytes: Vec<u8> = (0..300 + round).map(|_| next()).collect();
        if round % 2 > 0 {
            // Many statements, by which loops are long and have all copies.
            bytes[0] = [23, 25][round / 2 % 2];
        }
        let Some(wasm) = kernel(&bytes) else { continue };
        let options = Options::default().max_memory(9 * PAGE).segment_pages(1);
        let lowered = lower(&wasm, &options).unwrap();
        let Some((instrumented, places)) = counted(&lowered.wasm, 1) else { continue };
        let mut native = Guest::start(&engines[0], &wasm).unwrap();
        let mut guest = Guest::start(&engines[1], &instrumented).unwrap();
        // The size of the memory is looked up when something is beyond what was known of it, at first.
        for call in 0..2 {
            assert_eq!(native.call("f", &[]), guest.call("f", &[]), "round {round}, call {call}");
            let [native, lowered] = [&mut native, &mut guest].map(|it| it.bytes("memory"));
            assert!(native == lowered, "bytes in round {round} after call {call}");
        }
        let found = iterations(&counts(&mut guest, &places));
        let copies = &mut all[found.len()];
        copies.0 += 1;
        copies.1.resize(found.len(), 0);
        copies.1.iter_mut().zip(&found).for_each(|(sum, count)| *sum += count);
    }
    println!("loops and iterations, by the number of copies: {all:?}");
    // Without copies; near, far and last; near, each of two alone in the second segment and in any, both,
    // and last.
    for (copies, least) in [(1, 5), (3, 20), (7, 20)] {
        let (loops, iterations) = &all[copies];
        assert!(*loops >= least, "{loops} loops with {copies} copies: {all:?}");
        assert!(iterations.iter().all(|count| *count >= 5), "{copies} copies: {all:?}");
    }
}

/// Many loads from one base and a store to another; few loads; and stores alone.
fn straight() -> String {
    let load = |at: u64| {
        format!(
            "(local.set $x (i64.add (local.get $x) (i64.load offset={} (local.get $p))))",
            at * 24
        )
    };
    let store = |at: u64| format!("(i64.store offset={} (local.get $q) (local.get $x))", at * 8);
    let function = |name: &str, loads: u64, stores: u64| {
        let body: String = (0..loads).map(load).chain((0..stores).map(store)).collect();
        format!(
            "(func (export \"{name}\") (param $p i64) (param $q i64) (result i64)
                (local $x i64) {body} (local.get $x))"
        )
    };
    let data: String =
        (0..=255).map(|byte: u8| format!("\\{:02x}", byte.wrapping_mul(37))).collect();
    let data: String =
        (0..80).map(|at| format!("(data (i64.const {}) \"{data}\")", at * 4096 + 50)).collect();
    format!(
        "(module (memory (export \"memory\") i64 6 8) {data} {} {} {})",
        function("many", 14, 1),
        function("few", 6, 1),
        function("stores", 0, 7)
    )
}

#[test]
fn each_copy_of_straight_code_is_entered_and_does_the_same() {
    let wasm = wat::parse_str(straight()).unwrap();
    let options = Options::default().max_memory(8 * PAGE).segment_pages(1);
    let lowered = lower(&wasm, &options).unwrap();
    assert_eq!(lowered.report.regions, 3, "{:?}", lowered.report);
    let engines = [engine(true, PAGE), engine(false, PAGE)];
    // In the first segment; there and beyond; both beyond; across an edge; too near; outside.
    let addresses: Vec<u64> = (0..7)
        .flat_map(|page| [0, 700, 5000, 20_000, PAGE - 8, PAGE - 100].map(|at| page * PAGE + at))
        .chain([u64::MAX - 7, u64::MAX - 400, 6 * PAGE - 320, 6 * PAGE - 319])
        .collect();
    for (function, name, copies) in [(0, "many", 3), (1, "few", 2), (2, "stores", 2)] {
        let (instrumented, places) = counted(&lowered.wasm, function).unwrap();
        let mut native = Guest::start(&engines[0], &wasm).unwrap();
        let mut guest = Guest::start(&engines[1], &instrumented).unwrap();
        for p in &addresses {
            for q in addresses.iter().chain([&p.wrapping_add(8), &p.wrapping_sub(8)]) {
                let args = [p, q].map(|at| Val::I64(at.cast_signed()));
                assert_eq!(native.call(name, &args), guest.call(name, &args), "{name} {p:x} {q:x}");
            }
            let [native, lowered] = [&mut native, &mut guest].map(|it| it.bytes("memory"));
            assert!(native == lowered, "{name} {p:x}");
        }
        let counts = counts(&mut guest, &places);
        println!("{name}: {counts:?}");
        // The first choice is between the first copy and others, the second one between these.
        let entered = match copies {
            2 => vec![counts[0], counts[1]],
            // In the second one, what is far is found in one of four segments.
            _ => vec![counts[0], counts[2], *counts.last().unwrap()],
        };
        let expected = [Place::Then, Place::Else, Place::Else];
        let expected =
            if copies == 2 { &expected[..2] } else { &[Place::Then, Place::Then, Place::Else] };
        assert!(entered.iter().map(|(place, _)| place).eq(expected), "{counts:?}");
        assert!(entered.iter().all(|(_, count)| *count >= 20), "{name}: {counts:?}");
    }
}

/// Loads that are done at the head of an iteration trap where they stand: after what is stored before them,
/// and not at all where a branch leaves them out.
#[test]
fn loads_ahead_trap_no_earlier_than_they_did() {
    let loads: String = (0..8)
        .map(|at| {
            format!(
                "(local.set $x (i64.xor (local.get $x) (i64.load offset={} (local.get $p))))",
                at * 8
            )
        })
        .collect();
    let function = |name: &str, loads: &str| {
        format!(
            "(func (export \"{name}\") (param $p i64) (param $turns i64) (result i64)
                (local $x i64) (local $q i64)
                (loop
                    (local.set $x (i64.add (local.get $x) (i64.const 0x0102030405)))
                    (i64.store (local.get $q) (local.get $x))
                    {loads}
                    (i64.store offset=8 (local.get $q) (local.get $x))
                    (local.set $p (i64.add (local.get $p) (i64.const 24)))
                    (local.set $q (i64.add (local.get $q) (i64.const 32)))
                    (br_if 0 (i64.ne (i64.const 0)
                        (local.tee $turns (i64.sub (local.get $turns) (i64.const 1))))))
                (local.get $x))"
        )
    };
    let branch = format!("(if (i64.lt_u (local.get $p) (i64.const 196514)) (then {loads}))");
    let text = format!(
        "(module (memory (export \"memory\") i64 3 8) {} {})",
        function("always", &loads),
        function("branch", &branch)
    );
    let wasm = wat::parse_str(text).unwrap();
    let options = Options::default().max_memory(8 * PAGE).segment_pages(2);
    let lowered = lower(&wasm, &options).unwrap();
    assert_eq!(lowered.report.loops, 2, "{:?}", lowered.report);
    let engines = [engine(true, 2 * PAGE), engine(false, 2 * PAGE)];
    for (function, name) in [(0, "always"), (1, "branch")] {
        let (instrumented, places) = counted(&lowered.wasm, function).unwrap();
        let mut native = Guest::start(&engines[0], &wasm).unwrap();
        let mut guest = Guest::start(&engines[1], &instrumented).unwrap();
        // Far from the end; then towards the end of the memory, in the middle of the second segment.
        let end = 3 * PAGE;
        for p in [2 * PAGE, 2 * PAGE + 40, end - 400, end - 200, end - 64, end - 63] {
            for turns in [1, 9] {
                let args = [p, turns].map(|it| Val::I64(it.cast_signed()));
                assert_eq!(native.call(name, &args), guest.call(name, &args), "{name} {p} {turns}");
                let [native, lowered] = [&mut native, &mut guest].map(|it| it.bytes("memory"));
                assert!(native == lowered, "bytes after {name} {p} {turns}");
            }
        }
        let found = iterations(&counts(&mut guest, &places));
        println!("{name}: {found:?}");
        assert!(found.len() > 2 && found[1] > 0, "none was far: {found:?}");
    }
}
