//! What people look at who want to know what goes on inside: `/debug/vars`.
//!
//! etcd shows the insides of a Go program there. Of its variables those are here that mean the same to Cairn.

use cairn_engine::api::{Request, Response};
use cairn_engine::raft::RoleName;
use cairn_io::runtime::Runtime;
use http::StatusCode;
use rustix::process::{Resource, getrlimit};
use serde_json::json;

use crate::context::Context;
use crate::http1::{json, text};
use crate::web::Answer;
use crate::{flags, version};

/// `/debug/vars`: a JSON object.
pub(crate) async fn variables<R: Runtime>(server: &Context<R>) -> Answer {
    let handle = server.own_handle();
    let status = match handle.ask(Request::Status).await {
        Ok(Response::Status(answer)) => answer.status,
        Ok(_) => unreachable!("each question has its kind of answer"),
        Err(error) => return text(StatusCode::SERVICE_UNAVAILABLE, &format!("{error}\n")),
    };
    let role = match status.role {
        RoleName::Follower => "StateFollower",
        RoleName::PreCandidate => "StatePreCandidate",
        RoleName::Candidate => "StateCandidate",
        RoleName::Leader => "StateLeader",
    };
    let variables = json!({
        "cairn.version": version::CAIRN_VERSION,
        "cmdline": flags::arguments(),
        "file_descriptor_limit": getrlimit(Resource::Nofile).current,
        "raft.status": {
            "id": format!("{:x}", handle.header().member_id),
            "term": status.term.0,
            "commit": status.commit.0,
            "lead": format!("{:x}", status.leader.0),
            "raftState": role,
            "applied": status.applied.0,
            "last": status.last.0,
        },
        "store": {
            "keys": status.keys,
            "leases": status.leases,
            "revision": status.revision,
            "compacted": status.compacted,
            "bytes": status.bytes,
        },
    });
    json(StatusCode::OK, format!("{variables:#}\n"))
}
