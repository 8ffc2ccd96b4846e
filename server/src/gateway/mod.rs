//! The JSON gateway: etcd's gRPC API for whoever speaks HTTP and JSON (grpc-gateway, as etcd configures it).
//!
//! A request is posted to a path below `/v3/`; its body is the request message, the answer's body the response message. The
//! message is put into wire form and then goes the way of every gRPC call ([`call`]): the same
//! checks, the same texts, no socket in between.
//!
//! | file | what |
//! |---|---|
//! | routes.rs | which path asks for which method |
//! | schema.rs, descriptor.rs | the generated table of all messages |
//! | read.rs, write.rs | JSON to wire form, and back |
//! | messages.rs | JSON objects out of a stream of bytes |
//! | exchange.rs | a call's questions and answers, over a body |
//! | refusal.rs | how refusals look |
//!
//! Limits: no `WebSocket`.

pub mod descriptor;
pub mod messages;
pub mod read;
pub mod schema;
pub mod write;

mod exchange;
mod refusal;
mod routes;

use core::time::Duration;

use bytes::Bytes;
use cairn_engine::api::{Code, Error};
use cairn_io::runtime::Runtime;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use self::exchange::{Asked, Begun, Shape, Unanswered};
use crate::budget::Visitor;
use crate::context::Context;
use crate::grpc::call::{self, Questions as _};
use crate::grpc::frame;
use crate::grpc::method::{Kind, Method};
use crate::grpc::status::Status;
use crate::grpc::timeout;
use crate::http1;
use crate::web::{Answer, Incoming, Outgoing, Work};

/// How long a body may take that is to be read whole.
const BODY_LIMIT: Duration = Duration::from_secs(60);

/// Answers what was sent to a path below `/v3/`.
pub(crate) async fn answer<R: Runtime>(
    (server, visitor): (&Context<R>, &Visitor),
    path: &str,
    head: &mut Parts,
    body: Incoming,
    work: &Work,
) -> Answer {
    let Some(method) = routes::method(path) else {
        return refusal::answer(&Status::new(Code::NotFound, "Not Found"));
    };
    if head.method != http::Method::POST {
        return refusal::answer(&Status::new(Code::Unimplemented, "Method Not Allowed"));
    }
    let Ok(limit) = timeout::read(&head.headers) else {
        let text = head.headers.get(timeout::NAME).map_or(&b""[..], |value| value.as_bytes());
        let text = format!("invalid grpc-timeout: {}", String::from_utf8_lossy(text));
        return refusal::answer(&Status::new(Code::InvalidArgument, text));
    };
    server.metrics().started(method);
    let began = R::now();
    // The name in a certificate is nobody's here, as in etcd.
    let server = match call::admit(server, method, &metadata(&head.headers), (visitor, None)) {
        Ok(admitted) => &server.for_call(admitted),
        Err(status) => {
            server.answered(method, began, status.code);
            return refusal::answer(&status);
        }
    };
    let deadline = exchange::deadline::<R>(limit);
    let shape = shape(method);
    let patience = match shape.kind {
        Kind::BidiStream => deadline,
        Kind::Unary | Kind::ServerStream => {
            let limit = exchange::deadline::<R>(Some(BODY_LIMIT));
            deadline.min(limit).or(limit)
        }
    };
    let asked = Asked::new(server, body, shape, exchange::alarm::<R>(patience));
    if call::needs_task(method) {
        return begin(server.clone(), method, deadline, asked, work).await;
    }
    let outcome = ask(server, method, deadline, asked, work).await;
    server.answered(method, began, outcome.as_ref().map_or_else(|s| s.code, |_| Code::Ok));
    match outcome {
        Ok(framed) => {
            let mut json = Vec::with_capacity(2 * framed.len());
            write::write(shape.output, &framed[frame::PREFIX_BYTES..], &mut json);
            message(json.into())
        }
        Err(status) => refusal::answer(&status),
    }
}

/// Asks a question that is answered at once.
async fn ask<R: Runtime>(
    server: &Context<R>,
    method: Method,
    deadline: Option<u64>,
    mut asked: Asked,
    work: &Work,
) -> Result<Bytes, Status> {
    let question = asked.only().await?;
    let _busy = work.begin();
    let Some(deadline) = deadline else { return call::ask(server, method, question).await };
    let limit = Duration::from_nanos(deadline.saturating_sub(R::now()));
    let answer = server.within(limit, call::ask(server, method, question)).await;
    answer.unwrap_or_else(|| Err(Error::ContextDeadlineExceeded.into()))
}

/// Begins a call that is served by a task, and waits for the beginning of its answer.
async fn begin<R: Runtime>(
    server: Context<R>,
    method: Method,
    deadline: Option<u64>,
    asked: Asked,
    work: &Work,
) -> Answer {
    let busy = work.begin();
    let alarm = exchange::alarm::<R>(deadline);
    let (unanswered, begins, pieces) = Unanswered::<R>::new(shape(method), alarm);
    let began = R::now();
    R::spawn(async move {
        let outcome = call::serve(&server, method, deadline, asked, unanswered).await;
        server.ended(method, began, outcome.unwrap_or(Code::Canceled));
    });
    match begins.await {
        Ok(Begun::Message(json)) => message(json),
        Ok(Begun::Lines) => json(Outgoing::Stream { pieces, _busy: busy }),
        Ok(Begun::Refused(status)) => refusal::answer(&status),
        // Its task has ended without a word.
        Err(_) => refusal::answer(&Error::ContextCanceled.into()),
    }
}

/// How a method's messages look.
fn shape(method: Method) -> Shape {
    let row = method.row();
    let is_it = |name: &str| {
        name.split_once('/')
            .is_some_and(|(service, name)| service == row.service && name == row.name)
    };
    let found = schema::METHODS.iter().find(|(name, ..)| is_it(name));
    let (_, input, output) = found.expect("every method that has a route is in the table");
    Shape { input, output, kind: row.kind }
}

/// What gRPC calls metadata: `Grpc-Metadata-X` is `x`, and `Authorization` stays.
fn metadata(headers: &HeaderMap) -> HeaderMap {
    let mut metadata = HeaderMap::new();
    for (name, value) in headers {
        let name = match name.as_str().strip_prefix("grpc-metadata-") {
            Some(rest) => HeaderName::from_bytes(rest.as_bytes()).ok(),
            None => Some(name.clone()).filter(|name| name == http::header::AUTHORIZATION),
        };
        if let Some(name) = name {
            metadata.append(name, value.clone());
        }
    }
    metadata
}

/// An answer that is a message.
fn message(body: Bytes) -> Answer {
    json(Outgoing::Whole(http_body_util::Full::new(body)))
}

fn json(body: Outgoing) -> Answer {
    let mut answer = http::Response::new(body);
    *answer.status_mut() = StatusCode::OK;
    let headers = answer.headers_mut();
    headers.insert(http::header::CONTENT_TYPE, http1::JSON);
    let kind = HeaderValue::from_static("application/grpc");
    headers.insert("grpc-metadata-content-type", kind);
    answer
}

#[cfg(test)]
mod tests {
    use super::messages::Objects;
    use super::{read, schema, write};

    /// What people send, to be spoilt.
    const GOOD: [&str; 6] = [
        r#"{"key":"Zm9v","range_end":"-_8","limit":"7","sort_order":"DESCEND","sortTarget":3,"keys_only":true}"#,
        r#"{"compare":[{"key":"Zm9v","target":"CREATE","create_revision":"0"},{"value":"","result":77}],
            "success":[{"request_put":{"key":"YQ==","lease":-5}},{"requestTxn":{"failure":[{}]}}]}"#,
        r#"{"create_request":{"key":"AA==","filters":["NODELETE",0,"NOPE"],"watch_id":-1}} {"progress_request":{}}"#,
        r#"{"ID":"9223372036854775807","TTL":1e3,"peerURLs":["http://\u00fc:1","\\\""],"isLearner":false}"#,
        r#"{"leader":{"name":"ZQ==","rev":"18446744073709551615"},"value":null,"memberID":"1","alarm":"CORRUPT"}"#,
        r#"{"name":"role","perm":{"permType":"READWRITE","key":"YQ","range_end":"Yg=="},"x":[[{}],1.5,"y"]}"#,
    ];

    /// Whatever a client sends, it is read or refused; and what was read is printed so that it reads the same again.
    #[test]
    fn spoilt_json_is_read_or_refused() {
        const SEED: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut state = SEED;
        let mut random = move |below: usize| {
            // xorshift64*
            state ^= state >> 12;
            state ^= state << 25;
            state ^= state >> 27;
            let bits = usize::try_from(state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33).unwrap();
            bits % below
        };
        let mut was_read = 0;
        for _ in 0..20_000 {
            let mut json = GOOD[random(GOOD.len())].as_bytes().to_vec();
            for _ in 0..random(4) {
                let place = random(json.len());
                match random(4) {
                    0 => json[place] = b"{}[]\",:\\0-e.nt "[random(15)],
                    1 => json[place] = u8::try_from(random(256)).unwrap(),
                    2 => drop(json.drain(place..json.len().min(place + random(9)))),
                    _ => json.extend_from_within(place..),
                }
            }
            let (_, input, _) = schema::METHODS[random(schema::METHODS.len())];
            let mut objects = Objects::new(1 << 20);
            objects.push(&json);
            while let Ok(Some(object)) = objects.cut() {
                let Ok(message) = read::read(input, &object) else { continue };
                was_read += 1;
                let (mut printed, mut again) = (Vec::new(), Vec::new());
                write::write(input, &message, &mut printed);
                let message = read::read(input, &printed).unwrap();
                write::write(input, &message, &mut again);
                let text = String::from_utf8(json.clone());
                assert_eq!(printed, again, "seed {SEED:x}: {text:?}");
            }
        }
        assert!(was_read > 5000, "{was_read}");
    }
}
