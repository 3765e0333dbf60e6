//! From a request to jobs.

use std::time::Instant;

use axum::response::Response;
use polychord_model::Sampling;
use tokio::sync::mpsc::UnboundedReceiver;

use super::app::{App, Running, now, random};
use super::choice::Kind;
use super::failure::Failure;
use super::request::{Common, Stop};
use super::stream::{About, Answers};
use crate::scheduler::{Constraint, Event, Format, Job};

/// Most answers of a request.
const MOST_CHOICES: usize = 16;
/// Most stop texts, and bytes of each.
const MOST_STOPS: usize = 16;
const MOST_STOP_BYTES: usize = 1024;

/// How the answers of a request are generated.
pub(super) struct Prepared {
    sampling: Sampling,
    pub(super) stop: Vec<String>,
    logit_bias: Vec<(u32, f32)>,
    choices: usize,
    max_tokens: Option<usize>,
    logprobs: Option<usize>,
    is_stream: bool,
    include_usage: bool,
    user: String,
    pub(super) constraint: Option<Constraint>,
}

impl Prepared {
    pub(super) fn new(
        common: &Common,
        max_tokens: Option<usize>,
        logprobs: Option<usize>,
    ) -> Result<Self, Failure> {
        let choices = common.n.unwrap_or(1);
        if choices == 0 || choices > MOST_CHOICES {
            return Err(Failure::param(
                "n",
                format!("n is {choices}, it must be 1 to {MOST_CHOICES}"),
            ));
        }
        if let Some(logprobs) = logprobs.filter(|it| *it > 20) {
            let message = format!("{logprobs} logprobs were asked for, it must be 0 to 20");
            return Err(Failure::param("top_logprobs", message));
        }
        if max_tokens == Some(0) {
            return Err(Failure::param("max_tokens", "max_tokens is 0, it must be at least 1"));
        }
        Ok(Self {
            sampling: sampling(common)?,
            stop: stop(common)?,
            logit_bias: logit_bias(common)?,
            choices,
            max_tokens,
            logprobs,
            is_stream: common.stream == Some(true),
            include_usage: common
                .stream_options
                .as_ref()
                .is_some_and(|it| it.include_usage == Some(true)),
            user: common.user.clone().unwrap_or_default(),
            constraint: None,
        })
    }

    /// Queues the answers to prompts, and sends them as they were asked for.
    pub(super) async fn answer(
        &self,
        app: &App,
        name: &str,
        running: &Running,
        kind: Kind,
        prompts: Vec<Vec<u32>>,
    ) -> Result<Response, Failure> {
        let receivers = self.submit(app, running, prompts)?;
        let about = About {
            kind,
            id: app.id(kind.id_prefix()),
            name: name.to_owned(),
            created: now(),
            model: running.model.clone(),
            choices: self.choices,
            include_usage: self.include_usage,
        };
        let answers = Answers { about, receivers };
        if self.is_stream { Ok(answers.stream()) } else { answers.collect().await }
    }

    /// Queues the answers to prompts, all or none: prompt after prompt, with its choices.
    fn submit(
        &self,
        app: &App,
        running: &Running,
        prompts: Vec<Vec<u32>>,
    ) -> Result<Vec<UnboundedReceiver<Event>>, Failure> {
        let scheduler = running.scheduler()?;
        let context = scheduler.context();
        let vocabulary = running.model.tokenizer()?.vocab_size();
        if let Some((id, _)) = self.logit_bias.iter().find(|(id, _)| *id >= vocabulary) {
            let message = format!("token {id} is not in the vocabulary of {vocabulary}");
            return Err(Failure::param("logit_bias", message));
        }
        for prompt in &prompts {
            // Its answer needs room, too.
            if prompt.len() >= context as usize {
                return Err(Failure::too_long(prompt.len(), context));
            }
            if prompt.is_empty() {
                return Err(Failure::param("prompt", "the prompt has no token"));
            }
        }
        let deadline = Instant::now().checked_add(app.options.answer_time);
        let mut receivers = Vec::new();
        for prompt in prompts {
            for choice in 0..self.choices {
                let seed = self.sampling.seed.wrapping_add(choice as u64);
                let job = Job::new(prompt.clone())
                    .sampling(self.sampling.seed(seed))
                    .logit_bias(self.logit_bias.iter().copied())
                    .max_tokens(self.max_tokens)
                    .stop(self.stop.iter().cloned())
                    .logprobs(self.logprobs)
                    .constraint(self.constraint.clone())
                    .user(&*self.user)
                    .deadline(deadline);
                // Those before are dropped with their receivers.
                receivers.push(scheduler.submit(job)?);
            }
        }
        Ok(receivers)
    }
}

/// llama.cpp's sampling where nothing else is asked for.
fn sampling(common: &Common) -> Result<Sampling, Failure> {
    let mut sampling = Sampling::new();
    let frequency = common.frequency_penalty.unwrap_or(0.0);
    let presence = common.presence_penalty.unwrap_or(0.0);
    sampling.temperature = common.temperature.unwrap_or(sampling.temperature);
    // Of 0 OpenAI's API says that it is possible: the best token is left.
    let top_p = common.top_p.map(|it| if it == 0.0 { f32::MIN_POSITIVE } else { it });
    sampling.top_p = top_p.unwrap_or(sampling.top_p);
    sampling.top_k = common.top_k.unwrap_or(sampling.top_k);
    sampling.min_p = common.min_p.unwrap_or(0.05);
    sampling.repeat_penalty = common.repeat_penalty.unwrap_or(1.0);
    sampling.repeat_last_n = common.repeat_last_n.unwrap_or(sampling.repeat_last_n);
    sampling.frequency_penalty = frequency;
    sampling.presence_penalty = presence;
    // Negative ones count from the other end.
    sampling.seed = common.seed.map_or_else(random, i64::cast_unsigned);
    sampling.validate().map_err(|error| {
        let name = match &error {
            polychord_model::sampler::Error::Option { field, .. } => *field,
            _ => "temperature",
        };
        Failure::param(name, error.to_string())
    })?;
    Ok(sampling)
}

fn stop(common: &Common) -> Result<Vec<String>, Failure> {
    let texts = match &common.stop {
        None => Vec::new(),
        Some(Stop::One(text)) => vec![text.clone()],
        Some(Stop::Many(texts)) => texts.clone(),
    };
    let is_bad = |text: &String| text.is_empty() || text.len() > MOST_STOP_BYTES;
    if texts.len() > MOST_STOPS || texts.iter().any(is_bad) {
        let message = format!(
            "at most {MOST_STOPS} stop texts are possible, each of 1 to {MOST_STOP_BYTES} bytes"
        );
        return Err(Failure::param("stop", message));
    }
    Ok(texts)
}

fn logit_bias(common: &Common) -> Result<Vec<(u32, f32)>, Failure> {
    let given = common.logit_bias.iter().flatten();
    let one = |(id, bias): (&String, &f32)| {
        let id = id.parse().ok().filter(|_| bias.abs() <= 100.0)?;
        Some((id, *bias))
    };
    given.map(one).collect::<Option<_>>().ok_or_else(|| {
        Failure::param(
            "logit_bias",
            "logit_bias has token ids, each with a number from -100 to 100",
        )
    })
}

/// What an answer is to be held to, and the parameter that says so.
pub(super) fn format(common: &Common) -> Result<Option<(&'static str, Format)>, Failure> {
    let name = "response_format";
    let format = common.response_format.as_ref().filter(|it| !it.is_null());
    if let Some(grammar) = &common.grammar {
        if format.is_some() {
            return Err(Failure::param(
                "grammar",
                "there is a response_format, too: give one of both",
            ));
        }
        return Ok(Some(("grammar", Format::Lark(grammar.clone()))));
    }
    let Some(format) = format else { return Ok(None) };
    let wrong = || {
        let message = "response_format has a type: text, json_object, or json_schema with a schema in \
                       json_schema.schema";
        Failure::param(name, message)
    };
    let schema = format.get("json_schema").and_then(|it| it.get("schema"));
    match format.get("type").and_then(|it| it.as_str()) {
        Some("text") => Ok(None),
        // llama.cpp's server takes a schema here, too.
        Some("json_object") => Ok(Some((
            name,
            match format.get("schema") {
                Some(schema) => Format::JsonSchema(schema.clone()),
                None => Format::JsonObject,
            },
        ))),
        Some("json_schema") => {
            Ok(Some((name, Format::JsonSchema(schema.cloned().ok_or_else(wrong)?))))
        }
        _ => Err(wrong()),
    }
}
