//! Watch: one stream of the engine for one stream of the client.

use core::future::{Future, poll_fn};
use core::pin::{Pin, pin};
use core::task::Poll;

use bytes::Bytes;
use cairn_engine::api::etcdserverpb::WatchRequest;
use cairn_engine::api::{Code, Error};
use cairn_engine::watch;
use cairn_io::driver::{Handle, WatchStream};
use cairn_io::runtime::Runtime;

use super::call::{Answers, Gone, Questions};
use super::status::Status;
use super::{frame, unary};
use crate::context::Context;
use crate::metrics::Watching;

/// What happened on a watch stream.
enum Happened {
    Asked(Result<Option<Bytes>, Status>),
    Owed(watch::Response),
    /// The server ends it.
    Cut(Error),
    Gone,
}

/// Serves one stream until the client ends it. Its half-close changes nothing: the stream goes on.
pub(super) async fn serve<R: Runtime>(
    mut sending: impl Answers,
    mut receiving: impl Questions,
    server: &Context<R>,
) -> Result<Code, Gone> {
    let handle = server.handle();
    let stream = handle.watch();
    let mut watching = server.metrics().watching();
    let mut asks = true;
    let mut cut = pin!(server.cut());
    loop {
        match next(&mut sending, &mut receiving, &stream, asks, cut.as_mut()).await {
            Happened::Asked(Ok(Some(message))) => match unary::decode::<WatchRequest>(message) {
                Ok(request) => stream.send(request),
                Err(status) => return sending.finish(&status),
            },
            Happened::Asked(Ok(None)) => asks = false,
            Happened::Asked(Err(status)) => return sending.finish(&status),
            Happened::Owed(response) => {
                send(&mut sending, &stream, handle, &mut watching, response).await?;
            }
            Happened::Cut(why) => return sending.finish(&Status::from(why)),
            Happened::Gone => return sending.finish(&Status::from(Error::WatchCanceled)),
        }
    }
}

async fn next(
    sending: &mut impl Answers,
    receiving: &mut impl Questions,
    stream: &WatchStream,
    asks: bool,
    mut cut: Pin<&mut impl Future<Output = Error>>,
) -> Happened {
    let mut asked = pin!(receiving.next());
    let mut owed = pin!(stream.receive());
    poll_fn(|context| {
        if let Poll::Ready(response) = owed.as_mut().poll(context) {
            return Poll::Ready(Happened::Owed(response));
        }
        if let Poll::Ready(why) = cut.as_mut().poll(context) {
            return Poll::Ready(Happened::Cut(why));
        }
        if asks && let Poll::Ready(message) = asked.as_mut().poll(context) {
            return Poll::Ready(Happened::Asked(message));
        }
        sending.poll_gone(context).map(|()| Happened::Gone)
    })
    .await
}

/// Sends a response, and what follows it at once, in one piece.
async fn send(
    sending: &mut impl Answers,
    stream: &WatchStream,
    handle: &Handle,
    watching: &mut Watching<'_>,
    first: watch::Response,
) -> Result<(), Gone> {
    let mut data = Vec::new();
    let mut credit = 0;
    let mut next = Some(first);
    while let Some(response) = next {
        watching.tell(&response);
        credit += response.encoded_len();
        frame::append(&mut data, |out| response.encode(handle.header(), out));
        next = if data.len() < GATHER_BYTES { stream.try_receive() } else { None };
    }
    sending.send(Bytes::from(data)).await?;
    stream.sent(credit);
    Ok(())
}

/// Responses are gathered up to this size before they are sent.
const GATHER_BYTES: usize = 64 << 10;
