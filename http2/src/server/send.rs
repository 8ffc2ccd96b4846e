//! What leaves: answers in as many frames as windows allow, and what a server says of itself.

use bytes::Bytes;

use super::streams::{Answer, End, Waiting};
use super::{Connection, Key, LAST_PING, Leaving, OUT_BYTES_MAX, Out, PING, Stage, WINDOW_BITS};
use crate::frame::{self, HEAD_BYTES, Reason, flag, kind};
use crate::hpack;

/// Fields of a head or of trailers.
pub type Fields<'a> = &'a [(&'a [u8], &'a [u8])];

impl Connection {
    /// What is to be written.
    pub fn out(&mut self) -> &mut Out {
        &mut self.out
    }

    /// Notes that bytes of `out` were written, and goes on with what waited for that.
    ///
    /// # Panics
    /// If there were not so many.
    pub fn wrote(&mut self, bytes: usize) {
        self.out.advance(bytes);
        self.pump();
    }

    /// Whether there is room for what reading makes us say.
    pub fn may_read(&self) -> bool {
        self.out.len() < OUT_BYTES_MAX * 2
    }

    /// Bytes of answers that wait for windows.
    pub fn waiting_bytes(&self) -> usize {
        self.waiting_bytes
    }

    /// The next stream whose data waited and are in `out` now, and what its owner knows it by. It may be gone.
    pub fn drained(&mut self) -> Option<(Key, usize)> {
        self.drained.pop()
    }

    /// Whether heads or data were sent since this was asked last.
    pub fn has_sent(&mut self) -> bool {
        core::mem::take(&mut self.has_sent)
    }

    /// Whether a stream goes on: neither side has reset it, and it was not answered to the end.
    pub fn is_open(&mut self, stream: Key) -> bool {
        self.streams.get(stream).is_some_and(|stream| stream.answer != Answer::Ended)
    }

    /// Whether data of a stream wait.
    pub fn is_waiting(&mut self, stream: Key) -> bool {
        self.streams.get(stream).is_some_and(|stream| stream.waiting.is_some())
    }

    /// Begins a usual answer. Nothing happens to a stream that is gone.
    pub fn begin(&mut self, stream: Key) {
        if !self.begins(stream) {
            return;
        }
        let start = self.open_block(stream.id);
        self.answers.head(self.out.tail());
        self.close_block(start, 0);
    }

    /// Begins an answer with another status, of three digits.
    pub fn begin_status(&mut self, stream: Key, status: u16, fields: Fields<'_>) {
        if !self.begins(stream) {
            return;
        }
        self.status_block(stream.id, status, fields, 0);
    }

    /// Answers with another status, some fields, and nothing else.
    pub fn refuse_status(&mut self, stream: Key, status: u16, fields: Fields<'_>) {
        if !self.begins(stream) {
            return;
        }
        self.status_block(stream.id, status, fields, flag::END_STREAM);
        self.answered(stream);
    }

    /// Answers with a usual head, some fields more, and nothing else.
    pub fn refuse_with(&mut self, stream: Key, fields: Fields<'_>) {
        if !self.begins(stream) {
            return;
        }
        let start = self.open_block(stream.id);
        self.answers.head(self.out.tail());
        self.literals(fields);
        self.close_block(start, flag::END_STREAM);
        self.answered(stream);
    }

    /// Sends data, now or when windows allow it.
    pub fn send(&mut self, stream: Key, data: Bytes) {
        let (frame_bytes_max, has_room) = (self.frame_bytes_max, self.out.len() < OUT_BYTES_MAX);
        let (at_first, of_all) = (self.stream_send_window, self.send_window);
        let Some(known) = self.streams.get(stream).filter(|stream| stream.answer != Answer::Ended)
        else {
            return;
        };
        let length = i64::try_from(data.len()).expect("63 bits");
        let allowed = of_all.min(known.send_window + at_first);
        let fits = length <= allowed && data.len() <= frame_bytes_max && has_room;
        if fits && known.waiting.is_none() {
            known.send_window -= length;
            self.send_window -= length;
            return self.data_frame(stream.id, data, 0);
        }
        if data.is_empty() {
            return;
        }
        self.waiting_bytes += data.len();
        let waiting = known.waiting.get_or_insert_default();
        waiting.bytes += data.len();
        waiting.data.push_back(data);
        self.wait(stream);
    }

    /// Ends an answer with the usual trailers.
    pub fn end(&mut self, stream: Key) {
        self.end_by(stream, End::Usual);
    }

    /// Ends an answer with these trailers.
    pub fn end_with(&mut self, stream: Key, fields: Fields<'_>) {
        let mut block = Vec::new();
        fields.iter().for_each(|(name, value)| hpack::literal(name, value, &mut block));
        self.end_by(stream, End::Trailers(block));
    }

    /// Ends an answer without trailers.
    pub fn end_data(&mut self, stream: Key) {
        self.end_by(stream, End::Data);
    }

    /// Ends a stream at once, whatever waits.
    pub fn reset(&mut self, stream: Key, reason: Reason) {
        if self.streams.get(stream).is_some() {
            self.remove(stream, true);
            frame::number(self.out.tail(), kind::RST_STREAM, stream.id, reason.number());
        }
    }

    /// Asks whether the client is there.
    pub fn ping(&mut self) {
        frame::head(self.out.tail(), PING.len(), kind::PING, 0, 0);
        self.out.tail().extend_from_slice(&PING);
    }

    /// Begins to say goodbye: what has begun goes on, and what begins until the client hears of it.
    pub fn leave(&mut self) {
        if self.leaving == Leaving::No {
            self.leaving = Leaving::Announced;
            self.goodbye(WINDOW_BITS, Reason::NoError, "");
            frame::head(self.out.tail(), LAST_PING.len(), kind::PING, 0, 0);
            self.out.tail().extend_from_slice(&LAST_PING);
        }
    }

    /// Whether the goodbye is said, and all that had begun has ended.
    pub fn has_left(&self) -> bool {
        matches!(self.leaving, Leaving::After(_)) && self.streams.len() == 0 && self.out.is_empty()
    }

    /// Ends the connection, and says why.
    pub fn fail(&mut self, reason: Reason, why: &str) {
        self.stage = Stage::Over;
        self.goodbye(self.newest, reason, why);
    }

    pub(super) fn goodbye(&mut self, last: u32, reason: Reason, why: &str) {
        let out = self.out.tail();
        frame::head(out, 8 + why.len(), kind::GOAWAY, 0, 0);
        out.extend_from_slice(&last.to_be_bytes());
        out.extend_from_slice(&reason.number().to_be_bytes());
        out.extend_from_slice(why.as_bytes());
    }

    /// Answers a request that is no stream yet: its head is too large.
    pub(super) fn too_large(&mut self, id: u32, is_end: bool) {
        self.status_block(id, 431, &[], flag::END_STREAM);
        if !is_end {
            frame::number(self.out.tail(), kind::RST_STREAM, id, Reason::NoError.number());
        }
        self.recent.note(id, true);
    }

    /// Whether an answer may begin; from now on it has.
    fn begins(&mut self, stream: Key) -> bool {
        let Some(known) = self.streams.get(stream) else { return false };
        assert!(known.answer == Answer::No, "an answer begins once");
        known.answer = Answer::Begun;
        true
    }

    fn end_by(&mut self, stream: Key, end: End) {
        let Some(known) = self.streams.get(stream).filter(|stream| stream.answer != Answer::Ended)
        else {
            return;
        };
        match &mut known.waiting {
            Some(waiting) => {
                known.answer = Answer::Ended;
                waiting.end = Some(end);
            }
            None => self.write_end(stream, end),
        }
    }

    fn write_end(&mut self, stream: Key, end: End) {
        match end {
            End::Data => self.data_frame(stream.id, Bytes::new(), flag::END_STREAM),
            End::Usual => {
                let start = self.open_block(stream.id);
                self.answers.end(self.out.tail());
                self.close_block(start, flag::END_STREAM);
            }
            End::Trailers(block) => {
                let start = self.open_block(stream.id);
                self.answers.begin(self.out.tail());
                self.out.tail().extend_from_slice(&block);
                self.close_block(start, flag::END_STREAM);
            }
        }
        self.answered(stream);
    }

    /// An answer is sent whole.
    fn answered(&mut self, stream: Key) {
        let known = self.streams.get(stream).expect("it was answered just now");
        known.answer = Answer::Ended;
        self.patience.answered();
        if !known.is_received {
            // Whatever of the request has not come, nobody waits for (RFC 9113, section 8.1).
            self.remove(stream, true);
            frame::number(self.out.tail(), kind::RST_STREAM, stream.id, Reason::NoError.number());
            return;
        }
        self.remove_if_ended(stream);
    }

    /// Forgets a stream that both sides have ended.
    pub(super) fn remove_if_ended(&mut self, stream: Key) {
        let Some(known) = self.streams.get(stream) else { return };
        if known.is_received && known.answer == Answer::Ended && known.waiting.is_none() {
            self.remove(stream, false);
        }
    }

    /// Puts a stream in the line of those that have something to send.
    fn wait(&mut self, stream: Key) {
        let at_first = self.stream_send_window;
        let known = self.streams.get(stream).expect("it waits");
        if !known.is_queued && known.send_window + at_first > 0 {
            known.is_queued = true;
            self.ready.push_back(stream);
        }
        self.pump();
    }

    /// Sends what waits, as far as windows and `out` allow, a part of each stream in turn.
    pub(super) fn pump(&mut self) {
        while self.send_window > 0 && self.out.len() < OUT_BYTES_MAX {
            let Some(stream) = self.ready.pop_front() else { return };
            let (at_first, of_all) = (self.stream_send_window, self.send_window);
            let frame_bytes_max = self.frame_bytes_max;
            // It may be gone, or its window may have shrunk.
            let Some(known) = self.streams.get(stream) else { continue };
            known.is_queued = false;
            let Some(waiting) = &mut known.waiting else { continue };
            let allowed = usize::try_from(of_all.min(known.send_window + at_first)).unwrap_or(0);
            let Some(bytes) = waiting.data.front().map(Bytes::len) else { continue };
            let bytes = bytes.min(allowed).min(frame_bytes_max);
            if bytes == 0 {
                continue;
            }
            let data = waiting.take(bytes);
            let sent = i64::try_from(bytes).expect("63 bits");
            known.send_window -= sent;
            self.send_window -= sent;
            self.waiting_bytes -= bytes;
            let is_last = waiting.data.is_empty();
            let ends_with_data = is_last && matches!(waiting.end, Some(End::Data));
            if !is_last && known.send_window + at_first > 0 {
                known.is_queued = true;
                self.ready.push_back(stream);
            }
            let (token, end) = (known.token, if is_last { waiting.end.take() } else { None });
            if is_last {
                known.waiting = None;
                self.drained.push((stream, token));
            }
            self.data_frame(stream.id, data, if ends_with_data { flag::END_STREAM } else { 0 });
            match end {
                Some(End::Data) => self.answered(stream),
                Some(end) => self.write_end(stream, end),
                None => {}
            }
        }
    }

    fn data_frame(&mut self, id: u32, data: Bytes, flags: u8) {
        self.has_sent = true;
        self.patience.sent(data.len());
        frame::head(self.out.tail(), data.len(), kind::DATA, flags, id);
        self.out.push(data);
    }

    fn status_block(&mut self, id: u32, status: u16, fields: Fields<'_>, flags: u8) {
        let start = self.open_block(id);
        self.answers.begin(self.out.tail());
        hpack::literal(b":status", status.to_string().as_bytes(), self.out.tail());
        self.literals(fields);
        self.close_block(start, flags);
    }

    fn literals(&mut self, fields: Fields<'_>) {
        fields.iter().for_each(|(name, value)| hpack::literal(name, value, self.out.tail()));
    }

    /// Leaves room for the head of a frame; says where.
    fn open_block(&mut self, id: u32) -> usize {
        self.has_sent = true;
        let start = self.out.tail().len();
        frame::head(self.out.tail(), 0, kind::HEADERS, 0, id);
        start
    }

    /// Writes the head of a frame whose block ends here; in several frames, if the block is long.
    fn close_block(&mut self, start: usize, flags: u8) {
        let frame_bytes_max = self.frame_bytes_max;
        let tail = self.out.tail();
        let length = tail.len() - start - HEAD_BYTES;
        if length <= frame_bytes_max {
            let [_, a, b, c] = u32::try_from(length).expect("blocks are short").to_be_bytes();
            tail[start..start + 3].copy_from_slice(&[a, b, c]);
            tail[start + 4] = flags | flag::END_HEADERS;
            return;
        }
        let id = tail[start + 5..start + HEAD_BYTES].first_chunk().expect("four bytes");
        let id = u32::from_be_bytes(*id);
        let block = tail.split_off(start + HEAD_BYTES);
        tail.truncate(start);
        let mut parts = block.chunks(frame_bytes_max).peekable();
        let (mut kind, mut flags) = (kind::HEADERS, flags);
        while let Some(part) = parts.next() {
            let last = if parts.peek().is_none() { flag::END_HEADERS } else { 0 };
            frame::head(tail, part.len(), kind, flags | last, id);
            tail.extend_from_slice(part);
            (kind, flags) = (kind::CONTINUATION, 0);
        }
    }
}

impl Waiting {
    /// Takes bytes off the beginning.
    fn take(&mut self, bytes: usize) -> Bytes {
        let first = self.data.front_mut().expect("something waits");
        let taken = first.split_to(bytes);
        if first.is_empty() {
            self.data.pop_front();
        }
        self.bytes -= bytes;
        taken
    }
}
