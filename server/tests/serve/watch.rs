//! Watches: many on one stream, from the past into the future.

use bytes::Bytes;
use cairn_engine::api::etcdserverpb::watch_create_request::FilterType;
use cairn_engine::api::etcdserverpb::watch_request::RequestUnion;
use cairn_engine::api::etcdserverpb::{
    CompactionRequest, DeleteRangeRequest, WatchCancelRequest, WatchCreateRequest,
    WatchProgressRequest, WatchRequest, WatchResponse,
};
use cairn_engine::api::mvccpb::Event;
use cairn_engine::api::mvccpb::event::EventType;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tonic::Streaming;
use tonic::codegen::tokio_stream::wrappers::UnboundedReceiverStream;

use crate::ask::{delete, put, txn};
use crate::client::etcdserverpb::watch_client::WatchClient;
use crate::harness::{Member, on_both_runtimes};

on_both_runtimes! {
    a_watch_follows_a_key,
    a_watch_replays_the_past_and_goes_on,
    a_watch_follows_a_prefix_and_knows_what_was_before,
    a_revision_is_one_response,
    filters_leave_out_what_nobody_wants,
    many_watches_share_a_stream,
    a_canceled_watch_is_silent,
    a_watch_in_the_future_waits,
    a_compacted_watch_is_canceled,
    what_cannot_be_watched_is_canceled_with_the_reason,
    progress_is_told_when_asked_for,
    progress_is_told_when_idle,
    a_large_response_comes_in_fragments,
    a_half_closed_stream_goes_on,
    a_watch_survives_its_neighbours,
}

/// One watch stream.
struct Stream {
    requests: UnboundedSender<WatchRequest>,
    responses: Streaming<WatchResponse>,
}

impl Stream {
    async fn open(member: &Member) -> Self {
        let (requests, outgoing) = unbounded_channel();
        let mut client = WatchClient::new(member.channel()).max_decoding_message_size(usize::MAX);
        let responses = client.watch(UnboundedReceiverStream::new(outgoing)).await.unwrap();
        Self { requests, responses: responses.into_inner() }
    }

    fn ask(&self, union: RequestUnion) {
        self.requests.send(WatchRequest { request_union: Some(union) }).unwrap();
    }

    /// Asks for a watch and waits until it exists.
    async fn create(&mut self, request: WatchCreateRequest) -> i64 {
        self.ask(RequestUnion::CreateRequest(request));
        let created = self.next().await;
        assert!(created.created && !created.canceled && created.events.is_empty(), "{created:?}");
        created.watch_id
    }

    async fn next(&mut self) -> WatchResponse {
        self.responses.message().await.unwrap().expect("the stream goes on")
    }

    /// Asks for a sign of life: what comes before it was all there was to say.
    async fn progress(&mut self) -> WatchResponse {
        self.ask(RequestUnion::ProgressRequest(WatchProgressRequest {}));
        self.next().await
    }
}

fn watch(key: &'static str, end: &'static str) -> WatchCreateRequest {
    WatchCreateRequest {
        key: Bytes::from_static(key.as_bytes()),
        range_end: Bytes::from_static(end.as_bytes()),
        ..WatchCreateRequest::default()
    }
}

/// An event in short: `a=1@2` or `-a@3`.
fn short(event: &Event) -> String {
    let kv = event.kv.as_ref().unwrap();
    let (key, value) = (String::from_utf8_lossy(&kv.key), String::from_utf8_lossy(&kv.value));
    match event.r#type() {
        EventType::Put => format!("{key}={value}@{}", kv.mod_revision),
        EventType::Delete => format!("-{key}@{}", kv.mod_revision),
    }
}

fn events(response: &WatchResponse) -> Vec<String> {
    response.events.iter().map(short).collect()
}

async fn a_watch_follows_a_key(member: &mut Member) {
    let mut kv = member.kv();
    let mut stream = Stream::open(member).await;
    assert_eq!(stream.create(watch("a", "")).await, 0, "the first id is zero");
    kv.put(put("a", "1")).await.unwrap();
    kv.put(put("b", "1")).await.unwrap();
    kv.delete_range(delete("a", "")).await.unwrap();
    for (expected, revision) in [("a=1@2", 2), ("-a@4", 4)] {
        let response = stream.next().await;
        assert_eq!(events(&response), [expected]);
        assert_eq!((response.watch_id, response.header.unwrap().revision), (0, revision));
        assert_eq!(response.events[0].prev_kv, None, "nobody asked for it");
    }
}

async fn a_watch_replays_the_past_and_goes_on(member: &mut Member) {
    let mut kv = member.kv();
    for number in 0..2500 {
        kv.put(put("a", number.to_string())).await.unwrap();
    }
    let mut stream = Stream::open(member).await;
    stream.create(WatchCreateRequest { start_revision: 3, ..watch("a", "") }).await;
    kv.put(put("a", "live")).await.unwrap();
    let mut revision = 3;
    while revision <= 2502 {
        for event in stream.next().await.events {
            assert_eq!(event.kv.unwrap().mod_revision, revision, "each once, in order");
            revision += 1;
        }
    }
}

async fn a_watch_follows_a_prefix_and_knows_what_was_before(member: &mut Member) {
    let mut kv = member.kv();
    kv.put(put("dir/a", "old")).await.unwrap();
    let mut stream = Stream::open(member).await;
    stream.create(WatchCreateRequest { prev_kv: true, ..watch("dir/", "dir0") }).await;
    kv.put(put("dir0", "outside")).await.unwrap();
    kv.put(put("dir/a", "new")).await.unwrap();
    kv.put(put("dir/b", "first")).await.unwrap();
    kv.delete_range(delete("dir/a", "")).await.unwrap();
    for (expected, before) in
        [("dir/a=new@4", Some("old")), ("dir/b=first@5", None), ("-dir/a@6", Some("new"))]
    {
        let response = stream.next().await;
        assert_eq!(events(&response), [expected]);
        let value = response.events[0].prev_kv.as_ref().map(|kv| &*kv.value);
        assert_eq!(value, before.map(str::as_bytes));
    }
}

async fn a_revision_is_one_response(member: &mut Member) {
    use cairn_engine::api::etcdserverpb::request_op::Request;
    let mut stream = Stream::open(member).await;
    stream.create(watch("\0", "\0")).await;
    let puts = ["b", "a", "c"].map(|key| Request::RequestPut(put(key, "1"))).to_vec();
    member.kv().txn(txn(vec![], puts, vec![])).await.unwrap();
    let response = stream.next().await;
    assert_eq!(events(&response), ["b=1@2", "a=1@2", "c=1@2"], "in the order of the changes");
}

async fn filters_leave_out_what_nobody_wants(member: &mut Member) {
    let mut kv = member.kv();
    let mut stream = Stream::open(member).await;
    let filtered =
        |filter: FilterType| WatchCreateRequest { filters: vec![filter.into()], ..watch("a", "") };
    let no_puts = stream.create(filtered(FilterType::Noput)).await;
    let no_deletes = stream.create(filtered(FilterType::Nodelete)).await;
    kv.put(put("a", "1")).await.unwrap();
    kv.delete_range(delete("a", "")).await.unwrap();
    let first = stream.next().await;
    assert_eq!((first.watch_id, events(&first)), (no_deletes, vec!["a=1@2".to_owned()]));
    let second = stream.next().await;
    assert_eq!((second.watch_id, events(&second)), (no_puts, vec!["-a@3".to_owned()]));
    assert_eq!(stream.progress().await.watch_id, -1, "there was nothing else");
}

async fn many_watches_share_a_stream(member: &mut Member) {
    let mut stream = Stream::open(member).await;
    let chosen = WatchCreateRequest { watch_id: 1, ..watch("a", "") };
    assert_eq!(stream.create(chosen).await, 1, "the client may choose");
    assert_eq!(stream.create(watch("a", "b")).await, 0);
    assert_eq!(stream.create(watch("\0", "\0")).await, 2, "the server passes over what is taken");
    member.kv().put(put("a", "1")).await.unwrap();
    let mut ids = Vec::new();
    for _ in 0..3 {
        let response = stream.next().await;
        assert_eq!(events(&response), ["a=1@2"]);
        ids.push(response.watch_id);
    }
    ids.sort_unstable();
    assert_eq!(ids, [0, 1, 2]);
}

async fn a_canceled_watch_is_silent(member: &mut Member) {
    let mut kv = member.kv();
    let mut stream = Stream::open(member).await;
    let gone = stream.create(watch("a", "")).await;
    let stays = stream.create(watch("a", "")).await;
    // Nobody answers for a watch that does not exist.
    stream.ask(RequestUnion::CancelRequest(WatchCancelRequest { watch_id: 99 }));
    stream.ask(RequestUnion::CancelRequest(WatchCancelRequest { watch_id: gone }));
    let canceled = stream.next().await;
    assert!(canceled.canceled && !canceled.created, "{canceled:?}");
    assert_eq!((canceled.watch_id, &*canceled.cancel_reason), (gone, ""));
    kv.put(put("a", "1")).await.unwrap();
    assert_eq!(stream.next().await.watch_id, stays);
    assert_eq!(stream.progress().await.watch_id, -1, "there was nothing else");
}

async fn a_watch_in_the_future_waits(member: &mut Member) {
    let mut kv = member.kv();
    let mut stream = Stream::open(member).await;
    stream.create(WatchCreateRequest { start_revision: 4, ..watch("a", "") }).await;
    for value in ["1", "2", "3"] {
        kv.put(put("a", value)).await.unwrap();
    }
    assert_eq!(events(&stream.next().await), ["a=3@4"]);
}

async fn a_compacted_watch_is_canceled(member: &mut Member) {
    let mut kv = member.kv();
    for value in ["1", "2", "3", "4"] {
        kv.put(put("a", value)).await.unwrap();
    }
    kv.compact(CompactionRequest { revision: 4, physical: false }).await.unwrap();
    let mut stream = Stream::open(member).await;
    let id = stream.create(WatchCreateRequest { start_revision: 3, ..watch("a", "") }).await;
    let canceled = stream.next().await;
    assert!(canceled.canceled);
    assert_eq!((canceled.watch_id, canceled.compact_revision), (id, 4));
    assert_eq!((&*canceled.cancel_reason, canceled.header.unwrap().revision), ("", 0));
    // The compact revision itself can still be watched.
    stream.create(WatchCreateRequest { start_revision: 4, ..watch("a", "") }).await;
    assert_eq!(events(&stream.next().await), ["a=3@4", "a=4@5"]);
}

async fn what_cannot_be_watched_is_canceled_with_the_reason(member: &mut Member) {
    let mut stream = Stream::open(member).await;
    stream.create(WatchCreateRequest { watch_id: 5, ..watch("a", "") }).await;
    for (request, reason) in [
        (
            WatchCreateRequest { watch_id: 5, ..watch("a", "") },
            "mvcc: duplicate watch ID provided on the WatchStream",
        ),
        (watch("b", "a"), "mvcc: watcher range is empty"),
        (
            WatchCreateRequest { start_revision: -1, ..watch("a", "") },
            "etcdserver: mvcc: required revision has been compacted",
        ),
    ] {
        stream.ask(RequestUnion::CreateRequest(request));
        let refused = stream.next().await;
        assert!(refused.created && refused.canceled, "{refused:?}");
        assert_eq!((refused.watch_id, &*refused.cancel_reason), (-1, reason));
    }
    // A request that asks nothing is passed over; the stream is none the worse.
    stream.requests.send(WatchRequest { request_union: None }).unwrap();
    member.kv().put(put("a", "1")).await.unwrap();
    assert_eq!(events(&stream.next().await), ["a=1@2"]);
}

async fn progress_is_told_when_asked_for(member: &mut Member) {
    let mut kv = member.kv();
    let mut stream = Stream::open(member).await;
    // Without a watch there is nothing to be told; so the first answer is the created watch's.
    stream.ask(RequestUnion::ProgressRequest(WatchProgressRequest {}));
    stream.create(watch("a", "")).await;
    for value in 0..100 {
        kv.put(put("a", value.to_string())).await.unwrap();
    }
    stream.ask(RequestUnion::ProgressRequest(WatchProgressRequest {}));
    let mut revision = 1;
    loop {
        let response = stream.next().await;
        if response.events.is_empty() {
            assert_eq!(response.watch_id, -1);
            let told = response.header.unwrap().revision;
            assert!((revision..=101).contains(&told), "{told} overtakes {revision}");
            // It may come before the last events, but never claim them.
            assert_eq!(told, revision, "nothing up to there is still to come");
            break;
        }
        revision = response.events.last().unwrap().kv.as_ref().unwrap().mod_revision;
    }
}

async fn progress_is_told_when_idle(member: &mut Member) {
    member.restart(&["--watch-progress-notify-interval=100ms"]).await;
    let mut stream = Stream::open(member).await;
    let told = stream.create(WatchCreateRequest { progress_notify: true, ..watch("a", "") }).await;
    stream.create(watch("a", "")).await;
    for _ in 0..3 {
        let progress = stream.next().await;
        assert_eq!((progress.watch_id, events(&progress)), (told, vec![]));
        assert!(!progress.created && !progress.canceled);
        assert_eq!(progress.header.unwrap().revision, 1);
    }
}

async fn a_large_response_comes_in_fragments(member: &mut Member) {
    // Responses are cut at what a request may have, and half a mebibyte.
    member.restart(&["--max-request-bytes=65536"]).await;
    let mut kv = member.kv();
    for number in 0..40 {
        kv.put(put(format!("a{number:02}"), vec![b'x'; 60_000])).await.unwrap();
    }
    let mut stream = Stream::open(member).await;
    let request = |fragment| WatchCreateRequest { prev_kv: true, fragment, ..watch("a", "b") };
    let whole = stream.create(request(false)).await;
    let cut = stream.create(request(true)).await;
    kv.delete_range(DeleteRangeRequest { prev_kv: false, ..delete("a", "b") }).await.unwrap();
    let (mut fragments, mut keys, mut wholes) = (0, Vec::new(), 0);
    while wholes == 0 || keys.len() < 40 {
        let response = stream.next().await;
        if response.watch_id == whole {
            assert_eq!((response.events.len(), response.fragment), (40, false));
            wholes += 1;
            continue;
        }
        assert_eq!(response.watch_id, cut);
        assert!(response.events.len() < 20, "well below the limit");
        keys.extend(response.events.iter().map(|event| event.kv.clone().unwrap().key));
        assert_eq!(response.fragment, keys.len() < 40, "all but the last say that more follows");
        fragments += 1;
    }
    assert!(fragments >= 4 && keys.is_sorted());
}

async fn a_half_closed_stream_goes_on(member: &mut Member) {
    let mut stream = Stream::open(member).await;
    stream.create(watch("a", "")).await;
    let Stream { requests, mut responses } = stream;
    drop(requests);
    let mut kv = member.kv();
    for value in ["1", "2"] {
        kv.put(put("a", value)).await.unwrap();
        let response = responses.message().await.unwrap().expect("the stream goes on");
        assert!(events(&response)[0].starts_with(&format!("a={value}")));
    }
}

async fn a_watch_survives_its_neighbours(member: &mut Member) {
    let mut stream = Stream::open(member).await;
    stream.create(watch("a", "")).await;
    for _ in 0..50 {
        let mut neighbour = Stream::open(member).await;
        neighbour.create(watch("a", "")).await;
    }
    member.kv().put(put("a", "1")).await.unwrap();
    assert_eq!(events(&stream.next().await), ["a=1@2"]);
}
