//! Transactions: the engine and the model agree which may be asked, and on what they do.

use bytes::Bytes;
use cairn_engine::api::Response;
use cairn_engine::api::check::check_txn;
use cairn_engine::api::etcdserverpb::{PutRequest, TxnRequest};
use cairn_engine::command::Command;
use cairn_engine::lease::ClusterTime;
use cairn_engine::state_machine::{Outcome, StateMachine};
use cairn_sim::model::{self, Answer, Model};
use prost::Message;

/// Small, so that it is reached.
const TXN_OPS_MAX: usize = 10;
/// Ends inputs that would take long and tell nothing new.
const TXNS_MAX: usize = 16;

/// Applies transactions, each with its length in front, to a store with a few keys.
pub fn txn_check(mut data: &[u8]) {
    let (mut state, mut model) = (StateMachine::default(), Model::default());
    for key in ["a", "b", "c"] {
        let (key, value) = (Bytes::from(key), Bytes::from("1"));
        let put = Command::Put(PutRequest { key, value, ..PutRequest::default() });
        both(&mut state, &mut model, put);
    }
    for _ in 0..TXNS_MAX {
        let Ok(request) = TxnRequest::decode_length_delimited(&mut data) else { break };
        let command = Command::Txn(request.clone());
        let checked = check_txn(&request, TXN_OPS_MAX);
        assert_eq!(checked, model::check::command(&command, TXN_OPS_MAX), "{request:?}");
        if checked.is_ok() {
            both(&mut state, &mut model, command);
        }
    }
    state.check();
}

fn both(state: &mut StateMachine, model: &mut Model, command: Command) {
    let applied = state.apply(ClusterTime(0), command.clone());
    let (expected, events) = model.apply(0, &command);
    let revision = state.store.revision();
    let found = applied.outcome.map(|outcome| answer(outcome, revision));
    assert_eq!(found, expected, "{command:?}");
    assert_eq!(revision, model.revision());
    let changes = applied.changes.iter().flat_map(|changes| changes.iter());
    let found: Vec<_> = changes.map(|change| change.record.key().to_vec()).collect();
    let expected: Vec<_> = events.iter().map(|event| event.kv.key.to_vec()).collect();
    assert_eq!(found, expected);
}

/// An outcome as the model tells it, with the header that the replica would fill in.
fn answer(outcome: Outcome, revision: i64) -> Answer {
    let Outcome::Response(mut response) = outcome else { panic!("every command is answered") };
    let header = response.header_mut().expect("these answers have one");
    if header.revision == 0 {
        header.revision = revision;
    }
    if let Response::Put(response) = response {
        return Answer::Put(response);
    }
    let Response::Txn(response) = response else { panic!("nothing else was asked") };
    Answer::Txn(response)
}
