//! Waiting for sockets, and for a time that is exact to some microseconds.
//!
//! `epoll_wait` counts in milliseconds, which is longer than most operations take, so a timer is one of the things that
//! are waited for.

use core::fmt;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};

use crate::clock::SECOND;

/// Sockets with a number each, and a timer.
pub(crate) struct Poll {
    epoll: OwnedFd,
    timer: OwnedFd,
    /// When the timer ends.
    armed: u64,
    events: Vec<epoll::Event>,
}

impl fmt::Debug for Poll {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Poll").field("epoll", &self.epoll).finish_non_exhaustive()
    }
}

/// A socket that can do something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ready {
    pub(crate) number: usize,
    pub(crate) may_read: bool,
    pub(crate) may_write: bool,
}

impl Poll {
    /// # Errors
    /// If there are no more files to be had.
    pub(crate) fn new() -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        epoll::add(&epoll, &timer, EventData::new_u64(TIMER), EventFlags::IN)?;
        Ok(Self { epoll, timer, armed: 0, events: Vec::with_capacity(EVENTS_MAX) })
    }

    /// Waits for a socket from now on, until it is closed.
    ///
    /// # Errors
    /// If the system refuses.
    pub(crate) fn add(&self, socket: impl AsFd, number: usize) -> io::Result<()> {
        epoll::add(&self.epoll, socket, EventData::new_u64(number as u64), EventFlags::IN)?;
        Ok(())
    }

    /// Waits also until the socket takes more, or does not any more.
    ///
    /// # Errors
    /// If the system refuses.
    pub(crate) fn change(
        &self,
        socket: impl AsFd,
        number: usize,
        to_write: bool,
    ) -> io::Result<()> {
        let flags = if to_write { EventFlags::IN | EventFlags::OUT } else { EventFlags::IN };
        epoll::modify(&self.epoll, socket, EventData::new_u64(number as u64), flags)?;
        Ok(())
    }

    /// Waits until a moment at most; it may be earlier. What is ready then comes from [`Poll::next`].
    pub(crate) fn wait(&mut self, now: u64, until: u64) {
        self.events.clear();
        // A timer that ends in time is left alone: setting it is a system call.
        if self.armed <= now || self.armed > until {
            let nanoseconds = until.saturating_sub(now);
            let seconds = i64::try_from(nanoseconds / SECOND).unwrap_or(i64::MAX);
            // Nothing disarms it.
            let nanoseconds = i64::try_from(nanoseconds % SECOND).unwrap_or(0).max(1);
            let it_value = Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
            let it_interval = Timespec { tv_sec: 0, tv_nsec: 0 };
            let time = Itimerspec { it_interval, it_value };
            if timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &time).is_err() {
                return;
            }
            self.armed = until;
        }
        // A wait that is interrupted is a short one.
        epoll::wait(&self.epoll, spare_capacity(&mut self.events), None).ok();
    }

    /// A socket that can do something; `None`: there is no other.
    pub(crate) fn next(&mut self) -> Option<Ready> {
        loop {
            let epoll::Event { flags, data } = self.events.pop()?;
            if data.u64() == TIMER {
                continue;
            }
            let number = usize::try_from(data.u64()).unwrap_or(0);
            let may_read = flags.intersects(EventFlags::IN | EventFlags::HUP | EventFlags::ERR);
            return Some(Ready { number, may_read, may_write: flags.contains(EventFlags::OUT) });
        }
    }
}

/// The number of the timer.
const TIMER: u64 = u64::MAX;
/// Sockets that are looked at together.
const EVENTS_MAX: usize = 1024;
