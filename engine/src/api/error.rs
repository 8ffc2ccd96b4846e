//! What a client may be told instead of an answer: gRPC's codes and etcd's closed list of errors.
//!
//! Clients compare the *text*: Go maps it to a typed error, jetcd, python-etcd3 and Patroni test
//! it. So every text is byte for byte etcd's, prefix included, and lives in one table.
//!
//! An error is a value: it is decided deterministically, may be the outcome of applying a log
//! entry, and is the same on every member. Trouble with disks and peers never becomes one of these
//! by itself.
//!
//! Unlike etcd, [`Error::MemberNotEnoughStarted`] and [`Error::RequestTooManyRequests`] carry the
//! code that etcd's own list gives them; through a slip etcd sends them as `Unknown`, and no known
//! client looks at the code.

use core::fmt;

/// A gRPC status code.
///
/// Displays as its name in Go, which etcd shows in texts and logs: `FailedPrecondition`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Code {
    /// No error.
    Ok,
    /// The caller gave up.
    Canceled,
    /// An error without a code of its own.
    Unknown,
    /// The request can never succeed, whatever the state.
    InvalidArgument,
    /// The caller's time is up.
    DeadlineExceeded,
    /// The request names something that does not exist.
    NotFound,
    /// The request creates something that exists.
    AlreadyExists,
    /// The caller is known but has no right.
    PermissionDenied,
    /// A quota or a rate is used up.
    ResourceExhausted,
    /// The state must change before the request can succeed.
    FailedPrecondition,
    /// The request lost against a concurrent one.
    Aborted,
    /// The request leaves the range that the state has.
    OutOfRange,
    /// There is no such call here.
    Unimplemented,
    /// The server broke a promise to itself.
    Internal,
    /// The server cannot answer just now; to ask again may help.
    Unavailable,
    /// Data is lost or damaged.
    DataLoss,
    /// The caller is unknown.
    Unauthenticated,
}

impl Code {
    /// All codes, in the order of their numbers.
    pub const ALL: [Self; 17] = [
        Self::Ok,
        Self::Canceled,
        Self::Unknown,
        Self::InvalidArgument,
        Self::DeadlineExceeded,
        Self::NotFound,
        Self::AlreadyExists,
        Self::PermissionDenied,
        Self::ResourceExhausted,
        Self::FailedPrecondition,
        Self::Aborted,
        Self::OutOfRange,
        Self::Unimplemented,
        Self::Internal,
        Self::Unavailable,
        Self::DataLoss,
        Self::Unauthenticated,
    ];

    /// The number on the wire, in the trailer `grpc-status`.
    pub const fn number(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Canceled => 1,
            Self::Unknown => 2,
            Self::InvalidArgument => 3,
            Self::DeadlineExceeded => 4,
            Self::NotFound => 5,
            Self::AlreadyExists => 6,
            Self::PermissionDenied => 7,
            Self::ResourceExhausted => 8,
            Self::FailedPrecondition => 9,
            Self::Aborted => 10,
            Self::OutOfRange => 11,
            Self::Unimplemented => 12,
            Self::Internal => 13,
            Self::Unavailable => 14,
            Self::DataLoss => 15,
            Self::Unauthenticated => 16,
        }
    }

    /// The name in Go.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Canceled => "Canceled",
            Self::Unknown => "Unknown",
            Self::InvalidArgument => "InvalidArgument",
            Self::DeadlineExceeded => "DeadlineExceeded",
            Self::NotFound => "NotFound",
            Self::AlreadyExists => "AlreadyExists",
            Self::PermissionDenied => "PermissionDenied",
            Self::ResourceExhausted => "ResourceExhausted",
            Self::FailedPrecondition => "FailedPrecondition",
            Self::Aborted => "Aborted",
            Self::OutOfRange => "OutOfRange",
            Self::Unimplemented => "Unimplemented",
            Self::Internal => "Internal",
            Self::Unavailable => "Unavailable",
            Self::DataLoss => "DataLoss",
            Self::Unauthenticated => "Unauthenticated",
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// An error of etcd's API; displays as its text.
///
/// The first 63 are etcd's `rpctypes`, in their order and under their names; the rest are texts
/// that reach clients from elsewhere in etcd.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Error {
    /// A key is empty.
    EmptyKey,
    /// A put wants to keep what a missing key does not have, or an operation of a transaction is
    /// unset.
    KeyNotFound,
    /// A put that keeps the value brings one.
    ValueProvided,
    /// A put that keeps the lease brings one.
    LeaseProvided,
    /// A transaction is longer or nested deeper than allowed.
    TooManyOps,
    /// A branch of a transaction puts a key twice, or puts and deletes it.
    DuplicateKey,
    /// The metadata `client-api-version` is not text.
    InvalidClientApiVersion,
    /// An order or target to sort by is unknown.
    InvalidSortOption,
    /// The revision is compacted.
    Compacted,
    /// The revision has not happened yet.
    FutureRev,
    /// The quota is used up.
    NoSpace,
    /// There is no such lease.
    LeaseNotFound,
    /// There is such a lease already.
    LeaseExist,
    /// A lease would last too long.
    LeaseTtlTooLarge,
    /// The client ended the watch stream.
    WatchCanceled,
    /// A new member would get the id of another.
    MemberExist,
    /// A peer URL is another member's.
    PeerUrlExist,
    /// The new configuration would have no quorum of started members.
    MemberNotEnoughStarted,
    /// Peer URLs are missing or malformed.
    MemberBadUrls,
    /// There is no such member, or not any more.
    MemberNotFound,
    /// The member to promote votes already.
    MemberNotLearner,
    /// The member to promote lags too far behind.
    LearnerNotReady,
    /// There are as many learners as allowed.
    TooManyLearners,
    /// A peer belongs to another cluster.
    ClusterIdMismatch,
    /// The request is larger than the log takes.
    RequestTooLarge,
    /// Too many requests wait to be applied.
    RequestTooManyRequests,
    /// Authentication needs a user `root`.
    RootUserNotExist,
    /// Authentication needs the role `root` on the user `root`.
    RootRoleNotExist,
    /// There is such a user already.
    UserAlreadyExist,
    /// A user name is missing, in the request or in the credentials.
    UserEmpty,
    /// There is no such user.
    UserNotFound,
    /// There is such a role already.
    RoleAlreadyExist,
    /// There is no such role.
    RoleNotFound,
    /// A role name is missing.
    RoleEmpty,
    /// Name and password do not match.
    AuthFailed,
    /// The permission to grant is missing.
    PermissionNotGiven,
    /// The user has no right to do this.
    PermissionDenied,
    /// The user does not have the role to revoke.
    RoleNotGranted,
    /// The role does not have the permission to revoke.
    PermissionNotGranted,
    /// There is nothing to authenticate for.
    AuthNotEnabled,
    /// The token is unknown or has expired.
    InvalidAuthToken,
    /// The change would lock everybody out, or the permission's interval is malformed.
    InvalidAuthMgmt,
    /// Users or roles changed after the token was made or the request was checked.
    AuthOldRevision,
    /// The member knows no leader.
    NoLeader,
    /// Only the leader can do this.
    NotLeader,
    /// The leader changed while the read waited.
    LeaderChanged,
    /// The cluster version is too low for this call.
    NotCapable,
    /// The server is shutting down.
    Stopped,
    /// The request was not committed in time.
    Timeout,
    /// As [`Error::Timeout`], shortly after the leader was lost.
    TimeoutDueToLeaderFail,
    /// As [`Error::Timeout`], while the member had no contact with a quorum.
    TimeoutDueToConnectionLost,
    /// The member did not apply in time what it needs to answer.
    TimeoutWaitAppliedIndex,
    /// A change of membership was refused because the member has no contact with a quorum.
    Unhealthy,
    /// Members differ or data is damaged.
    Corrupt,
    /// A learner does not serve this call.
    NotSupportedForLearner,
    /// Leadership cannot be moved to that member.
    BadLeaderTransferee,
    /// The version to downgrade to is malformed.
    WrongDowngradeVersionFormat,
    /// The version to downgrade to is not one minor below the cluster's.
    InvalidDowngradeTargetVersion,
    /// The cluster version is not decided yet.
    ClusterVersionUnavailable,
    /// A downgrade is under way.
    DowngradeInProcess,
    /// No downgrade is under way.
    NoInflightDowngrade,
    /// The request was given up. Listed, but [`Error::ContextCanceled`] is what etcd sends.
    Canceled,
    /// The caller's time is up. Listed, but [`Error::ContextDeadlineExceeded`] is what etcd sends.
    DeadlineExceeded,

    /// The caller gave up.
    ContextCanceled,
    /// The caller's time is up, or the server's own for a request that found no leader.
    ContextDeadlineExceeded,
    /// A streamed range is sorted otherwise than by ascending key.
    RangeStreamSortOrder,
    /// A streamed range is filtered by revision.
    RangeStreamRevisionFilter,
    /// The action of a downgrade request is unknown.
    UnknownMethod,
    /// Leadership did not move in time.
    TimeoutLeaderTransfer,
    /// A password was given for a user who has none.
    NoPasswordUser,
    /// The server's authentication options are wrong.
    InvalidAuthOpts,
    /// The server can check tokens but was given no key to sign them.
    VerifyOnly,
    /// A password is longer than bcrypt takes.
    PasswordTooLong,
    /// Only the leader keeps the time of leases.
    NotPrimary,
    /// The leader did not take the proposal.
    ProposalDropped,
    /// The lease of a waiting lock is gone.
    SessionExpired,
    /// Nobody leads the election.
    ElectionNoLeader,
    /// The caller does not lead the election.
    ElectionNotLeader,
    /// The request lacks its leader key.
    MissingLeaderKey,
    /// The interval to watch is empty; only ever the reason why a watch is canceled.
    EmptyWatcherRange,
    /// The watch id is taken; only ever the reason why a watch is canceled.
    WatcherDuplicateId,
}

const _: () = assert!(size_of::<Error>() == 1, "an error travels in every reply");

impl Error {
    /// All errors, in the order of their declaration.
    #[rustfmt::skip]
    pub const ALL: [Self; 81] = [
        Self::EmptyKey, Self::KeyNotFound, Self::ValueProvided, Self::LeaseProvided,
        Self::TooManyOps, Self::DuplicateKey, Self::InvalidClientApiVersion,
        Self::InvalidSortOption, Self::Compacted, Self::FutureRev, Self::NoSpace,
        Self::LeaseNotFound, Self::LeaseExist, Self::LeaseTtlTooLarge, Self::WatchCanceled,
        Self::MemberExist, Self::PeerUrlExist, Self::MemberNotEnoughStarted, Self::MemberBadUrls,
        Self::MemberNotFound, Self::MemberNotLearner, Self::LearnerNotReady, Self::TooManyLearners,
        Self::ClusterIdMismatch, Self::RequestTooLarge, Self::RequestTooManyRequests,
        Self::RootUserNotExist, Self::RootRoleNotExist, Self::UserAlreadyExist, Self::UserEmpty,
        Self::UserNotFound, Self::RoleAlreadyExist, Self::RoleNotFound, Self::RoleEmpty,
        Self::AuthFailed, Self::PermissionNotGiven, Self::PermissionDenied, Self::RoleNotGranted,
        Self::PermissionNotGranted, Self::AuthNotEnabled, Self::InvalidAuthToken,
        Self::InvalidAuthMgmt, Self::AuthOldRevision, Self::NoLeader, Self::NotLeader,
        Self::LeaderChanged, Self::NotCapable, Self::Stopped, Self::Timeout,
        Self::TimeoutDueToLeaderFail, Self::TimeoutDueToConnectionLost,
        Self::TimeoutWaitAppliedIndex, Self::Unhealthy, Self::Corrupt, Self::NotSupportedForLearner,
        Self::BadLeaderTransferee, Self::WrongDowngradeVersionFormat,
        Self::InvalidDowngradeTargetVersion, Self::ClusterVersionUnavailable,
        Self::DowngradeInProcess, Self::NoInflightDowngrade, Self::Canceled, Self::DeadlineExceeded,
        Self::ContextCanceled, Self::ContextDeadlineExceeded, Self::RangeStreamSortOrder,
        Self::RangeStreamRevisionFilter, Self::UnknownMethod, Self::TimeoutLeaderTransfer,
        Self::NoPasswordUser, Self::InvalidAuthOpts, Self::VerifyOnly, Self::PasswordTooLong,
        Self::NotPrimary, Self::ProposalDropped, Self::SessionExpired, Self::ElectionNoLeader,
        Self::ElectionNotLeader, Self::MissingLeaderKey, Self::EmptyWatcherRange,
        Self::WatcherDuplicateId,
    ];

    /// The error with this text, if there is one: members tell each other errors by their texts.
    pub fn from_message(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|error| error.message() == text)
    }

    /// The gRPC code.
    pub const fn code(self) -> Code {
        self.row().0
    }

    /// The text, byte for byte what etcd sends.
    pub const fn message(self) -> &'static str {
        self.row().1
    }

    /// The error as Go prints a gRPC status, for the places where etcd lets that reach clients: the
    /// reason why a watch is canceled for want of a permission.
    pub fn as_status(self) -> impl fmt::Display {
        Status(self)
    }

    /// The table: code and text of every error.
    #[rustfmt::skip]
    const fn row(self) -> (Code, &'static str) {
        use Code::{
            Canceled, DataLoss, DeadlineExceeded, FailedPrecondition, InvalidArgument, NotFound,
            OutOfRange, PermissionDenied, ResourceExhausted, Unauthenticated, Unavailable,
            Unimplemented, Unknown,
        };
        match self {
            Self::EmptyKey => (InvalidArgument, "etcdserver: key is not provided"),
            Self::KeyNotFound => (InvalidArgument, "etcdserver: key not found"),
            Self::ValueProvided => (InvalidArgument, "etcdserver: value is provided"),
            Self::LeaseProvided => (InvalidArgument, "etcdserver: lease is provided"),
            Self::TooManyOps => (InvalidArgument, "etcdserver: too many operations in txn request"),
            Self::DuplicateKey => (InvalidArgument, "etcdserver: duplicate key given in txn request"),
            Self::InvalidClientApiVersion => (InvalidArgument, "etcdserver: invalid client api version"),
            Self::InvalidSortOption => (InvalidArgument, "etcdserver: invalid sort option"),
            Self::Compacted => (OutOfRange, "etcdserver: mvcc: required revision has been compacted"),
            Self::FutureRev => (OutOfRange, "etcdserver: mvcc: required revision is a future revision"),
            Self::NoSpace => (ResourceExhausted, "etcdserver: mvcc: database space exceeded"),

            Self::LeaseNotFound => (NotFound, "etcdserver: requested lease not found"),
            Self::LeaseExist => (FailedPrecondition, "etcdserver: lease already exists"),
            Self::LeaseTtlTooLarge => (OutOfRange, "etcdserver: too large lease TTL"),

            Self::WatchCanceled => (Canceled, "etcdserver: watch canceled"),

            Self::MemberExist => (FailedPrecondition, "etcdserver: member ID already exist"),
            Self::PeerUrlExist => (FailedPrecondition, "etcdserver: Peer URLs already exists"),
            Self::MemberNotEnoughStarted => (FailedPrecondition, "etcdserver: re-configuration failed due to not enough started members"),
            Self::MemberBadUrls => (InvalidArgument, "etcdserver: given member URLs are invalid"),
            Self::MemberNotFound => (NotFound, "etcdserver: member not found"),
            Self::MemberNotLearner => (FailedPrecondition, "etcdserver: can only promote a learner member"),
            Self::LearnerNotReady => (FailedPrecondition, "etcdserver: can only promote a learner member which is in sync with leader"),
            Self::TooManyLearners => (FailedPrecondition, "etcdserver: too many learner members in cluster"),
            Self::ClusterIdMismatch => (FailedPrecondition, "etcdserver: cluster ID mismatch"),

            Self::RequestTooLarge => (InvalidArgument, "etcdserver: request is too large"),
            Self::RequestTooManyRequests => (ResourceExhausted, "etcdserver: too many requests"),

            Self::RootUserNotExist => (FailedPrecondition, "etcdserver: root user does not exist"),
            Self::RootRoleNotExist => (FailedPrecondition, "etcdserver: root user does not have root role"),
            Self::UserAlreadyExist => (FailedPrecondition, "etcdserver: user name already exists"),
            Self::UserEmpty => (InvalidArgument, "etcdserver: user name is empty"),
            Self::UserNotFound => (FailedPrecondition, "etcdserver: user name not found"),
            Self::RoleAlreadyExist => (FailedPrecondition, "etcdserver: role name already exists"),
            Self::RoleNotFound => (FailedPrecondition, "etcdserver: role name not found"),
            Self::RoleEmpty => (InvalidArgument, "etcdserver: role name is empty"),
            Self::AuthFailed => (InvalidArgument, "etcdserver: authentication failed, invalid user ID or password"),
            Self::PermissionNotGiven => (InvalidArgument, "etcdserver: permission not given"),
            Self::PermissionDenied => (PermissionDenied, "etcdserver: permission denied"),
            Self::RoleNotGranted => (FailedPrecondition, "etcdserver: role is not granted to the user"),
            Self::PermissionNotGranted => (FailedPrecondition, "etcdserver: permission is not granted to the role"),
            Self::AuthNotEnabled => (FailedPrecondition, "etcdserver: authentication is not enabled"),
            Self::InvalidAuthToken => (Unauthenticated, "etcdserver: invalid auth token"),
            Self::InvalidAuthMgmt => (InvalidArgument, "etcdserver: invalid auth management"),
            Self::AuthOldRevision => (InvalidArgument, "etcdserver: revision of auth store is old"),

            Self::NoLeader => (Unavailable, "etcdserver: no leader"),
            Self::NotLeader => (FailedPrecondition, "etcdserver: not leader"),
            Self::LeaderChanged => (Unavailable, "etcdserver: leader changed"),
            Self::NotCapable => (FailedPrecondition, "etcdserver: not capable"),
            Self::Stopped => (Unavailable, "etcdserver: server stopped"),
            Self::Timeout => (Unavailable, "etcdserver: request timed out"),
            Self::TimeoutDueToLeaderFail => (Unavailable, "etcdserver: request timed out, possibly due to previous leader failure"),
            Self::TimeoutDueToConnectionLost => (Unavailable, "etcdserver: request timed out, possibly due to connection lost"),
            Self::TimeoutWaitAppliedIndex => (Unavailable, "etcdserver: request timed out, waiting for the applied index took too long"),
            Self::Unhealthy => (Unavailable, "etcdserver: unhealthy cluster"),
            Self::Corrupt => (DataLoss, "etcdserver: corrupt cluster"),
            Self::NotSupportedForLearner => (FailedPrecondition, "etcdserver: rpc not supported for learner"),
            Self::BadLeaderTransferee => (FailedPrecondition, "etcdserver: bad leader transferee"),

            Self::WrongDowngradeVersionFormat => (InvalidArgument, "etcdserver: wrong downgrade target version format"),
            Self::InvalidDowngradeTargetVersion => (InvalidArgument, "etcdserver: invalid downgrade target version"),
            Self::ClusterVersionUnavailable => (FailedPrecondition, "etcdserver: cluster version not found during downgrade"),
            Self::DowngradeInProcess => (FailedPrecondition, "etcdserver: cluster has a downgrade job in progress"),
            Self::NoInflightDowngrade => (FailedPrecondition, "etcdserver: no inflight downgrade job"),

            Self::Canceled => (Canceled, "etcdserver: request canceled"),
            Self::DeadlineExceeded => (DeadlineExceeded, "etcdserver: context deadline exceeded"),

            Self::ContextCanceled => (Canceled, "context canceled"),
            Self::ContextDeadlineExceeded => (DeadlineExceeded, "context deadline exceeded"),
            Self::RangeStreamSortOrder => (Unimplemented, "RangeStream does not support custom sort orders"),
            Self::RangeStreamRevisionFilter => (Unimplemented, "RangeStream does not support revision filters"),
            Self::UnknownMethod => (Unknown, "etcdserver: unknown method"),
            Self::TimeoutLeaderTransfer => (Unknown, "etcdserver: request timed out, leader transfer took too long"),
            Self::NoPasswordUser => (Unknown, "auth: authentication failed, password was given for no password user"),
            Self::InvalidAuthOpts => (Unknown, "auth: invalid auth options"),
            Self::VerifyOnly => (Unknown, "auth: token signing attempted with verify-only key"),
            Self::PasswordTooLong => (Unknown, "bcrypt: password length exceeds 72 bytes"),
            Self::NotPrimary => (Unknown, "not a primary lessor"),
            Self::ProposalDropped => (Unknown, "raft proposal dropped"),
            Self::SessionExpired => (Unknown, "mutex: session is expired"),
            Self::ElectionNoLeader => (Unknown, "election: no leader"),
            Self::ElectionNotLeader => (Unknown, "election: not leader"),
            Self::MissingLeaderKey => (Unknown, r#""leader" field must be provided"#),
            Self::EmptyWatcherRange => (Unknown, "mvcc: watcher range is empty"),
            Self::WatcherDuplicateId => (Unknown, "mvcc: duplicate watch ID provided on the WatchStream"),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message())
    }
}

impl core::error::Error for Error {}

/// An error in the words of Go's `status.Error`.
struct Status(Error);

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rpc error: code = {} desc = {}", self.0.code(), self.0.message())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeSet;
    use alloc::format;
    use alloc::string::ToString as _;

    /// Checks one error: its code's number and name, and its text in full.
    fn check(error: Error, number: u8, name: &str, text: &str) {
        assert_eq!(error.code().number(), number, "{error:?}");
        assert_eq!(error.code().to_string(), name, "{error:?}");
        assert_eq!(error.message(), text, "{error:?}");
        assert_eq!(error.to_string(), text, "{error:?}");
        assert_eq!(
            error.as_status().to_string(),
            format!("rpc error: code = {name} desc = {text}"),
            "{error:?}"
        );
    }

    /// etcd's list: error, number and name of its code, text without the common prefix.
    #[rustfmt::skip]
    const LISTED: [(Error, u8, &str, &str); 63] = [
        (Error::EmptyKey, 3, "InvalidArgument", "key is not provided"),
        (Error::KeyNotFound, 3, "InvalidArgument", "key not found"),
        (Error::ValueProvided, 3, "InvalidArgument", "value is provided"),
        (Error::LeaseProvided, 3, "InvalidArgument", "lease is provided"),
        (Error::TooManyOps, 3, "InvalidArgument", "too many operations in txn request"),
        (Error::DuplicateKey, 3, "InvalidArgument", "duplicate key given in txn request"),
        (Error::InvalidClientApiVersion, 3, "InvalidArgument", "invalid client api version"),
        (Error::InvalidSortOption, 3, "InvalidArgument", "invalid sort option"),
        (Error::Compacted, 11, "OutOfRange", "mvcc: required revision has been compacted"),
        (Error::FutureRev, 11, "OutOfRange", "mvcc: required revision is a future revision"),
        (Error::NoSpace, 8, "ResourceExhausted", "mvcc: database space exceeded"),
        (Error::LeaseNotFound, 5, "NotFound", "requested lease not found"),
        (Error::LeaseExist, 9, "FailedPrecondition", "lease already exists"),
        (Error::LeaseTtlTooLarge, 11, "OutOfRange", "too large lease TTL"),
        (Error::WatchCanceled, 1, "Canceled", "watch canceled"),
        (Error::MemberExist, 9, "FailedPrecondition", "member ID already exist"),
        (Error::PeerUrlExist, 9, "FailedPrecondition", "Peer URLs already exists"),
        (Error::MemberNotEnoughStarted, 9, "FailedPrecondition", "re-configuration failed due to not enough started members"),
        (Error::MemberBadUrls, 3, "InvalidArgument", "given member URLs are invalid"),
        (Error::MemberNotFound, 5, "NotFound", "member not found"),
        (Error::MemberNotLearner, 9, "FailedPrecondition", "can only promote a learner member"),
        (Error::LearnerNotReady, 9, "FailedPrecondition", "can only promote a learner member which is in sync with leader"),
        (Error::TooManyLearners, 9, "FailedPrecondition", "too many learner members in cluster"),
        (Error::ClusterIdMismatch, 9, "FailedPrecondition", "cluster ID mismatch"),
        (Error::RequestTooLarge, 3, "InvalidArgument", "request is too large"),
        (Error::RequestTooManyRequests, 8, "ResourceExhausted", "too many requests"),
        (Error::RootUserNotExist, 9, "FailedPrecondition", "root user does not exist"),
        (Error::RootRoleNotExist, 9, "FailedPrecondition", "root user does not have root role"),
        (Error::UserAlreadyExist, 9, "FailedPrecondition", "user name already exists"),
        (Error::UserNotFound, 9, "FailedPrecondition", "user name not found"),
        (Error::UserEmpty, 3, "InvalidArgument", "user name is empty"),
        (Error::RoleAlreadyExist, 9, "FailedPrecondition", "role name already exists"),
        (Error::RoleNotFound, 9, "FailedPrecondition", "role name not found"),
        (Error::RoleEmpty, 3, "InvalidArgument", "role name is empty"),
        (Error::AuthFailed, 3, "InvalidArgument", "authentication failed, invalid user ID or password"),
        (Error::PermissionNotGiven, 3, "InvalidArgument", "permission not given"),
        (Error::PermissionDenied, 7, "PermissionDenied", "permission denied"),
        (Error::RoleNotGranted, 9, "FailedPrecondition", "role is not granted to the user"),
        (Error::PermissionNotGranted, 9, "FailedPrecondition", "permission is not granted to the role"),
        (Error::AuthNotEnabled, 9, "FailedPrecondition", "authentication is not enabled"),
        (Error::InvalidAuthToken, 16, "Unauthenticated", "invalid auth token"),
        (Error::InvalidAuthMgmt, 3, "InvalidArgument", "invalid auth management"),
        (Error::AuthOldRevision, 3, "InvalidArgument", "revision of auth store is old"),
        (Error::NoLeader, 14, "Unavailable", "no leader"),
        (Error::NotLeader, 9, "FailedPrecondition", "not leader"),
        (Error::LeaderChanged, 14, "Unavailable", "leader changed"),
        (Error::NotCapable, 9, "FailedPrecondition", "not capable"),
        (Error::Stopped, 14, "Unavailable", "server stopped"),
        (Error::Timeout, 14, "Unavailable", "request timed out"),
        (Error::TimeoutDueToLeaderFail, 14, "Unavailable", "request timed out, possibly due to previous leader failure"),
        (Error::TimeoutDueToConnectionLost, 14, "Unavailable", "request timed out, possibly due to connection lost"),
        (Error::TimeoutWaitAppliedIndex, 14, "Unavailable", "request timed out, waiting for the applied index took too long"),
        (Error::Unhealthy, 14, "Unavailable", "unhealthy cluster"),
        (Error::Corrupt, 15, "DataLoss", "corrupt cluster"),
        (Error::NotSupportedForLearner, 9, "FailedPrecondition", "rpc not supported for learner"),
        (Error::BadLeaderTransferee, 9, "FailedPrecondition", "bad leader transferee"),
        (Error::WrongDowngradeVersionFormat, 3, "InvalidArgument", "wrong downgrade target version format"),
        (Error::InvalidDowngradeTargetVersion, 3, "InvalidArgument", "invalid downgrade target version"),
        (Error::ClusterVersionUnavailable, 9, "FailedPrecondition", "cluster version not found during downgrade"),
        (Error::DowngradeInProcess, 9, "FailedPrecondition", "cluster has a downgrade job in progress"),
        (Error::NoInflightDowngrade, 9, "FailedPrecondition", "no inflight downgrade job"),
        (Error::Canceled, 1, "Canceled", "request canceled"),
        (Error::DeadlineExceeded, 4, "DeadlineExceeded", "context deadline exceeded"),
    ];

    /// The other texts, in full.
    #[rustfmt::skip]
    const UNLISTED: [(Error, u8, &str, &str); 18] = [
        (Error::ContextCanceled, 1, "Canceled", "context canceled"),
        (Error::ContextDeadlineExceeded, 4, "DeadlineExceeded", "context deadline exceeded"),
        (Error::RangeStreamSortOrder, 12, "Unimplemented", "RangeStream does not support custom sort orders"),
        (Error::RangeStreamRevisionFilter, 12, "Unimplemented", "RangeStream does not support revision filters"),
        (Error::UnknownMethod, 2, "Unknown", "etcdserver: unknown method"),
        (Error::TimeoutLeaderTransfer, 2, "Unknown", "etcdserver: request timed out, leader transfer took too long"),
        (Error::NoPasswordUser, 2, "Unknown", "auth: authentication failed, password was given for no password user"),
        (Error::InvalidAuthOpts, 2, "Unknown", "auth: invalid auth options"),
        (Error::VerifyOnly, 2, "Unknown", "auth: token signing attempted with verify-only key"),
        (Error::PasswordTooLong, 2, "Unknown", "bcrypt: password length exceeds 72 bytes"),
        (Error::NotPrimary, 2, "Unknown", "not a primary lessor"),
        (Error::ProposalDropped, 2, "Unknown", "raft proposal dropped"),
        (Error::SessionExpired, 2, "Unknown", "mutex: session is expired"),
        (Error::ElectionNoLeader, 2, "Unknown", "election: no leader"),
        (Error::ElectionNotLeader, 2, "Unknown", "election: not leader"),
        (Error::MissingLeaderKey, 2, "Unknown", "\"leader\" field must be provided"),
        (Error::EmptyWatcherRange, 2, "Unknown", "mvcc: watcher range is empty"),
        (Error::WatcherDuplicateId, 2, "Unknown", "mvcc: duplicate watch ID provided on the WatchStream"),
    ];

    #[test]
    fn every_listed_error_has_etcds_code_and_text() {
        for (error, number, name, text) in LISTED {
            check(error, number, name, &format!("etcdserver: {text}"));
        }
    }

    #[test]
    fn every_other_error_has_etcds_code_and_text() {
        for (error, number, name, text) in UNLISTED {
            check(error, number, name, text);
        }
    }

    #[test]
    fn no_two_errors_share_a_text() {
        let rows = LISTED.iter().chain(&UNLISTED);
        let texts: BTreeSet<&str> = rows.map(|(error, ..)| error.message()).collect();
        assert_eq!(texts.len(), LISTED.len() + UNLISTED.len());
    }

    #[test]
    fn every_error_is_in_the_list_of_all_and_found_by_its_text() {
        let declared = include_str!("error.rs").split("pub enum Error {").nth(1).unwrap();
        let declared = declared.split("\n}\n").next().unwrap().lines();
        let declared: alloc::vec::Vec<_> = declared
            .filter(|line| line.ends_with(','))
            .map(|line| line.trim().trim_end_matches(','))
            .collect();
        let listed: alloc::vec::Vec<_> =
            Error::ALL.iter().map(|error| format!("{error:?}")).collect();
        assert_eq!(listed, declared);
        for error in Error::ALL {
            assert_eq!(Error::from_message(error.message()), Some(error));
        }
        assert_eq!(Error::from_message("etcdserver: "), None);
    }

    #[test]
    fn codes_have_their_numbers_and_names() {
        let codes = [
            (Code::Ok, "OK"),
            (Code::Canceled, "Canceled"),
            (Code::Unknown, "Unknown"),
            (Code::InvalidArgument, "InvalidArgument"),
            (Code::DeadlineExceeded, "DeadlineExceeded"),
            (Code::NotFound, "NotFound"),
            (Code::AlreadyExists, "AlreadyExists"),
            (Code::PermissionDenied, "PermissionDenied"),
            (Code::ResourceExhausted, "ResourceExhausted"),
            (Code::FailedPrecondition, "FailedPrecondition"),
            (Code::Aborted, "Aborted"),
            (Code::OutOfRange, "OutOfRange"),
            (Code::Unimplemented, "Unimplemented"),
            (Code::Internal, "Internal"),
            (Code::Unavailable, "Unavailable"),
            (Code::DataLoss, "DataLoss"),
            (Code::Unauthenticated, "Unauthenticated"),
        ];
        for (number, (code, name)) in (0..).zip(codes) {
            assert_eq!((code.number(), code.name()), (number, name));
        }
    }
}
