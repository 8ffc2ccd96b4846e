//! Stub until the hub lands.
use super::Response;
use crate::api::etcdserverpb::WatchRequest;
use crate::config::Limits;
use crate::ids::StreamId;
use crate::mvcc::View;
use crate::state_machine::Changes;
use crate::time::Time;

/// All watchers of one shard.
#[derive(Debug)]
pub struct Hub {}

impl Hub {
    /// No watchers.
    pub fn new(_limits: Limits, _seed: u64) -> Self {
        Self {}
    }
    /// A stream.
    pub fn open(&mut self, _stream: StreamId) {}
    /// Gone.
    pub fn close(&mut self, _stream: StreamId) {}
    /// Says.
    pub fn request(&mut self, _now: Time, _view: &View, _stream: StreamId, _request: WatchRequest) {
    }
    /// Room.
    pub fn credit(&mut self, _stream: StreamId, _bytes: usize) {}
    /// New.
    pub fn publish(&mut self, _now: Time, _view: &View, _changes: &[Changes]) {}
    /// Slice.
    pub fn wake(&mut self, _now: Time, _view: &View) {}
    /// When.
    pub fn deadline(&self) -> Option<Time> {
        None
    }
    /// Next.
    pub fn poll(&mut self) -> Option<(StreamId, Response)> {
        None
    }
}
