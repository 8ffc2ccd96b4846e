//! What happened in a run: a hash of all of it, and the last of it as text.

use core::fmt;
use std::collections::VecDeque;

use cairn_engine::api::{Error, Response};

use crate::world::Observation;

/// FNV-1a with 64 bits: the same everywhere, for ever.
#[derive(Clone, Copy, Debug)]
pub struct Hasher(u64);

impl Default for Hasher {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Hasher {
    /// Takes bytes, and their number.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.number(u64::try_from(bytes.len()).expect("64 bits"));
        bytes.iter().for_each(|byte| self.mix(u64::from(*byte)));
    }

    /// Takes a number.
    pub fn number(&mut self, number: u64) {
        number.to_le_bytes().iter().for_each(|byte| self.mix(u64::from(*byte)));
    }

    fn mix(&mut self, byte: u64) {
        self.0 = (self.0 ^ byte).wrapping_mul(0x0100_0000_01b3);
    }

    /// The hash of everything taken.
    pub fn finish(self) -> u64 {
        self.0 ^ (self.0 >> 29)
    }
}

impl fmt::Write for Hasher {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.bytes(text.as_bytes());
        Ok(())
    }
}

/// The record of a run.
#[derive(Debug, Default)]
pub struct Trace {
    hasher: Hasher,
    /// How many lines to keep; none costs nothing.
    lines_max: usize,
    lines: VecDeque<String>,
}

impl Trace {
    /// A record that keeps the last lines.
    pub fn keeping(lines_max: usize) -> Self {
        Self { lines_max, ..Self::default() }
    }

    /// Notes what was observed.
    pub fn observe(&mut self, now_ns: u64, observation: &Observation) {
        self.hasher.number(now_ns);
        describe(observation, &mut self.hasher).expect("a hasher takes everything");
        if self.lines_max > 0 {
            let mut line = String::new();
            describe(observation, &mut line).expect("strings grow");
            self.push(now_ns, &line);
        }
    }

    /// Notes what the simulation itself did.
    pub fn note(&mut self, now_ns: u64, text: impl FnOnce() -> String) {
        if self.lines_max > 0 {
            self.push(now_ns, &text());
        }
    }

    fn push(&mut self, now_ns: u64, line: &str) {
        let micros = now_ns / 1000;
        if self.lines.len() == self.lines_max {
            self.lines.pop_front();
        }
        let cut: String = line.chars().take(LINE_CHARS_MAX).collect();
        self.lines.push_back(format!("{:>8}.{:03}ms  {cut}", micros / 1000, micros % 1000));
    }

    /// The hash of everything so far.
    pub fn hash(&self) -> u64 {
        self.hasher.finish()
    }

    /// The last lines.
    pub fn lines(&self) -> impl Iterator<Item = &str> {
        self.lines.iter().map(String::as_str)
    }
}

const LINE_CHARS_MAX: usize = 400;

fn describe(observation: &Observation, out: &mut impl fmt::Write) -> fmt::Result {
    match observation {
        Observation::Reply { member, id, result } => {
            write!(out, "{} answers {}: ", member.0, id.0)?;
            describe_answer(result, out)
        }
        Observation::Published(member, publication) => write!(
            out,
            "{} publishes {} revision {} compacted {} term {} leader {} changes {:?}",
            member.0,
            publication.applied,
            publication.view.revision(),
            publication.view.compacted(),
            publication.term,
            publication.leader.0,
            publication.changes.iter().map(|changes| changes.len()).collect::<Vec<_>>(),
        ),
        Observation::Watch { member, stream, response, .. } => {
            write!(out, "{} stream {} {response:?}", member.0, stream.0)
        }
        Observation::Started(_)
        | Observation::Refused(..)
        | Observation::Crashed(_)
        | Observation::Event(..)
        | Observation::Halted(..)
        | Observation::Sent(_)
        | Observation::Wrote(..)
        | Observation::Alarm(_) => write!(out, "{observation:?}"),
    }
}

fn describe_answer(result: &Result<Response, Error>, out: &mut impl fmt::Write) -> fmt::Result {
    match result {
        // These hold a whole key space.
        Ok(Response::RangeStream(_)) => out.write_str("a stream"),
        Ok(Response::Snapshot(_)) => out.write_str("a snapshot"),
        Ok(
            response @ (Response::Range(_)
            | Response::Put(_)
            | Response::DeleteRange(_)
            | Response::Txn(_)
            | Response::Compact(_)
            | Response::LeaseGrant(_)
            | Response::LeaseRevoke(_)
            | Response::LeaseKeepAlive(_)
            | Response::LeaseTimeToLive(_)
            | Response::LeaseLeases(_)
            | Response::MemberList(_)
            | Response::MemberAdd(_)
            | Response::MemberRemove(_)
            | Response::MemberUpdate(_)
            | Response::MemberPromote(_)
            | Response::MoveLeader(_)
            | Response::Alarm(_)
            | Response::Status(_)
            | Response::Defragment(_)
            | Response::Hash(_)
            | Response::HashKv(_)
            | Response::Auth(_)),
        ) => write!(out, "{response:?}"),
        Err(error) => write!(out, "{error:?}"),
    }
}
