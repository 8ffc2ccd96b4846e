//! The random requests leave nothing out: every field, every pair of switches, every answer and every error.

use std::collections::BTreeSet;

use cairn_engine::api::Error;
use cairn_engine::api::etcdserverpb::compare::TargetUnion;
use cairn_engine::api::etcdserverpb::request_op::Request as Op;
use cairn_engine::api::etcdserverpb::{
    Compare, DeleteRangeRequest, PutRequest, RangeRequest, TxnRequest,
};
use cairn_engine::command::Command;
use cairn_sim::model::{Answer, Model, check};
use proptest::strategy::{Strategy, ValueTree as _};
use proptest::test_runner::TestRunner;

use crate::generate::{self, Resolve};

/// What was seen, in words.
#[derive(Default)]
struct Seen(BTreeSet<String>);

impl Seen {
    fn note(&mut self, what: impl Into<String>) {
        self.0.insert(what.into());
    }

    /// Notes every pair of these.
    fn note_pairs(&mut self, of: &str, switches: &[bool]) {
        for (first, one) in switches.iter().enumerate() {
            for (second, other) in switches.iter().enumerate().skip(first + 1) {
                self.note(format!("{of} switches {first}={one} {second}={other}"));
            }
        }
    }

    fn keys(&mut self, of: &str, key: &[u8], range_end: &[u8]) {
        self.note(match range_end {
            _ if key.is_empty() => format!("{of} without key"),
            [] => format!("{of} of a key"),
            [0] => format!("{of} without end"),
            end if end <= key => format!("{of} upside down"),
            _ => format!("{of} of an interval"),
        });
    }

    fn range(&mut self, model: &Model, request: &RangeRequest) {
        let RangeRequest {
            key,
            range_end,
            limit,
            revision,
            sort_order,
            sort_target,
            serializable,
            keys_only,
            count_only,
            min_mod_revision,
            max_mod_revision,
            min_create_revision,
            max_create_revision,
        } = request;
        self.keys("range", key, range_end);
        self.note(format!("range limit {}", limit.signum()));
        self.note(match *revision {
            revision if revision > model.revision() => "range in the future",
            revision if revision == model.revision() => "range of the present",
            revision if revision < 0 => "range below zero",
            0 => "range of the latest",
            revision if revision == model.compacted() => "range of the compact revision",
            revision if revision < model.compacted() => "range of what was compacted",
            _ => "range of the past",
        });
        self.note(format!("range sorted {sort_order} {sort_target}"));
        self.note_pairs("range", &[*serializable, *keys_only, *count_only]);
        for (which, bound) in [
            ("min mod", min_mod_revision),
            ("max mod", max_mod_revision),
            ("min create", min_create_revision),
            ("max create", max_create_revision),
        ] {
            self.note(format!("range bound {which} {}", bound.signum()));
        }
    }

    fn put(&mut self, request: &PutRequest) {
        let PutRequest { key, value, lease, prev_kv, ignore_value, ignore_lease } = request;
        self.keys("put", key, b"");
        self.note(format!("put lease {}", lease.signum()));
        self.note(if value.len() > 1 << 16 { "put large" } else { "put small" });
        self.note_pairs("put", &[*prev_kv, *ignore_value, *ignore_lease]);
    }

    fn delete_range(&mut self, request: &DeleteRangeRequest) {
        let DeleteRangeRequest { key, range_end, prev_kv } = request;
        self.keys("delete", key, range_end);
        self.note(format!("delete prev_kv {prev_kv}"));
    }

    fn compare(&mut self, request: &Compare) {
        let Compare { result, target, key, range_end, target_union } = request;
        self.keys("compare", key, range_end);
        let fitting = match target_union {
            None => None,
            Some(TargetUnion::Version(_)) => Some(0),
            Some(TargetUnion::CreateRevision(_)) => Some(1),
            Some(TargetUnion::ModRevision(_)) => Some(2),
            Some(TargetUnion::Value(_)) => Some(3),
            Some(TargetUnion::Lease(_)) => Some(4),
        };
        let fits = fitting.map_or("nothing", |of| if of == *target { "it" } else { "other" });
        self.note(format!("compare target {target} with {fits}"));
        self.note(format!("compare target {target} relation {result}"));
    }

    fn txn(&mut self, model: &Model, request: &TxnRequest, depth: usize) {
        self.note(format!("txn at depth {depth}"));
        for compare in &request.compare {
            self.compare(compare);
        }
        for op in request.success.iter().chain(&request.failure) {
            match &op.request {
                Some(Op::RequestRange(range)) => self.range(model, range),
                Some(Op::RequestPut(put)) => self.put(put),
                Some(Op::RequestDeleteRange(delete)) => self.delete_range(delete),
                Some(Op::RequestTxn(txn)) => self.txn(model, txn, depth + 1),
                None => self.note("op not set"),
            }
        }
    }

    fn command(&mut self, model: &Model, command: &Command) {
        match command {
            Command::Put(put) => self.put(put),
            Command::DeleteRange(delete) => self.delete_range(delete),
            Command::Txn(txn) => self.txn(model, txn, 0),
            Command::Alarm(alarm) => self.note(format!("alarm {} {}", alarm.action, alarm.alarm)),
            Command::Compact(_)
            | Command::LeaseGrant(_)
            | Command::LeaseRevoke(_)
            | Command::LeaseRenew(_)
            | Command::LeaseExpire(_)
            | Command::Members(_)
            | Command::Auth(_)
            | Command::Authenticate(_)
            | Command::Tick => {}
        }
    }

    fn outcome(&mut self, outcome: &Result<Answer, Error>, changes: usize) {
        let changed = match changes {
            0 => "nothing",
            1 => "one key",
            _ => "several keys",
        };
        match outcome {
            Ok(Answer::Put(_)) => self.note("put"),
            Ok(Answer::DeleteRange(_)) => self.note(format!("deletion of {changed}")),
            Ok(Answer::Txn(_)) => self.note(format!("txn of {changed}")),
            Ok(Answer::Compact(_)) => self.note("compaction"),
            Ok(Answer::LeaseGrant(_)) => self.note("grant"),
            Ok(Answer::LeaseRevoke(_)) => self.note(format!("revocation of {changed}")),
            Ok(Answer::Renewed(renewed)) => {
                for (_, ttl) in renewed {
                    self.note(format!("renewal {} with {changed} deleted", ttl.signum()));
                }
            }
            Ok(Answer::Alarm(response)) => self.note(format!("{} alarms", response.alarms.len())),
            Ok(Answer::Auth | Answer::Token) => self.note("users"),
            Ok(Answer::Nothing) => self.note(format!("expiry of {changed}")),
            Err(error) => self.note(format!("{error:?}")),
        }
    }
}

#[test]
fn the_random_requests_leave_nothing_out() {
    let mut runner = TestRunner::deterministic();
    let (commands, ranges) = (generate::command(), generate::range());
    let mut seen = Seen::default();
    for _ in 0..150 {
        let mut model = Model::default();
        for second in 0..80 {
            let range = ranges.new_tree(&mut runner).expect("a range").current().resolve(&model);
            seen.range(&model, &range);
            if let Err(error) = check::range(&range).and_then(|()| model.range(&range).map(drop)) {
                seen.note(format!("range {error:?}"));
            }
            if let Err(error) = check::range_stream(&range) {
                seen.note(format!("stream {error:?}"));
            }
            let command =
                commands.new_tree(&mut runner).expect("a command").current().resolve(&model);
            seen.command(&model, &command);
            if let Err(error) = check::command(&command, crate::pair::TXN_OPS_MAX) {
                seen.note(format!("check {error:?}"));
                continue;
            }
            let (outcome, events) = model.apply(second * 1000, &command);
            seen.outcome(&outcome, events.len());
        }
    }

    let mut missing: Vec<String> = Vec::new();
    let mut expect = |what: String| {
        if !seen.0.contains(&what) {
            missing.push(what);
        }
    };
    for of in ["range", "delete", "compare"] {
        for keys in ["without key", "of a key", "without end", "upside down", "of an interval"] {
            expect(format!("{of} {keys}"));
        }
    }
    for of in ["range", "put"] {
        for (first, second) in [(0, 1), (0, 2), (1, 2)] {
            for (one, other) in [(false, false), (false, true), (true, false), (true, true)] {
                expect(format!("{of} switches {first}={one} {second}={other}"));
            }
        }
    }
    for order in 0..=2 {
        for target in 0..=4 {
            expect(format!("range sorted {order} {target}"));
        }
    }
    for sign in [-1, 0, 1] {
        expect(format!("range limit {sign}"));
        expect(format!("put lease {sign}"));
        for which in ["min mod", "max mod", "min create", "max create"] {
            expect(format!("range bound {which} {sign}"));
        }
    }
    for target in 0..=4 {
        for relation in -1..=4 {
            if (0..=3).contains(&relation) {
                expect(format!("compare target {target} relation {relation}"));
            }
        }
        for with in ["it", "other", "nothing"] {
            expect(format!("compare target {target} with {with}"));
        }
    }
    for depth in 0..=3 {
        expect(format!("txn at depth {depth}"));
    }
    for (action, alarm) in [(0, 0), (0, 1), (1, 0), (1, 1), (1, 2), (2, 0), (2, 1), (2, 2)] {
        expect(format!("alarm {action} {alarm}"));
    }
    for what in [
        // Ranges.
        "range in the future",
        "range of the present",
        "range below zero",
        "range of the latest",
        "range of the compact revision",
        "range of what was compacted",
        "range of the past",
        "range EmptyKey",
        "range InvalidSortOption",
        "range Compacted",
        "range FutureRev",
        "stream RangeStreamSortOrder",
        "stream RangeStreamRevisionFilter",
        // What is refused before it is proposed.
        "check EmptyKey",
        "check ValueProvided",
        "check LeaseProvided",
        "check InvalidSortOption",
        "check TooManyOps",
        "check DuplicateKey",
        "check KeyNotFound",
        "check Compacted",
        "check LeaseTtlTooLarge",
        "op not set",
        // What is refused when it is applied.
        "KeyNotFound",
        "LeaseNotFound",
        "LeaseExist",
        "Compacted",
        "FutureRev",
        "NoSpace",
        "Corrupt",
        // Answers.
        "put",
        "put large",
        "put small",
        "put without key",
        "delete prev_kv false",
        "delete prev_kv true",
        "deletion of nothing",
        "deletion of one key",
        "deletion of several keys",
        "txn of nothing",
        "txn of one key",
        "txn of several keys",
        "compaction",
        "grant",
        "revocation of nothing",
        "revocation of one key",
        "revocation of several keys",
        "renewal 0 with nothing deleted",
        "renewal 0 with one key deleted",
        "renewal 1 with nothing deleted",
        "expiry of nothing",
        "expiry of one key",
        "expiry of several keys",
        "0 alarms",
        "1 alarms",
    ] {
        expect(what.to_owned());
    }
    assert!(missing.is_empty(), "never drawn: {missing:#?}");
}
