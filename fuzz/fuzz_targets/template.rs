//! Chat templates of any bytes: an error or a text within the limits, never the end of the process.
//! Text of messages stays apart from text of the template.
//!
//! `cargo fuzz run template fuzz/corpus/template fuzz/seeds/template -- -rss_limit_mb=256 -timeout=5`, from the
//! repository's root.

#![no_main]

use libfuzzer_sys::fuzz_target;
use polychord_model::chat::{ChatTemplate, GenerationPrompt, Message};

fuzz_target!(|source: &str| {
    // No byte of the template, so that it can be told whose each byte is.
    const WORD: &str = "\u{f8ff}\u{f8fe}";
    if source.contains('\u{f8ff}') || source.contains('\\') {
        return;
    }
    let render = || -> Option<()> {
        let chat = ChatTemplate::new(source, "<s>", "</s>").ok()?.with_date_of_today();
        let messages = [Message::new("user", WORD), Message::new("assistant", "Yes")];
        let text = chat.render(&messages, GenerationPrompt::Add).ok()?;
        for range in text.template_ranges() {
            assert!(!text.as_str()[range].contains('\u{f8ff}'), "a message's word became trusted");
        }
        Some(())
    };
    // A stack as small as a server's threads may have.
    let _ = std::thread::scope(|scope| {
        let small = std::thread::Builder::new().stack_size(512 << 10);
        small.spawn_scoped(scope, render).expect("a thread").join().expect("no panic")
    });
});
