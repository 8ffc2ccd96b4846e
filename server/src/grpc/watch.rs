//! Watch: one stream of the engine for one stream of the client.

use core::future::{Future, poll_fn};
use core::pin::{Pin, pin};
use core::task::Poll;
use std::collections::VecDeque;

use bytes::Bytes;
use cairn_engine::api::etcdserverpb::WatchRequest;
use cairn_engine::api::etcdserverpb::watch_request::RequestUnion;
use cairn_engine::api::{Code, Error};
use cairn_engine::watch;
use cairn_io::driver::{Handle, WatchStream};
use cairn_io::runtime::Runtime;

use super::call::{Answers, Gone, Questions};
use super::status::Status;
use super::{frame, unary};
use crate::budget::{Budget, Client, Held};
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
    let stream = handle.watch(server.connection());
    let mut watching = server.metrics().watching();
    let mut asks = true;
    let mut watchers = Watchers::default();
    let mut cut = pin!(server.cut());
    loop {
        let asks_now = asks && watchers.refused.len() < REFUSED_MAX;
        match next(&mut sending, &mut receiving, &stream, asks_now, cut.as_mut()).await {
            Happened::Asked(Ok(Some(message))) => match unary::decode::<WatchRequest>(message) {
                Ok(request) if watchers.admit(&request, server.client(), R::now()) => {
                    stream.send(request);
                }
                Ok(_) => {
                    let mut data = Vec::new();
                    watchers.refuse(handle, &mut data);
                    sending.send(Bytes::from(data)).await?;
                }
                Err(status) => return sending.finish(&status),
            },
            Happened::Asked(Ok(None)) => asks = false,
            Happened::Asked(Err(status)) => return sending.finish(&status),
            Happened::Owed(response) => {
                let told = (&mut watching, &mut watchers);
                send(&mut sending, &stream, handle, told, response).await?;
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
    (watching, watchers): (&mut Watching<'_>, &mut Watchers),
    first: watch::Response,
) -> Result<(), Gone> {
    let mut data = Vec::new();
    let mut credit = 0;
    let mut next = Some(first);
    while let Some(response) = next {
        watching.tell(&response);
        credit += response.encoded_len();
        frame::append(&mut data, |out| response.encode(handle.header(), out));
        watchers.note(&response);
        watchers.refuse(handle, &mut data);
        next = if data.len() < GATHER_BYTES { stream.try_receive() } else { None };
    }
    sending.send(Bytes::from(data)).await?;
    stream.sent(credit);
    Ok(())
}

/// The watchers of a stream, as the budget of its client counts them. One that is refused is told so in its turn: clients
/// know by the order which of their requests an answer is for.
#[derive(Default)]
struct Watchers {
    held: Option<Held>,
    /// How many were asked for and not refused here, and how many of those were answered.
    asked: u64,
    answered: u64,
    /// Those that were refused: after how many others, and why.
    refused: VecDeque<(u64, Status)>,
}

impl Watchers {
    /// Whether a request may go on.
    fn admit(&mut self, request: &WatchRequest, client: Option<&Client>, now: u64) -> bool {
        let (Some(RequestUnion::CreateRequest(_)), Some(client)) = (&request.request_union, client)
        else {
            return true;
        };
        let taken = match &mut self.held {
            Some(held) => held.set(held.amount() + 1, now),
            None => client.take(Budget::Watches, 1, now).map(|held| self.held = Some(held)),
        };
        match taken {
            Ok(()) => self.asked += 1,
            Err(status) => {
                self.refused.push_back((self.asked, status));
                return false;
            }
        }
        true
    }

    /// Notes what the engine says.
    fn note(&mut self, response: &watch::Response) {
        self.answered += u64::from(response.created);
        if let Some(held) = self.held.as_mut().filter(|_| response.canceled) {
            // Having less is never refused.
            held.set(held.amount().saturating_sub(1), 0).ok();
        }
    }

    /// Appends the refusals whose turn it is.
    fn refuse(&mut self, handle: &Handle, data: &mut Vec<u8>) {
        while let Some((_, status)) =
            self.refused.pop_front_if(|(after, _)| *after == self.answered)
        {
            let refusal = watch::Response {
                watch_id: NO_WATCHER,
                revision: handle.header().revision,
                created: true,
                canceled: true,
                cancel_reason: status.message,
                ..watch::Response::default()
            };
            frame::append(data, |out| refusal.encode(handle.header(), out));
        }
    }
}

/// What an answer about a watcher names that was not created.
const NO_WATCHER: i64 = -1;
/// Refusals that wait for their turn; with more, no requests are read.
const REFUSED_MAX: usize = 1024;
/// Responses are gathered up to this size before they are sent.
const GATHER_BYTES: usize = 64 << 10;
