//! Many leases that are granted at once, each with keys, and end together: often while leadership changes.
//!
//! What ends them is one leader's work in parts; whoever leads next goes on where it stopped. Whether none ends early,
//! late, twice or half is for the chapters on [leases](crate::check::leases) and [history](crate::check::history).

use bytes::Bytes;
use cairn_engine::api::Request;
use cairn_engine::api::etcdserverpb::{LeaseGrantRequest, PutRequest};
use cairn_engine::auth::Credential;

use super::alarm::Alarm;
use super::{MILLI, Phase, Run, SECOND};
use crate::swarm::Swarm;
use crate::workload::Client;

/// Who asks for them: it asks for many things at once, and is never answered before it asks again.
pub(super) const STORM: u64 = u64::MAX - 1;
/// Names of leases that nobody else uses.
const FIRST_LEASE: i64 = 1000;
/// Leases of a storm.
const LEASES_MAX: u64 = 60;

impl Run {
    pub(super) fn plan_storm(&mut self) {
        if self.swarm.storm_every_ns > 0 {
            let wait = self.later.magnitude(MILLI, 2 * self.swarm.storm_every_ns);
            self.alarm(wait, Alarm::Storm);
        }
    }

    /// Where an append has room for one entry and an entry ends one lease, what is asked at once waits for as many turns of
    /// the log: nothing is late before that.
    fn excuse_storm(&mut self, ttl: i64, leases: u64) {
        let Swarm { delays, network, .. } = &self.swarm;
        let turn_ns = 2 * delays.write_ns + 2 * (network.delay_ns + network.jitter_ns);
        let all_ns = 4 * leases * turn_ns;
        if all_ns > SECOND / 2 {
            let ttl_ns = u64::try_from(ttl).expect("positive") * SECOND;
            self.leases.disturbed(self.world.now_ns() + ttl_ns + all_ns);
        }
    }

    /// Grants many leases, and lets something go wrong about when they end.
    pub(super) fn storm(&mut self) {
        if self.phase == Phase::Calm || self.roster.is_quiet() {
            return;
        }
        self.plan_storm();
        let up: Vec<_> = self.members().into_iter().filter(|id| self.world.is_up(*id)).collect();
        if up.is_empty() {
            return;
        }
        let member = *self.later.pick(&up);
        let ttl = self.swarm.config(member).lease_ttl_min();
        let as_member = Client { credential: Credential::Member, user: None };
        let shard = cairn_engine::ShardId(0);
        let leases = self.later.between(5, LEASES_MAX);
        self.excuse_storm(ttl, leases);
        for number in 0..i64::try_from(leases).expect("a few") {
            let lease = FIRST_LEASE + number;
            let grant = Request::LeaseGrant(LeaseGrantRequest { id: lease, ttl });
            self.ask_as(STORM, (member, shard), as_member.clone(), grant);
            if self.later.chance(1, 2) {
                let key = Bytes::from(format!("bc/storm/{}", self.later.below(LEASES_MAX)));
                let put = PutRequest { key, lease, ..PutRequest::default() };
                self.ask_as(STORM, (member, shard), as_member.clone(), Request::Put(put));
            }
        }
        if self.swarm.fault_every_ns > 0 && self.later.chance(2, 3) {
            let ends_ns = u64::try_from(ttl).expect("positive") * SECOND;
            let around = self.later.below(400 * MILLI);
            self.alarm((ends_ns + around).saturating_sub(100 * MILLI), Alarm::Strike);
        }
    }
}
