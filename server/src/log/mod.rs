//! The log: what `tracing` is told becomes lines as etcd writes them.
//!
//! ```
//! let urls = ["http://localhost:2379"];
//! tracing::info!(listen_client_urls = cairn_server::log::list(&urls).field(), "member-id" = "8e9e", "serving");
//! ```
//!
//! Underscores in names of fields become the dashes that etcd has.
//!
//! The thread that logs makes the line and queues it; another writes it. Nobody ever waits for the log: lines that
//! find the queue full are dropped and counted ([`writer`]). The log is therefore no record of everything that
//! happened, and nothing may depend on it.
//!
//! Secrets do not belong here: no passwords, no tokens, no keys, no values of clients.
//!
//! Limits: spans are not shown; a backtrace is only part of the last line of a process that panics.

mod line;
mod rotate;
mod settings;
mod sink;
mod time;
mod writer;

use core::error::Error;
use core::fmt;
use core::time::Duration;
use std::backtrace::Backtrace;
use std::io::{self, Write};
use std::panic::{self, PanicHookInfo};
use std::process;
use std::sync::OnceLock;
use std::thread;

use tracing::level_filters::LevelFilter;
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::Registry;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

pub use crate::log::settings::{Format, Level, Output, Rotation, Settings};

use crate::log::line::{Caller, Draft};
use crate::log::sink::Sink;
use crate::log::time::Moment;
use crate::log::writer::Queue;

/// The target of an event that is the reason why the process ends; its line has zap's level "fatal":
/// `tracing::error!(target: log::FATAL, error = %error, "discovery failed")`. Ending the process is the caller's.
pub const FATAL: &str = "fatal";

/// Why there is no log.
#[derive(Debug)]
pub struct OpenError {
    /// The output that cannot be opened.
    pub output: String,
    /// Why.
    pub error: io::Error,
}

/// A list of texts as the value of a field.
///
/// To tracing, a value is a number, a text or an error. Of these only an error can be recognised again as what it was,
/// so a list travels as one and arrives as a JSON array.
#[derive(Debug)]
pub struct Strings(Vec<String>);

/// Turns events into queued lines.
struct Formatter {
    queue: Queue,
    format: Format,
    level: Level,
}

/// The queue of the process's log, for [`flush`] and for a panic.
static QUEUE: OnceLock<Queue> = OnceLock::new();

/// Starts the log of this process, and makes panics end it with a last line. Call it once, from `main`.
///
/// # Errors
///
/// An output cannot be opened, or the writer's thread cannot be started.
///
/// # Panics
///
/// If it is called again.
pub fn start(settings: &Settings) -> Result<(), OpenError> {
    let mut sinks = Vec::new();
    for output in &settings.outputs {
        let failed = |error| OpenError { output: output.to_string(), error };
        sinks.push(Sink::open(output, settings.rotation.as_ref()).map_err(failed)?);
    }
    let failed = |error| OpenError { output: "the writer's thread".to_owned(), error };
    let queue = Queue::start(sinks, settings.format).map_err(failed)?;
    let formatter =
        Formatter { queue: queue.clone(), format: settings.format, level: settings.level };
    QUEUE.set(queue).expect("the log is started once");
    tracing::subscriber::set_global_default(Registry::default().with(formatter))
        .expect("nobody else subscribes to events");
    let format = settings.format;
    panic::set_hook(Box::new(move |info| end_with_panic(info, format)));
    Ok(())
}

/// Waits until what was logged so far is written, or for so long; whether it was written. Call it before the process
/// ends.
pub fn flush(within: Duration) -> bool {
    QUEUE.get().is_none_or(|queue| queue.flush(within))
}

/// Makes a list the value of a field.
pub fn list(items: &[impl AsRef<str>]) -> Strings {
    Strings(items.iter().map(|item| item.as_ref().to_owned()).collect())
}

impl Strings {
    /// The value to give to a field.
    pub fn field(&self) -> &(dyn Error + 'static) {
        self
    }
}

impl Formatter {
    /// zap's level of an event; `None` if it is not for this log. What libraries say matters only if it is a warning.
    fn level_of(&self, metadata: &Metadata<'_>) -> Option<Level> {
        let level = match *metadata.level() {
            tracing::Level::ERROR if metadata.target() == FATAL => Level::Fatal,
            tracing::Level::ERROR => Level::Error,
            tracing::Level::WARN => Level::Warn,
            tracing::Level::INFO => Level::Info,
            tracing::Level::DEBUG => Level::Debug,
            // Below everything that etcd has.
            _ => return None,
        };
        let least = if metadata.target().starts_with(OURS) {
            self.level
        } else {
            self.level.max(Level::Warn)
        };
        (least <= level).then_some(level)
    }
}

impl<S: Subscriber> Layer<S> for Formatter {
    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        self.level_of(metadata).is_some()
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(match self.level {
            Level::Debug => LevelFilter::DEBUG,
            Level::Info => LevelFilter::INFO,
            Level::Warn => LevelFilter::WARN,
            Level::Error | Level::Panic | Level::Fatal => LevelFilter::ERROR,
        })
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let metadata = event.metadata();
        let Some(level) = self.level_of(metadata) else { return };
        let mut draft = Draft::new(self.format);
        event.record(&mut draft);
        let (file, line) =
            (metadata.file().unwrap_or_default(), metadata.line().unwrap_or_default());
        self.queue.push(draft.finish(level, Moment::now(), &Caller { file, line }));
    }
}

/// Logs the panic and aborts: a stopped member is safe, a confused one is not.
fn end_with_panic(info: &PanicHookInfo<'_>, format: Format) {
    let current = thread::current();
    let message = info.payload_as_str().unwrap_or("a panic without a message");
    let draft = Draft::new(format)
        .message(message)
        .field("thread", current.name().unwrap_or_default())
        .field("stacktrace", &Backtrace::force_capture().to_string());
    let (file, line) = info.location().map_or(("", 0), |place| (place.file(), place.line()));
    let line = draft.finish(Level::Fatal, Moment::now(), &Caller { file, line });
    match QUEUE.get() {
        Some(queue) if current.name() != Some(writer::THREAD) => {
            queue.push(line);
            queue.flush(LAST_WORDS);
        }
        Some(_) | None => {
            io::stderr().write_all(line.text.as_bytes()).ok();
        }
    }
    process::abort();
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "open sink {:?}: open {}: {}", self.output, self.output, self.error)
    }
}

impl Error for OpenError {}

impl fmt::Display for Strings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(","))
    }
}

impl Error for Strings {}

/// What the names of our crates begin with.
const OURS: &str = "cairn";
/// How long a panic waits for its line to be written.
const LAST_WORDS: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests;
