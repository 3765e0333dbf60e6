//! Choosing and opening an engine.

use std::ffi::OsString;
use std::io::{IsTerminal as _, Write as _};
use std::sync::Arc;
use std::time::Duration;

use clap::builder::{PossibleValue, PossibleValuesParser};
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command};
use polychord::api::Engine;
use polychord::api::spi::CompilerCommand;
use polychord::code_cache::CodeCache;
use polychord::{ENGINES, EngineEntry, EngineOptions};

use super::Failure;
use super::program::this_program;

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct EngineArgs {
    /// The engine that runs the guest; by default the first that is compiled in
    #[arg(short, long, value_parser = PossibleValuesParser::new(ENGINES.iter().map(EngineEntry::name)))]
    engine: Option<String>,

    #[command(flatten)]
    choices: Choices,
}

/// How engines should be, where they leave a choice: an option for each that does.
#[derive(Clone, Debug, Default)]
pub(crate) struct Choices {
    isolate_compiler: bool,
    /// Names of options that were given, and what was chosen.
    chosen: Vec<(&'static str, String)>,
}

/// Whose guests an engine is to compile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Author {
    Unknown,
    /// The compiler may take as long as it likes, within reason.
    Trusted,
}

/// What a compiler in a process of its own may use for a guest of a trusted author: an optimizing one needs
/// gigabytes and minutes for an interpreter of some other language.
const TRUSTED_BYTES: u64 = 32 << 30;
const TRUSTED_TIME: Duration = Duration::from_secs(3600);

/// Guests of more bytes are whole language runtimes. Optimizing compilers took more than twenty minutes for
/// Ruby's 16 MB.
const LARGE: u64 = 8 << 20;

const ISOLATE: &str = "isolate-compiler";

impl clap::Args for Choices {
    fn augment_args(command: Command) -> Command {
        let isolate = Arg::new(ISOLATE).long(ISOLATE).action(ArgAction::SetTrue).help(
            "Compile guests in a process of its own, with limits of memory and time; WasmEdge always does",
        );
        ENGINES.iter().filter_map(EngineEntry::choice).fold(
            command.arg(isolate),
            |command, choice| {
                let values = choice.variants.iter();
                let values: Vec<_> =
                    values.map(|it| PossibleValue::new(it.name).help(it.summary)).collect();
                let arg = Arg::new(choice.name).long(choice.name).help(choice.summary);
                let default = choice.variants.first().map(|variant| variant.name);
                command.arg(
                    arg.default_values(default).value_parser(PossibleValuesParser::new(values)),
                )
            },
        )
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl clap::FromArgMatches for Choices {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let choices = ENGINES.iter().filter_map(EngineEntry::choice);
        let given = |name: &str| matches.value_source(name) == Some(ValueSource::CommandLine);
        let chosen = choices.filter(|choice| given(choice.name)).filter_map(|choice| {
            let value = matches.get_one::<String>(choice.name)?;
            Some((choice.name, value.clone()))
        });
        Ok(Self { isolate_compiler: matches.get_flag(ISOLATE), chosen: chosen.collect() })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl EngineArgs {
    /// Opens the engine that was asked for, for guests that come with this program: its compiler gets the time
    /// that the largest of them takes on a busy machine.
    pub(crate) fn open(&self) -> Result<Arc<dyn Engine>, Failure> {
        let entry = self.entry()?;
        Ok(entry.open(&self.choices.options(entry, Author::Trusted)?)?)
    }

    /// Opens the engine that was asked for, for a guest of this size in bytes. Tells a person if a large one is
    /// run in another way than others.
    pub(crate) fn open_for(&self, author: Author, bytes: u64) -> Result<Arc<dyn Engine>, Failure> {
        let entry = self.entry()?;
        let mut choices = self.choices.clone();
        if let Some((option, variant)) = self.choices.for_large(entry).filter(|_| bytes > LARGE) {
            // What guests write to stderr is not to be mixed up with it, where a program reads it.
            if std::io::stderr().is_terminal() {
                let note = format!(
                    "note: {} runs this guest of {bytes} bytes by --{option} {variant}: compiling it could \
                     take many minutes. Give --{option} to choose",
                    entry.name()
                );
                writeln!(std::io::stderr(), "{note}")?;
            }
            choices.chosen.push((option, variant.to_owned()));
        }
        Ok(entry.open(&choices.options(entry, author)?)?)
    }

    /// The arguments that open this engine in another run of this program.
    #[cfg(target_os = "linux")]
    pub(crate) fn args(&self) -> Vec<String> {
        let engine = self.engine.iter().map(|name| format!("--engine={name}"));
        engine.chain(self.choices.args()).collect()
    }

    fn entry(&self) -> Result<&'static EngineEntry, Failure> {
        let known: Vec<_> = ENGINES.iter().map(EngineEntry::name).collect();
        let missing = || {
            let known = known.join(", ");
            format!("no engine is compiled in: build with --features and one of {known}")
        };
        let name = match &self.engine {
            Some(name) => name,
            None => polychord::default_engine().ok_or_else(missing)?,
        };
        Ok(polychord::entry(name)?)
    }
}

impl Choices {
    /// One choice, and the defaults for the rest.
    fn of(option: &'static str, variant: &str) -> Self {
        Self { isolate_compiler: false, chosen: vec![(option, variant.to_owned())] }
    }

    /// What to choose for a large guest, unless something was.
    fn for_large(&self, entry: &EngineEntry) -> Option<(&'static str, &'static str)> {
        let choice = entry.choice()?;
        let is_open = self.chosen.iter().all(|(option, _)| *option != choice.name);
        choice.for_large.filter(|_| is_open).map(|variant| (choice.name, variant))
    }

    /// The arguments that make these choices in another run of this program.
    pub(crate) fn args(&self) -> Vec<String> {
        let isolate = self.isolate_compiler.then(|| format!("--{ISOLATE}"));
        self.chosen.iter().map(|(name, value)| format!("--{name}={value}")).chain(isolate).collect()
    }

    /// These choices, for one of the engines.
    fn options(&self, entry: &EngineEntry, author: Author) -> Result<EngineOptions, Failure> {
        let mut options = EngineOptions::new();
        // Without one, guests are compiled each time; WasmEdge, which needs one, says what is wrong.
        if let Ok(cache) = CodeCache::open_default() {
            options = options.with_cache(cache);
        }
        if self.isolate_compiler || entry.always_isolates() {
            let mut compiler = CompilerCommand::new(this_program()?);
            if author == Author::Trusted {
                compiler = compiler.memory_bytes(TRUSTED_BYTES).time(TRUSTED_TIME);
            }
            options = options.with_compiler(compiler.arg("compile-guest").arg(entry.name()));
        }
        if self.isolate_compiler {
            options = options.isolate_compiler();
        }
        let name = entry.choice().map(|choice| choice.name);
        let chosen = self.chosen.iter().find(|(option, _)| Some(*option) == name);
        Ok(match chosen {
            Some((_, variant)) => options.with_variant(variant),
            None => options,
        })
    }
}

/// An engine of this build in one of its ways to run guests, or why it cannot be opened.
pub(crate) struct Opened {
    pub(crate) name: &'static str,
    pub(crate) engine: Result<Arc<dyn Engine>, Failure>,
}

/// Opens every engine of this build, with every choice that it leaves.
pub(crate) fn open_all() -> Vec<Opened> {
    let mut all = Vec::new();
    for entry in ENGINES.iter().filter(|entry| entry.is_compiled_in()) {
        let choices: Vec<_> = match entry.choice() {
            None => vec![Choices::default()],
            Some(choice) => {
                let variants = choice.variants.iter().filter(|variant| variant.compiled_in);
                variants.map(|variant| Choices::of(choice.name, variant.name)).collect()
            }
        };
        for choices in choices {
            let engine = choices
                .options(entry, Author::Unknown)
                .and_then(|options| Ok(entry.open(&options)?));
            all.push(Opened { name: entry.name(), engine });
        }
    }
    all
}

/// The hidden command by which this program compiles guests for itself.
#[derive(Debug, clap::Args)]
pub(crate) struct CompileArgs {
    engine: String,
    args: Vec<OsString>,
}

/// Serves the hidden command.
pub(crate) fn compile(args: &CompileArgs) -> Result<(), Failure> {
    Ok(polychord::entry(&args.engine)?.run_compiler(&args.args)?)
}
