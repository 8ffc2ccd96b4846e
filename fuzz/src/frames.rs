//! gRPC's frames: messages come out of a stream whole and in order, wherever its data is cut.

use bytes::Bytes;
use cairn_server::grpc::frame::{Messages, PREFIX_BYTES};

use crate::choices::Choices;

/// Short, so that prefixes of few bytes reach it.
const MESSAGE_BYTES_MAX: usize = 300;

/// Cuts a stream as its first bytes say, and looks for messages after each cut.
pub fn frames(data: &[u8]) {
    let mut choices = Choices(data);
    let cuts: Vec<usize> = choices.bytes(8).iter().map(|byte| usize::from(*byte)).collect();
    let stream = choices.0;
    let (mut messages, mut found, mut refused) = (Messages::default(), Vec::new(), None);
    let mut rest = stream;
    // The last of the data comes in one piece.
    for cut in cuts.into_iter().chain([usize::MAX]) {
        let (part, next) = rest.split_at(cut.min(rest.len()));
        rest = next;
        messages.push(Bytes::copy_from_slice(part));
        loop {
            match messages.next(MESSAGE_BYTES_MAX) {
                Ok(Some(message)) => found.push(message),
                Ok(None) => break,
                Err(status) => {
                    refused = Some(status);
                    break;
                }
            }
        }
        if refused.is_some() {
            break;
        }
    }
    let (expected, ending) = parse(stream);
    assert_eq!(found, expected);
    match ending {
        Ending::Clean => assert!(refused.is_none() && messages.is_empty()),
        Ending::Unfinished(bytes) => assert!(refused.is_none() && messages.len() == bytes),
        Ending::Refused => assert!(refused.is_some()),
    }
}

enum Ending {
    Clean,
    Unfinished(usize),
    Refused,
}

/// The same, from the format's description and with all of the data at hand.
fn parse(mut stream: &[u8]) -> (Vec<Bytes>, Ending) {
    let mut found = Vec::new();
    loop {
        if stream.is_empty() {
            return (found, Ending::Clean);
        }
        let [flag, a, b, c, d, body @ ..] = stream else {
            assert!(stream.len() < PREFIX_BYTES);
            return (found, Ending::Unfinished(stream.len()));
        };
        let length = usize::try_from(u32::from_be_bytes([*a, *b, *c, *d])).expect("64 bits");
        if *flag != 0 || length > MESSAGE_BYTES_MAX {
            return (found, Ending::Refused);
        }
        let Some((message, next)) = body.split_at_checked(length) else {
            return (found, Ending::Unfinished(stream.len()));
        };
        found.push(Bytes::copy_from_slice(message));
        stream = next;
    }
}
