//! How a member that joins finds out whose cluster it is, and which id it was given.
//!
//! It was added before, by its peer URLs; so it asks the others for the list of members, over HTTP or HTTPS on their peer
//! ports (`GET /members`, as etcd does), and looks for its own URLs there. Whom to ask, `--initial-cluster` says.
//!
//! Unlike etcd, it asks again for a while if nobody answers or the list does not have it yet: whoever adds a member and
//! starts it need not do so in that order, and the list of a member that lags is old. And the rest of
//! `--initial-cluster` need not match the list: what counts is what the cluster says of itself.

use core::fmt;
use core::time::Duration;
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::os::unix::net::UnixStream;
use std::thread;

use cairn_engine::ids::{ClusterId, MemberId};
use cairn_io::clock;
use serde_json::Value;

use crate::config::Config;
use crate::config::url::Url;
use crate::identity::{Identity, texts};
use crate::log;
use crate::tls::peer::PeerTls;

/// The header that names a cluster, in hexadecimal.
pub const CLUSTER_ID_HEADER: &str = "x-etcd-cluster-id";

/// Why a member does not know which cluster it joins.
#[derive(Debug)]
pub enum Unknown {
    /// `--initial-cluster` names nobody else.
    NobodyToAsk,
    /// None of the others answered with a list of members; what the last one did.
    NoAnswer(String),
    /// They answered, and this member is not among theirs.
    NotAdded(String),
}

/// The members of a cluster, as one of them told.
#[derive(Debug, PartialEq, Eq)]
pub struct Told {
    /// Which cluster it is.
    pub cluster: ClusterId,
    /// Its members, each with its URLs for peers.
    pub members: Vec<(MemberId, Vec<String>)>,
}

/// Asks the others until one of them knows this member, for a while. `interrupted` is asked between attempts and may
/// end the process.
///
/// # Errors
/// If nobody knows it.
pub fn find(
    config: &Config,
    tls: Option<&PeerTls>,
    mut interrupted: impl FnMut(),
) -> Result<Identity, Unknown> {
    let others: Vec<&Url> = config
        .initial_cluster
        .iter()
        .filter(|(name, _)| *name != config.name)
        .flat_map(|(_, urls)| urls)
        .collect();
    if others.is_empty() {
        return Err(Unknown::NobodyToAsk);
    }
    let own = texts(config.initial_cluster.urls(&config.name).unwrap_or_default());
    let give_up = clock::monotonic_ns() + clock::saturating_ns(PATIENCE);
    loop {
        let unknown = match attempt(&others, tls, &own) {
            Ok(identity) => return Ok(identity),
            Err(unknown) => unknown,
        };
        if clock::monotonic_ns() >= give_up {
            return Err(unknown);
        }
        let peer_urls = log::list(&others.iter().map(|url| url.as_str()).collect::<Vec<_>>());
        tracing::warn!(
            error = %unknown,
            remote_peer_urls = peer_urls.field(),
            "cannot join the cluster yet; will ask again"
        );
        pause(&mut interrupted);
    }
}

/// Waits for a second, and asks now and then whether it should go on.
pub(crate) fn pause(interrupted: &mut impl FnMut()) {
    for _ in 0..LOOKS {
        thread::sleep(LOOK);
        interrupted();
    }
}

/// How long to ask before giving up; then whoever started the process may start it again.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often to look for a signal, and how many times between two attempts: a second together.
const LOOK: Duration = Duration::from_millis(20);
const LOOKS: u32 = 50;

fn attempt(others: &[&Url], tls: Option<&PeerTls>, own: &[String]) -> Result<Identity, Unknown> {
    let mut unknown = Unknown::NobodyToAsk;
    for url in others {
        match ask(url, tls) {
            Ok(told) => match told.identity(own) {
                Some(identity) => return Ok(identity),
                None => unknown = Unknown::NotAdded(own.join(",")),
            },
            // That somebody answered says more than that somebody else did not.
            Err(_) if matches!(unknown, Unknown::NotAdded(_)) => {}
            Err(error) => unknown = Unknown::NoAnswer(format!("{url}: {error}")),
        }
    }
    Err(unknown)
}

impl Told {
    /// The member with exactly these URLs, which are sorted.
    pub fn identity(&self, own: &[String]) -> Option<Identity> {
        let (id, _) = self.members.iter().find(|(_, urls)| {
            let mut urls = urls.clone();
            urls.sort();
            urls == own
        })?;
        Some(Identity { cluster: self.cluster, id: *id, members: Vec::new() })
    }

    /// Reads an answer: head and body.
    ///
    /// # Errors
    /// If it is no list of members, and why.
    pub fn parse(answer: &[u8]) -> Result<Self, String> {
        let text = core::str::from_utf8(answer).map_err(|_| "the answer is no text".to_owned())?;
        let (head, body) = text.split_once("\r\n\r\n").ok_or("the answer breaks off")?;
        let mut lines = head.split("\r\n");
        let status = lines.next().unwrap_or_default();
        if status.split(' ').nth(1) != Some("200") {
            return Err(format!("the answer is {status:?}"));
        }
        let mut headers = lines.filter_map(|line| line.split_once(':'));
        let cluster = headers.find(|(name, _)| name.eq_ignore_ascii_case(CLUSTER_ID_HEADER));
        let cluster = cluster.and_then(|(_, id)| u64::from_str_radix(id.trim(), 16).ok());
        let cluster = ClusterId(cluster.ok_or("the answer names no cluster")?);
        let members = serde_json::from_str(body).ok().and_then(|list: Value| members_of(&list));
        Ok(Self { cluster, members: members.ok_or("the answer is no list of members")? })
    }
}

fn members_of(list: &Value) -> Option<Vec<(MemberId, Vec<String>)>> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let member = |value: &Value| {
        let urls = value["peerURLs"].as_array()?.iter().map(text).collect::<Option<_>>()?;
        Some((MemberId(value["id"].as_u64()?), urls))
    };
    list.as_array()?.iter().map(member).collect()
}

/// Asks one member.
fn ask(url: &Url, tls: Option<&PeerTls>) -> Result<Told, String> {
    let tls = match tls {
        Some(tls) if url.is_tls() => Some(tls),
        None if url.is_tls() => {
            return Err("this member has no TLS: give it --peer-cert-file, --peer-key-file and \
                        --peer-trusted-ca-file, or --peer-auto-tls"
                .to_owned());
        }
        Some(_) | None => None,
    };
    let failed = |error: io::Error| error.to_string();
    let answer = match (url.host(), url.port(), url.unix_path()) {
        (Some(host), Some(port), _) => {
            let stream = dial(host, port).map_err(failed)?;
            stream.set_read_timeout(Some(TIMEOUT)).map_err(failed)?;
            stream.set_write_timeout(Some(TIMEOUT)).map_err(failed)?;
            match tls {
                Some(tls) => converse(tls.connect_blocking(stream, host)?, host),
                None => converse(stream, &format!("{host}:{port}")),
            }
        }
        (_, _, Some(path)) => {
            let stream = UnixStream::connect(path).map_err(failed)?;
            stream.set_read_timeout(Some(TIMEOUT)).map_err(failed)?;
            stream.set_write_timeout(Some(TIMEOUT)).map_err(failed)?;
            match tls {
                Some(tls) => converse(tls.connect_blocking(stream, "localhost")?, "localhost"),
                None => converse(stream, "localhost"),
            }
        }
        _ => unreachable!("a URL has a host and a port, or a path"),
    };
    Told::parse(&answer.map_err(failed)?)
}

fn dial(host: &str, port: u16) -> io::Result<TcpStream> {
    let mut failed = io::Error::from(io::ErrorKind::NotFound);
    for address in (host, port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, TIMEOUT) {
            Ok(stream) => return Ok(stream),
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

/// One question and its answer, in the old version of HTTP whose answers end with the connection.
fn converse(mut stream: impl Read + Write, host: &str) -> io::Result<Vec<u8>> {
    write!(stream, "GET /members HTTP/1.0\r\nHost: {host}\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer)?;
    Ok(answer)
}

/// How long one member may take to be reached, and then to answer.
const TIMEOUT: Duration = Duration::from_secs(5);
/// What a list of members may be long.
const ANSWER_BYTES_MAX: u64 = 1 << 20;

impl fmt::Display for Unknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NobodyToAsk => f.write_str(
                "--initial-cluster-state is existing, but --initial-cluster has nobody to ask",
            ),
            Self::NoAnswer(why) => write!(f, "cannot fetch cluster info from peer urls: {why}"),
            Self::NotAdded(urls) => write!(
                f,
                "the cluster has no member with exactly the peer URLs {urls}: add it first (etcdctl member add), or \
                 correct --initial-cluster"
            ),
        }
    }
}

impl core::error::Error for Unknown {}

#[cfg(test)]
mod tests {
    use super::*;

    /// What etcd 3.7.3 answers on its peer port, shortened.
    const ANSWER: &str = "HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\
        X-Etcd-Cluster-Id: cdf818194e3a8c32\r\nContent-Length: 128\r\n\r\n\
        [{\"id\":10276657743932975437,\"peerURLs\":[\"http://b:2380\",\"http://a:2380\"],\"name\":\"default\",\
        \"clientURLs\":[\"http://localhost:2379\"]},{\"id\":7,\"peerURLs\":[\"http://c:2380\"],\"isLearner\":true}]\n";

    #[test]
    fn a_member_finds_its_id_by_its_urls() {
        let told = Told::parse(ANSWER.as_bytes()).unwrap();
        let identity = |urls: &[&str]| {
            let urls: Vec<_> = urls.iter().map(|url| (*url).to_owned()).collect();
            told.identity(&urls).map(|identity| (identity.cluster.0, identity.id.0))
        };
        let cluster = 0xcdf8_1819_4e3a_8c32;
        assert_eq!(identity(&["http://c:2380"]), Some((cluster, 7)));
        let default = Some((cluster, 10_276_657_743_932_975_437));
        assert_eq!(identity(&["http://a:2380", "http://b:2380"]), default);
        assert_eq!(identity(&["http://a:2380"]), None);
    }

    #[test]
    fn other_answers_are_refused() {
        let why = |answer: &str| Told::parse(answer.as_bytes()).unwrap_err();
        assert_eq!(why(""), "the answer breaks off");
        assert_eq!(
            why("HTTP/1.1 404 Not Found\r\n\r\n"),
            "the answer is \"HTTP/1.1 404 Not Found\""
        );
        assert_eq!(why("HTTP/1.1 200 OK\r\n\r\n[]"), "the answer names no cluster");
        let cluster = "HTTP/1.1 200 OK\r\nX-Etcd-Cluster-ID: 1\r\n\r\n";
        for body in
            ["", "{}", "[{}]", r#"[{"id":-1,"peerURLs":[]}]"#, r#"[{"id":1,"peerURLs":[2]}]"#]
        {
            assert_eq!(why(&format!("{cluster}{body}")), "the answer is no list of members");
        }
    }
}
