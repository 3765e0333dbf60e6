//! Loops of loads and stores, at random.

use arbitrary::Unstructured;

/// Two things that are read, rows that are found by a number and one thing that is written, in a loop long
/// enough for copies for each that is far alone: addresses near edges of segments, that meet, go backwards,
/// or wrap.
pub(crate) fn kernel(bytes: &[u8]) -> Option<Vec<u8>> {
    const LOADS: [&str; 12] = [
        "(local.set $x (i64.add (local.get $x) (i64.load",
        "(local.set $x (i64.xor (local.get $x) (i64.load8_s",
        "(local.set $x (i64.add (local.get $x) (i64.load16_u",
        "(local.set $x (i64.sub (local.get $x) (i64.load32_s",
        "(local.set $x (i64.add (local.get $x) (i64.extend_i32_u (i32.load8_u",
        "(local.set $x (i64.xor (local.get $x) (i64.extend_i32_s (i32.load16_s",
        "(local.set $x (i64.xor (local.get $x) (i64.extend_i32_s (i32.load",
        "(local.set $v (i8x16.add (local.get $v) (v128.load",
        "(local.set $v (i8x16.sub (local.get $v) (v128.load8x8_s",
        "(local.set $v (v128.xor (local.get $v) (v128.load32_splat",
        "(local.set $v (v128.xor (local.get $v) (v128.load64_zero",
        "(local.set $x (i64.xor (local.get $x) (i64.reinterpret_f64 (f64.load",
    ];
    let mut input = Unstructured::new(bytes);
    let mut body = String::new();
    let statements = input.int_in_range(6..=32).ok()?;
    let has_rows = statements % 7 == 0;
    let row = input.int_in_range(1..=200).ok()?;
    for _ in 0..statements {
        let read = match input.int_in_range(0..=if has_rows { 3 } else { 1 }).ok()? {
            0 => "(local.get $p)".to_owned(),
            1 => "(local.get $q)".to_owned(),
            // What locals are a sum of is known before the loop.
            2 => format!("(i64.add (local.get $b) (i64.mul (local.get $i) (i64.const {row})))"),
            _ => "(i64.add (i64.shl (local.get $i) (i64.const 5)) (local.get $c))".to_owned(),
        };
        let offset = input.int_in_range(0..=80).ok()?;
        let statement = match input.int_in_range(0..=29).ok()? {
            0..=19 => {
                let load = LOADS[input.int_in_range(0..=LOADS.len() - 1).ok()?];
                let open = load.matches('(').count() - load.matches(')').count();
                let at = format!(" offset={offset} {read}");
                format!("{load}{at}{}", ")".repeat(open))
            }
            20 => format!(
                "(local.set $v (v128.load16_lane offset={offset} 3 {read} (local.get $v)))"
            ),
            21..=23 => format!("(i64.store offset={offset} (local.get $s) (local.get $x))"),
            24 => format!("(v128.store8_lane offset={offset} 5 (local.get $s) (local.get $v))"),
            25 => format!(
                "(if (i64.eqz (i64.and (local.get $x) (i64.const 3)))
                    (then (i64.store offset={offset} (local.get $s) (i64.load {read}))))"
            ),
            26 => format!(
                "(i32.store8 offset={offset} (local.get $s) (i32.load8_u offset={offset} (local.get $s)))"
            ),
            // What keeps loads where they are.
            27 if statements % 3 == 0 => {
                format!("(i64.store8 (i64.const {}) (local.get $x))", offset * 700)
            }
            28 if statements % 4 == 0 => format!("(i64.store8 {read} (local.get $x))"),
            29 if statements % 5 == 0 => {
                format!("(memory.fill {read} (i32.const {offset}) (i64.const 9))")
            }
            29 if statements % 5 == 1 => "(drop (memory.grow (i64.const 1)))".to_owned(),
            29 if statements % 5 == 2 => "(call $turn)".to_owned(),
            _ => format!(
                "(local.set $x (i64.add (local.get $x) (i64.load16_u offset={offset}
                    (i64.add {read} (i64.shl (i64.and (local.get $x) (i64.const 7)) (i64.const 1))))))"
            ),
        };
        body.push_str(&statement);
        body.push('\n');
    }
    // Most read in the first segment, or one of the two beyond it, or both, and write in the first
    // one: each copy of the loop is for another of these cases (`tests/copies.rs` counts them).
    let case = input.int_in_range(0..=6_i64).ok()?;
    let usual = case < 4;
    let mut moves = String::new();
    for local in ["$p", "$q", "$s"] {
        let step = match input.int_in_range(if usual { 5..=7 } else { 0..=7 }).ok()? {
            0 => 0,
            1 => -16,
            2 => 65_536,
            3 => 32_768,
            4 => 1_i64 << 62,
            _ => input.int_in_range(1..=200).ok()?,
        };
        moves.push_str(&format!(
            "(local.set {local} (i64.add (local.get {local}) (i64.const {step})))\n"
        ));
    }
    let pages = input.int_in_range(4..=8).ok()?;
    let mut address = |far: bool| {
        let segment = match usual {
            true => [1, 1, 2, 2, 3][input.int_in_range(0..=4).ok()?] * i64::from(far),
            false => input.int_in_range(0..=3_i64).ok()?,
        };
        let near = segment * 65_536;
        // Loads ahead of an iteration must not trap before what is stored in it.
        if usual && far && input.int_in_range(0..=3).ok()? == 0 {
            // In segments of two pages, an odd number of them ends in the middle of one.
            let end = if pages % 2 == 1 { pages } else { 4 };
            return Some(end * 65_536 - input.int_in_range(80..=700).ok()?);
        }
        Some(match input.int_in_range(if usual { 2..=4 } else { 0..=4 }).ok()? {
            0 => near + input.int_in_range(-100..=100).ok()?,
            1 => near + 32_768 + input.int_in_range(-300..=300).ok()?,
            _ => near + input.int_in_range(0..=30_000).ok()?,
        })
    };
    let [p, q, other] = [address(case & 1 != 0)?, address(case & 2 != 0)?, address(false)?];
    let a = address(case & 4 != 0)?;
    // Now and then what is written meets what is read.
    let s = match bytes.first()? % 4 {
        0 => p + i64::from(*bytes.last()? % 64) - 32,
        _ => other,
    };
    let turns = input.int_in_range(1..=12).ok()?;
    let data: String =
        (0..=255).map(|byte: u8| format!("\\{:02x}", byte.wrapping_mul(37))).collect();
    let pieces: String = (0..pages * 16)
        .map(|at| format!("(data (i64.const {}) \"{data}\")", at * 4096 - at * 13))
        .collect();
    wat::parse_str(format!(
        "(module (memory (export \"memory\") i64 {pages} 9) (global $turns (mut i64) (i64.const 0)) {pieces}
            (func $turn (global.set $turns (i64.add (global.get $turns) (i64.const 1))))
            (func (export \"f\") (result i64 v128)
                (local $p i64) (local $q i64) (local $s i64)
                (local $x i64) (local $v v128) (local $n i64)
                (local $a i64) (local $b i64) (local $c i64) (local $i i64)
                (block (local.set $a (i64.const {a})))
                (local.set $p (i64.const {p})) (local.set $q (i64.const {q}))
                (local.set $s (i64.const {s})) (local.set $n (i64.const {turns}))
                (local.set $b (i64.add (local.get $a) (i64.const 32)))
                (local.set $c (i64.add (local.get $b) (i64.const 64)))
                (loop {body} {moves}
                    (local.set $i (i64.add (local.get $i) (i64.const 1)))
                    (br_if 0 (i64.ne (i64.const 0)
                        (local.tee $n (i64.sub (local.get $n) (i64.const 1))))))
                (local.get $x) (local.get $v)))"
    ))
    .ok()
}
