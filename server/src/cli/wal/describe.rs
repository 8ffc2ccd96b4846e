//! A command in a line. Keys are shown, shortened; values only if asked for.

use core::fmt::{self, Write as _};

use cairn_engine::api::etcdserverpb::alarm_request::AlarmAction;
use cairn_engine::api::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use cairn_engine::api::etcdserverpb::request_op::Request;
use cairn_engine::api::etcdserverpb::{
    AlarmRequest, AlarmType, Compare, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp,
    TxnRequest,
};
use cairn_engine::auth;
use cairn_engine::cluster::Change;
use cairn_engine::command::Command;
use cairn_engine::ids::LeaseId;

/// Whether values are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Values {
    /// Only how long they are.
    Hidden,
    /// Whole.
    Shown,
}

/// The command in words.
pub(super) fn describe(command: &Command, values: Values) -> String {
    let mut text = Text { out: String::new(), values };
    text.command(command).expect("writing to a String succeeds");
    text.out
}

/// Bytes of a key that are shown.
const KEY_BYTES_MAX: usize = 128;

struct Text {
    out: String,
    values: Values,
}

impl Text {
    fn command(&mut self, command: &Command) -> fmt::Result {
        match command {
            Command::Put(request) => self.put(request),
            Command::DeleteRange(request) => self.delete(request),
            Command::Txn(request) => self.txn(request),
            Command::Compact(request) => {
                let physical = if request.physical { " physical" } else { "" };
                write!(self.out, "compact to revision {}{physical}", request.revision)
            }
            Command::LeaseGrant(request) => {
                write!(self.out, "grant lease {:x} for {} s", request.id, request.ttl)
            }
            Command::LeaseRevoke(request) => write!(self.out, "revoke lease {:x}", request.id),
            Command::LeaseRenew(leases) => self.leases("renew", leases),
            Command::LeaseExpire(leases) => self.leases("expire", leases),
            Command::Alarm(request) => self.alarm(request),
            Command::Members(change) => self.members(change),
            Command::Auth(change) => self.auth(change),
            Command::Authenticate(assignment) => {
                write!(self.out, "token for user {:?}", assignment.name)
            }
            Command::Tick => self.out.write_str("tick"),
        }
    }

    /// Hashes of passwords are not shown, whatever is.
    fn auth(&mut self, change: &auth::Change) -> fmt::Result {
        use auth::Change;
        match change {
            Change::Enable => self.out.write_str("enable authentication"),
            Change::Disable => self.out.write_str("disable authentication"),
            Change::UserAdd(request) => write!(self.out, "add user {:?}", request.name),
            Change::UserDelete(request) => write!(self.out, "delete user {:?}", request.name),
            Change::UserChangePassword(request) => {
                write!(self.out, "change the password of user {:?}", request.name)
            }
            Change::UserGrantRole(request) => {
                write!(self.out, "grant role {:?} to user {:?}", request.role, request.user)
            }
            Change::UserRevokeRole(request) => {
                write!(self.out, "revoke role {:?} from user {:?}", request.role, request.name)
            }
            Change::RoleAdd(request) => write!(self.out, "add role {:?}", request.name),
            Change::RoleDelete(request) => write!(self.out, "delete role {:?}", request.role),
            Change::RoleGrantPermission(request) => {
                write!(self.out, "permit role {:?} ", request.name)?;
                let Some(permission) = &request.perm else { return self.out.write_str("nothing") };
                let kind = permission.perm_type();
                write!(self.out, "{} on ", kind.as_str_name())?;
                self.range(&permission.key, &permission.range_end)
            }
            Change::RoleRevokePermission(request) => {
                write!(self.out, "forbid role {:?} ", request.role)?;
                self.range(&request.key, &request.range_end)
            }
        }
    }

    fn members(&mut self, change: &Change) -> fmt::Result {
        match change {
            Change::Add(record) => {
                write!(self.out, "add member {:x} at {}", record.id, record.peer_urls.join(","))
            }
            Change::Remove(id) => write!(self.out, "remove member {id}"),
            Change::Promote(id) => write!(self.out, "promote member {id}"),
            Change::Update(id, urls) => {
                write!(self.out, "update member {id} to {}", urls.join(","))
            }
            Change::Publish(record) => write!(
                self.out,
                "member {:x} is {:?} at {}, incarnation {:x}, version {}",
                record.id,
                record.name,
                record.client_urls.join(","),
                record.incarnation,
                record.version
            ),
            Change::Forget(id) => write!(self.out, "forget the promises of member {id}"),
            Change::Only(id) => write!(self.out, "forget all members but {id}"),
            Change::Version(version) => write!(self.out, "cluster version {version}"),
            Change::Downgrade(version) if version.is_empty() => self.out.write_str("no downgrade"),
            Change::Downgrade(version) => write!(self.out, "downgrade to {version}"),
        }
    }

    fn put(&mut self, request: &PutRequest) -> fmt::Result {
        self.out.write_str("put ")?;
        self.key(&request.key)?;
        if request.ignore_value {
            self.out.write_str(" with its value")?;
        } else {
            self.out.write_str(" = ")?;
            self.value(&request.value)?;
        }
        match (request.ignore_lease, request.lease) {
            (true, _) => self.out.write_str(" and its lease"),
            (false, 0) => Ok(()),
            (false, lease) => write!(self.out, " with lease {lease:x}"),
        }
    }

    fn delete(&mut self, request: &DeleteRangeRequest) -> fmt::Result {
        self.out.write_str("delete ")?;
        self.range(&request.key, &request.range_end)
    }

    fn read(&mut self, request: &RangeRequest) -> fmt::Result {
        self.out.write_str("range ")?;
        self.range(&request.key, &request.range_end)?;
        if request.revision != 0 {
            write!(self.out, " at revision {}", request.revision)?;
        }
        Ok(())
    }

    fn txn(&mut self, request: &TxnRequest) -> fmt::Result {
        self.out.write_str("if (")?;
        for (at, compare) in request.compare.iter().enumerate() {
            self.separate(at)?;
            self.compare(compare)?;
        }
        self.out.write_str(") then (")?;
        self.operations(&request.success)?;
        self.out.write_str(") else (")?;
        self.operations(&request.failure)?;
        self.out.write_char(')')
    }

    fn operations(&mut self, operations: &[RequestOp]) -> fmt::Result {
        for (at, operation) in operations.iter().enumerate() {
            self.separate(at)?;
            match &operation.request {
                Some(Request::RequestRange(request)) => self.read(request)?,
                Some(Request::RequestPut(request)) => self.put(request)?,
                Some(Request::RequestDeleteRange(request)) => self.delete(request)?,
                Some(Request::RequestTxn(request)) => self.txn(request)?,
                None => self.out.write_str("nothing")?,
            }
        }
        Ok(())
    }

    fn compare(&mut self, compare: &Compare) -> fmt::Result {
        let target = CompareTarget::try_from(compare.target)
            .map_or("unknown", |target| target.as_str_name());
        let sign = match CompareResult::try_from(compare.result) {
            Ok(CompareResult::Equal) => "=",
            Ok(CompareResult::Greater) => ">",
            Ok(CompareResult::Less) => "<",
            Ok(CompareResult::NotEqual) => "!=",
            Err(_) => "?",
        };
        write!(self.out, "{} of ", target.to_ascii_lowercase())?;
        self.range(&compare.key, &compare.range_end)?;
        write!(self.out, " {sign} ")?;
        match &compare.target_union {
            Some(TargetUnion::Value(value)) => self.value(value),
            Some(TargetUnion::Lease(lease)) => write!(self.out, "{lease:x}"),
            Some(
                TargetUnion::Version(number)
                | TargetUnion::CreateRevision(number)
                | TargetUnion::ModRevision(number),
            ) => write!(self.out, "{number}"),
            None => self.out.write_str("nothing"),
        }
    }

    fn leases(&mut self, verb: &str, leases: &[LeaseId]) -> fmt::Result {
        write!(self.out, "{verb} leases")?;
        for (at, lease) in leases.iter().enumerate() {
            write!(self.out, "{} {:x}", if at == 0 { "" } else { "," }, lease.0)?;
        }
        Ok(())
    }

    fn alarm(&mut self, request: &AlarmRequest) -> fmt::Result {
        let action =
            AlarmAction::try_from(request.action).map_or("unknown", |action| action.as_str_name());
        let alarm =
            AlarmType::try_from(request.alarm).map_or("unknown", |alarm| alarm.as_str_name());
        let action = action.to_ascii_lowercase();
        write!(self.out, "{action} alarm {alarm} of member {:x}", request.member_id)
    }

    fn range(&mut self, key: &[u8], end: &[u8]) -> fmt::Result {
        self.key(key)?;
        match end {
            b"" => Ok(()),
            b"\0" => self.out.write_str(" and all behind"),
            end => {
                self.out.write_str("..")?;
                self.key(end)
            }
        }
    }

    fn key(&mut self, key: &[u8]) -> fmt::Result {
        let shown = key.get(..KEY_BYTES_MAX).unwrap_or(key);
        write!(self.out, "\"{}\"", shown.escape_ascii())?;
        if shown.len() < key.len() {
            write!(self.out, "…({} bytes)", key.len())?;
        }
        Ok(())
    }

    fn value(&mut self, value: &[u8]) -> fmt::Result {
        match self.values {
            Values::Hidden => write!(self.out, "({} bytes)", value.len()),
            Values::Shown => write!(self.out, "\"{}\"", value.escape_ascii()),
        }
    }

    fn separate(&mut self, at: usize) -> fmt::Result {
        if at == 0 { Ok(()) } else { self.out.write_str("; ") }
    }
}
