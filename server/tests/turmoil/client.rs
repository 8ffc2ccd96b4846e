//! A client that is no more than h2 and etcd's messages.

use core::future::poll_fn;
use core::time::Duration;

use bytes::{Bytes, BytesMut};
use cairn_engine::api::etcdserverpb::PutRequest;
use cairn_server::grpc::frame::{self, Messages};
use h2::client::SendRequest;
use h2::{RecvStream, SendStream};
use prost::Message;
use turmoil::net::TcpStream;

/// What may go wrong: the connection, or what the server says.
pub(crate) type Result<T> = core::result::Result<T, Box<dyn core::error::Error>>;

/// How long a client waits before it gives a connection up.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long it waits before it tries again.
const PAUSE: Duration = Duration::from_millis(20);

/// A connection.
pub(crate) struct Client {
    requests: SendRequest<Bytes>,
}

/// A call whose answers are a stream.
pub(crate) struct Answers {
    body: RecvStream,
    messages: Messages,
    /// Dropping it would end the call.
    _questions: SendStream<Bytes>,
}

impl Client {
    /// Connects; if that fails, after a pause.
    pub(crate) async fn connect(host: &str) -> Result<Self> {
        let connected = Self::try_connect(host).await;
        if connected.is_err() {
            tokio::time::sleep(PAUSE).await;
        }
        connected
    }

    async fn try_connect(host: &str) -> Result<Self> {
        let connecting = async {
            let socket = TcpStream::connect((host, crate::PORT)).await?;
            let (requests, connection) = h2::client::handshake(socket).await?;
            Result::Ok((requests, connection))
        };
        let (requests, connection) = tokio::time::timeout(PATIENCE, connecting).await??;
        tokio::spawn(async move { drop(connection.await) });
        Ok(Self { requests })
    }

    /// Asks one question and waits for its answer.
    pub(crate) async fn ask<A: Message + Default>(
        &mut self,
        method: &str,
        question: &impl Message,
    ) -> Result<A> {
        let mut answers = self.open(method, question, true).await?;
        tokio::time::timeout(PATIENCE, answers.next()).await??.ok_or_else(|| "no answer".into())
    }

    /// Asks a question whose answers are a stream; leaves the asking side open.
    pub(crate) async fn stream(
        &mut self,
        method: &str,
        question: &impl Message,
    ) -> Result<Answers> {
        self.open(method, question, false).await
    }

    async fn open(&mut self, method: &str, question: &impl Message, ends: bool) -> Result<Answers> {
        let request = http::Request::post(format!("http://cairn/etcdserverpb.{method}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(())?;
        let calling = async {
            let mut requests = self.requests.clone().ready().await?;
            let (response, mut questions) = requests.send_request(request, false)?;
            let message = frame::message(question.encoded_len(), |out| {
                question.encode(out).expect("memory grows");
            });
            questions.send_data(message, ends)?;
            Result::Ok((response.await?, questions))
        };
        let (response, questions) = tokio::time::timeout(PATIENCE, calling).await??;
        if let Some(status) = response.headers().get("grpc-status") {
            return Err(format!("{method}: status {}", status.to_str()?).into());
        }
        let body = response.into_body();
        Ok(Answers { body, messages: Messages::default(), _questions: questions })
    }
}

impl Answers {
    /// The next answer; `None`: there are no more.
    pub(crate) async fn next<A: Message + Default>(&mut self) -> Result<Option<A>> {
        loop {
            if let Some(message) = self.messages.next(usize::MAX).map_err(|s| s.message)? {
                return Ok(Some(A::decode(message)?));
            }
            let Some(data) = poll_fn(|context| self.body.poll_data(context)).await else {
                return Ok(None);
            };
            let data = data?;
            self.body.flow_control().release_capacity(data.len())?;
            self.messages.push(BytesMut::from(&data[..]).freeze());
        }
    }
}

/// The nth put of a client, with its key and value: each has a key of its own.
pub(crate) fn nth_put(client: usize, nth: usize) -> (String, Vec<u8>, PutRequest) {
    let (key, value) = (format!("{client}/{nth:03}"), vec![b'v'; 100 + nth]);
    let (key_bytes, value_bytes) = (key.clone().into(), value.clone().into());
    let put = PutRequest { key: key_bytes, value: value_bytes, ..PutRequest::default() };
    (key, value, put)
}
