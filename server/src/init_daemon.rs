//! Telling whoever started the process how far it is, in the protocol of `sd_notify(3)`: systemd, and some others, wait
//! for `READY=1` before they start what needs a store.

use std::env;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Says that clients are served. Where nobody waits for that, it says nothing.
pub(crate) fn ready() {
    if env::var_os(SOCKET).is_none() {
        return;
    }
    tracing::info!("notifying init daemon");
    match tell("READY=1\n") {
        Ok(()) => tracing::info!("successfully notified init daemon"),
        Err(error) => tracing::error!(error = %error, "failed to notify systemd for readiness"),
    }
}

/// Says that the process ends.
pub(crate) fn stopping() {
    if env::var_os(SOCKET).is_some() {
        // Nothing depends on it.
        tell("STOPPING=1\n").ok();
    }
}

fn tell(state: &str) -> io::Result<()> {
    let name = env::var_os(SOCKET).unwrap_or_default();
    let address = match name.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(name)?,
    };
    UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address).map(drop)
}

const SOCKET: &str = "NOTIFY_SOCKET";
