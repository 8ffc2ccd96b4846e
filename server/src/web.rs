//! Who may ask over HTTP, and who answers: probes and metrics, or the JSON gateway.
//!
//! What carries the request does not matter here. Every answer tells web pages whether they may read it (`--cors`);
//! without TLS, a request must name a host that is allowed (`--host-whitelist`), so that a page which made its own name
//! point here (DNS rebinding) gets nothing.

use core::cell::Cell;
use core::pin::Pin;
use core::task::{Context as TaskContext, Poll};
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use cairn_io::runtime::Runtime;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use http_body_util::Full;
use hyper::body::{Body, Frame};
use tokio::sync::mpsc::Receiver;

use crate::budget::Visitor;
use crate::config::Allowed;
use crate::context::Context;
use crate::{gateway, http1};

/// What HTTP serves, and to whom.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Whether there is a JSON gateway.
    pub gateway: bool,
    /// Whether whoever asks for profiles gets some.
    pub pprof: bool,
    /// Origins of web pages that may ask.
    pub cors: Allowed,
    /// Host names that requests without TLS may name.
    pub host_whitelist: Allowed,
}

impl Default for Settings {
    fn default() -> Self {
        Self { gateway: true, pprof: false, cors: Allowed::All, host_whitelist: Allowed::All }
    }
}

/// Where a request came in.
#[derive(Clone, Debug)]
pub struct Door {
    /// Whether the gateway is there too, or only probes and metrics.
    pub serves_gateway: bool,
    /// Whether it came through TLS.
    pub is_secure: bool,
    /// The name in the client's certificate, if that says who it is.
    pub common_name: Option<Arc<str>>,
    /// Who came.
    pub(crate) visitor: Visitor,
}

/// What is read of a request's body.
pub(crate) type Incoming = Pin<Box<dyn Body<Data = Bytes, Error = Broken>>>;

/// A body that ends too early.
#[derive(Debug)]
pub(crate) struct Broken;

/// An answer.
pub(crate) type Answer = http::Response<Outgoing>;

/// What is sent as an answer's body.
#[derive(Debug)]
pub(crate) enum Outgoing {
    /// All at once.
    Whole(Full<Bytes>),
    /// As it comes.
    Stream {
        /// Pieces of it.
        pieces: Receiver<Bytes>,
        /// For as long as it comes.
        _busy: Busy,
    },
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = core::convert::Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut TaskContext<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match self.get_mut() {
            Self::Whole(whole) => Pin::new(whole).poll_frame(context),
            Self::Stream { pieces, .. } => {
                pieces.poll_recv(context).map(|piece| Some(Ok(Frame::data(piece?))))
            }
        }
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        match self {
            Self::Whole(whole) => whole.size_hint(),
            Self::Stream { .. } => hyper::body::SizeHint::default(),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(whole) => whole.is_end_stream(),
            Self::Stream { .. } => false,
        }
    }
}

/// Whether a connection waits for us, and not for its client.
#[derive(Clone, Debug, Default)]
pub(crate) struct Work(Rc<Cell<bool>>);

/// For as long as this lives, it does.
#[derive(Debug)]
pub(crate) struct Busy(Work);

impl Work {
    /// The request is here: what takes time now is not the client's fault.
    pub(crate) fn begin(&self) -> Busy {
        self.0.set(true);
        Busy(self.clone())
    }

    /// Whether it is so.
    pub(crate) fn is_under_way(&self) -> bool {
        self.0.get()
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.0.set(false);
    }
}

/// Answers a request.
pub(crate) async fn answer<R: Runtime>(
    server: &Context<R>,
    door: Door,
    mut head: Parts,
    body: Incoming,
    work: &Work,
) -> Answer {
    let settings = server.web();
    if !door.is_secure && !host_is_allowed(&settings.host_whitelist, &head) {
        let host = host(&head);
        tracing::warn!(host, "rejecting HTTP request to prevent DNS rebinding attacks");
        return http1::text(StatusCode::MISDIRECTED_REQUEST, UNKNOWN_HOST);
    }
    let mut answer = if head.method == Method::OPTIONS {
        whole(Bytes::new())
    } else {
        match gateway_path(&head) {
            Some(_)
                if door.common_name.is_some()
                    && settings.gateway
                    && server.handle().auth().is_enabled() =>
            {
                http1::text(StatusCode::BAD_REQUEST, IGNORED_NAME)
            }
            Some(path) if door.serves_gateway && settings.gateway => {
                gateway::answer((server, &door.visitor), &path, &mut head, body, work).await
            }
            _ => {
                let _busy = work.begin();
                http1::answer(server, &door, &head).await
            }
        }
    };
    if door.serves_gateway {
        allow_origin(&settings.cors, &head, answer.headers_mut());
    }
    answer
}

/// The path as the gateway knows it; earlier versions called it otherwise.
fn gateway_path(head: &Parts) -> Option<String> {
    let path = head.uri.path();
    let rest = path.strip_prefix("/v3/").or_else(|| path.strip_prefix("/v3beta/"))?;
    Some(format!("/v3/{rest}"))
}

const UNKNOWN_HOST: &str = "This member was asked under a name that it does not know.\n\n\
                            Use TLS, ask it under an allowed name, or allow the name with --host-whitelist.\n";

/// Whoever relies on the name in its certificate shall not find out the hard way that the gateway does not look at it.
const IGNORED_NAME: &str = "CommonName of client sending a request against gateway will be ignored and not used as \
                            expected\n";

/// The host that a request names, without its port.
fn host(head: &Parts) -> &str {
    let named = head.headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let named = named.or_else(|| head.uri.authority().map(http::uri::Authority::as_str));
    let named = named.unwrap_or_default();
    let port = named.rsplit_once(':').filter(|(_, port)| port.bytes().all(|b| b.is_ascii_digit()));
    port.map_or(named, |(host, _)| host).trim_matches(['[', ']'])
}

fn host_is_allowed(whitelist: &Allowed, head: &Parts) -> bool {
    match whitelist {
        Allowed::All => true,
        Allowed::Only(hosts) => hosts.is_empty() || hosts.contains(host(head)),
    }
}

fn allow_origin(cors: &Allowed, head: &Parts, headers: &mut HeaderMap) {
    let origin = match cors {
        Allowed::All => HeaderValue::from_static("*"),
        Allowed::Only(origins) => {
            let Some(origin) = head.headers.get(header::ORIGIN) else { return };
            if !origin.to_str().is_ok_and(|origin| origins.contains(origin)) {
                return;
            }
            origin.clone()
        }
    };
    let methods = HeaderValue::from_static("POST, GET, OPTIONS, PUT, DELETE");
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, methods);
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    let accepted = HeaderValue::from_static("accept, content-type, authorization");
    headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, accepted);
}

/// An answer that is there.
pub(crate) fn whole(body: Bytes) -> Answer {
    http::Response::new(Outgoing::Whole(Full::new(body)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(host: &str, origin: &str) -> Parts {
        let request = http::Request::post("/v3beta/kv/range");
        request.header("host", host).header("origin", origin).body(()).unwrap().into_parts().0
    }

    fn only(text: &str) -> Allowed {
        Allowed::Only([text.to_owned()].into())
    }

    #[test]
    fn hosts_are_compared_without_their_port() {
        for (host, allowed) in [
            ("etcd.io", true),
            ("etcd.io:2379", true),
            ("evil.io", false),
            ("etcd.io:evil", false),
            ("etcd.io.evil", false),
            ("", false),
        ] {
            assert_eq!(host_is_allowed(&only("etcd.io"), &head(host, "")), allowed, "{host}");
        }
        assert!(host_is_allowed(&only("::1"), &head("[::1]:2379", "")));
        assert!(host_is_allowed(&Allowed::All, &head("evil.io", "")));
    }

    #[test]
    fn origins_are_named_if_not_all_may_ask() {
        let allowed = |cors: &Allowed, origin: &str| {
            let mut headers = HeaderMap::new();
            allow_origin(cors, &head("etcd.io", origin), &mut headers);
            headers.get("access-control-allow-origin").map(|o| o.to_str().unwrap().to_owned())
        };
        assert_eq!(allowed(&Allowed::All, "http://a"), Some("*".to_owned()));
        assert_eq!(allowed(&only("http://a"), "http://a"), Some("http://a".to_owned()));
        assert_eq!(allowed(&only("http://a"), "http://b"), None);
    }

    #[test]
    fn earlier_paths_are_understood() {
        assert_eq!(gateway_path(&head("", "")), Some("/v3/kv/range".to_owned()));
    }
}
