//! Conversations with a connection: what a client says in bytes, and what comes of it.

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::hpack::{self, Seen};

const SETTINGS: Settings = Settings {
    stream_window_bytes: 65_535,
    connection_window_bytes: 100_000,
    streams_max: 10,
    head_bytes_max: 2000,
};

/// A frame.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    frame::head(&mut bytes, payload.len(), kind, flags, stream);
    bytes.extend_from_slice(payload);
    bytes
}

fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        hpack::literal(name.as_bytes(), value.as_bytes(), &mut block);
    }
    block
}

const HEAD: [(&str, &str); 4] =
    [(":method", "POST"), (":scheme", "http"), (":path", "/a"), (":authority", "cairn")];

fn with(fields: &[(&str, &str)]) -> Vec<u8> {
    block(&[&HEAD[..], fields].concat())
}

fn request(stream: u32) -> Vec<u8> {
    frame(kind::HEADERS, flag::END_HEADERS, stream, &with(&[]))
}

fn whole_request(stream: u32) -> Vec<u8> {
    frame(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, stream, &with(&[]))
}

/// The beginning of what was said, for messages of tests.
fn words(bytes: &[u8]) -> String {
    bytes[..bytes.len().min(80)].escape_ascii().to_string()
}

fn number(number: u32) -> [u8; 4] {
    number.to_be_bytes()
}

/// A connection with a client that says what it is told to.
struct Client {
    connection: Connection,
    head: Head,
    /// What has arrived.
    seen: Vec<Saw>,
    rest: Vec<u8>,
    decoder: Decoder,
}

/// An event, as tests compare it.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Saw {
    Request { id: u32, path: String, is_end: bool },
    Data { id: u32, data: Vec<u8>, is_end: bool },
    Reset(usize),
    Ping,
    Pong,
    Failure(Reason),
}

impl Client {
    /// One that has said nothing.
    fn silent() -> Self {
        let connection = Connection::new(SETTINGS);
        let (seen, rest) = (Vec::new(), Vec::new());
        Self { connection, head: Head::default(), seen, rest, decoder: Decoder::new(TABLE_BYTES) }
    }

    /// One that has said hello, and was answered.
    fn new() -> Self {
        let mut client = Self::silent();
        client.says(&[PREFACE, &frame(kind::SETTINGS, 0, 0, &[])].concat());
        client.hears();
        client
    }

    fn says(&mut self, bytes: &[u8]) {
        self.rest.extend_from_slice(bytes);
        let bytes = core::mem::take(&mut self.rest);
        let mut input = &*bytes;
        loop {
            let saw = match self.connection.next(&mut input, &mut self.head) {
                Ok(None) => break,
                Ok(Some(Event::Request { stream, is_end })) => {
                    self.connection.name(stream, wide(stream.id()));
                    let path = String::from_utf8(self.head.path().to_vec()).unwrap();
                    Saw::Request { id: stream.id(), path, is_end }
                }
                Ok(Some(Event::Data { stream, token, data, is_end })) => {
                    assert_eq!(token, wide(stream.id()));
                    Saw::Data { id: stream.id(), data: data.to_vec(), is_end }
                }
                Ok(Some(Event::Reset { token, .. })) => Saw::Reset(token),
                Ok(Some(Event::Ping)) => Saw::Ping,
                Ok(Some(Event::Pong)) => Saw::Pong,
                Err(failure) => Saw::Failure(failure.reason),
            };
            self.seen.push(saw);
        }
        assert!(input.len() < REST_BYTES_MAX);
        self.rest = input.to_vec();
    }

    fn saw(&mut self) -> Vec<Saw> {
        core::mem::take(&mut self.seen)
    }

    /// All that was sent, in words.
    fn hears(&mut self) -> Vec<String> {
        let mut slices = [std::io::IoSlice::new(&[]); 1000];
        let mut bytes = Vec::new();
        while !self.connection.out().is_empty() {
            let count = self.connection.out().slices(&mut slices);
            let sent: Vec<u8> = slices[..count].iter().flat_map(|slice| slice.to_vec()).collect();
            slices = [std::io::IoSlice::new(&[]); 1000];
            self.connection.wrote(sent.len());
            bytes.extend(sent);
        }
        let (mut rest, mut words) = (&*bytes, Vec::new());
        while let Some(frame) = Frame::first(rest) {
            rest = &rest[HEAD_BYTES + frame.payload.len()..];
            let Frame { kind, flags, stream, payload } = frame;
            let end = if flags & flag::END_STREAM != 0 { " end" } else { "" };
            let first = || u32::from_be_bytes(*payload.first_chunk().unwrap());
            words.push(match kind {
                kind::DATA => format!("{stream}: {} bytes{end}", payload.len()),
                kind::HEADERS => {
                    let mut text = format!("{stream}:");
                    let see = |seen: Seen<'_>| {
                        let (name, value) = (seen.name.escape_ascii(), seen.value.escape_ascii());
                        text.push_str(&format!(" {name}={value}"));
                        true
                    };
                    self.decoder.decode(payload, see).unwrap();
                    text + end
                }
                kind::SETTINGS => format!("settings {}", payload.len() + usize::from(flags)),
                kind::PING => format!("ping {flags}"),
                kind::RST_STREAM => format!("{stream}: reset {}", first()),
                kind::WINDOW_UPDATE => format!("{stream}: window {}", first()),
                kind::GOAWAY => format!("goodbye {} {}", first(), payload[7]),
                _ => format!("{kind}"),
            });
        }
        assert!(rest.is_empty());
        words
    }

    fn key(&self, id: u32) -> Key {
        self.connection.streams.find(id).unwrap()
    }
}

const OK: &str = ":status=200 content-type=application/grpc";

#[test]
fn a_call_is_answered() {
    let mut client = Client::new();
    client.says(&[request(1), frame(kind::DATA, flag::END_STREAM, 1, b"question")].concat());
    let (data, path) = (b"question".to_vec(), "/a".to_owned());
    assert_eq!(
        client.saw(),
        [Saw::Request { id: 1, path, is_end: false }, Saw::Data { id: 1, data, is_end: true }]
    );
    let stream = client.key(1);
    client.connection.took(stream, 8);
    client.connection.begin(stream);
    client.connection.send(stream, Bytes::from_static(b"answer"));
    client.connection.end(stream);
    assert_eq!(client.connection.streams(), 0);
    let words = client.hears();
    assert_eq!(
        words,
        [format!("1: {OK}"), "1: 6 bytes".to_owned(), "1: grpc-status=0 end".to_owned()]
    );
}

#[test]
fn an_early_answer_ends_the_request() {
    let mut client = Client::new();
    client.says(&request(1));
    let stream = client.key(1);
    client.connection.refuse_with(stream, &[(b"grpc-status", b"12")]);
    assert_eq!(client.hears(), [format!("1: {OK} grpc-status=12 end"), "1: reset 0".to_owned()]);
    // What was on its way is let be, and given back.
    client.saw();
    for _ in 0..10 {
        client.says(&frame(kind::DATA, 0, 1, &[0; 10_000]));
    }
    assert_eq!(client.saw(), []);
    assert_eq!(client.hears(), ["0: window 50000", "0: window 50000"]);
}

#[test]
fn answers_wait_for_windows() {
    let mut client = Client::new();
    let small = [&[0, 4][..], &number(100)].concat();
    client.says(&frame(kind::SETTINGS, 0, 0, &small));
    client.says(&[whole_request(1), whole_request(3)].concat());
    client.hears();
    for id in [1, 3] {
        let stream = client.key(id);
        client.connection.begin(stream);
        client.connection.send(stream, Bytes::from(vec![0; 150]));
        client.connection.send(stream, Bytes::from(vec![0; 50]));
        client.connection.end(stream);
        assert!(client.connection.is_waiting(stream) && !client.connection.is_open(stream));
        assert_eq!(client.hears(), [format!("{id}: {OK}"), format!("{id}: 100 bytes")]);
    }
    assert_eq!(client.connection.waiting_bytes(), 200);
    client.says(&frame(kind::WINDOW_UPDATE, 0, 1, &number(60)));
    assert_eq!(client.hears(), ["1: 50 bytes", "1: 10 bytes"]);
    // More for all streams.
    let more = [&[0, 4][..], &number(120)].concat();
    client.says(&frame(kind::SETTINGS, 0, 0, &more));
    assert_eq!(client.hears(), ["settings 1", "1: 20 bytes", "3: 20 bytes"]);
    client.says(&frame(kind::WINDOW_UPDATE, 0, 1, &number(1000)));
    assert_eq!(client.hears(), ["1: 20 bytes", "1: grpc-status=0 end"]);
    assert_eq!(client.connection.drained().map(|(_, token)| token), Some(1));
    client.says(&frame(kind::RST_STREAM, 0, 3, &number(8)));
    assert_eq!(client.saw().last(), Some(&Saw::Reset(3)));
    assert_eq!((client.connection.waiting_bytes(), client.connection.streams()), (0, 0));
}

#[test]
fn windows_may_shrink_below_nothing() {
    let mut client = Client::new();
    client.says(&whole_request(1));
    let stream = client.key(1);
    client.connection.begin(stream);
    client.connection.send(stream, Bytes::from(vec![0; 60_000]));
    client.hears();
    client.says(&frame(kind::SETTINGS, 0, 0, &[&[0, 4][..], &number(10)].concat()));
    client.connection.send(stream, Bytes::from(vec![0; 10]));
    assert_eq!(client.hears(), ["settings 1"]);
    client.says(&frame(kind::WINDOW_UPDATE, 0, 1, &number(59_991)));
    assert_eq!(client.hears(), ["1: 1 bytes"]);
    client.says(&frame(kind::WINDOW_UPDATE, 0, 1, &number(100)));
    assert_eq!(client.hears(), ["1: 9 bytes"]);
}

#[test]
fn streams_take_turns_and_the_connection_has_a_window() {
    let mut client = Client::new();
    client.says(&[1, 3, 5].map(whole_request).concat());
    client.hears();
    for id in [1, 3, 5] {
        let stream = client.key(id);
        client.connection.send(stream, Bytes::from(vec![0; 65_535 - 20_000]));
        client.connection.end_data(stream);
    }
    let words = client.hears();
    assert_eq!(words[..2], ["1: 16384 bytes", "1: 16384 bytes"]);
    assert_eq!(words[2..5], ["1: 12767 bytes", "1: 0 bytes end", "3: 16384 bytes"]);
    assert_eq!(words[5..], ["3: 3616 bytes"], "65,535 in all");
    client.says(&frame(kind::WINDOW_UPDATE, 0, 0, &number(100_000)));
    let turns = [
        "3: 16384 bytes",
        "5: 16384 bytes",
        "3: 9151 bytes end",
        "5: 16384 bytes",
        "5: 12767 bytes end",
    ];
    assert_eq!(client.hears(), turns);
}

#[test]
fn what_was_taken_may_be_sent_again() {
    let mut client = Client::new();
    client.says(&request(1));
    let data = frame(kind::DATA, flag::PADDED, 1, &[&[99][..], &[7; 10_000], &[0; 99]].concat());
    for _ in 0..4 {
        client.says(&data);
    }
    assert_eq!(client.hears(), Vec::<String>::new());
    let stream = client.key(1);
    client.connection.took(stream, 30_000);
    assert_eq!(client.hears(), Vec::<String>::new(), "less than half");
    client.connection.took(stream, 10_000);
    assert_eq!(client.hears(), ["1: window 40400"]);
    client.says(&data);
    client.says(&frame(kind::RST_STREAM, 0, 1, &number(8)));
    assert_eq!(client.hears(), ["0: window 50500"], "what nobody took, too");
}

#[test]
fn a_goodbye_has_two_steps() {
    let mut client = Client::new();
    client.says(&request(1));
    client.connection.leave();
    assert_eq!(client.hears(), ["goodbye 2147483647 0", "ping 0"]);
    client.says(&request(3));
    client.says(&frame(kind::PING, flag::ACK, 0, &LAST_PING));
    assert_eq!(client.hears(), ["goodbye 3 0"]);
    client.saw();
    client.says(&[request(5), frame(kind::DATA, 0, 5, b"late")].concat());
    assert_eq!((client.saw(), client.hears()), (vec![], vec![]));
    assert!(!client.connection.has_left());
    client.says(&[1, 3].map(|id| frame(kind::RST_STREAM, 0, id, &number(8))).concat());
    assert!(client.connection.has_left());
}

#[test]
fn a_client_that_leaves_is_let_go_when_its_calls_have_ended() {
    let mut client = Client::new();
    client.says(&[whole_request(1), frame(kind::GOAWAY, 0, 0, &[0; 8])].concat());
    assert_eq!(client.hears(), ["goodbye 1 0"]);
    assert!(!client.connection.has_left());
    let stream = client.key(1);
    client.connection.begin(stream);
    client.connection.end(stream);
    assert_eq!(client.hears().len(), 2);
    assert!(client.connection.has_left());
}

#[test]
fn pings_are_answered() {
    let mut client = Client::new();
    client.says(&frame(kind::PING, 0, 0, b"whatever"));
    client.connection.ping();
    client.says(&frame(kind::PING, flag::ACK, 0, &PING));
    client.says(&frame(kind::PING, flag::ACK, 0, b"whatever"));
    assert_eq!(client.saw(), [Saw::Ping, Saw::Pong]);
    assert_eq!(client.hears(), ["ping 1", "ping 0"]);
}

#[test]
fn heads_may_come_in_pieces() {
    let block = with(&[("x", "y")]);
    for cut in 0..=block.len() {
        let mut client = Client::new();
        let (first, second) = block.split_at(cut);
        client.says(&frame(kind::HEADERS, flag::END_STREAM, 1, first));
        client.says(&frame(kind::CONTINUATION, 0, 1, &[]));
        client.says(&frame(kind::CONTINUATION, flag::END_HEADERS, 1, second));
        let path = "/a".to_owned();
        assert_eq!(client.saw(), [Saw::Request { id: 1, path, is_end: true }]);
        assert_eq!(client.head.get(b"x"), Some(&b"y"[..]));
    }
}

#[test]
fn long_trailers_are_cut() {
    let mut client = Client::new();
    client.says(&whole_request(1));
    let stream = client.key(1);
    client.connection.begin(stream);
    client.hears();
    client.connection.end_with(stream, &[(b"grpc-message", &[b'x'; 40_000])]);
    let mut slices = [std::io::IoSlice::new(&[])];
    client.connection.out().slices(&mut slices);
    let (mut rest, mut found) = (&*slices[0], Vec::new());
    while let Some(frame) = Frame::first(rest) {
        rest = &rest[HEAD_BYTES + frame.payload.len()..];
        found.push((frame.kind, frame.flags, frame.payload.len()));
    }
    assert_eq!(found[0], (kind::HEADERS, flag::END_STREAM, 16_384));
    assert_eq!(found[1], (kind::CONTINUATION, 0, 16_384));
    assert_eq!((found[2].0, found[2].1), (kind::CONTINUATION, flag::END_HEADERS));
}

/// What a client that has one open request and one that was answered says, and how that ends.
#[test]
fn what_is_wrong_ends_the_connection() {
    use kind::*;
    let (p, f, w) = (Reason::Protocol, Reason::FrameSize, Reason::FlowControl);
    let gone = Reason::StreamClosed;
    let both = flag::END_HEADERS | flag::END_STREAM;
    let setting =
        |name: u8, value: u32| frame(SETTINGS, 0, 0, &[&[0, name][..], &number(value)].concat());
    let itself = [&number(7)[..], &[1]].concat();
    for (bytes, reason) in [
        (frame(DATA, 0, 0, b"x"), p),
        (frame(DATA, 0, 5, b"x"), p),
        (frame(DATA, 0, 2, b"x"), p),
        (frame(DATA, flag::PADDED, 1, &[9, 0]), p),
        (frame(DATA, 0, 1, &[0; 16_385]), f),
        (
            [request(5), [1, 5, 1, 5, 1, 5, 1].map(|id| frame(DATA, 0, id, &[0; 16_384])).concat()]
                .concat(),
            w,
        ),
        (frame(HEADERS, both, 0, &with(&[])), p),
        (frame(HEADERS, both, 2, &with(&[])), p),
        (frame(HEADERS, both, 3, &with(&[])), gone),
        (frame(HEADERS, both | flag::PADDED, 5, &[9, 0]), p),
        (frame(HEADERS, both | flag::PRIORITY, 7, &[&itself[..], &with(&[])].concat()), p),
        (frame(HEADERS, both, 5, &[0x80]), Reason::Compression),
        (frame(HEADERS, both, 5, &[0xff; 10]), Reason::Compression),
        (frame(HEADERS, both, 5, &[0x82, 0x20]), Reason::Compression),
        (frame(HEADERS, both, 5, &[0x3f, 0xe2, 0x1f]), Reason::Compression),
        ([frame(HEADERS, 0, 5, &with(&[])), frame(PING, 0, 0, &[0; 8])].concat(), p),
        ([frame(HEADERS, 0, 5, &with(&[])), frame(CONTINUATION, 4, 7, &[])].concat(), p),
        (frame(CONTINUATION, 4, 1, &[]), p),
        ([whole_request(9), whole_request(7)].concat(), p),
        (frame(PRIORITY, 0, 0, &[0; 5]), p),
        (frame(PRIORITY, 0, 7, &itself), p),
        (frame(PRIORITY, 0, 9, &[0; 4]), f),
        (frame(RST_STREAM, 0, 0, &[0; 4]), p),
        (frame(RST_STREAM, 0, 5, &[0; 4]), p),
        (frame(RST_STREAM, 0, 1, &[0; 3]), f),
        (frame(SETTINGS, 0, 1, &[]), p),
        (frame(SETTINGS, 0, 0, &[0; 5]), f),
        (frame(SETTINGS, flag::ACK, 0, &[0; 6]), f),
        (setting(2, 2), p),
        (setting(4, 1 << 31), w),
        (setting(5, 16_383), p),
        (setting(5, 1 << 24), p),
        ([frame(WINDOW_UPDATE, 0, 1, &number(1)), setting(4, (1 << 31) - 1)].concat(), w),
        (frame(PUSH_PROMISE, flag::END_HEADERS, 1, &[0; 4]), p),
        (frame(PING, 0, 1, &[0; 8]), p),
        (frame(PING, 0, 0, &[0; 7]), f),
        (frame(GOAWAY, 0, 1, &[0; 8]), p),
        (frame(GOAWAY, 0, 0, &[0; 7]), f),
        (frame(WINDOW_UPDATE, 0, 0, &[0; 3]), f),
        (frame(WINDOW_UPDATE, 0, 0, &number(0)), p),
        (frame(WINDOW_UPDATE, 0, 0, &number((1 << 31) - 1)), w),
        (frame(WINDOW_UPDATE, 0, 5, &number(1)), p),
        (frame(HEADERS, 0, 5, &[0; 9000]), Reason::EnhanceYourCalm),
    ] {
        let mut client = Client::new();
        client.says(&[request(1), whole_request(3)].concat());
        let stream = client.key(3);
        client.connection.refuse_with(stream, &[]);
        client.saw();
        client.hears();
        // A head that goes on for too long.
        let more = if reason == Reason::EnhanceYourCalm {
            frame(CONTINUATION, 0, 5, &[0; 1000])
        } else {
            Vec::new()
        };
        client.says(&[&bytes[..], &more].concat());
        assert_eq!(client.saw().last(), Some(&Saw::Failure(reason)), "{}", words(&bytes));
        let last = client.hears().pop().unwrap();
        assert!(
            last.starts_with("goodbye") && last.ends_with(&format!(" {}", reason.number())),
            "{last}"
        );
        client.says(&frame(PING, 0, 0, &[0; 8]));
        assert_eq!((client.saw(), client.hears()), (vec![], vec![]), "it is over");
    }
}

/// The same for streams: the connection goes on.
#[test]
fn what_is_wrong_on_a_stream_ends_that() {
    use kind::*;
    let (p, w) = (Reason::Protocol, Reason::FlowControl);
    let both = flag::END_HEADERS | flag::END_STREAM;
    let head = |fields: &[(&str, &str)]| frame(HEADERS, both, 5, &block(fields));
    let more = |fields: &[(&str, &str)]| frame(HEADERS, both, 5, &with(fields));
    let long =
        |bytes: &str| frame(HEADERS, flag::END_HEADERS, 5, &with(&[("content-length", bytes)]));
    for (bytes, id, reason) in [
        (frame(DATA, 0, 3, b"x"), 3, Reason::StreamClosed),
        (request(3), 3, Reason::StreamClosed),
        (frame(DATA, 0, 1, &[0; 16_384]).repeat(4), 1, w),
        (frame(HEADERS, flag::END_HEADERS, 1, &block(&[("x", "y")])), 1, p),
        (frame(HEADERS, both, 1, &block(&[(":path", "/a")])), 1, p),
        (frame(HEADERS, both, 1, &block(&[("X", "y")])), 1, p),
        (frame(WINDOW_UPDATE, 0, 1, &number(0)), 1, p),
        (frame(WINDOW_UPDATE, 0, 1, &number((1 << 31) - 1)), 1, w),
        (frame(PRIORITY, 0, 1, &[0; 4]), 1, Reason::FrameSize),
        (head(&HEAD[1..]), 5, p),
        (head(&[HEAD[0], HEAD[2]]), 5, p),
        (head(&[HEAD[0], HEAD[1]]), 5, p),
        (head(&[HEAD[0], HEAD[1], (":path", "")]), 5, p),
        (head(&[HEAD[0], HEAD[1], ("x", "y"), HEAD[2]]), 5, p),
        (head(&[(":method", "CONNECT"), HEAD[1], HEAD[2], HEAD[3]]), 5, p),
        (more(&[(":path", "/b")]), 5, p),
        (more(&[(":status", "200")]), 5, p),
        (more(&[(":what", "200")]), 5, p),
        (more(&[("X", "y")]), 5, p),
        (more(&[("", "y")]), 5, p),
        (more(&[("x y", "y")]), 5, p),
        (more(&[("x", "a\nb")]), 5, p),
        (more(&[("x", "a\0b")]), 5, p),
        (more(&[("connection", "close")]), 5, p),
        (more(&[("keep-alive", "1")]), 5, p),
        (more(&[("proxy-connection", "1")]), 5, p),
        (more(&[("upgrade", "1")]), 5, p),
        (more(&[("transfer-encoding", "chunked")]), 5, p),
        (more(&[("te", "gzip")]), 5, p),
        (more(&[("content-length", "1")]), 5, p),
        (more(&[("content-length", "x")]), 5, p),
        (more(&[("content-length", "")]), 5, p),
        (more(&[("content-length", "0"), ("content-length", "1")]), 5, p),
        ([long("3"), frame(DATA, 0, 5, b"four")].concat(), 5, p),
        ([long("3"), frame(DATA, flag::END_STREAM, 5, b"12")].concat(), 5, p),
        ([long("3"), frame(HEADERS, both, 5, &[])].concat(), 5, p),
    ] {
        let mut client = Client::new();
        client.says(&[request(1), whole_request(3)].concat());
        client.hears();
        client.says(&bytes);
        let reset = format!("{id}: reset {}", reason.number());
        assert!(client.hears().contains(&reset), "{} {:?}", words(&bytes), client.saw());
        client.saw();
        client.says(&whole_request(11));
        let path = "/a".to_owned();
        assert_eq!(
            client.saw(),
            [Saw::Request { id: 11, path, is_end: true }],
            "{}",
            words(&bytes)
        );
    }
}

#[test]
fn what_is_strange_is_not_wrong() {
    use kind::*;
    let mut client = Client::new();
    client.says(&[request(1), whole_request(3)].concat());
    let stream = client.key(3);
    client.connection.refuse_with(stream, &[]);
    client.hears();
    client.saw();
    let priority = [&number(1)[..], &[1], &with(&[("te", "trailers")])].concat();
    let quiet = [
        frame(PRIORITY, 0, 99, &[0; 5]),
        frame(77, 0xff, 0, b"whatever"),
        frame(77, 0xff, 1, b"whatever"),
        frame(WINDOW_UPDATE, 0, 3, &number(7)),
        frame(RST_STREAM, 0, 3, &number(7)),
        frame(DATA, 0, 1, &[]),
        frame(SETTINGS, flag::ACK, 0, &[]),
    ];
    client.says(&quiet.concat());
    assert_eq!((client.saw(), client.hears()), (vec![], vec![]));
    client.says(&frame(HEADERS, flag::END_HEADERS | flag::PRIORITY, 5, &priority));
    client.says(&frame(SETTINGS, 0, 0, &[0, 99, 1, 2, 3, 4]));
    client.says(&frame(HEADERS, 5, 5, &block(&[("some", "trailers")])));
    let path = "/a".to_owned();
    assert_eq!(
        client.saw(),
        [
            Saw::Request { id: 5, path, is_end: false },
            Saw::Data { id: 5, data: vec![], is_end: true }
        ]
    );
    assert_eq!(client.hears(), ["settings 1"]);
}

#[test]
fn heads_that_are_too_large_are_refused_and_forgotten() {
    let mut client = Client::new();
    let large = with(&[("x", &"y".repeat(2000))]);
    for id in [1, 3] {
        client.says(&frame(kind::HEADERS, 5, id, &large));
        assert_eq!(client.hears(), [format!("{id}: :status=431 end")]);
    }
    // A field that counts for two kibibytes, in a byte each.
    let mut bomb = with(&[]);
    hpack::remembered(b"x", &[b'y'; 1000], &mut bomb);
    client.says(&frame(kind::HEADERS, 5, 5, &bomb));
    assert_eq!(client.saw().len(), 1);
    bomb.truncate(0);
    bomb.extend_from_slice(&[0x80 | 62; 20]);
    client.says(&frame(kind::HEADERS, 5, 7, &bomb));
    assert_eq!(client.saw(), [Saw::Failure(Reason::EnhanceYourCalm)]);
}

#[test]
fn streams_are_bounded() {
    let mut client = Client::new();
    for number in 0..12 {
        client.says(&request(2 * number + 1));
    }
    assert_eq!(client.saw().len(), 10);
    assert_eq!(client.hears(), ["21: reset 7", "23: reset 7"]);
}

/// Whether a client that says something again and again is stopped, and what it made us hold.
fn flood(bytes: impl Fn(u32) -> Vec<u8>, answer: impl Fn(&mut Client, u32)) -> (bool, usize) {
    let mut client = Client::new();
    for turn in 0..100_000 {
        client.says(&bytes(2 * turn + 1));
        answer(&mut client, 2 * turn + 1);
        if client.seen.last() == Some(&Saw::Failure(Reason::EnhanceYourCalm)) {
            return (true, client.connection.out().len());
        }
        client.seen.clear();
    }
    (false, client.connection.out().len())
}

#[test]
fn floods_are_stopped() {
    use kind::*;
    let nothing = |_: &mut Client, _: u32| {};
    let reset = |id| [request(id), frame(RST_STREAM, 0, id, &number(8))].concat();
    // Requests that are taken back at once; and such that we reset, by a window of nothing.
    let made = |id| [whole_request(id), frame(WINDOW_UPDATE, 0, id, &number(0))].concat();
    let first = |id| if id == 1 { request(1) } else { frame(DATA, 0, 1, &[]) };
    for (name, (is_stopped, held)) in [
        ("resets", flood(reset, nothing)),
        ("resets that are made", flood(made, nothing)),
        ("refused streams", flood(request, nothing)),
        ("settings", flood(|_| frame(SETTINGS, 0, 0, &[]), nothing)),
        ("pings", flood(|_| frame(PING, 0, 0, &[0; 8]), nothing)),
        ("priorities", flood(|id| frame(PRIORITY, 0, id, &[0; 5]), nothing)),
        ("nobody knows what", flood(|_| frame(200, 0, 0, &[]), nothing)),
        ("windows", flood(|_| frame(WINDOW_UPDATE, 0, 0, &number(1)), nothing)),
        ("nothing", flood(first, nothing)),
    ] {
        assert!(is_stopped, "{name}");
        assert!(held < OUT_BYTES_MAX * 2, "{name}: {held}");
    }
    // Whoever is answered may go on, and ping.
    let calls = |id| [whole_request(id), frame(PING, 0, 0, &[0; 8])].concat();
    let answer = |client: &mut Client, id| {
        let stream = client.key(id);
        client.connection.begin(stream);
        client.connection.end(stream);
        client.hears();
    };
    assert!(!flood(calls, answer).0);
}

proptest! {
    /// Whatever arrives: cut anywhere, it means the same.
    #[test]
    fn bytes_mean_the_same_wherever_they_are_cut(
        picks in prop::collection::vec((0..14_usize, 0..6_u32, any::<u8>()), 0..30),
        cuts in prop::collection::vec(1..200_usize, 1..20),
    ) {
        use kind::*;
        let mut bytes = Vec::new();
        for (pick, id, byte) in picks {
            let id = 2 * id + 1;
            let frame = match pick {
                0..=2 => request(id),
                3 => whole_request(id),
                4 | 5 => frame(DATA, byte & 1, id, &vec![byte; usize::from(byte)]),
                6 => frame(RST_STREAM, 0, id, &number(8)),
                7 => frame(WINDOW_UPDATE, 0, id & u32::from(byte), &number(u32::from(byte))),
                8 => frame(PING, byte & 1, 0, &[byte; 8]),
                9 => frame(SETTINGS, 0, 0, &[&[0, byte % 7][..], &number(70_000)].concat()),
                10 => frame(HEADERS, byte, id, &with(&[("x", "y")])),
                11 => frame(CONTINUATION, byte, id, &[]),
                12 => frame(byte, byte, id, &[byte; 5]),
                _ => vec![byte],
            };
            bytes.extend(frame);
        }
        let mut whole = Client::new();
        whole.says(&bytes);
        let mut cut = Client::new();
        let (mut rest, mut sizes) = (&*bytes, cuts.iter().cycle());
        while !rest.is_empty() {
            let (part, after) = rest.split_at((*sizes.next().unwrap()).min(rest.len()));
            cut.says(part);
            rest = after;
        }
        prop_assert_eq!(whole.saw(), cut.saw());
        prop_assert_eq!(whole.hears(), cut.hears());
    }
}
