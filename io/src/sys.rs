//! The unsafe corner: system calls and conversions that have no safe wrapper.
//!
//! Idea: every function here is safe to call with any argument, so nothing outside this file needs
//! `unsafe`. What is here, and why: `io_uring`'s two probing calls (glommio panics where they are refused,
//! so they must come first), signals (masks, waiting, and one that interrupts a sleeping thread), and the
//! conversions of owned descriptors into glommio's socket
//! types, which offer only `from_raw_fd`. `docs/decisions/unsafe-in-io.md` is the list for reviewers.
#![expect(unsafe_code, reason = "no safe wrapper exists; docs/decisions/unsafe-in-io.md")]

use core::mem::MaybeUninit;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};

use rustix::io_uring::{IoringRegisterOp, IoringSetupFlags, io_uring_params};

/// Creates an `io_uring` with `entries` submission entries and nothing else.
///
/// # Errors
///
/// `ENOSYS` or `EPERM` where the kernel, a sysctl or a seccomp filter refuses `io_uring`; `ENOMEM` where
/// locked memory is accounted and short (kernels before 5.12).
pub(crate) fn ring_create(entries: u32, ring: Ring) -> io::Result<OwnedFd> {
    let mut params = io_uring_params::default();
    params.flags = match ring {
        Ring::Plain => IoringSetupFlags::empty(),
        Ring::Polled => IoringSetupFlags::IOPOLL,
    };
    // SAFETY: the one condition, a valid `wq_fd` under ATTACH_WQ, does not arise: that flag is not set.
    // `params` is exclusively borrowed for the call.
    let ring = unsafe { rustix::io_uring::io_uring_setup(entries, &mut params) }?;
    Ok(ring)
}

/// A kind of ring.
#[derive(Clone, Copy)]
pub(crate) enum Ring {
    /// Completions come by themselves.
    Plain,
    /// The application polls devices for completions (`IORING_SETUP_IOPOLL`).
    Polled,
}

/// Asks a ring which operations the kernel supports: whether operation `n` is, at position `n`.
///
/// # Errors
///
/// `EINVAL` on kernels that do not know the question (before 5.6), `EPERM` under a seccomp filter.
pub(crate) fn ring_operations(ring: &OwnedFd) -> io::Result<[bool; OPERATIONS]> {
    // `struct io_uring_probe` as 16-bit words: a header of 8, then 4 per operation, of which the second
    // holds the flags. Words and not rustix's structure, because that names operations by an enum, and
    // a newer kernel's number that the enum does not know would be undefined behaviour.
    let mut words = [0u16; 8 + 4 * OPERATIONS];
    // SAFETY: the pointer is to a header and `nr_args` = 256 operations, exactly what the kernel writes
    // for IORING_REGISTER_PROBE, exclusively borrowed for the call, and any bits are valid integers.
    unsafe {
        rustix::io_uring::io_uring_register(
            ring,
            IoringRegisterOp::RegisterProbe,
            words.as_mut_ptr().cast(),
            256,
        )
    }?;
    Ok(core::array::from_fn(|operation| words[8 + 4 * operation + 1] & SUPPORTED != 0))
}

/// How many operation codes there can be: the field has eight bits.
pub(crate) const OPERATIONS: usize = 256;
/// `IO_URING_OP_SUPPORTED` (`io_uring.h`).
const SUPPORTED: u16 = 1;

/// Gives a connected socket to glommio. Must be called on a thread that runs a glommio executor.
pub(crate) fn glommio_stream(socket: OwnedFd) -> glommio::net::TcpStream {
    // SAFETY: the descriptor is open and owned by nobody else: `into_raw_fd` gave the ownership up.
    unsafe { glommio::net::TcpStream::from_raw_fd(socket.into_raw_fd()) }
}

/// Gives a listening socket to glommio. Must be called on a thread that runs a glommio executor.
pub(crate) fn glommio_listener(socket: OwnedFd) -> glommio::net::TcpListener {
    // SAFETY: as in `glommio_stream`.
    unsafe { glommio::net::TcpListener::from_raw_fd(socket.into_raw_fd()) }
}

/// The descriptor of a glommio stream, borrowed as long as the stream.
pub(crate) fn stream_fd(stream: &glommio::net::TcpStream) -> BorrowedFd<'_> {
    // SAFETY: the stream owns the descriptor and keeps it open while it is borrowed.
    unsafe { BorrowedFd::borrow_raw(stream.as_raw_fd()) }
}

/// Sends a signal to the calling thread.
pub(crate) fn raise(signal: i32) {
    // SAFETY: no memory is involved; a number that is no signal is refused with an error.
    let sent = unsafe { libc::raise(signal) };
    assert_eq!(sent, 0, "the caller names a signal of this system");
}

/// Prepares the process and the calling thread for [`interrupt`].
///
/// `SIGURG`, as in Go's runtime: without a handler it is ignored, nobody else uses it, and debuggers let it
/// pass.
pub(crate) fn accept_interrupts() -> io::Result<()> {
    extern "C" fn nothing(_signal: libc::c_int) {}
    let handler: extern "C" fn(libc::c_int) = nothing;
    // SAFETY: the structure consists of integers and a set of bits, for which zero bytes are valid.
    let mut action: libc::sigaction = unsafe { core::mem::zeroed() };
    // Without SA_RESTART: the interrupted call is to return. A handler that does nothing is safe to run
    // at any point of any thread.
    #[expect(clippy::as_conversions, reason = "the C interface keeps the function as a number")]
    {
        action.sa_sigaction = handler as libc::sighandler_t;
    }
    // SAFETY: `action` is initialised and names a function that lives for ever.
    let set = unsafe { libc::sigaction(libc::SIGURG, &raw const action, core::ptr::null_mut()) };
    if set != 0 {
        return Err(io::Error::last_os_error());
    }
    SignalSet::of(&[libc::SIGURG]).unblock()
}

/// Makes the system call in which this thread sleeps, if it does, return `EINTR`. A thread that has ended is
/// no error.
pub(crate) fn interrupt(thread: i32) {
    let process = rustix::process::getpid().as_raw_nonzero().get();
    // SAFETY: no memory is involved, and the signal has a handler that does nothing.
    unsafe { libc::syscall(libc::SYS_tgkill, process, thread, libc::SIGURG) };
}

/// Gives memory that is allocated to nobody back to the system, where the allocator does not by itself.
#[cfg(target_env = "gnu")]
pub(crate) fn give_back() {
    // SAFETY: it touches no memory but the allocator's own, under the allocator's locks.
    unsafe { libc::malloc_trim(0) };
}

/// musl's allocator gives back what it can by itself.
#[cfg(not(target_env = "gnu"))]
pub(crate) const fn give_back() {}

/// A set of signal numbers.
#[derive(Clone, Copy)]
pub(crate) struct SignalSet(libc::sigset_t);

impl SignalSet {
    /// The set of these signals.
    ///
    /// # Panics
    ///
    /// On a number that is no signal.
    pub(crate) fn of(signals: &[i32]) -> Self {
        let mut set = MaybeUninit::uninit();
        // SAFETY: the pointer is valid for writes.
        let emptied = unsafe { libc::sigemptyset(set.as_mut_ptr()) };
        assert_eq!(emptied, 0, "sigemptyset has no error");
        // SAFETY: `sigemptyset` has initialised it.
        let mut set = unsafe { set.assume_init() };
        for &signal in signals {
            // SAFETY: the set is initialised and exclusively borrowed.
            let added = unsafe { libc::sigaddset(&raw mut set, signal) };
            assert_eq!(added, 0, "the caller names signals of this system");
        }
        Self(set)
    }

    /// Blocks these signals in the calling thread and in every thread it starts from now on.
    pub(crate) fn block(&self) -> io::Result<()> {
        self.mask(libc::SIG_BLOCK)
    }

    /// Lets these signals through in the calling thread.
    pub(crate) fn unblock(&self) -> io::Result<()> {
        self.mask(libc::SIG_UNBLOCK)
    }

    /// Waits until one of these signals is pending and takes it; they must be blocked in every thread.
    pub(crate) fn wait(&self) -> io::Result<i32> {
        let mut signal = 0;
        // SAFETY: both pointers are valid for the call, the set is initialised.
        let error = unsafe { libc::sigwait(&raw const self.0, &raw mut signal) };
        if error == 0 { Ok(signal) } else { Err(io::Error::from_raw_os_error(error)) }
    }

    fn mask(&self, how: i32) -> io::Result<()> {
        // SAFETY: the set is initialised; a null pointer for the old mask is allowed. Masks of threads
        // touch no memory of ours.
        let error = unsafe { libc::pthread_sigmask(how, &raw const self.0, core::ptr::null_mut()) };
        if error == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(error)) }
    }
}
