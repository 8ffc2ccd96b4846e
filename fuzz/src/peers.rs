//! What a member says to another: bytes become frames and messages, or are refused, wherever they are cut.

use bytes::Bytes;
use cairn_engine::MemberId;
use cairn_engine::peer::codec::{Malformed, decode, encode};
use cairn_engine::peer::frame::{Frame, Frames, HEADER_BYTES};

use crate::choices::Choices;

/// Short, so that lengths of few bytes reach it.
const BODY_BYTES_MAX: u32 = 300;
const FROM: MemberId = MemberId(1);
const TO: MemberId = MemberId(2);

/// Cuts a connection's bytes as its first ones say, and looks for frames after each cut; what comes out does not depend
/// on the cuts.
pub fn peer_frames(data: &[u8]) {
    let mut choices = Choices(data);
    let cuts: Vec<usize> = choices.bytes(8).iter().map(|byte| usize::from(*byte)).collect();
    let stream = choices.0;
    let whole = read(stream, &[]);
    assert_eq!(read(stream, &cuts), whole);
    for frame in whole.0 {
        if let Frame::Message(body) = frame {
            take(body);
        }
    }
}

/// Takes bytes for a message: checksums keep most random frames out, so the messages in them are fed apart.
pub fn peer_message(data: &[u8]) {
    take(Bytes::copy_from_slice(data));
}

/// What can be read can be written down again, and then is the same.
fn take(body: Bytes) {
    let Ok(message) = decode(body.clone(), FROM, TO) else { return };
    let mut out = Vec::new();
    encode(&message, &mut out);
    assert_eq!(out[HEADER_BYTES..], body);
}

/// The frames that these bytes are, and how they end.
fn read(stream: &[u8], cuts: &[usize]) -> (Vec<Frame>, Option<Malformed>) {
    let mut frames = Frames::of_acceptor(&[]);
    frames.allow(BODY_BYTES_MAX);
    let (mut found, mut rest) = (Vec::new(), stream);
    let mut cuts = cuts.iter().copied();
    loop {
        loop {
            match frames.next() {
                Ok(Some(frame)) => found.push(frame),
                Ok(None) => break,
                Err(malformed) => return (found, Some(malformed)),
            }
        }
        if rest.is_empty() {
            return (found, None);
        }
        let place = frames.place();
        // At least one byte, and after the last cut all of them.
        let cut = cuts.next().map_or(usize::MAX, |cut| cut + 1);
        let count = cut.min(place.len()).min(rest.len());
        place[..count].copy_from_slice(&rest[..count]);
        frames.filled(count);
        rest = &rest[count..];
    }
}
