//! Chat templates of any bytes: an error or a text within the limits, never the end of the process.
//! Text of messages stays apart from text of the template.
//!
//! `cargo fuzz run template fuzz/corpus/template fuzz/seeds/template -- -rss_limit_mb=256 -timeout=5`, from the
//! repository's root.

#![no_main]

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{LazyLock, Mutex};
use std::thread::Builder;

use libfuzzer_sys::fuzz_target;
use polychord_model::chat::{ChatTemplate, GenerationPrompt, Message};

/// No byte of the template, so that it can be told whose each byte is.
const WORD: &str = "\u{f8ff}\u{f8fe}";

fuzz_target!(|source: &str| {
    if source.contains('\u{f8ff}') || source.contains('\\') {
        return;
    }
    let small = SMALL.lock().expect("no panic");
    small.0.send(source.to_owned()).expect("the thread waits");
    small.1.recv().expect("no panic");
});

/// A thread with a stack as small as a server's may be: what is sent to it is rendered, and then it answers.
static SMALL: LazyLock<Mutex<(SyncSender<String>, Receiver<()>)>> = LazyLock::new(|| {
    let ((to, sources), (done, from)) = (sync_channel::<String>(0), sync_channel(0));
    let work = move || {
        for source in sources {
            _ = render(&source);
            done.send(()).expect("the target waits");
        }
    };
    Builder::new().stack_size(512 << 10).spawn(work).expect("a thread");
    Mutex::new((to, from))
});

fn render(source: &str) -> Option<()> {
    let chat = ChatTemplate::new(source, "<s>", "</s>").ok()?.with_date_of_today();
    let messages = [Message::new("user", WORD), Message::new("assistant", "Yes")];
    let text = chat.render(&messages, GenerationPrompt::Add).ok()?;
    for range in text.template_ranges() {
        assert!(!text.as_str()[range].contains('\u{f8ff}'), "a message's word became trusted");
    }
    Some(())
}
