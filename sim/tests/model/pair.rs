//! The state machine and the model side by side.

use bytes::Bytes;
use cairn_engine::api::etcdserverpb::{
    RangeRequest, RangeResponse, RangeStreamResponse, ResponseHeader, TxnRequest,
};
use cairn_engine::api::mvccpb::KeyValue;
use cairn_engine::api::mvccpb::event::EventType;
use cairn_engine::api::response::RangeAnswer;
use cairn_engine::api::{self, Error, KeyRange, Response};
use cairn_engine::command::Command;
use cairn_engine::lease::ClusterTime;
use cairn_engine::mvcc::{RangeResult, Record, Revision, View, txn};
use cairn_engine::range_stream::RangeStream;
use cairn_engine::state_machine::{Applied, Outcome, StateMachine};
use cairn_sim::model::{self, Answer, Event, Keys, Model};
use prost::Message;

/// Small, so that the budget of a transaction is used up now and then.
pub(crate) const TXN_OPS_MAX: usize = 10;

/// The two of them, after the same commands.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pair {
    pub(crate) state: StateMachine,
    pub(crate) model: Model,
}

impl Pair {
    /// Applies a command to both, unless nobody may propose it; whether that was so.
    pub(crate) fn apply(&mut self, time_ms: u64, command: Command) -> bool {
        let refused = check(&command);
        assert_eq!(refused, model::check::command(&command, TXN_OPS_MAX), "{command:?}");
        if refused.is_err() {
            return false;
        }
        // What is applied came out of the log.
        let encoded = command.encode(ClusterTime(time_ms));
        let (stamp, decoded) = Command::decode(encoded).expect("it was just encoded");
        assert_eq!((stamp, &decoded), (ClusterTime(time_ms).into(), &command));

        let first_new = self.model.events().len();
        let Applied { outcome, changes } = self.state.apply(ClusterTime(time_ms), decoded);
        let (expected, events) = self.model.apply(time_ms, &command);
        let revision = self.state.store.revision();
        assert_eq!(outcome.map(|outcome| answer(outcome, revision)), expected);

        let mut found = Vec::new();
        for changes in &changes {
            let main =
                changes.first().expect("no revision without a change").record.revision().main;
            for (sub, change) in (0..).zip(changes.iter()) {
                assert_eq!(change.record.revision(), Revision { main, sub });
                let all = self.model.events();
                let before = all[..first_new + found.len()].iter();
                let before = before.rev().find(|event| event.kv.key == change.record.key());
                let before = before.filter(|event| event.kind == EventType::Put);
                let before = before.map(|event| event.kv.clone());
                assert_eq!(change.before.as_ref().map(Record::to_key_value), before);
                found.push(Seen::of_record(&change.record));
            }
        }
        assert_eq!(found, events.iter().map(Seen::of_event).collect::<Vec<_>>());
        self.check();
        true
    }

    /// Compares what can be compared at little cost.
    pub(crate) fn check(&self) {
        let Self { state, model } = self;
        assert_eq!(state.store.revision(), model.revision());
        assert_eq!(state.store.compacted(), model.compacted());
        let deadlines = state.lessor.by_deadline().map(|lease| lease.deadline);
        assert!(deadlines.is_sorted());
        assert_eq!(state.lessor.len(), model.leases().len());
        for (id, expected) in model.leases() {
            let id = cairn_engine::LeaseId(*id);
            let lease = state.lessor.get(id).expect("the model has it, too");
            assert_eq!((lease.ttl, lease.deadline.0), (expected.ttl, expected.deadline_ms));
            let keys: Vec<Bytes> = state.lessor.keys_of(id).cloned().collect();
            assert_eq!(keys, model.keys_of(id.0));
        }
    }

    /// Compares everything that anybody could ever ask; costs time.
    pub(crate) fn check_all(&self) {
        self.check();
        self.state.check();
        check_view(&self.state.store, &self.model);
    }
}

/// What the door checks before a command is proposed.
fn check(command: &Command) -> Result<(), Error> {
    match command {
        Command::Put(request) => api::check::check_put(request),
        Command::DeleteRange(request) => api::check::check_delete_range(request),
        Command::Txn(request) => api::check::check_txn(request, TXN_OPS_MAX),
        Command::Compact(request) => api::check::check_compaction(request),
        Command::LeaseGrant(request) => api::check::check_lease_grant(request),
        Command::LeaseRevoke(_)
        | Command::LeaseRenew(_)
        | Command::LeaseExpire(_)
        | Command::Alarm(_)
        | Command::Members(_)
        | Command::Auth(_)
        | Command::Authenticate(_)
        | Command::Tick => Ok(()),
    }
}

/// An outcome as the model tells it, with the header that the replica would fill in.
fn answer(outcome: Outcome, revision: i64) -> Answer {
    let mut response = match outcome {
        Outcome::Response(response) => response,
        Outcome::Renewed(renewed) => {
            return Answer::Renewed(renewed.into_iter().map(|(id, ttl)| (id.0, ttl)).collect());
        }
        Outcome::Nothing => return Answer::Nothing,
    };
    if let Some(header) = response.header_mut()
        && header.revision == 0
    {
        header.revision = revision;
    }
    let mut encoded = Vec::new();
    response.encode(&mut encoded);
    assert_eq!(encoded.len(), response.encoded_len());
    match response {
        Response::Put(response) => Answer::Put(response),
        Response::DeleteRange(response) => Answer::DeleteRange(response),
        Response::Txn(response) => Answer::Txn(response),
        Response::Compact(response) => Answer::Compact(response),
        Response::LeaseGrant(response) => Answer::LeaseGrant(response),
        Response::LeaseRevoke(response) => Answer::LeaseRevoke(response),
        Response::Alarm(response) => Answer::Alarm(response),
        Response::Range(_)
        | Response::RangeStream(_)
        | Response::LeaseKeepAlive(_)
        | Response::LeaseTimeToLive(_)
        | Response::LeaseLeases(_)
        | Response::MemberList(_)
        | Response::MemberAdd(_)
        | Response::MemberRemove(_)
        | Response::MemberUpdate(_)
        | Response::MemberPromote(_)
        | Response::MoveLeader(_)
        | Response::Status(_)
        | Response::Defragment(_)
        | Response::Hash(_)
        | Response::HashKv(_)
        | Response::Snapshot(_)
        | Response::Downgrade(_)
        | Response::Auth(_) => panic!("no command is answered with this"),
    }
}

/// What both say about one change.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    revision: Revision,
    kind: EventType,
    kv: KeyValue,
}

impl Seen {
    fn of_record(record: &Record) -> Self {
        let kind = if record.is_tombstone() { EventType::Delete } else { EventType::Put };
        let kv = KeyValue::decode(record.message()).expect("a message");
        assert_eq!(kv, record.to_key_value());
        Self { revision: record.revision(), kind, kv }
    }

    fn of_event(event: &Event) -> Self {
        let revision = Revision { main: event.revision, sub: event.sub };
        Self { revision, kind: event.kind, kv: event.kv.clone() }
    }
}

/// Compares the answers to a range, whole and in parts.
pub(crate) fn check_range(view: &View, model: &Model, request: &RangeRequest) {
    let refused = api::check::check_range(request);
    assert_eq!(refused, model::check::range(request));
    if refused.is_ok() {
        assert_eq!(range(view, request), model.range(request), "{request:?}");
    }
    let refused = api::check::check_range_stream(request);
    assert_eq!(refused, model::check::range_stream(request));
    if refused.is_ok() {
        // Parts come in the order of the keys, whatever the target is.
        let in_order = RangeRequest { sort_target: 0, ..request.clone() };
        for part_bytes_goal in [1, 100, 1 << 20] {
            let parts = range_in_parts(view, request, part_bytes_goal);
            assert_eq!(parts, model.range(&in_order), "{request:?}");
        }
    }
}

fn range(view: &View, request: &RangeRequest) -> Result<RangeResponse, Error> {
    view.range(request).map(|result| response_of(view, result))
}

fn response_of(view: &View, result: RangeResult) -> RangeResponse {
    let header = ResponseHeader { revision: view.revision(), ..ResponseHeader::default() };
    let response = RangeResponse { header: Some(header), ..result.to_response() };
    // Answers go out without becoming a message.
    let answer = Response::Range(RangeAnswer { header, result });
    let mut encoded = Vec::new();
    answer.encode(&mut encoded);
    assert_eq!(encoded.len(), answer.encoded_len());
    assert_eq!(encoded, response.encode_to_vec());
    response
}

fn range_in_parts(
    view: &View,
    request: &RangeRequest,
    part_bytes_goal: usize,
) -> Result<RangeResponse, Error> {
    RangeStream::new(view.clone(), request, part_bytes_goal).map(merge)
}

/// The answer that the parts add up to.
fn merge(mut stream: RangeStream) -> RangeResponse {
    let mut parts = Vec::new();
    while let Some(part) = stream.next_part() {
        let part = RangeStreamResponse::decode(&*part).expect("a message");
        parts.push(part.range_response.expect("a part"));
    }
    let mut whole = parts.pop().expect("a last part");
    assert!(parts.first().is_none_or(|first| first.kvs.len() <= 10));
    let mut kvs = Vec::new();
    for part in parts {
        assert!(!part.kvs.is_empty());
        kvs.extend(part.kvs.iter().cloned());
        // The last part alone tells of the whole.
        assert_eq!(part, RangeResponse { kvs: part.kvs.clone(), ..RangeResponse::default() });
    }
    kvs.append(&mut whole.kvs);
    RangeResponse { kvs, ..whole }
}

/// Compares the answers to a transaction that only reads.
pub(crate) fn check_read(view: &View, model: &Model, request: &TxnRequest) {
    let command = Command::Txn(request.clone());
    let refused = check(&command);
    assert_eq!(refused, model::check::command(&command, TXN_OPS_MAX));
    if refused.is_ok() {
        assert_eq!(txn::read(view, request), model.read(request), "{request:?}");
    }
}

/// Compares everything that anybody could ask a view.
pub(crate) fn check_view(view: &View, model: &Model) {
    assert_eq!((view.revision(), view.compacted()), (model.revision(), model.compacted()));
    let all = Keys::all();
    for revision in model.compacted() - 1..=model.revision() + 1 {
        let everything = RangeRequest {
            key: all.key.clone(),
            range_end: all.range_end.clone(),
            revision,
            ..RangeRequest::default()
        };
        assert_eq!(range(view, &everything), model.range(&everything), "at {revision}");
    }
    // Watches from the compact revision on.
    let from = model.compacted().max(1);
    let history: Vec<Record> = view.history_from(Revision::first_of(from)).collect();
    let events = model.events_from(from, &all).expect("not compacted");
    assert_eq!(
        history.iter().map(Seen::of_record).collect::<Vec<_>>(),
        events.iter().map(Seen::of_event).collect::<Vec<_>>()
    );
    for (record, event) in history.iter().zip(&events) {
        if event.kv.version != 1 {
            let before = view.before(record);
            assert_eq!(before.as_ref().map(Record::to_key_value), event.prev_kv, "{event:?}");
        }
    }
    let newest = view.changes_of(model.revision());
    let newest: Vec<Seen> = newest.iter().map(Seen::of_record).collect();
    let events = model.events_from(model.revision(), &all).expect("the present");
    assert_eq!(newest, events.iter().map(Seen::of_event).collect::<Vec<_>>());
    let keys = model.range(&RangeRequest {
        key: all.key,
        range_end: all.range_end,
        ..RangeRequest::default()
    });
    let keys = keys.expect("the present").count;
    assert_eq!(view.key_count().to_string(), keys.to_string());
    let everything = KeyRange::prefix(Bytes::new());
    assert_eq!(view.count(&everything), view.key_count());
}
