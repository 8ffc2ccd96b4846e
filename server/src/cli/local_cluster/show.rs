//! What people see: a table that stays in its place on a terminal, and lines about changes elsewhere.

use core::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::Path;

use super::Place;
use super::ask::State;
use super::member::Member;

/// Where the members are shown.
#[derive(Debug)]
pub(super) struct Screen {
    is_terminal: bool,
    /// Lines of the table that stand there, to be written over.
    lines: usize,
    /// What was said of each member last.
    said: Vec<String>,
}

impl Screen {
    /// Says where the cluster is.
    pub(super) fn begin(directory: &Path, places: &[Place], is_terminal: bool) -> Self {
        let clients: Vec<_> = places.iter().map(|place| place.client.to_string()).collect();
        let mut text = format!("data and logs in {}\n", directory.display());
        if is_terminal {
            text.push_str("a member's number and Enter kills it or starts it again; Ctrl-C ends\n");
        }
        write!(text, "\nexport ETCDCTL_ENDPOINTS={}\n\n", clients.join(",")).expect("it grows");
        print(&text);
        Self { is_terminal, lines: 0, said: vec![String::new(); places.len()] }
    }

    /// Shows how the members are now.
    pub(super) fn show(&mut self, members: &[Member], states: &[Option<State>]) {
        if self.is_terminal {
            let table = table(members, states);
            let up = match self.lines {
                0 => String::new(),
                // To the first line of the table, and away with what follows.
                lines => format!("\x1b[{lines}A\r\x1b[J"),
            };
            self.lines = table.lines().count();
            return print(&format!("{up}{table}"));
        }
        for ((member, state), said) in members.iter().zip(states).zip(&mut self.said) {
            let line = line(member, state.as_ref());
            if line != *said {
                print(&format!("{line}\n"));
                *said = line;
            }
        }
    }

    /// A line was typed, and stands below the table.
    pub(super) fn typed(&mut self) {
        self.lines += 1;
    }

    /// Says that it is over.
    pub(super) fn end(&self) {
        print("stopping\n");
    }
}

/// Whoever does not read it does not want it.
fn print(text: &str) {
    let mut out = io::stdout();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).ok();
}

/// What a member does, in a word; `None`: it runs and does not answer.
fn role(state: Option<&State>) -> &'static str {
    match state {
        None => "silent",
        Some(state) if state.status.is_learner => "learner",
        Some(state) if state.status.leader == state.member => "leader",
        Some(state) if state.status.leader == 0 => "no leader",
        Some(_) => "follower",
    }
}

/// What changes rarely, in a line.
fn line(member: &Member, state: Option<&State>) -> String {
    let name = &member.name;
    match (member.ended(), state) {
        (Some(ended), _) => format!("{name} ended: {ended}; see {}", member.log.display()),
        (None, None) => format!("{name} does not answer"),
        (None, Some(state)) => {
            format!(
                "{name} {:x} {} at term {}",
                state.member,
                role(Some(state)),
                state.status.raft_term
            )
        }
    }
}

fn table(members: &[Member], states: &[Option<State>]) -> String {
    let applied = |state: &State| state.status.raft_applied_index;
    let first = states.iter().flatten().map(applied).max().unwrap_or(0);
    let mut text = format!(
        "{:<4} {:>16}  {:<9} {:>5} {:>10} {:>10} {:>10} {:>9} {:>6}\n",
        "", "ID", "ROLE", "TERM", "INDEX", "APPLIED", "REVISION", "DB", "LAG"
    );
    for (member, state) in members.iter().zip(states) {
        let written = match (member.ended(), state) {
            (Some(ended), _) => {
                writeln!(text, "{:<4} ended: {ended}; see {}", member.name, member.log.display())
            }
            (None, None) => writeln!(text, "{:<4} {:>16}  {}", member.name, "", role(None)),
            (None, Some(state)) => writeln!(
                text,
                "{:<4} {:>16x}  {:<9} {:>5} {:>10} {:>10} {:>10} {:>9} {:>6}",
                member.name,
                state.member,
                role(Some(state)),
                state.status.raft_term,
                state.status.raft_index,
                applied(state),
                state.revision,
                size(state.status.db_size),
                first - applied(state),
            ),
        };
        written.expect("strings grow");
    }
    text
}

/// Bytes as people say them.
fn size(bytes: i64) -> String {
    let (mut number, mut unit) = (bytes.max(0), "B");
    for next in ["KiB", "MiB", "GiB", "TiB"] {
        if number < 10_240 {
            break;
        }
        (number, unit) = (number / 1024, next);
    }
    format!("{number} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_short() {
        for (bytes, text) in
            [(0, "0 B"), (10_239, "10239 B"), (10_240, "10 KiB"), (3 << 30, "3072 MiB")]
        {
            assert_eq!(size(bytes), text);
        }
    }
}
