//! `LeaseKeepAlive`: answers in the order of the questions, as many as the client likes.

use core::future::{Future, poll_fn};
use core::pin::pin;
use core::task::Poll;

use cairn_engine::LeaseId;
use cairn_engine::api::etcdserverpb::LeaseKeepAliveRequest;
use cairn_engine::api::{Code, Request};
use cairn_io::runtime::Runtime;

use super::connection::Receiving;
use super::send::{Gone, Sending};
use super::status::Status;
use super::{frame, unary};
use crate::context::Context;

/// Serves one stream until the client ends it.
///
/// Each question is answered before the next is read: a client that does not read its answers is not read from.
pub(super) async fn serve<R: Runtime>(
    mut sending: Sending,
    mut receiving: Receiving,
    server: &Context<R>,
) -> Result<Code, Gone> {
    let mut cut = pin!(server.cut());
    loop {
        let mut asked = pin!(receiving.next());
        let asked = poll_fn(|context| match cut.as_mut().poll(context) {
            Poll::Ready(why) => Poll::Ready(Err(Status::from(why))),
            Poll::Pending => asked.as_mut().poll(context),
        });
        let message = match asked.await {
            Ok(Some(message)) => message,
            Ok(None) => return sending.finish(&Status::OK),
            Err(status) => return sending.finish(&status),
        };
        let request = match unary::decode::<LeaseKeepAliveRequest>(message) {
            Ok(request) => request,
            Err(status) => return sending.finish(&status),
        };
        let mut asked = pin!(server.handle().ask(Request::LeaseKeepAlive(LeaseId(request.id))));
        // Whoever went away need not be waited for.
        let outcome = poll_fn(|context| {
            if sending.poll_reset(context).is_ready() {
                return Poll::Ready(Err(Gone));
            }
            asked.as_mut().poll(context).map(Ok)
        })
        .await?;
        match outcome {
            Ok(response) => {
                let message = frame::message(response.encoded_len(), |out| response.encode(out));
                sending.send(message).await?;
            }
            Err(error) => return sending.finish(&Status::from(error)),
        }
    }
}
