//! Connections that others have dialed: the acceptor's part of the greeting.
//!
//! Until it has introduced itself, whoever dialed costs a buffer and a place among few, for a few seconds.

use core::cell::Cell;
use std::io;
use std::rc::Rc;

use bytes::Bytes;
use cairn_engine::MemberId;
use cairn_engine::peer::frame::{Frame, Frames};
use cairn_engine::peer::hello::{Hello, Purpose, Refusal};
use tokio::io::AsyncWriteExt as _;

use super::dial::first_frame;
use super::link::Lane;
use super::session::Session;
use super::{GREETINGS_MAX, Shared, until};
use crate::runtime::{Connection, Runtime};

/// Takes a connection of which `first` was read already, and runs it to its end.
pub(super) async fn greet<R: Runtime>(shared: Rc<Shared>, mut io: Connection, first: Bytes) {
    let Some(greeting) = Greeting::begin(&shared.greetings) else {
        return shared.counters.count_stranger();
    };
    let deadline = R::now().saturating_add(shared.pace.dial);
    let mut frames = Frames::of_acceptor(&first);
    let hello = match until::<R, _>(deadline, hello(&mut io, &mut frames)).await {
        Some(Ok(hello)) => hello,
        Some(Err(error)) => return refuse_stranger(&shared, error.to_string()),
        None => return refuse_stranger(&shared, "it does not introduce itself".to_owned()),
    };
    let begun = hello.answer(shared.cluster, shared.me, shared.incarnation).and_then(|welcome| {
        let link = shared.link_of_dialer(hello.from, R::now()).ok_or(Refusal::Crowded)?;
        let lane = match hello.purpose {
            Purpose::Messages => Lane::Messages,
            Purpose::Bulk => Lane::BulkIn,
        };
        let number = link.offer(lane, hello.from, hello.incarnation, R::now());
        number.map(|number| (welcome, link, lane, number)).ok_or(Refusal::Duplicate)
    });
    match begun {
        Ok((welcome, link, lane, number)) => {
            drop(greeting);
            frames.allow(shared.frame_bytes_max);
            let mut out = Vec::new();
            welcome.encode(&mut out);
            let session = Session { shared, link, lane, number, io, frames, out };
            session.run::<R>(false).await;
        }
        Err(refusal) => {
            if refusal != Refusal::Duplicate {
                shared.counters.count_stranger();
                shared.tell_refused(hello.from, reason(&shared, &hello, refusal));
            }
            let mut out = Vec::new();
            refusal.encode(&mut out);
            // Whether it hears that or not is its affair.
            drop(until::<R, _>(deadline, farewell(io, out)).await);
        }
    }
}

async fn hello(io: &mut Connection, frames: &mut Frames) -> io::Result<Hello> {
    match first_frame(io, frames).await? {
        Frame::Hello(hello) => Ok(hello),
        Frame::Welcome(_)
        | Frame::Refusal(_)
        | Frame::Message(_)
        | Frame::Ping(_)
        | Frame::Pong(_) => {
            Err(io::Error::new(io::ErrorKind::InvalidData, "it does not begin with a greeting"))
        }
    }
}

async fn farewell(mut io: Connection, out: Vec<u8>) -> io::Result<()> {
    io.write_all(&out).await?;
    io.shutdown().await
}

fn refuse_stranger(shared: &Shared, why: String) {
    shared.counters.count_stranger();
    shared.tell_refused(MemberId::NONE, why);
}

/// A refusal in words, as this side sees it.
fn reason(shared: &Shared, hello: &Hello, refusal: Refusal) -> String {
    match refusal {
        Refusal::Version(min, max) => format!(
            "no common version of the protocol between members: {} to {} there, {min} to {max} here",
            hello.versions.0, hello.versions.1
        ),
        Refusal::Cluster(cluster) => {
            format!("it is in cluster {}, this is {cluster}", hello.cluster)
        }
        Refusal::Member(_) if hello.from == shared.me => {
            "it has the id of this member: one of the two is a copy".to_owned()
        }
        Refusal::Member(me) => format!("it wants to reach member {}, this is {me}", hello.to),
        Refusal::Duplicate => "there is a connection already".to_owned(),
        Refusal::Crowded => "there are as many guests as are let in".to_owned(),
    }
}

/// A place among those who are about to introduce themselves.
struct Greeting<'a>(&'a Cell<usize>);

impl<'a> Greeting<'a> {
    fn begin(greetings: &'a Cell<usize>) -> Option<Self> {
        if greetings.get() >= GREETINGS_MAX {
            return None;
        }
        greetings.set(greetings.get() + 1);
        Some(Self(greetings))
    }
}

impl Drop for Greeting<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}
