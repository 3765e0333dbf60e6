//! What lowering makes of the project's own guest: how much longer its code gets.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]

use polychord_memory64_lowering::{Dispatch, Options, lower};

/// The guests as they are committed: built with the relaxed instructions for vectors, and without.
const GUESTS: [(&str, &[u8]); 2] = [
    ("plain", include_bytes!("../../guest/built/transformer-wasm64-plain.wasm")),
    ("relaxed", include_bytes!("../../guest/built/transformer-wasm64-relaxed.wasm")),
];

/// Most bytes of code, for each hundred bytes before.
const MOST: u64 = 295;

#[test]
fn code_of_the_transformer_stays_below_three_times_its_size() {
    for (name, wasm) in GUESTS {
        let options = Options::default().cut_maximum(true);
        let report = lower(wasm, &options).unwrap().report;
        let hundredths = report.code_after * 100 / report.code_before;
        println!("{name}: {hundredths} hundredths, {report:?}");
        assert!(
            hundredths < MOST,
            "code of the {name} guest grows from {} to {} bytes: copies of loops are for what is hot, \
             see `loops.rs` and `Group::worth_it`",
            report.code_before,
            report.code_after,
        );
        // It has copies, so the number is not small for want of them.
        assert!(report.loops > 300 && report.regions > 100, "{report:?}");
        assert!(report.proved > report.checked, "{report:?}");
        // The other ways are shorter, and a host takes them where this is too long.
        let size =
            |dispatch| lower(wasm, &options.clone().dispatch(dispatch)).unwrap().report.code_after;
        let [inline, helpers] = [Dispatch::Inline, Dispatch::Helpers].map(size);
        assert!(report.code_after > inline && inline > helpers, "{inline} {helpers}");
    }
}
