//! Lock and Election: services that are made of other calls (etcd `v3lock`, `v3election`, `concurrency`).
//!
//! All of their state is ordinary keys. Whoever wants a lock, or to lead, puts a key with a lease of its own under a
//! common prefix and waits until no older key is there ([`queue`]); a client that dies loses its lease, and with it its
//! place. So these run on whichever member the client asks, and any other program may take part by hand.
//!
//! | file | what |
//! |---|---|
//! | queue.rs | the line in which everybody waits |
//! | lock.rs | Lock, Unlock |
//! | election.rs | Campaign, Proclaim, Leader, Resign, and what Observe sees |
//!
//! Errors come with code Unknown, as etcd sends them: its services ask themselves through a client, whose errors have
//! lost their codes. Only who gave up keeps its own.

mod election;
mod lock;
mod queue;

use core::future::{Future, poll_fn};
use core::pin::{Pin, pin};
use core::task::Poll;

use bytes::Bytes;
use cairn_engine::api::check::check_txn;
use cairn_engine::api::etcdserverpb::{LeaseGrantRequest, TxnRequest, TxnResponse};
use cairn_engine::api::v3electionpb::LeaderRequest;
use cairn_engine::api::{Code, Error, Request, Response};
use cairn_io::driver::Handle;
use cairn_io::runtime::Runtime;
use prost::Message;

use crate::context::Context;
use crate::grpc::call::{Answers, Gone, given_up};
use crate::grpc::frame;
use crate::grpc::method::Method;
use crate::grpc::status::Status;
use crate::grpc::unary;

/// A call with one question and one answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Recipe {
    Lock,
    Unlock,
    Campaign,
    Proclaim,
    Leader,
    Resign,
}

const RECIPES: [(Method, Recipe); 6] = [
    (Method::Lock, Recipe::Lock),
    (Method::Unlock, Recipe::Unlock),
    (Method::Campaign, Recipe::Campaign),
    (Method::Proclaim, Recipe::Proclaim),
    (Method::Leader, Recipe::Leader),
    (Method::Resign, Recipe::Resign),
];

impl Recipe {
    /// The recipe that a method asks for, if there is one for it.
    pub(crate) fn of(method: Method) -> Option<Self> {
        RECIPES.iter().find(|(of, _)| *of == method).map(|(_, recipe)| *recipe)
    }

    /// Follows it; the answer is a message with its prefix.
    ///
    /// Must not be dropped before it is done: what a client that gave up leaves behind is cleared away here. `given_up`
    /// is ready, with the reason, when nobody waits for the answer any more.
    pub(crate) async fn answer(
        self,
        handle: &Handle,
        message: Bytes,
        given_up: impl Future<Output = Error>,
    ) -> Result<Bytes, Status> {
        let given_up = pin!(given_up);
        match self {
            Self::Lock => finish(lock::lock(handle, unary::decode(message)?, given_up).await),
            Self::Unlock => finish(lock::unlock(handle, unary::decode(message)?).await),
            Self::Campaign => {
                finish(election::campaign(handle, unary::decode(message)?, given_up).await)
            }
            Self::Proclaim => finish(election::proclaim(handle, unary::decode(message)?).await),
            Self::Leader => finish(election::leader(handle, unary::decode(message)?).await),
            Self::Resign => finish(election::resign(handle, unary::decode(message)?).await),
        }
    }
}

fn finish(outcome: Result<impl Message, Error>) -> Result<Bytes, Status> {
    let answer = outcome.map_err(status)?;
    Ok(frame::message(answer.encoded_len(), |out| answer.encode(out).expect("memory grows")))
}

fn status(error: Error) -> Status {
    let keeps_its_code =
        [Error::ContextCanceled, Error::ContextDeadlineExceeded, Error::Stopped].contains(&error);
    let code = if keeps_its_code { error.code() } else { Code::Unknown };
    Status::new(code, error.message())
}

/// Serves an Observe: the leader, and whoever follows.
pub(crate) async fn observe<R: Runtime>(
    server: &Context<R>,
    request: LeaderRequest,
    deadline: Option<u64>,
    mut answers: impl Answers,
) -> Result<Code, Gone> {
    let mut observed = election::Observed::new(server.handle(), &request.name);
    loop {
        let gone = poll_fn(|context| answers.poll_gone(context));
        let next = unless(pin!(given_up(server, deadline, gone)), observed.next()).await;
        let error = match next {
            Ok(Ok(response)) => {
                let append = |out: &mut Vec<u8>| response.encode(out).expect("memory grows");
                answers.send(frame::message(response.encoded_len(), append)).await?;
                continue;
            }
            Ok(Err(error)) | Err(error) => error,
        };
        return answers.finish(&status(error));
    }
}

/// Waits for something unless it is given up before.
async fn unless<T>(
    mut given_up: Pin<&mut impl Future<Output = Error>>,
    future: impl Future<Output = T>,
) -> Result<T, Error> {
    let mut future = pin!(future);
    poll_fn(|context| {
        if let Poll::Ready(output) = future.as_mut().poll(context) {
            return Poll::Ready(Ok(output));
        }
        given_up.as_mut().poll(context).map(Err)
    })
    .await
}

/// Seconds of a lease that is made for a client which brings none. Nobody renews it.
const LEASE_TTL_S: i64 = 60;

/// The client's lease, or one that is made for it.
async fn lease_or_new(handle: &Handle, lease: i64) -> Result<i64, Error> {
    if lease != 0 {
        return Ok(lease);
    }
    let request = LeaseGrantRequest { ttl: LEASE_TTL_S, id: unary::random_lease_id() };
    let Response::LeaseGrant(granted) = handle.ask(Request::LeaseGrant(request)).await? else {
        unreachable!("each question has its kind of answer")
    };
    Ok(granted.id)
}

/// Runs a transaction, which is checked like a client's.
async fn run(handle: &Handle, request: TxnRequest) -> Result<TxnResponse, Error> {
    check_txn(&request, OPS_MAX)?;
    let Response::Txn(response) = handle.ask(Request::Txn(request)).await? else {
        unreachable!("each question has its kind of answer")
    };
    Ok(response)
}

/// Operations in a transaction of ours.
const OPS_MAX: usize = 2;
