//! What etcd wrote: whatever the bytes are, they are refused or give a state that holds together.

use bytes::Bytes;
use cairn_engine::api::etcdserverpb::{
    CompactionRequest, DeleteRangeRequest, LeaseGrantRequest, PutRequest,
};
use cairn_engine::command::Command;
use cairn_engine::import::{self, Bump, Extent, File, Imported, LogReader, Segment, Tail};
use cairn_engine::lease::ClusterTime;
use cairn_engine::raft::{Index, Term};
use cairn_engine::snapshot::etcd::{EtcdSnapshot, EtcdState};
use cairn_engine::state_machine::StateMachine;
use cairn_engine::{ClusterId, MemberId};

use crate::choices::Choices;

/// A database: the bytes themselves, or one that is made and harmed as they say.
pub fn etcd_file(data: &[u8]) {
    read(Bytes::copy_from_slice(data), None);
    let mut choices = Choices(data);
    let mut state = StateMachine::default();
    for _ in 0..choices.below(200) {
        state.apply(ClusterTime(0), command(&mut choices));
    }
    let whole = file_of(&state);
    let imported = read(whole.clone().into(), None).expect("what was written can be read");
    assert_eq!(imported.state.store.revision(), state.store.revision());
    assert_eq!(imported.state.store.key_count(), state.store.key_count());
    let mut harmed = whole;
    while !choices.is_empty() {
        let page = choices.below(harmed.len() / 4096) * 4096;
        let reach = if choices.byte() < 200 { 96 } else { 4096 };
        let at = page + choices.below(reach);
        harmed[at] = choices.byte();
    }
    read(harmed.clone().into(), None);
    read(harmed.into(), Some(Bump(1 << (data.len() % 64))));
}

fn read(bytes: Bytes, bump: Option<Bump>) -> Option<Imported> {
    let mut source = bytes;
    let mut file = File::open(&mut source).ok()?;
    import::status(&mut file).ok();
    let imported = import::import(&mut file, bump).ok()?;
    imported.state.check();
    Some(imported)
}

fn command(choices: &mut Choices<'_>) -> Command {
    let key = Bytes::copy_from_slice(&[b'a' + choices.byte() % 8]);
    match choices.byte() % 8 {
        0 => Command::DeleteRange(DeleteRangeRequest { key, ..Default::default() }),
        1 => Command::Compact(CompactionRequest {
            revision: i64::from(choices.byte()),
            ..Default::default()
        }),
        2 => {
            Command::LeaseGrant(LeaseGrantRequest { id: 1 + i64::from(choices.byte() % 4), ttl: 9 })
        }
        large => {
            let len = if large == 3 { choices.below(9000) } else { choices.below(60) };
            let value = Bytes::from(vec![b'v'; len]);
            let lease = i64::from(choices.byte() % 3);
            Command::Put(PutRequest { key, value, lease, ..Default::default() })
        }
    }
}

fn file_of(state: &StateMachine) -> Vec<u8> {
    let mut snapshot = EtcdSnapshot::new(EtcdState {
        cluster: ClusterId(9),
        member: MemberId(1),
        members: Vec::new(),
        version: "3.7.3".into(),
        applied: (Index(1), Term(1)),
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
    file
}

/// A log: the bytes themselves, or records of them with checksums that are right.
pub fn etcd_log(data: &[u8]) {
    replay(data.to_vec(), 0);
    let mut choices = Choices(data);
    let after = u64::from(choices.byte() % 4);
    let (mut log, mut crc) = (Vec::new(), 0);
    while !choices.is_empty() {
        let kind = choices.byte() % 7;
        let len = choices.below(80);
        let body = choices.bytes(len);
        if kind != 4 {
            crc = crc32c::crc32c_append(crc, body);
        }
        let mut record = vec![0x08, kind, 0x10];
        prost::encoding::encode_varint(crc.into(), &mut record);
        record.push(0x1a);
        prost::encoding::encode_varint(u64::try_from(body.len()).expect("64 bits"), &mut record);
        record.extend_from_slice(body);
        let padding = record.len().next_multiple_of(8) - record.len();
        let flags =
            if padding == 0 { 0 } else { (0x80 | u64::try_from(padding).expect("64 bits")) << 56 };
        log.extend_from_slice(
            &(u64::try_from(record.len()).expect("64 bits") | flags).to_le_bytes(),
        );
        log.extend_from_slice(&record);
        log.resize(log.len() + padding, 0);
    }
    replay(log, after);
}

fn replay(log: Vec<u8>, after: u64) {
    for extent in [Extent::Known, Extent::Committed] {
        let imported = Imported {
            state: StateMachine::default(),
            members: vec![(Bytes::from_static(b"1"), Bytes::new())],
            applied: (Index(after), Term(0)),
            loose_keys: 0,
        };
        let source = Box::new(Bytes::from(log.clone()));
        let segment = Segment { name: "0-0.wal".to_owned(), index: 0, source };
        let mut reader = LogReader::new(vec![segment], after);
        let Ok(tail) = Tail::read(&mut reader, Index(after)) else { return };
        if let Ok(replayed) = import::replay(imported, tail, extent) {
            replayed.imported.state.check();
        }
    }
}
