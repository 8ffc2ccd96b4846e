//! Watches: one revision to all who want it, and those who fell behind.

use bytes::Bytes;
use cairn_benches::{apply, key, put};
use cairn_engine::api::etcdserverpb::watch_request::RequestUnion;
use cairn_engine::api::etcdserverpb::{WatchCreateRequest, WatchRequest};
use cairn_engine::command::Command;
use cairn_engine::config::Limits;
use cairn_engine::state_machine::{Changes, StateMachine};
use cairn_engine::watch::Hub;
use cairn_engine::{ConnectionId, StreamId, Time};
use criterion::{BatchSize, BenchmarkId, Criterion};

/// As an apiserver opens them: many watches on a few streams.
const WATCHES_PER_STREAM: u32 = 1000;

/// A hub and the key space that it watches.
struct World {
    hub: Hub,
    state: StateMachine,
}

impl World {
    fn new(watches: u32, watch: impl Fn(u32) -> WatchCreateRequest) -> Self {
        let mut state = StateMachine::default();
        apply(&mut state, Command::Put(put(0)));
        let mut hub = Hub::new(Limits::default(), 1, state.store.revision());
        for number in 0..watches {
            let stream = StreamId(u64::from(number / WATCHES_PER_STREAM) + 1);
            if number % WATCHES_PER_STREAM == 0 {
                hub.open(stream, ConnectionId(stream.0));
            }
            let union = Some(RequestUnion::CreateRequest(watch(number)));
            hub.request(Time::ZERO, stream, WatchRequest { request_union: union }, |_| Ok(()));
        }
        let mut world = Self { hub, state };
        world.drain();
        world
    }

    fn change(&mut self, number: u32) -> Vec<Changes> {
        apply(&mut self.state, Command::Put(put(number))).changes
    }

    /// Takes all responses, as clients that read; how many there were.
    fn drain(&mut self) -> usize {
        let mut responses = 0;
        while let Some((stream, response)) = self.hub.poll() {
            self.hub.credit(stream, response.encoded_len());
            responses += 1;
        }
        responses
    }
}

fn single(number: u32) -> WatchCreateRequest {
    WatchCreateRequest { key: key(number), ..WatchCreateRequest::default() }
}

fn prefix(_: u32) -> WatchCreateRequest {
    WatchCreateRequest {
        key: Bytes::from_static(b"/registry/pods/"),
        range_end: Bytes::from_static(b"/registry/pods0"),
        ..WatchCreateRequest::default()
    }
}

fn publish(
    criterion: &mut Criterion,
    name: &str,
    watch: fn(u32) -> WatchCreateRequest,
    responses: impl Fn(u32) -> u32,
) {
    let mut group = criterion.benchmark_group(name);
    for watches in [1, 1000, 10_000] {
        let mut world = World::new(watches, watch);
        let expected = usize::try_from(responses(watches)).expect("64 bits");
        group.bench_function(BenchmarkId::from_parameter(watches), |bencher| {
            bencher.iter(|| {
                let changes = world.change(0);
                world.hub.publish(Time::ZERO, &world.state.store, &changes);
                assert_eq!(world.drain(), expected);
            });
        });
    }
    group.finish();
}

/// Watchers of the past: each reads a thousand revisions of history.
fn catch_up(criterion: &mut Criterion) {
    let mut state = StateMachine::default();
    for number in 0..1000 {
        apply(&mut state, Command::Put(put(number)));
    }
    criterion.bench_function("watch catch up 10 watchers over 1000 revisions", |bencher| {
        bencher.iter_batched(
            || {
                let past = |number| WatchCreateRequest { start_revision: 2, ..prefix(number) };
                let mut world = World::new(0, past);
                world.state = state.clone();
                world.hub = Hub::new(Limits::default(), 1, world.state.store.revision());
                for number in 0..10 {
                    let stream = StreamId(u64::from(number) + 1);
                    world.hub.open(stream, ConnectionId(stream.0));
                    let union = Some(RequestUnion::CreateRequest(past(number)));
                    world.hub.request(
                        Time::ZERO,
                        stream,
                        WatchRequest { request_union: union },
                        |_| Ok(()),
                    );
                }
                world
            },
            |mut world| {
                let mut responses = world.drain();
                while world.hub.deadline().is_some_and(|due| due <= Time::ZERO) {
                    world.hub.wake(Time::ZERO, &world.state.store);
                    responses += world.drain();
                }
                assert!(responses >= 20, "each was created, and told of the past");
            },
            BatchSize::LargeInput,
        );
    });
}

fn main() {
    let mut criterion = cairn_benches::criterion();
    publish(&mut criterion, "watch publish to one of so many single keys", single, |_| 1);
    publish(&mut criterion, "watch publish to so many on one prefix", prefix, |all| all);
    catch_up(&mut criterion);
    criterion.final_summary();
}
