//! Requests over HTTP/2 that are not gRPC: whoever comes through TLS and is offered HTTP/2 takes it, curl and browsers
//! too, and asks for `/health` or the JSON gateway as over HTTP/1.1.

use core::future::poll_fn;
use core::pin::Pin;
use core::task::{Context, Poll};
use std::rc::Rc;

use bytes::Bytes;
use cairn_http2::server::Head;
use cairn_io::runtime::Runtime;
use http::request::Parts;
use hyper::body::{Body, Frame};

use super::call::{Answers as _, Gone};
use super::line::{Inbox, Tasked};
use super::receive::UNFINISHED_BYTES_MAX;
use super::send::Sending;
use crate::context::Context as Server;
use crate::web::{self, Broken, Door, Work};

/// A request's head, as the rest of HTTP knows it; `None` if its path is none.
pub(super) fn parts(head: &Head) -> Option<Parts> {
    let uri = http::Uri::builder().path_and_query(head.path());
    let uri = match head.authority() {
        [] => uri,
        authority => uri.scheme(head.scheme()).authority(authority),
    };
    let mut request = http::Request::builder().method(head.method()).uri(uri.build().ok()?);
    for (name, value) in head.fields().filter(|(name, _)| !name.starts_with(b":")) {
        request = request.header(name, value);
    }
    let request = request.version(http::Version::HTTP_2).body(()).ok()?;
    Some(request.into_parts().0)
}

/// A request's body. What was read of it counts as unfinished for as long as it lives.
struct Received {
    inbox: Rc<Inbox>,
    held_bytes: usize,
}

impl Body for Received {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let data = match self.inbox.poll_data(context) {
            Poll::Ready(Some(Ok(data))) => data,
            Poll::Ready(Some(Err(_))) => return Poll::Ready(Some(Err(Broken))),
            Poll::Ready(None) => return Poll::Ready(None),
            Poll::Pending => return Poll::Pending,
        };
        self.held_bytes += data.len();
        let unfinished_bytes = &self.inbox.line.unfinished_bytes;
        unfinished_bytes.set(unfinished_bytes.get() + data.len());
        if unfinished_bytes.get() > UNFINISHED_BYTES_MAX {
            return Poll::Ready(Some(Err(Broken)));
        }
        Poll::Ready(Some(Ok(Frame::data(data))))
    }
}

impl Drop for Received {
    fn drop(&mut self) {
        let unfinished_bytes = &self.inbox.line.unfinished_bytes;
        unfinished_bytes.set(unfinished_bytes.get() - self.held_bytes);
    }
}

/// Serves one request, as a task.
pub(super) async fn serve<R: Runtime>(server: Server<R>, door: Door, head: Parts, tasked: Tasked) {
    let body = Received { inbox: tasked.inbox.clone(), held_bytes: 0 };
    let answer = web::answer(&server, door, head, Box::pin(body), &Work::default()).await;
    // A client that went away is not told.
    send(answer, tasked.inbox.clone()).await.ok();
}

async fn send(answer: web::Answer, inbox: Rc<Inbox>) -> Result<(), Gone> {
    let (head, mut body) = answer.into_parts();
    let fields: Vec<(&[u8], &[u8])> =
        head.headers.iter().map(|(name, value)| (name.as_ref(), value.as_bytes())).collect();
    let mut sending = Sending::begin(inbox, head.status.as_u16(), &fields);
    while let Some(piece) = next(&mut sending, &mut body).await? {
        sending.send_part(piece).await?;
    }
    sending.end();
    Ok(())
}

/// The next piece of an answer, unless the client ends the call before.
async fn next(sending: &mut Sending, body: &mut web::Outgoing) -> Result<Option<Bytes>, Gone> {
    poll_fn(|context| {
        let frame = match Pin::new(&mut *body).poll_frame(context) {
            Poll::Ready(Some(Ok(frame))) => frame,
            Poll::Ready(None) => return Poll::Ready(Ok(None)),
            Poll::Pending => return sending.poll_gone(context).map(|()| Err(Gone)),
        };
        Poll::Ready(Ok(frame.into_data().ok()))
    })
    .await
}
