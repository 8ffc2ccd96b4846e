//! Sockets to accept on, prepared before any executor runs.
//!
//! With one executor there is one exclusive socket. With several, each has its own `SO_REUSEPORT` socket
//! on the same port and the kernel spreads connections over them. That option has a trap: a second server
//! on the same port starts without an error and takes away connections. Therefore the port is first bound
//! without it, which fails if anybody has it.
//!
//! The sockets block (glommio's accept needs that) and are never shared between executors: glommio
//! toggles `O_NONBLOCK` around its accept on the file description, so another executor that shares it
//! could block in `accept(2)`.
//!
//! A process that is killed does not take its sockets along at once: those that `io_uring` was accepting on are
//! closed by the kernel a moment after the process has gone. A port in use is therefore asked for again until
//! [`PATIENCE`] ends, so that whoever restarts a member at once finds it started.
//!
//! Limits: between the probing bind and the shared ones another process can take the port; the lock on
//! the data directory keeps out a second process of the same member. A Unix socket cannot be shared: all its
//! connections go to the first executor.

use core::fmt;
use core::net::SocketAddr;
use core::num::NonZeroUsize;
use core::time::Duration;
use std::io;
use std::net::TcpListener;
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread;

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};

use crate::runtime::{Address, Runtime};

/// A listening socket for one executor, not yet given to a runtime.
#[derive(Debug)]
pub enum Prepared {
    /// TCP.
    Tcp(TcpListener),
    /// A Unix socket.
    Unix(UnixListener),
}

/// Why an address cannot be listened on.
#[derive(Debug)]
pub enum BindError {
    /// Another process listens there.
    InUse(Address),
    /// The system's answer.
    Failed {
        /// The address.
        address: Address,
        /// Why.
        error: io::Error,
    },
}

/// Listens on `address` for `executors` executors: that many sockets, one for a Unix address. Port 0 takes a
/// free port, the same for all; [`Prepared::address`] tells which.
///
/// # Errors
///
/// [`BindError::InUse`] if the address is taken and stays so, else what the system says.
pub fn bind(address: &Address, executors: NonZeroUsize) -> Result<Vec<Prepared>, BindError> {
    let mut waited = Duration::ZERO;
    loop {
        let bound = match address {
            Address::Tcp(address) => bind_tcp(*address, executors),
            Address::Unix(path) => bind_unix(path).map(|listener| vec![Prepared::Unix(listener)]),
        };
        match bound {
            Ok(prepared) => return Ok(prepared),
            Err(error) if error.kind() != io::ErrorKind::AddrInUse => {
                return Err(BindError::Failed { address: address.clone(), error });
            }
            Err(_) if waited >= PATIENCE => return Err(BindError::InUse(address.clone())),
            Err(_) => {
                thread::sleep(PAUSE_MIN);
                waited += PAUSE_MIN;
            }
        }
    }
}

/// How long a port may take to become free: the kernel needs milliseconds, more on a loaded machine, and whoever
/// started a second server by mistake should not wait long to learn it.
const PATIENCE: Duration = Duration::from_secs(1);

fn bind_tcp(address: SocketAddr, executors: NonZeroUsize) -> io::Result<Vec<Prepared>> {
    let exclusive = tcp_socket(address, Sharing::Exclusive)?;
    // Listening, not only bound: two sockets with SO_REUSEADDR may be bound to one port as long as
    // neither listens.
    exclusive.listen(BACKLOG)?;
    if executors == NonZeroUsize::MIN {
        return Ok(vec![Prepared::Tcp(exclusive.into())]);
    }
    let taken = exclusive.local_addr()?.as_socket().unwrap_or(address);
    drop(exclusive);
    let shared = |_| {
        let socket = tcp_socket(taken, Sharing::Shared)?;
        socket.listen(BACKLOG)?;
        Ok(Prepared::Tcp(socket.into()))
    };
    (0..executors.get()).map(shared).collect()
}

enum Sharing {
    Exclusive,
    Shared,
}

fn tcp_socket(address: SocketAddr, sharing: Sharing) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // A restart must not wait for the connections of the last run to leave TIME_WAIT.
    socket.set_reuse_address(true)?;
    match sharing {
        Sharing::Exclusive => {}
        Sharing::Shared => socket.set_reuse_port(true)?,
    }
    if address.is_ipv6() {
        // Like Go's net.Listen, `[::]` also takes IPv4.
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    socket.bind(&address.into())?;
    Ok(socket)
}

fn bind_unix(path: &Path) -> io::Result<UnixListener> {
    match UnixListener::bind(path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            // The file outlives its process. If nobody answers, it is a leftover.
            match UnixStream::connect(path) {
                Err(refused) if refused.kind() == io::ErrorKind::ConnectionRefused => {
                    std::fs::remove_file(path)?;
                    UnixListener::bind(path)
                }
                Ok(_) | Err(_) => Err(error),
            }
        }
        bound => bound,
    }
}

impl Prepared {
    /// Where it listens, with the port that the system chose.
    ///
    /// # Errors
    ///
    /// None in practice.
    pub fn address(&self) -> io::Result<Address> {
        Ok(match self {
            Self::Tcp(listener) => Address::Tcp(listener.local_addr()?),
            Self::Unix(listener) => {
                let path = listener.local_addr()?.as_pathname().map(PathBuf::from);
                Address::Unix(path.unwrap_or_default())
            }
        })
    }
}

/// Accepts for ever: gives every connection to `serve`, and every error to `failed`, after which it goes on.
/// When descriptors or memory run out it pauses, ever longer up to a second, since accept would fail
/// again at once.
pub async fn accept_each<R: Runtime>(
    listener: R::Listener,
    mut serve: impl FnMut(R::Stream, Address),
    mut failed: impl FnMut(&io::Error),
) -> ! {
    let mut pause = PAUSE_MIN;
    loop {
        match R::accept(&listener).await {
            Ok((stream, peer)) => {
                pause = PAUSE_MIN;
                serve(stream, peer);
            }
            Err(error) => {
                failed(&error);
                if let Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM) =
                    error.raw_os_error()
                {
                    R::sleep(pause).await;
                    pause = (pause * 2).min(PAUSE_MAX);
                }
            }
        }
    }
}

/// Like Go's net/http.
const PAUSE_MIN: Duration = Duration::from_millis(5);
/// As long as a client may wait before it tries elsewhere.
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// Sets what every TCP connection of ours has: no Nagle delay, and keepalive, so that a peer that
/// vanished without a word is noticed by the kernel within a minute.
///
/// # Errors
///
/// The socket is already dead, or is not TCP.
pub(crate) fn tune(connection: &impl AsFd) -> io::Result<()> {
    let socket = SockRef::from(connection);
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(&KEEPALIVE)
}

/// Below the 1-minute timeouts of load balancers, above what would wake idle mobile links. 30 + 3 × 10 s.
const KEEPALIVE: TcpKeepalive = TcpKeepalive::new()
    .with_time(Duration::from_secs(30))
    .with_interval(Duration::from_secs(10))
    .with_retries(3);

/// Connections that wait for accept, in a restart storm; the kernel cuts it at `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InUse(address) => write!(f, "{address} is in use by another process"),
            Self::Failed { address, error } => write!(f, "cannot listen on {address}: {error}"),
        }
    }
}

impl core::error::Error for BindError {}
