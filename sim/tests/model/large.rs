//! Thousands of keys and versions: the trees have several levels, limits cut far from the end, chains jump.

use bytes::Bytes;
use cairn_engine::api::etcdserverpb::{
    CompactionRequest, DeleteRangeRequest, PutRequest, RangeRequest,
};
use cairn_engine::command::Command;
use proptest::collection::vec;
use proptest::prelude::*;

use crate::generate::{self, Resolve};
use crate::pair::{self, Pair};

#[derive(Clone, Debug)]
enum Step {
    Put { key: u32 },
    Delete { key: u32, width: u32 },
    Compact { back: i64 },
    Sweep { changes_max: usize },
    Range { key: u32, width: u32, back: i64, range: RangeRequest },
}

fn step() -> impl Strategy<Value = Step> {
    // Most of what happens, happens to few keys.
    let key = || prop_oneof![3 => 0..2000_u32, 1 => 0..20_u32];
    prop_oneof![
        60 => key().prop_map(|key| Step::Put { key }),
        6 => (key(), 0..30_u32).prop_map(|(key, width)| Step::Delete { key, width }),
        1 => (0..2000_i64).prop_map(|back| Step::Compact { back }),
        4 => (1..300_usize).prop_map(|changes_max| Step::Sweep { changes_max }),
        4 => (key(), 0..1000_u32, 0..2000_i64, generate::range())
            .prop_map(|(key, width, back, range)| Step::Range { key, width, back, range }),
    ]
}

fn name(key: u32) -> Bytes {
    Bytes::from(format!("/registry/pods/{key:04}"))
}

fn run(steps: Vec<Step>) {
    let mut pair = Pair::default();
    for step in steps {
        let revision = pair.model.revision();
        match step {
            Step::Put { key } => {
                let value = Bytes::from(revision.to_string());
                let put = PutRequest { key: name(key), value, ..PutRequest::default() };
                pair.apply(0, Command::Put(put));
            }
            Step::Delete { key, width } => {
                let (key, range_end) = (name(key), name(key + width));
                let delete = DeleteRangeRequest { key, range_end, prev_kv: true };
                pair.apply(0, Command::DeleteRange(delete));
            }
            Step::Compact { back } => {
                let revision = (revision - back).max(0);
                let compaction = CompactionRequest { revision, physical: false };
                pair.apply(0, Command::Compact(compaction));
            }
            Step::Sweep { changes_max } => {
                pair.state.store.sweep(changes_max);
            }
            Step::Range { key, width, back, range } => {
                let range = RangeRequest {
                    key: name(key),
                    range_end: if width == 0 { Bytes::new() } else { name(key + width) },
                    limit: range.limit.saturating_mul(i64::from(width / 20)),
                    revision: if range.revision == 0 { 0 } else { revision - back },
                    ..range.resolve(&pair.model)
                };
                pair::check_range(&pair.state.store, &pair.model, &range);
            }
        }
    }
    pair.state.check();
}

#[test]
fn a_large_store_does_what_the_model_does() {
    crate::check(3, &vec(step(), 5000), run);
}
