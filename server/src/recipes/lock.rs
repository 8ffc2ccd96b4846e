//! The lock: whoever is first in line holds it (etcd `concurrency/mutex.go`).

use core::future::Future;
use core::pin::Pin;

use bytes::Bytes;
use cairn_engine::api::check::check_delete_range;
use cairn_engine::api::etcdserverpb::DeleteRangeRequest;
use cairn_engine::api::v3lockpb::{LockRequest, LockResponse, UnlockRequest, UnlockResponse};
use cairn_engine::api::{Error, Request, Response};
use cairn_io::driver::Handle;

use super::lease_or_new;
use super::queue::{Lost, Queue};

/// Waits for the lock. Whoever asks again with the same lease has the same place, and the lock if that is the first.
pub(super) async fn lock(
    handle: &Handle,
    request: LockRequest,
    given_up: Pin<&mut impl Future<Output = Error>>,
) -> Result<LockResponse, Error> {
    let lease = lease_or_new(handle, request.lease).await?;
    let queue = Queue::new(&request.name);
    let joined = queue.join(handle, lease, Bytes::new()).await?;
    let header = if joined.owns {
        joined.header
    } else {
        match queue.turn(handle, &joined.place, given_up).await {
            Ok(header) => header,
            Err(Lost::Place) => return Err(Error::SessionExpired),
            Err(Lost::Error(error)) => return Err(error),
        }
    };
    Ok(LockResponse { header: Some(header), key: joined.place.key })
}

/// Deletes the key; it may be gone already.
pub(super) async fn unlock(
    handle: &Handle,
    request: UnlockRequest,
) -> Result<UnlockResponse, Error> {
    let request = DeleteRangeRequest { key: request.key, ..DeleteRangeRequest::default() };
    check_delete_range(&request)?;
    let Response::DeleteRange(deleted) = handle.ask(Request::DeleteRange(request)).await? else {
        unreachable!("each question has its kind of answer")
    };
    Ok(UnlockResponse { header: deleted.header })
}
