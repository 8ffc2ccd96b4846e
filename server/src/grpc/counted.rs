//! The messages of a call that is served by a task, counted as they pass.

use core::task::{Context, Poll};

use bytes::Bytes;
use cairn_engine::api::Code;
use cairn_io::runtime::Runtime;

use super::call::{Answers, Gone, Questions, Respond};
use super::method::Method;
use super::status::Status;
use crate::budget::Client;
use crate::context::Context as Server;
use crate::metrics::Metrics;

/// One side of a call.
pub(super) struct Counted<'a, S> {
    metrics: &'a Metrics,
    method: Method,
    /// Whose messages these are, and the time.
    client: Option<(&'a Client, Clock)>,
    side: S,
}

/// A runtime's clock.
type Clock = fn() -> u64;

/// Both sides of a call.
pub(super) fn both<R: Runtime, Q: Questions, A: Respond>(
    server: &Server<R>,
    method: Method,
    questions: Q,
    respond: A,
) -> (Counted<'_, Q>, Counted<'_, A>) {
    let now: Clock = R::now;
    let (metrics, client) = (server.metrics(), server.client().map(|client| (client, now)));
    let questions = Counted { metrics, method, client, side: questions };
    (questions, Counted { metrics, method, client, side: respond })
}

impl<Q: Questions> Questions for Counted<'_, Q> {
    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Status>> {
        let next = self.side.poll_next(context);
        if let Poll::Ready(Ok(Some(message))) = &next {
            self.metrics.received(self.method, message.len());
            if let Some((client, now)) = self.client {
                client.ask(now())?;
            }
        }
        next
    }
}

impl<'a, R: Respond> Respond for Counted<'a, R> {
    type Answers = Counted<'a, R::Answers>;

    fn begin(self) -> Result<Self::Answers, Gone> {
        let Self { metrics, method, client, side } = self;
        Ok(Counted { metrics, method, client, side: side.begin()? })
    }

    fn refuse(self, status: &Status) {
        self.side.refuse(status);
    }

    fn poll_gone(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.side.poll_gone(context)
    }
}

impl<A: Answers> Answers for Counted<'_, A> {
    async fn send(&mut self, framed: Bytes) -> Result<(), Gone> {
        self.metrics.sent(self.method, framed.len());
        self.side.send(framed).await
    }

    async fn room_for_part(&mut self) -> Result<(), Gone> {
        self.side.room_for_part().await
    }

    async fn send_part(&mut self, framed: Bytes) -> Result<(), Gone> {
        self.metrics.sent(self.method, framed.len());
        self.side.send_part(framed).await
    }

    fn finish(self, status: &Status) -> Result<Code, Gone> {
        self.side.finish(status)
    }

    fn poll_gone(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.side.poll_gone(context)
    }
}
