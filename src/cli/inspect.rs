//! `polychord inspect`: the metadata, tensors and layers of a model.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use comfy_table::{CellAlignment, Table, presets};
use polychord::api::SourceRange;
use polychord::hub::ModelRef;
use polychord::model::chat::{self, ChatTemplate};
use polychord::model::config::Config;
use polychord::model::gguf::{Gguf, TensorInfo, Value};
use polychord::model::tokenizer::Tokenizer;
use polychord::model::{Error, Model, Placement, SessionOptions, header_of, open_source};

use super::engine::EngineArgs;
use super::model::FindArgs;
use super::placement::read_plan;
use super::terminal::Plain;
use super::{Failure, draw, size, terminal};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The model: a path, `hf:owner/repo/file.gguf`, or nothing for the default
    model: Option<ModelRef>,

    #[command(flatten)]
    find: FindArgs,

    /// Print all metadata, without shortening
    #[arg(long)]
    full: bool,

    /// Draw the plan in FILE, or the one that an engine would run
    #[arg(long, value_name = "FILE", num_args = 0..=1)]
    plan: Option<Option<PathBuf>>,

    #[command(flatten)]
    engine: EngineArgs,
}

/// Prints a model's metadata and layers, and whether the guest can run it.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let path = args.find.find(&args.model.clone().unwrap_or_default())?;
    // Opened once, so that all of this is about one file.
    let source = open_source(&path)?;
    let gguf = header_of(&source)?;
    let model = match Model::from_source(&path, source) {
        // An error of reading says nothing about the model, and is reported as it is.
        Err(error @ Error::Gguf { .. }) => return Err(error.into()),
        model => model,
    };
    let mut out = Plain::new(std::io::stdout().lock());
    writeln!(
        out,
        "{}\nGGUF version {}, {}{}, {} tensors aligned to {} bytes\n",
        terminal::line(path.display()),
        gguf.version(),
        size::bytes(gguf.file_len()),
        if gguf.parts() > 1 { format!(" in {} files", gguf.parts()) } else { String::new() },
        gguf.tensors().len(),
        gguf.alignment()
    )?;
    writeln!(out, "{}\n", metadata_table(&gguf, args.full))?;
    writeln!(out, "{}\n", layer_table(model.as_ref().ok(), &gguf))?;
    writeln!(out, "{}", verdict(&gguf))?;
    writeln!(out, "{}", vocabulary(&gguf))?;
    writeln!(out, "{}", template(&gguf))?;
    if let Some(plan) = &args.plan {
        write!(out, "\n{}", draw_plan(&args.engine, &model?, plan.as_deref())?)?;
    }
    Ok(())
}

/// The plan of a file, or the one that would be made, if it is for this model.
fn draw_plan(engine: &EngineArgs, model: &Model, plan: Option<&Path>) -> Result<String, Failure> {
    let engine = engine.open()?;
    let mut options = SessionOptions::default();
    if let Some(path) = plan {
        options.placement = Placement::Planned(read_plan(path)?);
    }
    let placed = model.place(&options, engine.capabilities())?;
    Ok(format!("{}: {}\n{}", placed.name, placed.reason, draw::plan(&placed.plan)))
}

fn metadata_table(gguf: &Gguf, full: bool) -> Table {
    let mut table = new_table(["metadata", "value"]);
    for (key, value) in gguf.metadata().iter() {
        let limit = if full { usize::MAX } else { 72 };
        table.add_row([terminal::line(key), show(value, limit)]);
    }
    table
}

/// A value on one line.
fn show(value: &Value, limit: usize) -> String {
    let text = terminal::line(value);
    match text.char_indices().nth(limit) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

/// One row for each layer that would be loaded; for a model that cannot be run, one row for
/// each prefix of tensor names.
fn layer_table(model: Option<&Model>, gguf: &Gguf) -> Table {
    let mut table = new_table(["layer", "tensors", "bytes", "types"]);
    let groups = match model {
        Some(model) => by_layer(model, gguf),
        None => by_prefix(gguf).into_iter().collect(),
    };
    for (name, tensors) in groups {
        let bytes = tensors.iter().map(|tensor| tensor.bytes).sum();
        let mut types: BTreeMap<&str, usize> = BTreeMap::new();
        for tensor in &tensors {
            *types.entry(tensor.dtype.name()).or_default() += 1;
        }
        let types: Vec<_> = types.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
        table.add_row([
            terminal::line(name),
            tensors.len().to_string(),
            size::bytes(bytes),
            types.join(", "),
        ]);
    }
    for column in [1, 2] {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// The tensors of each layer, by their places.
fn by_layer<'a>(model: &Model, gguf: &'a Gguf) -> Vec<(String, Vec<&'a TensorInfo>)> {
    let mut tensors: Vec<_> = gguf.tensors().iter().collect();
    tensors.sort_by_key(|tensor| tensor.offset);
    let from = |offset| tensors.partition_point(|tensor| tensor.offset < offset);
    let members = |layer: &SourceRange| {
        let members = from(layer.start)..from(layer.start.saturating_add(layer.bytes));
        (layer.name.clone(), tensors[members].to_vec())
    };
    model.layers().iter().map(members).collect()
}

fn by_prefix(gguf: &Gguf) -> BTreeMap<String, Vec<&TensorInfo>> {
    let mut groups: BTreeMap<String, Vec<_>> = BTreeMap::new();
    for tensor in gguf.tensors() {
        let parts = if tensor.name.starts_with("blk.") { 2 } else { 1 };
        let prefix: Vec<_> = tensor.name.split('.').take(parts).collect();
        groups.entry(prefix.join(".")).or_default().push(tensor);
    }
    groups
}

/// Whether the guest can run the model, and if not, why.
fn verdict(gguf: &Gguf) -> String {
    match Config::from_gguf(gguf) {
        Ok((config, _)) => format!(
            "Polychord can run this model: {} blocks of width {}, {} heads ({} for keys and values), \
             {} tokens, context {}.{}",
            config.blocks,
            config.dim,
            config.heads,
            config.kv_heads,
            config.vocab,
            config.context_length,
            purpose(&config)
        ),
        Err(error) => format!("Polychord cannot run this model: {error}."),
    }
}

/// What a model that is made for embeddings gives.
fn purpose(config: &Config) -> String {
    match (config.pooling, config.is_encoder()) {
        (Some(pooling), true) => {
            format!(" It gives embeddings (polychord embed, pooling {pooling}), and no text.")
        }
        (Some(pooling), false) => {
            format!(" It is made for embeddings (polychord embed, pooling {pooling}).")
        }
        (None, true) => {
            " It gives embeddings (polychord embed), and no text; its file names no pooling.".into()
        }
        (None, false) => String::new(),
    }
}

/// Which tokens the model has, and at which an answer ends, or why they cannot be used.
fn vocabulary(gguf: &Gguf) -> String {
    let tokenizer = match Tokenizer::from_gguf(gguf) {
        Ok(tokenizer) => tokenizer,
        Err(error) => return format!("Polychord cannot use its vocabulary: {error}."),
    };
    let key = |key| gguf.metadata().str(key).ok().flatten().unwrap_or("none");
    let kinds = [key("tokenizer.ggml.model"), key("tokenizer.ggml.pre")].map(terminal::line);
    let ends = (0..tokenizer.vocab_size()).filter(|id| tokenizer.is_end_of_generation(*id));
    let ends: Vec<_> =
        ends.map(|id| terminal::line(tokenizer.token_text(id).unwrap_or_default())).collect();
    format!(
        "Its vocabulary ({}, cut as {}) can be used; an answer ends at {}.",
        kinds[0],
        kinds[1],
        if ends.is_empty() { "no token".into() } else { ends.join(" ") }
    )
}

/// Whether the model can be talked to, or why not.
fn template(gguf: &Gguf) -> String {
    match ChatTemplate::from_gguf(gguf) {
        Ok(template) => match template.note() {
            None => "Its chat template can be used (--chat).".into(),
            Some(note) => format!("For --chat, {note}."),
        },
        Err(chat::Error::Missing) => {
            "It has no chat template: --chat needs one (--chat-template).".into()
        }
        Err(error) => format!("Polychord cannot use its chat template: {error}."),
    }
}

fn new_table<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_FULL_CONDENSED).set_header(header);
    table
}
