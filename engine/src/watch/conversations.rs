//! The rules of watching, one by one, as conversations.
//!
//! Each line of a conversation is a command and what the streams then say. A client reads at once, unless it is
//! told to `stall`.
//!
//! ```text
//! watch KEY [END] [from=REVISION] [id=ID] [prev] [noput] [nodelete] [fragment] [notify]
//! cancel ID │ progress │ nonsense                          on stream 1, or the one that ` on=2` names
//! put KEY VALUE │ delete KEY [END] │ … , …                 one request; after a comma, more of it
//! compact REVISION │ … ; …                                 after a semicolon, another in the same publication
//! install …                                                as before, but nobody says what has changed
//! again                                                    the last changes are published once more
//! stall │ read │ pass SECONDS │ open STREAM │ close STREAM
//! ```
//!
//! ```text
//! 0 created @5                      watcher 0, revision 5 in the header
//! 0 @7 7:a=x<w 7:-b<v               at revision 7 `a` became `x`, which was `w`; `b` was deleted, which was `v`
//! 2/0 @7 7:a=x…                     on stream 2; more of the same follows
//! ```

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;

use bytes::Bytes;

use super::{Event, Hub, Response};
use crate::api::KeyRange;
use crate::api::etcdserverpb::watch_request::RequestUnion;
use crate::api::etcdserverpb::{
    WatchCancelRequest, WatchCreateRequest, WatchProgressRequest, WatchRequest,
};
use crate::config::Limits;
use crate::ids::{ConnectionId, LeaseId, StreamId};
use crate::mvcc::{Change, Record, Store};
use crate::state_machine::Changes;
use crate::time::Time;

struct World {
    hub: Hub,
    store: Store,
    now: Time,
    stalled: bool,
    last: Vec<Changes>,
    /// What was polled and has not left.
    under_way: Vec<(StreamId, usize)>,
}

fn small_limits() -> Limits {
    Limits { watch_credit_bytes: 1200, watch_fragment_bytes: 300, ..Limits::default() }
}

impl World {
    fn new(limits: Limits) -> Self {
        let store = Store::default();
        let mut hub = Hub::new(limits, 1, store.revision());
        hub.open(StreamId(1), ConnectionId(1));
        Self {
            hub,
            store,
            now: Time::ZERO,
            stalled: false,
            last: Vec::new(),
            under_way: Vec::new(),
        }
    }

    /// Carries out a command; returns what the streams say.
    fn run(&mut self, command: &str) -> String {
        let (command, stream) = match command.split_once(" on=") {
            Some((command, stream)) => (command, stream.parse().unwrap()),
            None => (command, 1),
        };
        let stream = StreamId(stream);
        let (verb, rest) = command.split_once(' ').unwrap_or((command, ""));
        match verb {
            "watch" => self.request(stream, Some(RequestUnion::CreateRequest(create(rest)))),
            "cancel" => {
                let watch_id = rest.parse().unwrap();
                let cancel = WatchCancelRequest { watch_id };
                self.request(stream, Some(RequestUnion::CancelRequest(cancel)));
            }
            "progress" => {
                let progress = WatchProgressRequest {};
                self.request(stream, Some(RequestUnion::ProgressRequest(progress)));
            }
            "nonsense" => self.request(stream, None),
            "stall" => self.stalled = true,
            "read" => self.stalled = false,
            "pass" => self.now = self.now + Duration::from_secs(rest.parse().unwrap()),
            "open" => self.hub.open(StreamId(rest.parse().unwrap()), ConnectionId(1)),
            "close" => self.hub.close(StreamId(rest.parse().unwrap())),
            "install" => {
                self.apply(rest);
                self.hub.publish(self.now, &self.store, &[]);
            }
            _ => {
                if verb != "again" {
                    self.last = self.apply(command);
                }
                self.hub.publish(self.now, &self.store, &self.last);
            }
        }
        self.hear()
    }

    fn request(&mut self, stream: StreamId, request_union: Option<RequestUnion>) {
        self.hub.request(self.now, stream, WatchRequest { request_union }, |_| Ok(()));
    }

    fn apply(&mut self, commands: &str) -> Vec<Changes> {
        let one = |command: &str| apply_to(&mut self.store, command);
        commands
            .split("; ")
            .map(one)
            .filter(|changes| !changes.is_empty())
            .map(Changes::from)
            .collect()
    }

    /// What the streams say until they wait for something.
    fn hear(&mut self) -> String {
        let mut heard = Vec::new();
        loop {
            while let Some((stream, response)) = self.hub.poll() {
                self.under_way.push((stream, response.encoded_len()));
                heard.push(show(stream, &response));
            }
            self.hub.check();
            if !self.stalled {
                for (stream, bytes) in self.under_way.drain(..) {
                    self.hub.credit(stream, bytes);
                }
            }
            if self.hub.deadline().is_none_or(|time| time > self.now) {
                return heard.join("; ");
            }
            self.hub.wake(self.now, &self.store);
        }
    }
}

fn apply_to(store: &mut Store, command: &str) -> Vec<Change> {
    if let Some(revision) = command.strip_prefix("compact ") {
        store.compact(revision.parse().unwrap()).unwrap();
        while store.sweeping().is_some() {
            store.sweep(10);
        }
        return Vec::new();
    }
    let mut write = store.begin();
    for operation in command.split(", ") {
        let words: Vec<&str> = operation.split(' ').collect();
        match words[..] {
            ["put", key, value] => {
                drop(write.put(key.as_bytes(), value.as_bytes(), LeaseId::NONE));
            }
            ["delete", key] => drop(write.delete_range(&KeyRange::single(bytes(key)))),
            ["delete", key, end] => {
                drop(write.delete_range(&KeyRange::new(bytes(key), bytes(end))));
            }
            _ => panic!("no such command: {command}"),
        }
    }
    write.finish()
}

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn create(words: &str) -> WatchCreateRequest {
    let mut words = words.split(' ');
    let mut request =
        WatchCreateRequest { key: bytes(words.next().unwrap()), ..WatchCreateRequest::default() };
    for word in words {
        match word.split_once('=').unwrap_or((word, "")) {
            ("from", revision) => request.start_revision = revision.parse().unwrap(),
            ("id", id) => request.watch_id = id.parse().unwrap(),
            ("prev", _) => request.prev_kv = true,
            ("noput", _) => request.filters.push(0),
            ("nodelete", _) => request.filters.push(1),
            ("fragment", _) => request.fragment = true,
            ("notify", _) => request.progress_notify = true,
            ("ALL", _) => request.range_end = Bytes::from_static(&[0]),
            (end, _) => request.range_end = bytes(end),
        }
    }
    request
}

fn show(stream: StreamId, response: &Response) -> String {
    let text = |record: &Record| String::from_utf8(record.value().to_vec()).unwrap();
    let event = |event: &Event| {
        let (main, key) = (event.record.revision().main, event.record.key().escape_ascii());
        let prev = event.prev.as_ref().map(|prev| format!("<{}", text(prev))).unwrap_or_default();
        if event.record.is_tombstone() {
            format!(" {main}:-{key}{prev}")
        } else {
            format!(" {main}:{key}={}{prev}", text(&event.record))
        }
    };
    let flags = [(response.created, " created"), (response.canceled, " canceled")];
    [
        if stream.0 == 1 { String::new() } else { format!("{}/", stream.0) },
        response.watch_id.to_string(),
        flags.into_iter().filter(|(set, _)| *set).map(|(_, name)| name).collect(),
        format!(" @{}", response.revision),
        if response.compact_revision == 0 {
            String::new()
        } else {
            format!(" compacted={}", response.compact_revision)
        },
        if response.cancel_reason.is_empty() {
            String::new()
        } else {
            format!(" {}", response.cancel_reason)
        },
        response.events.iter().map(event).collect(),
        if response.fragment { "…".to_owned() } else { String::new() },
    ]
    .concat()
}

/// Checks a conversation with small limits.
fn check(conversation: &[(&str, &str)]) {
    let mut world = World::new(small_limits());
    for (number, (command, expected)) in conversation.iter().enumerate() {
        assert_eq!(world.run(command), *expected, "line {number}: {command}");
    }
}

#[test]
fn ids_are_counted_from_zero_on_each_stream_and_skip_those_taken() {
    check(&[
        ("watch a", "0 created @1"),
        ("watch a id=2", "2 created @1"),
        ("watch a id=-7", "-7 created @1"),
        ("watch a", "1 created @1"),
        ("watch a", "3 created @1"),
        ("cancel 0", "0 canceled @1"),
        // Not the free one: its last owner's answers may be under way.
        ("watch a", "4 created @1"),
        (
            "watch a id=2",
            "-1 created canceled @1 mvcc: duplicate watch ID provided on the WatchStream",
        ),
        ("cancel 2", "2 canceled @1"),
        ("watch a id=2", "2 created @1"),
        ("open 2", ""),
        ("watch a on=2", "2/0 created @1"),
        ("watch a id=2 on=2", "2/2 created @1"),
    ]);
}

#[test]
fn what_cannot_be_watched_is_created_and_canceled_and_leaves_the_stream_alone() {
    check(&[
        ("put x 1", ""),
        ("watch b a", "-1 created canceled @2 mvcc: watcher range is empty"),
        ("watch b b", "-1 created canceled @2 mvcc: watcher range is empty"),
        (
            "watch b a from=-1",
            "-1 created canceled @2 etcdserver: mvcc: required revision has been compacted",
        ),
        ("watch a", "0 created @2"),
        ("put a 1", "0 @3 3:a=1"),
    ]);
}

#[test]
fn single_keys_intervals_prefixes_and_everything_can_be_watched() {
    check(&[
        ("watch b", "0 created @1"),
        ("watch b d", "1 created @1"),
        ("watch b ALL", "2 created @1"),
        // No key stands for the smallest.
        ("watch  ALL", "3 created @1"),
        ("put a 1", "3 @2 2:a=1"),
        ("put b 1", "0 @3 3:b=1; 3 @3 3:b=1; 1 @3 3:b=1; 2 @3 3:b=1"),
        ("put c 1", "3 @4 4:c=1; 1 @4 4:c=1; 2 @4 4:c=1"),
        ("put d 1", "3 @5 5:d=1; 2 @5 5:d=1"),
        ("put bb 1", "3 @6 6:bb=1; 1 @6 6:bb=1; 2 @6 6:bb=1"),
    ]);
}

#[test]
fn a_start_names_the_first_revision_past_present_or_future() {
    check(&[
        ("put a 1", ""),
        ("put a 2", ""),
        ("put b 3", ""),
        ("put a 4", ""),
        ("watch a", "0 created @5"),
        ("watch a from=2", "1 created @5; 1 @5 2:a=1 3:a=2 5:a=4"),
        ("watch a from=3", "2 created @5; 2 @5 3:a=2 5:a=4"),
        ("watch a from=5", "3 created @5; 3 @5 5:a=4"),
        ("watch a from=6", "4 created @5"),
        ("watch a from=7", "5 created @5"),
        ("watch c from=1", "6 created @5"),
        ("put a 6", "4 @6 6:a=6; 3 @6 6:a=6; 2 @6 6:a=6; 1 @6 6:a=6; 0 @6 6:a=6"),
        ("cancel 1", "1 canceled @6"),
        ("cancel 2", "2 canceled @6"),
        ("cancel 3", "3 canceled @6"),
        ("cancel 4", "4 canceled @6"),
        ("put a 7", "5 @7 7:a=7; 0 @7 7:a=7"),
    ]);
}

#[test]
fn a_start_below_the_compact_revision_is_created_and_then_canceled() {
    check(&[
        ("put a 1; put a 2; put a 3; put a 4", ""),
        ("compact 4", ""),
        ("watch a from=3", "0 created @5; 0 canceled @0 compacted=4"),
        ("watch a from=4", "1 created @5; 1 @5 4:a=3 5:a=4"),
        ("watch a", "2 created @5"),
        // Whoever ended is not known any more.
        ("cancel 0", ""),
        ("compact 5", ""),
        ("put a 5", "2 @6 6:a=5; 1 @6 6:a=5"),
    ]);
}

#[test]
fn the_tombstone_at_the_compact_revision_is_still_owed() {
    check(&[
        ("put a 1", ""),
        ("delete a", ""),
        ("compact 3", ""),
        ("watch a from=3", "0 created @3; 0 @3 3:-a"),
    ]);
}

#[test]
fn each_revision_is_one_response_while_live() {
    check(&[
        ("watch a c", "0 created @1"),
        (
            "put a 1; put b 2, delete a, put z 1; delete a; put b 4",
            "0 @2 2:a=1; 0 @3 3:b=2 3:-a; 0 @4 4:b=4",
        ),
        ("put z 1", ""),
        ("put a 1, delete a", "0 @6 6:a=1 6:-a"),
        ("put c 1, put a 2, put b 2", "0 @7 7:a=2 7:b=2"),
    ]);
}

#[test]
fn watchers_of_a_transaction_each_get_their_share_in_order() {
    check(&[
        ("watch a", "0 created @1"),
        ("watch c", "1 created @1"),
        ("watch a z", "2 created @1"),
        ("put c 1, put a 2, put b 3", "0 @2 2:a=2; 1 @2 2:c=1; 2 @2 2:c=1 2:a=2 2:b=3"),
        ("delete a z", "0 @3 3:-a; 1 @3 3:-c; 2 @3 3:-a 3:-b 3:-c"),
    ]);
}

#[test]
fn the_previous_value_is_that_before_the_request_and_a_new_key_has_none() {
    check(&[
        ("watch a z prev", "0 created @1"),
        ("put a 1", "0 @2 2:a=1"),
        ("put a 2", "0 @3 3:a=2<1"),
        ("put a 3, put b 3", "0 @4 4:a=3<2 4:b=3"),
        ("delete a", "0 @5 5:-a<3"),
        ("put a 5, delete a", "0 @6 6:a=5 6:-a"),
        ("put b 4, delete b", "0 @7 7:b=4<3 7:-b<3"),
        ("put b 5", "0 @8 8:b=5"),
        ("delete b, put b 6", "0 @9 9:-b<5 9:b=6"),
        // History says the same.
        (
            "watch a z prev from=2",
            "1 created @9; 1 @9 2:a=1 3:a=2<1 4:a=3<2 4:b=3 5:-a<3 6:a=5 6:-a 7:b=4<3 7:-b<3; \
             1 @9 8:b=5 9:-b<5 9:b=6",
        ),
    ]);
}

#[test]
fn the_previous_value_is_missing_where_it_was_compacted() {
    check(&[
        ("put a 1; put a 2; put a 3", ""),
        ("compact 3", ""),
        ("watch a from=3 prev", "0 created @4; 0 @4 3:a=2 4:a=3<2"),
        // But what is published is complete, whatever is compacted at the same time.
        ("put a 4; put a 5; compact 6", "0 @5 5:a=4<3; 0 @6 6:a=5<4"),
    ]);
}

#[test]
fn filters_leave_out_events_and_responses_without_any() {
    check(&[
        ("watch a c noput", "0 created @1"),
        ("watch a c nodelete", "1 created @1"),
        ("watch a c noput nodelete", "2 created @1"),
        ("put a 1", "1 @2 2:a=1"),
        ("put b 1, delete a", "0 @3 3:-a; 1 @3 3:b=1"),
        ("watch a c noput from=1", "3 created @3; 3 @3 3:-a"),
        ("watch a c noput nodelete from=1", "4 created @3"),
    ]);
}

#[test]
fn large_responses_are_cut_for_those_who_want_it() {
    let (x, y) = (&"x".repeat(150), &"y".repeat(350));
    let three = &format!("put a {x}, put b {x}, put c 1, put d {y}, put e 1");
    let events = &format!("2:a={x} 2:b={x} 2:c=1 2:d={y} 2:e=1");
    check(&[
        ("watch a z", "0 created @1"),
        (three, &format!("0 @2 {events}")),
        (
            "watch a z from=2 fragment",
            &format!("1 created @2; 1 @2 2:a={x}…; 1 @2 2:b={x} 2:c=1…; 1 @2 2:d={y}…; 1 @2 2:e=1"),
        ),
        // One event cannot be cut.
        (&format!("put a {y}"), &format!("1 @3 3:a={y}; 0 @3 3:a={y}")),
        ("put a 1", "1 @4 4:a=1; 0 @4 4:a=1"),
    ]);
}

#[test]
fn a_canceled_watcher_hears_nothing_more_and_unknown_requests_are_ignored() {
    check(&[
        ("watch a", "0 created @1"),
        ("watch a", "1 created @1"),
        ("cancel 5", ""),
        ("nonsense", ""),
        ("put a 1", "1 @2 2:a=1; 0 @2 2:a=1"),
        ("cancel 0", "0 canceled @2"),
        ("cancel 0", ""),
        ("put a 2", "1 @3 3:a=2"),
        ("close 1", ""),
        ("put a 2", ""),
        ("watch a", ""),
    ]);
}

#[test]
fn progress_is_told_on_request_if_everybody_has_everything() {
    check(&[
        ("progress", ""),
        ("watch a", "0 created @1"),
        ("progress", "-1 @1"),
        ("put z 1", ""),
        ("progress", "-1 @2"),
        ("put a 1", "0 @3 3:a=1"),
        ("progress", "-1 @3"),
        // Even the very next revision is in the future.
        ("watch b from=4", "1 created @3"),
        ("progress", ""),
        ("put z 1", ""),
        ("progress", "-1 @4"),
        ("watch c from=9", "2 created @4"),
        ("progress", ""),
        ("open 2", ""),
        ("progress on=2", ""),
        ("watch a on=2", "2/0 created @4"),
        ("progress on=2", "2/-1 @4"),
        ("cancel 2", "2 canceled @4"),
        ("progress", "-1 @4"),
    ]);
}

#[test]
fn progress_does_not_overtake_events_of_a_stream_that_is_not_read() {
    let x = &"x".repeat(1200);
    check(&[
        ("watch a", "0 created @1"),
        ("watch b", "1 created @1"),
        ("stall", ""),
        (&format!("put a {x}"), &format!("0 @2 2:a={x}")),
        // All is queued: the notification goes in behind it.
        ("progress", "-1 @2"),
        ("put b 1", ""),
        ("progress", ""),
        ("put b 2", ""),
        ("read", "1 @4 3:b=1 4:b=2"),
        ("progress", "-1 @4"),
    ]);
}

#[test]
fn idle_watchers_are_told_the_revision_now_and_then() {
    check(&[
        ("watch a notify", "0 created @1"),
        ("watch b", "1 created @1"),
        ("put z 1", ""),
        ("pass 599", ""),
        ("pass 61", "0 @2"),
        ("pass 660", "0 @2"),
        ("put a 1", "0 @3 3:a=1"),
        // An event is as good as a notification.
        ("pass 660", ""),
        ("pass 660", "0 @3"),
        ("watch c notify from=5", "2 created @3"),
        ("pass 660", "0 @3"),
        ("put z 1; put z 1", ""),
        ("pass 660", "0 @5; 2 @5"),
        ("cancel 0", "0 canceled @5"),
        ("cancel 2", "2 canceled @5"),
        ("pass 660", ""),
    ]);
}

#[test]
fn who_does_not_read_is_not_told_unasked() {
    let x = &"x".repeat(1200);
    check(&[
        ("watch a", "0 created @1"),
        ("watch b notify", "1 created @1"),
        ("stall", ""),
        (&format!("put a {x}"), &format!("0 @2 2:a={x}")),
        ("pass 660", ""),
        ("pass 660", ""),
        ("read", ""),
        ("pass 660", "1 @2"),
    ]);
}

#[test]
fn a_full_stream_falls_behind_and_catches_up_when_it_is_read() {
    let (x, y) = (&"x".repeat(600), &"y".repeat(600));
    check(&[
        ("open 2", ""),
        ("watch a prev", "0 created @1"),
        ("watch b c", "1 created @1"),
        ("watch c noput", "2 created @1"),
        ("stall", ""),
        (&format!("put a {x}; put a {y}"), &format!("0 @2 2:a={x}; 0 @3 3:a={y}<{x}")),
        ("put a 3", ""),
        ("put b 4, put a 4", ""),
        // Control replies go their way all the same.
        ("watch d", "3 created @5"),
        ("cancel 3", "3 canceled @5"),
        ("watch a on=2", "2/0 created @5"),
        ("delete a; put c 1", "2/0 @6 6:-a"),
        ("read", &format!("0 @7 4:a=3<{y}; 1 @7 5:b=4; 0 @7 5:a=4<3 6:-a<4")),
        ("put a 5; put b 5", "0 @8 8:a=5; 2/0 @8 8:a=5; 1 @9 9:b=5"),
    ]);
}

#[test]
fn who_is_overtaken_by_a_compaction_is_canceled() {
    let x = &"x".repeat(1200);
    check(&[
        ("watch a", "0 created @1"),
        ("watch b", "1 created @1"),
        ("watch c", "2 created @1"),
        ("stall", ""),
        (&format!("put a {x}"), &format!("0 @2 2:a={x}")),
        ("put a 1; put b 1; put a 2; put b 2", ""),
        ("compact 4", ""),
        // Nobody reads: nobody is told.
        ("put c 1", ""),
        ("read", "0 canceled @0 compacted=4; 1 @7 4:b=1 6:b=2; 2 @7 7:c=1"),
        ("put a 3", ""),
    ]);
}

#[test]
fn changes_that_were_not_told_are_read_from_history() {
    check(&[
        ("watch a prev", "0 created @1"),
        ("watch b from=5", "1 created @1"),
        ("watch c from=9", "2 created @1"),
        ("put a 1", "0 @2 2:a=1"),
        ("install put a 2; put b 2; put b 3; delete a", "0 @6 3:a=2<1 6:-a<2; 1 @6 5:b=3"),
        ("put a 3; put c 1", "0 @7 7:a=3"),
        (
            "install put a 4; put a 5; compact 10",
            "0 canceled @0 compacted=10; 1 canceled @0 compacted=10; 2 canceled @0 compacted=10",
        ),
    ]);
}

#[test]
fn changes_that_were_told_are_not_told_again() {
    check(&[
        ("watch a", "0 created @1"),
        ("put a 1; put a 2", "0 @2 2:a=1; 0 @3 3:a=2"),
        ("again", ""),
        ("progress", "-1 @3"),
        ("put a 3", "0 @4 4:a=3"),
    ]);
}

#[test]
fn nothing_is_sent_on_a_closed_stream() {
    let mut world = World::new(small_limits());
    world.run("open 2");
    for stream in [1, 2] {
        world.request(
            StreamId(stream),
            Some(RequestUnion::CreateRequest(create("a from=1 notify"))),
        );
    }
    world.hub.close(StreamId(1));
    world.hub.close(StreamId(1));
    assert_eq!(world.run("put a 1"), "2/0 created @1; 2/0 @2 2:a=1");
    assert_eq!(world.run("close 2"), "");
    assert_eq!(world.hub.watcher_count(), 0);
    assert_eq!(world.hub.deadline(), None);
}

#[test]
fn catching_up_leaves_room_for_live_events() {
    let limits = Limits { watch_credit_bytes: 20_000, ..Limits::default() };
    let mut world = World::new(limits);
    let value = "x".repeat(500);
    for _ in 0..100 {
        world.run(&format!("put a {value}"));
    }
    world.run("stall");
    world.run("watch b");
    let heard = world.run("watch a from=2");
    let responses = heard.matches(" @101 ").count();
    assert!((3..=5).contains(&responses), "half of the credit in eighths: {responses}");
    assert_eq!(world.run("put b 1"), "0 @102 102:b=1", "who is live stays it");
    let rest = world.run("read");
    assert_eq!(heard.matches(":a=").count() + rest.matches(":a=").count(), 100);
}

/// Checks, for watchers of a long history, after how many slices each has everything. Each is created after a
/// number of slices, with a start; ten slices would read all of history.
fn check_turns(watchers: &[(usize, i64)], expected: &[usize]) {
    let mut world = World::new(Limits { watch_credit_bytes: 1 << 30, ..Limits::default() });
    for number in 0..10_000 {
        let key = if number % 2 == 0 { "a" } else { "b" };
        drop(apply_to(&mut world.store, &format!("put {key} 1")));
    }
    world.hub.publish(world.now, &world.store, &[]);
    let (mut finished, mut slices) = (vec![0; watchers.len()], 0);
    loop {
        for (_, start) in watchers.iter().filter(|(after, _)| *after == slices) {
            let request = RequestUnion::CreateRequest(create(&format!("a from={start}")));
            world.request(StreamId(1), Some(request));
        }
        if world.hub.deadline().is_none() {
            break;
        }
        world.hub.wake(world.now, &world.store);
        slices += 1;
        while let Some((_, response)) = world.hub.poll() {
            let last = response.events.last().map(|event| event.record.revision().main);
            if last == Some(10_000) {
                finished[usize::try_from(response.watch_id).unwrap()] = slices;
            }
        }
        world.hub.check();
    }
    assert_eq!(finished, expected);
}

#[test]
fn who_is_far_behind_does_not_hold_up_who_is_near() {
    // Three windows take turns until the last of them is read.
    check_turns(
        &[(0, 2), (0, 2), (0, 900), (0, 2500), (0, 2600), (0, 9990), (0, 9999)],
        &[19, 19, 19, 17, 17, 3, 3],
    );
}

#[test]
fn newcomers_wait_for_those_who_are_there() {
    check_turns(&[(0, 2), (0, 9500), (1, 2), (2, 2)], &[20, 2, 21, 21]);
}
