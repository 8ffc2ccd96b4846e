//! The state as chunks, one at a time.

use alloc::sync::Arc;
use alloc::vec::Vec;

use prost::Message as _;
use prost::encoding::encode_varint;

use super::{
    AUTH_NUMBERS, AUTH_ROLE, AUTH_USER, CHUNK_BYTES_GOAL, CHUNK_HEADER_BYTES, FORMAT, MAGIC,
    NO_SWEEP, Position, Section, chunk_checksum,
};
use crate::auth::Auth;
use crate::cluster::Cluster;
use crate::convert::to_u64;
use crate::cow::CowTree;
use crate::ids::{ClusterId, LeaseId};
use crate::lease::{ClusterTime, Lease};
use crate::mvcc::compact::Sweep;
use crate::mvcc::{Revision, View};
use crate::state_machine::{Alarms, StateMachine};

/// A snapshot on its way out. Holds the state of one moment and changes nothing.
#[derive(Debug)]
pub struct SnapshotWriter {
    cluster: ClusterId,
    position: Position,
    view: View,
    sweep: Option<Sweep>,
    leases: CowTree<Lease>,
    alarms: Alarms,
    members: Cluster,
    digest: u64,
    auth: Arc<Auth>,
    time: ClusterTime,
    next: Next,
    sequence: u32,
    records: u64,
    with_records: bool,
}

/// What the next chunk holds.
#[derive(Clone, Copy, Debug)]
enum Next {
    Header,
    Records {
        from: Revision,
    },
    Leases {
        after: Option<LeaseId>,
    },
    Alarms,
    Cluster,
    /// So many roles and users were written.
    Auth {
        written: usize,
    },
    End,
    Nothing,
}

impl SnapshotWriter {
    /// A snapshot of the state as it is now, which is the state at `position`.
    pub fn new(cluster: ClusterId, position: Position, state: &StateMachine) -> Self {
        Self {
            cluster,
            position,
            view: state.store.view(),
            sweep: state.store.sweeping(),
            leases: state.lessor.leases(),
            alarms: state.alarms.clone(),
            members: state.cluster.clone(),
            digest: state.digest,
            auth: Arc::clone(&state.auth),
            time: state.time,
            next: Next::Header,
            sequence: 0,
            records: 0,
            with_records: true,
        }
    }

    /// A snapshot that leaves out the history, which is kept elsewhere.
    pub fn without_records(cluster: ClusterId, position: Position, state: &StateMachine) -> Self {
        Self { with_records: false, ..Self::new(cluster, position, state) }
    }

    /// What the snapshot covers.
    pub fn position(&self) -> Position {
        self.position
    }

    /// The next chunk, a slice of work; `None` after the last.
    pub fn next_chunk(&mut self) -> Option<Vec<u8>> {
        let mut body = Vec::new();
        let section = match self.next {
            Next::Header => {
                self.header(&mut body);
                self.next = if self.with_records {
                    Next::Records { from: Revision::ZERO }
                } else {
                    Next::Leases { after: None }
                };
                Section::Header
            }
            Next::Records { from } => {
                self.next = self.records(from, &mut body);
                Section::Records
            }
            Next::Leases { after } => {
                self.next = self.leases(after, &mut body);
                Section::Leases
            }
            Next::Alarms => {
                for (kind, member) in self.alarms.iter() {
                    body.push(kind.to_byte());
                    body.extend_from_slice(&member.0.to_le_bytes());
                }
                self.next = Next::Cluster;
                Section::Alarms
            }
            Next::Cluster => {
                body.extend_from_slice(&self.digest.to_le_bytes());
                self.members.encode(&mut body);
                self.next = Next::Auth { written: 0 };
                Section::Cluster
            }
            Next::Auth { written } => {
                self.next = self.auth(written, &mut body);
                Section::Auth
            }
            Next::End => {
                body.extend_from_slice(&self.records.to_le_bytes());
                body.extend_from_slice(&to_u64(self.leases.len()).to_le_bytes());
                self.next = Next::Nothing;
                Section::End
            }
            Next::Nothing => return None,
        };
        let mut chunk = Vec::with_capacity(CHUNK_HEADER_BYTES + body.len());
        let length = u32::try_from(body.len()).expect("chunks are limited");
        let crc = chunk_checksum(section.to_byte(), self.sequence, &body);
        chunk.extend_from_slice(&length.to_le_bytes());
        chunk.extend_from_slice(&crc.to_le_bytes());
        chunk.push(section.to_byte());
        chunk.extend_from_slice(&self.sequence.to_le_bytes());
        chunk.extend_from_slice(&body);
        self.sequence += 1;
        Some(chunk)
    }

    /// Whether the last chunk was given out.
    pub fn is_done(&self) -> bool {
        matches!(self.next, Next::Nothing)
    }

    fn header(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&FORMAT.to_le_bytes());
        out.extend_from_slice(&[0; 4]); // incompatible features
        out.extend_from_slice(&u16::from(self.position.restarts).to_le_bytes());
        let sweep = self.sweep.unwrap_or(Sweep { cursor: Revision::ZERO, end: NO_SWEEP });
        for number in [
            self.cluster.0,
            self.position.index.0,
            self.position.term.0,
            self.position.log_start.0,
            self.position.log_promise.0,
            self.time.0,
            self.view.revision().cast_unsigned(),
            self.view.compacted().cast_unsigned(),
            sweep.cursor.main.cast_unsigned(),
            u64::from(sweep.cursor.sub),
            sweep.end.cast_unsigned(),
            self.position.vote.0.0,
            self.position.vote.1.0,
        ] {
            out.extend_from_slice(&number.to_le_bytes());
        }
    }

    fn records(&mut self, from: Revision, out: &mut Vec<u8>) -> Next {
        for record in self.view.history_from(from) {
            if !out.is_empty() && out.len() + record.as_bytes().len() > CHUNK_BYTES_GOAL {
                return Next::Records { from: record.revision() };
            }
            encode_varint(to_u64(record.as_bytes().len()), out);
            out.extend_from_slice(record.as_bytes());
            self.records += 1;
        }
        Next::Leases { after: None }
    }

    /// Roles, then users, `written` of which were written before; in front of all the numbers.
    fn auth(&self, mut written: usize, out: &mut Vec<u8>) -> Next {
        if written == 0 {
            let (enabled, numbers) = self.auth.numbers();
            out.extend_from_slice(&[AUTH_NUMBERS, u8::from(enabled)]);
            for number in numbers {
                out.extend_from_slice(&number.to_le_bytes());
            }
        }
        let roles = self.auth.roles().map(|role| (AUTH_ROLE, None, role.encode_to_vec()));
        let users = self.auth.users();
        let users = users.map(|(user, since)| (AUTH_USER, Some(since), user.encode_to_vec()));
        for (kind, since, message) in roles.chain(users).skip(written) {
            if out.len() >= CHUNK_BYTES_GOAL {
                return Next::Auth { written };
            }
            out.push(kind);
            if let Some(since) = since {
                out.extend_from_slice(&since.to_le_bytes());
            }
            encode_varint(to_u64(message.len()), out);
            out.extend_from_slice(&message);
            written += 1;
        }
        Next::End
    }

    fn leases(&self, after: Option<LeaseId>, out: &mut Vec<u8>) -> Next {
        let from = after.map_or(core::ops::Bound::Unbounded, core::ops::Bound::Excluded);
        for lease in self.leases.range((from, core::ops::Bound::Unbounded)) {
            out.extend_from_slice(&lease.id.0.to_le_bytes());
            out.extend_from_slice(&lease.ttl.to_le_bytes());
            out.extend_from_slice(&lease.deadline.0.to_le_bytes());
            if out.len() >= CHUNK_BYTES_GOAL {
                return Next::Leases { after: Some(lease.id) };
            }
        }
        Next::Alarms
    }
}
