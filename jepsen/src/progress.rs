//! How far a run has come: a bar for people at a terminal, lines for everybody else.

use core::cell::Cell;
use core::fmt;
use core::time::Duration;
use std::io::{self, IsTerminal as _, Write as _};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Counts what is done.
#[derive(Debug)]
pub(crate) struct Progress {
    total: u64,
    /// What is counted.
    unit: &'static str,
    done: Cell<u64>,
    /// Hidden where there is no terminal.
    bar: ProgressBar,
}

impl Progress {
    /// Nothing is done of `total` things, which are called `unit`.
    pub(crate) fn new(total: u64, unit: &'static str) -> Self {
        let bar = if io::stderr().is_terminal() {
            ProgressBar::new(total)
        } else {
            ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::hidden())
        };
        let style = ProgressStyle::with_template(
            "{bar:40} {pos}/{len} {prefix}  {per_sec}  {eta} left  {msg}",
        );
        bar.set_style(style.expect("the template is well-formed"));
        bar.set_prefix(unit);
        bar.enable_steady_tick(Duration::from_millis(200));
        Self { total, unit, done: Cell::new(0), bar }
    }

    /// One more is done.
    pub(crate) fn advance(&self) {
        let done = self.done.get() + 1;
        self.done.set(done);
        self.bar.inc(1);
        let tenth = (self.total / 10).max(1);
        if self.bar.is_hidden() && done.is_multiple_of(tenth) {
            self.say(format_args!("{done} of {} {}", self.total, self.unit));
        }
    }

    /// How many are done.
    pub(crate) fn done(&self) -> u64 {
        self.done.get()
    }

    /// Tells something, above the bar if there is one.
    pub(crate) fn say(&self, what: impl fmt::Display) {
        if self.bar.is_hidden() {
            // Whoever does not read it does not want it.
            writeln!(io::stdout(), "{what}").ok();
        } else {
            self.bar.println(what.to_string());
        }
    }

    /// Takes the bar away.
    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
