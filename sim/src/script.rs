//! Golden scripts: a story in commands, and what the world answered when somebody last read it with care.
//!
//! ```text
//! # Why this script exists, in a paragraph.
//!
//! > members 1
//! > start 1
//! > run 10ms
//! 0.100ms  1 event Role { role: Leader, … }
//! ```
//!
//! A line that begins with `>` is a command, one that begins with `#` a comment; every other line that is not
//! empty is expected output. `UPDATE=1 cargo test -p cairn-sim` writes down what really came out.
//!
//! Commands: `members N [shards N | forgetful | one-by-one]` (forgetful members keep no entry in memory that is applied;
//! the others send one entry at a time), `start WHO`, `crash WHO [nothing|everything|any|prefix]`, `pause WHO`, `resume WHO`, `stall WHO TIME` (its
//! disk), `run TIME`, `trace KIND…` (messages, log, events, turns: events but changes of the members, replies), `put WHO KEY VALUE [LEASE]`, `get WHO KEY [serializable]`,
//! `del WHO KEY`, `grant WHO LEASE TTL`, `keepalive WHO LEASE`, `ttl WHO LEASE`, `compact WHO REVISION`,
//! `add WHO ID [learner]`, `promote WHO ID`, `remove WHO ID`, `transfer WHO ID`, `members-of WHO`, `join ID` (a member
//! that others add), `wipe WHO`, `image WHO` (a copy of its disk), `set-back WHO` (to the copy), `isolate WHO`, `until WHO leads`, `cut FROM TO`, `heal`, `flip WHO SEGMENT OFFSET`, `log WHO`, `status WHO`. WHO is a member's number or `all`.

use core::fmt::Write as _;
use core::time::Duration;
use std::collections::BTreeSet;

use bytes::Bytes;
use cairn_engine::api::etcdserverpb::{
    CompactionRequest, DeleteRangeRequest, LeaseGrantRequest, LeaseTimeToLiveRequest, PutRequest,
    RangeRequest,
};
use cairn_engine::api::{Error, Request, Response};
use cairn_engine::cluster::Wish;
use cairn_engine::config::{Limits, Lives, Member, Storage};
use cairn_engine::event::Event;
use cairn_engine::peer;
use cairn_engine::raft::RoleName;
use cairn_engine::replica::ReplicaStatus;
use cairn_engine::wal::SegmentSeq;
use cairn_engine::{ClusterId, Config, LeaseId, MemberId, Replica, RequestId, ShardId};

use crate::check::Violation;
use crate::clock::Clock;
use crate::disk::Torn;
use crate::report::Story;
use crate::trace::{Note, Trace};
use crate::world::{Delays, Observation, Options, World};

/// How long [`Player::run_until_leads`] waits.
const PATIENCE: &str = "30s";

/// Runs a script and returns it with the output that came out this time.
///
/// # Errors
/// If a command is malformed; the text names the line.
pub fn run(script: &str) -> Result<String, String> {
    play(script, &mut Player::default())
}

/// Runs a script to see it: as a page shows it, and with what it does not tell any more as its violation.
pub fn tell(name: &str, script: &str) -> Story {
    let mut player = Player { trace: Trace::keeping(0).recording(), ..Player::default() };
    let told = play(script, &mut player);
    let what = match &told {
        Err(why) => Some(why.clone()),
        Ok(told) if told == script => None,
        Ok(told) => {
            let end = "nothing more";
            let mut new = told.lines().chain([end]);
            let differs = |old: &&str| new.next() != Some(*old);
            let old = script.lines().chain([end]).find(differs).unwrap_or(end);
            Some(format!("it does not tell any more: {old}"))
        }
    };
    let commands = script.lines().filter(|line| line.starts_with('>')).count();
    Story {
        title: name.to_owned(),
        replay: format!("cairn sim report --script {name}"),
        violation: what.map(|what| Violation::new("script", what)),
        facts: vec![("commands".to_owned(), commands.to_string())],
        record: player.trace.take_record().expect("it was to be kept"),
    }
}

fn play(script: &str, player: &mut Player) -> Result<String, String> {
    let mut out = String::new();
    for (number, line) in script.lines().enumerate() {
        if line.is_empty() || line.starts_with('#') {
            out.push_str(line);
            out.push('\n');
        } else if let Some(command) = line.strip_prefix('>') {
            out.push_str(line);
            out.push('\n');
            let words: Vec<&str> = command.split_whitespace().collect();
            if let Some(world) = &player.world {
                player.trace.note(world.now_ns(), || Note::Other(command.trim().to_owned()));
            }
            player
                .play(&words, &mut out)
                .map_err(|why| format!("line {}: {command}: {why}", number + 1))?;
        }
    }
    Ok(out)
}

#[derive(Debug, Default)]
struct Player {
    world: Option<World>,
    traced: BTreeSet<String>,
    requests: u64,
    /// What its members do not do as others.
    quirk: String,
    trace: Trace,
}

impl Player {
    fn play(&mut self, words: &[&str], out: &mut String) -> Result<(), String> {
        match words {
            ["members", count] => self.members(count, "1")?,
            ["members", count, quirk @ ("forgetful" | "one-by-one")] => {
                (*quirk).clone_into(&mut self.quirk);
                self.members(count, "1")?;
            }
            ["members", count, "shards", shards] => self.members(count, shards)?,
            ["start", who] => {
                for id in self.who(who)? {
                    self.world()?.start(id);
                }
            }
            ["crash", who] => self.crash(who, "nothing")?,
            ["crash", who, torn] => self.crash(who, torn)?,
            ["pause", who] => {
                for id in self.who(who)? {
                    self.world()?.pause(id);
                }
            }
            ["resume", who] => {
                for id in self.who(who)? {
                    self.world()?.resume_if_paused(id);
                }
            }
            ["stall", who, time] => {
                let (id, time) = (member(who)?, nanos(time)?);
                self.world()?.stall_disk(id, time);
            }
            ["run", time] => self.run(time, out)?,
            ["until", who, "leads"] => self.run_until_leads(member(who)?, out)?,
            ["trace", kinds @ ..] => {
                self.traced = kinds.iter().map(|kind| (*kind).to_owned()).collect();
                if self.traced.contains("events") {
                    self.traced.extend(["turns".to_owned(), "changes".to_owned()]);
                }
            }
            ["cut", from, to] => {
                let (from, to) = (member(from)?, member(to)?);
                self.world()?.network.cut(from, to);
            }
            ["isolate", who] => {
                let id = member(who)?;
                let all: Vec<_> = self.world()?.members().collect();
                self.world()?.network.isolate(&[id], &all);
            }
            ["heal"] => self.world()?.network.heal(),
            ["join", who] => {
                let config = self.config(member(who)?, Vec::new());
                self.world()?.add_member(config, Clock::default());
            }
            ["wipe", who] => {
                let id = member(who)?;
                self.world()?.wipe(id);
            }
            ["image", who] => {
                let id = member(who)?;
                self.world()?.take_image(id);
            }
            ["set-back", who] => {
                let id = member(who)?;
                self.world()?.roll_back(id);
            }
            ["members-of", who] => {
                let id = member(who)?;
                let replica = self.world()?.replica(id).ok_or("the member is down")?;
                line(out, &format!("{:?}", replica.raft().membership()));
            }
            ["flip", who, segment, offset] => {
                let (id, segment) = (member(who)?, SegmentSeq(number(segment)?));
                let offset = number(offset)?;
                self.world()?.disk(id).flip(segment, offset);
            }
            ["log", who] => self.log(member(who)?, out)?,
            ["status", who] => {
                for id in self.who(who)? {
                    match self.world()?.replica(id) {
                        Some(replica) => {
                            line(out, &format!("{} {}", id.0, told(&replica.status())));
                        }
                        None => line(out, &format!("{} is down", id.0)),
                    }
                }
            }
            [verb, who, rest @ ..] => {
                let request = request(verb, rest)?;
                self.requests += 1;
                let id = RequestId(self.requests);
                let member = member(who)?;
                if !self.world()?.is_up(member) {
                    return Err("the member is down".to_owned());
                }
                let text = format!("{request:?}");
                let at_ns = self.world()?.now_ns();
                self.trace.note(at_ns, || Note::Asks {
                    client: Some(0),
                    member,
                    id,
                    request: text,
                });
                self.world()?.request(member, ShardId(0), id, request);
                line(out, &format!("request {}", id.0));
            }
            _ => return Err("no such command".to_owned()),
        }
        self.report(out)
    }

    fn world(&mut self) -> Result<&mut World, String> {
        self.world.as_mut().ok_or_else(|| "the first command is `members`".to_owned())
    }

    fn who(&mut self, who: &str) -> Result<Vec<MemberId>, String> {
        if who == "all" { Ok(self.world()?.members().collect()) } else { Ok(vec![member(who)?]) }
    }

    fn members(&mut self, count: &str, shards: &str) -> Result<(), String> {
        let (count, shards) = (number(count)?, number(shards)?);
        let shards = u16::try_from(shards).map_err(|_| "too many shards")?;
        let delays = Delays { write_ns: 100_000, hop_ns: 1_000 };
        let mut world = World::new(Options { seed: 1, shards, delays, exact: true });
        let members: Vec<Member> = (1..=count).map(named).collect();
        for member in &members {
            world.add_member(self.config(member.id, members.clone()), Clock::default());
        }
        self.world = Some(world);
        Ok(())
    }

    fn config(&self, id: MemberId, members: Vec<Member>) -> Config {
        let mut config = config(id, members);
        match self.quirk.as_str() {
            "forgetful" => {
                (config.limits.log_memory_bytes, config.limits.log_needed_bytes_max) = (1, 1);
            }
            "one-by-one" => config.limits.append_bytes_max = 1,
            _ => {}
        }
        config
    }

    fn crash(&mut self, who: &str, torn: &str) -> Result<(), String> {
        let torn = match torn {
            "nothing" => Torn::Nothing,
            "everything" => Torn::Everything,
            "any" => Torn::AnySectors,
            "prefix" => Torn::Prefix,
            _ => return Err("what is left: nothing, everything, any or prefix".to_owned()),
        };
        for id in self.who(who)? {
            self.world()?.crash(id, torn);
        }
        Ok(())
    }

    fn run(&mut self, time: &str, out: &mut String) -> Result<(), String> {
        let until = self.world()?.now_ns() + nanos(time)?;
        while self.world()?.next_ns().is_some_and(|next| next <= until) {
            self.world()?.step();
            self.report(out)?;
        }
        self.world()?.run_until(until);
        Ok(())
    }

    fn run_until_leads(&mut self, id: MemberId, out: &mut String) -> Result<(), String> {
        let until = self.world()?.now_ns() + nanos(PATIENCE)?;
        let leads = |replica: &Replica| replica.status().role == RoleName::Leader;
        while !self.world()?.replica(id).is_some_and(leads) {
            if self.world()?.next_ns().is_none_or(|next| next > until) {
                return Err(format!("it does not within {PATIENCE}"));
            }
            self.world()?.step();
            self.report(out)?;
        }
        Ok(())
    }

    fn log(&mut self, id: MemberId, out: &mut String) -> Result<(), String> {
        let replica = self.world()?.replica(id).ok_or("the member is down")?;
        let log = replica.raft().log();
        line(out, &format!("covered {:?}", log.covered()));
        log.iter().for_each(|entry| line(out, &format!("{entry:?}")));
        Ok(())
    }

    /// Writes what was observed and is traced.
    fn report(&mut self, out: &mut String) -> Result<(), String> {
        let Some(world) = self.world.as_mut() else { return Ok(()) };
        self.trace.look(world.now_ns(), &world.network);
        while let Some(observation) = world.observe() {
            self.trace.observe(world.now_ns(), &observation);
            let (kind, text) = describe(&observation);
            if kind == "always" || self.traced.contains(kind) {
                let micros = world.now_ns() / 1000;
                line(out, &format!("{}.{:03}ms  {text}", micros / 1000, micros % 1000));
            }
        }
        Ok(())
    }
}

fn line(out: &mut String, text: &str) {
    writeln!(out, "{text}").expect("strings grow");
}

fn describe(observation: &Observation) -> (&'static str, String) {
    match observation {
        Observation::Started(id) => ("always", format!("{} started", id.0)),
        Observation::Refused(id, error) => ("always", format!("{} cannot start: {error}", id.0)),
        Observation::Crashed(id) => ("always", format!("{} crashed", id.0)),
        Observation::Halted(id, halt) => ("always", format!("{} halted: {halt:?}", id.0)),
        Observation::Reply { id, result, .. } => {
            ("replies", format!("request {}: {}", id.0, answer(result)))
        }
        Observation::Watch { stream, response, .. } => {
            ("watch", format!("stream {} {response:?}", stream.0))
        }
        Observation::Published(id, publication) => (
            "publications",
            format!(
                "{} published {} revision {}",
                id.0,
                publication.applied,
                publication.view.revision()
            ),
        ),
        Observation::Event(id, event) => (
            if let Event::Members(_) = event { "changes" } else { "turns" },
            format!("{} {event:?}", id.0),
        ),
        Observation::Paused(id) => ("pauses", format!("{} stands still", id.0)),
        Observation::Resumed(id) => ("pauses", format!("{} goes on", id.0)),
        Observation::Sent(message, _) => (
            "messages",
            if let peer::Body::Raft { term, body } = &message.body {
                format!("{} → {} term {term} {body:?}", message.from.0, message.to.0)
            } else {
                format!("{} → {} {:?}", message.from.0, message.to.0, message.body)
            },
        ),
        Observation::Wrote(id, write) => ("log", format!("{} {write:?}", id.0)),
        Observation::Alarm(name) => ("always", format!("alarm {name}")),
    }
}

fn answer(result: &Result<Response, Error>) -> String {
    match result {
        Ok(Response::Range(answer)) => {
            let records: Vec<String> =
                answer.result.records.iter().map(|record| format!("{record:?}")).collect();
            format!("revision {} [{}]", answer.header.revision, records.join(", "))
        }
        Ok(Response::Put(response)) => {
            format!("put at {}", response.header.map_or(0, |h| h.revision))
        }
        Ok(Response::DeleteRange(response)) => format!("deleted {}", response.deleted),
        Ok(Response::LeaseGrant(response)) => format!("lease {} ttl {}", response.id, response.ttl),
        Ok(Response::LeaseKeepAlive(response)) => {
            format!("lease {} ttl {}", response.id, response.ttl)
        }
        Ok(Response::LeaseTimeToLive(response)) => {
            format!("lease {} ttl {} of {}", response.id, response.ttl, response.granted_ttl)
        }
        Ok(Response::Compact(_)) => "compacted".to_owned(),
        Ok(Response::MemberAdd(_)) => "added".to_owned(),
        Ok(Response::MemberRemove(_)) => "removed".to_owned(),
        Ok(Response::MemberPromote(_)) => "promoted".to_owned(),
        Ok(Response::MoveLeader(_)) => "moved".to_owned(),
        Ok(response) => format!("{response:?}"),
        Err(error) => format!("error: {error}"),
    }
}

fn request(verb: &str, words: &[&str]) -> Result<Request, String> {
    let bytes = |word: &str| Bytes::copy_from_slice(word.as_bytes());
    let put = |key: &str, value: &str, lease| PutRequest {
        key: bytes(key),
        value: bytes(value),
        lease,
        ..PutRequest::default()
    };
    let range = |key: &str, serializable| RangeRequest {
        key: bytes(key),
        serializable,
        ..RangeRequest::default()
    };
    Ok(match (verb, words) {
        ("put", [key, value]) => Request::Put(put(key, value, 0)),
        ("put", [key, value, lease]) => Request::Put(put(key, value, signed(lease)?)),
        ("get", [key]) => Request::Range(range(key, false)),
        ("get", [key, "serializable"]) => Request::Range(range(key, true)),
        ("del", [key]) => Request::DeleteRange(DeleteRangeRequest {
            key: bytes(key),
            ..DeleteRangeRequest::default()
        }),
        ("grant", [lease, ttl]) => {
            Request::LeaseGrant(LeaseGrantRequest { id: signed(lease)?, ttl: signed(ttl)? })
        }
        ("keepalive", [lease]) => Request::LeaseKeepAlive(LeaseId(signed(lease)?)),
        ("ttl", [lease]) => {
            Request::LeaseTimeToLive(LeaseTimeToLiveRequest { id: signed(lease)?, keys: false })
        }
        ("compact", [revision]) => {
            Request::Compact(CompactionRequest { revision: signed(revision)?, physical: false })
        }
        ("add", [id]) => Request::Members(add(id, false)?),
        ("add", [id, "learner"]) => Request::Members(add(id, true)?),
        ("promote", [id]) => Request::Members(Wish::Promote(member(id)?)),
        ("remove", [id]) => Request::Members(Wish::Remove(member(id)?)),
        ("transfer", [id]) => Request::MoveLeader(member(id)?),
        _ => return Err("no such command".to_owned()),
    })
}

fn add(id: &str, learner: bool) -> Result<Wish, String> {
    let peer_urls = vec![format!("http://m{id}:2380")];
    Ok(Wish::Add { id: member(id)?, peer_urls, learner })
}

pub(crate) fn named(id: u64) -> Member {
    Member {
        id: MemberId(id),
        name: format!("m{id}"),
        peer_urls: Vec::new(),
        client_urls: Vec::new(),
    }
}

/// A member as scripts know it: etcd's timeouts, and a log small enough to be full now and then.
pub fn config(id: MemberId, members: Vec<Member>) -> Config {
    Config {
        cluster: ClusterId(1),
        id,
        members,
        seed: 0,
        election_timeout: Duration::from_secs(1),
        heartbeat_interval: Duration::from_millis(100),
        name: format!("m{}", id.0),
        client_urls: Vec::new(),
        lives: Lives::default(),
        force_new_cluster: false,
        strict_reconfig_check: true,
        learners_max: 1,
        storage: Storage::default(),
        auto_compaction: None,
        limits: Limits {
            segment_bytes: 256 << 10,
            first_segment_bytes: 64 << 10,
            ..Limits::default()
        },
        version: "3.7.0".to_owned(),
    }
}

fn member(word: &str) -> Result<MemberId, String> {
    number(word).map(MemberId)
}

fn number(word: &str) -> Result<u64, String> {
    word.parse().map_err(|_| format!("{word} is no number"))
}

fn signed(word: &str) -> Result<i64, String> {
    word.parse().map_err(|_| format!("{word} is no number"))
}

fn nanos(word: &str) -> Result<u64, String> {
    let (digits, unit) =
        word.split_at(word.find(|c: char| !c.is_ascii_digit()).unwrap_or(word.len()));
    let scale = match unit {
        "us" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        _ => return Err(format!("{word}: a time ends with us, ms or s")),
    };
    Ok(number(digits)? * scale)
}

/// A member in numbers, without what it has done so far: stories are not about that.
fn told(status: &ReplicaStatus) -> String {
    format!("{status:?}").replace(&format!(", tally: {:?}", status.tally), "")
}
