//! Files that were made for etcd are read back, and harmed; logs are written as etcd writes them, and replayed.

use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use bytes::Bytes;
use prost::Message as _;

use super::tail::testing::Log;
use super::*;
use crate::api::KeyRange;
use crate::api::etcdserverpb::{
    AuthRoleAddRequest, AuthUserAddRequest, AuthUserGrantRoleRequest, Member, PutRequest,
};
use crate::auth::Change;
use crate::command::Command;
use crate::convert::{to_u64, to_usize};
use crate::ids::{ClusterId, LeaseId, MemberId};
use crate::lease::{ClusterTime, Lease};
use crate::mvcc::Store;
use crate::raft::{Index, Term};
use crate::rng::Rng;
use crate::snapshot::etcd::{EtcdSnapshot, EtcdState};
use crate::state_machine::{AlarmKind, StateMachine};

/// The file of a state that has seen the log up to `index`.
fn file_of(state: &StateMachine, index: u64, members: &[u64]) -> Bytes {
    let member = |id: &u64| Member { id: *id, ..Member::default() };
    let mut snapshot = EtcdSnapshot::new(EtcdState {
        cluster: ClusterId(9),
        member: MemberId(1),
        members: members.iter().map(member).collect(),
        version: "3.7.3".into(),
        applied: (Index(index), Term(1)),
        view: state.store.view(),
        sweep: state.store.sweeping(),
        leases: state.lessor.leases(),
        time: state.time,
        alarms: state.alarms.clone(),
        auth: state.auth.clone(),
    });
    let mut file = Vec::new();
    while let Some(part) = snapshot.next_part(1 << 20) {
        file.extend(part);
    }
    file.into()
}

fn import_of(file: &Bytes) -> Result<Imported, Refused> {
    let mut source = file.clone();
    import(&mut File::open(&mut source)?, None)
}

/// A state with some of everything, part of whose history is forgotten and perhaps not swept.
fn some_state(seed: u64, requests: u64) -> StateMachine {
    let mut rng = Rng::new(seed);
    let mut state = StateMachine::default();
    for id in 1..20 {
        let lease = Lease { id: LeaseId(id), ttl: 10 * id, deadline: ClusterTime(77) };
        state.lessor.grant(lease).unwrap();
    }
    state.alarms.raise(AlarmKind::Corrupt, MemberId(77));
    let auth = [
        Change::RoleAdd(AuthRoleAddRequest { name: "root".into() }),
        Change::UserAdd(AuthUserAddRequest { name: "root".into(), ..Default::default() }),
        Change::UserGrantRole(AuthUserGrantRoleRequest {
            user: "root".into(),
            role: "root".into(),
        }),
        Change::Enable,
    ];
    for change in auth {
        assert!(state.apply(ClusterTime(0), Command::Auth(change)).outcome.is_ok());
    }
    for _ in 0..requests {
        let mut write = state.store.begin();
        for at in 0..=rng.below(3) {
            let key = format!("{}/{at}", rng.below(30));
            if rng.below(3) == 0 {
                write.delete_range(&KeyRange::single(key.into()));
            } else {
                let len = if rng.below(50) == 0 { 20_000 } else { rng.below(90) };
                let lease = LeaseId(i64::try_from(rng.below(20)).unwrap());
                write.put(key.as_bytes(), &vec![b'v'; to_usize(len)], lease);
            }
        }
        let changes = write.finish();
        state.lessor.follow(&changes);
    }
    let revision = state.store.revision();
    if revision > 10 {
        state.store.compact(revision / 2).unwrap();
        state.store.sweep(1 + to_usize(rng.below(revision.cast_unsigned())));
    }
    state
}

/// All that clients can tell about a key space.
fn shown(state: &StateMachine) -> Vec<String> {
    let store = &state.store;
    let everything = KeyRange::prefix(Bytes::new());
    let mut shown = vec![format!("{} {}", store.revision(), store.compacted())];
    for revision in store.compacted().max(1)..=store.revision() {
        let hash = store.hash(revision, store.sweeping()).unwrap().hash;
        let keys = store.at(revision, &everything).map(|record| record.message().to_vec());
        shown.push(format!(
            "{revision} {hash} {:?}",
            crc32c::crc32c(&keys.collect::<Vec<_>>().concat())
        ));
    }
    let leases = state.lessor.leases();
    shown.extend(leases.iter().map(|lease| {
        format!(
            "{} {} {:?}",
            lease.id.0,
            lease.ttl,
            state.lessor.keys_of(lease.id).collect::<Vec<_>>()
        )
    }));
    shown
}

#[test]
fn what_was_written_for_etcd_is_read_back() {
    for (seed, requests) in [(1, 0), (2, 5), (3, 30), (4, 300), (5, 3_000)] {
        let mut state = some_state(seed, requests);
        let file = file_of(&state, 12, &[1]);
        let imported = import_of(&file).unwrap();
        imported.state.check();
        assert_eq!(shown(&imported.state), shown(&state), "seed {seed}");
        assert_eq!(imported.state.auth.users().count(), 1);
        assert!(imported.state.auth.is_enabled());
        assert_eq!(imported.state.auth.revision(), state.auth.revision());
        assert_eq!(imported.applied, (Index(12), Term(1)));
        // Pages may be filled otherwise, because less was skipped.
        let numbers = |mut file: Bytes| status(&mut File::open(&mut file).unwrap()).unwrap();
        let (again, first) = (numbers(file_of(&imported.state, 12, &[1])), numbers(file));
        assert_eq!((again.hash, again.revision), (first.hash, first.revision), "seed {seed}");
        assert_eq!(to_usize(again.total_keys), state.store.key_count());
        // However far the sweep was, members get the same bytes.
        state.store.sweep(usize::MAX);
        let swept = import_of(&file_of(&state, 12, &[1])).unwrap();
        assert_eq!(swept.state.digest, imported.state.digest);
        // And what comes next has a chain like any other.
        let mut next = imported.state;
        next.store.begin().put(b"1/0", b"next", LeaseId::NONE);
        next.store.check();
    }
}

#[test]
fn a_compaction_that_etcd_has_not_finished_is() {
    for seed in 20..30 {
        let mut state = some_state(seed, 9);
        let whole = file_of(&state, 3, &[1]);
        let revision = state.store.revision();
        for compacted in 1..=revision {
            let mut source = whole.clone();
            let standing = history::Standing { revision, compacted };
            let mut file = File::open(&mut source).unwrap();
            let store = history::read(&mut file, standing, &BTreeSet::new()).unwrap();
            state.store.compact(compacted).unwrap();
            state.store.sweep(usize::MAX);
            let mut swept = file_of(&state, 3, &[1]);
            let mut file = File::open(&mut swept).unwrap();
            let expected = history::read(&mut file, standing, &BTreeSet::new()).unwrap();
            assert!(store.records().eq(expected.records()), "seed {seed} at {compacted}");
            let hash = |store: &Store| store.hash(0, store.sweeping()).unwrap();
            assert_eq!(hash(&store), hash(&state.store), "seed {seed} at {compacted}");
        }
    }
}

#[test]
fn keys_on_leases_that_do_not_exist_stay_without_them() {
    let mut state = StateMachine::default();
    state.store.begin().put(b"a", b"1", LeaseId(9));
    state.store.begin().put(b"b", b"1", LeaseId(9));
    state.store.begin().put(b"b", b"2", LeaseId::NONE);
    let imported = import_of(&file_of(&state, 3, &[1])).unwrap();
    assert_eq!(imported.loose_keys, 1);
    assert!(!imported.state.store.get(b"a").unwrap().lease().is_some());
    imported.state.check();
}

#[test]
fn a_bumped_revision_is_the_latest_and_compacted() {
    let mut source = file_of(&some_state(7, 40), 3, &[1]);
    let before = import_of(&source).unwrap().state;
    let mut file = File::open(&mut source).unwrap();
    let bumped = import(&mut file, Some(Bump(1_000_000))).unwrap().state;
    let revision = before.store.revision() + 1_000_000;
    assert_eq!((bumped.store.revision(), bumped.store.compacted()), (revision, revision));
    let keys = |state: &StateMachine| {
        let everything = KeyRange::prefix(Bytes::new());
        state.store.current(&everything).map(|r| r.to_key_value()).collect::<Vec<_>>()
    };
    assert_eq!(keys(&bumped), keys(&before));
    assert_eq!(bumped.store.records().count(), bumped.store.key_count(), "nothing else is left");
    bumped.check();
    assert!(import(&mut file, Some(Bump(u64::MAX))).is_err());
    assert!(import(&mut file, Some(Bump(i64::MAX.cast_unsigned()))).is_err());
}

#[test]
fn any_damage_is_refused_or_harms_nobody() {
    let whole = file_of(&some_state(8, 60), 3, &[1]).to_vec();
    let mut rng = Rng::new(9);
    let mut refused = 0;
    for _ in 0..3_000 {
        let mut harmed = whole.clone();
        for _ in 0..=rng.below(3) {
            // Mostly where pages begin: the rest is keys and values.
            let page = rng.below(to_u64(whole.len()) / 4096) * 4096;
            let at = page + if rng.below(4) == 0 { rng.below(4096) } else { rng.below(64) };
            harmed[to_usize(at)] = u8::try_from(rng.below(256)).unwrap();
        }
        if rng.below(10) == 0 {
            harmed.truncate(to_usize(rng.below(to_u64(whole.len()))));
        }
        let mut source = Bytes::from(harmed);
        let Ok(mut file) = File::open(&mut source) else {
            refused += 1;
            continue;
        };
        drop(status(&mut file));
        match import(&mut file, None) {
            Ok(imported) => imported.state.check(),
            Err(_) => refused += 1,
        }
    }
    assert!(refused > 1_000, "{refused} were refused");
}

#[test]
fn a_page_that_leads_to_itself_is_found() {
    let whole = file_of(&some_state(8, 600), 3, &[1]).to_vec();
    let branches: Vec<usize> =
        (0..whole.len()).step_by(4096).filter(|at| whole[at + 8..at + 10] == [1, 0]).collect();
    assert!(!branches.is_empty());
    for branch in branches {
        for child in [to_u64(branch) / 4096, 3, 4] {
            let mut harmed = whole.clone();
            let place = branch + 16 + 8;
            harmed[place..place + 8].copy_from_slice(&child.to_le_bytes());
            assert!(import_of(&harmed.into()).is_err());
        }
    }
}

fn put(id: u64, key: &'static str) -> Vec<u8> {
    let put = PutRequest { key: key.into(), value: "v".into(), ..PutRequest::default() };
    let mut data = vec![8, u8::try_from(id).unwrap(), 4 << 3 | 2];
    data.extend(put.encode_length_delimited_to_vec());
    data
}

fn replayed(log: &[u8], index: u64, members: &[u64], extent: Extent) -> Result<Replayed, Refused> {
    let imported = import_of(&file_of(&StateMachine::default(), index, members))?;
    let source = Box::new(Bytes::copy_from_slice(log));
    let segment = Segment { name: "0-0.wal".into(), index: 0, source };
    let mut reader = LogReader::new(vec![segment], index);
    replay(imported, Tail::read(&mut reader, Index(index))?, extent)
}

/// The log of a member alone: its birth, a leader, three puts, the last of which the hard state does not know of.
fn log_of_one() -> Log {
    let mut log = Log::new(1, 9);
    log.change(1, 1, 0, 1);
    log.state(1, 0, 1);
    log.entry(2, 2, Vec::new());
    log.entry(2, 3, put(1, "a"));
    log.entry(2, 4, put(2, "b"));
    log.state(2, 1, 4);
    log.entry(2, 5, put(3, "c"));
    log
}

#[test]
fn a_member_alone_keeps_all_of_its_log() {
    let log = log_of_one();
    for seen in [1, 2, 4, 5] {
        let found = replayed(&log.bytes, seen, &[1], Extent::Known).unwrap();
        assert_eq!((found.member, found.cluster), (MemberId(1), ClusterId(9)));
        assert_eq!(found.imported.applied, (Index(5), Term(2)));
        assert_eq!(found.vote, (Term(2), MemberId(1)));
        assert_eq!(to_u64(found.entries), 5 - seen);
        // What the database has seen is not done again.
        let missed = [5, 4, 3].iter().filter(|index| **index > seen).count();
        assert_eq!(found.imported.state.store.key_count(), missed);
    }
    assert!(matches!(replayed(&log.bytes, 6, &[1], Extent::Known), Err(Refused::Log { .. })));
}

#[test]
fn what_a_later_leader_replaced_is_not_done() {
    let mut log = log_of_one();
    log.entry(3, 4, put(4, "d"));
    let found = replayed(&log.bytes, 2, &[1], Extent::Known).unwrap();
    assert_eq!(found.imported.applied, (Index(4), Term(3)));
    let store = &found.imported.state.store;
    assert!(store.get(b"a").is_some() && store.get(b"d").is_some() && store.get(b"b").is_none());
    log.entry(3, 6, put(5, "e"));
    assert!(matches!(
        replayed(&log.bytes, 2, &[1], Extent::Known),
        Err(Refused::Log { index: 6, .. })
    ));
}

#[test]
fn a_member_of_several_is_refused_unless_nobody_ever_led() {
    let mut log = Log::new(1, 9);
    for node in 1..=3 {
        log.change(1, node, 0, node);
    }
    log.state(1, 1, 3);
    log.snapshot(1, 3, &[1, 2, 3]);
    let found = replayed(&log.bytes, 3, &[1, 2, 3], Extent::Known).unwrap();
    assert_eq!((found.imported.applied, found.entries), ((Index(3), Term(1)), 0));
    assert_eq!(found.members.len(), 3);
    // Database and log must agree.
    let unclear = replayed(&log.bytes, 3, &[1, 2], Extent::Known);
    assert_eq!(unclear.unwrap_err(), Refused::MembersUnclear);
    log.entry(2, 4, put(1, "a"));
    log.state(2, 2, 3);
    for seen in [3, 4] {
        let refused = replayed(&log.bytes, seen, &[1, 2, 3], Extent::Known);
        assert_eq!(refused.unwrap_err(), Refused::NotAlone { members: 3 });
    }
    // By the word of the operator, what is committed counts.
    let found = replayed(&log.bytes, 3, &[1, 2, 3], Extent::Committed).unwrap();
    assert_eq!((found.imported.applied, found.entries), ((Index(3), Term(1)), 0));
    log.state(2, 2, 4);
    let found = replayed(&log.bytes, 3, &[1, 2, 3], Extent::Committed).unwrap();
    assert_eq!((found.imported.applied, found.entries), ((Index(4), Term(2)), 1));
}

#[test]
fn who_grows_or_shrinks_is_judged_where_it_does() {
    // A second member comes: what it acknowledged nobody knows.
    let mut log = log_of_one();
    log.change(2, 6, 0, 2);
    let refused = replayed(&log.bytes, 1, &[1], Extent::Known);
    assert_eq!(refused.unwrap_err(), Refused::NotAlone { members: 2 });
    // It goes, and the hard state knows.
    log.change(2, 7, 1, 2);
    let refused = replayed(&log.bytes, 1, &[1], Extent::Known);
    assert_eq!(refused.unwrap_err(), Refused::NotAlone { members: 2 });
    log.state(2, 1, 7);
    log.entry(2, 8, put(9, "z"));
    let found = replayed(&log.bytes, 1, &[1], Extent::Known).unwrap();
    assert_eq!((found.imported.applied.0, found.members.len()), (Index(8), 1));
}

#[test]
fn a_log_whose_end_is_torn_ends_before_it() {
    let whole = log_of_one().bytes;
    let mut shorter = 0;
    for end in 0..whole.len() {
        // Space that was made beforehand.
        let mut torn = whole[..end].to_vec();
        torn.resize(whole.len() + 4096, 0);
        match replayed(&torn, 0, &[1], Extent::Known) {
            Ok(found) => shorter += u64::from(found.imported.applied.0 < Index(5)),
            // Cut within a sector it looks like damage; etcd says so, too.
            Err(refused) => assert!(
                matches!(
                    refused,
                    Refused::Record { .. } | Refused::NotAlone { .. } | Refused::MembersUnclear
                ),
                "{refused}"
            ),
        }
        drop(replayed(&whole[..end], 0, &[1], Extent::Known));
    }
    assert!(shorter > 0);
    let mut rotten = whole;
    rotten[40] ^= 1;
    assert!(matches!(replayed(&rotten, 0, &[1], Extent::Known), Err(Refused::Record { .. })));
}

#[test]
fn entries_that_are_not_understood_are_refused() {
    let mut log = log_of_one();
    // A field of the future.
    log.entry(2, 6, vec![0xa2, 0x9c, 1, 0]);
    assert!(matches!(
        replayed(&log.bytes, 1, &[1], Extent::Known),
        Err(Refused::Log { index: 6, .. })
    ));
    // What etcd 3.5 says about members, in the form of the v2 API.
    let mut log = log_of_one();
    log.entry(2, 6, b"\x08\x01\x12\x03PUT\x1a\x0a/0/version\x22\x053.5.0".to_vec());
    assert!(replayed(&log.bytes, 1, &[1], Extent::Known).is_ok());
}
