//! What is to be sent on a connection, in order.
//!
//! What is short is gathered in one buffer; what is long stays where it is, and is written from there.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf as _, Bytes};

/// Data from this length on are not copied.
const SHARED_BYTES_MIN: usize = 4 << 10;

/// Room for short things that is kept when all are sent.
const TAIL_BYTES_KEPT: usize = 4 << 10;

/// Bytes that wait for the socket.
#[derive(Debug, Default)]
pub struct Out {
    /// What goes first.
    parts: VecDeque<Bytes>,
    /// What goes after that, and how much of it is gone already.
    tail: Vec<u8>,
    gone: usize,
    /// Bytes of the parts.
    parts_bytes: usize,
}

impl Out {
    /// Bytes that wait.
    pub fn len(&self) -> usize {
        self.parts_bytes + self.tail.len() - self.gone
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What follows everything else is written here.
    pub(super) fn tail(&mut self) -> &mut Vec<u8> {
        &mut self.tail
    }

    /// Appends data, in the end without a copy if they are long.
    pub(super) fn push(&mut self, data: Bytes) {
        if data.len() < SHARED_BYTES_MIN {
            return self.tail.extend_from_slice(&data);
        }
        if self.tail.len() > self.gone {
            let mut before = Bytes::from(core::mem::take(&mut self.tail));
            before.advance(core::mem::take(&mut self.gone));
            self.parts_bytes += before.len();
            self.parts.push_back(before);
        }
        self.parts_bytes += data.len();
        self.parts.push_back(data);
    }

    /// The bytes that go first, as many slices as there is room for; says how many those are.
    pub fn slices<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let tail = &self.tail[self.gone..];
        let all = self.parts.iter().map(|part| &**part).chain([tail]);
        let mut count = 0;
        for (slice, bytes) in slices.iter_mut().zip(all.filter(|bytes| !bytes.is_empty())) {
            *slice = IoSlice::new(bytes);
            count += 1;
        }
        count
    }

    /// So many bytes are sent.
    ///
    /// # Panics
    /// If there are not so many.
    pub fn advance(&mut self, mut bytes: usize) {
        while let Some(first) = self.parts.front_mut().filter(|_| bytes > 0) {
            let sent = bytes.min(first.len());
            first.advance(sent);
            self.parts_bytes -= sent;
            bytes -= sent;
            if first.is_empty() {
                self.parts.pop_front();
            }
        }
        self.gone += bytes;
        assert!(self.gone <= self.tail.len(), "no more is sent than there is");
        if self.gone == self.tail.len() {
            self.gone = 0;
            self.tail.clear();
            // A connection on which nothing happens needs no room.
            self.tail.shrink_to(TAIL_BYTES_KEPT);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(out: &Out) -> Vec<u8> {
        let mut slices = [IoSlice::new(&[]); 8];
        let count = out.slices(&mut slices);
        slices[..count].iter().flat_map(|slice| slice.to_vec()).collect()
    }

    #[test]
    fn bytes_leave_in_the_order_in_which_they_came() {
        for step in [1, 7, 4096, 5000, 20_000] {
            let (mut out, mut expected) = (Out::default(), Vec::new());
            for round in 0..3_u8 {
                out.tail().extend_from_slice(&[round; 9]);
                out.push(Bytes::from(vec![round + 100; 10]));
                out.push(Bytes::from(vec![round + 50; SHARED_BYTES_MIN]));
                expected.extend_from_slice(&[round; 9]);
                expected.extend_from_slice(&[round + 100; 10]);
                expected.extend_from_slice(&[round + 50; SHARED_BYTES_MIN]);
                assert_eq!(out.len(), expected.len());
                let sent = step.min(expected.len());
                assert_eq!(all(&out), expected);
                out.advance(sent);
                expected.drain(..sent);
            }
            assert_eq!(all(&out), expected);
            out.advance(expected.len());
            assert!(out.is_empty());
        }
    }

    #[test]
    fn what_is_long_is_not_copied() {
        let (mut out, data) = (Out::default(), Bytes::from(vec![1; SHARED_BYTES_MIN]));
        out.tail().push(0);
        out.push(data.clone());
        assert_eq!(out.parts[1].as_ptr(), data.as_ptr());
    }
}
