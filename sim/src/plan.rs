//! Plans as text: a run that somebody keeps, reads, and takes things out of.
//!
//! ```text
//! cairn plan 1
//! seed 4
//! set members 3
//! …
//! # at, in nanoseconds of the run's time, and the deed
//! 12000345 start 2
//! 13000111 ask 3 of 1/0 as none put 0a036b6579 # Put(PutRequest { key: b"key", … })
//! 13000456 fault Crash 2 torn AnySectors for 1200000
//! 99000000 calm 17
//! ```
//!
//! What stands behind a `#` is for people. Numbers of requests are those of etcd's protobuf, so a plan outlives the names
//! and the generator of today. What is not `set` is as [`Swarm`](crate::swarm::Swarm) of this version draws it from the seed.

use core::fmt::{self, Write as _};

use bytes::Bytes;
use cairn_engine::api::Request;
use cairn_engine::api::etcdserverpb::watch_request::RequestUnion;
use cairn_engine::api::etcdserverpb::{
    HashKvRequest, LeaseTimeToLiveRequest, RangeRequest, TxnRequest, WatchRequest,
};
use cairn_engine::auth::{Credential, TokenId};
use cairn_engine::cluster::Wish;
use cairn_engine::command::{Command, Stamp};
use cairn_engine::{LeaseId, MemberId, ShardId, StreamId};
use prost::Message;

use crate::disk::Torn;
use crate::run::Plan;
use crate::run::deeds::{Deed, Harm, Tape};
use crate::swarm::Fault;
use crate::workload::{Client, command_of};

/// The first line of a plan.
const FIRST_LINE: &str = "cairn plan 1";
/// Characters of what is told to people behind a `#`.
const COMMENT_CHARS_MAX: usize = 120;

/// A plan that does not say what a plan says: which line, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// The line, from one on.
    pub line: usize,
    /// What is wrong with it.
    pub why: String,
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {} of the plan: {}", self.line, self.why)
    }
}

impl core::error::Error for Unreadable {}

/// A plan as text; one whose deeds chance decides on has none.
pub fn write(plan: &Plan) -> String {
    let mut out = format!("{FIRST_LINE}\nseed {}\n", plan.seed);
    let mut line = |text: String| {
        out.push_str(&text);
        out.push('\n');
    };
    for (name, value) in plan.swarm.settings() {
        line(format!("set {name} {value}"));
    }
    if plan.canary {
        line("canary".to_owned());
    }
    for (at_ns, deed) in plan.deeds.iter().flatten() {
        line(format!("{at_ns} {}", words_of(deed)));
    }
    out
}

/// Reads what [`write()`] has written, or somebody by hand.
///
/// # Errors
/// At the first line that makes no sense.
pub fn read(text: &str) -> Result<Plan, Unreadable> {
    let mut plan: Option<Plan> = None;
    let mut is_plan = false;
    for (number, line) in (1..).zip(text.lines()) {
        let unreadable = |why: String| Unreadable { line: number, why };
        let said = line.split_once(" #").map_or(line, |(said, _)| said).trim();
        if said.is_empty() || said.starts_with('#') {
            continue;
        }
        let words: Vec<&str> = said.split(' ').filter(|word| !word.is_empty()).collect();
        match (&mut plan, &words[..]) {
            (None, _) if !is_plan => {
                is_plan = said == FIRST_LINE;
                if !is_plan {
                    return Err(unreadable(format!("it begins with {FIRST_LINE:?}, not {said:?}")));
                }
            }
            (plan @ None, ["seed", seed]) => {
                let seed = number_of(seed).map_err(unreadable)?;
                let of_seed = Plan::of(seed);
                let swarm = of_seed.swarm.without_the_latest();
                *plan = Some(Plan { deeds: Some(Tape::new()), swarm, ..of_seed });
            }
            (None, _) => return Err(unreadable("the seed comes first".to_owned())),
            (Some(plan), ["set", name, value]) => {
                plan.swarm.set(name, value).map_err(unreadable)?;
            }
            (Some(plan), ["canary"]) => plan.canary = true,
            (Some(plan), [at_ns, deed @ ..]) => {
                let deed = deed_of(deed).map_err(unreadable)?;
                let at_ns = number_of(at_ns).map_err(unreadable)?;
                let tape = plan.deeds.get_or_insert_default();
                if tape.back().is_some_and(|(before, _)| *before > at_ns) {
                    return Err(unreadable(format!("{at_ns} is before the line above")));
                }
                tape.push_back((at_ns, deed));
            }
            (Some(_), []) => {}
        }
    }
    plan.ok_or_else(|| Unreadable { line: 1, why: "there is nothing".to_owned() })
}

fn words_of(deed: &Deed) -> String {
    match deed {
        Deed::Ask { client, member, shard, who, request } => {
            let (kind, bytes) = encode(request);
            let who = name_of(who);
            let place = format!("{}/{}", member.0, shard.0);
            format!(
                "ask {client} of {place} as {who} {kind} {} # {}",
                hex(&bytes),
                comment(request)
            )
        }
        Deed::Fault(Harm { fault, member, torn, for_ns, detail }) => {
            let mut text = format!("fault {fault:?} {} torn {torn:?} for {for_ns}", member.0);
            if let Some([one, other]) = detail {
                write!(text, " detail {one} {other}").expect("strings grow");
            }
            text
        }
        Deed::Start(id) => format!("start {}", id.0),
        Deed::Join(id, offset_ns) => format!("join {} {offset_ns}", id.0),
        Deed::Copy(id) => format!("copy {}", id.0),
        Deed::SetBack(id) => format!("set-back {}", id.0),
        Deed::Open(client, member, shard) => format!("open {client} at {}/{}", member.0, shard.0),
        Deed::Say(client, union) => {
            let request = WatchRequest { request_union: Some(union.clone()) };
            format!("say {client} {} # {}", hex(&request.encode_to_vec()), comment(union))
        }
        Deed::Close(client) => format!("close {client}"),
        Deed::Read(stream) => format!("read {}", stream.0),
        Deed::Calm(number) => format!("calm {number}"),
    }
}

fn comment(what: &impl fmt::Debug) -> String {
    format!("{what:?}").chars().take(COMMENT_CHARS_MAX).collect()
}

fn deed_of(words: &[&str]) -> Result<Deed, String> {
    Ok(match words {
        ["ask", client, "of", place, "as", who, kind, bytes @ ..] => {
            let (member, shard) = place_of(place)?;
            let bytes = unhex(bytes.first().copied().unwrap_or_default())?;
            let request = decode(kind, bytes.into())?;
            Deed::Ask { client: number_of(client)?, member, shard, who: client_of(who)?, request }
        }
        ["fault", fault, member, "torn", torn, "for", for_ns, detail @ ..] => {
            let fault = Fault::ALL.into_iter().find(|one| format!("{one:?}") == *fault);
            let torn = Torn::ALL.into_iter().find(|one| format!("{one:?}") == *torn);
            let detail = match detail {
                [] => None,
                ["detail", one, other] => Some([number_of(one)?, number_of(other)?]),
                _ => return Err(format!("{detail:?} is no detail of a fault")),
            };
            Deed::Fault(Harm {
                fault: fault.ok_or("there is no such fault")?,
                member: member_of(member)?,
                torn: torn.ok_or("a crash leaves no such thing")?,
                for_ns: number_of(for_ns)?,
                detail,
            })
        }
        ["start", id] => Deed::Start(member_of(id)?),
        ["join", id, offset_ns] => Deed::Join(member_of(id)?, number_of(offset_ns)?),
        ["copy", id] => Deed::Copy(member_of(id)?),
        ["set-back", id] => Deed::SetBack(member_of(id)?),
        ["open", client, "at", place] => {
            let (member, shard) = place_of(place)?;
            Deed::Open(number_of(client)?, member, shard)
        }
        ["say", client, bytes @ ..] => {
            let bytes = unhex(bytes.first().copied().unwrap_or_default())?;
            let request = WatchRequest::decode(&*bytes).map_err(|error| error.to_string())?;
            let union: RequestUnion = request.request_union.ok_or("it says nothing")?;
            Deed::Say(number_of(client)?, union)
        }
        ["close", client] => Deed::Close(number_of(client)?),
        ["read", stream] => Deed::Read(StreamId(number_of(stream)?)),
        ["calm", number] => Deed::Calm(number_of(number)?),
        _ => return Err(format!("there is no such deed: {}", words.join(" "))),
    })
}

fn number_of<T: core::str::FromStr>(word: &str) -> Result<T, String> {
    word.parse().map_err(|_| format!("{word:?} is no number, or too large a one"))
}

fn member_of(word: &str) -> Result<MemberId, String> {
    number_of(word).map(MemberId)
}

fn place_of(word: &str) -> Result<(MemberId, ShardId), String> {
    let (member, shard) = word.split_once('/').ok_or("a place is MEMBER/CORE")?;
    Ok((member_of(member)?, ShardId(number_of(shard)?)))
}

/// Who a client is and what it shows, in a word; names of users have no blanks here.
fn name_of(who: &Client) -> String {
    let user = who.user.as_deref().unwrap_or_default();
    match &who.credential {
        Credential::None => format!("none:{user}"),
        Credential::Member => "member".to_owned(),
        Credential::Unreadable => format!("garbled:{user}"),
        Credential::CommonName(_) => format!("name:{user}"),
        Credential::Signed { revision, .. } => format!("signed:{user}:{revision}"),
        Credential::Token(TokenId { index, digest }) => {
            format!("token:{user}:{index}:{}", hex(digest))
        }
    }
}

fn client_of(word: &str) -> Result<Client, String> {
    let parts: Vec<&str> = word.split(':').collect();
    let user = parts.get(1).filter(|name| !name.is_empty()).map(|name| (*name).into());
    let named = || user.clone().ok_or("it has no name");
    let credential = match parts[..] {
        ["none", _] => Credential::None,
        ["member"] => Credential::Member,
        ["garbled", _] => Credential::Unreadable,
        ["name", _] => Credential::CommonName(named()?),
        ["signed", _, revision] => {
            Credential::Signed { name: named()?, revision: number_of(revision)? }
        }
        ["token", _, index, digest] => {
            let digest = unhex(digest)?.try_into().map_err(|_| "a digest has 32 bytes")?;
            Credential::Token(TokenId { index: number_of(index)?, digest })
        }
        _ => return Err(format!("{word:?} is nobody")),
    };
    Ok(Client { credential, user })
}

/// A request as bytes, and which decoder reads them.
fn encode(request: &Request) -> (&'static str, Vec<u8>) {
    match request {
        Request::Range(request) => ("range", request.encode_to_vec()),
        Request::RangeStream(request) => ("range-stream", request.encode_to_vec()),
        Request::Txn(request) => ("txn", request.encode_to_vec()),
        Request::LeaseTimeToLive(request) => ("time-to-live", request.encode_to_vec()),
        Request::HashKv(request) => ("hash-kv", request.encode_to_vec()),
        Request::LeaseKeepAlive(id) => ("keep-alive", id.0.to_le_bytes().to_vec()),
        Request::MoveLeader(id) => ("move-leader", id.0.to_le_bytes().to_vec()),
        Request::LeaseLeases => ("leases", Vec::new()),
        Request::Snapshot => ("snapshot", Vec::new()),
        Request::Members(wish) => {
            let mut bytes = Vec::new();
            wish.encode(&mut bytes);
            ("members", bytes)
        }
        other @ (Request::Put(_)
        | Request::DeleteRange(_)
        | Request::Compact(_)
        | Request::LeaseGrant(_)
        | Request::LeaseRevoke(_)
        | Request::Alarm(_)
        | Request::Auth(_)
        | Request::Authenticate(_)
        | Request::MemberList(_)
        | Request::Status
        | Request::Defragment
        | Request::Hash
        | Request::AuthQuery(_)) => {
            let command = command_of(other).expect("the generator asks nothing else");
            ("command", command.encode(Stamp::default()).to_vec())
        }
    }
}

fn decode(kind: &str, bytes: Bytes) -> Result<Request, String> {
    let number = || bytes.as_ref().try_into().map_err(|_| "a number has 8 bytes".to_owned());
    let garbled = |error: prost::DecodeError| error.to_string();
    Ok(match kind {
        "range" => Request::Range(RangeRequest::decode(bytes).map_err(garbled)?),
        "range-stream" => Request::RangeStream(RangeRequest::decode(bytes).map_err(garbled)?),
        "txn" => Request::Txn(TxnRequest::decode(bytes).map_err(garbled)?),
        "time-to-live" => {
            Request::LeaseTimeToLive(LeaseTimeToLiveRequest::decode(bytes).map_err(garbled)?)
        }
        "hash-kv" => Request::HashKv(HashKvRequest::decode(bytes).map_err(garbled)?),
        "keep-alive" => Request::LeaseKeepAlive(LeaseId(i64::from_le_bytes(number()?))),
        "move-leader" => Request::MoveLeader(MemberId(u64::from_le_bytes(number()?))),
        "leases" => Request::LeaseLeases,
        "snapshot" => Request::Snapshot,
        "members" => Request::Members(Wish::decode(bytes).ok_or("it is no wish")?),
        "command" => {
            let (_, command) = Command::decode(bytes).map_err(|unknown| format!("{unknown:?}"))?;
            match command {
                Command::Put(request) => Request::Put(request),
                Command::DeleteRange(request) => Request::DeleteRange(request),
                Command::Txn(request) => Request::Txn(request),
                Command::Compact(request) => Request::Compact(request),
                Command::LeaseGrant(request) => Request::LeaseGrant(request),
                Command::LeaseRevoke(request) => Request::LeaseRevoke(request),
                Command::Alarm(request) => Request::Alarm(request),
                Command::Auth(change) => Request::Auth(change),
                Command::Authenticate(assignment) => Request::Authenticate(assignment),
                Command::LeaseRenew(_)
                | Command::LeaseExpire(_)
                | Command::Members(_)
                | Command::Tick => return Err("no client asks for this".to_owned()),
            }
        }
        _ => return Err(format!("there is no request {kind:?}")),
    })
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::new();
    bytes.iter().for_each(|byte| write!(text, "{byte:02x}").expect("strings grow"));
    text
}

fn unhex(text: &str) -> Result<Vec<u8>, String> {
    let digits: Option<Vec<u32>> = text.chars().map(|digit| digit.to_digit(16)).collect();
    let digits = digits.filter(|digits| digits.len() % 2 == 0);
    let digits = digits.ok_or_else(|| format!("{text:?} is not in hexadecimal digits"))?;
    let byte = |pair: &[u32]| u8::try_from(pair[0] * 16 + pair[1]).expect("two digits");
    Ok(digits.chunks(2).map(byte).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::note;

    #[test]
    fn what_is_written_is_read() {
        for seed in [2, 5, 12, 24] {
            let (_, plan) = note(&Plan::of(seed));
            let text = write(&plan);
            let again = read(&text).unwrap();
            assert_eq!(again.deeds, plan.deeds);
            assert_eq!(write(&again), text);
        }
    }

    #[test]
    fn what_makes_no_sense_is_named_with_its_line() {
        let line = |text: &str| read(text).unwrap_err().line;
        assert_eq!(line(""), 1);
        assert_eq!(line("cairn plan 2\nseed 1\n"), 1);
        assert_eq!(line("cairn plan 1\n5 start 1\n"), 2);
        let more = |more: &str| line(&format!("cairn plan 1\n# why\nseed 1\n5 start 1\n{more}\n"));
        for wrong in [
            "4 start 1",
            "x start 1",
            "6 start",
            "6 dance",
            "6 fault Nap 1 torn Nothing for 1",
            "6 fault Crash 1 torn Much for 1",
            "6 fault Cut 1 torn Nothing for 1 detail 2",
            "6 ask 1 of 1 as member leases",
            "6 ask 1 of 1/0 as you leases",
            "6 ask 1 of 1/0 as member put 00",
            "6 ask 1 of 1/0 as member range 0",
            "6 ask 1 of 1/0 as member range zz",
            "6 ask 1 of 1/0 as member keep-alive 00",
            "6 say 1",
            "set members many",
        ] {
            assert_eq!(more(wrong), 5, "{wrong}");
        }
        assert!(read("cairn plan 1\nseed 1\n\n# why\n5 start 1 # so\n").is_ok());
    }
}
