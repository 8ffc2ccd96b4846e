//! What `etcdctl snapshot status` says of a file.

use alloc::collections::BTreeSet;
use alloc::string::String;

use bytes::Bytes;
use prost::Message as _;

use super::history::{entry, revision_of};
use super::{File, Refused};
use crate::api::mvccpb::KeyValue;
use crate::convert::to_u64;

/// A file in numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// CRC-32C over the names of all buckets, and behind each its keys and values, in order.
    pub hash: u32,
    /// The revision of the last change; 0 if there was none.
    pub revision: i64,
    /// How many keys exist.
    pub total_keys: u64,
    /// Bytes of all pages, which may be fewer than the file has.
    pub total_bytes: u64,
    /// The version of etcd's storage, such as `3.7.0`; empty before 3.6.
    pub version: String,
}

/// Reads a whole file, as `etcdutl snapshot status` does; keeps the names of all keys.
///
/// # Errors
/// If the file is damaged, or no history can be read from it.
pub fn status(file: &mut File<'_>) -> Result<Status, Refused> {
    let mut status = Status { total_bytes: file.bytes_len(), ..Status::default() };
    let mut keys = BTreeSet::new();
    for name in file.names() {
        status.hash = crc32c::crc32c_append(status.hash, &name);
        let mut entries = file.entries(&name)?;
        while let Some(element) = entries.next(file)? {
            status.hash = crc32c::crc32c_append(status.hash, &element.key);
            status.hash = crc32c::crc32c_append(status.hash, &element.value);
            if name == "key" {
                let (revision, is_tombstone) = revision_of(&element.key)?;
                status.revision = revision.main;
                let found = KeyValue::decode(element.value.clone());
                let key = found.map_err(|_| entry(&element.key, "it is no message"))?.key;
                if is_tombstone {
                    keys.remove(&key);
                } else if !keys.contains(&key) {
                    // Not with the page that it lies in.
                    keys.insert(Bytes::copy_from_slice(&key));
                }
            }
            if name == "meta" && element.key == "storageVersion" {
                status.version = String::from_utf8_lossy(&element.value).into_owned();
            }
        }
    }
    status.total_keys = to_u64(keys.len());
    Ok(status)
}
