//! The calls that load is made of, and what their heads say.

use cairn_http2::hpack::Field;

/// A method of etcd's API, or of gRPC's health service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Method {
    Range,
    RangeStream,
    Put,
    DeleteRange,
    Txn,
    Watch,
    LeaseGrant,
    LeaseKeepAlive,
    Authenticate,
    Health,
}

impl Method {
    const ALL: [Self; 10] = [
        Self::Range,
        Self::RangeStream,
        Self::Put,
        Self::DeleteRange,
        Self::Txn,
        Self::Watch,
        Self::LeaseGrant,
        Self::LeaseKeepAlive,
        Self::Authenticate,
        Self::Health,
    ];

    const fn path(self) -> &'static str {
        match self {
            Self::Range => "/etcdserverpb.KV/Range",
            Self::RangeStream => "/etcdserverpb.KV/RangeStream",
            Self::Put => "/etcdserverpb.KV/Put",
            Self::DeleteRange => "/etcdserverpb.KV/DeleteRange",
            Self::Txn => "/etcdserverpb.KV/Txn",
            Self::Watch => "/etcdserverpb.Watch/Watch",
            Self::LeaseGrant => "/etcdserverpb.Lease/LeaseGrant",
            Self::LeaseKeepAlive => "/etcdserverpb.Lease/LeaseKeepAlive",
            Self::Authenticate => "/etcdserverpb.Auth/Authenticate",
            Self::Health => "/grpc.health.v1.Health/Check",
        }
    }

    /// Its place in the table of heads.
    pub(crate) fn number(self) -> usize {
        Self::ALL.iter().position(|&method| method == self).expect("it is one of all")
    }
}

/// The heads of all methods for one server.
pub(crate) fn heads(authority: &str, is_tls: bool, token: Option<&str>) -> Vec<Vec<Field>> {
    let head = |method: &Method| {
        let mut fields = vec![
            (":method", "POST"),
            (":scheme", if is_tls { "https" } else { "http" }),
            (":path", method.path()),
            (":authority", authority),
            ("content-type", "application/grpc"),
            ("user-agent", concat!("cairn-bench/", env!("CARGO_PKG_VERSION"))),
            ("te", "trailers"),
        ];
        fields.extend(token.map(|token| ("token", token)));
        fields.iter().map(|(n, v)| (n.as_bytes().into(), v.as_bytes().into())).collect()
    };
    Method::ALL.iter().map(head).collect()
}

/// gRPC's name of a code.
pub(crate) fn code_name(code: u32) -> &'static str {
    const NAMES: [&str; 17] = [
        "OK",
        "Canceled",
        "Unknown",
        "InvalidArgument",
        "DeadlineExceeded",
        "NotFound",
        "AlreadyExists",
        "PermissionDenied",
        "ResourceExhausted",
        "FailedPrecondition",
        "Aborted",
        "OutOfRange",
        "Unimplemented",
        "Internal",
        "Unavailable",
        "DataLoss",
        "Unauthenticated",
    ];
    NAMES.get(code as usize).copied().unwrap_or("a code that gRPC does not have")
}
