//! The replicated state, and what each command does to it.
//!
//! `apply` is a pure and total function of (state, entry): every member computes the same from the same log, for
//! ever. Nothing member-local may influence it, and no command can fail half-way: it yields a response or a
//! client error, and an error leaves the state as it was.

use alloc::collections::BTreeSet;
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::api::check::check_lease_grant;
use crate::api::etcdserverpb::alarm_request::AlarmAction;
use crate::api::etcdserverpb::{
    AlarmMember, AlarmRequest, AlarmResponse, AlarmType, CompactionResponse, DowngradeResponse,
    LeaseGrantResponse, LeaseRevokeResponse, MemberAddResponse, MemberPromoteResponse,
    MemberRemoveResponse, MemberUpdateResponse, PutRequest, TxnRequest,
};
use crate::api::{Error, KeyRange, Response};
use crate::auth::{Answer, Auth};
use crate::cluster::{Change, Cluster};
use crate::command::{Command, Stamp};
use crate::convert::to_u64;
use crate::ids::{LeaseId, MemberId};
use crate::lease::{ClusterTime, Lease, Lessor};
use crate::mvcc::{self, Store, txn};
use crate::quota;
use crate::raft::membership::Membership;
use crate::rng::Rng;

/// The changes of one revision, shared by everyone who watches.
pub type Changes = Arc<[mvcc::Change]>;

/// Everything that is replicated.
#[derive(Clone, Debug, Default)]
pub struct StateMachine {
    /// The key space.
    pub store: Store,
    /// The leases.
    pub lessor: Lessor,
    /// The alarms.
    pub alarms: Alarms,
    /// The time of the latest entry.
    pub time: ClusterTime,
    /// The members.
    pub cluster: Cluster,
    /// Users and roles; shared with those who permit reads.
    pub auth: Arc<Auth>,
    /// Stands for everything that was ever applied and what came of it: members with the same log and the same digest
    /// have the same state, but for damage that nothing has touched since.
    pub digest: u64,
}

/// What applying a command yields.
#[derive(Clone, Debug)]
pub struct Applied {
    /// The answer for whoever proposed it.
    pub outcome: Result<Outcome, Error>,
    /// What it changed, a revision at a time.
    pub changes: Vec<Changes>,
}

/// The answer to a command.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// An answer for a client.
    Response(Response),
    /// Each renewed lease with its TTL in seconds; 0 if there is none of that name any more.
    Renewed(Vec<(LeaseId, i64)>),
    /// Nobody waits for an answer.
    Nothing,
}

impl StateMachine {
    /// Applies a command that carries this stamp, if its author may do what it says.
    pub fn apply(&mut self, stamp: impl Into<Stamp>, command: Command) -> Applied {
        let applied = self.apply_command(&stamp.into(), command);
        self.note(&applied);
        applied
    }

    /// Applies an entry that changes who votes, and what else it means, if anything.
    pub fn apply_membership(
        &mut self,
        time: ClusterTime,
        membership: Membership,
        change: Option<Change>,
    ) -> Applied {
        self.time = self.time.max(time);
        let applied = self.members(change, Some(membership));
        self.note(&applied);
        applied
    }

    /// Mixes what an entry did into the digest.
    fn note(&mut self, applied: &Applied) {
        let mut hasher = crc32fast::Hasher::new();
        for change in applied.changes.iter().flat_map(|changes| changes.iter()) {
            hasher.update(change.record.as_bytes());
        }
        if let Err(error) = applied.outcome {
            hasher.update(error.message().as_bytes());
        }
        let crc = u64::from(hasher.finalize());
        let revision = self.store.revision().cast_unsigned();
        let leases = to_u64(self.lessor.len());
        // Where users were never spoken of, digests are those of versions that knew none.
        let auth = Some(self.auth.digest()).filter(|digest| *digest != 0);
        for word in [crc, revision, leases, self.time.0].into_iter().chain(auth) {
            self.digest = Rng::new(self.digest ^ word).next_u64();
        }
    }

    fn members(&mut self, change: Option<Change>, membership: Option<Membership>) -> Applied {
        self.cluster.apply(change.clone(), membership);
        let (header, members) = (None, self.cluster.to_messages());
        let response = match change {
            Some(Change::Add(record)) => {
                let member = self.cluster.message_of(MemberId(record.id));
                Response::MemberAdd(MemberAddResponse { header, member, members })
            }
            Some(Change::Remove(_)) => {
                Response::MemberRemove(MemberRemoveResponse { header, members })
            }
            Some(Change::Promote(_)) => {
                Response::MemberPromote(MemberPromoteResponse { header, members })
            }
            Some(Change::Update(..)) => {
                Response::MemberUpdate(MemberUpdateResponse { header, members })
            }
            Some(Change::Downgrade(_)) => {
                let version = self.cluster.version().into();
                Response::Downgrade(DowngradeResponse { header, version })
            }
            Some(Change::Publish(_) | Change::Forget(_) | Change::Only(_) | Change::Version(_))
            | None => return Applied { outcome: Ok(Outcome::Nothing), changes: Vec::new() },
        };
        unchanged(Ok(response))
    }

    fn apply_command(&mut self, stamp: &Stamp, command: Command) -> Applied {
        // Two leaders' clocks may overlap: time stands still rather than going back.
        self.time = self.time.max(stamp.time);
        let permitted = || self.auth.permit(&stamp.author, command.act(), Some(&self.lessor));
        let admitted = || self.alarms.admit(&command);
        // As in etcd, alarms are looked at before it is asked who may, but for what only root may.
        let refused = if matches!(command, Command::Compact(_)) {
            permitted().and_then(|()| admitted())
        } else {
            admitted().and_then(|()| permitted())
        };
        if let Err(error) = refused {
            return unchanged(Err(error));
        }
        match command {
            Command::Put(put) => self.put(&put),
            Command::DeleteRange(delete) => {
                let mut write = self.store.begin();
                let response = txn::run_delete_range(&mut write, &delete);
                let changes = write.finish();
                self.changed(Response::DeleteRange(response), changes)
            }
            Command::Txn(request) => self.txn(&request),
            Command::Compact(request) => {
                let outcome = self.store.compact(request.revision);
                unchanged(outcome.map(|()| Response::Compact(CompactionResponse::default())))
            }
            Command::LeaseGrant(request) => {
                if let Err(error) = check_lease_grant(&request) {
                    return unchanged(Err(error));
                }
                let (id, ttl) = (LeaseId(request.id), request.ttl);
                let deadline = self.time.after_seconds(ttl);
                let response =
                    LeaseGrantResponse { id: request.id, ttl, ..LeaseGrantResponse::default() };
                let granted = self.lessor.grant(Lease { id, ttl, deadline });
                unchanged(granted.map(|()| Response::LeaseGrant(response)))
            }
            Command::LeaseRevoke(request) => {
                let id = LeaseId(request.id);
                if self.lessor.get(id).is_none() {
                    return unchanged(Err(Error::LeaseNotFound));
                }
                let changes = self.end_lease(id);
                let response = Response::LeaseRevoke(LeaseRevokeResponse::default());
                Applied {
                    outcome: Ok(Outcome::Response(response)),
                    changes: changes.into_iter().collect(),
                }
            }
            Command::LeaseRenew(leases) => self.renew(leases),
            Command::LeaseExpire(leases) => {
                let changes = leases.into_iter().filter_map(|id| self.end_if_due(id)).collect();
                Applied { outcome: Ok(Outcome::Nothing), changes }
            }
            Command::Alarm(request) => unchanged(Ok(Response::Alarm(self.alarms.apply(&request)))),
            Command::Members(change) => self.members(Some(change), None),
            Command::Auth(change) => {
                let changed = Arc::make_mut(&mut self.auth).change(&change);
                unchanged(changed.map(|()| Response::Auth(Answer::Done(Default::default()))))
            }
            Command::Authenticate(assignment) => {
                let admitted = self.auth.admit_token(&assignment.name, assignment.checked);
                let answer = Answer::Authenticate(Default::default());
                unchanged(admitted.map(|()| Response::Auth(answer)))
            }
            Command::Tick => Applied { outcome: Ok(Outcome::Nothing), changes: Vec::new() },
        }
    }

    fn put(&mut self, put: &PutRequest) -> Applied {
        let lessor = &self.lessor;
        if let Err(error) = txn::check_put(&self.store, put, |id| lessor.get(id).is_some()) {
            return unchanged(Err(error));
        }
        let mut write = self.store.begin();
        let response = txn::run_put(&mut write, put);
        let changes = write.finish();
        self.changed(Response::Put(response), changes)
    }

    fn txn(&mut self, request: &TxnRequest) -> Applied {
        let lessor = &self.lessor;
        let mut write = self.store.begin();
        let outcome = txn::execute(&mut write, request, |id| lessor.get(id).is_some());
        let changes = write.finish();
        match outcome {
            Ok(response) => self.changed(Response::Txn(response), changes),
            Err(error) => {
                assert!(changes.is_empty(), "a transaction that fails changes nothing");
                unchanged(Err(error))
            }
        }
    }

    fn renew(&mut self, leases: Vec<LeaseId>) -> Applied {
        // Keys that are not to be trusted are not deleted, either: their lease goes when the alarm is gone.
        let may_end = !self.alarms.is_raised(AlarmKind::Corrupt);
        let mut changes = Vec::new();
        let mut renewed = Vec::with_capacity(leases.len());
        for id in leases {
            // Past its deadline it has ended already, though nobody said so yet (E1).
            if self.is_due(id) {
                if may_end {
                    changes.extend(self.end_lease(id));
                }
                renewed.push((id, 0));
            } else {
                renewed.push((id, self.lessor.renew(id, self.time).unwrap_or(0)));
            }
        }
        Applied { outcome: Ok(Outcome::Renewed(renewed)), changes }
    }

    fn is_due(&self, id: LeaseId) -> bool {
        self.lessor.get(id).is_some_and(|lease| lease.deadline <= self.time)
    }

    /// Ends a lease that is past its deadline (E1).
    fn end_if_due(&mut self, id: LeaseId) -> Option<Changes> {
        if self.is_due(id) { self.end_lease(id) } else { None }
    }

    /// Ends a lease and deletes its keys, in order, in one revision.
    fn end_lease(&mut self, id: LeaseId) -> Option<Changes> {
        let keys: Vec<_> = self.lessor.keys_of(id).cloned().collect();
        let mut write = self.store.begin();
        for key in keys {
            write.delete_range(&KeyRange::single(key));
        }
        let changes = write.finish();
        self.lessor.follow(&changes);
        self.lessor.remove(id);
        (!changes.is_empty()).then(|| changes.into())
    }

    fn changed(&mut self, response: Response, changes: Vec<mvcc::Change>) -> Applied {
        self.lessor.follow(&changes);
        let changes = if changes.is_empty() { Vec::new() } else { alloc::vec![changes.into()] };
        Applied { outcome: Ok(Outcome::Response(response)), changes }
    }

    /// Checks that the parts agree with each other (E2). O(n log n).
    ///
    /// # Panics
    /// If they do not.
    pub fn check(&self) {
        self.store.check();
        self.auth.check();
        if self.store.damage().is_some() {
            return; // Of what cannot be read nothing is known.
        }
        let everything = KeyRange::prefix(bytes::Bytes::new());
        let mut attached = 0;
        for record in self.store.current(&everything).filter(|record| record.lease().is_some()) {
            assert!(
                self.lessor.get(record.lease()).is_some(),
                "a key hangs on a lease that exists"
            );
            attached += 1;
        }
        let listed: usize =
            self.lessor.by_deadline().map(|lease| self.lessor.keys_of(lease.id).count()).sum();
        assert_eq!(attached, listed, "a key hangs on the lease that its record names (E2)");
    }
}

fn unchanged(outcome: Result<Response, Error>) -> Applied {
    Applied { outcome: outcome.map(Outcome::Response), changes: Vec::new() }
}

/// The alarms of the cluster: which member raised which.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Alarms(BTreeSet<(AlarmKind, MemberId)>);

/// An alarm that can be raised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AlarmKind {
    /// A member ran out of quota.
    NoSpace,
    /// A member's state differs from the others'.
    Corrupt,
}

impl AlarmKind {
    /// The kind in snapshots.
    pub const fn to_byte(self) -> u8 {
        match self {
            Self::NoSpace => 1,
            Self::Corrupt => 2,
        }
    }

    /// The kind that a byte stands for, if any.
    pub const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::NoSpace),
            2 => Some(Self::Corrupt),
            _ => None,
        }
    }

    /// The kind that a message names; `None` for the absence of an alarm.
    pub fn from_message(alarm: AlarmType) -> Option<Self> {
        match alarm {
            AlarmType::None => None,
            AlarmType::Nospace => Some(Self::NoSpace),
            AlarmType::Corrupt => Some(Self::Corrupt),
        }
    }

    /// The kind as messages name it.
    pub fn to_message(self) -> AlarmType {
        match self {
            Self::NoSpace => AlarmType::Nospace,
            Self::Corrupt => AlarmType::Corrupt,
        }
    }
}

impl Alarms {
    /// Whether any member raised this.
    pub fn is_raised(&self, kind: AlarmKind) -> bool {
        self.0.iter().any(|(raised, _)| *raised == kind)
    }

    /// The alarms raised, by kind and member.
    pub fn iter(&self) -> impl Iterator<Item = (AlarmKind, MemberId)> {
        self.0.iter().copied()
    }

    /// Raises an alarm; whether it was not raised before.
    pub fn raise(&mut self, kind: AlarmKind, member: MemberId) -> bool {
        self.0.insert((kind, member))
    }

    /// The alarms of a kind, or all, as a message.
    pub fn list(&self, kind: Option<AlarmKind>) -> AlarmResponse {
        let alarms = self.iter().filter(|(raised, _)| kind.is_none_or(|kind| kind == *raised));
        AlarmResponse { header: None, alarms: alarms.map(alarm_member).collect() }
    }

    fn apply(&mut self, request: &AlarmRequest) -> AlarmResponse {
        let Ok(alarm) = AlarmType::try_from(request.alarm) else {
            // A kind of the future, which nobody here can have raised.
            return AlarmResponse::default();
        };
        let kind = AlarmKind::from_message(alarm);
        let member = MemberId(request.member_id);
        let changed = match (request.action(), kind) {
            (AlarmAction::Get, kind) => return self.list(kind),
            (AlarmAction::Activate, Some(kind)) => {
                // Raising what is raised answers with it, too.
                self.raise(kind, member);
                Some((kind, member))
            }
            (AlarmAction::Deactivate, Some(kind)) => {
                self.0.remove(&(kind, member)).then_some((kind, member))
            }
            (AlarmAction::Activate | AlarmAction::Deactivate, None) => None,
        };
        AlarmResponse { header: None, alarms: changed.map(alarm_member).into_iter().collect() }
    }

    /// Whether a member has raised an alarm, or it was raised on its account.
    pub fn is_raised_by(&self, kind: AlarmKind, member: MemberId) -> bool {
        self.0.contains(&(kind, member))
    }

    /// Whether a command may be applied while these alarms are raised.
    fn admit(&self, command: &Command) -> Result<(), Error> {
        if self.0.is_empty() {
            return Ok(());
        }
        let writes = match command {
            Command::Put(_)
            | Command::DeleteRange(_)
            | Command::Txn(_)
            | Command::Compact(_)
            | Command::LeaseGrant(_)
            | Command::LeaseRevoke(_)
            | Command::LeaseExpire(_) => true,
            Command::LeaseRenew(_)
            | Command::Alarm(_)
            | Command::Members(_)
            | Command::Auth(_)
            | Command::Authenticate(_)
            | Command::Tick => false,
        };
        if writes && self.is_raised(AlarmKind::Corrupt) {
            return Err(Error::Corrupt);
        }
        let adds_data = match command {
            Command::Put(_) | Command::LeaseGrant(_) => true,
            Command::Txn(request) => quota::txn_cost(request) > 0,
            Command::DeleteRange(_)
            | Command::Compact(_)
            | Command::LeaseRevoke(_)
            | Command::LeaseRenew(_)
            | Command::LeaseExpire(_)
            | Command::Alarm(_)
            | Command::Members(_)
            | Command::Auth(_)
            | Command::Authenticate(_)
            | Command::Tick => false,
        };
        if adds_data && self.is_raised(AlarmKind::NoSpace) {
            return Err(Error::NoSpace);
        }
        Ok(())
    }
}

fn alarm_member((kind, member): (AlarmKind, MemberId)) -> AlarmMember {
    AlarmMember { member_id: member.0, alarm: kind.to_message().into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::etcdserverpb::LeaseGrantRequest;
    use crate::ids::MemberId;
    use bytes::Bytes;

    /// A lease of two seconds with one key on it.
    fn with_lease() -> StateMachine {
        let mut state = StateMachine::default();
        let grant = Command::LeaseGrant(LeaseGrantRequest { ttl: 2, id: 7 });
        assert!(state.apply(ClusterTime(0), grant).outcome.is_ok());
        let put = PutRequest { key: Bytes::from_static(b"a"), lease: 7, ..PutRequest::default() };
        assert!(state.apply(ClusterTime(0), Command::Put(put)).outcome.is_ok());
        state
    }

    fn renew(state: &mut StateMachine, time: u64) -> Vec<(LeaseId, i64)> {
        let applied = state.apply(ClusterTime(time), Command::LeaseRenew(alloc::vec![LeaseId(7)]));
        let Ok(Outcome::Renewed(renewed)) = applied.outcome else { panic!("{applied:?}") };
        renewed
    }

    fn alarm(action: AlarmAction, alarm: i32) -> Command {
        Command::Alarm(AlarmRequest { action: action.into(), member_id: 1, alarm })
    }

    fn alarms(state: &mut StateMachine, command: Command) -> usize {
        let applied = state.apply(ClusterTime(0), command);
        let Ok(Outcome::Response(Response::Alarm(response))) = applied.outcome else {
            panic!("{applied:?}")
        };
        response.alarms.len()
    }

    #[test]
    fn a_lease_that_is_past_its_deadline_is_not_renewed_but_ends() {
        let mut state = with_lease();
        assert_eq!(renew(&mut state, 1999), [(LeaseId(7), 2)]);
        assert_eq!(state.store.key_count(), 1);
        assert_eq!(renew(&mut state, 3999), [(LeaseId(7), 0)]);
        assert_eq!((state.store.key_count(), state.lessor.len()), (0, 0));
        state.check();
    }

    #[test]
    fn no_renewal_deletes_the_keys_of_a_corrupt_cluster() {
        let mut state = with_lease();
        let corrupt = AlarmType::Corrupt.into();
        assert_eq!(alarms(&mut state, alarm(AlarmAction::Activate, corrupt)), 1);
        assert_eq!(renew(&mut state, 2000), [(LeaseId(7), 0)], "it has ended all the same");
        assert_eq!((state.store.key_count(), state.store.revision()), (1, 2));
        assert_eq!(alarms(&mut state, alarm(AlarmAction::Deactivate, corrupt)), 1);
        assert_eq!(renew(&mut state, 2000), [(LeaseId(7), 0)]);
        assert_eq!((state.store.key_count(), state.store.revision()), (0, 3));
    }

    #[test]
    fn a_lease_that_lasts_too_long_is_refused_before_its_id_is_looked_at() {
        let mut state = with_lease();
        for id in [1, 2] {
            let request = LeaseGrantRequest { id, ttl: i64::MAX };
            let applied = state.apply(ClusterTime(0), Command::LeaseGrant(request));
            assert_eq!(applied.outcome.unwrap_err(), Error::LeaseTtlTooLarge);
        }
        assert_eq!(state.lessor.len(), 1);
    }

    #[test]
    fn nobody_has_raised_an_alarm_of_the_future() {
        const FUTURE: i32 = 3;
        let mut state = StateMachine::default();
        assert_eq!(alarms(&mut state, alarm(AlarmAction::Activate, FUTURE)), 0);
        assert!(state.alarms.raise(AlarmKind::NoSpace, MemberId(1)));
        assert_eq!(alarms(&mut state, alarm(AlarmAction::Get, FUTURE)), 0);
        assert_eq!(alarms(&mut state, alarm(AlarmAction::Get, AlarmType::None.into())), 1);
    }
}
