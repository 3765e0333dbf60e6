//! `polychord generate`: a prompt becomes text.

mod args;
mod hold;
#[cfg(target_os = "linux")]
mod isolate;
mod output;
mod profile;
mod prompt_cache;
mod rehearse;
mod report;
mod room;
mod sequences;
mod stats;
mod travel;

use std::time::{Duration, Instant};

use polychord::hub::Progress as _;
use polychord::model::{Generation, Model, Placement, Session, SessionOptions, Stage, Transformer};

use super::company::Company;
use super::load::open;
use super::model::ModelArg;
use super::progress::TerminalBar;
use super::{Failure, snapshot};
pub(crate) use args::{Args, parse_switch, parse_tokens};
use output::Output;
use prompt_cache::PromptCache;
use report::{Recorder, Report};
use room::{room, session_options, shorten};
use travel::{Beginning, Receiver};

/// Generates text, alone or together with other processes.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    for (name, path) in [("--save", &args.save), ("--prompt-cache", &args.prompt_cache)] {
        if args.is_mpi() && path.is_some() {
            let reason =
                format!("{name} needs the state of all ranks in one process: leave --mpi out");
            return Err(Failure::usage(reason));
        }
    }
    #[cfg(target_os = "linux")]
    if args.isolate {
        return isolate::generate(args);
    }
    let company = Company::join(args.is_mpi(), args.stages)?;
    let done = generate(args, &company);
    company.end(done)
}

/// Generates text, and tells how it went. A process that another one leads only computes.
fn generate(args: &Args, company: &Company) -> Result<(), Failure> {
    args.sampling().validate().map_err(Failure::usage)?;
    let placement = args.placement()?;
    let format = args.hold.format()?;
    let engine = args.engine.open()?;
    let named = match args.model.clone().unwrap_or_default() {
        ModelArg::Named(model) => Ok(args.find.find(&model)?),
        ModelArg::Web(url) => Err(url),
    };
    let start = Instant::now();
    let chosen = args.load.choose(named.as_deref().ok(), args.use_of(&placement));
    let (model, version) = match &named {
        Ok(path) => (open(path, chosen.load)?, None),
        Err(url) => {
            let plan = match &placement {
                Placement::Planned(plan) => Some(plan),
                _ => None,
            };
            args.find.open_web(url, plan).map(|(model, version)| (model, Some(version)))?
        }
    };
    let model = args.template.apply(model)?;
    let path = model.path().to_owned();
    let opened = start.elapsed();
    let beginning = company.leads().then(|| Beginning::new(&model, args)).transpose()?;
    let prompt = beginning.as_ref().map_or_else(Vec::new, |beginning| beginning.tokens.clone());
    let tokenized = start.elapsed() - opened;
    let compiling = Instant::now();
    let transformer = Transformer::with_flavor(&engine, args.guest)?.memory64(args.memory64);
    transformer.prepare(&placement)?;
    let compiled = compiling.elapsed();
    let mut options = session_options(&model, args, prompt.len(), placement);
    shorten(&mut options, &model, args, prompt.len(), engine.capabilities());
    company.agree_on_context(&mut options)?;
    if let Some(hosts) = args.hosts.hosts()? {
        let placed = model.place_on(&hosts, &options, engine.capabilities())?;
        options.placement = Placement::Planned(placed.plan);
    }
    company.prepare(&mut options)?;
    if let Some(host) = args.rehearse {
        options.stage = Some(rehearsal(&options.placement, host)?);
    }
    let mut cache =
        args.prompt_cache.as_deref().map(|path| PromptCache::read(path, &model)).transpose()?;
    let kept = match &mut cache {
        Some(cache) => cache.start(&prompt, &transformer, &model, &mut options)?,
        None => None,
    };
    let mut session = match (&args.resume, kept) {
        (_, Some(session)) => session,
        (Some(path), None) => snapshot::restore(&transformer, &model, path, &options)?.session,
        (None, None) => load(&transformer, &model, &options)?,
    };
    company.agree(&session, version, args.plan.as_deref(), args.sequences)?;
    let ready = start.elapsed();
    if args.sequences > 1 && company.has_ranks_alone(&session) {
        return Err(Failure::usage(
            "--sequences goes with --stages or --hosts, or with one process: leave --mpi out",
        ));
    }
    let Some(beginning) = beginning else {
        if args.sequences > 1 {
            return sequences::follow(session, args, company);
        }
        session.follow()?;
        company.traffic()?;
        return Ok(());
    };
    if args.rehearse.is_some() {
        return rehearse::run(session, &prompt, args, ready);
    }
    if args.sequences > 1 {
        let tokenizer = model.tokenizer().ok();
        return sequences::lead(session, tokenizer, &prompt, args, company);
    }
    company.lead(&mut session)?;

    let mut recorder = Recorder::new(args)?;
    let mut receiver = Receiver::new(args, &session, &beginning)?;
    // Ids need none.
    let tokenizer = match args.prompt_ids {
        Some(_) => model.tokenizer().ok(),
        None => Some(model.tokenizer()?),
    };
    let as_ids = args.ids || tokenizer.is_none();
    let mut output = Output { args, as_ids, text: String::new(), ids: Vec::new() };
    let generating = Instant::now();
    let mut first = Duration::ZERO;
    let cached = match &cache {
        Some(cache) => cache.fill(&mut session, &prompt)?,
        None => 0,
    };
    let max_tokens = args.max_tokens.min(room(session.context(), &prompt));
    let generation =
        Generation::resume(&mut session, tokenizer, &prompt, &beginning.answer, max_tokens)?;
    let mut generation = args.hold.apply(format.as_ref(), &model, &beginning.stops, generation)?;
    while let Some(token) = generation.next() {
        let token = token?;
        if output.ids.is_empty() {
            first = generating.elapsed();
        }
        recorder.record(generation.logits())?;
        receiver.record(token.id, generation.logits());
        output.push(token.id, &token.text)?;
    }
    let (tokens, answer) = (generation.tokens().to_vec(), generation.state());
    let finish = generation.finish().cloned();
    session.dismiss()?;
    let traffic = company.traffic()?;
    output.finish()?;
    let saved = travel::save(args, &session, tokens, answer, &beginning, &output.text)?;
    receiver.finish(args, saved)?;
    let report = Report {
        engine: engine.capabilities(),
        model: path,
        requested: chosen,
        load: session.load_report(),
        placed: session.placed(),
        paging: session.pager_stats(),
        stats: session.stats(),
        cache_bytes: session.report().cache_bytes,
        profile: session.profile(),
        touched: session.report().touch_ahead,
        context: session.context(),
        ranks: session.ranks(),
        traffic,
        prompt,
        cached,
        ids: output.ids,
        text: output.text,
        finish,
        logits_sha256: recorder.finish()?,
        opened,
        tokenized,
        compiled,
        ready,
        first,
        generated: generating.elapsed(),
    };
    if args.json {
        report.print_json(profile::object(&report))?;
    } else if !args.quiet {
        report.print_summary()?;
    }
    if args.profile {
        profile::print(&report)?;
    }
    match args.stats {
        Some(format) => stats::print(format, &session, &report.traffic),
        None => Ok(()),
    }
}

/// One host of a plan, without the others.
fn rehearsal(placement: &Placement, host: u32) -> Result<Stage, Failure> {
    let hosts = match placement {
        Placement::Planned(plan) => plan.host_count(),
        _ => 1,
    };
    if hosts < 2 || host >= hosts {
        return Err(Failure::usage(format!(
            "--rehearse names one of {hosts} hosts, from 0: give --hosts, or a --plan that names hosts"
        )));
    }
    Ok(Stage::rehearsal(host as usize, hosts as usize))
}

fn load(
    transformer: &Transformer,
    model: &Model,
    options: &SessionOptions,
) -> Result<Session, Failure> {
    let total = model.layers().iter().map(|layer| layer.bytes).sum();
    let mut bar = TerminalBar::new();
    let session = transformer
        .start_with_progress(model, options, &mut |done| bar.report("loading", done, Some(total)));
    bar.finished();
    Ok(session?)
}
