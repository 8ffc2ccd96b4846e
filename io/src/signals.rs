//! Signals as messages.
//!
//! A signal handler may do next to nothing, so there are none: the signals are blocked before any other
//! thread exists (masks are inherited, and one thread that does not block SIGTERM kills the process), one
//! thread waits for them with `sigwait`, and what it takes arrives in a channel that wakes a parked
//! executor of either runtime.
//!
//! `SIGXFSZ` is blocked too: then a write beyond a file-size limit is an error (`EFBIG`) with a file name
//! in it, and not a death without words. `SIGPIPE` is ignored by Rust's start-up code; `SIGQUIT` keeps its
//! meaning, a core dump.

use core::fmt;
use std::io;
use std::thread;

use tokio::sync::mpsc;

use crate::sys::{self, SignalSet};

/// A signal that [`Signals`] delivers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM: stop in good order.
    Terminate,
    /// SIGINT: somebody pressed ctrl-c; the same.
    Interrupt,
    /// SIGHUP: the terminal went away, or "read your files again".
    HangUp,
}

/// The proof that signals are blocked; turns into a channel.
#[derive(Debug)]
#[must_use = "blocked signals that nobody waits for make a process that cannot be stopped"]
pub struct Blocked(());

/// Signals in the order in which they were taken.
#[derive(Debug)]
pub struct Signals {
    receiver: mpsc::UnboundedReceiver<Signal>,
}

/// Blocks the signals in this thread and in every thread it starts later. Call it first in `main`.
///
/// # Errors
///
/// None that Linux documents.
pub fn block() -> io::Result<Blocked> {
    SignalSet::of(&[libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGXFSZ]).block()?;
    Ok(Blocked(()))
}

impl Blocked {
    /// Starts the thread that takes signals and sends them to the channel. Call it once.
    ///
    /// # Errors
    ///
    /// The thread could not be started.
    pub fn deliver(self) -> io::Result<Signals> {
        let set = SignalSet::of(&Signal::ALL.map(Signal::number));
        // Unbounded, but people and supervisors send signals one by one, and the kernel merges equal
        // ones that are pending.
        let (sender, receiver) = mpsc::unbounded_channel();
        let wait = move || {
            while let Ok(number) = set.wait() {
                let Some(signal) = Signal::from_number(number) else { continue };
                if sender.send(signal).is_err() {
                    // Nobody listens any more.
                    die_by(signal);
                }
            }
        };
        thread::Builder::new().name("cairn-signals".into()).spawn(wait)?;
        Ok(Signals { receiver })
    }
}

impl Signals {
    /// Waits for the next signal. Cancelling loses none.
    pub async fn next(&mut self) -> Signal {
        match tokio::task::coop::unconstrained(self.receiver.recv()).await {
            Some(signal) => signal,
            // The thread ends only if sigwait refuses a valid set, which Linux never does.
            None => core::future::pending().await,
        }
    }

    /// The next signal, if there is one already.
    pub fn try_next(&mut self) -> Option<Signal> {
        self.receiver.try_recv().ok()
    }
}

/// Ends the process by `signal`, as if it had never been blocked: the parent sees a death by that signal
/// (etcd does so after an orderly stop). Where the signal is ignored (`nohup`), exits with 128 + number.
pub fn die_by(signal: Signal) -> ! {
    drop(SignalSet::of(&[signal.number()]).unblock());
    // To this very thread: the one that waits for signals might take what is sent to the process.
    sys::raise(signal.number());
    std::process::exit(128 + signal.number())
}

impl Signal {
    const ALL: [Self; 3] = [Self::Terminate, Self::Interrupt, Self::HangUp];

    /// The number as in `kill -l`.
    pub const fn number(self) -> i32 {
        match self {
            Self::Terminate => libc::SIGTERM,
            Self::Interrupt => libc::SIGINT,
            Self::HangUp => libc::SIGHUP,
        }
    }

    fn from_number(number: i32) -> Option<Self> {
        Self::ALL.into_iter().find(|signal| signal.number() == number)
    }
}

/// As Go's log has them, and so etcd's.
impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Terminate => "terminated",
            Self::Interrupt => "interrupt",
            Self::HangUp => "hangup",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_signals_correspond() {
        for signal in Signal::ALL {
            assert_eq!(Signal::from_number(signal.number()), Some(signal));
        }
        assert_eq!(Signal::from_number(libc::SIGKILL), None);
    }
}
