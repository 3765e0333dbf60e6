//! Chat templates for models whose files have none, and which of them such a file is for.

use std::collections::{HashMap, HashSet};

use crate::gguf::{Error, Metadata};

/// A chat template that comes with the library, under the name that llama.cpp has for it.
///
/// A model that is converted without its template is given one that its vocabulary was made for
/// ([`ChatTemplate::from_gguf`](super::ChatTemplate::from_gguf)); by name any model is
/// ([`ChatTemplate::given`](super::ChatTemplate::given)).
///
/// ```
/// use polychord_model::chat::BuiltIn;
///
/// let names: Vec<_> = BuiltIn::all().iter().map(BuiltIn::name).collect();
/// assert!(names.contains(&"chatml") && names.contains(&"gemma"));
/// assert!(BuiltIn::find("gemma").is_some());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BuiltIn {
    name: &'static str,
    source: &'static str,
    /// Tokens that begin and end turns. A vocabulary that has all of them was made for this form;
    /// none for a form without such tokens.
    tokens: &'static [&'static str],
    /// Beginnings of names of vocabularies (`tokenizer.ggml.pre`) that these tokens are in, too, before a model
    /// has learned what they mean.
    untrained: &'static [&'static str],
    /// Texts that end a turn where no token does.
    stops: &'static [&'static str],
}

/// One turn of most forms, with what stands before the role, behind it and behind the content.
macro_rules! turns {
    ($bos:literal, $begin:literal, $middle:literal, $end:literal, $model:literal) => {
        concat!(
            $bos,
            "{% for message in messages %}",
            "{% set role = '",
            $model,
            "' if message['role'] == 'assistant' else message['role'] %}{{ '",
            $begin,
            "' + role + '",
            $middle,
            "' + message['content'] | trim + '",
            $end,
            "' }}{% endfor %}{% if add_generation_prompt %}{{ '",
            $begin,
            $model,
            $middle,
            "' }}{% endif %}"
        )
    };
}

const TRANSCRIPT: &str = "{% if messages and messages[0]['role'] == 'system' %}\
     {{ messages[0]['content'] | trim }}{% set turns = messages[1:] %}\
     {% else %}A conversation between a user and a helpful assistant.{% set turns = messages %}{% endif %}\
     {% for message in turns %}{{ '\n\n' + message['role'] | capitalize + ': ' + message['content'] | trim }}{% endfor %}\
     {% if add_generation_prompt %}{{ '\n\nAssistant:' }}{% endif %}";

/// Gemma has no system turn: what it says begins the first turn of the user.
const GEMMA: &str = "{{ bos_token }}{% set first = '' %}{% set turns = messages %}\
     {% if messages and messages[0]['role'] == 'system' %}\
     {% set first = messages[0]['content'] | trim + '\n\n' %}{% set turns = messages[1:] %}{% endif %}\
     {% for message in turns %}\
     {% set role = 'model' if message['role'] == 'assistant' else message['role'] %}\
     {{ '<start_of_turn>' + role + '\n' + (first if loop.first else '') + message['content'] | trim \
     + '<end_of_turn>\n' }}{% endfor %}\
     {% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}";

const BUILT_IN: [BuiltIn; 7] = [
    BuiltIn {
        name: "gemma4",
        source: turns!("{{ bos_token }}", "<|turn>", "\\n", "<turn|>\\n", "model"),
        tokens: &["<|turn>", "<turn|>"],
        untrained: &[""],
        stops: &[],
    },
    BuiltIn {
        name: "gemma",
        source: GEMMA,
        tokens: &["<start_of_turn>", "<end_of_turn>"],
        untrained: &[""],
        stops: &[],
    },
    BuiltIn {
        name: "chatml",
        source: turns!("", "<|im_start|>", "\\n", "<|im_end|>\\n", "assistant"),
        tokens: &["<|im_start|>", "<|im_end|>"],
        untrained: &["qwen", "smollm"],
        stops: &[],
    },
    BuiltIn {
        name: "llama3",
        source: turns!(
            "{{ bos_token }}",
            "<|start_header_id|>",
            "<|end_header_id|>\\n\\n",
            "<|eot_id|>",
            "assistant"
        ),
        tokens: &["<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"],
        untrained: &[""],
        stops: &[],
    },
    BuiltIn {
        name: "granite",
        source: turns!(
            "",
            "<|start_of_role|>",
            "<|end_of_role|>",
            "<|end_of_text|>\\n",
            "assistant"
        ),
        tokens: &["<|start_of_role|>", "<|end_of_role|>", "<|end_of_text|>"],
        untrained: &[""],
        stops: &[],
    },
    BuiltIn {
        name: "phi3",
        source: turns!("", "<|", "|>\\n", "<|end|>\\n", "assistant"),
        tokens: &["<|system|>", "<|user|>", "<|assistant|>", "<|end|>"],
        untrained: &[],
        stops: &[],
    },
    BuiltIn {
        name: "transcript",
        source: TRANSCRIPT,
        tokens: &[],
        untrained: &[],
        stops: &["\n\nUser:", "\nUser:", "\n\nAssistant:", "\nAssistant:"],
    },
];

/// Types of tokens that are found in what a template writes: control tokens and user-defined ones.
const SPECIAL: [i32; 2] = [3, 4];

impl BuiltIn {
    /// All of them.
    #[must_use]
    pub const fn all() -> &'static [Self] {
        &BUILT_IN
    }

    /// The one of this name.
    #[must_use]
    pub fn find(name: &str) -> Option<Self> {
        Self::all().iter().find(|it| it.name == name).copied()
    }

    /// Its name, such as `chatml`.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// What is rendered.
    #[must_use]
    pub const fn source(&self) -> &'static str {
        self.source
    }

    /// Texts that end an answer of a model with this vocabulary, where no token does.
    pub(super) fn stop_texts(&self, metadata: &Metadata) -> Result<Vec<String>, Error> {
        let tokens = special_tokens(metadata)?;
        let end = self.tokens.last().filter(|end| !tokens.contains(*end));
        Ok(self.stops.iter().chain(end).map(|&text| text.to_owned()).collect())
    }

    /// The one that a file without a template is for, and how that is known; none if nothing says so.
    pub(super) fn of_file(metadata: &Metadata) -> Result<Option<(Self, String)>, Error> {
        let tokens = special_tokens(metadata)?;
        let has_all = |it: &&Self| {
            !it.tokens.is_empty() && it.tokens.iter().all(|token| tokens.contains(token))
        };
        let Some(fits) = Self::all().iter().find(has_all).copied() else { return Ok(None) };
        let shown = fits.tokens.join(" ");
        let pre = metadata.str("tokenizer.ggml.pre")?.unwrap_or_default();
        let knows_nothing = fits.untrained.iter().any(|name| pre.starts_with(name));
        if knows_nothing && is_base(metadata)? {
            let why = format!(
                "its vocabulary has {shown}, but by its name (general.basename, and no general.finetune) it is a base \
                 model, which has not learned them"
            );
            return Ok(Self::find("transcript").map(|transcript| (transcript, why)));
        }
        Ok(Some((fits, format!("its vocabulary has {shown}"))))
    }
}

/// Which of the tokens that begin and end turns the vocabulary has as special tokens. An end that converters
/// forgot to mark is taken for one, too, as the tokenizer does.
fn special_tokens(metadata: &Metadata) -> Result<HashSet<&'static str>, Error> {
    let mut found = HashSet::new();
    let Some(tokens) = metadata.strings("tokenizer.ggml.tokens")? else { return Ok(found) };
    let types = metadata.i32s("tokenizer.ggml.token_type")?;
    let is_special =
        |id| types.is_none_or(|types| types.get(id).is_some_and(|it| SPECIAL.contains(it)));
    let mut wanted: HashMap<&'static str, bool> = HashMap::new();
    for it in BuiltIn::all() {
        wanted.extend(it.tokens.iter().map(|token| (*token, it.tokens.last() == Some(token))));
    }
    for (id, token) in tokens.iter().enumerate() {
        if let Some((token, is_end)) = wanted.get_key_value(token)
            && (*is_end || is_special(id))
        {
            found.insert(*token);
        }
    }
    Ok(found)
}

/// Whether a file says that its model has learned no conversations. llama.cpp's converter divides a model's name
/// and writes both parts, `general.basename` and `general.finetune` (`Instruct`, `it`), or the one that is there.
fn is_base(metadata: &Metadata) -> Result<bool, Error> {
    const WORDS: [&str; 9] =
        ["it", "instruct", "chat", "assistant", "sft", "dpo", "rl", "thinking", "reasoning"];
    let text = |key| metadata.str(key).map(Option::unwrap_or_default);
    let name = text("general.name")?.to_lowercase();
    let mut words = name.split(|c: char| !c.is_alphanumeric());
    let says_nothing = matches!(&*text("general.finetune")?.to_lowercase(), "" | "base" | "pt");
    let is_named = !text("general.basename")?.is_empty();
    Ok(is_named && says_nothing && !words.any(|word| WORDS.contains(&word)))
}
