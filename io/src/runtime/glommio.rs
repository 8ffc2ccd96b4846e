//! The `io_uring` face: glommio 0.9 as published.
//!
//! What is done differently from glommio's own ways, and why (docs/decisions/runtime.md has the numbers):
//!
//! - Tasks go through `spawn_local_into`: `spawn_local` would run them inside the caller's poll.
//! - `preempt_timer` is 1 ms: with the default 100 ms, a wake from another thread into a busy executor waits
//!   up to that long.
//! - Sockets are made by [`listener`](crate::listener) and handed over: glommio's `bind` hides errors and
//!   shares ports without a check.
//! - Vectored writes use `sendmsg` on the descriptor: glommio has none.
//!
//! Limits: reads are at most `READ_BYTES_MAX` at a time, because glommio reads into initialised memory.
//! Read timeouts of glommio are not used: they outlive an abandoned read.

use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll};
use core::time::Duration;
use std::io::{self, IoSlice};
use std::os::fd::OwnedFd;
use std::rc::Rc;

use ::glommio::{LocalExecutor, LocalExecutorBuilder, Placement};
use futures_io::{AsyncRead as _, AsyncWrite as _};
use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendFlags, sendmsg};
use socket2::{Domain, SockAddr, SockRef, Socket, Type};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::task::Local;
use super::{Address, Executor, Runtime};
use crate::clock::monotonic_ns;
use crate::disk::UringDisk;
use crate::listener::{Prepared, tune};
use crate::sys;

/// Thread-per-core on `io_uring`.
#[derive(Clone, Copy, Debug)]
pub struct Glommio;

/// A listening socket on glommio, of either kind: glommio accepts on any descriptor.
#[derive(Debug)]
pub struct GlommioListener {
    listener: ::glommio::net::TcpListener,
    is_tcp: bool,
}

/// A connection on glommio, of either kind: only `send` and `recv` are done to it.
#[derive(Debug)]
pub struct GlommioStream {
    stream: ::glommio::net::TcpStream,
}

impl Runtime for Glommio {
    type Listener = GlommioListener;
    type Stream = GlommioStream;
    type Disk = UringDisk;

    fn spawn(task: impl Future<Output = ()> + 'static) {
        let queue = ::glommio::executor().current_task_queue();
        let spawned = match Local::current() {
            Some(local) => ::glommio::spawn_local_into(local.track(task), queue)
                .map(|task| drop(task.detach())),
            None => ::glommio::spawn_local_into(task, queue).map(|task| drop(task.detach())),
        };
        spawned.expect("the current task queue exists");
    }

    fn now() -> u64 {
        monotonic_ns()
    }

    async fn sleep_until(deadline: u64) {
        let now = monotonic_ns();
        if now < deadline {
            ::glommio::timer::Timer::new(Duration::from_nanos(deadline - now)).await;
        }
    }

    async fn yield_if_needed() {
        ::glommio::executor().yield_if_needed().await;
    }

    fn listen(prepared: Prepared) -> io::Result<GlommioListener> {
        // Blocking, which they are: with O_NONBLOCK, io_uring's accept answers EAGAIN.
        let (socket, is_tcp) = match prepared {
            Prepared::Tcp(listener) => (OwnedFd::from(listener), true),
            Prepared::Unix(listener) => (OwnedFd::from(listener), false),
        };
        Ok(GlommioListener { listener: sys::glommio_listener(socket), is_tcp })
    }

    async fn accept(listener: &GlommioListener) -> io::Result<(GlommioStream, Address)> {
        let stream = listener.listener.accept().await.map_err(io::Error::from)?;
        let socket = sys::stream_fd(&stream);
        // glommio accepts without SOCK_CLOEXEC.
        rustix::io::fcntl_setfd(socket, rustix::io::FdFlags::CLOEXEC)?;
        let peer = if listener.is_tcp {
            tune(&socket)?;
            let peer = SockRef::from(&socket).peer_addr()?;
            Address::Tcp(peer.as_socket().ok_or(Errno::AFNOSUPPORT)?)
        } else {
            Address::Unix(Default::default())
        };
        Ok((GlommioStream { stream }, peer))
    }

    async fn connect(address: &Address) -> io::Result<GlommioStream> {
        let stream = match address {
            Address::Tcp(address) => {
                let stream = ::glommio::net::TcpStream::connect(*address).await;
                let stream = stream.map_err(io::Error::from)?;
                tune(&sys::stream_fd(&stream))?;
                stream
            }
            Address::Unix(path) => {
                // Does not wait: a Unix socket is connected at once, or the listener's backlog is full.
                let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
                socket.set_nonblocking(true)?;
                socket.connect(&SockAddr::unix(path)?)?;
                sys::glommio_stream(socket.into())
            }
        };
        Ok(GlommioStream { stream })
    }
}

impl Executor for Glommio {
    type Built = LocalExecutor;

    fn build() -> io::Result<LocalExecutor> {
        // The thread is already bound to its core, if it is to be bound.
        let builder = LocalExecutorBuilder::new(Placement::Unbound)
            .preempt_timer(PREEMPT)
            .ring_depth(RING_DEPTH)
            .io_memory(IO_MEMORY_BYTES);
        builder.make().map_err(io::Error::from)
    }

    fn run<T: 'static>(
        executor: LocalExecutor,
        local: Rc<Local>,
        entry: impl Future<Output = T> + 'static,
    ) -> T {
        let inner = Rc::clone(&local);
        let whole = async move {
            let output = entry.await;
            inner.close().await;
            output
        };
        let output = executor.run(local.track_entry(whole));
        output.expect("closing does not end the entry")
    }
}

/// How long the queue may run before completions are looked at.
const PREEMPT: Duration = Duration::from_millis(1);
/// Submission entries per ring. Longer than any burst we make, short against locked memory.
const RING_DEPTH: usize = 1024;
/// Registered memory for direct writes: a batch of the log. glommio's default of 10 MiB is touched at once.
const IO_MEMORY_BYTES: usize = 1 << 20;

impl AsyncRead for GlommioStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let length = buffer.remaining().min(READ_BYTES_MAX);
        let unfilled = buffer.initialize_unfilled_to(length);
        let read = core::task::ready!(Pin::new(&mut self.stream).poll_read(context, unfilled))?;
        buffer.advance(read);
        Poll::Ready(Ok(()))
    }
}

/// The most that one read takes. Memory that nobody has written yet is zeroed before: 64 KiB cost 1 us.
const READ_BYTES_MAX: usize = 64 * 1024;

impl AsyncWrite for GlommioStream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let slices = &slices[..slices.len().min(SLICES_MAX)];
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        let socket = sys::stream_fd(&self.stream);
        match sendmsg(socket, slices, &mut SendAncillaryBuffer::default(), flags) {
            Err(Errno::AGAIN) => {
                // glommio tries once more, in vain, and waits until the socket is writable.
                let first = slices.iter().find(|slice| !slice.is_empty());
                let first: &[u8] = first.map_or(&[], |slice| slice);
                Pin::new(&mut self.stream).poll_write(context, first)
            }
            sent => Poll::Ready(sent.map_err(io::Error::from)),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match core::task::ready!(Pin::new(&mut self.stream).poll_close(context)) {
            // The other side was faster.
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Poll::Ready(Ok(())),
            closed => Poll::Ready(closed),
        }
    }
}

/// `IOV_MAX`: more slices in one `sendmsg` are an error.
const SLICES_MAX: usize = 1024;
