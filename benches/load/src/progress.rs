//! How far a load has come: a bar on a terminal, a line each second where there is none.

use core::cell::Cell;
use core::time::Duration;
use std::io::{IsTerminal as _, Write as _};

use indicatif::{ProgressBar, ProgressStyle};

use crate::clock::SECOND;
use crate::pace::Extent;

/// What shows it, on standard error.
#[derive(Debug)]
pub(crate) struct Progress {
    name: String,
    extent: Extent,
    warm_up: u64,
    bar: Option<ProgressBar>,
    /// Without a terminal: the second that was told last, and what was done then.
    told: Cell<(u64, u64)>,
    is_quiet: bool,
}

impl Progress {
    pub(crate) fn new(name: &str, extent: Extent, warm_up: u64, is_quiet: bool) -> Self {
        let steps = match extent {
            Extent::Time(time) => time + warm_up,
            Extent::Total(total) => total,
        };
        let bar = (!is_quiet && std::io::stderr().is_terminal()).then(|| {
            let style = ProgressStyle::with_template("{prefix:20} {bar:30} {msg}");
            let bar = ProgressBar::new(steps).with_prefix(name.to_owned());
            bar.enable_steady_tick(Duration::from_millis(250));
            bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        });
        Self { name: name.to_owned(), extent, warm_up, bar, told: Cell::new((0, 0)), is_quiet }
    }

    pub(crate) fn show(&self, done: u64, failed: u64, elapsed: u64) {
        let second = elapsed / SECOND;
        let (told, before) = self.told.get();
        let wrong = if failed == 0 { String::new() } else { format!(", {failed} failed") };
        if second > told {
            let rate = done.saturating_sub(before) / (second - told);
            self.told.set((second, done));
            let line = format!("{done} done, {rate}/s{wrong}");
            match &self.bar {
                Some(bar) => bar.set_message(line),
                // Whoever does not read it does not want it.
                None if !self.is_quiet => {
                    let warm = if elapsed < self.warm_up { " (warming up)" } else { "" };
                    writeln!(std::io::stderr(), "{}: {second} s, {line}{warm}", self.name).ok();
                }
                None => {}
            }
        }
        if let Some(bar) = &self.bar {
            match self.extent {
                Extent::Time(_) => bar.set_position(elapsed),
                Extent::Total(_) => bar.set_position(done),
            }
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
