//! Addresses of hosts.
//!
//! Asking the system's resolver may take many seconds, so each question has a thread of its own: neither the executor
//! nor the disk's threads wait, and a name server that is gone delays nobody but those who asked it. A question that
//! nobody waits for any more is not asked again: who asks the next time gets its answer.

use core::cell::RefCell;
use core::net::{IpAddr, SocketAddr};
use std::collections::BTreeMap;
use std::io;
use std::net::ToSocketAddrs as _;
use std::thread;

use tokio::sync::oneshot;
use tokio::task::coop::unconstrained;

use super::until;
use crate::runtime::Runtime;

/// Addresses of one name that are tried.
const ADDRESSES_MAX: usize = 8;

/// The questions of one link that have no answer yet: a name is not asked for again before it has one. Shared by those
/// who dial for the link.
#[derive(Default)]
pub(super) struct Names {
    asked: RefCell<BTreeMap<(String, u16), Answer>>,
}

type Answer = oneshot::Receiver<io::Result<Vec<SocketAddr>>>;

impl Names {
    /// The addresses of a host, if they are known before `deadline`.
    pub(super) async fn addresses<R: Runtime>(
        &self,
        host: &str,
        port: u16,
        deadline: u64,
    ) -> io::Result<Vec<SocketAddr>> {
        if let Ok(ip) = host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::from((ip, port))]);
        }
        let name = (host.to_owned(), port);
        let asked = self.asked.borrow_mut().remove(&name);
        let mut answer = asked.map_or_else(|| ask(name.clone()), Ok)?;
        match until::<R, _>(deadline, unconstrained(&mut answer)).await {
            Some(Ok(addresses)) => addresses,
            Some(Err(_)) => Err(io::Error::other("the resolver's thread is gone")),
            None => {
                self.asked.borrow_mut().insert(name, answer);
                Err(io::Error::new(io::ErrorKind::TimedOut, "the resolver does not answer"))
            }
        }
    }
}

fn ask(name: (String, u16)) -> io::Result<Answer> {
    let (answer, answered) = oneshot::channel();
    let resolve = move || {
        let (host, port) = name;
        let found = (host.as_str(), port).to_socket_addrs();
        let found = found.map(|addresses| addresses.take(ADDRESSES_MAX).collect());
        // Nobody listens if the link is gone.
        drop(answer.send(found));
    };
    thread::Builder::new().name("cairn-resolve".into()).spawn(resolve)?;
    Ok(answered)
}
