//! Connections to members, and which errors a crash explains.

use core::time::Duration;

use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

use crate::Trouble;
use crate::client::etcdserverpb::cluster_client::ClusterClient;
use crate::client::etcdserverpb::kv_client::KvClient;
use crate::client::etcdserverpb::lease_client::LeaseClient;
use crate::client::etcdserverpb::maintenance_client::MaintenanceClient;
use crate::client::etcdserverpb::watch_client::WatchClient;

/// A connection to a member, which comes back by itself when the member does.
#[derive(Clone, Debug)]
pub(crate) struct Connection {
    channel: Channel,
}

impl Connection {
    /// Connects with the first request.
    pub(crate) fn new(url: &str) -> Result<Self, Trouble> {
        let endpoint = Endpoint::from_shared(url.to_owned())?
            .connect_timeout(Duration::from_secs(1))
            .tcp_nodelay(true);
        Ok(Self { channel: endpoint.connect_lazy() })
    }

    /// For keys.
    pub(crate) fn kv(&self) -> KvClient<Channel> {
        KvClient::new(self.channel.clone()).max_decoding_message_size(usize::MAX)
    }

    /// For watch streams.
    pub(crate) fn watch(&self) -> WatchClient<Channel> {
        WatchClient::new(self.channel.clone()).max_decoding_message_size(usize::MAX)
    }

    /// For leases.
    pub(crate) fn lease(&self) -> LeaseClient<Channel> {
        LeaseClient::new(self.channel.clone())
    }

    /// For membership.
    pub(crate) fn cluster(&self) -> ClusterClient<Channel> {
        ClusterClient::new(self.channel.clone())
    }

    /// For status, hashes and the leader.
    pub(crate) fn maintenance(&self) -> MaintenanceClient<Channel> {
        MaintenanceClient::new(self.channel.clone())
    }
}

/// Lets errors pass that crashes, elections and changes of membership explain. Any other is one.
pub(crate) fn excuse(status: Status) -> Result<(), Trouble> {
    match status.code() {
        // What tonic makes of a connection that breaks, depending on when it does.
        Code::Unavailable
        | Code::Unknown
        | Code::Internal
        | Code::Cancelled
        | Code::DeadlineExceeded => Ok(()),
        Code::Ok
        | Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::ResourceExhausted
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::DataLoss
        | Code::Unauthenticated => Err(Trouble(format!("the store refuses: {status}"))),
    }
}

/// An answer that lacks what every answer has.
pub(crate) fn wrong(what: &str) -> Trouble {
    Trouble(format!("an answer without {what}"))
}
