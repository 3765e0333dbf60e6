//! The arguments of `polychord chat`.

use polychord::hub::ModelRef;
use polychord::model::chat::Variables;
use polychord::model::{GenerateOptions, Sampling};

use crate::cli::engine::EngineArgs;
use crate::cli::generate::parse_tokens;
use crate::cli::model::FindArgs;
use crate::cli::session::SessionArgs;
use crate::cli::template::TemplateArg;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The model: a path, `hf:owner/repo/file.gguf`, `hf:owner/repo:TAG`, or nothing for
    /// SmolLM2-135M-Instruct
    #[arg(short, long)]
    pub(super) model: Option<ModelRef>,

    #[command(flatten)]
    pub(super) find: FindArgs,

    #[command(flatten)]
    pub(super) engine: EngineArgs,

    #[command(flatten)]
    pub(super) template: TemplateArg,

    /// What the model is told before the conversation
    #[arg(long, value_name = "TEXT")]
    pub(super) system: Option<String>,

    /// Keep no line that is typed. Otherwise they are in `$XDG_STATE_HOME/polychord/chat-history`
    /// (`~/.local/state`), which no other user can read
    #[arg(long)]
    pub(super) no_history: bool,

    #[command(flatten)]
    pub(super) session: SessionArgs,

    /// Most tokens of an answer; -1 is as many as the context has room for
    #[arg(short = 'n', long, value_name = "N", default_value = "-1", value_parser = parse_tokens,
        allow_negative_numbers = true)]
    max_tokens: usize,

    /// 0 always takes the best token; higher values draw more freely
    #[arg(short, long, default_value_t = 0.8)]
    temperature: f32,

    /// Draw from this many of the best tokens only; 0 is all
    #[arg(long, value_name = "N", default_value_t = 40)]
    top_k: u32,

    /// Draw from the best tokens only that together have this probability
    #[arg(long, value_name = "P", default_value_t = 0.95)]
    top_p: f32,

    /// Draw from tokens only that have this part of the best one's probability
    #[arg(long, value_name = "P", default_value_t = 0.05)]
    min_p: f32,

    /// Make recent tokens less likely by this factor; 1 changes nothing
    #[arg(long, value_name = "FACTOR", default_value_t = 1.1)]
    repeat_penalty: f32,

    /// Start of the random numbers
    #[arg(long, default_value_t = 0)]
    seed: u64,

    /// Whether the model is to think before it answers; by default its template decides
    #[arg(long, value_name = "on|off", value_parser = crate::cli::generate::parse_switch)]
    thinking: Option<bool>,
}

impl Args {
    pub(super) fn generate(&self) -> GenerateOptions {
        let sampling = Sampling::new()
            .temperature(self.temperature)
            .top_k(self.top_k)
            .top_p(self.top_p)
            .min_p(self.min_p)
            .repeat_penalty(self.repeat_penalty)
            .seed(self.seed);
        GenerateOptions::new().sampling(sampling).max_tokens(self.max_tokens)
    }

    pub(super) fn variables(&self) -> Variables {
        self.thinking.map_or_else(Variables::new, |on| Variables::new().thinking(on))
    }
}
