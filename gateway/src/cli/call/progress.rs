//! Progress on standard error: a bar on a terminal, else a line now and then.

use crate::cli::output::{complain, plain};
use crate::cli::quantity::size;
use indicatif::{ProgressBar, ProgressStyle};
use parking_lot::Mutex;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

/// Least time between two lines of the same phase, where no terminal shows a bar.
const LINE_EVERY: Duration = Duration::from_secs(5);
/// How often a bar turns.
const TICK: Duration = Duration::from_millis(100);

/// See the module.
#[derive(Debug)]
pub(in crate::cli) enum Progress {
    /// Says nothing.
    Quiet,
    /// On a terminal.
    Bar(ProgressBar),
    /// In a log.
    Lines(Mutex<Line>),
}

/// The last line said.
#[derive(Debug)]
pub(in crate::cli) struct Line {
    text: String,
    at: Instant,
}

impl Progress {
    /// A bar where standard error is a terminal, else lines.
    pub(in crate::cli) fn new(quiet: bool) -> Self {
        if quiet {
            Self::Quiet
        } else if std::io::stderr().is_terminal() {
            let bar = ProgressBar::new_spinner();
            bar.enable_steady_tick(TICK);
            Self::Bar(bar)
        } else {
            Self::Lines(Mutex::new(Line {
                text: String::new(),
                at: Instant::now(),
            }))
        }
    }

    /// A phase of unknown length.
    pub(in crate::cli) fn phase(&self, text: &str) {
        match self {
            Self::Quiet => {}
            Self::Bar(bar) => {
                style(bar, None, "{spinner} {wide_msg}");
                bar.set_message(plain(text));
            }
            Self::Lines(line) => {
                let mut line = line.lock();
                if line.text != text {
                    complain(text);
                    text.clone_into(&mut line.text);
                    line.at = Instant::now();
                }
            }
        }
    }

    /// Something that is worth a line only when it takes long.
    pub(super) fn waiting(&self, text: &str) {
        match self {
            Self::Quiet | Self::Bar(_) => self.phase(text),
            Self::Lines(line) => later(line, || text.to_owned()),
        }
    }

    /// So many of so many bytes.
    pub(in crate::cli) fn bytes(&self, text: &str, done: u64, total: Option<u64>) {
        match self {
            Self::Quiet => {}
            Self::Bar(bar) => {
                let template = match total {
                    Some(_) => {
                        "{spinner} {msg} {wide_bar} {decimal_bytes}/{decimal_total_bytes} {decimal_bytes_per_sec}"
                    }
                    None => "{spinner} {msg} {decimal_bytes} {decimal_bytes_per_sec}",
                };
                bar.set_position(done);
                style(bar, total, template);
                bar.set_message(plain(text));
            }
            Self::Lines(line) => {
                let of = total.map_or_else(String::new, |total| format!(" of {}", size(total)));
                later(line, || format!("{text}: {}{of}", size(done)));
            }
        }
    }

    /// So many of so many steps.
    pub(in crate::cli) fn steps(&self, text: &str, done: u64, total: u64) {
        match self {
            Self::Quiet => {}
            Self::Bar(bar) => {
                style(
                    bar,
                    Some(total),
                    "{spinner} {msg} {wide_bar} {pos}/{len} {eta}",
                );
                bar.set_message(plain(text));
                bar.set_position(done);
            }
            Self::Lines(line) => later(line, || format!("{text}: {done} of {total}")),
        }
    }

    /// A line that stays.
    pub(in crate::cli) fn note(&self, text: &str) {
        match self {
            Self::Quiet => {}
            Self::Bar(bar) => bar.suspend(|| complain(text)),
            Self::Lines(_) => complain(text),
        }
    }

    /// Leaves nothing on the terminal.
    pub(in crate::cli) fn finish(&self) {
        if let Self::Bar(bar) = self {
            bar.finish_and_clear();
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.finish();
    }
}

fn style(bar: &ProgressBar, length: Option<u64>, template: &str) {
    match length {
        Some(length) => bar.set_length(length),
        None => bar.unset_length(),
    }
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.progress_chars("=> "));
    }
}

fn later(line: &Mutex<Line>, text: impl FnOnce() -> String) {
    let mut line = line.lock();
    if line.at.elapsed() >= LINE_EVERY {
        line.text = text();
        complain(&line.text);
        line.at = Instant::now();
    }
}
