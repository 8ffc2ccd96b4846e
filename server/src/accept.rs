//! A new connection: does it speak HTTP/2, as gRPC clients do, or HTTP/1.1? And on the peer port, is it a member?
//!
//! HTTP/2 with prior knowledge begins with `PRI * HTTP/2.0`, a link between members with words of its own; no HTTP/1.1
//! request does. The bytes that told are given back in front of the rest. Through TLS it is told the same way, whatever
//! was agreed on there.

use core::net::IpAddr;
use core::pin::Pin;
use core::task::{Context as TaskContext, Poll};
use core::time::Duration;
use std::sync::Arc;

use bytes::{Buf, Bytes};
use cairn_engine::peer::hello::PREFACE;
use cairn_io::runtime::{Connection as Io, Runtime};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::context::Context;
use crate::lobby::Silent;
use crate::tls::peer::PeerAcceptor;
use crate::tls::server::HANDSHAKE_LIMIT;
use crate::tls::{self, Acceptor};
use crate::web::Door;
use crate::{grpc, http1, peers};

/// How long a client may take to say its first words.
const FIRST_WORDS_LIMIT: Duration = Duration::from_secs(30);
const HTTP2: &[u8] = b"PRI * HTTP/2.0\r\n";

/// What a listener serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Face {
    /// gRPC, and HTTP/1.1 beside it.
    Clients,
    /// HTTP/1.1 alone, because gRPC has addresses of its own.
    Http,
    /// Metrics and health alone.
    Metrics,
    /// Links to other members, and HTTP/1.1 beside them.
    Peers,
}

impl Face {
    /// How those begin that do not speak HTTP/1.1.
    const fn preface(self) -> &'static [u8] {
        match self {
            Self::Clients | Self::Http | Self::Metrics => HTTP2,
            Self::Peers => PREFACE,
        }
    }
}

/// Serves a connection until it ends. `from` is the other side's address, if it has one.
pub async fn serve<R: Runtime>(server: Context<R>, mut io: Io, face: Face, from: Option<IpAddr>) {
    let _counted = server.count_connection();
    let Some(first) = first_words(&server, &mut io, face).await else { return };
    let serves_gateway = face != Face::Metrics;
    let visitor = server.visitor(from);
    let door = Door { serves_gateway, is_secure: false, common_name: None, visitor };
    // What waits for its first words should not have the size of what comes then.
    Box::pin(speak(server, io, first, face, door)).await;
}

/// What makes a connection secret.
#[derive(Clone, Debug)]
pub enum Secrecy {
    /// A client's.
    Clients(Acceptor),
    /// A member's.
    Peers(PeerAcceptor),
}

/// Serves a connection that is to be secured first. `from` is the other side's address, if it has one.
pub async fn serve_secured<R: Runtime>(
    server: Context<R>,
    mut io: Io,
    face: Face,
    secrecy: Secrecy,
    from: Option<IpAddr>,
) {
    let _counted = server.count_connection();
    let hello = server.lobby().first_words::<R>(&mut io, HANDSHAKE_LIMIT, tls::is_hello).await;
    let first = match hello {
        Ok(first) => first,
        Err(Silent::Gone(error)) => {
            return match secrecy {
                Secrecy::Clients(_) => reject(from, &error),
                // Members look in this way whether somebody listens.
                Secrecy::Peers(_) => {}
            };
        }
        Err(Silent::Ended) => return,
    };
    Box::pin(secure(server, Box::new(Replayed { first, io }), face, secrecy, from)).await;
}

async fn secure<R: Runtime>(
    server: Context<R>,
    io: Io,
    face: Face,
    secrecy: Secrecy,
    from: Option<IpAddr>,
) {
    let mut common_name = None;
    let mut secured = match secrecy {
        Secrecy::Clients(acceptor) => match server.unless_stopped(acceptor.accept::<R>(io)).await {
            Some(Ok(secured)) => {
                let named = secured.certificate.filter(|_| server.accounts().by_certificate());
                let name = named.and_then(|shown| tls::names::common_name(&shown));
                common_name = name.filter(|name| !name.is_empty()).map(Arc::from);
                secured.io
            }
            Some(Err(error)) => return reject(from, &error),
            None => return,
        },
        Secrecy::Peers(acceptor) => {
            match server.unless_stopped(acceptor.accept::<R>(io, from)).await {
                Some(Ok(io)) => io,
                // Members try for ever: once says it all.
                Some(Err(error)) if acceptor.is_news(from, &error) => {
                    let remote_addr = from.map(|from| from.to_string()).unwrap_or_default();
                    return tracing::warn!(
                        remote_addr,
                        error,
                        "rejected connection on peer endpoint"
                    );
                }
                Some(Err(_)) | None => return,
            }
        }
    };
    let Some(first) = first_words(&server, &mut secured, face).await else { return };
    let (serves_gateway, visitor) = (face != Face::Metrics, server.visitor(from));
    let door = Door { serves_gateway, is_secure: true, common_name, visitor };
    Box::pin(speak(server, secured, first, face, door)).await;
}

fn reject(from: Option<IpAddr>, error: &dyn core::fmt::Display) {
    let remote_addr = from.map(|from| from.to_string()).unwrap_or_default();
    tracing::warn!(remote_addr, error = %error, "rejected connection on client endpoint");
}

/// Reads until it is clear whether the other side begins with a preface; `None`: it says nothing.
async fn first_words<R: Runtime>(server: &Context<R>, io: &mut Io, face: Face) -> Option<Bytes> {
    let preface = face.preface();
    let is_enough = |first: &[u8]| {
        let compared = first.len().min(preface.len());
        compared == preface.len() || first[..compared] != preface[..compared]
    };
    server.lobby().first_words::<R>(io, FIRST_WORDS_LIMIT, is_enough).await.ok()
}

async fn speak<R: Runtime>(server: Context<R>, io: Io, first: Bytes, face: Face, door: Door) {
    let has_preface = first.starts_with(face.preface());
    if face == Face::Peers && has_preface {
        // Peers are listened to on the first core only.
        let acceptor = server.handle().peer_acceptor().expect("the first core has the links");
        return acceptor.adopt(io, first);
    }
    let io: Io = Box::new(Replayed { first, io });
    match face {
        Face::Clients if has_preface => grpc::connection::serve(server, io, door).await,
        Face::Clients | Face::Http | Face::Metrics => http1::serve(server, io, door).await,
        Face::Peers => peers::serve_http(server, io).await,
    }
}

/// A connection whose first bytes were read already.
struct Replayed {
    first: Bytes,
    io: Io,
}

impl AsyncRead for Replayed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut TaskContext<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        if self.first.is_empty() {
            return Pin::new(&mut self.io).poll_read(context, buffer);
        }
        let len = self.first.len().min(buffer.remaining());
        buffer.put_slice(&self.first[..len]);
        self.first.advance(len);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Replayed {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut TaskContext<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_flush(
        mut self: Pin<&mut Self>,
        context: &mut TaskContext<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(
        mut self: Pin<&mut Self>,
        context: &mut TaskContext<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut TaskContext<'_>,
        parts: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}
