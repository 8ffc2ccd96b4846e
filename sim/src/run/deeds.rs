//! What is done to a cluster, deed by deed: by clients, by whoever breaks things, by the operator.
//!
//! In the run of a seed chance decides on deeds as it goes, and they can be noted. In the run of a *plan* they are done as
//! noted, at the times noted, whatever the engine makes of it: a change of the generator, or of the engine, changes what a
//! seed means, and hardly what a plan does. What is no deed still comes from the seed: how long a write or a message takes.
//!
//! A deed that would be unfair where it is done, or for whom there is nobody, is left out: see [members](super::members).

use std::collections::VecDeque;

use cairn_engine::api::Request;
use cairn_engine::api::etcdserverpb::watch_request::RequestUnion;
use cairn_engine::auth::Credential;
use cairn_engine::{MemberId, ShardId, ShardInput, StreamId};

use super::alarm::Alarm;
use super::members::OPERATOR;
use super::{Phase, Run};
use crate::disk::Torn;
use crate::swarm::Fault;
use crate::workload::Client;

/// Something that is done.
#[derive(Clone, Debug, PartialEq)]
pub enum Deed {
    /// A client asks.
    Ask {
        /// Who; the largest number is the operator.
        client: u64,
        /// Whom.
        member: MemberId,
        /// On which core.
        shard: ShardId,
        /// Who it says it is.
        who: Client,
        /// What.
        request: Request,
    },
    /// Something goes wrong.
    Fault(Harm),
    /// A member starts.
    Start(MemberId),
    /// A member is there that was not, with an empty disk; its clock shows this at the beginning.
    Join(MemberId, u64),
    /// In a recess: a disk is copied, and its member starts anew.
    Copy(MemberId),
    /// In a recess: a disk is set back to its copy.
    SetBack(MemberId),
    /// A watch client opens a stream.
    Open(usize, MemberId, ShardId),
    /// A watch client says something.
    Say(usize, RequestUnion),
    /// A watch client closes its stream.
    Close(usize),
    /// A watch client has read a response.
    Read(StreamId),
    /// Faults end. What chance decides from here on comes from this number.
    Calm(u64),
}

/// Something that goes wrong, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Harm {
    /// What.
    pub fault: Fault,
    /// With whom.
    pub member: MemberId,
    /// What is left of a write, if somebody crashes.
    pub torn: Torn,
    /// For how long, if it passes.
    pub for_ns: u64,
    /// What else there is to it, once it is decided: how many outputs before a crash; by how much a clock jumps; segment
    /// or index and offset of what rots; the members of one side, as bits; to whom a link is cut; with whom disks are
    /// swapped.
    pub detail: Option<[u64; 2]>,
}

/// Deeds, each at its time.
pub type Tape = VecDeque<(u64, Deed)>;

impl Run {
    /// Notes a deed, if somebody wants to know.
    pub(super) fn note_deed(&mut self, deed: impl FnOnce() -> Deed) {
        if let Some(tape) = &mut self.noted {
            tape.push_back((self.world.now_ns(), deed()));
        }
    }

    /// Whether deeds are those of a plan.
    pub(super) fn is_planned(&self) -> bool {
        self.planned.is_some()
    }

    /// Has itself woken for the next deed of the plan.
    pub(super) fn plan_deed(&mut self) {
        let next = self.planned.as_ref().and_then(|tape| tape.front()).map(|(at_ns, _)| *at_ns);
        if let Some(at_ns) = next {
            self.alarm(at_ns.saturating_sub(self.world.now_ns()), Alarm::Deed);
        }
    }

    /// Does the next that the plan says. One deed at a time: what comes of it is seen before the next.
    pub(super) fn do_next_deed(&mut self) {
        // It may be one of the chaos, for which it is too late.
        let now_ns = self.world.now_ns();
        if let Some((_, deed)) =
            self.planned.as_mut().and_then(|tape| tape.pop_front_if(|(at_ns, _)| *at_ns <= now_ns))
        {
            self.do_deed(deed);
            self.plan_deed();
        }
    }

    fn do_deed(&mut self, deed: Deed) {
        match deed {
            Deed::Ask { client, member, shard, who, request } => {
                let may = client != OPERATOR || self.may_wish(&request);
                if may && self.world.has(member) && self.world.is_up(member) {
                    self.ask_as(client, (member, shard), who, request);
                }
            }
            Deed::Fault(harm) => {
                if !self.roster.is_quiet() && self.world.has(harm.member) {
                    self.harm(harm);
                }
            }
            Deed::Start(id) => {
                if self.world.has(id) {
                    self.start(id);
                }
            }
            Deed::Join(id, offset_ns) => {
                if !self.world.has(id) {
                    self.join(id, offset_ns);
                }
            }
            Deed::Copy(id) => {
                if self.fair_to_set_back().contains(&id) {
                    self.copy_and_restart(id);
                }
            }
            Deed::SetBack(id) => {
                if self.fair_to_set_back().contains(&id) && self.has_old_copy(id) {
                    self.set_back(id);
                }
            }
            Deed::Open(client, member, shard) => {
                let able = self.watchers.get(client).is_some_and(|one| one.stream.is_none());
                if able && self.world.has(member) && self.world.is_up(member) {
                    self.open_at(client, member, shard);
                }
            }
            Deed::Say(client, union) => self.say_as(client, union),
            Deed::Close(client) => self.close(client),
            Deed::Read(stream) => self.credit(stream),
            Deed::Calm(_) => unreachable!("a run takes it out of its plan when it begins"),
        }
    }

    /// Says something on a watch client's stream.
    pub(super) fn say_as(&mut self, client: usize, union: RequestUnion) {
        let Some(place) = self.watchers.get(client).and_then(|client| client.stream) else {
            return;
        };
        match &union {
            RequestUnion::CreateRequest(request) => {
                let floor = self.world.shown(place.member, place.shard);
                self.watches.subscribe(place.stream, request.clone(), floor);
            }
            // Nobody has this name: nothing is answered.
            RequestUnion::CancelRequest(request) if request.watch_id == super::watchers::NOBODY => {
            }
            RequestUnion::CancelRequest(request) => {
                if !self.watches.cancel(place.stream, request.watch_id) {
                    return;
                }
            }
            RequestUnion::ProgressRequest(_) => {}
        }
        self.note_deed(|| Deed::Say(client, union.clone()));
        self.say(place, union);
    }

    /// Closes a watch client's stream.
    pub(super) fn close(&mut self, client: usize) {
        let Some(place) = self.watchers.get_mut(client).and_then(|client| client.stream.take())
        else {
            return;
        };
        self.note_deed(|| Deed::Close(client));
        self.world.watch(place.member, place.shard, ShardInput::WatchClosed(place.stream));
        let interrupted = self.watches.lost(place.stream);
        self.reading.remove(&place.stream);
        self.watchers[client].interrupted.extend(interrupted);
    }

    /// The client that must be served whoever may.
    pub(super) fn nobody_else(&self) -> Option<Client> {
        let of_member = Client { credential: Credential::Member, user: None };
        (self.phase == Phase::Calm).then_some(of_member)
    }
}
