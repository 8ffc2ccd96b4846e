//! The members of a run: who comes, who goes, whose disk is lost, and who is left alone in the end.
//!
//! Nothing impossible may be asked. What no protocol can give, and so is left out:
//!
//! - A cluster of which no majority of the disks is sound is lost; so a disk is lost only if enough others are not, and
//!   while one is, nobody changes the members.
//! - Blank disks that are a majority of those who begin are a new cluster, whoever else there is: nobody can tell them
//!   from one.
//! - A member of which the cluster knows no start yet votes for nobody who has a log; so no change of the members makes
//!   a majority need it.
//! - A disk that was set back does not know it until somebody says so, and promises anew what it promised before. So
//!   before one is set back everything else is mended, the leader's is not, and nothing else happens from then until the
//!   cluster has noticed, which must be soon: this is a *recess*.

use std::collections::BTreeSet;

use cairn_engine::api::Request;
use cairn_engine::cluster::Wish;
use cairn_engine::{MemberId, Replica};

use super::deeds::Deed;
use super::{Alarm, MILLI, Phase, Run, SECOND};
use crate::check::{Violation, ensure};
use crate::clock::Clock;
use crate::disk::Torn;
use crate::network::Quality;
use crate::swarm::CLUSTER;
use crate::trace::Note;

/// What is known about the members beside what the log says.
#[derive(Debug, Default)]
pub(super) struct Roster {
    /// The last id that was given.
    last: u64,
    /// Whose disk is not the one that made their promises, until the cluster counts on them anew.
    unsound: BTreeSet<MemberId>,
    /// Whose disk was lost before it started last: it may hear of that after the cluster has got over it, from words that
    /// were under way for long.
    may_hear_late: BTreeSet<MemberId>,
    /// Who stays down.
    pub(super) banished: BTreeSet<MemberId>,
    /// Whoever is left, when all others are out of reach for ever.
    pub(super) core: Option<BTreeSet<MemberId>>,
    /// When the operator last wanted something.
    pub(super) wished_ns: u64,
    /// Nothing goes wrong any more, so that a disk can be set back; given up then.
    recess_until_ns: Option<u64>,
    /// A disk was set back, and by then the cluster must have noticed.
    notice_by_ns: Option<u64>,
}

/// More members than this are not added.
const MEMBERS_MAX: usize = 7;
/// A recess is given up after this: an operator's wish may be under way for long.
const RECESS_NS: u64 = 40 * SECOND;
/// Whoever asks for changes of the members, as a client.
pub(super) const OPERATOR: u64 = u64::MAX;

fn wish_of(request: &Request) -> Option<&Wish> {
    if let Request::Members(wish) = request { Some(wish) } else { None }
}

impl Roster {
    pub(super) fn new(members: u64) -> Self {
        Self { last: members, ..Self::default() }
    }

    /// Whether somebody's disk was lost, and the cluster has not got over it.
    pub(super) fn is_unsound(&self, id: MemberId) -> bool {
        self.unsound.contains(&id)
    }

    /// Whether somebody may say that a member's disk was lost.
    pub(super) fn may_be_called_lost(&self, id: MemberId) -> bool {
        self.is_unsound(id) || self.may_hear_late.contains(&id)
    }

    /// A member starts: what it hears late was about an earlier start, unless the loss is not got over.
    pub(super) fn starts(&mut self, id: MemberId) {
        if !self.is_unsound(id) {
            self.may_hear_late.remove(&id);
        }
    }

    /// Whether the cluster has to get over the loss of a disk.
    pub(super) fn is_troubled(&self) -> bool {
        !self.unsound.is_empty()
    }

    /// Whether nothing may happen but what has.
    pub(super) fn is_quiet(&self) -> bool {
        self.notice_by_ns.is_some() || self.recess_until_ns.is_some()
    }
}

impl Run {
    /// Those who take part now, as the log says.
    pub(super) fn everybody(&self) -> BTreeSet<MemberId> {
        self.history.sets(self.history.last()).everybody()
    }

    /// Those who must serve: everybody, or whoever is left.
    pub(super) fn servants(&self) -> BTreeSet<MemberId> {
        self.roster.core.clone().unwrap_or_else(|| self.everybody())
    }

    pub(super) fn plan_operation(&mut self) {
        if self.swarm.operate_every_ns > 0 {
            let wait = self.random.magnitude(MILLI, 2 * self.swarm.operate_every_ns);
            self.alarm(wait, Alarm::Operate);
        }
    }

    /// Changes the members somehow.
    pub(super) fn operate(&mut self) {
        if self.phase == Phase::Calm {
            return;
        }
        self.plan_operation();
        if !self.may_operate() {
            return;
        }
        let Some(asked) = self.a_member() else { return };
        if let Some(wish) = self.wish_for_a_version() {
            return self.ask(OPERATOR, asked, Request::Members(wish));
        }
        let sets = self.history.sets(self.history.last()).clone();
        let everybody: Vec<_> = sets.everybody().into_iter().collect();
        let learners: Vec<_> = sets.learners.iter().copied().collect();
        let somebody = *self.random.pick(&everybody);
        let request = match self.random.below(10) {
            0 | 1 if everybody.len() < MEMBERS_MAX => {
                let learner = self.random.chance(1, 2) || !self.may_add_a_voter();
                let id = self.new_member();
                let peer_urls = vec![format!("http://m{}:2380", id.0)];
                Request::Members(Wish::Add { id, peer_urls, learner })
            }
            2 | 3 => {
                let id = if learners.is_empty() { somebody } else { *self.random.pick(&learners) };
                Request::Members(Wish::Promote(id))
            }
            4..=6 => {
                let down = everybody.iter().copied().find(|id| !self.world.is_up(*id));
                let id = down.filter(|_| self.random.chance(1, 2)).unwrap_or(somebody);
                if !self.may_remove(id) {
                    return;
                }
                Request::Members(Wish::Remove(id))
            }
            7 => {
                let port = self.random.between(2380, 2390);
                let urls = vec![format!("http://m{}:{port}", somebody.0)];
                Request::Members(Wish::Update(somebody, urls))
            }
            8 => Request::MoveLeader(MemberId::NONE),
            _ => Request::MoveLeader(somebody),
        };
        self.ask(OPERATOR, asked, request);
    }

    /// Whether the members may be changed now.
    fn may_operate(&self) -> bool {
        let waits = self.questions.values().any(|question| question.client == OPERATOR);
        self.roster.unsound.is_empty() && !waits && !self.roster.is_quiet()
    }

    /// Whether what an operator wishes is fair.
    pub(super) fn may_wish(&self, request: &Request) -> bool {
        self.may_operate()
            && match wish_of(request) {
                Some(Wish::Add { learner: false, .. }) => self.may_add_a_voter(),
                Some(Wish::Remove(id)) => self.may_remove(*id),
                Some(
                    Wish::Add { .. }
                    | Wish::Promote(_)
                    | Wish::Update(..)
                    | Wish::MayDowngrade(_)
                    | Wish::Downgrade(_)
                    | Wish::StayUp,
                )
                | None => true,
            }
    }

    /// Whoever is needed for a majority has to be there, and known.
    fn may_add_a_voter(&self) -> bool {
        let voters = &self.history.sets(self.history.last()).voters;
        2 * voters.iter().filter(|id| self.is_known(**id)).count() > voters.len() + 1
    }

    fn may_remove(&self, id: MemberId) -> bool {
        let voters = &self.history.sets(self.history.last()).voters;
        let rest: Vec<_> = voters.iter().filter(|voter| **voter != id).collect();
        2 * rest.iter().filter(|id| self.is_known(***id)).count() > rest.len()
    }

    /// Whether the cluster knows a start of a member, so that it votes for whoever has a log.
    fn is_known(&self, id: MemberId) -> bool {
        self.history.cluster().incarnation(id).is_some()
    }

    /// A member with an empty disk, that starts before it is added, or after.
    fn new_member(&mut self) -> MemberId {
        self.roster.last += 1;
        let id = MemberId(self.roster.last);
        let offset_ns = self.random.below(1000 * SECOND);
        self.join(id, offset_ns);
        let wait = self.random.magnitude(MILLI, 8 * SECOND);
        let at_once = self.random.chance(1, 3);
        self.alarm(if at_once { 0 } else { wait }, Alarm::Restart(id));
        id
    }

    /// A member is there that was not.
    pub(super) fn join(&mut self, id: MemberId, offset_ns: u64) {
        self.note_deed(|| Deed::Join(id, offset_ns));
        self.roster.last = self.roster.last.max(id.0);
        self.world.add_member(self.swarm.config(id), Clock { offset_ns, drift_ppm: 0 });
    }

    /// The members changed: some disks count again, some members are gone.
    pub(super) fn follow_members(&mut self) {
        let cluster = self.history.cluster();
        let (world, sets) = (&self.world, self.history.sets(self.history.last()));
        self.roster.unsound.retain(|id| {
            let Some(record) = cluster.record(*id) else { return false };
            let life = cluster.incarnation(*id);
            let known = life.is_some() && life == world.incarnation(*id);
            !known || record.returns || !sets.outgoing.is_empty()
        });
        let noticed = sets.outgoing.is_empty()
            && self.roster.unsound.iter().all(|id| !sets.voters.contains(id));
        if noticed {
            self.roster.notice_by_ns = None;
        }
    }

    /// Objects if a disk was set back long ago and nobody has noticed.
    ///
    /// # Errors
    /// If so.
    pub(super) fn check_noticed(&self) -> Result<(), Violation> {
        let late = self.roster.notice_by_ns.is_some_and(|by| by < self.world.now_ns());
        ensure(!late, "trust", || {
            format!("the disks of {:?} were set back, and nobody noticed", self.roster.unsound)
        })
    }

    /// Whether a member's state may be lost, and not its log: somebody must be left who can bring it.
    pub(super) fn may_lose_state(&self) -> bool {
        self.members().len() == 1 || self.decayed.is_empty() && self.roster.unsound.is_empty()
    }

    /// Whether a member's disk may be lost.
    fn may_lose(&mut self, id: MemberId) -> bool {
        if !self.decayed.is_empty() {
            return false;
        }
        let last = self.history.last();
        let sets = self.history.sets(last).clone();
        let timeout = self.request_timeout;
        let wishes_ns = 2 * u64::try_from(timeout.as_nanos()).expect("a while");
        let cluster = self.history.cluster();
        let others = |other: MemberId| {
            let is_known = cluster.incarnation(other).is_some();
            other != id && is_known && !self.roster.unsound.contains(&other)
        };
        if !sets.has_majority(others)
            || !sets.outgoing.is_empty()
            || self.roster.notice_by_ns.is_some()
            || self.roster.wished_ns > 0 && self.world.now_ns() < self.roster.wished_ns + wishes_ns
        {
            return false;
        }
        let originals: Vec<_> = (1..=self.swarm.members).map(MemberId).collect();
        let blank =
            originals.iter().filter(|other| **other == id || self.is_blank(**other)).count();
        2 * blank < originals.len()
    }

    /// Whether a member's disk holds nothing.
    pub(super) fn is_blank(&mut self, id: MemberId) -> bool {
        self.world.disk(id).is_blank(CLUSTER, id)
    }

    /// A member's disk is lost, if that is fair.
    pub(super) fn wipe(&mut self, id: MemberId, torn: Torn) {
        if !self.may_lose(id) {
            return;
        }
        self.tally.wiped += 1;
        self.world.crash(id, torn);
        self.world.wipe(id);
        self.forget(id);
    }

    fn forget(&mut self, id: MemberId) {
        self.rot.remove(&id);
        self.history.forgot(id);
        if self.everybody().contains(&id) {
            self.roster.unsound.insert(id);
            self.roster.may_hear_late.insert(id);
        }
        let now_ns = self.world.now_ns();
        self.trace
            .note(now_ns, || Note::Of(id, format!("the disk of {} is not what it was", id.0)));
    }

    /// Mends everything, and lets nothing else go wrong, so that soon a disk can be set back.
    pub(super) fn begin_recess(&mut self) {
        self.roster.recess_until_ns = Some(self.world.now_ns() + RECESS_NS);
        self.world.network.heal();
        self.world.network.quality = Quality::default();
        for id in self.members() {
            self.world.mend_disk(id);
            self.world.spare(id);
            self.world.resume_if_paused(id);
            self.start(id);
        }
    }

    /// Sets a disk back to a copy, if there is a recess and it is fair by now; sees to it that there will be a copy.
    pub(super) fn use_recess(&mut self) {
        let now_ns = self.world.now_ns();
        let Some(until) = self.roster.recess_until_ns else { return };
        if until < now_ns || self.phase == Phase::Calm {
            self.roster.recess_until_ns = None;
            return;
        }
        if self.is_planned() {
            return;
        }
        let fair = self.fair_to_set_back();
        if fair.is_empty() {
            return;
        }
        let able: Vec<_> = fair.iter().copied().filter(|id| self.has_old_copy(*id)).collect();
        if able.is_empty() {
            let id = *self.random.pick(&fair);
            return self.copy_and_restart(id);
        }
        let id = *self.random.pick(&able);
        self.set_back(id);
    }

    /// Whose disk may be set back, in a recess in which everything is mended.
    pub(super) fn fair_to_set_back(&mut self) -> Vec<MemberId> {
        let leader = self.leases.leader().filter(|id| self.world.is_up(*id));
        let Some(leader) = leader.filter(|_| self.roster.recess_until_ns.is_some()) else {
            return Vec::new();
        };
        let settled = self.world.replica(leader).is_some_and(|replica| replica.raft().is_settled());
        let everybody = self.everybody();
        let all_up = everybody.iter().all(|id| self.world.is_up(*id));
        let known =
            |id: &MemberId| self.history.cluster().incarnation(*id) == self.world.incarnation(*id);
        if !settled || !all_up || !everybody.iter().all(known) || !self.roster.unsound.is_empty() {
            return Vec::new();
        }
        let followers: Vec<_> = everybody.into_iter().filter(|id| *id != leader).collect();
        followers.into_iter().filter(|id| self.may_lose(*id)).collect()
    }

    /// Whether the copy of a member's disk does not know of the start that the cluster knows.
    pub(super) fn has_old_copy(&self, id: MemberId) -> bool {
        let known = self.history.cluster().incarnation(id);
        self.world.image_lives(id).is_some_and(|lives| !lives.contains(&known))
    }

    /// What a copy does not know is that its member has started since.
    pub(super) fn copy_and_restart(&mut self, id: MemberId) {
        self.note_deed(|| Deed::Copy(id));
        self.copy_disk(id);
        self.world.crash(id, Torn::Nothing);
        self.world.start(id);
    }

    /// Copies a member's disk, unless that says that the member is all there is: it would lead before anybody could say
    /// otherwise.
    pub(super) fn copy_disk(&mut self, id: MemberId) {
        let replica = self.world.replica(id);
        let has_others = |it: &Replica| !it.raft().membership().is_alone(id);
        if replica.is_some_and(has_others) && !self.decayed.contains(&id) {
            self.world.take_image(id);
        }
    }

    /// Sets a disk back to its copy.
    pub(super) fn set_back(&mut self, id: MemberId) {
        self.note_deed(|| Deed::SetBack(id));
        let now_ns = self.world.now_ns();
        self.tally.rolled_back += 1;
        self.roster.recess_until_ns = None;
        self.world.crash(id, Torn::Nothing);
        self.world.roll_back(id);
        self.forget(id);
        self.roster.notice_by_ns = Some(now_ns + self.patience_ns());
        self.world.start(id);
        // A learner promises nothing that counts.
        if self.history.sets(self.history.last()).learners.contains(&id) {
            self.roster.notice_by_ns = None;
        }
    }

    /// All but a majority, whose links are whole, are out of reach for ever, each in its own way; the rest serves.
    pub(super) fn leave_alone(&mut self) -> Result<(), Violation> {
        let mut voters: Vec<_> =
            self.history.sets(self.history.last()).voters.iter().copied().collect();
        if voters.len() < 3 || self.random.chance(1, 3) {
            return Ok(());
        }
        self.tally.left_alone += 1;
        let spare = u64::try_from((voters.len() - 1) / 2).expect("a few");
        for _ in 0..self.random.between(1, spare) {
            let place = self.random.below(u64::try_from(voters.len()).expect("a few"));
            voters.remove(usize::try_from(place).expect("a few"));
        }
        let mut core: BTreeSet<_> = voters.into_iter().collect();
        for id in self.history.sets(self.history.last()).learners.clone() {
            if self.random.chance(1, 2) {
                core.insert(id);
            }
        }
        let all = self.members();
        self.trace.note(self.world.now_ns(), || Note::Other(format!("{core:?} are left alone")));
        for outside in all.iter().copied().filter(|id| !core.contains(id)) {
            if self.random.chance(1, 3) && self.world.is_up(outside) {
                self.roster.banished.insert(outside);
                self.world.crash(outside, Torn::Nothing);
            }
            for other in all.iter().copied().filter(|other| *other != outside) {
                match self.random.below(if core.contains(&other) { 3 } else { 4 }) {
                    0 => {
                        self.world.network.cut(outside, other);
                        self.world.network.cut(other, outside);
                    }
                    1 => self.world.network.cut(outside, other),
                    2 => self.world.network.cut(other, outside),
                    _ => {}
                }
            }
        }
        // As any cut, this may take the leader's majority away.
        self.leases.disturbed(self.world.now_ns());
        self.move_streams(&core);
        self.roster.core = Some(core);
        self.until("liveness", self.patience_ns(), Self::settled)?;
        self.serve();
        self.until("liveness", self.patience_ns(), Self::settled)?;
        self.roster.core = None;
        self.roster.banished.clear();
        self.leases.disturbed(self.world.now_ns());
        self.world.network.heal();
        for id in self.everybody() {
            self.start(id);
        }
        self.until("liveness", self.patience_ns(), Self::settled)
    }
}
