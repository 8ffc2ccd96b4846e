//! A connection of a worker: a socket that never blocks, TLS if there is any, and HTTP/2 on top.

use core::time::Duration;
use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use rustls::ClientConnection;
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use crate::h2::connection::{Connection, Event};
use crate::target::Target;

/// A connection.
#[derive(Debug)]
pub(crate) struct Link {
    socket: TcpStream,
    tls: Option<Box<ClientConnection>>,
    pub(crate) h2: Connection,
    /// The socket took all that was written so far.
    pub(crate) is_drained: bool,
}

impl Link {
    /// Begins to connect. What is sent meanwhile waits.
    ///
    /// # Errors
    /// If that is refused at once.
    pub(crate) fn dial(target: &Target) -> io::Result<Self> {
        let domain = Domain::for_address(target.address);
        let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        socket.set_tcp_nodelay(true)?;
        match socket.connect(&target.address.into()) {
            Err(error)
                if error.raw_os_error() != Some(rustix::io::Errno::INPROGRESS.raw_os_error()) =>
            {
                return Err(error);
            }
            _ => {}
        }
        let tls = match &target.tls {
            None => None,
            Some((config, name)) => {
                let session = ClientConnection::new(Arc::clone(config), name.clone());
                let mut session = session.map_err(io::Error::other)?;
                session.set_buffer_limit(None);
                Some(Box::new(session))
            }
        };
        Ok(Self { socket: socket.into(), tls, h2: Connection::new(), is_drained: false })
    }

    /// Reads all that has arrived, and shows it.
    ///
    /// # Errors
    /// If the connection is of no more use.
    pub(crate) fn receive(
        &mut self,
        scratch: &mut [u8],
        see: &mut impl FnMut(Event<'_>),
    ) -> io::Result<()> {
        loop {
            let read = match &mut self.tls {
                None => self.socket.read(scratch),
                Some(session) => read_tls(session, &mut self.socket, scratch),
            };
            let read = match read {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            self.h2.receive(&scratch[..read], see).map_err(|broken| io::Error::other(broken.0))?;
            if self.tls.is_none() && read < scratch.len() {
                return Ok(());
            }
        }
    }

    /// Writes what is to be sent, as far as the socket takes it.
    ///
    /// # Errors
    /// If the connection is of no more use.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        if let Some(session) = &mut self.tls {
            session.writer().write_all(&self.h2.out)?;
            self.h2.out.clear();
            while session.wants_write() {
                match session.write_tls(&mut self.socket) {
                    Ok(_) => {}
                    Err(error) => return self.blocked(error),
                }
            }
        } else {
            while !self.h2.out.is_empty() {
                match self.socket.write(&self.h2.out) {
                    Ok(written) if written == self.h2.out.len() => self.h2.out.clear(),
                    Ok(written) => drop(self.h2.out.drain(..written)),
                    Err(error) => return self.blocked(error),
                }
            }
        }
        self.is_drained = true;
        Ok(())
    }

    fn blocked(&mut self, error: io::Error) -> io::Result<()> {
        // A socket that is still connecting says that it is not connected.
        if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::NotConnected) {
            self.is_drained = false;
            return Ok(());
        }
        Err(error)
    }

    /// Closes the connection so that its port is free again at once.
    pub(crate) fn reset(self) {
        SockRef::from(&self.socket).set_linger(Some(Duration::ZERO)).ok();
    }

    /// Whether there is something to write.
    pub(crate) fn has_more(&self) -> bool {
        !self.h2.out.is_empty() || self.tls.as_ref().is_some_and(|session| session.wants_write())
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn read_tls(
    session: &mut ClientConnection,
    socket: &mut TcpStream,
    scratch: &mut [u8],
) -> io::Result<usize> {
    loop {
        match session.reader().read(scratch) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            read => return read,
        }
        if session.read_tls(socket)? == 0 {
            return Ok(0);
        }
        session.process_new_packets().map_err(io::Error::other)?;
    }
}
