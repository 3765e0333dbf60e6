//! The session that a prompt and its answer need.

use polychord::api::Capabilities;
use polychord::model::Error::TooLargeForMemory32;
use polychord::model::{Model, Placement, SessionOptions};

use super::args::Args;

/// Room for the prompt and the answer, or as much of it as the model allows.
pub(super) fn session_options(
    model: &Model,
    args: &Args,
    prompt: usize,
    placement: Placement,
) -> SessionOptions {
    let needed = u32::try_from(prompt.saturating_add(args.max_tokens)).unwrap_or(u32::MAX);
    let mut options = SessionOptions::default();
    options.placement = placement;
    options.activations = args.activations;
    options.cache_type = args.cache_type;
    options.ranks = args.ranks();
    options.profile = args.profile;
    options.touch_ahead = args.touch_ahead;
    options.context = Some(args.context.unwrap_or(needed.min(model.config().context_length)));
    options
}

/// Makes the context as short as the guests' memories require, if an answer of any length was asked
/// for: what fits is enough then.
pub(super) fn shorten(
    options: &mut SessionOptions,
    model: &Model,
    args: &Args,
    prompt: usize,
    engine: &Capabilities,
) {
    let Some(all) = options.context.filter(|all| args.max_tokens >= *all as usize) else { return };
    if args.context.is_some() {
        return;
    }
    let mut context = all;
    while let Err(TooLargeForMemory32 { .. }) = model.place(options, engine) {
        context /= 2;
        if context as usize <= prompt {
            // The error is about what was asked for.
            options.context = Some(all);
            return;
        }
        options.context = Some(context);
    }
}

/// How many tokens may follow the prompt until the context is full. The last one takes no room,
/// as nothing follows it; and one is always asked for, which says so if the prompt is too long.
pub(super) fn room(context: u32, prompt: &[u32]) -> usize {
    (context as usize + 1).saturating_sub(prompt.len()).max(1)
}
