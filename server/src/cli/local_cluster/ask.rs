//! Asking a member how it is: `Maintenance/Status` over HTTP/2, the smallest client that will do.

use core::net::SocketAddr;
use core::time::Duration;

use bytes::Bytes;
use cairn_engine::api::etcdserverpb::StatusResponse;
use h2::client::SendRequest;
use http::Request;
use prost::Message as _;
use tokio::net::TcpStream;

use crate::grpc::frame::{self, Messages};

/// How a member is.
#[derive(Clone, Debug)]
pub(super) struct State {
    pub(super) member: u64,
    pub(super) revision: i64,
    pub(super) status: StatusResponse,
}

/// Asks one member; keeps the connection while it is good.
pub(super) struct Asker {
    address: SocketAddr,
    client: Option<SendRequest<Bytes>>,
}

impl Asker {
    pub(super) fn new(address: SocketAddr) -> Self {
        Self { address, client: None }
    }

    /// `None`: it does not answer.
    pub(super) async fn ask(&mut self) -> Option<State> {
        let client = self.client.take();
        let asked = tokio::time::timeout(LIMIT, ask(self.address, client)).await;
        let (status, client) = asked.ok()??;
        self.client = Some(client);
        let header = status.header?;
        Some(State { member: header.member_id, revision: header.revision, status })
    }
}

/// How long a member may take; whoever takes longer is shown as silent.
const LIMIT: Duration = Duration::from_millis(400);

async fn ask(
    address: SocketAddr,
    client: Option<SendRequest<Bytes>>,
) -> Option<(StatusResponse, SendRequest<Bytes>)> {
    let client = match client {
        Some(client) => client,
        None => connect(address).await?,
    };
    let mut client = client.ready().await.ok()?;
    let request = Request::post(format!("http://{address}/etcdserverpb.Maintenance/Status"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())
        .ok()?;
    let (response, mut body) = client.send_request(request, false).ok()?;
    body.send_data(frame::message(0, |_| {}), true).ok()?;
    let mut body = response.await.ok()?.into_body();
    let mut messages = Messages::default();
    while let Some(data) = body.data().await {
        let data = data.ok()?;
        // The window is larger than any status.
        body.flow_control().release_capacity(data.len()).ok()?;
        messages.push(data);
    }
    let message = messages.next(MESSAGE_BYTES_MAX).ok()??;
    Some((StatusResponse::decode(message).ok()?, client))
}

const MESSAGE_BYTES_MAX: usize = 64 << 10;

async fn connect(address: SocketAddr) -> Option<SendRequest<Bytes>> {
    let stream = TcpStream::connect(address).await.ok()?;
    let (client, connection) = h2::client::handshake(stream).await.ok()?;
    tokio::spawn(async move {
        // It ends with the client, or with the member.
        connection.await.ok();
    });
    Some(client)
}
