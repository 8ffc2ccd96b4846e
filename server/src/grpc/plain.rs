//! Requests over HTTP/2 that are not gRPC: whoever comes through TLS and is offered HTTP/2 takes it, curl and browsers
//! too, and asks for `/health` or the JSON gateway as over HTTP/1.1.

use core::cell::Cell;
use core::future::poll_fn;
use core::pin::Pin;
use core::task::{Context, Poll};
use std::rc::Rc;

use bytes::Bytes;
use cairn_io::runtime::Runtime;
use h2::RecvStream;
use http::request::Parts;
use hyper::body::{Body, Frame};

use super::call::{Answers as _, Gone};
use super::connection::UNFINISHED_BYTES_MAX;
use super::send::{Responding, Sending};
use crate::context::Context as Server;
use crate::web::{self, Broken, Door, Work};

/// A request's body. What was read of it counts as unfinished for as long as it lives.
pub(super) struct Received {
    body: RecvStream,
    held_bytes: usize,
    unfinished_bytes: Rc<Cell<usize>>,
}

impl Received {
    pub(super) fn new(body: RecvStream, unfinished_bytes: Rc<Cell<usize>>) -> Self {
        Self { body, held_bytes: 0, unfinished_bytes }
    }
}

impl Body for Received {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let data = match self.body.poll_data(context) {
            Poll::Ready(Some(Ok(data))) => data,
            Poll::Ready(Some(Err(_))) => return Poll::Ready(Some(Err(Broken))),
            Poll::Ready(None) => return Poll::Ready(None),
            Poll::Pending => return Poll::Pending,
        };
        drop(self.body.flow_control().release_capacity(data.len()));
        self.held_bytes += data.len();
        self.unfinished_bytes.set(self.unfinished_bytes.get() + data.len());
        if self.unfinished_bytes.get() > UNFINISHED_BYTES_MAX {
            return Poll::Ready(Some(Err(Broken)));
        }
        Poll::Ready(Some(Ok(Frame::data(data))))
    }
}

impl Drop for Received {
    fn drop(&mut self) {
        self.unfinished_bytes.set(self.unfinished_bytes.get() - self.held_bytes);
    }
}

/// Serves one request, as a task.
pub(super) async fn serve<R: Runtime>(
    server: Server<R>,
    door: Door,
    head: Parts,
    body: Received,
    responding: Responding,
) {
    let answer = web::answer(&server, door, head, Box::pin(body), &Work::default()).await;
    // A client that went away is not told.
    send(answer, responding).await.ok();
}

async fn send(answer: web::Answer, mut responding: Responding) -> Result<(), Gone> {
    let (head, mut body) = answer.into_parts();
    let head = http::Response::from_parts(head, ());
    let stream = responding.respond.send_response(head, false)?;
    let mut sending = Sending::on(stream, &responding.outflow);
    while let Some(piece) = next(&mut sending, &mut body).await? {
        sending.send_part(piece).await?;
    }
    sending.end()
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
