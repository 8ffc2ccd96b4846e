//! Calls with one question and an answer in parts: each is made when the client has room for it.

use bytes::Bytes;
use cairn_engine::api::etcdserverpb::SnapshotResponse;
use cairn_engine::api::{Code, Error};
use cairn_engine::range_stream::RangeStream;
use cairn_engine::snapshot::etcd::EtcdSnapshot;
use prost::Message;
use sha2::{Digest, Sha256};

use super::call::{Answers, Gone};
use super::frame;
use super::status::Status;

/// Bytes of the file in one part of a snapshot, as etcd cuts it.
const SNAPSHOT_PART_BYTES: usize = 32 << 10;

/// Sends a range.
pub(super) async fn range(
    mut sending: impl Answers,
    mut stream: RangeStream,
) -> Result<Code, Gone> {
    loop {
        sending.room_for_part().await?;
        let part = stream.next_part();
        if stream.damage().is_some() {
            return sending.finish(&Status::from(Error::Corrupt));
        }
        let Some(part) = part else { return sending.finish(&Status::OK) };
        let message = frame::message(part.len(), |out| out.extend_from_slice(&part));
        sending.send_part(message).await?;
    }
}

/// Sends a snapshot: the file in parts, then its SHA-256 as one more part.
pub(super) async fn snapshot(
    mut sending: impl Answers,
    mut snapshot: EtcdSnapshot,
    version: &str,
) -> Result<Code, Gone> {
    let mut remaining_bytes = snapshot.total_bytes();
    let mut digest = Sha256::new();
    loop {
        sending.room_for_part().await?;
        let part = snapshot.next_part(SNAPSHOT_PART_BYTES);
        if snapshot.damage().is_some() {
            return sending.finish(&Status::from(Error::Corrupt));
        }
        let Some(part) = part else { break };
        digest.update(&part);
        remaining_bytes -= u64::try_from(part.len()).expect("64 bits");
        sending.send_part(snapshot_part(Bytes::from(part), remaining_bytes, version)).await?;
    }
    assert_eq!(remaining_bytes, 0, "the length was known before");
    let sum = Bytes::copy_from_slice(&digest.finalize());
    sending.send(snapshot_part(sum, 0, version)).await?;
    sending.finish(&Status::OK)
}

fn snapshot_part(blob: Bytes, remaining_bytes: u64, version: &str) -> Bytes {
    let part =
        SnapshotResponse { header: None, remaining_bytes, blob, version: version.to_owned() };
    frame::message(part.encoded_len(), |out| part.encode(out).expect("memory grows"))
}
