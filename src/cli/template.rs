//! Which chat template a model gets.

use std::io::Write as _;

use polychord::model::Model;
use polychord::model::chat::BuiltIn;

use super::{Failure, terminal};

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct TemplateArg {
    /// Use this chat template in place of the model's own: gemma4, gemma, chatml, llama3, granite, phi3 or
    /// transcript (plain text, for models that were not trained for conversations), or a file in Jinja
    #[arg(long, value_name = "NAME|FILE")]
    chat_template: Option<String>,
}

impl TemplateArg {
    /// The model with the template that the user has chosen.
    pub(crate) fn apply(&self, model: Model) -> Result<Model, Failure> {
        match self.read()? {
            Some(given) => Ok(model.with_chat_template(&given)?),
            None => Ok(model),
        }
    }

    /// The name of a template, or what is in a file.
    pub(crate) fn read(&self) -> Result<Option<String>, Failure> {
        let Some(given) = &self.chat_template else { return Ok(None) };
        if BuiltIn::find(given).is_some() {
            return Ok(Some(given.clone()));
        }
        let source = std::fs::read_to_string(given).map_err(|error| {
            let names: Vec<_> = BuiltIn::all().iter().map(BuiltIn::name).collect();
            format!(
                "--chat-template {given} is none of {}, and cannot be read as a file: {error}",
                names.join(", ")
            )
        })?;
        if !source.contains('{') {
            return Err(format!("{given} is no chat template: nothing in it is Jinja").into());
        }
        Ok(Some(source))
    }
}

/// Tells users where a template comes from that neither they nor the model's file have chosen.
pub(crate) fn tell(note: &str) -> Result<(), Failure> {
    Ok(writeln!(std::io::stderr(), "{}; --chat-template chooses another", terminal::line(note))?)
}
