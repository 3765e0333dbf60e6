//! A bar that shows how far a fetch or a load is.

use std::error::Error;
use std::fmt;
use std::io::{self, IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use polychord::api::Printable;
use polychord::hub::{Progress, chain};

/// Draws a bar on stderr for a fetch that takes longer than a second, if stderr is a terminal.
#[derive(Default)]
pub(crate) struct TerminalBar {
    since: Option<Instant>,
    bar: Option<ProgressBar>,
    source: String,
    sized: bool,
}

impl TerminalBar {
    const PATIENCE: Duration = Duration::from_secs(1);

    /// A bar that is not drawn yet.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// The bar, once it is time to show one.
    fn bar(&mut self) -> Option<&ProgressBar> {
        if self.bar.is_none() {
            let since = *self.since.get_or_insert_with(Instant::now);
            if since.elapsed() < Self::PATIENCE || !io::stderr().is_terminal() {
                return None;
            }
            self.source.clear();
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            // Turns on while a source gives no sign, between two reports.
            bar.enable_steady_tick(Duration::from_millis(120));
            self.bar = Some(bar);
        }
        self.bar.as_ref()
    }
}

impl Progress for TerminalBar {
    fn report(&mut self, source: &str, done: u64, total: Option<u64>) {
        if self.bar().is_none() {
            return;
        }
        let changed = self.source != source || self.sized != total.is_some();
        if changed {
            source.clone_into(&mut self.source);
            self.sized = total.is_some();
        }
        let Some(bar) = self.bar.as_ref() else { return };
        if let Some(total) = total {
            bar.set_length(total);
        }
        if changed {
            bar.set_style(style(total.is_some()));
            bar.set_message(Printable(source).to_string());
            bar.reset_eta();
        }
        bar.set_position(done);
    }

    fn failed(&mut self, source: &str, cause: &dyn Error) {
        if let Some(bar) = self.bar() {
            let text = format!("{source}: {}", chain(cause));
            bar.println(Printable(text).to_string());
        }
    }

    fn warn(&mut self, message: &str) {
        let message = format!("warning: {message}");
        match &self.bar {
            Some(bar) => bar.println(message),
            // Standard error may be closed, which is no reason to stop.
            None => drop(writeln!(io::stderr(), "{message}")),
        }
    }

    fn finished(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
        self.since = None;
    }
}

impl Drop for TerminalBar {
    fn drop(&mut self) {
        self.finished();
    }
}

impl fmt::Debug for TerminalBar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TerminalBar").field("drawn", &self.bar.is_some()).finish_non_exhaustive()
    }
}

fn style(sized: bool) -> ProgressStyle {
    let template = if sized {
        "{spinner} {msg} [{wide_bar}] {bytes}/{total_bytes} {bytes_per_sec} {eta}"
    } else {
        "{spinner} {msg} {bytes}"
    };
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}
