//! The thread that writes lines, and the queue before it.
//!
//! Whoever logs puts a line into the queue and goes on, whatever happens at the other end: a terminal that was
//! stopped with ctrl-s, a pipe that nobody reads, a full disk. If the queue is full, the line is counted and dropped,
//! and the log says so as soon as it can say anything again. A store that waits for its log is not available.

use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;

use crate::log::line::{Caller, Draft, Line};
use crate::log::settings::{Format, Level};
use crate::log::sink::Sink;
use crate::log::time::Moment;

/// The way to the writer, from any thread.
#[derive(Clone, Debug)]
pub(super) struct Queue {
    sender: SyncSender<Message>,
    /// Lines that were dropped and not yet reported. Shared with the writer, which reports them.
    lost: Arc<AtomicU64>,
}

#[derive(Debug)]
enum Message {
    Line(Line),
    /// Asks for a sign that everything before it was written.
    Flush(SyncSender<()>),
}

struct Writer {
    receiver: Receiver<Message>,
    sinks: Vec<Sink>,
    format: Format,
    lost: Arc<AtomicU64>,
}

impl Queue {
    /// Starts the thread. It ends when there is no queue any more.
    pub(super) fn start(sinks: Vec<Sink>, format: Format) -> io::Result<Self> {
        let (sender, receiver) = sync_channel(QUEUED_LINES_MAX);
        let lost = Arc::new(AtomicU64::new(0));
        let mut writer = Writer { receiver, sinks, format, lost: Arc::clone(&lost) };
        thread::Builder::new().name(THREAD.to_owned()).spawn(move || writer.run())?;
        Ok(Self { sender, lost })
    }

    /// Queues a line, or drops it. Never waits.
    pub(super) fn push(&self, line: Line) {
        if self.sender.try_send(Message::Line(line)).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits until what was queued before is written, or for so long; whether it was written. Asks again and again
    /// while the queue is full, since there is no sending with a limit on time.
    pub(super) fn flush(&self, within: Duration) -> bool {
        let (done, is_done) = sync_channel(1);
        let mut message = Message::Flush(done);
        let mut left = within;
        loop {
            match self.sender.try_send(message) {
                Ok(()) => return is_done.recv_timeout(left).is_ok(),
                Err(TrySendError::Full(back)) if !left.is_zero() => message = back,
                Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => return false,
            }
            let pause = left.min(FULL_PAUSE);
            thread::sleep(pause);
            left -= pause;
        }
    }
}

impl Writer {
    fn run(&mut self) {
        let (mut lines, mut waiting) = (Vec::new(), Vec::new());
        while let Ok(message) = self.receiver.recv() {
            let mut next = Some(message);
            while let Some(message) = next {
                match message {
                    Message::Line(line) => lines.push(line),
                    Message::Flush(done) => waiting.push(done),
                }
                next = if lines.len() < BATCH_LINES_MAX {
                    self.receiver.try_recv().ok()
                } else {
                    None
                };
            }
            self.write(&lines);
            lines.clear();
            for done in waiting.drain(..) {
                // Whoever asked may have stopped waiting.
                done.try_send(()).ok();
            }
        }
    }

    /// Writes lines everywhere, and how many were lost before.
    fn write(&mut self, lines: &[Line]) {
        let now = Moment::now();
        if !self.write_all(lines, now) {
            self.lost.fetch_add(u64::try_from(lines.len()).unwrap_or(u64::MAX), Ordering::Relaxed);
            return;
        }
        let lost = self.lost.swap(0, Ordering::Relaxed);
        if lost > 0 {
            let draft = Draft::new(self.format).message(LOST).number("lines", lost);
            let caller = Caller { file: file!(), line: line!() };
            if !self.write_all(&[draft.finish(Level::Warn, now, &caller)], now) {
                self.lost.fetch_add(lost, Ordering::Relaxed);
            }
        }
    }

    /// Whether all sinks took the lines.
    fn write_all(&mut self, lines: &[Line], now: Moment) -> bool {
        let mut all = true;
        for sink in &mut self.sinks {
            all &= sink.write(lines, now).is_ok();
        }
        all
    }
}

/// The name of the thread.
pub(super) const THREAD: &str = "log";
/// What the log says when it had to drop lines.
const LOST: &str = "log lines were lost because nobody took them in time";
/// Lines that wait: seconds of a talkative member, some megabytes, 64 at the worst.
const QUEUED_LINES_MAX: usize = 4096;
/// Lines written at once.
const BATCH_LINES_MAX: usize = 256;
/// How long to wait when the queue is full.
const FULL_PAUSE: Duration = Duration::from_millis(5);

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::mpsc::Sender;

    use super::*;

    /// A sink that takes each write only when it gets a permit.
    struct Gate {
        permits: Receiver<io::Result<()>>,
        written: Sender<String>,
    }

    impl Write for Gate {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.permits.recv().unwrap_or(Ok(()))?;
            self.written.send(String::from_utf8(bytes.to_vec()).unwrap()).unwrap();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn gated() -> (Queue, Sender<io::Result<()>>, Receiver<String>) {
        let (permit, permits) = std::sync::mpsc::channel();
        let (written, lines) = std::sync::mpsc::channel();
        let sinks = vec![Sink::Stream(Box::new(Gate { permits, written }))];
        (Queue::start(sinks, Format::Json).unwrap(), permit, lines)
    }

    fn line(number: usize) -> Line {
        Line { level: Level::Info, text: format!("{number}\n") }
    }

    #[test]
    fn lines_are_written_in_order() {
        let (queue, permit, lines) = gated();
        drop(permit);
        (0..1000).for_each(|number| queue.push(line(number)));
        assert!(queue.flush(Duration::from_secs(60)));
        let text: String = lines.try_iter().collect();
        assert_eq!(text, (0..1000).map(|number| format!("{number}\n")).collect::<String>());
    }

    #[test]
    fn nobody_waits_for_a_sink_that_is_stuck_and_what_was_lost_is_told() {
        let (queue, permit, lines) = gated();
        let sent = 3 * QUEUED_LINES_MAX;
        (0..sent).for_each(|number| queue.push(line(number)));
        assert!(!queue.flush(Duration::from_millis(20)));
        drop(permit);
        while !queue.flush(Duration::from_secs(60)) {}
        let text: String = lines.try_iter().collect();
        let written = text.lines().filter(|line| line.parse::<usize>().is_ok()).count();
        let lost: Vec<usize> = text
            .lines()
            .filter_map(|line| line.split_once(r#""lines":"#)?.1.trim_end_matches('}').parse().ok())
            .collect();
        assert!((QUEUED_LINES_MAX..sent).contains(&written));
        assert_eq!(written + lost.iter().sum::<usize>(), sent);
        assert!(text.contains(LOST));
    }

    #[test]
    fn lines_that_a_sink_refuses_are_lost_and_told() {
        let (queue, permit, lines) = gated();
        permit.send(Err(io::Error::other("full"))).unwrap();
        drop(permit);
        for number in [1, 2] {
            queue.push(line(number));
            assert!(queue.flush(Duration::from_secs(60)));
        }
        let text: String = lines.try_iter().collect();
        assert!(!text.starts_with("1\n") && text.contains("2\n"), "{text}");
        assert!(text.contains(r#""lines":1}"#), "{text}");
    }
}
