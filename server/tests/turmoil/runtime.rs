//! The third face of [`Runtime`]: turmoil's network and clock, and a disk in memory.

use core::future::Future;
use core::time::Duration;
use std::io;

use cairn_io::listener::Prepared;
use cairn_io::runtime::{Address, Runtime};
use turmoil::net::{TcpListener, TcpStream};

use crate::disk::MemoryDisk;

/// One core of a simulated host.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Simulated;

impl Runtime for Simulated {
    type Listener = TcpListener;
    type Stream = TcpStream;
    type Disk = MemoryDisk;

    fn spawn(task: impl Future<Output = ()> + 'static) {
        drop(tokio::task::spawn_local(task));
    }

    fn now() -> u64 {
        let elapsed = turmoil::sim_elapsed().expect("within a simulation");
        u64::try_from(elapsed.as_nanos()).expect("no simulation lasts centuries")
    }

    async fn sleep_until(deadline: u64) {
        tokio::time::sleep(Duration::from_nanos(deadline.saturating_sub(Self::now()))).await;
    }

    async fn yield_if_needed() {
        tokio::task::yield_now().await;
    }

    fn listen(_: Prepared) -> io::Result<TcpListener> {
        Err(io::Error::other("a simulated host has no real sockets: use turmoil's"))
    }

    async fn accept(listener: &TcpListener) -> io::Result<(TcpStream, Address)> {
        let (stream, peer) = listener.accept().await?;
        Ok((stream, Address::Tcp(peer)))
    }

    async fn connect(address: &Address) -> io::Result<TcpStream> {
        match address {
            Address::Tcp(address) => TcpStream::connect(*address).await,
            Address::Unix(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }
}
