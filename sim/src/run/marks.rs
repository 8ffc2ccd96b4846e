//! Rare states: what should be seen in some run, or no run gets there and what happens there is not tested.
//!
//! A mark is declared ([`Mark::all`]) and counted when it is seen; a fleet says which were not. A generator that has
//! become too weak, or a feature that nobody exercises, shows as a mark that is missing.

use core::fmt;
use std::collections::BTreeMap;

use cairn_engine::MemberId;
use cairn_engine::api::Request;
use cairn_engine::raft::RoleName;

use super::Run;
use crate::check::answers::Outcome;
use crate::swarm::Fault;

/// How often each was seen.
pub type Marks = BTreeMap<Mark, u64>;

/// Something that should be seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mark {
    /// A fault, and whom or amid what it hit.
    Fault(Fault, Hit),
    /// A kind of request, and what became of it.
    Request(Kind, Fate),
    /// Something else.
    State(State),
}

/// Something else that should be seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// One entry ended ten leases or more.
    TenLeasesEnd,
    /// Somebody began to lead when ten leases or more should have ended.
    TenLeasesOverdue,
    /// A watcher ended because its user may not see the keys any more.
    WatcherForbidden,
    /// A member started with an older minor version than before.
    OlderVersion,
    /// A member started with another patch of its version, or the same.
    SameVersion,
    /// A member started with a newer minor version than before.
    NewerVersion,
    /// The cluster's version went up.
    VersionUp,
    /// The cluster's version went down.
    VersionDown,
    /// A downgrade was asked for, and began.
    DowngradeBegins,
    /// A backup was restored.
    Restored,
}

const STATES: [State; 10] = [
    State::TenLeasesEnd,
    State::TenLeasesOverdue,
    State::WatcherForbidden,
    State::OlderVersion,
    State::SameVersion,
    State::NewerVersion,
    State::VersionUp,
    State::VersionDown,
    State::DowngradeBegins,
    State::Restored,
];

/// Whom a fault hits, or amid what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hit {
    /// The leader of a term.
    Leader,
    /// One that stands for election, or asks whether it could.
    Candidate,
    /// One that follows.
    Follower,
    /// One that learns.
    Learner,
    /// Two sets of voters overlap.
    Joint,
    /// A leader brings somebody a snapshot.
    Snapshot,
    /// Leadership is being handed over.
    Transfer,
    /// A disk was lost, and the cluster has not got over it.
    Unsound,
}

/// A kind of request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the names are those of the requests")]
pub enum Kind {
    Range,
    RangeStream,
    Put,
    DeleteRange,
    Txn,
    Compact,
    LeaseGrant,
    LeaseRevoke,
    LeaseKeepAlive,
    LeaseTimeToLive,
    LeaseLeases,
    HashKv,
    Members,
    MoveLeader,
    Auth,
    Authenticate,
}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fate {
    /// It was answered.
    Answered,
    /// It was refused.
    Refused,
    /// Its client was not told.
    Unknown,
}

const HITS: [Hit; 8] = [
    Hit::Leader,
    Hit::Candidate,
    Hit::Follower,
    Hit::Learner,
    Hit::Joint,
    Hit::Snapshot,
    Hit::Transfer,
    Hit::Unsound,
];

const KINDS: [Kind; 16] = [
    Kind::Range,
    Kind::RangeStream,
    Kind::Put,
    Kind::DeleteRange,
    Kind::Txn,
    Kind::Compact,
    Kind::LeaseGrant,
    Kind::LeaseRevoke,
    Kind::LeaseKeepAlive,
    Kind::LeaseTimeToLive,
    Kind::LeaseLeases,
    Kind::HashKv,
    Kind::Members,
    Kind::MoveLeader,
    Kind::Auth,
    Kind::Authenticate,
];

impl Mark {
    /// Everything that is declared.
    pub fn all() -> Vec<Self> {
        // A jump of a clock is for a member alone; in a recess nothing is unsound, or it would not begin.
        let together = Fault::ALL.into_iter().filter(|fault| *fault != Fault::Jump);
        let faults = together.flat_map(|fault| HITS.map(|hit| Self::Fault(fault, hit)));
        let fates = [Fate::Answered, Fate::Refused, Fate::Unknown];
        let requests =
            KINDS.into_iter().flat_map(|kind| fates.map(|fate| Self::Request(kind, fate)));
        // It is answered from what a member knows, at once, and nothing is refused.
        let never = |mark: &Self| matches!(mark, Self::Request(Kind::LeaseLeases, Fate::Refused));
        let states = STATES.map(Self::State);
        faults.chain(requests).filter(|mark| !never(mark)).chain(states).collect()
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fault(fault, hit) => write!(f, "{fault:?}/{hit:?}"),
            Self::Request(kind, fate) => write!(f, "{kind:?}/{fate:?}"),
            Self::State(state) => write!(f, "{state:?}"),
        }
    }
}

impl Run {
    pub(super) fn mark(&mut self, mark: Mark) {
        *self.marks.entry(mark).or_default() += 1;
    }

    /// Notes whom a fault hits, and amid what.
    pub(super) fn mark_fault(&mut self, fault: Fault, id: MemberId) {
        let sets = self.history.sets(self.history.last());
        let (is_learner, is_joint) = (sets.learners.contains(&id), !sets.outgoing.is_empty());
        if let Some(replica) = self.world.replica(id) {
            let hit = match replica.raft().role() {
                RoleName::Leader => Hit::Leader,
                RoleName::PreCandidate | RoleName::Candidate => Hit::Candidate,
                RoleName::Follower if is_learner => Hit::Learner,
                RoleName::Follower => Hit::Follower,
            };
            self.mark(Mark::Fault(fault, hit));
        }
        let leader = self.leases.leader().and_then(|leader| self.world.replica(leader));
        let transfers = leader.is_some_and(|leader| leader.raft().is_transferring());
        let now = leader.map(|_| self.world.clock(id).read(self.world.now_ns()));
        let brings = leader
            .zip(now)
            .is_some_and(|(leader, now)| leader.raft().peers(now).any(|peer| peer.wants_snapshot));
        for (so, hit) in [
            (is_joint, Hit::Joint),
            (brings, Hit::Snapshot),
            (transfers, Hit::Transfer),
            (self.roster.is_troubled(), Hit::Unsound),
        ] {
            if so {
                self.mark(Mark::Fault(fault, hit));
            }
        }
    }

    /// Notes what became of a request.
    pub(super) fn mark_request(&mut self, request: &Request, fate: Fate) {
        let kind = match request {
            Request::Range(_) => Kind::Range,
            Request::RangeStream(_) => Kind::RangeStream,
            Request::Put(_) => Kind::Put,
            Request::DeleteRange(_) => Kind::DeleteRange,
            Request::Txn(_) => Kind::Txn,
            Request::Compact(_) => Kind::Compact,
            Request::LeaseGrant(_) => Kind::LeaseGrant,
            Request::LeaseRevoke(_) => Kind::LeaseRevoke,
            Request::LeaseKeepAlive(_) => Kind::LeaseKeepAlive,
            Request::LeaseTimeToLive(_) => Kind::LeaseTimeToLive,
            Request::LeaseLeases => Kind::LeaseLeases,
            Request::HashKv(_) => Kind::HashKv,
            Request::Members(_) => Kind::Members,
            Request::MoveLeader(_) => Kind::MoveLeader,
            Request::Auth(_) => Kind::Auth,
            Request::Authenticate(_) => Kind::Authenticate,
            Request::MemberList(_)
            | Request::Status
            | Request::Defragment
            | Request::Hash
            | Request::Snapshot
            | Request::AuthQuery(_)
            | Request::Alarm(_) => return,
        };
        self.mark(Mark::Request(kind, fate));
    }
}

impl Fate {
    /// What an outcome is to whoever asked.
    pub(super) fn of(outcome: &Outcome) -> Self {
        match outcome {
            Outcome::Answered(_) => Self::Answered,
            Outcome::Refused(_) => Self::Refused,
            Outcome::Unknown => Self::Unknown,
        }
    }
}
