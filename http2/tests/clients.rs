//! The server's half beside a client that is not ours: whatever `h2` asks, it gets.

#![expect(clippy::unwrap_used, reason = "a test's helpers fail by panicking")]

use core::future::poll_fn;
use std::io::IoSlice;

use bytes::Bytes;
use cairn_http2::server::{Connection, Event, Head, Settings};
use h2::client::SendRequest;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

const SETTINGS: Settings = Settings {
    stream_window_bytes: 65_535,
    connection_window_bytes: 100_000,
    streams_max: 100,
    head_bytes_max: 16_384,
};

/// Answers each request with its own body, twice.
async fn echo(mut socket: DuplexStream) {
    let mut http2 = Connection::new(SETTINGS);
    let (mut head, mut bytes, mut bodies) = (Head::default(), Vec::new(), Vec::<Vec<u8>>::new());
    loop {
        while !http2.out().is_empty() {
            let mut slices = [IoSlice::new(&[]); 8];
            let count = http2.out().slices(&mut slices);
            let Ok(written) = socket.write_vectored(&slices[..count]).await else { return };
            http2.wrote(written);
        }
        if !matches!(socket.read_buf(&mut bytes).await, Ok(read) if read > 0) {
            return;
        }
        let mut input = &*bytes;
        while let Some(event) = http2.next(&mut input, &mut head).expect("h2 does nothing wrong") {
            let (stream, body) = match event {
                Event::Request { stream, is_end } => {
                    assert_eq!(head.get(b"te"), Some(&b"trailers"[..]));
                    http2.name(stream, bodies.len());
                    bodies.push(head.path().to_vec());
                    if !is_end {
                        continue;
                    }
                    (stream, bodies.last().cloned().unwrap_or_default())
                }
                Event::Data { stream, token, data, is_end } => {
                    http2.took(stream, data.len());
                    bodies[token].extend_from_slice(data);
                    if !is_end {
                        continue;
                    }
                    (stream, bodies[token].clone())
                }
                Event::Reset { .. } | Event::Ping | Event::Pong => continue,
            };
            http2.begin(stream);
            http2.send(stream, Bytes::from(body.clone()));
            http2.send(stream, Bytes::from(body));
            http2.end(stream);
        }
        bytes = input.to_vec();
    }
}

/// Asks, and checks the answer.
async fn ask(client: SendRequest<Bytes>, number: usize, body_bytes: usize) {
    let mut client = client.ready().await.unwrap();
    let path = format!("/{number}");
    let request = http::Request::post(format!("http://cairn{path}")).header("te", "trailers");
    let request = request.header(format!("x-{}", number % 7), "y".repeat(number % 300));
    let request = request.body(()).unwrap();
    let (answer, mut sending) = client.send_request(request, body_bytes == 0).unwrap();
    let body = Bytes::from(vec![number.to_le_bytes()[0]; body_bytes]);
    let mut left = body.clone();
    while !left.is_empty() {
        sending.reserve_capacity(left.len());
        let room = poll_fn(|context| sending.poll_capacity(context)).await.unwrap().unwrap();
        let part = left.split_to(room.min(left.len()));
        sending.send_data(part, left.is_empty()).unwrap();
    }
    let answer = answer.await.unwrap();
    assert_eq!(answer.headers()["content-type"], "application/grpc");
    let (mut received, mut answer) = (Vec::new(), answer.into_body());
    while let Some(data) = answer.data().await {
        let data = data.unwrap();
        answer.flow_control().release_capacity(data.len()).unwrap();
        received.extend_from_slice(&data);
    }
    let once = [path.as_bytes(), &body].concat();
    assert_eq!(received, once.repeat(2), "{number}");
    assert_eq!(answer.trailers().await.unwrap().unwrap()["grpc-status"], "0");
}

/// A client with these settings asks very much, much of it at once.
async fn converse(builder: &h2::client::Builder, pipe_bytes: usize) {
    let (near, far) = tokio::io::duplex(pipe_bytes);
    tokio::task::LocalSet::new()
        .run_until(async {
            tokio::task::spawn_local(echo(far));
            let (client, connection) = builder.handshake::<_, Bytes>(near).await.unwrap();
            tokio::task::spawn_local(async { connection.await.unwrap() });
            let calls = (0..200).map(|number| {
                let bytes = [0, 1, 100, 16_384, 70_000, 300_000][number % 6];
                tokio::task::spawn_local(ask(client.clone(), number, bytes))
            });
            for call in calls.collect::<Vec<_>>() {
                call.await.unwrap();
            }
        })
        .await;
}

fn run(builder: &h2::client::Builder, pipe_bytes: usize) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(converse(builder, pipe_bytes));
}

#[test]
fn h2_gets_what_it_asks_for() {
    run(&h2::client::Builder::new(), 1 << 20);
}

#[test]
fn small_windows_and_small_pipes_only_take_longer() {
    let mut builder = h2::client::Builder::new();
    run(builder.initial_window_size(1000).initial_connection_window_size(65_535), 100);
}

#[test]
fn large_frames_and_no_table_are_obeyed() {
    let mut builder = h2::client::Builder::new();
    run(builder.max_frame_size(1 << 20).header_table_size(0).initial_window_size(1 << 20), 4096);
}
