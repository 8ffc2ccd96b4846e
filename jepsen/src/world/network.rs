//! The network between members: a proxy before each one's peer port.
//!
//! Members advertise their proxies, so everything between them passes here. For each connection the proxy finds out
//! which member opened it: the kernel's table of sockets says which socket is at the other end, and the open files of
//! our processes say whose it is. So a link has a direction and can be cut for one of the two.
//!
//! ```text
//!  m0 ──► proxy of m1 ──► m1        bytes from m0 to m1 pass if links[0][1] lets them,
//!     ◄──             ◄──           those of m1's answers if links[1][0] does
//! ```
//!
//! A link that is cut holds bytes back, like a network that loses packets of a connection which retransmits them.
//! When it heals, some connections go on where they were, others are reset.
//!
//! Unlike network namespaces, packet filters and delays of the kernel, this needs neither rights nor modules.
//!
//! Limits: who connects through a cut link is accepted and then hears nothing, instead of waiting to be accepted.
//! Clients' connections do not pass here.

use core::cell::RefCell;
use core::net::SocketAddr;
use core::time::Duration;
use std::fs;
use std::rc::Rc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, spawn_local};
use tokio::time::{sleep, timeout};

use crate::Trouble;

/// What a link does with bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Link {
    /// Passes them on.
    Open,
    /// Holds them.
    Cut,
    /// Passes them on after a while.
    Slow(Duration),
}

/// All links.
#[derive(Debug)]
pub(crate) struct Network {
    shared: Rc<Shared>,
    tasks: Vec<JoinHandle<()>>,
}

/// What the proxies' tasks and the network's owner, all on one thread, have in common.
#[derive(Debug)]
struct Shared {
    links: watch::Sender<Links>,
    /// Of each member that runs.
    processes: RefCell<Vec<Option<u32>>>,
}

#[derive(Clone, Debug)]
struct Links {
    /// From whom, to whom.
    links: Vec<Vec<Link>>,
    /// Connections of earlier ages end.
    age: u64,
}

impl Network {
    /// Listens at the first address of each pair for the member at the second.
    pub(crate) fn new(routes: Vec<(SocketAddr, SocketAddr)>) -> Result<Self, Trouble> {
        let count = routes.len();
        let links = Links { links: vec![vec![Link::Open; count]; count], age: 0 };
        let shared = Rc::new(Shared {
            links: watch::Sender::new(links),
            processes: RefCell::new(vec![None; count]),
        });
        let mut tasks = Vec::new();
        for (to, (front, member)) in routes.into_iter().enumerate() {
            let listener = std::net::TcpListener::bind(front)?;
            listener.set_nonblocking(true)?;
            let listener = TcpListener::from_std(listener)?;
            tasks.push(spawn_local(serve(Rc::clone(&shared), listener, member, to)));
        }
        Ok(Self { shared, tasks })
    }

    /// Says which process is the member in a slot.
    pub(crate) fn set_process(&self, slot: usize, process: Option<u32>) {
        self.shared.processes.borrow_mut()[slot] = process;
    }

    /// Changes links: `choose` is asked for each direction between two slots.
    pub(crate) fn change(&self, choose: impl Fn(usize, usize) -> Link) {
        self.shared.links.send_modify(|links| {
            for (from, row) in links.links.iter_mut().enumerate() {
                for (to, link) in row.iter_mut().enumerate() {
                    *link = choose(from, to);
                }
            }
        });
    }

    /// Opens all links; connections go on where they were.
    pub(crate) fn heal(&self) {
        self.change(|_, _| Link::Open);
    }

    /// Ends all connections between members, as a router does that forgets them.
    pub(crate) fn reset(&self) {
        self.shared.links.send_modify(|links| links.age += 1);
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        self.reset();
        for task in &self.tasks {
            task.abort();
        }
    }
}

async fn serve(shared: Rc<Shared>, listener: TcpListener, member: SocketAddr, to: usize) {
    loop {
        let Ok((inward, source)) = listener.accept().await else {
            sleep(Duration::from_millis(10)).await; // Out of files, say.
            continue;
        };
        let from = owner(&shared.processes.borrow(), source);
        let shared = Rc::clone(&shared);
        spawn_local(async move {
            // A member that has just gone leaves connections of which nobody knows whose they are.
            let Some(from) = from else { return };
            let Ok(outward) = TcpStream::connect(member).await else { return };
            // Without it, only latency suffers.
            inward.set_nodelay(true).ok();
            outward.set_nodelay(true).ok();
            let (inward_read, inward_write) = inward.into_split();
            let (outward_read, outward_write) = outward.into_split();
            let links = shared.links.subscribe();
            let age = links.borrow().age;
            let there = Pump { links: links.clone(), age, from, to };
            let back = Pump { links, age, from: to, to: from };
            let back = spawn_local(back.run(outward_read, inward_write));
            there.run(inward_read, outward_write).await;
            back.abort();
        });
    }
}

/// Moves the bytes of one direction of a connection.
#[derive(Debug)]
struct Pump {
    links: watch::Receiver<Links>,
    age: u64,
    from: usize,
    to: usize,
}

impl Pump {
    async fn run(mut self, mut source: OwnedReadHalf, mut sink: OwnedWriteHalf) {
        let mut buffer = vec![0; CHUNK_BYTES];
        loop {
            // A read that is given up has taken nothing.
            let Ok(count) = timeout(RESET_CHECK, source.read(&mut buffer)).await else {
                if self.links.borrow().age > self.age {
                    return;
                }
                continue;
            };
            let count = count.unwrap_or(0);
            // The end of a stream does not pass a cut link either.
            if !self.passes().await {
                return;
            }
            if count == 0 {
                // The other side learns of it because its own half ends.
                sink.shutdown().await.ok();
                return;
            }
            if sink.write_all(&buffer[..count]).await.is_err() {
                return;
            }
        }
    }

    /// Waits until the link lets something through; whether the connection still lives then.
    async fn passes(&mut self) -> bool {
        let link = {
            let (from, to, age) = (self.from, self.to, self.age);
            let settled = |links: &Links| links.age > age || links.links[from][to] != Link::Cut;
            let Ok(links) = self.links.wait_for(settled).await else { return false };
            if links.age > age {
                return false;
            }
            links.links[from][to]
        };
        if let Link::Slow(delay) = link {
            sleep(delay).await;
        }
        true
    }
}

/// How long a connection on which nothing moves may survive a reset.
const RESET_CHECK: Duration = Duration::from_millis(100);

/// As much as moves at once.
const CHUNK_BYTES: usize = 64 * 1024;

/// Which of our processes has the socket that is bound to `source`.
fn owner(processes: &[Option<u32>], source: SocketAddr) -> Option<usize> {
    let table = fs::read_to_string("/proc/net/tcp").ok()?;
    let wanted = format!("socket:[{}]", inode(&table, source.port())?);
    processes.iter().position(|process| {
        let Some(process) = process else { return false };
        let Ok(files) = fs::read_dir(format!("/proc/{process}/fd")) else { return false };
        files.flatten().any(|file| {
            fs::read_link(file.path()).is_ok_and(|target| target.as_os_str() == wanted.as_str())
        })
    })
}

/// The inode of the socket whose local port is `port`, from the text of `/proc/net/tcp`: see `proc_net_tcp(5)`.
fn inode(table: &str, port: u16) -> Option<u64> {
    let wanted = format!(":{port:04X}");
    table.lines().skip(1).find_map(|line| {
        let mut fields = line.split_whitespace();
        let local = fields.nth(1)?;
        let inode = fields.nth(7)?.parse().ok()?;
        // 0: a connection that nobody holds any more.
        (local.ends_with(&wanted) && inode != 0).then_some(inode)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_is_found_in_the_kernels_table() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
             0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  0        0 4711 1 0 100 0 0 10 0\n\
             1: 0100007F:C350 0100007F:1F90 06 00000000:00000000 03:00000000 00000000  0        0 0 3 0\n\
             2: 0100007F:C351 0100007F:1F90 01 00000000:00000000 00:00000000 00000000  0        0 815 1 0 20 4 30 10 -1\n";
        assert_eq!(inode(table, 8080), Some(4711));
        assert_eq!(inode(table, 50_000), None);
        assert_eq!(inode(table, 50_001), Some(815));
    }
}
