//! What happened in a run: a hash of all of it, and the last of it as text.

use core::fmt::{self, Write as _};
use std::collections::VecDeque;

use cairn_engine::api::etcdserverpb::ResponseHeader;
use cairn_engine::api::{Error, Response};
use cairn_engine::event::Publication;
use cairn_engine::peer::codec;
use cairn_engine::{MemberId, RequestId, StreamId};

use crate::network::Network;
use crate::record::Record;
use crate::swarm::Fault;
use crate::world::{Observation, Written};

/// A fast hash of 64 bits: each word is mixed in by a multiplication whose two halves are folded together. The same
/// everywhere, for ever; no protection against anybody who wants two things to have the same.
#[derive(Clone, Copy, Debug)]
pub struct Hasher(u64);

const SEED: u64 = 0xcbf2_9ce4_8422_2325;
const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

impl Default for Hasher {
    fn default() -> Self {
        Self(SEED)
    }
}

impl Hasher {
    /// Takes bytes, and their number.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.number(u64::try_from(bytes.len()).expect("64 bits"));
        let (blocks, rest) = bytes.as_chunks::<32>();
        if !blocks.is_empty() {
            // Four at a time: none waits for the multiplication of the one before.
            let mut lanes = [0, 1, 2, 3].map(|lane| Self(SEED ^ lane));
            for block in blocks {
                let (words, _) = block.as_chunks::<8>();
                for (lane, word) in lanes.iter_mut().zip(words) {
                    lane.number(u64::from_le_bytes(*word));
                }
            }
            lanes.iter().for_each(|lane| self.number(lane.0));
        }
        let (words, rest) = rest.as_chunks::<8>();
        words.iter().for_each(|word| self.number(u64::from_le_bytes(*word)));
        if !rest.is_empty() {
            let mut word = [0; 8];
            word[..rest.len()].copy_from_slice(rest);
            self.number(u64::from_le_bytes(word));
        }
    }

    /// Takes a number.
    pub fn number(&mut self, number: u64) {
        let product = u128::from(self.0 ^ number) * u128::from(FACTOR);
        let low = product & u128::from(u64::MAX);
        let folded = u64::try_from(low ^ (product >> 64)).expect("both halves have 64 bits");
        // Were the product zero, all before it would be forgotten.
        self.0 = folded ^ self.0.rotate_left(23);
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

/// What the simulation itself did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// A part of the run begins.
    Phase(&'static str),
    /// Something goes wrong, with somebody.
    Fault(Fault, MemberId),
    /// A client asks.
    Asks {
        /// Who; `None` is the operator.
        client: Option<u64>,
        /// Whom.
        member: MemberId,
        /// The question's name.
        id: RequestId,
        /// What.
        request: String,
    },
    /// A watch client says something on its stream.
    Says(StreamId, String),
    /// Something about a member.
    Of(MemberId, String),
    /// Anything else.
    Other(String),
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Phase(name) => write!(f, "phase {name}"),
            Self::Fault(fault, id) => write!(f, "fault {fault:?} for member {}", id.0),
            Self::Asks { client: Some(client), member, id, request } => {
                write!(f, "client {client} asks {} as {}: {request}", member.0, id.0)
            }
            Self::Asks { client: None, member, id, request } => {
                write!(f, "the operator asks {} as {}: {request}", member.0, id.0)
            }
            Self::Says(stream, what) => write!(f, "stream {} says {what}", stream.0),
            Self::Of(_, what) | Self::Other(what) => f.write_str(what),
        }
    }
}

/// What a client was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// An answer.
    Answered,
    /// That it is refused.
    Refused,
    /// Nothing.
    Unknown,
}

/// Whether an error leaves open what became of the question: it may have been done, or may be yet.
pub fn leaves_it_open(error: Error) -> bool {
    matches!(
        error,
        Error::Timeout
            | Error::TimeoutDueToLeaderFail
            | Error::TimeoutDueToConnectionLost
            | Error::LeaderChanged
    )
}

/// What became of a question, and the words.
pub fn outcome(result: &Result<Response, Error>) -> (Outcome, String) {
    let mut text = String::new();
    describe_answer(result, &mut text).expect("strings grow");
    let how = match result {
        Ok(_) => Outcome::Answered,
        Err(error) if leaves_it_open(*error) => Outcome::Unknown,
        Err(_) => Outcome::Refused,
    };
    (how, text)
}

/// The record of a run.
#[derive(Debug, Default)]
pub struct Trace {
    hasher: Hasher,
    /// The observation in bytes, of which the hash is taken.
    scratch: Vec<u8>,
    /// How many lines to keep; none costs nothing.
    lines_max: usize,
    lines: VecDeque<String>,
    record: Option<Box<Record>>,
}

impl Trace {
    /// A record that keeps the last lines.
    pub fn keeping(lines_max: usize) -> Self {
        Self { lines_max, ..Self::default() }
    }

    /// The same, that keeps what a page shows, too.
    #[must_use]
    pub fn recording(self) -> Self {
        Self { record: Some(Box::new(Record::new())), ..self }
    }

    /// What a page shows, if it was to be kept.
    pub fn take_record(&mut self) -> Option<Box<Record>> {
        self.record.take()
    }

    /// Looks whether the network has changed.
    pub fn look(&mut self, now_ns: u64, network: &Network) {
        if let Some(record) = &mut self.record {
            record.look(now_ns, network);
        }
    }

    /// Notes what was observed.
    pub fn observe(&mut self, now_ns: u64, observation: &Observation) {
        if matches!(observation, Observation::Alarm(_)) {
            return self.keep(now_ns, observation); // It is not the members'.
        }
        self.scratch.clear();
        encode(observation, &mut self.scratch);
        self.hasher.number(now_ns);
        self.hasher.bytes(&self.scratch);
        self.keep(now_ns, observation);
    }

    fn keep(&mut self, now_ns: u64, observation: &Observation) {
        if let Some(record) = &mut self.record {
            record.observe(now_ns, observation);
        }
        if self.lines_max > 0 {
            let mut line = String::new();
            describe(observation, &mut line).expect("strings grow");
            self.push(now_ns, &line);
        }
    }

    /// Notes what the simulation itself did.
    pub fn note(&mut self, now_ns: u64, note: impl FnOnce() -> Note) {
        if self.lines_max == 0 && self.record.is_none() {
            return;
        }
        let note = note();
        if let Some(record) = &mut self.record {
            record.note(now_ns, &note);
        }
        if self.lines_max > 0 {
            self.push(now_ns, &note.to_string());
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

/// What was observed, in bytes: whatever differs for an observer differs here.
fn encode(observation: &Observation, out: &mut Vec<u8>) {
    let mut numbers = |tag: u8, numbers: &[u64]| {
        out.push(tag);
        numbers.iter().for_each(|number| out.extend_from_slice(&number.to_le_bytes()));
    };
    match observation {
        Observation::Started(id) => numbers(0, &[id.0]),
        Observation::Crashed(id) => numbers(1, &[id.0]),
        Observation::Alarm(name) => numbers(2, &[*name]),
        Observation::Paused(id) => numbers(3, &[id.0]),
        Observation::Resumed(id) => numbers(4, &[id.0]),
        Observation::Wrote(id, Written { segment, offset, bytes, hash, .. }) => {
            numbers(5, &[id.0, segment.0, *offset, *bytes, *hash]);
        }
        Observation::Published(id, publication) => {
            let Publication { view, applied, term, leader, changes, .. } = publication;
            let seen = [view.revision(), view.compacted()].map(i64::cast_unsigned);
            numbers(6, &[id.0, applied.0, term.0, leader.0, seen[0], seen[1]]);
            let lengths = changes.iter().map(|changes| changes.len());
            lengths.for_each(|length| out.extend_from_slice(&length.to_le_bytes()));
        }
        Observation::Sent(message, fate) => {
            let lost = u64::MAX;
            numbers(7, &fate.map(|delay_ns| delay_ns.unwrap_or(lost)));
            codec::encode(message, out);
        }
        Observation::Watch { member, stream, response, .. } => {
            numbers(8, &[member.0, stream.0]);
            response.encode(ResponseHeader::default(), out);
        }
        Observation::Reply { member, id, result } => {
            numbers(9, &[member.0, id.0]);
            match result {
                // These hold a whole key space.
                Ok(Response::RangeStream(_)) => out.push(0),
                Ok(Response::Snapshot(_)) => out.push(1),
                Ok(response) => response.encode(out),
                Err(error) => write!(Text(out), "{error:?}").expect("vectors grow"),
            }
        }
        // These are rare.
        Observation::Refused(..) | Observation::Event(..) | Observation::Halted(..) => {
            out.push(10);
            write!(Text(out), "{observation:?}").expect("vectors grow");
        }
    }
}

/// Bytes to which text can be written.
struct Text<'a>(&'a mut Vec<u8>);

impl fmt::Write for Text<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
    }
}

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
        // When it arrives is not told.
        Observation::Sent(message, _) => write!(out, "Sent({message:?})"),
        Observation::Started(_)
        | Observation::Refused(..)
        | Observation::Crashed(_)
        | Observation::Paused(_)
        | Observation::Resumed(_)
        | Observation::Event(..)
        | Observation::Halted(..)
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
            | Response::Downgrade(_)
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
