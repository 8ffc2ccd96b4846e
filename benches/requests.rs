//! The way in and out: from a message to a checked request, from an answer to a message.

use bytes::Bytes;
use cairn_benches::{filled, key, put};
use cairn_engine::api::Response;
use cairn_engine::api::etcdserverpb::{RangeRequest, ResponseHeader};
use cairn_engine::api::response::RangeAnswer;
use cairn_engine::command::Command;
use cairn_engine::lease::ClusterTime;
use cairn_server::grpc::frame;
use cairn_server::grpc::method::Method;
use cairn_server::grpc::unary::{self, Limits};
use criterion::Criterion;
use prost::Message;

fn requests(criterion: &mut Criterion) {
    let limits = Limits { txn_ops_max: 128, message_bytes_max: 2 << 20 };
    let range = RangeRequest { key: key(7), ..RangeRequest::default() };
    for (name, method, message) in [
        ("put", Method::Put, put(7).encode_to_vec()),
        ("range", Method::Range, range.encode_to_vec()),
    ] {
        let message = Bytes::from(message);
        criterion.bench_function(&format!("requests decode and check a {name}"), |bencher| {
            bencher
                .iter(|| unary::read(method, message.clone(), limits).expect("it is well-formed"));
        });
    }
    let command = Command::Put(put(7));
    criterion.bench_function("requests encode a put for the log", |bencher| {
        bencher.iter(|| command.encode(ClusterTime(7)));
    });
    let entry = command.encode(ClusterTime(7));
    criterion.bench_function("requests decode a put from the log", |bencher| {
        bencher.iter(|| Command::decode(entry.clone()).expect("it is well-formed"));
    });
}

fn answers(criterion: &mut Criterion) {
    let state = filled();
    for count in [1, 1000] {
        let range = RangeRequest { key: key(0), range_end: key(count), ..RangeRequest::default() };
        let result = state.store.range(&range).expect("it can be read");
        let response = Response::Range(RangeAnswer { header: ResponseHeader::default(), result });
        criterion.bench_function(
            &format!("requests encode an answer of {count} keys"),
            |bencher| {
                bencher.iter(|| frame::message(response.encoded_len(), |out| response.encode(out)));
            },
        );
    }
}

fn main() {
    let mut criterion = cairn_benches::criterion();
    requests(&mut criterion);
    answers(&mut criterion);
    criterion.final_summary();
}
