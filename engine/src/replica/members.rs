//! What a member does about the members: changes them at a client's wish, one after another, says who it is, and, if it
//! leads, sees to it that those whose disk was lost come back.

use alloc::collections::{BTreeMap, VecDeque};
use core::time::Duration;

use super::proposals::Waiter;
use super::trust::Trust;
use super::{Ask, Replica};
use crate::api::{Error, Response};
use crate::auth::{Act, Author};
use crate::cluster::{Change, Circumstances, Record, Wish};
use crate::command::{Command, Origin, Stamp};
use crate::event::{Event, Output, Peer};
use crate::ids::{MemberId, RequestId};
use crate::peer::{self, Incarnation};
use crate::raft::membership::Membership;
use crate::time::Time;

/// After so long without effect a member says again who it is.
const PUBLISH_RETRY: Duration = Duration::from_secs(1);
/// Wishes that wait for their turn. One takes a round or two, so nobody has more than a few.
const WISHES_MAX: usize = 64;

/// What is under way about the members.
#[derive(Debug, Default)]
pub(super) struct Members {
    /// Wishes that wait until no other change is under way, at a leader.
    wishes: VecDeque<Wished>,
    /// Answers that wait until two sets of voters overlap no more: then whoever was removed can be switched off.
    held: VecDeque<(RequestId, Response)>,
    /// When this member said last who it is.
    published: Option<Time>,
    /// The starts that have told this leader that their disk is not the one that made their promises.
    forgot: BTreeMap<MemberId, Forgot>,
    /// A client that waits until another member leads.
    transfer: Option<Transfer>,
}

/// A start that has told that it forgot.
#[derive(Clone, Copy, Debug)]
struct Forgot {
    life: Incarnation,
    /// Its member does not vote, or will not, or the cluster knows this start: nothing is to be done about it.
    seen_to: bool,
}

#[derive(Debug)]
struct Wished {
    wish: Wish,
    asker: Asker,
    deadline: Time,
}

/// Who has a wish.
#[derive(Debug)]
pub(super) enum Asker {
    /// A client of this member.
    Client(RequestId),
    /// One of another's.
    Peer(Origin),
}

#[derive(Debug)]
struct Transfer {
    id: RequestId,
    target: MemberId,
    /// Whether it suffices that this member leads no more.
    anybody: bool,
    deadline: Time,
}

impl Members {
    pub(super) fn deadline(&self) -> Option<Time> {
        let wish = self.wishes.front().map(|wished| wished.deadline);
        let transfer = self.transfer.as_ref().map(|transfer| transfer.deadline);
        wish.into_iter().chain(transfer).min()
    }

    /// Notes that a member's disk is not the one that made its promises.
    pub(super) fn note_forgot(&mut self, member: MemberId, incarnation: Incarnation) {
        let forgot = Forgot { life: incarnation, seen_to: false };
        let known = self.forgot.entry(member).or_insert(forgot);
        if known.life != incarnation {
            *known = forgot;
        }
    }

    /// The latest start of a member that has told that.
    pub(super) fn forgot(&self, member: MemberId) -> Incarnation {
        self.forgot.get(&member).map_or(Incarnation::NONE, |forgot| forgot.life)
    }

    /// This member leads no more: the wishes of its own clients, for whoever leads next.
    pub(super) fn stop_leading(&mut self) -> impl Iterator<Item = (Wish, RequestId)> + use<> {
        self.forgot.clear();
        core::mem::take(&mut self.wishes).into_iter().filter_map(|wished| match wished.asker {
            Asker::Client(id) => Some((wished.wish, id)),
            // Its own member asks the next leader.
            Asker::Peer(_) => None,
        })
    }
}

impl Replica {
    /// Takes a wish, at a leader, if its author may have it.
    pub(super) fn wish_of(&mut self, author: &Author, wish: Wish, asker: Asker) {
        match self.permit(author, Act::Root) {
            Ok(()) => self.wish(wish, asker),
            Err(error) => self.refuse_wish(asker, error),
        }
    }

    /// Takes a wish, at a leader, for when its turn comes.
    fn wish(&mut self, wish: Wish, asker: Asker) {
        if self.members.wishes.len() >= WISHES_MAX {
            return self.refuse_wish(asker, Error::RequestTooManyRequests);
        }
        let deadline = self.now + self.config.request_timeout();
        self.members.wishes.push_back(Wished { wish, asker, deadline });
    }

    /// What a member, leading or not, has to do about the members now.
    pub(super) fn tend_members(&mut self) {
        while self.members.wishes.front().is_some_and(|wished| wished.deadline <= self.now) {
            let wished = self.members.wishes.pop_front().expect("there is one");
            self.refuse_wish(wished.asker, Error::Timeout);
        }
        self.publish_self();
        self.end_transfer();
        if self.leading.is_none() {
            return;
        }
        while !self.members.wishes.is_empty() && self.may_change_members() {
            let Wished { wish, asker, .. } = self.members.wishes.pop_front().expect("there is one");
            self.grant_wish(&wish, asker);
        }
        if !self.version_checked && self.raft.is_settled() {
            self.version_checked = true;
            self.agree_on_version();
        }
        let somebody_returns = || self.state.cluster.records().any(|record| record.returns);
        let is_to_mend = self.config.force_new_cluster
            || self.members.forgot.values().any(|forgot| !forgot.seen_to)
            || somebody_returns();
        if is_to_mend && self.may_change_members() {
            self.mend_membership();
        }
    }

    /// Whether a change can be planned: none is under way, and the state holds all that were made.
    fn may_change_members(&self) -> bool {
        self.raft.may_change() && self.applied.index == self.raft.hard_state().commit
    }

    fn grant_wish(&mut self, wish: &Wish, asker: Asker) {
        let planned = self.state.cluster.plan(wish, &self.circumstances());
        let (change, membership) = match planned {
            Ok(planned) => planned,
            Err(error) => return self.refuse_wish(asker, error),
        };
        let (origin, waiter) = match asker {
            Asker::Client(id) => (None, Waiter::Client(id)),
            Asker::Peer(origin) => (Some(origin), Waiter::Nobody),
        };
        let command = Command::Members(change);
        let stamp = Stamp { time: self.keeper.stamp(self.now), origin, author: Author::Nobody };
        match membership {
            Some(membership) => self.change_membership(&membership, &command, stamp, waiter),
            None => self.propose_bytes(command.encode(stamp), waiter),
        }
    }

    fn change_membership(
        &mut self,
        membership: &Membership,
        command: &Command,
        stamp: Stamp,
        waiter: Waiter,
    ) {
        let context = command.encode(stamp);
        let place = self.raft.propose_membership(membership, &context).expect("it may change now");
        self.proposed(place, context.len(), waiter);
    }

    fn refuse_wish(&mut self, asker: Asker, error: Error) {
        match asker {
            Asker::Client(id) => self.reply(id, Err(error)),
            Asker::Peer(Origin { member, number }) => {
                self.send(member, peer::Body::Refused { number, error });
            }
        }
    }

    fn circumstances(&self) -> Circumstances {
        let last = self.raft.log().last_index().0;
        let own = self.config.id;
        let peers = || self.raft.peers(self.now);
        Circumstances {
            strict: self.config.strict_reconfig_check,
            learners_max: self.config.learners_max,
            active: peers().filter(|p| p.is_active).map(|p| p.id).chain([own]).collect(),
            ready: peers().filter(|p| p.matched.0 >= last - last / 10).map(|p| p.id).collect(),
        }
    }

    /// Says who this member is, until the cluster knows.
    fn publish_self(&mut self) {
        if !self.has_to_publish() {
            return;
        }
        let Some(known) = self.state.cluster.record(self.config.id) else { return };
        let record = Record {
            name: self.config.name.clone(),
            client_urls: self.config.client_urls.clone(),
            incarnation: self.config.lives.now.0,
            version: self.config.version.clone(),
            ..known.clone()
        };
        let waits = self.members.published.is_some_and(|at| self.now < at + PUBLISH_RETRY);
        if *known == record || waits || !self.raft.leader().is_some() {
            return;
        }
        self.members.published = Some(self.now);
        let command = Command::Members(Change::Publish(record));
        self.dispatch(Ask::Command(command), Author::Nobody, Waiter::Nobody);
    }

    /// Whether the cluster does not know this start of the member, and may.
    fn has_to_publish(&self) -> bool {
        let own = self.config.id;
        // Who may not promise would be counted on once it is known (T2).
        self.known != self.config.lives.now
            && self.state.cluster.membership().contains(own)
            && self.trust == Trust::Sound
    }

    /// When [`Replica::publish_self`] has something to say again.
    pub(super) fn publish_deadline(&self) -> Option<Time> {
        if !self.has_to_publish() || !self.raft.leader().is_some() {
            return None;
        }
        self.members.published.map(|at| at + PUBLISH_RETRY)
    }

    /// Lets the cluster have the version that its members ask for.
    fn agree_on_version(&mut self) {
        if let Some(change) = self.state.cluster.next_version() {
            self.propose(&Command::Members(change), Author::Nobody, Waiter::Nobody);
        }
    }

    /// Lets a member whose disk was lost learn, and vote again when it has caught up.
    fn mend_membership(&mut self) {
        let (cluster, own) = (&self.state.cluster, self.config.id);
        if self.config.force_new_cluster && cluster.membership().members().any(|id| id != own) {
            let change = Command::Members(Change::Only(own));
            return self.mend(&Membership::new([own]), &change);
        }
        // A start that is known by now has come back, and who does not vote has no vote to be taken away.
        for (id, forgot) in &mut self.members.forgot {
            forgot.seen_to |=
                cluster.incarnation(*id) == forgot.life || !cluster.membership().is_voter(*id);
        }
        let mut forgot = self.members.forgot.iter_mut().filter(|(_, forgot)| !forgot.seen_to);
        if let Some((&id, forgot)) = forgot.next()
            && let Some((change, membership)) = cluster.plan_forget(id)
        {
            forgot.seen_to = true;
            self.event(Event::MemberForgotten(id));
            return self.mend(&membership, &Command::Members(change));
        }
        let circumstances = self.circumstances();
        let returns = |record: &&Record| {
            let id = MemberId(record.id);
            let is_back = record.returns && record.incarnation != 0;
            is_back && circumstances.ready.contains(&id) && circumstances.active.contains(&id)
        };
        let back = cluster.records().find(returns).map(|record| MemberId(record.id));
        if let Some(id) = back
            && let Ok((change, Some(membership))) = cluster.plan(&Wish::Promote(id), &circumstances)
        {
            self.mend(&membership, &Command::Members(change));
        }
    }

    fn mend(&mut self, membership: &Membership, command: &Command) {
        let stamp = self.keeper.stamp(self.now).into();
        self.change_membership(membership, command, stamp, Waiter::Nobody);
    }

    /// Answers a client about a change of the members: at once, or when two sets of voters overlap no more, so that
    /// a member that was removed may be switched off when its removal is answered.
    pub(super) fn answer_change(&mut self, id: RequestId, response: Response) {
        let overlap = self.state.cluster.membership().is_joint();
        if overlap && !matches!(response, Response::MemberAdd(_)) {
            self.members.held.push_back((id, response));
        } else {
            self.reply(id, Ok(response));
        }
    }

    /// Follows what an entry about the members changed.
    pub(super) fn members_changed(&mut self) {
        let cluster = &self.state.cluster;
        let own = self.config.id;
        if !cluster.membership().is_joint() {
            let members = cluster.to_messages();
            for (id, mut response) in core::mem::take(&mut self.members.held) {
                set_members(&mut response, &members);
                self.reply(id, Ok(response));
            }
        }
        self.version_checked = false;
        let cluster = &self.state.cluster;
        let other = |record: &&Record| record.id != own.0;
        let to_peer =
            |record: &Record| Peer { id: MemberId(record.id), urls: record.peer_urls.clone() };
        let peers = cluster.records().filter(other).map(to_peer).collect();
        let members = cluster.to_messages();
        let known = cluster.incarnation(own);
        self.outputs.push_back(Output::Peers(peers));
        self.event(Event::Members(members));
        let is_known = known.is_some() && known == self.config.lives.now;
        if is_known && self.known != known {
            self.outputs.push_back(Output::Known(known));
            self.event(Event::Published);
        }
        // It may be forgotten again, if it said that it had forgotten before it was known.
        self.known = if is_known { known } else { Incarnation::NONE };
    }

    // Handing over.

    /// A client wants another member to lead.
    pub(super) fn move_leader(&mut self, id: RequestId, target: MemberId) {
        let own = self.config.id;
        let anybody = !target.is_some();
        if self.leading.is_none() {
            let outcome = if anybody { Ok(moved()) } else { Err(Error::NotLeader) };
            return self.reply(id, outcome);
        }
        let target =
            if anybody { self.raft.successor(self.now, |_| true).unwrap_or(own) } else { target };
        if target == own {
            return self.reply(id, Ok(moved()));
        }
        if !self.raft.membership().incoming().any(|voter| voter == target) {
            return self.reply(id, Err(Error::BadLeaderTransferee));
        }
        if let Some(earlier) = self.members.transfer.take() {
            self.reply(earlier.id, Err(Error::TimeoutLeaderTransfer));
        }
        let deadline = self.now + self.config.election_timeout;
        self.members.transfer = Some(Transfer { id, target, anybody, deadline });
        self.raft.transfer(self.now, target).expect("this member leads");
    }

    /// Answers whoever waits until another member leads.
    fn end_transfer(&mut self) {
        let leader = self.raft.leader();
        let Some(transfer) = &self.members.transfer else { return };
        let gone = transfer.anybody && self.leading.is_none();
        let outcome = if leader == transfer.target || gone {
            Ok(moved())
        } else if transfer.deadline <= self.now {
            Err(Error::TimeoutLeaderTransfer)
        } else {
            return;
        };
        let id = transfer.id;
        self.members.transfer = None;
        self.reply(id, outcome);
    }
}

fn moved() -> Response {
    Response::MoveLeader(crate::api::etcdserverpb::MoveLeaderResponse::default())
}

/// Shows the members as they are when an answer leaves.
fn set_members(response: &mut Response, members: &[crate::api::etcdserverpb::Member]) {
    if let Response::MemberRemove(response) = response {
        response.members = members.to_vec();
    } else if let Response::MemberPromote(response) = response {
        response.members = members.to_vec();
    }
}
