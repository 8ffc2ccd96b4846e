//! How refusals look: a status of HTTP, and a body in which every version of etcd's clients finds what it looks for.
//!
//! etcd's own form is `{"code":3,"message":"…"}`. Until 3.5 there was `error`, which some clients still read; in streams,
//! an object with names of its own.

use cairn_engine::api::Code;
use http::{HeaderValue, StatusCode, header};
use serde_json::json;

use crate::grpc::status::Status;
use crate::http1;
use crate::web::Answer;

/// The answer that refuses a call.
pub(super) fn answer(status: &Status) -> Answer {
    let (code, message) = (status.code.number(), &status.message);
    let body = json!({"error": message, "code": code, "message": message});
    let mut answer = http1::json(http_status(status.code), body.to_string());
    if status.code == Code::Unauthenticated
        && let Ok(challenge) = HeaderValue::from_str(&status.message)
    {
        answer.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
    }
    answer
}

/// The line that ends a stream.
pub(super) fn line(status: &Status) -> String {
    let http = http_status(status.code);
    let body = json!({"error": {
        "code": status.code.number(),
        "message": status.message,
        "grpc_code": status.code.number(),
        "http_code": http.as_u16(),
        "http_status": http.canonical_reason().unwrap_or_default(),
    }});
    format!("{body}\n")
}

fn http_status(code: Code) -> StatusCode {
    match code {
        Code::Ok => StatusCode::OK,
        Code::Canceled => StatusCode::from_u16(499).expect("three digits"),
        Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => {
            StatusCode::BAD_REQUEST
        }
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::AlreadyExists | Code::Aborted => StatusCode::CONFLICT,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::Unknown | Code::Internal | Code::DataLoss => StatusCode::INTERNAL_SERVER_ERROR,
    }
}
