//! What ends an answer, and what it is held to.

use std::path::{Path, PathBuf};

use polychord::model::{Generation, Model};
use polychord::serve::scheduler::{Format, Grammars};

use super::Failure;

#[derive(Debug, clap::Args)]
pub(super) struct HoldArgs {
    /// A text that ends the answer and is no part of it, also where several tokens make it. May be given
    /// several times
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    stop: Vec<String>,

    /// Hold the answer to JSON of this schema: the schema itself, or a file. It ends when it is complete
    #[arg(long, value_name = "FILE|JSON", conflicts_with_all = ["grammar", "receipt"])]
    json_schema: Option<String>,

    /// Hold the answer to the grammar in this file, in llguidance's dialect of Lark
    #[arg(long, value_name = "FILE", conflicts_with = "receipt")]
    grammar: Option<PathBuf>,
}

impl HoldArgs {
    /// What the answer is held to. Files are read before a model is loaded.
    pub(super) fn format(&self) -> Result<Option<Format>, Failure> {
        if let Some(path) = &self.grammar {
            return Ok(Some(Format::Lark(read(path)?)));
        }
        let Some(schema) = &self.json_schema else { return Ok(None) };
        // No file that is meant has such a name.
        let is_inline = schema.trim_start().starts_with('{');
        let text = if is_inline { schema.clone() } else { read(Path::new(schema))? };
        let from = if is_inline { "what --json-schema says" } else { schema };
        let value = serde_json::from_str(&text)
            .map_err(|error| format!("{from} is no schema in JSON: {error}"))?;
        Ok(Some(Format::JsonSchema(value)))
    }

    /// Ends an answer as it was asked for, and as the chat template needs.
    pub(super) fn apply<'a>(
        &self,
        format: Option<&Format>,
        model: &Model,
        template_stops: &[String],
        mut generation: Generation<'a>,
    ) -> Result<Generation<'a>, Failure> {
        generation = generation.stop(&[&*self.stop, template_stops].concat())?;
        let Some(format) = format else { return Ok(generation) };
        let wrong = |reason: String| format!("an answer cannot be held to this: {reason}");
        let grammars = Grammars::new(model.tokenizer()?).map_err(wrong)?;
        Ok(generation.hold(Box::new(grammars.compile(format).map_err(wrong)?))?)
    }
}

fn read(path: &Path) -> Result<String, Failure> {
    let text = std::fs::read_to_string(path);
    Ok(text.map_err(|error| format!("cannot read {}: {error}", path.display()))?)
}
