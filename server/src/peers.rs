//! The peer port: what other members, those that want to become one, and some tools find there.
//!
//! Links between members speak the protocol of [`cairn_engine::peer`]; whoever begins in another way is answered in
//! HTTP/1.1, as on etcd's peer port: `/members` tells a member that joins who there is ([`crate::join`]), and Patroni
//! looks there for the client URLs of the cluster.

use core::convert::Infallible;
use core::time::Duration;

use cairn_engine::api::etcdserverpb::{Member, MemberListRequest};
use cairn_engine::api::{Request, Response};
use cairn_io::runtime::{Connection as Io, Runtime};
use http::{HeaderValue, Method, StatusCode, header};
use hyper::body::Incoming;
use hyper::server::conn::http1::Builder;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Map, Value, json};

use crate::context::Context;
use crate::http1::{json, text, version};
use crate::join::CLUSTER_ID_HEADER;
use crate::web::Answer;

/// How long a connection may live; whoever asks more connects anew.
const LIFE_LIMIT: Duration = Duration::from_secs(60);
/// Bytes of a request's head.
const HEAD_BYTES_MAX: usize = 16 << 10;

/// Serves a connection that speaks HTTP/1.1 until it ends.
pub(crate) async fn serve_http<R: Runtime>(server: Context<R>, io: Io) {
    let service = service_fn(|request: http::Request<Incoming>| {
        let server = server.clone();
        async move { Ok::<_, Infallible>(answer(&server, &request).await) }
    });
    let mut builder = Builder::new();
    builder.max_buf_size(HEAD_BYTES_MAX);
    let connection = builder.serve_connection(TokioIo::new(io), service);
    // How a client ends its connection is its own affair.
    server.unless_stopped(server.within(LIFE_LIMIT, connection)).await;
}

async fn answer<R: Runtime>(server: &Context<R>, request: &http::Request<Incoming>) -> Answer {
    let path = request.uri().path();
    if !matches!(path, "/members" | "/version" | "/downgrade/enabled") {
        return text(StatusCode::NOT_FOUND, "404 page not found\n");
    }
    if request.method() != Method::GET {
        let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed\n");
        answer.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET"));
        return answer;
    }
    match path {
        "/version" => version(server),
        "/downgrade/enabled" => downgrade_enabled(server).await,
        _ => members(server).await,
    }
}

/// Whether the cluster is being downgraded, as this member knows.
async fn downgrade_enabled<R: Runtime>(server: &Context<R>) -> Answer {
    let mut answer = match server.own_handle().ask(Request::Status).await {
        Ok(Response::Status(status)) => {
            let enabled = status.response.downgrade_info.is_some_and(|info| info.enabled);
            text(StatusCode::OK, &enabled.to_string())
        }
        Ok(_) => unreachable!("each question has its kind of answer"),
        Err(error) => text(StatusCode::SERVICE_UNAVAILABLE, &format!("{error}\n")),
    };
    name_cluster(server, &mut answer);
    answer
}

/// The members as this one knows them, whether it is up to date or not.
async fn members<R: Runtime>(server: &Context<R>) -> Answer {
    let request = Request::MemberList(MemberListRequest { linearizable: false });
    let mut answer = match server.own_handle().ask(request).await {
        Ok(Response::MemberList(list)) => {
            let list: Vec<Value> = list.members.into_iter().map(to_json).collect();
            json(StatusCode::OK, format!("{}\n", Value::from(list)))
        }
        Ok(_) => unreachable!("each question has its kind of answer"),
        Err(error) => text(StatusCode::SERVICE_UNAVAILABLE, &format!("{error}\n")),
    };
    name_cluster(server, &mut answer);
    answer
}

fn name_cluster<R: Runtime>(server: &Context<R>, answer: &mut Answer) {
    let cluster = format!("{:x}", server.handle().header().cluster_id);
    let cluster = HeaderValue::try_from(cluster).expect("digits");
    answer.headers_mut().insert(CLUSTER_ID_HEADER, cluster);
}

/// A member as Go prints it: what is empty is left out.
fn to_json(member: Member) -> Value {
    let Member { id, name, peer_urls, client_urls, is_learner } = member;
    let mut fields = Map::from_iter([
        ("id".to_owned(), Value::from(id)),
        ("peerURLs".to_owned(), Value::from(peer_urls)),
    ]);
    if is_learner {
        fields.insert("isLearner".to_owned(), json!(true));
    }
    if !name.is_empty() {
        fields.insert("name".to_owned(), Value::from(name));
    }
    if !client_urls.is_empty() {
        fields.insert("clientURLs".to_owned(), Value::from(client_urls));
    }
    Value::from(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_told_as_etcd_tells_them() {
        let started = Member {
            id: u64::MAX,
            name: "a".to_owned(),
            peer_urls: vec!["http://a:2380".to_owned()],
            client_urls: vec!["http://a:2379".to_owned()],
            is_learner: false,
        };
        assert_eq!(
            to_json(started).to_string(),
            r#"{"clientURLs":["http://a:2379"],"id":18446744073709551615,"name":"a","peerURLs":["http://a:2380"]}"#
        );
        let added = Member { id: 7, is_learner: true, ..Member::default() };
        assert_eq!(to_json(added).to_string(), r#"{"id":7,"isLearner":true,"peerURLs":[]}"#);
    }
}
