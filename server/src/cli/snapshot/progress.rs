//! How far long work is: a bar for a terminal, now and then a line for everything else.

use core::cell::Cell;
use std::io::{self, IsTerminal as _, Write as _};

use cairn_io::clock;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Work on so many bytes.
pub(super) struct Progress {
    what: &'static str,
    bar: Option<ProgressBar>,
    total: Cell<u64>,
    told_ns: Cell<u64>,
}

impl Progress {
    /// Begins. A total of zero is one that is not known yet.
    pub(super) fn new(what: &'static str, total: u64) -> Self {
        let bar = io::stderr().is_terminal().then(|| {
            let template =
                "{msg:10} {wide_bar} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left";
            let style = ProgressStyle::with_template(template).expect("the template is valid");
            let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
            bar.set_style(style);
            bar.set_message(what);
            bar
        });
        Self { what, bar, total: Cell::new(total), told_ns: Cell::new(clock::monotonic_ns()) }
    }

    /// There is so much to do.
    pub(super) fn expect(&self, total: u64) {
        self.total.set(total);
        if let Some(bar) = &self.bar {
            bar.set_length(total);
        }
    }

    /// So much is done.
    pub(super) fn set(&self, bytes: u64) {
        if let Some(bar) = &self.bar {
            bar.set_position(bytes);
            return;
        }
        let now_ns = clock::monotonic_ns();
        if now_ns - self.told_ns.get() >= LINE_EVERY_NS {
            self.told_ns.set(now_ns);
            writeln!(io::stderr(), "{}: {bytes} of {} bytes", self.what, self.total.get()).ok();
        }
    }

    /// Nothing is left to do.
    pub(super) fn end(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }
}

const LINE_EVERY_NS: u64 = 5_000_000_000;
