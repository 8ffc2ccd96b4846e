//! Sending on one stream, no faster than the client reads.

use core::future::poll_fn;
use core::task::{Context, Poll};
use std::rc::Rc;

use bytes::Bytes;
use cairn_engine::api::Code;
use h2::SendStream;
use h2::server::SendResponse;

use super::call::{Answers, Gone, Respond};
use super::outflow::{Outflow, Sender};
use super::status::{Status, response_head};

/// A call of a connection whose answer is a stream of messages, or takes its time.
pub(super) struct Responding {
    pub(super) respond: SendResponse<Bytes>,
    pub(super) outflow: Rc<Outflow>,
}

impl Respond for Responding {
    type Answers = Sending;

    fn begin(mut self) -> Result<Sending, Gone> {
        // Sends the head of the response.
        Ok(Sending::on(self.respond.send_response(response_head(), false)?, &self.outflow))
    }

    fn refuse(mut self, status: &Status) {
        // A client that went away is not told.
        drop(self.respond.send_response(status.response(), true));
    }

    fn poll_gone(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.respond.poll_reset(context).map(drop)
    }
}

/// The sending half of a call whose answer is a stream of messages.
pub(super) struct Sending {
    stream: SendStream<Bytes>,
    outflow: Sender,
}

impl From<h2::Error> for Gone {
    fn from(_: h2::Error) -> Self {
        Self
    }
}

impl Sending {
    /// Goes on after the head of the response.
    pub(super) fn on(stream: SendStream<Bytes>, outflow: &Rc<Outflow>) -> Self {
        Self { stream, outflow: outflow.sender() }
    }

    /// Ends a call that is no gRPC.
    pub(super) fn end(mut self) -> Result<(), Gone> {
        self.stream.send_data(Bytes::new(), true)?;
        Ok(())
    }

    fn poll_takes_data(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Gone>> {
        if self.poll_gone(context).is_ready() {
            return Poll::Ready(Err(Gone));
        }
        self.outflow.poll_takes_data(context).map(Ok)
    }
}

impl Answers for Sending {
    /// Sends data as the client's window allows; when it returns, all of it has been handed to the connection.
    async fn send(&mut self, mut data: Bytes) -> Result<(), Gone> {
        while !data.is_empty() {
            poll_fn(|context| self.poll_takes_data(context)).await?;
            self.stream.reserve_capacity(data.len().min(CHUNK_BYTES_MAX));
            let capacity =
                poll_fn(|context| self.stream.poll_capacity(context)).await.ok_or(Gone)??;
            if capacity > 0 {
                let chunk = data.split_to(capacity.min(data.len()));
                self.outflow.handed(chunk.len());
                self.stream.send_data(chunk, false)?;
            }
        }
        Ok(())
    }

    async fn room_for_part(&mut self) -> Result<(), Gone> {
        poll_fn(|context| {
            if self.poll_gone(context).is_ready() {
                return Poll::Ready(Err(Gone));
            }
            self.outflow.poll_room_for_part(context).map(Ok)
        })
        .await
    }

    async fn send_part(&mut self, part: Bytes) -> Result<(), Gone> {
        let _counted = self.outflow.count_part(part.len());
        self.send(part).await
    }

    fn finish(mut self, status: &Status) -> Result<Code, Gone> {
        self.stream.send_trailers(status.trailers())?;
        Ok(status.code)
    }

    fn poll_gone(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.stream.poll_reset(context).map(drop)
    }
}

/// What is handed to the connection at once, at most: what waits there is memory that nobody counts.
const CHUNK_BYTES_MAX: usize = 64 << 10;
