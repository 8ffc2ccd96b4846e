//! The epoll face: one current-thread tokio with a `LocalSet` per executor.
//!
//! For machines that refuse `io_uring`, which is most containers. The same thread-per-core code runs on it;
//! files go to writer threads ([`ThreadDisk`]).
//!
//! Limits: timers fire up to 1.2 ms late.

use core::cell::Cell;
use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll};
use core::time::Duration;
use std::io::{self, IoSlice};
use std::rc::Rc;

use ::tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use ::tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use ::tokio::task::LocalSet;

use super::task::Local;
use super::{Address, Executor, Runtime};
use crate::clock::{monotonic_ns, saturating_ns};
use crate::disk::ThreadDisk;
use crate::listener::{Prepared, tune};

/// Thread-per-core on epoll.
#[derive(Clone, Copy, Debug)]
pub struct Tokio;

/// A listening socket on tokio.
#[derive(Debug)]
pub enum TokioListener {
    /// TCP.
    Tcp(TcpListener),
    /// A Unix socket.
    Unix(UnixListener),
}

/// A connection on tokio.
#[derive(Debug)]
pub enum TokioStream {
    /// TCP.
    Tcp(TcpStream),
    /// A Unix socket.
    Unix(UnixStream),
}

impl Runtime for Tokio {
    type Listener = TokioListener;
    type Stream = TokioStream;
    type Disk = ThreadDisk;

    fn spawn(task: impl Future<Output = ()> + 'static) {
        match Local::current() {
            Some(local) => drop(::tokio::task::spawn_local(local.track(task))),
            None => drop(::tokio::task::spawn_local(task)),
        }
    }

    fn now() -> u64 {
        monotonic_ns()
    }

    async fn sleep_until(deadline: u64) {
        let now = monotonic_ns();
        if now < deadline {
            ::tokio::time::sleep(Duration::from_nanos(deadline - now)).await;
        }
    }

    async fn yield_if_needed() {
        thread_local! {
            /// When the current quantum began. tokio does not say when a poll begins, so a quantum is
            /// "since somebody last yielded here".
            static BEGAN: Cell<u64> = const { Cell::new(0) };
        }
        let now = monotonic_ns();
        let passed = now - BEGAN.get();
        if passed > saturating_ns(QUANTUM) {
            BEGAN.set(now);
            // Not by a plain wake: the `LocalSet` polls 61 tasks before it looks at sockets and timers,
            // which are 61 quanta then. tokio's own yield waits until it has looked.
            ::tokio::task::yield_now().await;
        }
    }

    fn listen(prepared: Prepared) -> io::Result<TokioListener> {
        Ok(match prepared {
            Prepared::Tcp(listener) => {
                listener.set_nonblocking(true)?;
                TokioListener::Tcp(TcpListener::from_std(listener)?)
            }
            Prepared::Unix(listener) => {
                listener.set_nonblocking(true)?;
                TokioListener::Unix(UnixListener::from_std(listener)?)
            }
        })
    }

    async fn accept(listener: &TokioListener) -> io::Result<(TokioStream, Address)> {
        match listener {
            TokioListener::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                tune(&stream)?;
                Ok((TokioStream::Tcp(stream), Address::Tcp(peer)))
            }
            TokioListener::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                Ok((TokioStream::Unix(stream), Address::Unix(Default::default())))
            }
        }
    }

    async fn connect(address: &Address) -> io::Result<TokioStream> {
        match address {
            Address::Tcp(address) => {
                let stream = TcpStream::connect(*address).await?;
                tune(&stream)?;
                Ok(TokioStream::Tcp(stream))
            }
            Address::Unix(path) => Ok(TokioStream::Unix(UnixStream::connect(path).await?)),
        }
    }
}

/// As long as glommio's preemption timer.
const QUANTUM: Duration = Duration::from_millis(1);

impl Executor for Tokio {
    type Built = (::tokio::runtime::Runtime, LocalSet);

    fn build() -> io::Result<Self::Built> {
        let runtime = ::tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok((runtime, LocalSet::new()))
    }

    fn run<T: 'static>(
        (runtime, tasks): Self::Built,
        local: Rc<Local>,
        entry: impl Future<Output = T> + 'static,
    ) -> T {
        let inner = Rc::clone(&local);
        let whole = async move {
            let output = entry.await;
            inner.close().await;
            output
        };
        // A task of its own: `run_until` polls what it is given whenever any task has run.
        let whole = tasks.spawn_local(local.track_entry(whole));
        match runtime.block_on(tasks.run_until(whole)) {
            Ok(output) => output.expect("closing does not end the entry"),
            // Nobody cancels it, so it panicked: go on panicking, as glommio does.
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }
}

impl AsyncRead for TokioStream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Unix(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for TokioStream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Unix(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write_vectored(context, slices),
            Self::Unix(stream) => Pin::new(stream).poll_write_vectored(context, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(context),
            Self::Unix(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
