//! Messages and frames as bytes: there and back, cut anywhere, damaged anywhere, and the bytes themselves.
//!
//! `UPDATE=1 cargo test -p cairn-engine peer` writes the bytes down anew; docs/format.md changes with them.

extern crate std;

use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use std::path::Path;

use bytes::Bytes;
use proptest::collection::vec as list;
use proptest::prelude::*;

use super::codec::{Malformed, decode, encode, weight_bytes};
use super::frame::{Frame, Frames, HEADER_BYTES, encode_ping, encode_pong};
use super::hello::{Hello, PREFACE, Purpose, Refusal, VERSIONS, Welcome, is_peer};
use super::*;
use crate::ids::ClusterId;
use crate::raft::message::{Body as RaftBody, Round};
use crate::raft::{Entry, EntryKind};

const FROM: MemberId = MemberId(0x8e9e_05c5_2164_694d);
const TO: MemberId = MemberId(0xcdf8_1819_4e3a_8c32);
const LIMIT: u32 = 1 << 20;

fn message(known: Known, body: Body) -> Message {
    Message { from: FROM, to: TO, known, body }
}

fn place(index: u64, term: u64) -> LogEnd {
    LogEnd { index: Index(index), term: Term(term) }
}

fn entry(index: u64, kind: EntryKind, data: &'static [u8]) -> Entry {
    Entry::new(Index(index), Term(7), kind, Bytes::from_static(data))
}

/// One of each kind, with a name.
fn one_of_each() -> Vec<(&'static str, Message)> {
    let raft = |body| Body::Raft { term: Term(7), body };
    let entries = vec![
        entry(41, EntryKind::Empty, b""),
        entry(42, EntryKind::Command, b"\x01put"),
        entry(43, EntryKind::Membership, b"who"),
    ];
    let proposals = vec![
        Proposal { number: 5, command: Bytes::from_static(b"five") },
        Proposal { number: 6, command: Bytes::new() },
    ];
    let part = SnapshotPart {
        transfer: 3,
        place: place(40, 6),
        offset: 65536,
        bytes: Bytes::from_static(b"state"),
        last: true,
    };
    let unsure = |body| message(Known::Unsure, body);
    vec![
        ("pre-vote", unsure(raft(RaftBody::PreVote { last: place(40, 6) }))),
        (
            "pre-vote reply",
            unsure(raft(RaftBody::PreVoteReply { granted: true, committed: place(38, 6) })),
        ),
        ("vote", unsure(raft(RaftBody::Vote { last: place(40, 6), takeover: true }))),
        ("vote reply", unsure(raft(RaftBody::VoteReply { granted: false }))),
        (
            "append",
            message(
                Known::Settled(Settled {
                    as_of: Index(39),
                    incarnation: Incarnation(0x0123_4567_89ab_cdef),
                    votes: true,
                    acknowledged: Index(38),
                    forgot: Incarnation(5),
                }),
                raft(RaftBody::Append { prev: place(40, 6), commit: Index(39), entries }),
            ),
        ),
        ("append accepted", unsure(raft(RaftBody::AppendAccepted { matched: Index(43) }))),
        (
            "append rejected",
            unsure(raft(RaftBody::AppendRejected { prev: Index(40), hint: place(38, 5) })),
        ),
        (
            "heartbeat",
            message(
                Known::Settled(Settled { as_of: Index(9), ..Settled::default() }),
                raft(RaftBody::Heartbeat { commit: Index(43), round: Round(9) }),
            ),
        ),
        ("heartbeat reply", unsure(raft(RaftBody::HeartbeatReply { round: Round(9) }))),
        ("timeout now", unsure(raft(RaftBody::TimeoutNow))),
        (
            "propose",
            unsure(Body::Propose { term: Term(7), incarnation: Incarnation(2), proposals }),
        ),
        ("refused", unsure(Body::Refused { number: 5, error: Error::RequestTooManyRequests })),
        ("read index", unsure(Body::ReadIndex { token: u64::MAX })),
        (
            "read index answer",
            unsure(Body::ReadIndexAnswer {
                token: u64::MAX,
                index: Index(43),
                time: ClusterTime(86_400_000),
            }),
        ),
        ("digest", unsure(Body::Digest { index: Index(43), digest: 0xfedc_ba98_7654_3210 })),
        ("snapshot part", unsure(Body::SnapshotPart(part))),
        (
            "snapshot received",
            unsure(Body::SnapshotReceived { transfer: 3, offset: 65541, done: true }),
        ),
        ("removed", unsure(Body::Removed)),
        ("forgot", unsure(Body::Forgot { incarnation: Incarnation(2) })),
        ("stateless", unsure(Body::Stateless)),
        ("ask", unsure(Body::Ask { incarnation: Incarnation(2) })),
        ("vouch", unsure(Body::Vouch { incarnation: Incarnation(2), vouch: vouch() })),
    ]
}

fn vouch() -> Vouch {
    let membership = Membership::new([MemberId(1), MemberId(2)]).to([MemberId(1)], [MemberId(2)]);
    Vouch { term: Term(6), last: place(40, 6), membership }
}

fn hello() -> Hello {
    Hello {
        versions: VERSIONS,
        purpose: Purpose::Bulk,
        cluster: ClusterId(0x0123_4567_89ab_cdef),
        from: FROM,
        to: TO,
        incarnation: Incarnation(2),
    }
}

const REFUSALS: [Refusal; 5] = [
    Refusal::Version(1, 3),
    Refusal::Cluster(ClusterId(5)),
    Refusal::Member(TO),
    Refusal::Duplicate,
    Refusal::Crowded,
];

/// Every kind of frame as bytes, with a name.
fn frames() -> Vec<(String, Vec<u8>)> {
    let frame = |name: &str, encode: &dyn Fn(&mut Vec<u8>)| {
        let mut out = Vec::new();
        encode(&mut out);
        (String::from(name), out)
    };
    let mut frames = vec![
        frame("preface, hello", &|out| hello().encode(out)),
        frame("welcome", &|out| welcome().encode(out)),
        frame("ping", &|out| encode_ping(77, out)),
        frame("pong", &|out| encode_pong(77, out)),
    ];
    for refusal in REFUSALS {
        frames.push(frame(&format!("refusal: {refusal:?}"), &|out| refusal.encode(out)));
    }
    for (name, message) in one_of_each() {
        frames.push(frame(name, &|out| encode(&message, out)));
    }
    frames
}

fn welcome() -> Welcome {
    Welcome { version: 1, from: TO, incarnation: Incarnation(3) }
}

/// Reads these bytes in pieces, as a connection would bring them.
fn read(mut frames: Frames, bytes: &[u8], piece: usize) -> Result<Vec<Frame>, Malformed> {
    frames.allow(LIMIT);
    let (mut found, mut rest) = (Vec::new(), bytes);
    loop {
        while let Some(frame) = frames.next()? {
            found.push(frame);
        }
        if rest.is_empty() {
            return Ok(found);
        }
        let place = frames.place();
        let count = place.len().min(piece).min(rest.len());
        place[..count].copy_from_slice(&rest[..count]);
        frames.filled(count);
        rest = &rest[count..];
    }
}

fn read_all(bytes: &[u8]) -> Result<Vec<Frame>, Malformed> {
    let of_acceptor = bytes.starts_with(PREFACE);
    read(
        if of_acceptor { Frames::of_acceptor(&[]) } else { Frames::of_dialer() },
        bytes,
        usize::MAX,
    )
}

fn body_of(message: &Message) -> Bytes {
    let mut out = Vec::new();
    encode(message, &mut out);
    Bytes::from(out.split_off(HEADER_BYTES))
}

#[test]
fn the_bytes_are_those_of_the_golden_file() {
    let mut text = String::new();
    for (name, bytes) in frames() {
        text.push_str(&format!("# {name}\n"));
        for line in bytes.chunks(16) {
            let bytes: Vec<String> = line.iter().map(|byte| format!("{byte:02x}")).collect();
            text.push_str(&bytes.join(" "));
            text.push('\n');
        }
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/peer.txt");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    assert!(std::fs::read_to_string(&path).unwrap() == text, "UPDATE=1 shows what changed");
}

#[test]
fn what_was_encoded_is_decoded_wherever_it_is_cut() {
    let messages = one_of_each();
    let mut bytes = Vec::new();
    hello().encode(&mut bytes);
    welcome().encode(&mut bytes);
    REFUSALS.iter().for_each(|refusal| refusal.encode(&mut bytes));
    encode_ping(7, &mut bytes);
    encode_pong(8, &mut bytes);
    messages.iter().for_each(|(_, message)| encode(message, &mut bytes));
    for (first, piece) in [(0, 1), (3, 2), (8, 3), (11, 17), (200, 1000), (0, usize::MAX)] {
        let (first, rest) = bytes.split_at(first);
        let mut found = read(Frames::of_acceptor(first), rest, piece).unwrap().into_iter();
        assert_eq!(found.next(), Some(Frame::Hello(hello())));
        assert_eq!(found.next(), Some(Frame::Welcome(welcome())));
        for refusal in REFUSALS {
            assert_eq!(found.next(), Some(Frame::Refusal(refusal)));
        }
        assert_eq!(found.next(), Some(Frame::Ping(7)));
        assert_eq!(found.next(), Some(Frame::Pong(8)));
        for (name, message) in &messages {
            let Some(Frame::Message(body)) = found.next() else { panic!("{name} is a message") };
            assert_eq!(decode(body, FROM, TO).as_ref(), Ok(message), "{name}");
        }
        assert_eq!(found.next(), None);
    }
}

#[test]
fn a_frame_that_ends_too_early_is_waited_for() {
    for (name, bytes) in frames() {
        for end in 0..bytes.len() {
            assert_eq!(read_all(&bytes[..end]), Ok(Vec::new()), "{name}, cut at {end}");
        }
    }
}

#[test]
fn a_message_that_ends_too_early_or_too_late_is_refused() {
    for (name, message) in one_of_each() {
        // These end with what is left, so that they can end anywhere; their frame's length counts.
        let open_end =
            if let Body::SnapshotPart(part) = &message.body { part.bytes.len() } else { 0 };
        let body = body_of(&message);
        for end in 0..body.len() - open_end {
            assert!(decode(body.slice(..end), FROM, TO).is_err(), "{name}, cut at {end}");
        }
        let longer = Bytes::from([&body[..], &[0]].concat());
        assert_eq!(decode(longer, FROM, TO).is_ok(), open_end > 0, "{name}");
    }
}

#[test]
fn every_flipped_bit_of_every_frame_is_noticed_at_once() {
    for (name, bytes) in frames() {
        for bit in 0..bytes.len() * 8 {
            let mut bytes = bytes.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            // A flip in the preface makes it a frame without one: not that of a dialer.
            let outcome = if name.starts_with("preface") {
                read(Frames::of_acceptor(&[]), &bytes, usize::MAX)
            } else {
                read(Frames::of_dialer(), &bytes, usize::MAX)
            };
            assert!(outcome.is_err(), "{name}, bit {bit}");
        }
    }
}

#[test]
fn a_length_beyond_the_limit_is_refused_before_the_body_comes() {
    let mut bytes = Vec::new();
    let part = |len| SnapshotPart {
        transfer: 1,
        place: place(1, 1),
        offset: 0,
        bytes: Bytes::from(vec![0; len]),
        last: false,
    };
    encode(&message(Known::Unsure, Body::SnapshotPart(part(300))), &mut bytes);
    let mut greeting = Frames::of_dialer();
    greeting.place()[..HEADER_BYTES].copy_from_slice(&bytes[..HEADER_BYTES]);
    greeting.filled(HEADER_BYTES);
    assert!(matches!(greeting.next(), Err(Malformed::TooLong { max: 256, .. })));
}

#[test]
fn a_list_that_claims_more_than_there_can_be_takes_no_memory() {
    let mut body = vec![0, 5];
    [7u64, 40, 6, 39].iter().for_each(|number| body.extend_from_slice(&number.to_le_bytes()));
    body.extend_from_slice(&u32::MAX.to_le_bytes());
    body.extend_from_slice(&[0; 100]);
    assert_eq!(decode(Bytes::from(body), FROM, TO), Err(Malformed::Truncated));
}

#[test]
fn an_entry_that_is_not_what_its_leader_made_is_refused() {
    let mut entry = entry(1, EntryKind::Command, b"data");
    entry.crc ^= 1;
    let append =
        RaftBody::Append { prev: LogEnd::default(), commit: Index(0), entries: vec![entry] };
    let body = body_of(&message(Known::Unsure, Body::Raft { term: Term(1), body: append }));
    assert_eq!(decode(body, FROM, TO), Err(Malformed::EntryChecksum(Index(1))));
}

#[test]
fn nothing_counts_to_two_to_the_sixty_three() {
    for number in [1 << 63, u64::MAX] {
        let body = RaftBody::AppendAccepted { matched: Index(number) };
        let body = body_of(&message(Known::Unsure, Body::Raft { term: Term(1), body }));
        assert_eq!(decode(body, FROM, TO), Err(Malformed::Number(number)));
    }
    // Nor do the entries behind a place.
    let last = i64::MAX.unsigned_abs();
    let entries = vec![entry(last + 1, EntryKind::Empty, b"")];
    let append = RaftBody::Append { prev: place(last, 1), commit: Index(0), entries };
    let body = body_of(&message(Known::Unsure, Body::Raft { term: Term(1), body: append }));
    assert_eq!(decode(body, FROM, TO), Err(Malformed::Number(last + 1)));
}

#[test]
fn entries_keep_their_own_message_alive_and_nothing_else() {
    // Two frames in one piece: the entry's memory lies apart from what came with it.
    let (mut bytes, data) = (Vec::new(), vec![9; 1000]);
    encode_ping(1, &mut bytes);
    let entry = Entry::new(Index(1), Term(1), EntryKind::Command, Bytes::from(data.clone()));
    let append =
        RaftBody::Append { prev: LogEnd::default(), commit: Index(0), entries: vec![entry] };
    encode(&message(Known::Unsure, Body::Raft { term: Term(1), body: append }), &mut bytes);
    encode_ping(2, &mut bytes);
    let found = read_all(&bytes).unwrap();
    let Frame::Message(body) = found[1].clone() else { panic!("a message") };
    assert_eq!(body.len(), bytes.len() - 3 * HEADER_BYTES - 16);
    drop(found);
    let decoded = decode(body, FROM, TO).unwrap();
    let Body::Raft { body: RaftBody::Append { entries, .. }, .. } = decoded.body else {
        panic!("an append")
    };
    assert_eq!(entries[0].data, data);
    assert!(entries[0].data.is_unique());
}

#[test]
fn the_first_bytes_tell_who_speaks() {
    assert_eq!(is_peer(b""), None);
    assert_eq!(is_peer(b"CAIRN"), None);
    assert_eq!(is_peer(b"CAIRNMEM"), Some(true));
    assert_eq!(is_peer(b"CAIRNMEM\x01"), Some(true));
    assert_eq!(is_peer(b"CONNECT x"), Some(false));
    assert_eq!(is_peer(b"G"), Some(false));
    assert_eq!(is_peer(b"PRI * HTTP/2.0"), Some(false));
    assert_eq!(is_peer(&[22, 3, 1]), Some(false));
}

#[test]
fn a_greeting_is_answered_by_the_first_thing_that_is_wrong() {
    let cluster = hello().cluster;
    let answer = |hello: Hello| hello.answer(cluster, TO, Incarnation(3));
    assert_eq!(answer(hello()), Ok(welcome()));
    let (min, max) = VERSIONS;
    let none = Err(Refusal::Version(min, max));
    assert_eq!(answer(Hello { versions: (max + 1, max + 2), ..hello() }), none);
    assert_eq!(answer(Hello { versions: (0, min - 1), ..hello() }), none);
    assert_eq!(answer(Hello { versions: (max, max + 2), ..hello() }), Ok(welcome()));
    let other = Hello { cluster: ClusterId(1), to: MemberId(1), ..hello() };
    assert_eq!(answer(other), Err(Refusal::Cluster(cluster)));
    for (from, to) in [(FROM, MemberId(1)), (TO, TO), (MemberId::NONE, TO)] {
        assert_eq!(answer(Hello { from, to, ..hello() }), Err(Refusal::Member(TO)));
    }
}

fn count() -> impl Strategy<Value = u64> {
    prop_oneof![0..100u64, 0..i64::MAX.unsigned_abs()]
}

fn places() -> impl Strategy<Value = LogEnd> {
    (0..i64::MAX.unsigned_abs() / 2, count()).prop_map(|(index, term)| place(index, term))
}

fn data() -> impl Strategy<Value = Bytes> {
    list(any::<u8>(), 0..100).prop_map(Bytes::from)
}

fn entries_after(prev: LogEnd) -> impl Strategy<Value = Vec<Entry>> {
    let kind = (0..=2u8).prop_map(|byte| EntryKind::from_byte(byte).unwrap());
    list((count(), kind, data()), 0..5).prop_map(move |entries| {
        let places = prev.index.0 + 1..;
        let entries = places.zip(entries);
        entries
            .map(|(index, (term, kind, data))| Entry::new(Index(index), Term(term), kind, data))
            .collect()
    })
}

fn raft_bodies() -> impl Strategy<Value = RaftBody> {
    let append = (places(), count()).prop_flat_map(|(prev, commit)| {
        let commit = Index(commit);
        entries_after(prev).prop_map(move |entries| RaftBody::Append { prev, commit, entries })
    });
    prop_oneof![
        places().prop_map(|last| RaftBody::PreVote { last }),
        (any::<bool>(), places())
            .prop_map(|(granted, committed)| RaftBody::PreVoteReply { granted, committed }),
        (places(), any::<bool>()).prop_map(|(last, takeover)| RaftBody::Vote { last, takeover }),
        any::<bool>().prop_map(|granted| RaftBody::VoteReply { granted }),
        append,
        count().prop_map(|matched| RaftBody::AppendAccepted { matched: Index(matched) }),
        (count(), places())
            .prop_map(|(prev, hint)| RaftBody::AppendRejected { prev: Index(prev), hint }),
        (count(), count()).prop_map(|(commit, round)| RaftBody::Heartbeat {
            commit: Index(commit),
            round: Round(round)
        }),
        count().prop_map(|round| RaftBody::HeartbeatReply { round: Round(round) }),
        Just(RaftBody::TimeoutNow),
    ]
}

fn bodies() -> impl Strategy<Value = Body> {
    let proposal = (count(), data()).prop_map(|(number, command)| Proposal { number, command });
    let propose = (count(), any::<u64>(), list(proposal, 0..5));
    let part = (any::<u64>(), places(), count(), data(), any::<bool>());
    let error = prop::sample::select(&Error::ALL[..]);
    prop_oneof![
        5 => (count(), raft_bodies()).prop_map(|(term, body)| Body::Raft { term: Term(term), body }),
        1 => propose.prop_map(|(term, incarnation, proposals)| Body::Propose {
            term: Term(term),
            incarnation: Incarnation(incarnation),
            proposals
        }),
        1 => (count(), error).prop_map(|(number, error)| Body::Refused { number, error }),
        1 => any::<u64>().prop_map(|token| Body::ReadIndex { token }),
        1 => (any::<u64>(), count(), count()).prop_map(|(token, index, time)| {
            Body::ReadIndexAnswer { token, index: Index(index), time: ClusterTime(time) }
        }),
        1 => (count(), any::<u64>())
            .prop_map(|(index, digest)| Body::Digest { index: Index(index), digest }),
        1 => part.prop_map(|(transfer, place, offset, bytes, last)| {
            Body::SnapshotPart(SnapshotPart { transfer, place, offset, bytes, last })
        }),
        1 => (any::<u64>(), count(), any::<bool>())
            .prop_map(|(transfer, offset, done)| Body::SnapshotReceived { transfer, offset, done }),
        1 => Just(Body::Removed),
        1 => Just(Body::Stateless),
        1 => any::<u64>().prop_map(|number| Body::Forgot { incarnation: Incarnation(number) }),
        1 => any::<u64>().prop_map(|number| Body::Ask { incarnation: Incarnation(number) }),
        1 => (any::<u64>(), count(), places()).prop_map(|(number, term, last)| Body::Vouch {
            incarnation: Incarnation(number),
            vouch: Vouch { term: Term(term), last, ..vouch() },
        }),
    ]
}

fn messages() -> impl Strategy<Value = Message> {
    let known = prop_oneof![
        Just(Known::Unsure),
        (any::<u64>(), count(), count(), any::<bool>(), any::<u64>()).prop_map(
            |(incarnation, acknowledged, as_of, votes, forgot)| Known::Settled(Settled {
                as_of: Index(as_of),
                incarnation: Incarnation(incarnation),
                votes,
                acknowledged: Index(acknowledged),
                forgot: Incarnation(forgot),
            })
        ),
    ];
    (known, bodies()).prop_map(|(known, body)| message(known, body))
}

#[test]
fn whatever_is_refused_weighs_what_it_takes() {
    for error in Error::ALL {
        let known = Known::Settled(Settled::default());
        let refused = message(known, Body::Refused { number: 7, error });
        assert!(body_of(&refused).len() + HEADER_BYTES <= weight_bytes(&refused), "{error:?}");
    }
}

proptest! {
    #[test]
    fn any_message_comes_back(message in messages()) {
        let body = body_of(&message);
        prop_assert!(body.len() + HEADER_BYTES <= weight_bytes(&message));
        prop_assert_eq!(decode(body, FROM, TO), Ok(message));
    }

    #[test]
    fn any_bytes_are_a_message_or_refused(bytes in list(any::<u8>(), 0..200), tag in 0..48u8) {
        let mut bytes = bytes;
        if let [known, kind, ..] = &mut bytes[..] {
            (*known, *kind) = (0, tag);
        }
        if let Ok(message) = decode(Bytes::from(bytes.clone()), FROM, TO) {
            prop_assert_eq!(&body_of(&message)[..], &bytes[..]);
        }
    }

    #[test]
    fn any_frames_arrive_however_they_are_cut(messages in list(messages(), 0..5), piece in 1..500usize) {
        let mut bytes = Vec::new();
        messages.iter().for_each(|message| encode(message, &mut bytes));
        let found = read(Frames::of_dialer(), &bytes, piece).unwrap();
        let found: Vec<_> = found
            .into_iter()
            .map(|frame| {
                let Frame::Message(body) = frame else { panic!("{frame:?} is no message") };
                decode(body, FROM, TO).unwrap()
            })
            .collect();
        prop_assert_eq!(found, messages);
    }
}
