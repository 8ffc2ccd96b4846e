//! Snapshots by themselves: the bytes of one, to the last, and what is refused.
//!
//! `UPDATE=1 cargo test -p cairn-engine snapshot` writes the bytes down anew; docs/format.md changes with them.

extern crate std;

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use std::path::Path;

use bytes::Bytes;

use super::*;
use crate::api::authpb::Permission;
use crate::api::authpb::permission::Type;
use crate::api::etcdserverpb::{
    AuthRoleAddRequest, AuthRoleGrantPermissionRequest, AuthUserAddRequest,
    AuthUserGrantRoleRequest, CompactionRequest, DeleteRangeRequest, LeaseGrantRequest, PutRequest,
};
use crate::auth;
use crate::cluster::{Change, Cluster, Record};
use crate::command::Command;
use crate::ids::{ClusterId, LeaseId, MemberId};
use crate::lease::ClusterTime;
use crate::mvcc::Revision;
use crate::mvcc::compact::Sweep;
use crate::state_machine::{AlarmKind, StateMachine};

const CLUSTER: ClusterId = ClusterId(0x0123_4567_89ab_cdef);

const POSITION: Position = Position {
    index: Index(9),
    term: Term(4),
    log_start: Lsn(8192),
    log_promise: Lsn(12288),
    vote: (Term(5), MemberId(6)),
    restarts: true,
};

/// Some of everything: versions, a tombstone, two leases, two alarms, a sweep half-way, a user and a role.
fn state() -> StateMachine {
    let put = |key: &'static str, value: &'static str, lease| {
        let (key, value) = (Bytes::from(key), Bytes::from(value));
        Command::Put(PutRequest { key, value, lease, ..PutRequest::default() })
    };
    let commands = [
        Command::LeaseGrant(LeaseGrantRequest { ttl: 60, id: 7 }),
        Command::LeaseGrant(LeaseGrantRequest { ttl: 9_000_000_000, id: -1 }),
        put("a", "1", 0),
        put("b", "", 7),
        put("a", "2", 0),
        put("a", "3", -1),
        Command::DeleteRange(DeleteRangeRequest {
            key: Bytes::from_static(b"b"),
            ..DeleteRangeRequest::default()
        }),
        Command::Compact(CompactionRequest { revision: 5, physical: false }),
        Command::Auth(auth::Change::UserAdd(AuthUserAddRequest {
            name: "root".into(),
            hashed_password: "hash".into(),
            ..AuthUserAddRequest::default()
        })),
        Command::Auth(auth::Change::UserGrantRole(AuthUserGrantRoleRequest {
            user: "root".into(),
            role: "root".into(),
        })),
        Command::Auth(auth::Change::RoleAdd(AuthRoleAddRequest { name: "r".into() })),
        Command::Auth(auth::Change::RoleGrantPermission(AuthRoleGrantPermissionRequest {
            name: "r".into(),
            perm: Some(Permission {
                perm_type: Type::Write.into(),
                key: Bytes::from_static(b"k"),
                range_end: Bytes::from_static(&[0]),
            }),
        })),
        Command::Auth(auth::Change::Enable),
    ];
    let mut state = StateMachine::default();
    for (second, command) in (1..).zip(commands) {
        assert!(state.apply(ClusterTime(second * 1000), command).outcome.is_ok());
    }
    assert_eq!(state.store.sweep(3), 1);
    state.alarms.raise(AlarmKind::NoSpace, MemberId(1));
    state.alarms.raise(AlarmKind::Corrupt, MemberId(2));
    let record = |id, name: &str| Record {
        id,
        name: name.into(),
        peer_urls: alloc::vec![format!("http://127.0.0.1:{id}")],
        ..Record::default()
    };
    state.cluster = Cluster::new([record(1, "one"), record(2, "two"), record(3, "three")]);
    let membership = state.cluster.membership().to([MemberId(1), MemberId(2)], []).left();
    state.cluster.apply(Some(Change::Remove(MemberId(3))), Some(membership));
    state.cluster.apply(Some(Change::Version("3.7".into())), None);
    state
}

fn chunks(state: &StateMachine) -> Vec<Vec<u8>> {
    let mut writer = SnapshotWriter::new(CLUSTER, POSITION, state);
    core::iter::from_fn(|| writer.next_chunk()).collect()
}

fn read(bytes: &[u8]) -> Result<(Position, StateMachine), SnapshotError> {
    let mut reader = Reader::new(CLUSTER);
    reader.push(bytes)?;
    reader.finish()
}

/// Chunks as text: the name of the section, the bytes before the body, and the body, sixteen bytes to a line.
fn to_text(chunks: &[Vec<u8>]) -> String {
    let mut text = String::new();
    for chunk in chunks {
        let section = Section::from_byte(chunk[8]).unwrap();
        text.push_str(&format!("# {section:?}\n"));
        let (head, body) = chunk.split_at(CHUNK_HEADER_BYTES);
        for line in core::iter::once(head).chain(body.chunks(16)) {
            let bytes: Vec<String> = line.iter().map(|byte| format!("{byte:02x}")).collect();
            text.push_str(&bytes.join(" "));
            text.push('\n');
        }
    }
    text
}

fn from_text(text: &str) -> Vec<u8> {
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .flat_map(str::split_whitespace)
        .map(|byte| u8::from_str_radix(byte, 16).unwrap())
        .collect()
}

#[test]
fn a_snapshot_has_these_bytes_for_ever() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/snapshot.txt");
    let written = to_text(&chunks(&state()));
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &written).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap();
    assert_eq!(written, golden, "UPDATE=1 writes the new bytes down; is the format's number new?");

    let (position, state) = read(&from_text(&golden)).unwrap();
    assert_eq!(position, POSITION);
    assert_eq!(to_text(&chunks(&state)), golden);
    assert_eq!(state.auth, self::state().auth);
}

#[test]
fn what_knew_no_users_is_still_read() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/snapshot-2.txt");
    let (position, state) = read(&from_text(&std::fs::read_to_string(&path).unwrap())).unwrap();
    assert_eq!(position, POSITION);
    assert_eq!((*state.auth).clone(), auth::Auth::default());
    assert!(state.store.records().eq(self::state().store.records()));
}

#[test]
fn everything_is_there_again() {
    let (before, (_, mut after)) = (state(), read(&chunks(&state()).concat()).unwrap());
    assert_eq!(after.time, ClusterTime(13_000));
    assert_eq!((after.store.revision(), after.store.compacted()), (6, 5));
    assert!(after.store.records().eq(before.store.records()));
    assert_eq!(after.alarms, before.alarms);
    assert!(after.lessor.by_deadline().eq(before.lessor.by_deadline()));
    let keys = |state: &StateMachine, id| state.lessor.keys_of(LeaseId(id)).cloned().collect();
    let (of_first, of_second): (Vec<Bytes>, Vec<Bytes>) = (keys(&after, 7), keys(&after, -1));
    assert_eq!((of_first, of_second), (Vec::new(), [Bytes::from_static(b"a")].to_vec()));
    let cursor = Revision { main: 4, sub: 1 };
    assert_eq!(after.store.sweeping(), Some(Sweep { cursor, end: 5 }), "the sweep goes on");
    after.store.sweep(100);
    after.check();
}

#[test]
fn a_sweep_up_to_revision_zero_is_a_sweep() {
    let mut state = StateMachine::default();
    state.store.compact(0).unwrap();
    let (_, restored) = read(&chunks(&state).concat()).unwrap();
    assert!(restored.store.sweeping().is_some());
    assert_eq!(restored.store.sweeping(), state.store.sweeping());
}

#[test]
fn a_fresh_state_is_seven_chunks_too() {
    let chunks = chunks(&StateMachine::default());
    assert_eq!(chunks.len(), 7);
    let (_, state) = read(&chunks.concat()).unwrap();
    assert_eq!((state.store.revision(), state.store.key_count()), (1, 0));
}

#[test]
fn large_sections_are_several_chunks_of_bounded_size() {
    let mut state = StateMachine::default();
    for number in 0..40 {
        let put = PutRequest {
            key: Bytes::from_static(b"large"),
            value: Bytes::from(alloc::vec![number; 100 << 10]),
            ..PutRequest::default()
        };
        assert!(state.apply(ClusterTime(0), Command::Put(put)).outcome.is_ok());
    }
    for id in 1..=15_000 {
        let grant = Command::LeaseGrant(LeaseGrantRequest { ttl: 5, id });
        assert!(state.apply(ClusterTime(0), grant).outcome.is_ok());
    }
    let written = chunks(&state);
    let count =
        |section: Section| written.iter().filter(|chunk| chunk[8] == section.to_byte()).count();
    assert_eq!((count(Section::Records), count(Section::Leases)), (20, 2));
    assert!(written.iter().all(|chunk| chunk.len() <= CHUNK_BYTES_GOAL + CHUNK_HEADER_BYTES + 24));
    let (_, restored) = read(&written.concat()).unwrap();
    assert_eq!(chunks(&restored), written);
}

#[test]
fn bytes_may_come_one_by_one() {
    let bytes = chunks(&state()).concat();
    let mut reader = Reader::new(CLUSTER);
    assert_eq!(reader.position(), None);
    for byte in &bytes {
        reader.push(&[*byte]).unwrap();
    }
    assert_eq!(reader.position(), Some(POSITION));
    assert_eq!(chunks(&reader.finish().unwrap().1).concat(), bytes);
}

#[test]
fn every_truncation_is_torn() {
    let bytes = chunks(&state()).concat();
    for end in 0..bytes.len() {
        assert_eq!(read(&bytes[..end]).unwrap_err(), SnapshotError::Torn, "{end}");
    }
}

#[test]
fn every_flipped_bit_is_refused() {
    let mut bytes = chunks(&state()).concat();
    for bit in 0..bytes.len() * 8 {
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(read(&bytes).is_err(), "bit {bit}");
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
    assert!(read(&bytes).is_ok());
}

#[test]
fn chunks_that_are_missing_doubled_moved_or_too_many_are_refused() {
    let chunks = chunks(&state());
    for at in 0..chunks.len() {
        let mut missing = chunks.clone();
        missing.remove(at);
        assert!(read(&missing.concat()).is_err(), "without {at}");
        let mut doubled = chunks.clone();
        doubled.insert(at, chunks[at].clone());
        assert!(read(&doubled.concat()).is_err(), "{at} twice");
        for with in at + 1..chunks.len() {
            let mut moved = chunks.clone();
            moved.swap(at, with);
            assert!(read(&moved.concat()).is_err(), "{at} for {with}");
        }
    }
    for rest in [&[0][..], &[0; 13], &[0; 100]] {
        assert!(read(&[&chunks.concat(), rest].concat()).is_err(), "{} bytes more", rest.len());
    }
}

/// A chunk with a valid checksum.
fn chunk(section: Section, sequence: u32, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).unwrap();
    let crc = chunk_checksum(section.to_byte(), sequence, body);
    [
        &length.to_le_bytes()[..],
        &crc.to_le_bytes(),
        &[section.to_byte()],
        &sequence.to_le_bytes(),
        body,
    ]
    .concat()
}

/// The snapshot with other bodies, whose checksums are right.
fn altered(alter: impl Fn(Section, &mut Vec<u8>)) -> Vec<u8> {
    let alter = |(sequence, bytes): (u32, Vec<u8>)| {
        let section = Section::from_byte(bytes[8]).unwrap();
        let mut body = bytes[CHUNK_HEADER_BYTES..].to_vec();
        alter(section, &mut body);
        chunk(section, sequence, &body)
    };
    (0..).zip(chunks(&state())).flat_map(alter).collect()
}

#[test]
fn another_format_and_another_cluster_are_named() {
    let newer = altered(|section, body| {
        if section == Section::Header {
            body[MAGIC.len()] = 4;
        }
    });
    assert_eq!(read(&newer).unwrap_err(), SnapshotError::UnknownFormat { format: 4 });
    let incompatible = altered(|section, body| {
        if section == Section::Header {
            body[MAGIC.len() + 2] = 1;
        }
    });
    assert_eq!(read(&incompatible).unwrap_err(), SnapshotError::UnknownFormat { format: 3 });
    let error = Reader::new(ClusterId(1)).push(&chunks(&state()).concat()).unwrap_err();
    assert_eq!(error, SnapshotError::Foreign { cluster: CLUSTER });
}

#[test]
fn what_contradicts_itself_is_refused_whatever_its_checksum() {
    assert!(read(&altered(|_, _| {})).is_ok());
    let sections = [
        Section::Header,
        Section::Leases,
        Section::Alarms,
        Section::Cluster,
        Section::Auth,
        Section::End,
    ];
    for at in sections {
        let cut = altered(|section, body| {
            if section == at {
                body.pop();
            }
        });
        assert!(read(&cut).is_err(), "{at:?} cut short");
    }
    // The key `a` names a lease that is not there.
    let orphaned = altered(|section, body| match section {
        Section::Leases => body.clear(),
        Section::End => body[8..].fill(0),
        Section::Header | Section::Records | Section::Alarms | Section::Cluster | Section::Auth => {
        }
    });
    assert_eq!(read(&orphaned).unwrap_err(), SnapshotError::Corrupt { sequence: 7 });
    // Authentication is enabled, and there is nobody.
    let deserted = altered(|section, body| {
        if section == Section::Auth {
            body.truncate(2 + 3 * 8);
        }
    });
    assert_eq!(read(&deserted).unwrap_err(), SnapshotError::Corrupt { sequence: 7 });
    // The newest revision lies below that of a record.
    let behind = altered(|section, body| {
        if section == Section::Header {
            body[16 + 6 * 8] = 5;
        }
    });
    assert_eq!(read(&behind).unwrap_err(), SnapshotError::Corrupt { sequence: 1 });
}
