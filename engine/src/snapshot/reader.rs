//! The state out of chunks.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use bytes::{Buf, Bytes};
use prost::Message;
use prost::encoding::decode_varint;

use super::{
    AUTH_NUMBERS, AUTH_ROLE, AUTH_USER, CHUNK_BYTES_MAX, CHUNK_HEADER_BYTES, FORMAT,
    FORMAT_WITHOUT_AUTH, FORMAT_WITHOUT_MEMBERS, MAGIC, NO_SWEEP, Position, Section,
    chunk_checksum,
};
use crate::auth::Auth;
use crate::cluster::Cluster;
use crate::convert::{to_u64, to_usize};
use crate::ids::{ClusterId, LeaseId, MemberId};
use crate::lease::{ClusterTime, Lease};
use crate::mvcc::compact::Sweep;
use crate::mvcc::{Record, Restore, Revision};
use crate::raft::{Index, Term};
use crate::state_machine::{AlarmKind, StateMachine};
use crate::wal::Lsn;

/// Why bytes are no snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SnapshotError {
    /// The bytes end before the last chunk.
    Torn,
    /// A chunk is damaged or out of place.
    Corrupt {
        /// Its number, from zero.
        sequence: u32,
    },
    /// A newer version wrote it.
    UnknownFormat {
        /// Its format version.
        format: u16,
    },
    /// It belongs to another cluster.
    Foreign {
        /// That cluster.
        cluster: ClusterId,
    },
}

impl fmt::Display for SnapshotError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Torn => write!(f, "the snapshot ends before its last chunk"),
            Self::Corrupt { sequence } => write!(f, "chunk {sequence} of the snapshot is corrupt"),
            Self::UnknownFormat { format } => {
                write!(f, "the snapshot has format {format}, which this version does not know")
            }
            Self::Foreign { cluster } => write!(f, "the snapshot belongs to cluster {cluster}"),
        }
    }
}

impl core::error::Error for SnapshotError {}

/// Builds the state from bytes as they come.
#[derive(Debug)]
pub struct Reader {
    cluster: ClusterId,
    /// Bytes that are not a whole chunk yet.
    rest: Vec<u8>,
    sequence: u32,
    section: Section,
    header: Option<Header>,
    /// The key space as far as its history has come.
    store: Restore,
    records: u64,
    /// The keys that hang on leases, and on which.
    attached: BTreeMap<Bytes, LeaseId>,
    leases: Vec<Lease>,
    alarms: Vec<(AlarmKind, MemberId)>,
    members: Cluster,
    digest: u64,
    auth: Box<Auth>,
    done: bool,
}

#[derive(Clone, Copy, Debug)]
struct Header {
    position: Position,
    time: ClusterTime,
    revision: i64,
    compacted: i64,
    sweep: Option<Sweep>,
}

impl Reader {
    /// Expects a snapshot of this cluster.
    pub fn new(cluster: ClusterId) -> Self {
        Self {
            cluster,
            rest: Vec::new(),
            sequence: 0,
            section: Section::Header,
            header: None,
            store: Restore::default(),
            records: 0,
            attached: BTreeMap::new(),
            leases: Vec::new(),
            alarms: Vec::new(),
            members: Cluster::default(),
            digest: 0,
            auth: Box::default(),
            done: false,
        }
    }

    /// Takes the next bytes, cut wherever they were.
    ///
    /// # Errors
    /// If they are no snapshot, or not one of this cluster.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), SnapshotError> {
        self.rest.extend_from_slice(bytes);
        let mut all = Bytes::from(core::mem::take(&mut self.rest));
        while all.len() >= CHUNK_HEADER_BYTES {
            let corrupt = SnapshotError::Corrupt { sequence: self.sequence };
            let mut head = all.clone();
            let (length, crc) = (head.get_u32_le(), head.get_u32_le());
            let (section, sequence) = (head.get_u8(), head.get_u32_le());
            let length = to_usize(u64::from(length));
            if length > CHUNK_BYTES_MAX || self.done || sequence != self.sequence {
                return Err(corrupt);
            }
            if head.len() < length {
                break;
            }
            let body = head.split_to(length);
            if crc != chunk_checksum(section, sequence, &body) {
                return Err(corrupt);
            }
            self.chunk(Section::from_byte(section).ok_or(corrupt)?, body)?;
            self.sequence += 1;
            all = head;
        }
        self.rest = all.to_vec();
        Ok(())
    }

    fn chunk(&mut self, section: Section, body: Bytes) -> Result<(), SnapshotError> {
        let corrupt = SnapshotError::Corrupt { sequence: self.sequence };
        if section < self.section || (section == Section::Header) != self.header.is_none() {
            return Err(corrupt);
        }
        self.section = section;
        let whole = match section {
            Section::Header => {
                let header = self.decode_header(body)?;
                self.store = Restore::new(header.revision, header.compacted);
                self.header = Some(header);
                true
            }
            Section::Records => self.decode_records(body).is_some(),
            Section::Leases => self.decode_leases(body).is_some(),
            Section::Alarms => self.decode_alarms(body).is_some(),
            Section::Cluster => self.decode_cluster(body).is_some(),
            Section::Auth => self.decode_auth(body).is_some(),
            Section::End => self.decode_end(body).is_some(),
        };
        if whole { Ok(()) } else { Err(corrupt) }
    }

    fn decode_header(&self, mut body: Bytes) -> Result<Header, SnapshotError> {
        let corrupt = SnapshotError::Corrupt { sequence: self.sequence };
        if body.len() < 16 || !body.starts_with(&MAGIC) {
            return Err(corrupt);
        }
        body.advance(MAGIC.len());
        let (format, incompat) = (body.get_u16_le(), body.get_u32_le());
        let restarts = body.get_u16_le() & 1 != 0;
        if !matches!(format, FORMAT | FORMAT_WITHOUT_AUTH | FORMAT_WITHOUT_MEMBERS) || incompat != 0
        {
            return Err(SnapshotError::UnknownFormat { format });
        }
        let has_vote = format != FORMAT_WITHOUT_MEMBERS;
        if body.len() != if has_vote { 13 * 8 } else { 11 * 8 } {
            return Err(corrupt);
        }
        let cluster = ClusterId(body.get_u64_le());
        if cluster != self.cluster {
            return Err(SnapshotError::Foreign { cluster });
        }
        let mut position = Position {
            index: Index(body.get_u64_le()),
            term: Term(body.get_u64_le()),
            log_start: Lsn(body.get_u64_le()),
            log_promise: Lsn(body.get_u64_le()),
            restarts,
            ..Position::default()
        };
        let time = ClusterTime(body.get_u64_le());
        let (revision, compacted) = (body.get_i64_le(), body.get_i64_le());
        let (main, sub) = (body.get_i64_le(), body.get_u64_le());
        let cursor = Revision { main, sub: u32::try_from(sub).map_err(|_| corrupt)? };
        let end = body.get_i64_le();
        let sweep = (end != NO_SWEEP).then_some(Sweep { cursor, end });
        if has_vote {
            position.vote = (Term(body.get_u64_le()), MemberId(body.get_u64_le()));
        }
        Ok(Header { position, time, revision, compacted, sweep })
    }

    fn decode_records(&mut self, mut body: Bytes) -> Option<()> {
        while body.has_remaining() {
            let length = decode_varint(&mut body).ok()?;
            if length > to_u64(body.len()) {
                return None;
            }
            let record = Record::from_bytes(&body.split_to(to_usize(length)))?;
            if record.lease().is_some() {
                self.attached.insert(Bytes::copy_from_slice(record.key()), record.lease());
            } else if !self.attached.is_empty() {
                self.attached.remove(record.key());
            }
            self.store.push(record)?;
            self.records += 1;
        }
        Some(())
    }

    fn decode_leases(&mut self, mut body: Bytes) -> Option<()> {
        while body.has_remaining() {
            self.leases.push(Lease {
                id: LeaseId(body.try_get_i64_le().ok()?),
                ttl: body.try_get_i64_le().ok()?,
                deadline: ClusterTime(body.try_get_u64_le().ok()?),
            });
        }
        Some(())
    }

    fn decode_alarms(&mut self, mut body: Bytes) -> Option<()> {
        while body.has_remaining() {
            let kind = AlarmKind::from_byte(body.try_get_u8().ok()?)?;
            self.alarms.push((kind, MemberId(body.try_get_u64_le().ok()?)));
        }
        Some(())
    }

    fn decode_cluster(&mut self, mut body: Bytes) -> Option<()> {
        self.digest = body.try_get_u64_le().ok()?;
        self.members = Cluster::decode(body)?;
        Some(())
    }

    fn decode_auth(&mut self, mut body: Bytes) -> Option<()> {
        while body.has_remaining() {
            let kind = body.try_get_u8().ok()?;
            if kind == AUTH_NUMBERS {
                let enabled = body.try_get_u8().ok()? != 0;
                let mut number = || body.try_get_u64_le().ok();
                let numbers = [number()?, number()?, number()?];
                *self.auth = Auth::restored(enabled, numbers);
                continue;
            }
            let since = if kind == AUTH_USER { body.try_get_u64_le().ok()? } else { 0 };
            let length = decode_varint(&mut body).ok()?;
            if length > to_u64(body.len()) {
                return None;
            }
            let message = body.split_to(to_usize(length));
            match kind {
                AUTH_ROLE => self.auth.restore_role(Message::decode(message).ok()?)?,
                AUTH_USER => self.auth.restore_user(Message::decode(message).ok()?, since)?,
                _ => return None,
            }
        }
        Some(())
    }

    fn decode_end(&mut self, mut body: Bytes) -> Option<()> {
        let counts = (body.try_get_u64_le().ok()?, body.try_get_u64_le().ok()?);
        self.done = counts == (self.records, to_u64(self.leases.len()));
        self.done.then_some(())
    }

    /// What the snapshot covers, once its first chunk was taken.
    pub fn position(&self) -> Option<Position> {
        self.header.map(|header| header.position)
    }

    /// The state and what it covers, once all bytes were taken. O(leases and the keys that hang on them): the rest was
    /// done as the bytes came.
    ///
    /// # Errors
    /// If the last chunk is missing, or the records contradict each other.
    pub fn finish(mut self) -> Result<(Position, StateMachine), SnapshotError> {
        let (Some(header), true, true) = (self.header, self.done, self.rest.is_empty()) else {
            return Err(SnapshotError::Torn);
        };
        let corrupt = SnapshotError::Corrupt { sequence: self.sequence };
        self.auth.finish_restore().ok_or(corrupt)?;
        let mut state = StateMachine {
            store: self.store.finish(),
            time: header.time,
            cluster: self.members,
            digest: self.digest,
            auth: Arc::new(*self.auth),
            ..StateMachine::default()
        };
        state.store.resume_sweep(header.sweep);
        for lease in self.leases {
            state.lessor.grant(lease).map_err(|_| corrupt)?;
        }
        for (key, lease) in self.attached {
            if state.lessor.get(lease).is_none() {
                return Err(corrupt);
            }
            state.lessor.attach(lease, &key);
        }
        for (kind, member) in self.alarms {
            state.alarms.raise(kind, member);
        }
        Ok((header.position, state))
    }
}
