//! `grpc.health.v1.Health`: whether this member serves, asked once or watched. It always does while it answers; grpc-go's
//! server, which etcd uses, says the same (health/server.go).

use core::future::poll_fn;
use core::pin::pin;
use core::task::Poll;

use cairn_engine::api::Code;
use cairn_engine::api::health::{
    HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus,
};
use cairn_io::runtime::Runtime;
use prost::Message as _;

use super::call::{Answers, Gone, Questions, Respond};
use super::status::Status;
use super::{frame, unary};
use crate::context::Context;

/// The answer to whoever asks once.
///
/// # Errors
/// If it asks about a service by name: none is known.
pub(super) fn check(request: &HealthCheckRequest) -> Result<HealthCheckResponse, Status> {
    if request.service.is_empty() {
        Ok(HealthCheckResponse { status: ServingStatus::Serving.into() })
    } else {
        Err(Status::new(Code::NotFound, "unknown service"))
    }
}

/// Tells a watcher how this member is, which never changes, until one of them ends it.
pub(super) async fn watch<R: Runtime>(
    respond: impl Respond,
    mut questions: impl Questions,
    server: &Context<R>,
) -> Result<Code, Gone> {
    let request: HealthCheckRequest = match questions.only().await.and_then(unary::decode) {
        Ok(request) => request,
        Err(status) => {
            respond.refuse(&status);
            return Ok(status.code);
        }
    };
    let known = if request.service.is_empty() {
        ServingStatus::Serving
    } else {
        ServingStatus::ServiceUnknown
    };
    let answer = HealthCheckResponse { status: known.into() };
    let mut answers = respond.begin()?;
    let encode = |out: &mut Vec<u8>| answer.encode(out).expect("memory grows");
    answers.send(frame::message(answer.encoded_len(), encode)).await?;
    let mut cut = pin!(server.cut());
    let why = poll_fn(|context| {
        if answers.poll_gone(context).is_ready() {
            return Poll::Ready(Err(Gone));
        }
        cut.as_mut().poll(context).map(Ok)
    })
    .await?;
    answers.finish(&Status::from(why))
}
