//! A member for the tests of this module.

use alloc::vec::Vec;
use core::time::Duration;

use super::{Config, Durable, HardState, Log, LogEnd, Membership, Raft};
use crate::ids::MemberId;
use crate::rng::Rng;
use crate::time::Time;

pub(super) const TIMEOUT: Duration = Duration::from_secs(1);
pub(super) const HEARTBEAT: Duration = Duration::from_millis(100);

/// One of three voters, none of which has a log.
pub(super) fn one_of_three(id: u64) -> Raft {
    let config = Config {
        id: MemberId(id),
        election_timeout: TIMEOUT,
        heartbeat_interval: HEARTBEAT,
        append_bytes_max: 1 << 20,
        appends_in_flight_max: 16,
    };
    let durable = Durable {
        hard_state: HardState::default(),
        log: Log::new(LogEnd::default(), Vec::new()),
        membership: Membership::new((1..=3).map(MemberId)),
    };
    Raft::new(config, durable, Rng::new(id), Time::ZERO)
}
