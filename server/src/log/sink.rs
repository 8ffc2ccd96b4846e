//! Where lines end. Only the writer's thread comes here, and only it waits for whoever is at the other end.

use core::fmt;
use std::io::{self, Write};
use std::os::unix::net::UnixDatagram;

use crate::log::line::Line;
use crate::log::rotate::RotatedFile;
use crate::log::settings::{Level, Output, Rotation};
use crate::log::time::Moment;

/// One end.
pub(super) enum Sink {
    /// Standard error, standard output.
    Stream(Box<dyn Write + Send>),
    /// A file.
    File(RotatedFile),
    /// systemd's journal.
    Journal(UnixDatagram),
}

impl Sink {
    /// Opens what a setting names.
    pub(super) fn open(output: &Output, rotation: Option<&Rotation>) -> io::Result<Self> {
        Ok(match output {
            Output::Stderr => Self::Stream(Box::new(io::stderr())),
            Output::Stdout => Self::Stream(Box::new(io::stdout())),
            Output::File(path) => Self::File(RotatedFile::open(path, rotation.cloned())?),
            Output::Journal => {
                let socket = UnixDatagram::unbound()?;
                socket.connect(JOURNAL)?;
                Self::Journal(socket)
            }
        })
    }

    /// Writes lines, all at once where that is possible.
    pub(super) fn write(&mut self, lines: &[Line], now: Moment) -> io::Result<()> {
        match self {
            Self::Stream(stream) => {
                stream.write_all(joined(lines).as_bytes())?;
                stream.flush()
            }
            Self::File(file) => file.append(joined(lines).as_bytes(), now),
            Self::Journal(socket) => {
                for line in lines {
                    let entry = journal_entry(line);
                    // As etcd does: what the journal does not take, somebody may still see.
                    if socket.send(entry.as_bytes()).is_err() {
                        io::stderr().write_all(line.text.as_bytes())?;
                    }
                }
                Ok(())
            }
        }
    }
}

fn joined(lines: &[Line]) -> String {
    lines.iter().map(|line| line.text.as_str()).collect()
}

/// systemd's native protocol: a field per line. Our lines have no line feeds that would need its other form.
fn journal_entry(line: &Line) -> String {
    let priority = match line.level {
        Level::Debug => 7,
        Level::Info => 6,
        Level::Warn => 4,
        Level::Error => 3,
        Level::Panic | Level::Fatal => 2,
    };
    let message = line.text.trim_end_matches('\n');
    format!("PRIORITY={priority}\nSYSLOG_IDENTIFIER=cairn\nMESSAGE={message}\n")
}

impl fmt::Debug for Sink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Stream(_) => "Stream",
            Self::File(_) => "File",
            Self::Journal(_) => "Journal",
        })
    }
}

/// Where systemd listens.
const JOURNAL: &str = "/run/systemd/journal/socket";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_journal_learns_how_important_a_line_is() {
        let line = Line { level: Level::Warn, text: "{}\n".to_owned() };
        assert_eq!(journal_entry(&line), "PRIORITY=4\nSYSLOG_IDENTIFIER=cairn\nMESSAGE={}\n");
    }
}
