//! Everything that is read from a model file before its weights: header, shape, vocabulary
//! and chat template. Whatever the bytes, there must be a result and never a panic.
//!
//! `cargo fuzz run gguf`, from the repository's root.

#![no_main]

use libfuzzer_sys::fuzz_target;
use polychord_model::chat::{ChatTemplate, GenerationPrompt, Message};
use polychord_model::config::Config;
use polychord_model::gguf::Gguf;
use polychord_model::tokenizer::{SpecialTokens, Tokenizer};

fuzz_target!(|bytes: &[u8]| {
    // The first byte chooses whether the file claims to be larger than it is.
    let Some((&choice, file)) = bytes.split_first() else { return };
    let claimed = if choice & 1 == 0 { file.len() as u64 } else { 1 << (choice >> 2) };
    let Ok(gguf) = Gguf::read(file, claimed) else { return };
    for tensor in gguf.tensors() {
        assert!(tensor.offset >= gguf.data_offset() && tensor.offset % gguf.alignment() == 0);
        assert!(tensor.offset + tensor.bytes <= gguf.file_len());
    }
    let _ = Config::from_gguf(&gguf);
    let text = "Hello <|im_end|>  wörld\n 1234 🦙";
    if let Ok(tokenizer) = Tokenizer::from_gguf(&gguf)
        && let Ok(ids) = tokenizer.encode_prompt(text, SpecialTokens::Parse)
    {
        assert!(ids.iter().all(|&id| id < tokenizer.vocab_size()));
        tokenizer.decode(&ids).expect("own ids decode");
    }
    if let Ok(chat) = ChatTemplate::from_gguf(&gguf) {
        let _ = chat.render(&[Message::new("user", text)], GenerationPrompt::Add);
    }
});
