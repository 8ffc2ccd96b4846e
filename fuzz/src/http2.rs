//! HTTP/2: whatever a client sends, cut wherever it is, means the same, holds little, and is answered in frames.

use std::io::IoSlice;

use bytes::Bytes;
use cairn_http2::frame::Frame;
use cairn_http2::hpack::{Decoder, TABLE_BYTES};
use cairn_http2::server::{Connection, Event, Head, OUT_BYTES_MAX, REST_BYTES_MAX, Settings};

use crate::choices::Choices;

const SETTINGS: Settings = Settings {
    stream_window_bytes: 65_535,
    connection_window_bytes: 65_535,
    streams_max: 8,
    head_bytes_max: 4096,
};

/// The first byte says how the rest, which a client sends, is cut.
pub fn http2_connection(data: &[u8]) {
    let mut choices = Choices(data);
    let step = usize::from(choices.byte()).max(1);
    let stream = choices.0;
    let whole = converse(&[stream]);
    let parts: Vec<&[u8]> = stream.chunks(step).collect();
    assert_eq!(converse(&parts), whole, "cut every {step} bytes");
}

/// What is seen and sent when these parts arrive. Every request is answered as soon as its body is there.
fn converse(parts: &[&[u8]]) -> (Vec<String>, Vec<u8>) {
    let (mut http2, mut head) = (Connection::new(SETTINGS), Head::default());
    let (mut seen, mut sent, mut rest) = (Vec::new(), Vec::new(), Vec::new());
    for part in parts {
        rest.extend_from_slice(part);
        let mut input = &*rest;
        loop {
            let event = match http2.next(&mut input, &mut head) {
                Ok(None) => break,
                Ok(Some(event)) => event,
                Err(failure) => {
                    seen.push(format!("{failure:?}"));
                    break;
                }
            };
            seen.push(format!("{event:?}"));
            match event {
                Event::Request { stream, is_end } => {
                    assert!(head.fields().count() < 4096 / 32, "heads are bounded");
                    http2.name(stream, 7);
                    http2.begin(stream);
                    let answer = Bytes::from(vec![7; 40_000]);
                    http2.send(stream, answer);
                    if is_end {
                        http2.end(stream);
                    }
                }
                Event::Data { stream, data, is_end, .. } => {
                    http2.took(stream, data.len());
                    if is_end {
                        http2.end_with(stream, &[(b"grpc-status", b"5")]);
                    }
                }
                Event::Reset { .. } | Event::Ping | Event::Pong => {}
            }
            assert!(http2.streams() <= 8 && http2.waiting_bytes() <= 8 * 40_000);
            assert!(http2.out().len() < OUT_BYTES_MAX * 2);
        }
        rest = input.to_vec();
        assert!(rest.len() < REST_BYTES_MAX);
    }
    while !http2.out().is_empty() {
        let mut slices = [IoSlice::new(&[]); 4];
        let count = http2.out().slices(&mut slices);
        let bytes: Vec<u8> = slices[..count].iter().flat_map(|slice| slice.to_vec()).collect();
        http2.wrote(bytes.len());
        sent.extend(bytes);
    }
    let mut frames = &*sent;
    while let Some(frame) = Frame::first(frames) {
        frames = &frames[9 + frame.payload.len()..];
    }
    assert!(frames.is_empty(), "whole frames are sent");
    (seen, sent)
}

/// A block, and the same again: its table is bounded, and what was seen are names and values.
pub fn hpack_block(data: &[u8]) {
    let mut decoder = Decoder::new(TABLE_BYTES);
    for _ in 0..2 {
        let mut seen = 0;
        let _read = decoder.decode(data, |field| {
            seen += field.name.len() + field.value.len() + 32;
            seen < 1 << 16
        });
    }
}
