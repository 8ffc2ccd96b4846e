//! Files are read back by a reader that shares no code with the writer.

mod reader;

use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use bytes::Bytes;

use super::{EtcdSnapshot, EtcdState, LOOKS_GOAL};
use crate::api::KeyRange;
use crate::api::etcdserverpb::Member;
use crate::convert::to_usize;
use crate::ids::{ClusterId, LeaseId, MemberId};
use crate::lease::{ClusterTime, Lease};
use crate::raft::{Index, Term};
use crate::rng::Rng;
use crate::state_machine::{AlarmKind, StateMachine};
use reader::{Buckets, read};

fn etcd_state(state: &StateMachine) -> EtcdState {
    EtcdState {
        cluster: ClusterId(1),
        member: MemberId(2),
        members: vec![Member {
            id: 0x2e12_59d4_15f2_a040,
            name: "m1".into(),
            peer_urls: vec!["http://127.0.0.1:23800".into()],
            client_urls: vec!["http://127.0.0.1:23790".into()],
            is_learner: false,
        }],
        version: "3.7.3".into(),
        applied: (Index(11), Term(2)),
        view: state.store.view(),
        sweep: state.store.sweeping(),
        leases: state.lessor.leases(),
        time: ClusterTime(0),
        alarms: state.alarms.clone(),
        auth: alloc::sync::Arc::clone(&state.auth),
    }
}

/// The file, fetched in parts of at most this size.
fn file_in_parts(state: &StateMachine, bytes_max: usize) -> Vec<u8> {
    let mut snapshot = EtcdSnapshot::new(etcd_state(state));
    let total_bytes = snapshot.total_bytes();
    let mut file = Vec::new();
    while let Some(part) = snapshot.next_part(bytes_max) {
        assert!(part.len() <= bytes_max, "a part is not too large");
        file.extend_from_slice(&part);
    }
    assert_eq!(file.len(), to_usize(total_bytes));
    assert_eq!(snapshot.next_part(bytes_max), None);
    file
}

fn file(state: &StateMachine) -> Vec<u8> {
    file_in_parts(state, 32 << 10)
}

/// What the key bucket must hold: what a sweep leaves. Requests here change no key twice.
fn expected_history(state: &StateMachine) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut store = state.store.clone();
    store.sweep(usize::MAX);
    let entry = |record: crate::mvcc::Record| {
        let mut key = record.revision().to_bucket_key().to_vec();
        if record.is_tombstone() {
            key.push(b't');
        }
        (key, record.stored_message().to_vec())
    };
    store.records().map(entry).collect()
}

/// Writes a file, reads it back and compares the large buckets; returns all of them.
fn check(state: &StateMachine) -> Buckets {
    let buckets = read(&file(state));
    let names: Vec<&str> = buckets.keys().map(String::as_str).collect();
    let all = "alarm auth authRoles authUsers cluster key lease members members_removed meta";
    assert_eq!(names.join(" "), all);
    assert_eq!(buckets["key"], expected_history(state));
    let mut leases: Vec<_> =
        state.lessor.leases().iter().map(|lease| lease.id.0.to_be_bytes().to_vec()).collect();
    leases.sort();
    assert!(buckets["lease"].iter().map(|(key, _)| key).eq(&leases));
    buckets
}

fn put(state: &mut StateMachine, key: &[u8], value: &[u8], lease: LeaseId) {
    state.store.begin().put(key, value, lease);
}

fn delete(state: &mut StateMachine, key: &[u8]) {
    state.store.begin().delete_range(&KeyRange::single(Bytes::copy_from_slice(key)));
}

fn grant(state: &mut StateMachine, id: i64, ttl: i64) {
    let lease = Lease { id: LeaseId(id), ttl, deadline: ClusterTime(5_000) };
    state.lessor.grant(lease).unwrap();
}

/// Every line with something in it, sixteen bytes each, behind its offset.
fn hex_dump(file: &[u8]) -> String {
    let mut dump = String::new();
    for (at, line) in file.chunks(16).enumerate() {
        if line.iter().any(|byte| *byte != 0) {
            let bytes: String = line.iter().map(|byte| format!(" {byte:02x}")).collect();
            dump.push_str(&format!("{:05x}{bytes}  {}\n", 16 * at, printable(line)));
        }
    }
    dump
}

fn printable(line: &[u8]) -> String {
    let char = |byte: &u8| if (b'!'..=b'~').contains(byte) { char::from(*byte) } else { '.' };
    line.iter().map(char).collect()
}

#[test]
fn an_empty_store_gives_the_bytes_that_it_always_gave() {
    let mut state = etcd_state(&StateMachine::default());
    state.applied = (Index(0), Term(0));
    let mut snapshot = EtcdSnapshot::new(state);
    let file = snapshot.next_part(1 << 20).unwrap();
    read(&file);
    let dump = hex_dump(&file);
    let golden = include_str!("../../../testdata/etcd_snapshot_empty.hex");
    assert!(dump == golden, "if this is meant to change, the file should be:\n{dump}");
}

#[test]
fn the_buckets_hold_what_etcd_puts_there() {
    // Read from a snapshot of etcd 3.7.3 that was asked for the same.
    let mut state = StateMachine::default();
    put(&mut state, b"a", b"1", LeaseId::NONE);
    grant(&mut state, 2_324_035_513_089_569_540, 1000);
    delete(&mut state, b"a");
    put(&mut state, b"b", b"2", LeaseId::NONE);
    state.store.compact(3).unwrap();
    state.alarms.raise(AlarmKind::NoSpace, MemberId(77));
    let buckets = check(&state);
    let check = |bucket: &str, entries: &[(&[u8], &[u8])]| {
        let entries: Vec<_> = entries.iter().map(|(k, v)| (k.to_vec(), v.to_vec())).collect();
        assert_eq!(buckets[bucket], entries, "{bucket}");
    };
    check("alarm", &[(b"\x08M\x10\x01", b"")]);
    check("auth", &[(b"authRevision", b"\0\0\0\0\0\0\0\x01")]);
    check("authRoles", &[]);
    check("authUsers", &[]);
    check("cluster", &[(b"clusterVersion", b"3.7.0")]);
    check(
        "key",
        &[
            (b"\0\0\0\0\0\0\0\x03_\0\0\0\0\0\0\0\0t", b"\n\x01a"),
            (b"\0\0\0\0\0\0\0\x04_\0\0\0\0\0\0\0\0", b"\n\x01b\x10\x04\x18\x04 \x01*\x012"),
        ],
    );
    check(
        "lease",
        &[(b" @\xa1\xfcc\x18\xb3\x04", b"\x08\x84\xe6\xe2\x98\xc6\xbf\xa8\xa0 \x10\xe8\x07")],
    );
    check(
        "members",
        &[(
            b"2e1259d415f2a040",
            b"{\"id\":3319814642761637952,\"peerURLs\":[\"http://127.0.0.1:23800\"],\
              \"name\":\"m1\",\"clientURLs\":[\"http://127.0.0.1:23790\"]}",
        )],
    );
    check("members_removed", &[]);
    check(
        "meta",
        &[
            (b"confState", b"{\"voters\":[3319814642761637952],\"auto_leave\":false}"),
            (b"consistent_index", b"\0\0\0\0\0\0\0\x0b"),
            (b"finishedCompactRev", b"\0\0\0\0\0\0\0\x03_\0\0\0\0\0\0\0\0"),
            (b"scheduledCompactRev", b"\0\0\0\0\0\0\0\x03_\0\0\0\0\0\0\0\0"),
            (b"storageVersion", b"3.7.0"),
            (b"term", b"\0\0\0\0\0\0\0\x02"),
        ],
    );
}

#[test]
fn values_and_keys_of_any_size_have_room() {
    let mut state = StateMachine::default();
    for bytes in [0, 1, 1_000, 3_950, 4_000, 4_096, 5_000, 100_000, 1_536 << 10] {
        put(&mut state, b"value", &vec![b'v'; bytes], LeaseId::NONE);
        put(&mut state, b"small", b"", LeaseId::NONE);
    }
    for bytes in [1, 1_000, 4_000, 10 << 10] {
        let key = vec![b'k'; bytes];
        put(&mut state, &key, b"value", LeaseId::NONE);
        delete(&mut state, &key);
    }
    check(&state);
}

#[test]
fn negative_leases_come_last_and_many_of_all_kinds_have_room() {
    let mut state = StateMachine::default();
    for id in 1..2_000 {
        grant(&mut state, id * 1_000_003, 10);
        grant(&mut state, -id * 1_000_003, 1 << 40);
        state.alarms.raise(AlarmKind::Corrupt, MemberId(id.cast_unsigned() << 32));
        state.alarms.raise(AlarmKind::NoSpace, MemberId(id.cast_unsigned()));
    }
    grant(&mut state, i64::MIN, 10);
    grant(&mut state, i64::MAX, 10);
    let buckets = check(&state);
    assert_eq!(buckets["lease"].len(), 4_000);
    assert_eq!(buckets["alarm"].len(), 3_998);
}

/// A history of requests that put and delete a few keys each.
fn random_state(rng: &mut Rng, requests: u64, keys: u64, value_bytes_max: u64) -> StateMachine {
    let mut state = StateMachine::default();
    for _ in 0..requests {
        let mut write = state.store.begin();
        for at in 0..=rng.below(4) {
            // Keys of one request differ: etcd refuses to change a key twice.
            let key = format!("/registry/{}/{at}", rng.below(keys)).into_bytes();
            if rng.below(3) == 0 {
                write.delete_range(&KeyRange::single(key.into()));
            } else {
                let value = vec![b'v'; to_usize(rng.below(value_bytes_max))];
                write.put(&key, &value, LeaseId::NONE);
            }
        }
    }
    state
}

#[test]
fn trees_of_any_height_hold_all_of_history() {
    let mut rng = Rng::new(1);
    for requests in [1, 30, 60, 1_000, 12_000] {
        check(&random_state(&mut rng, requests, 100, 50));
    }
    check(&random_state(&mut rng, 500, 100, 3_000));
}

#[test]
fn parts_of_any_size_make_the_same_file() {
    let mut state = random_state(&mut Rng::new(2), 300, 10, 1_000);
    put(&mut state, b"large", &[b'v'; 100_000], LeaseId::NONE);
    let whole = file_in_parts(&state, usize::MAX);
    for bytes_max in [100, 4_095, 4_096, 4_097, 32 << 10, 1 << 20] {
        assert!(file_in_parts(&state, bytes_max) == whole, "parts of {bytes_max}");
    }
}

#[test]
fn a_sweep_under_way_does_not_show() {
    for seed in 0..20 {
        let mut rng = Rng::new(seed);
        let mut state = random_state(&mut rng, 60, 6, 100);
        let revision = state.store.revision();
        let first = i64::try_from(rng.below(revision.cast_unsigned() - 2)).unwrap() + 1;
        state.store.compact(first).unwrap();
        state.store.sweep(1 + to_usize(rng.below(40)));
        let second = first + (revision - first) / 2;
        if first < second {
            state.store.compact(second).unwrap();
        }
        let early = file(&state);
        while state.store.sweeping().is_some() {
            check(&state);
            state.store.sweep(7);
        }
        assert!(early == file(&state), "seed {seed}");
    }
}

#[test]
fn what_a_request_replaced_at_the_compact_revision_is_left_out_but_its_deletion_is_not() {
    let mut state = StateMachine::default();
    put(&mut state, b"a", b"before", LeaseId::NONE);
    // Possible in a transaction whose deletion has no upper bound.
    let mut write = state.store.begin();
    write.put(b"a", b"for a moment", LeaseId::NONE);
    write.delete_range(&KeyRange::prefix(Bytes::new()));
    put(&mut state, b"b", b"after", LeaseId::NONE);
    state.store.compact(3).unwrap();
    for _ in 0..3 {
        let history = &read(&file(&state))["key"];
        let keys: Vec<&[u8]> = history.iter().map(|(key, _)| key.as_slice()).collect();
        let deletion = b"\0\0\0\0\0\0\0\x03_\0\0\0\0\0\0\0\x01t".as_slice();
        assert_eq!(keys, [deletion, b"\0\0\0\0\0\0\0\x04_\0\0\0\0\0\0\0\0"]);
        state.store.sweep(2);
    }
    assert_eq!(state.store.sweeping(), None);
}

#[test]
fn much_to_skip_is_skipped_in_slices() {
    let mut state = StateMachine::default();
    for at in 0..20_000_u32 {
        put(&mut state, b"key", &at.to_le_bytes(), LeaseId::NONE);
    }
    state.store.compact(state.store.revision()).unwrap();
    let mut snapshot = EtcdSnapshot::new(etcd_state(&state));
    let mut slices = 0;
    while snapshot.measure().is_none() {
        slices += 1;
    }
    assert!(slices >= 20_000 / (LOOKS_GOAL + 256), "{slices} slices");
    let mut empty = 0;
    while let Some(part) = snapshot.next_part(4_096) {
        empty += usize::from(part.is_empty());
    }
    assert!(empty >= slices / 2, "{empty} empty parts");
    assert_eq!(check(&state)["key"].len(), 1);
}
