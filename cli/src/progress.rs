//! Progress on standard error: a bar where a person watches, plain lines at long intervals otherwise.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::output;

/// Between two plain lines.
const PLAIN_INTERVAL: Duration = Duration::from_secs(5);
/// A bar's width and what stands beside it.
const TEMPLATE: &str = "{msg:<24} [{bar:30}] {bytes}/{total_bytes} ({bytes_per_sec})";

/// The progress of reading one image or writing one.
#[derive(Debug)]
pub(crate) struct Progress {
    what: String,
    bar: Option<ProgressBar>,
    last_line: Instant,
}

impl Progress {
    /// Nothing is shown before the first [`Self::bytes`].
    pub(crate) fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), bar: None, last_line: Instant::now() }
    }

    /// `done` of `total` bytes are through.
    pub(crate) fn bytes(&mut self, done: u64, total: u64) {
        if output::stderr_is_terminal() {
            let bar = self.bar.get_or_insert_with(|| new_bar(&self.what));
            bar.set_length(total);
            bar.set_position(done);
        } else if self.last_line.elapsed() >= PLAIN_INTERVAL {
            self.last_line = Instant::now();
            output::tell(format_args!("{}: {} of {} MiB", self.what, done >> 20, total >> 20));
        }
    }

    /// Takes the bar away, so that text can follow.
    pub(crate) fn clear(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}

fn new_bar(what: &str) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template(TEMPLATE) {
        bar.set_style(style.progress_chars("=> "));
    }
    bar.with_message(what.to_owned())
}
