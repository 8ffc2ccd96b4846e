//! One small trait, two runtimes.
//!
//! The server is written once, against [`Runtime`]: sockets, timers and local tasks of one executor
//! thread. [`Glommio`] drives them with `io_uring`, [`Tokio`] with epoll; a simulated network can be a third.
//! Nothing here is `Send` after it has started: an executor is a core, and cores talk through
//! [`mailbox`](crate::mailbox).
//!
//! - Streams are tokio's `AsyncRead` and `AsyncWrite`, which need no tokio runtime. Code above the
//!   connection takes a [`Connection`], boxed, so that it is compiled once and not per runtime; the
//!   indirect call does not show in measurements.
//! - [`Runtime::spawn`] only queues. glommio's own `spawn_local` runs the new task inside the caller's
//!   poll, which breaks borrows and write batching.
//! - Every task is counted for the [pulse](crate::pulse) and dropped when its executor ends, on both
//!   runtimes, so sockets close and senders hang up in the same order everywhere.
//!
//! | file | what |
//! |---|---|
//! | mod.rs | the trait, addresses |
//! | glommio.rs, tokio.rs | its two faces |
//! | task.rs | the wrapper around every task |
//! | launch.rs | executors on threads |

mod glommio;
mod launch;
mod task;
mod tokio;

use core::fmt;
use core::future::Future;
use core::net::SocketAddr;
use core::num::NonZeroUsize;
use core::time::Duration;
use std::io;
use std::path::PathBuf;

use ::tokio::io::{AsyncRead, AsyncWrite};

pub use glommio::{Glommio, GlommioListener, GlommioStream};
pub use launch::{Executor, LaunchError, Plan, Program, cores, launch, run};
pub use task::Local;
pub use tokio::{Tokio, TokioListener, TokioStream};

use crate::clock::saturating_ns;
use crate::disk::Disk;
use crate::listener::{self, Prepared};

/// What an asynchronous program needs of one executor. All functions must be called on its thread.
pub trait Runtime: Copy + fmt::Debug + Send + Sync + 'static {
    /// A socket that accepts.
    type Listener: 'static;
    /// A connection.
    type Stream: Io;
    /// Files.
    type Disk: Disk;

    /// Queues a task; it first runs after the caller has returned to the executor. It runs until it is
    /// done or the executor ends, whichever is first.
    ///
    /// A task that polls many channels or sockets per turn wraps itself in
    /// `tokio::task::coop::unconstrained`, or tokio tells it after 128 that nothing is ready.
    fn spawn(task: impl Future<Output = ()> + 'static);

    /// Nanoseconds on a clock that never steps back; its zero is arbitrary. Virtual in a simulation.
    fn now() -> u64;

    /// Waits until [`now`](Self::now) is at least `deadline`; returns at once if it is. May be late by 0.1 ms
    /// (glommio) or 1.2 ms (tokio), never early.
    fn sleep_until(deadline: u64) -> impl Future<Output = ()> + 'static;

    /// Waits for a while.
    fn sleep(duration: Duration) -> impl Future<Output = ()> + 'static {
        Self::sleep_until(Self::now().saturating_add(saturating_ns(duration)))
    }

    /// Lets others run if this turn has been long; to be called about every 50 us of work.
    fn yield_if_needed() -> impl Future<Output = ()>;

    /// Accepts on a socket that [`listener::bind`] prepared.
    ///
    /// # Errors
    ///
    /// What the system says.
    fn listen(prepared: Prepared) -> io::Result<Self::Listener>;

    /// Waits for a connection. Keep one task per listener that accepts for ever: on glommio, a cancelled
    /// accept may lose a connection.
    ///
    /// # Errors
    ///
    /// Of this one connection (it is already gone), or of the process (no descriptors left). The
    /// listener stays good: back off and go on. [`listener::accept_each`] does.
    fn accept(
        listener: &Self::Listener,
    ) -> impl Future<Output = io::Result<(Self::Stream, Address)>>;

    /// Connects. Bring your own timeout: the kernel's is two minutes.
    ///
    /// # Errors
    ///
    /// What the system says.
    fn connect(address: &Address) -> impl Future<Output = io::Result<Self::Stream>>;

    /// Listens on an address for this executor alone.
    ///
    /// # Errors
    ///
    /// See [`listener::bind`].
    fn bind(address: &Address) -> Result<Self::Listener, listener::BindError> {
        let mut prepared = listener::bind(address, NonZeroUsize::MIN)?;
        let one = prepared.pop().expect("bind prepares as many sockets as it is asked for");
        let failed = |error| listener::BindError::Failed { address: address.clone(), error };
        Self::listen(one).map_err(failed)
    }
}

/// A stream of bytes in both directions.
pub trait Io: AsyncRead + AsyncWrite + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Unpin + 'static> Io for T {}

/// A connection whose runtime, and whose TLS if any, are forgotten.
pub type Connection = Box<dyn Io>;

/// Where something listens.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Address {
    /// TCP.
    Tcp(SocketAddr),
    /// A Unix socket; the path is empty for the unnamed end of a client.
    Unix(PathBuf),
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Self::Tcp(address)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}
