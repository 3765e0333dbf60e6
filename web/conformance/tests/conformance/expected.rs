//! What these engines are known to fail.

use polychord_conformance::{Expectations, ExpectedFailure};

/// Nothing.
pub(crate) const NONE: Expectations = Expectations::NONE;

/// What all of them are known to fail.
const ALL: &[ExpectedFailure] = &[
    vectors("call/multi_value"),
    vectors("imports/twelve_of_each"),
    vectors("imports/untyped"),
    vectors("globals/exported"),
    vectors("traps/kinds"),
    vectors("determinism/simd_integers"),
    unlimited("limits/private_memory"),
    unlimited("limits/growth_by_the_guest"),
    unlimited("limits/growth_by_the_host"),
    unlimited("limits/second_memory"),
    unlimited("limits/memory64"),
    unlimited("limits/less_than_a_page"),
    unlimited("limits/all_memories"),
    unlimited("limits/all_tables"),
];

const fn vectors(case: &'static str) -> ExpectedFailure {
    let reason = "values of 128 bits do not go between JavaScript and WebAssembly";
    ExpectedFailure::new(case, "TypeError").because(reason, "docs/browser.md")
}

const fn unlimited(case: &'static str) -> ExpectedFailure {
    let reason = "JavaScript cannot limit how far a guest grows its memories and tables";
    ExpectedFailure::new(case, "expected [I").because(reason, "docs/browser.md")
}

/// What Chromium and Node, which have V8, fail beside that.
const V8: &[ExpectedFailure] = &[
    vectors("call/round_trip"),
    vectors("imports/round_trip"),
    ExpectedFailure::new("limits/tables", "cannot compile").because(
        "V8 compiles no module with a table of more than 10,000,000 elements",
        "docs/browser.md",
    ),
];

/// What Firefox fails beside that. Values of 128 bits, which the first two go on with, it has no more than V8.
const FIREFOX: &[ExpectedFailure] = &[
    nan("call/round_trip", "f32 0xffc12345: [F32(NaN)]"),
    nan("imports/round_trip", "got [(F32, 2143289344)], expected [(F32, 2143363909)]"),
    ExpectedFailure::new("traps/segments", "got MemoryOutOfBounds, expected TableOutOfBounds")
        .because("Firefox says the same of segments of memories and of tables", "docs/browser.md"),
];

const fn nan(case: &'static str, says: &'static str) -> ExpectedFailure {
    let reason = "Firefox gives a NaN that goes to JavaScript other bits";
    ExpectedFailure::new(case, says).because(reason, "docs/browser.md")
}

/// What an engine is known to fail.
pub(crate) fn of(engine: &str) -> Expectations {
    let own = if engine == "firefox" { FIREFOX } else { V8 };
    // One for the whole process.
    NONE.failures([ALL, own].concat().leak())
}
