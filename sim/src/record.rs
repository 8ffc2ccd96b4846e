//! What happened in a run, kept so that somebody can look at it: members' lives and roles, faults, messages, questions.
//!
//! A run may be long, a page must not be: of what is frequent (messages, questions, applied entries) the last are kept,
//! which is what led up to a violation; of what is rare, all; and of everything, how much there was in each slice of time.

use core::fmt::Write as _;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use cairn_engine::event::Event;
use cairn_engine::peer::{self, Message};
use cairn_engine::raft::RoleName;
use cairn_engine::raft::message::{Body, LogEnd};
use cairn_engine::{MemberId, RequestId, StreamId};

use crate::network::{Fate, Network};
use crate::trace::{Note, Outcome, outcome};
use crate::world::Observation;

/// A run, as far as a page shows it. Times are nanoseconds since it began.
#[derive(Debug, Default)]
pub struct Record {
    /// When members ran or stood still.
    pub spans: Vec<Span>,
    /// What members became.
    pub turns: Recent<Turn>,
    /// What was done to the cluster, and what it told operators.
    pub events: Recent<Told>,
    /// Which links carried nothing, from a moment on.
    pub links: Recent<Links>,
    /// Messages between members.
    pub messages: Recent<Sent>,
    /// What clients asked.
    pub questions: Recent<Question>,
    /// How far members got.
    pub applied: Recent<Applied>,
    /// How many messages, questions and faults there were in each [`SLICE_NS`].
    pub slices: Vec<[u32; 3]>,
    /// Everybody who was seen.
    pub members: BTreeSet<MemberId>,
    /// When the last thing happened.
    pub end_ns: u64,
    open: BTreeMap<(MemberId, Standing), usize>,
    cuts: BTreeSet<(MemberId, MemberId)>,
    lossy: bool,
}

/// The last of many, and from when on they are complete.
#[derive(Debug)]
pub struct Recent<T> {
    /// The last.
    pub kept: VecDeque<T>,
    /// How many there are at most.
    max: usize,
    /// How many there were.
    pub seen: u64,
}

/// A slice of time, of which only numbers are kept.
pub const SLICE_NS: u64 = 20_000_000;
/// More slices than this are of no use to anybody: the last one takes the rest.
const SLICES_MAX: usize = 20_000;
const MESSAGES_MAX: usize = 16_000;
const QUESTIONS_MAX: usize = 8_000;
const APPLIED_MAX: usize = 8_000;
const EVENTS_MAX: usize = 6_000;
const SPANS_MAX: usize = 20_000;
/// Longer texts are cut.
const TEXT_CHARS_MAX: usize = 240;

/// How a member stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// Its process runs.
    Up,
    /// Its process stands still.
    Paused,
}

/// A while.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    /// Whose.
    pub member: MemberId,
    /// How it stood.
    pub standing: Standing,
    /// Since when.
    pub from_ns: u64,
    /// Until when; none: to the end.
    pub to_ns: Option<u64>,
}

/// A member became something.
#[derive(Clone, Copy, Debug)]
pub struct Turn {
    /// When.
    pub at_ns: u64,
    /// Who.
    pub member: MemberId,
    /// What.
    pub role: RoleName,
    /// In which term.
    pub term: u64,
    /// Whom it follows, if it knows.
    pub leader: MemberId,
}

/// What a line of the story is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topic {
    /// Something was broken on purpose.
    Fault,
    /// A part of the run begins.
    Phase,
    /// A member said something to operators.
    Event,
    /// A member started, crashed, or refused to start.
    Life,
    /// The simulation did something else.
    Note,
    /// A watch client and its member.
    Watch,
}

/// A line of the story.
#[derive(Clone, Debug)]
pub struct Told {
    /// When.
    pub at_ns: u64,
    /// Whom it is about, if it is about one.
    pub member: Option<MemberId>,
    /// What it is about.
    pub topic: Topic,
    /// What.
    pub text: String,
}

/// The links, from a moment on.
#[derive(Clone, Debug)]
pub struct Links {
    /// From when on.
    pub at_ns: u64,
    /// Directed links that carry nothing.
    pub cuts: Vec<(MemberId, MemberId)>,
    /// Whether messages are lost, doubled or late by chance.
    pub lossy: bool,
}

/// A message.
#[derive(Clone, Debug)]
pub struct Sent {
    /// When it was sent.
    pub at_ns: u64,
    /// By whom.
    pub from: MemberId,
    /// To whom.
    pub to: MemberId,
    /// What kind of message it is.
    pub kind: &'static str,
    /// What it says.
    pub text: String,
    /// When its copies arrive.
    pub fate: Fate,
}

/// A question of a client.
#[derive(Clone, Debug)]
pub struct Question {
    /// Its name.
    pub id: RequestId,
    /// Who asks; `None` is the operator.
    pub client: Option<u64>,
    /// Whom.
    pub member: MemberId,
    /// What.
    pub text: String,
    /// When it was asked.
    pub at_ns: u64,
    /// When it ended, and how; none: not yet.
    pub end: Option<(u64, Outcome, String)>,
}

/// How far a member got.
#[derive(Clone, Copy, Debug)]
pub struct Applied {
    /// When.
    pub at_ns: u64,
    /// Who.
    pub member: MemberId,
    /// The last entry that it applied.
    pub index: u64,
    /// The revision then.
    pub revision: i64,
}

impl<T> Recent<T> {
    fn keeping(max: usize) -> Self {
        Self { kept: VecDeque::new(), max, seen: 0 }
    }

    fn push(&mut self, one: T) {
        if self.kept.len() == self.max {
            self.kept.pop_front();
        }
        self.kept.push_back(one);
        self.seen += 1;
    }

    /// Whether earlier ones are not kept.
    pub fn is_cut(&self) -> bool {
        self.seen > u64::try_from(self.kept.len()).expect("64 bits")
    }
}

impl<T> Default for Recent<T> {
    fn default() -> Self {
        Self::keeping(EVENTS_MAX)
    }
}

impl Record {
    /// Nothing has happened.
    pub fn new() -> Self {
        Self {
            messages: Recent::keeping(MESSAGES_MAX),
            questions: Recent::keeping(QUESTIONS_MAX),
            applied: Recent::keeping(APPLIED_MAX),
            ..Self::default()
        }
    }

    /// Looks whether the network has changed.
    pub fn look(&mut self, at_ns: u64, network: &Network) {
        let lossy = network.quality.is_bad();
        if self.cuts != *network.cuts() || self.lossy != lossy {
            self.cuts.clone_from(network.cuts());
            self.lossy = lossy;
            self.links.push(Links { at_ns, cuts: self.cuts.iter().copied().collect(), lossy });
        }
    }

    /// Notes what the simulation did.
    pub fn note(&mut self, at_ns: u64, note: &Note) {
        let text = cut(note.to_string());
        let (topic, member) = match note {
            Note::Fault(_, id) => {
                self.count(at_ns, 2);
                (Topic::Fault, Some(*id))
            }
            Note::Phase(_) => (Topic::Phase, None),
            Note::Says(..) => (Topic::Watch, None),
            Note::Of(id, _) => (Topic::Note, Some(*id)),
            Note::Other(_) => (Topic::Note, None),
            Note::Asks { client, member, id, request } => {
                self.count(at_ns, 1);
                return self.questions.push(Question {
                    id: *id,
                    client: *client,
                    member: *member,
                    text: cut(request.clone()),
                    at_ns,
                    end: None,
                });
            }
        };
        self.tell(at_ns, member, topic, text);
    }

    fn tell(&mut self, at_ns: u64, member: Option<MemberId>, topic: Topic, text: String) {
        self.end_ns = self.end_ns.max(at_ns);
        self.events.push(Told { at_ns, member, topic, text });
    }

    fn count(&mut self, at_ns: u64, what: usize) {
        let place = usize::try_from(at_ns / SLICE_NS).expect("64 bits").min(SLICES_MAX - 1);
        if self.slices.len() <= place {
            self.slices.resize(place + 1, [0; 3]);
        }
        self.slices[place][what] += 1;
    }

    /// Notes what was observed.
    pub fn observe(&mut self, at_ns: u64, observation: &Observation) {
        self.end_ns = self.end_ns.max(at_ns);
        match observation {
            Observation::Started(id) => {
                self.begin(at_ns, *id, Standing::Up);
                self.tell(at_ns, Some(*id), Topic::Life, format!("{} starts", id.0));
            }
            Observation::Crashed(id) => {
                self.end(at_ns, *id, Standing::Up);
                self.end(at_ns, *id, Standing::Paused);
                self.lose(at_ns, *id);
                self.tell(at_ns, Some(*id), Topic::Life, format!("{} crashes", id.0));
            }
            Observation::Paused(id) => self.begin(at_ns, *id, Standing::Paused),
            Observation::Resumed(id) => self.end(at_ns, *id, Standing::Paused),
            Observation::Refused(id, error) => {
                let text = cut(format!("{} refuses to start: {error}", id.0));
                self.tell(at_ns, Some(*id), Topic::Life, text);
            }
            Observation::Halted(id, halt) => {
                self.tell(at_ns, Some(*id), Topic::Life, format!("{} stops: {halt:?}", id.0));
            }
            Observation::Event(id, Event::Role { role, term, leader }) => {
                let (member, term) = (*id, term.0);
                self.turns.push(Turn { at_ns, member, role: *role, term, leader: *leader });
            }
            Observation::Event(id, Event::Members(members)) => {
                let name = |member: &cairn_engine::api::etcdserverpb::Member| {
                    let learns = if member.is_learner { " (learns)" } else { "" };
                    format!("{}{learns}", member.id)
                };
                let names: Vec<_> = members.iter().map(name).collect();
                let text = format!("the members are {}", names.join(", "));
                self.tell(at_ns, Some(*id), Topic::Event, cut(text));
            }
            Observation::Event(id, event) => {
                self.tell(at_ns, Some(*id), Topic::Event, cut(format!("{event:?}")));
            }
            Observation::Published(id, publication) => {
                let (index, revision) = (publication.applied.0, publication.view.revision());
                let last = self.applied.kept.iter().rev().find(|applied| applied.member == *id);
                if last.is_none_or(|last| last.index != index) {
                    self.applied.push(Applied { at_ns, member: *id, index, revision });
                }
            }
            Observation::Sent(message, fate) => {
                self.count(at_ns, 0);
                let (kind, text) = describe(message);
                let (from, to) = (message.from, message.to);
                self.messages.push(Sent { at_ns, from, to, kind, text: cut(text), fate: *fate });
            }
            Observation::Reply { id, result, .. } => {
                let (how, text) = outcome(result);
                self.answer(at_ns, *id, how, cut(text));
            }
            Observation::Watch { member, stream, response, .. } => {
                let text = told(*stream, response);
                self.tell(at_ns, Some(*member), Topic::Watch, cut(text));
            }
            Observation::Wrote(..) | Observation::Alarm(_) => {}
        }
    }

    fn answer(&mut self, at_ns: u64, id: RequestId, how: Outcome, text: String) {
        let mut open = self.questions.kept.iter_mut().rev();
        if let Some(question) = open.find(|question| question.id == id) {
            question.end.get_or_insert((at_ns, how, text));
        }
    }

    /// Whoever asked a member that crashed is not answered.
    fn lose(&mut self, at_ns: u64, id: MemberId) {
        for question in self.questions.kept.iter_mut().filter(|question| question.member == id) {
            question
                .end
                .get_or_insert_with(|| (at_ns, Outcome::Unknown, "the member crashed".to_owned()));
        }
    }

    fn begin(&mut self, at_ns: u64, member: MemberId, standing: Standing) {
        self.members.insert(member);
        if self.spans.len() < SPANS_MAX && !self.open.contains_key(&(member, standing)) {
            self.open.insert((member, standing), self.spans.len());
            self.spans.push(Span { member, standing, from_ns: at_ns, to_ns: None });
        }
    }

    fn end(&mut self, at_ns: u64, member: MemberId, standing: Standing) {
        if let Some(place) = self.open.remove(&(member, standing)) {
            self.spans[place].to_ns = Some(at_ns);
        }
    }
}

fn cut(mut text: String) -> String {
    if let Some((end, _)) = text.char_indices().nth(TEXT_CHARS_MAX) {
        text.truncate(end);
        text.push('…');
    }
    text
}

/// What kind of message this is, and what it says, for people.
fn describe(message: &Message) -> (&'static str, String) {
    let peer::Body::Raft { term, body } = &message.body else {
        let text = format!("{:?}", message.body);
        return (other_kind(&message.body), text);
    };
    let (kind, mut text) = match body {
        Body::PreVote { last } => {
            ("pre-vote", format!("would you vote for me? my log ends at {}", place(*last)))
        }
        Body::PreVoteReply { granted, .. } => ("pre-vote", yes_or_no(*granted)),
        Body::Vote { last, takeover } => {
            ("vote", format!("vote for me: my log ends at {}, takeover {takeover}", place(*last)))
        }
        Body::VoteReply { granted } => ("vote", yes_or_no(*granted)),
        Body::Append { prev, commit, entries } => {
            let mut text =
                format!("after {}, commit {commit}, {} entries:", place(*prev), entries.len());
            for entry in entries.iter().take(4) {
                write!(text, " {entry:?}").expect("strings grow");
            }
            ("append", text)
        }
        Body::AppendAccepted { matched } => ("append ack", format!("durable up to {matched}")),
        Body::AppendRejected { prev, hint } => {
            ("append ack", format!("I lack {prev}, try after {}", place(*hint)))
        }
        Body::Heartbeat { commit, .. } => ("heartbeat", format!("I lead; commit {commit}")),
        Body::HeartbeatReply { .. } => ("heartbeat", "you do".to_owned()),
        Body::TimeoutNow => ("vote", "take over, now".to_owned()),
    };
    write!(text, " (term {term})").expect("strings grow");
    (kind, text)
}

/// A place of the log: `58@2` is entry 58 of term 2.
fn place(end: LogEnd) -> String {
    format!("{}@{}", end.index, end.term)
}

fn yes_or_no(yes: bool) -> String {
    if yes { "yes" } else { "no" }.to_owned()
}

fn other_kind(body: &peer::Body) -> &'static str {
    match body {
        peer::Body::Raft { .. } => "raft",
        peer::Body::SnapshotPart(_) | peer::Body::SnapshotReceived { .. } => "snapshot",
        peer::Body::Propose { .. } | peer::Body::Refused { .. } => "passed on",
        peer::Body::ReadIndex { .. } | peer::Body::ReadIndexAnswer { .. } => "read index",
        peer::Body::Digest { .. } => "digest",
        peer::Body::Removed
        | peer::Body::Forgot { .. }
        | peer::Body::Stateless
        | peer::Body::Ask { .. }
        | peer::Body::Vouch { .. } => "trust",
    }
}

fn told(stream: StreamId, response: &cairn_engine::watch::Response) -> String {
    let cairn_engine::watch::Response { watch_id, revision, created, canceled, events, .. } =
        response;
    let mut text = format!("stream {} watcher {watch_id} at revision {revision}", stream.0);
    for (so, what) in [(*created, " created"), (*canceled, " canceled")] {
        text.push_str(if so { what } else { "" });
    }
    for event in events {
        write!(text, " {:?}", event.record).expect("strings grow");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_are_kept_and_it_is_known_that_there_were_more() {
        let mut recent = Recent::keeping(2);
        recent.push(1);
        recent.push(2);
        assert!(!recent.is_cut());
        recent.push(3);
        assert!(recent.is_cut() && recent.kept == [2, 3] && recent.seen == 3);
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        let text = cut("é".repeat(1000));
        assert_eq!(text.chars().count(), TEXT_CHARS_MAX + 1);
        assert_eq!(cut("short".to_owned()), "short");
    }
}
