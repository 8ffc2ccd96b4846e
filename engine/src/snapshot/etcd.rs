//! A copy of the state in the format of etcd's own snapshots: a bbolt file and its SHA-256.

use alloc::string::String;
use alloc::vec::Vec;

use crate::config::Member;
use crate::cow::CowTree;
use crate::ids::{ClusterId, MemberId};
use crate::lease::{ClusterTime, Lease};
use crate::mvcc::View;
use crate::mvcc::compact::Sweep;
use crate::raft::{Index, Term};
use crate::state_machine::Alarms;

/// What such a file holds.
#[derive(Clone, Debug)]
pub struct EtcdState {
    /// The cluster.
    pub cluster: ClusterId,
    /// The member that is asked.
    pub member: MemberId,
    /// All members.
    pub members: Vec<Member>,
    /// The version of the cluster, such as `3.7.0`.
    pub version: String,
    /// The last index whose effect is in the state, and its term.
    pub applied: (Index, Term),
    /// The key space.
    pub view: View,
    /// Its sweep under way.
    pub sweep: Option<Sweep>,
    /// The leases.
    pub leases: CowTree<Lease>,
    /// The time, to tell how long a lease has.
    pub time: ClusterTime,
    /// The alarms.
    pub alarms: Alarms,
}

/// The file, a part at a time.
#[derive(Clone, Debug)]
pub struct EtcdSnapshot {
    state: EtcdState,
}

impl EtcdSnapshot {
    /// The file of this state.
    pub fn new(state: EtcdState) -> Self {
        Self { state }
    }
}
