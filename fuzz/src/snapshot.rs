//! Snapshots: as a leader sends them they become its state; harmed with good checksums, as a liar might send them, they
//! are refused or become another, and nothing else happens.

use cairn_engine::ClusterId;
use cairn_engine::api::etcdserverpb::{AuthUserAddRequest, LeaseGrantRequest, PutRequest};
use cairn_engine::auth::{Author, Change};
use cairn_engine::command::{Command, Stamp};
use cairn_engine::lease::ClusterTime;
use cairn_engine::snapshot::Position;
use cairn_engine::snapshot::reader::Reader;
use cairn_engine::snapshot::writer::SnapshotWriter;
use cairn_engine::state_machine::StateMachine;

use crate::choices::Choices;

const CLUSTER: ClusterId = ClusterId(7);
/// Bytes in front of a chunk's: length and checksum, section, number.
const HEAD_BYTES: usize = 13;

/// Makes a state of some commands, and harms its snapshot: the first byte says how many commands there are, each of
/// which takes a byte; what is left are chunks, places and bytes to put there.
pub fn snapshot_stream(data: &[u8]) {
    let mut choices = Choices(data);
    let mut state = StateMachine::default();
    for number in 0..choices.byte() % 32 {
        let command = command(choices.byte(), i64::from(number) + 1);
        let stamp = Stamp { time: ClusterTime(0), author: Author::Member, origin: None };
        drop(state.apply(stamp, command));
    }
    let mut writer = SnapshotWriter::new(CLUSTER, Position::default(), &state);
    let mut chunks: Vec<Vec<u8>> = core::iter::from_fn(|| writer.next_chunk()).collect();
    let is_harmed = !choices.is_empty();
    while !choices.is_empty() {
        let chunk = choices.below(256) % chunks.len();
        harm(&mut chunks[chunk], &mut choices);
    }
    let stream = chunks.concat();
    let mut reader = Reader::new(CLUSTER);
    // Cut where no chunk ends.
    let taken = stream.chunks(97).try_for_each(|part| reader.push(part));
    let read = taken.and_then(|()| reader.finish());
    match read {
        Ok((_, read)) if !is_harmed => {
            read.check();
            assert_eq!(read.store.view().revision(), state.store.view().revision());
            assert_eq!(read.lessor.leases().len(), state.lessor.leases().len());
        }
        Ok(_) => {}
        Err(error) => assert!(is_harmed, "{error}"),
    }
}

fn command(kind: u8, number: i64) -> Command {
    let key = vec![kind / 4 % 8].into();
    match kind % 4 {
        0 => Command::LeaseGrant(LeaseGrantRequest { ttl: 60, id: number }),
        1 => Command::Auth(Change::UserAdd(AuthUserAddRequest {
            name: format!("user {number}"),
            hashed_password: "hash".to_owned(),
            ..AuthUserAddRequest::default()
        })),
        _ => {
            let lease = if kind & 64 == 0 { 0 } else { 1 };
            Command::Put(PutRequest {
                key,
                value: vec![kind; 40].into(),
                lease,
                ..PutRequest::default()
            })
        }
    }
}

/// Changes a byte of a chunk, or takes some away, and makes its length and checksum fit again.
fn harm(chunk: &mut Vec<u8>, choices: &mut Choices<'_>) {
    let place = choices.below(chunk.len() - 8) + 8;
    match choices.byte() {
        0 if place >= HEAD_BYTES => chunk.truncate(place),
        byte => chunk[place] = byte,
    }
    let length = u32::try_from(chunk.len() - HEAD_BYTES).expect("chunks are small");
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&chunk[8..]);
    chunk[..4].copy_from_slice(&length.to_le_bytes());
    chunk[4..8].copy_from_slice(&hasher.finalize().to_le_bytes());
}
