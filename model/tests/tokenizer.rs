//! Token ids against llama.cpp's, and refusal of broken vocabularies.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::collections::BTreeMap;

use polychord_model::gguf::{Array, Value};
use polychord_model::tokenizer::{Error, SpecialTokens, Tokenizer};
use serde_json::Value as Json;
use support::{Writer, read, string, strings, test_data};

/// Checks ids against llama.cpp's, and that decoding at once and one by one agree.
fn check_vectors(file: &str, vectors: &str) {
    let Some(path) = test_data(file) else { return };
    let tokenizer = Tokenizer::from_gguf(&support::open(path)).unwrap();
    let mut wrong = Vec::new();
    for line in vectors.lines() {
        let vector: Json = serde_json::from_str(line).unwrap();
        let text = vector["text"].as_str().unwrap();
        let expected: Vec<u32> = serde_json::from_value(vector["ids"].clone()).unwrap();
        let ids = tokenizer.encode(text, SpecialTokens::AsText).unwrap();
        if ids != expected {
            wrong.push(format!("{text:?}: {ids:?}, expected {expected:?}"));
        }
        assert_eq!(tokenizer.decode(&ids).unwrap(), text);
        let mut decoder = tokenizer.decoder();
        let mut streamed: String = ids.iter().map(|&id| decoder.push(id).unwrap()).collect();
        streamed += &decoder.finish();
        assert_eq!(streamed.trim_start(), text.trim_start());
    }
    assert_eq!(vectors.lines().count(), 47);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn gpt_2_is_exact() {
    check_vectors("ggml-vocab-gpt-2.gguf", include_str!("data/tokenizer/tok-gpt-2.jsonl"));
}

#[test]
fn llama_bpe_is_exact() {
    check_vectors("ggml-vocab-llama-bpe.gguf", include_str!("data/tokenizer/tok-llama-bpe.jsonl"));
}

#[test]
fn llama_spm_is_exact() {
    check_vectors("ggml-vocab-llama-spm.gguf", include_str!("data/tokenizer/tok-llama-spm.jsonl"));
}

#[test]
fn qwen2_is_exact() {
    check_vectors("ggml-vocab-qwen2.gguf", include_str!("data/tokenizer/tok-qwen2.jsonl"));
}

#[test]
fn qwen35_is_exact() {
    check_vectors("ggml-vocab-qwen35.gguf", include_str!("data/tokenizer/tok-qwen2.jsonl"));
}

#[test]
fn deepseek_llm_is_exact() {
    check_vectors(
        "ggml-vocab-deepseek-llm.gguf",
        include_str!("data/tokenizer/tok-deepseek-llm.jsonl"),
    );
}

#[test]
fn phi_3_is_exact() {
    check_vectors("ggml-vocab-phi-3.gguf", include_str!("data/tokenizer/tok-llama-spm.jsonl"));
}

#[test]
fn gemma_4_is_exact() {
    check_vectors("ggml-vocab-gemma-4.gguf", include_str!("data/tokenizer/tok-gemma-4.jsonl"));
}

/// What llama.cpp 0.5.0 makes of these texts with a vocabulary and the rules of others.
#[test]
fn all_rules_cut_as_llama_cpp_does() {
    let vectors = include_str!("data/tokenizer/pre.jsonl");
    check_rules("ggml-vocab-qwen2.gguf", vectors, 23);
    // It has numbers of three digits.
    let vectors = include_str!("data/tokenizer/pre-llama-bpe.jsonl");
    check_rules("ggml-vocab-llama-bpe.gguf", vectors, 2);
}

fn check_rules(file: &str, vectors: &str, rules: usize) {
    let Some(path) = test_data(file) else { return };
    let vocabulary = support::open(path);
    let pre = "tokenizer.ggml.pre";
    let mut tokenizers = BTreeMap::new();
    let mut wrong = Vec::new();
    for line in vectors.lines() {
        let vector: Json = serde_json::from_str(line).unwrap();
        let (name, text) = (vector["pre"].as_str().unwrap(), vector["text"].as_str().unwrap());
        let expected: Vec<u32> = serde_json::from_value(vector["ids"].clone()).unwrap();
        let tokenizer = tokenizers.entry(name.to_owned()).or_insert_with(|| {
            let with =
                |writer: Writer, (key, value): (&str, &Value)| writer.pair(key, value.clone());
            let writer = vocabulary.metadata().iter().fold(Writer::default(), with);
            build(&writer.without(pre).pair(pre, string(name))).unwrap()
        });
        let ids = tokenizer.encode(text, SpecialTokens::AsText).unwrap();
        if ids != expected {
            wrong.push(format!("{name}: {text:?}: {ids:?}, expected {expected:?}"));
        }
    }
    assert_eq!(tokenizers.len(), rules);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn smollm2_is_exact() {
    check_vectors(
        "SmolLM2-135M-Instruct.Q4_1.gguf",
        include_str!("data/tokenizer/tok-smollm2.jsonl"),
    );
}

#[test]
fn special_tokens_are_parsed_only_when_asked() {
    let Some(path) = test_data("SmolLM2-135M-Instruct.Q4_1.gguf") else { return };
    let tokenizer = Tokenizer::from_gguf(&support::open(path)).unwrap();
    assert_eq!(
        tokenizer.encode("<|im_start|>user\nHi<|im_end|>", SpecialTokens::Parse).unwrap(),
        [1, 4093, 198, 26843, 2]
    );
    let plain = tokenizer.encode("<|im_end|>", SpecialTokens::AsText).unwrap();
    assert!(
        plain.len() > 1 && plain.iter().all(|&id| !tokenizer.is_end_of_generation(id)),
        "{plain:?}"
    );
    assert_eq!(tokenizer.decode(&plain).unwrap(), "<|im_end|>");
    assert_eq!(tokenizer.decode(&[1, 4093, 2]).unwrap(), "user");
    let ends: Vec<u32> =
        (0..tokenizer.vocab_size()).filter(|&id| tokenizer.is_end_of_generation(id)).collect();
    assert_eq!(ends, [0, 2, 4], "<|endoftext|>, <|im_end|>, <reponame>");
}

/// 256 byte tokens, then these, all of which the merges make.
fn byte_level(merges: &[&str], extra: &[(&str, i32)]) -> Writer {
    let mut tokens: Vec<String> = (0..=255_u8).map(|b| gpt2_char(b).to_string()).collect();
    tokens.extend(merges.iter().map(|merge| merge.replacen(' ', "", 1)));
    let mut types = vec![1; tokens.len()];
    tokens.extend(extra.iter().map(|(text, _)| (*text).to_owned()));
    types.extend(extra.iter().map(|(_, kind)| *kind));
    Writer::default()
        .pair("tokenizer.ggml.model", string("gpt2"))
        .pair("tokenizer.ggml.pre", string("gpt-2"))
        .pair("tokenizer.ggml.tokens", strings(tokens))
        .pair("tokenizer.ggml.token_type", Value::Array(Array::I32(types)))
        .pair("tokenizer.ggml.merges", strings(merges))
}

fn gpt2_char(byte: u8) -> char {
    let printable = |b: u32| matches!(b, 33..=126 | 161..=172 | 174..=255);
    let code = u32::from(byte);
    let shifted = (0..code).filter(|&b| !printable(b)).count();
    let code = if printable(code) { code } else { 256 + u32::try_from(shifted).unwrap() };
    char::from_u32(code).unwrap()
}

fn sentence_piece(tokens: &[(&str, f32, i32)]) -> Writer {
    let bytes: Vec<String> = (0..=255).map(|b: u8| format!("<0x{b:02X}>")).collect();
    let all: Vec<(&str, f32, i32)> =
        tokens.iter().copied().chain(bytes.iter().map(|text| (text.as_str(), 0.0, 6))).collect();
    Writer::default()
        .pair("tokenizer.ggml.model", string("llama"))
        .pair("tokenizer.ggml.tokens", strings(all.iter().map(|t| t.0)))
        .pair("tokenizer.ggml.scores", Value::Array(Array::F32(all.iter().map(|t| t.1).collect())))
        .pair(
            "tokenizer.ggml.token_type",
            Value::Array(Array::I32(all.iter().map(|t| t.2).collect())),
        )
}

fn build(writer: &Writer) -> Result<Tokenizer, Error> {
    Tokenizer::from_gguf(&read(&writer.file()).unwrap())
}

const SPM: [(&str, f32, i32); 6] = [
    ("<unk>", 0.0, 2),
    ("<s>", 0.0, 3),
    ("</s>", 0.0, 3),
    ("▁a", -1.0, 1),
    ("ab", -2.0, 1),
    ("▁", -3.0, 1),
];

#[test]
fn small_vocabularies_encode_and_decode() {
    let bpe = build(&byte_level(&["a b", "ab c"], &[("<x>", 3), ("<y>", 4)])).unwrap();
    assert_eq!(bpe.encode("abc", SpecialTokens::AsText).unwrap(), [257]);
    assert_eq!(
        bpe.encode("abab<y>", SpecialTokens::AsText).unwrap(),
        [256, 256, 259],
        "user-defined always"
    );
    assert_eq!(bpe.encode("ab<x>", SpecialTokens::Parse).unwrap(), [256, 258]);
    assert_eq!(bpe.decode(&[256, 258, 259]).unwrap(), "ab<y>");
    let spm = build(&sentence_piece(&SPM)).unwrap();
    assert_eq!(spm.encode("ab", SpecialTokens::AsText).unwrap(), [3, 6 + 0x62], "▁a before ab");
    assert_eq!(spm.encode_prompt("ab", SpecialTokens::AsText).unwrap(), [1, 3, 6 + 0x62]);
    assert_eq!(
        spm.encode_prompt("<s>ab", SpecialTokens::Parse).unwrap(),
        [1, 3, 6 + 0x62],
        "not twice"
    );
    assert_eq!(spm.decode(&[1, 3, 6 + 0x62, 2]).unwrap(), "ab");
}

#[test]
fn ids_beyond_the_vocabulary_are_refused() {
    let bpe = build(&byte_level(&[], &[])).unwrap();
    assert!(matches!(bpe.decode(&[256]), Err(Error::UnknownId { id: 256, vocab: 256 })));
    assert!(matches!(bpe.decoder().push(u32::MAX), Err(Error::UnknownId { .. })));
    assert!(!bpe.is_end_of_generation(u32::MAX));
}

#[test]
fn bytes_that_a_vocabulary_lacks_are_left_out() {
    let tokens = ["a", "b", "ab"];
    let writer = byte_level(&["a b"], &[])
        .without("tokenizer.ggml.tokens")
        .without("tokenizer.ggml.token_type");
    let bpe = build(&writer.pair("tokenizer.ggml.tokens", strings(tokens))).unwrap();
    assert_eq!(bpe.encode("ab", SpecialTokens::AsText).unwrap(), [2]);
    assert_eq!(bpe.encode("axb", SpecialTokens::AsText).unwrap(), [0, 1], "no merge across");
}

#[test]
fn long_white_space_takes_linear_time() {
    let bpe = build(&byte_level(&["Ġ Ġ"], &[])).unwrap();
    let text = " ".repeat(2_000_001) + "x";
    let ids = bpe.encode(&text, SpecialTokens::AsText).unwrap();
    assert_eq!(ids.len(), 1_000_002);
    assert_eq!(bpe.decode(&ids).unwrap(), text);
}

#[test]
fn broken_byte_level_vocabularies_are_refused() {
    let good = byte_level(&["a b"], &[]);
    let replace = |key: &str, value| good.clone().without(key).pair(key, value);
    for key in ["tokenizer.ggml.model", "tokenizer.ggml.tokens", "tokenizer.ggml.merges"] {
        assert!(matches!(build(&good.clone().without(key)), Err(Error::Missing { .. })), "{key}");
        assert!(matches!(build(&replace(key, Value::U32(7))), Err(Error::Gguf(_))), "{key}");
    }
    for merge in ["", "a", "a b c", "a zz", "zz a", "b a", " ", "a "] {
        let error = build(&replace("tokenizer.ggml.merges", strings([merge])));
        assert!(matches!(error, Err(Error::Merge { index: 0, .. })), "{merge:?}: {error:?}");
    }
    let error = build(&replace("tokenizer.ggml.model", string("rwkv"))).unwrap_err();
    assert!(error.to_string().contains("rwkv"), "{error}");
    let error = build(&replace("tokenizer.ggml.pre", string("afmoe"))).unwrap_err();
    assert!(error.to_string().contains("afmoe") && error.to_string().contains("smollm"), "{error}");
    let types = "tokenizer.ggml.token_type";
    assert!(matches!(
        build(&replace(types, Value::Array(Array::I32(vec![1])))),
        Err(Error::Length { .. })
    ));
    assert!(matches!(
        build(&replace(types, Value::Array(Array::I32(vec![9; 257])))),
        Err(Error::TokenType { .. })
    ));
    let twice = replace("tokenizer.ggml.tokens", strings(vec!["a"; 257]));
    assert!(matches!(build(&twice), Err(Error::DuplicateToken { first: 0, second: 1, .. })));
    let many = replace("tokenizer.ggml.tokens", strings(vec![""; (1 << 20) + 1]));
    assert!(matches!(build(&many), Err(Error::Limit { .. })));
    let long = replace("tokenizer.ggml.tokens", strings(["x".repeat(5000)]));
    assert!(matches!(build(&long), Err(Error::Limit { .. })));
}

#[test]
fn special_ids_beyond_the_vocabulary_are_none() {
    let good = byte_level(&["a b"], &[]);
    let ends = |tokenizer: &Tokenizer| -> Vec<u32> {
        (0..tokenizer.vocab_size()).filter(|&id| tokenizer.is_end_of_generation(id)).collect()
    };
    let expected = build(&good).unwrap();
    for name in ["bos", "eos", "unknown", "eot", "eom"] {
        let key = format!("tokenizer.ggml.{name}_token_id");
        for id in [257, u32::MAX] {
            let tokenizer = build(&good.clone().pair(&key, Value::U32(id))).unwrap();
            assert_eq!(ends(&tokenizer), ends(&expected), "{name}");
            let ids = |it: &Tokenizer| it.encode_prompt("ab", SpecialTokens::Parse).unwrap();
            assert_eq!(ids(&tokenizer), ids(&expected), "{name}");
        }
    }
}

#[test]
fn broken_special_ids_are_refused() {
    let good = byte_level(&["a b"], &[]);
    for name in ["bos", "eos"] {
        let id = format!("tokenizer.ggml.{name}_token_id");
        let add = format!("tokenizer.ggml.add_{name}_token");
        let wrong = good.clone().pair(&id, Value::U32(257)).pair(&add, Value::Bool(true));
        let error = build(&wrong).unwrap_err();
        assert!(matches!(error, Error::SpecialId { id: 257, tokens: 257, .. }), "{name}: {error}");
    }
    for name in ["bos", "eos"] {
        let key = format!("tokenizer.ggml.add_{name}_token");
        let error = build(&good.clone().pair(&key, Value::Bool(true))).unwrap_err();
        assert!(matches!(error, Error::NothingToAdd { .. }), "{error}");
    }
}

/// As in llama.cpp.
#[test]
fn without_scores_all_tokens_have_the_same() {
    let equal = SPM.map(|(text, _, kind)| (text, 0.0, kind));
    let without = sentence_piece(&SPM).without("tokenizer.ggml.scores");
    let ids =
        |writer: &Writer| build(writer).unwrap().encode("ab aab a", SpecialTokens::AsText).unwrap();
    assert_eq!(ids(&without), ids(&sentence_piece(&equal)));
}

#[test]
fn broken_sentence_piece_vocabularies_are_refused() {
    let good = sentence_piece(&SPM);
    let scores = "tokenizer.ggml.scores";
    let short = good.clone().without(scores).pair(scores, Value::Array(Array::F32(vec![0.0])));
    assert!(matches!(build(&short), Err(Error::Length { .. })));
    let byte = sentence_piece(&[("<0xQQ>", 0.0, 6)]);
    assert!(matches!(build(&byte), Err(Error::ByteToken { id: 0, .. })));
    let twice = sentence_piece(&[SPM[0], SPM[1], SPM[1]]);
    assert!(matches!(build(&twice), Err(Error::DuplicateToken { first: 1, second: 2, .. })));
    let nan = sentence_piece(&[
        SPM[0],
        SPM[1],
        SPM[2],
        ("▁a", f32::NAN, 1),
        ("aa", f32::NAN, 1),
        ("▁", 0.0, 1),
    ]);
    let tokenizer = build(&nan).unwrap();
    assert_eq!(
        tokenizer.decode(&tokenizer.encode("aaa a", SpecialTokens::AsText).unwrap()).unwrap(),
        "aaa a"
    );
}

#[test]
fn plain_text_is_merged_and_falls_back_to_bytes() {
    let tokens = ["<pad>", "<bos>", "▁", "a", "▁a", "\n", "\n\n", "<0xC3>", "<0xA9>", "<|turn>"];
    let kinds = [3, 3, 1, 1, 1, 1, 1, 6, 6, 3];
    let writer = Writer::default()
        .pair("tokenizer.ggml.model", string("gemma4"))
        .pair("tokenizer.ggml.tokens", strings(tokens))
        .pair("tokenizer.ggml.token_type", Value::Array(Array::I32(kinds.to_vec())))
        .pair("tokenizer.ggml.merges", strings(["▁ a"]))
        .pair("tokenizer.ggml.bos_token_id", Value::U32(1))
        .pair("tokenizer.ggml.add_bos_token", Value::Bool(false));
    let gemma = build(&writer).unwrap();
    let ids = gemma.encode_prompt(" a é\n\n\n\n<|turn>", SpecialTokens::Parse).unwrap();
    // The beginning is added whatever the key says; line feeds are one token only if there is one.
    assert_eq!(ids, [1, 4, 2, 7, 8, 5, 5, 5, 5, 9]);
    assert_eq!(gemma.encode("\n\n", SpecialTokens::Parse).unwrap(), [6]);
    assert_eq!(gemma.decode(&[4, 2, 7, 8, 5]).unwrap(), " a é\n");
    let error = build(&writer.without("tokenizer.ggml.bos_token_id")).unwrap_err();
    assert!(matches!(error, Error::NothingToAdd { .. }), "{error}");
}

#[test]
fn special_tokens_of_phi_3_take_the_white_space_behind_them() {
    let tokens = [&SPM[..], &[("<|end|>", 0.0, 3), ("<|user|>", 0.0, 4)]].concat();
    let phi = sentence_piece(&tokens);
    let ids = |writer: &Writer, text| build(writer).unwrap().encode(text, SpecialTokens::Parse);
    let named = phi.clone().pair("general.name", string("Phi-3.5-mini"));
    assert_eq!(ids(&named, "<|user|>\n a<|end|> \n").unwrap(), [7, 3, 6]);
    assert_eq!(ids(&named, "<s> a").unwrap(), [1, 5, 3], "not this one");
    assert_eq!(ids(&phi, "<|end|> a").unwrap(), [6, 5, 3]);
}

fn ends(tokenizer: &Tokenizer) -> Vec<u32> {
    (0..tokenizer.vocab_size()).filter(|&id| tokenizer.is_end_of_generation(id)).collect()
}

#[test]
fn tokens_that_end_an_answer_are_found_by_name_and_by_key() {
    let of = |texts: &[(&str, i32)]| byte_level(&["a b"], texts);
    let found = |texts: &[(&str, i32)]| ends(&build(&of(texts)).unwrap());
    assert_eq!(found(&[("<|eot_id|>", 1), ("xx", 1), ("<end_of_turn>", 4)]), [257, 259]);
    assert_eq!(found(&[("<fim_pad>", 1), ("<|fim_pad|>", 3)]), [257], "one of a kind");
    assert!(found(&[("<|fim_middle|>", 1)]).is_empty());
    // Harmony ends messages, not answers, by <|end|>; Gemma 4 has a plain </s>.
    assert_eq!(found(&[("<|end|>", 3), ("<|return|>", 3), ("<|call|>", 3)]), [258, 259]);
    assert_eq!(found(&[("<|end|>", 3), ("<|return|>", 3)]), [257, 258]);
    assert_eq!(found(&[("</s>", 1), ("<|tool_response>", 3)]), [258]);
    let keyed = of(&[("!!", 1), ("??", 1)])
        .pair("tokenizer.ggml.eom_token_id", Value::U32(257))
        .pair("tokenizer.ggml.fim_sep_token_id", Value::U32(258));
    assert_eq!(ends(&build(&keyed).unwrap()), [257, 258]);
    let harmony = of(&[("<|channel|>", 3), ("<|end|>", 3), ("<|return|>", 3), ("<|call|>", 3)]);
    let harmony = build(&harmony).unwrap();
    assert_eq!(harmony.decode(&[257, 258, 259]).unwrap(), "<|channel|><|end|>", "shown");
}

#[test]
fn merges_of_unknown_tokens_do_no_harm() {
    let tokens: Vec<_> = (b'a'..=b'z').map(|byte| char::from(byte).to_string()).collect();
    let writer = Writer::default()
        .pair("tokenizer.ggml.model", string("gpt2"))
        .pair("tokenizer.ggml.pre", string("gpt-2"))
        .pair("tokenizer.ggml.tokens", strings(tokens.iter().map(String::as_str).chain(["ab"])))
        .pair("tokenizer.ggml.merges", strings(["a b", "É È", "x y", "ab q"]));
    let bpe = build(&writer).unwrap();
    // What a merge makes that is no token is spelled byte by byte.
    assert_eq!(bpe.encode("abqxy", SpecialTokens::AsText).unwrap(), [0, 1, 16, 23, 24]);
    assert_eq!(bpe.encode("abxq", SpecialTokens::AsText).unwrap(), [26, 23, 16]);
}

#[test]
fn text_never_joins_to_a_control_token() {
    let tokens =
        [("</", -1.0, 1), ("s>", -1.0, 1), ("<turn>", 0.0, 4), ("<tu", 0.0, 1), ("<t", 0.0, 1)];
    let more = [("rn>", 0.0, 1), ("rn", 0.0, 1)];
    let all = [&SPM[..], &tokens, &more].concat();
    let spm = build(&sentence_piece(&all)).unwrap();
    let ids = spm.encode("a</s>", SpecialTokens::AsText).unwrap();
    assert_eq!(ids, [3, 6, 7], "▁a, </ and s>");
    assert_eq!(spm.encode("a</s>", SpecialTokens::Parse).unwrap(), [3, 2]);
    let turn = spm.encode("<turn>", SpecialTokens::AsText).unwrap();
    assert!(turn.contains(&8), "user-defined tokens of a prompt are recognized: {turn:?}");
}
