//! How the members of a new cluster find each other when nobody names them: by names in DNS (`--discovery-srv`), or by
//! asking another cluster of etcd's kind that they all know (`--discovery-endpoints`, `--discovery-token`).
//!
//! Either way the result is what `--initial-cluster` would have said; it counts once, before there is data. Keys, names
//! and texts are etcd's (`v3discovery/discovery.go`, `srv/srv.go`), so that members of Cairn use what was set up for etcd.
//!
//! Limits: the other cluster is asked over its JSON gateway, which etcd has unless it was switched off, and is asked again
//! each second instead of being watched. DNS is asked over UDP, then over TCP if the answer was cut off, at the servers of
//! `/etc/resolv.conf`; search lists and DNSSEC are not looked at.

use core::fmt;
use core::net::{IpAddr, SocketAddr};
use core::time::Duration;
use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _, UdpSocket};
use std::path::PathBuf;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use simple_dns::rdata::RData;
use simple_dns::{CLASS, Name, Packet, PacketFlag, Question, TYPE};

use crate::config::Config;
use crate::config::cluster::InitialCluster;
use crate::config::url::Url;
use crate::gateway_client::{Client, Files, Unanswered, client_tls};
use crate::identity::Identity;

/// How to look for the other members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Discovery {
    /// By `_etcd-server-ssl._tcp.<domain>` and `_etcd-server._tcp.<domain>`.
    Srv {
        /// The domain.
        domain: String,
        /// A suffix of the service's name; empty: none.
        suffix: String,
    },
    /// By asking another cluster.
    Service(Service),
}

/// Another cluster, and what to ask it for.
#[derive(Clone, PartialEq, Eq)]
pub struct Service {
    /// Where it is.
    pub endpoints: Vec<String>,
    /// Which cluster is meant; also the new cluster's token.
    pub token: String,
    /// How long an answer may take.
    pub request_timeout: Duration,
    /// Whether to believe anybody there.
    pub skip_verify: bool,
    /// The certificate to show there.
    pub cert_file: Option<PathBuf>,
    /// Its key.
    pub key_file: Option<PathBuf>,
    /// Who may have signed the certificate there.
    pub trusted_ca_file: Option<PathBuf>,
    /// Who asks; empty: nobody in particular.
    pub user: String,
    /// The password.
    pub password: String,
}

/// Why the members were not found.
#[derive(Debug)]
pub struct NotFound(String);

/// Finds them. `pause` waits for a moment between two questions, and may end the process.
///
/// # Errors
/// If they cannot be found, however often one asks.
pub fn find(
    config: &Config,
    discovery: &Discovery,
    pause: impl FnMut(),
) -> Result<Config, NotFound> {
    let (initial_cluster, token) = match discovery {
        Discovery::Srv { domain, suffix } => {
            (by_names(config, domain, suffix)?, config.initial_cluster_token.clone())
        }
        Discovery::Service(service) => (by_service(config, service, pause)?, service.token.clone()),
    };
    tracing::info!(cluster = %initial_cluster, "discovery joined cluster successfully");
    Ok(Config { initial_cluster, initial_cluster_token: token, ..config.clone() })
}

// By names.

fn by_names(config: &Config, domain: &str, suffix: &str) -> Result<InitialCluster, NotFound> {
    let servers = name_servers(&fs::read_to_string("/etc/resolv.conf").unwrap_or_default());
    let suffix = if suffix.is_empty() { String::new() } else { format!("-{suffix}") };
    let mut places = Vec::new();
    let mut failed = Vec::new();
    for (service, scheme) in [("etcd-server-ssl", "https"), ("etcd-server", "http")] {
        let name = format!("_{service}{suffix}._tcp.{domain}");
        match look_up(&servers, &name) {
            Ok(found) => places.extend(found.into_iter().map(|place| (scheme, place))),
            Err(error) => failed.push(format!("{name}: {error}")),
        }
    }
    if places.is_empty() {
        let why = failed.join("; ");
        return Err(NotFound(format!("error querying DNS SRV records: {why}")));
    }
    let resolve = |host: &str, port: u16| -> BTreeSet<SocketAddr> {
        (host, port).to_socket_addrs().map(Iterator::collect).unwrap_or_default()
    };
    let own: BTreeSet<SocketAddr> = config
        .initial_advertise_peer_urls
        .iter()
        .filter_map(|url| Some(resolve(url.host()?, url.port()?)))
        .flatten()
        .collect();
    named(&config.name, &places, |(host, port)| !own.is_disjoint(&resolve(host, *port)))
}

/// Names for places: our own for where we are, and numbers for all others, which nobody ever sees.
fn named(
    name: &str,
    places: &[(&str, (String, u16))],
    is_own: impl Fn(&(String, u16)) -> bool,
) -> Result<InitialCluster, NotFound> {
    let mut number = 0;
    let mut parts = Vec::new();
    for (scheme, place) in places {
        let (host, port) = place;
        if is_own(place) {
            parts.push(format!("{name}={scheme}://{host}:{port}"));
        } else {
            parts.push(format!("{number}={scheme}://{host}:{port}"));
            number += 1;
        }
    }
    InitialCluster::parse(&parts.join(",")).map_err(|error| NotFound(error.to_string()))
}

/// The addresses of the name servers that a file names.
fn name_servers(text: &str) -> Vec<SocketAddr> {
    let addresses = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        (words.next()? == "nameserver").then(|| words.next()?.parse::<IpAddr>().ok())?
    });
    let servers = Vec::from_iter(addresses.map(|address| SocketAddr::new(address, DNS_PORT)));
    // As a resolver does whose file says nothing.
    if servers.is_empty() { vec![SocketAddr::from(([127, 0, 0, 1], DNS_PORT))] } else { servers }
}

/// Hosts and ports behind a name.
fn look_up(servers: &[SocketAddr], name: &str) -> Result<Vec<(String, u16)>, String> {
    let id = getrandom::u32().map_err(|error| error.to_string())?;
    let [high, low, ..] = id.to_be_bytes();
    let id = u16::from_be_bytes([high, low]);
    let question = question(id, name)?;
    let mut last = "there is no name server".to_owned();
    for server in servers {
        for _ in 0..DNS_ATTEMPTS {
            let asked = ask_udp(*server, &question).map_err(|error| error.to_string());
            let answer = asked.and_then(|answer| read_answer(id, &answer)).and_then(|told| {
                let Some(told) = told else {
                    let answer = ask_tcp(*server, &question).map_err(|error| error.to_string())?;
                    return Ok(read_answer(id, &answer)?.unwrap_or_default());
                };
                Ok(told)
            });
            match answer {
                Ok(found) if found.is_empty() => return Err("no such host".to_owned()),
                Ok(found) => return Ok(found),
                Err(error) => last = format!("{server}: {error}"),
            }
        }
    }
    Err(last)
}

fn question(id: u16, name: &str) -> Result<Vec<u8>, String> {
    let name = Name::new(name).map_err(|error| error.to_string())?;
    let mut packet = Packet::new_query(id);
    packet.set_flags(PacketFlag::RECURSION_DESIRED);
    packet.questions.push(Question::new(name, TYPE::SRV.into(), CLASS::IN.into(), false));
    packet.build_bytes_vec().map_err(|error| error.to_string())
}

fn ask_udp(server: SocketAddr, question: &[u8]) -> io::Result<Vec<u8>> {
    let own = if server.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(own)?;
    // From then on only this server is heard.
    socket.connect(server)?;
    socket.set_read_timeout(Some(DNS_LIMIT))?;
    socket.send(question)?;
    let mut answer = vec![0; usize::from(u16::MAX)];
    let len = socket.recv(&mut answer)?;
    answer.truncate(len);
    Ok(answer)
}

fn ask_tcp(server: SocketAddr, question: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&server, DNS_LIMIT)?;
    stream.set_read_timeout(Some(DNS_LIMIT))?;
    let len = u16::try_from(question.len()).map_err(io::Error::other)?;
    stream.write_all(&len.to_be_bytes())?;
    stream.write_all(question)?;
    let mut len = [0; 2];
    stream.read_exact(&mut len)?;
    let mut answer = vec![0; usize::from(u16::from_be_bytes(len))];
    stream.read_exact(&mut answer)?;
    Ok(answer)
}

/// Reads an answer of DNS to the question `id`: hosts and ports, best first; `None`: it was cut off.
///
/// # Errors
/// If it is no answer, or one to another question.
pub fn read_answer(id: u16, answer: &[u8]) -> Result<Option<Vec<(String, u16)>>, String> {
    let packet = Packet::parse(answer).map_err(|error| error.to_string())?;
    if packet.id() != id {
        return Err("the answer is to another question".to_owned());
    }
    if packet.has_flags(PacketFlag::TRUNCATION) {
        return Ok(None);
    }
    let mut found = Vec::new();
    for record in &packet.answers {
        if let RData::SRV(srv) = &record.rdata {
            let host = srv.target.to_string().trim_end_matches('.').to_owned();
            found.push(((srv.priority, core::cmp::Reverse(srv.weight)), (host, srv.port)));
        }
    }
    found.sort();
    Ok(Some(found.into_iter().map(|(_, place)| place).collect()))
}

const DNS_PORT: u16 = 53;
const DNS_LIMIT: Duration = Duration::from_secs(5);
const DNS_ATTEMPTS: u32 = 2;

// By asking another cluster.

fn by_service(
    config: &Config,
    service: &Service,
    mut pause: impl FnMut(),
) -> Result<InitialCluster, NotFound> {
    let alone = InitialCluster::of_one(&config.name, &config.initial_advertise_peer_urls);
    let own = Config {
        initial_cluster: alone.clone(),
        initial_cluster_token: service.token.clone(),
        ..config.clone()
    };
    let id = Identity::at_bootstrap(&own).map_err(|error| NotFound(error.to_string()))?.id;
    let root = format!("/_etcd/registry/{}", service.token);
    let own_key = format!("{root}/members/{id}");
    let mut client = service.client()?;
    if !service.user.is_empty() {
        let question = json!({"name": service.user, "password": service.password});
        let answer = patiently(&client, "/v3/auth/authenticate", &question, &mut pause)?;
        client.token = answer["token"].as_str().map(str::to_owned);
    }
    by_registry(&client, &root, &own_key, &alone.to_string(), pause)
}

/// Asks until somebody answers.
fn patiently(
    client: &Client,
    path: &str,
    question: &Value,
    pause: &mut impl FnMut(),
) -> Result<Value, NotFound> {
    loop {
        match client.ask(path, question) {
            Ok(answer) => return Ok(answer),
            Err(Unanswered::Refused(why)) => return Err(NotFound(format!("discovery: {why}"))),
            Err(error) => {
                tracing::warn!(error = %error, "cannot ask the discovery service; will ask again");
                pause();
            }
        }
    }
}

fn by_registry(
    client: &Client,
    root: &str,
    own_key: &str,
    own: &str,
    mut pause: impl FnMut(),
) -> Result<InitialCluster, NotFound> {
    let ask = |path: &str, question: &Value, pause: &mut dyn FnMut()| {
        patiently(client, path, question, &mut || pause())
    };
    let size =
        ask("/v3/kv/range", &json!({"key": encoded(&format!("{root}/_config/size"))}), &mut pause)?;
    let size = size["kvs"][0]["value"].as_str();
    let size = size.ok_or_else(|| NotFound("discovery: size key not found".to_owned()))?;
    let size = decoded(size).trim().parse::<usize>().ok().filter(|size| *size > 0);
    let size = size.ok_or_else(|| NotFound("discovery: size key is bad".to_owned()))?;
    let members = format!("{root}/members");
    // The sign behind a slash, in ASCII, ends all that is below it.
    let question = json!({
        "key": encoded(&format!("{members}/")),
        "range_end": encoded(&format!("{members}0")),
        "sort_target": "CREATE",
        "sort_order": "ASCEND",
    });
    let mut told = registered(&ask("/v3/kv/range", &question, &mut pause)?);
    let is_among =
        |told: &[(String, String)]| told.iter().take(size).any(|(key, _)| key == own_key);
    if !is_among(&told) {
        if told.len() >= size {
            return Err(NotFound("discovery: cluster is full".to_owned()));
        }
        ask("/v3/kv/put", &json!({"key": encoded(own_key), "value": encoded(own)}), &mut pause)?;
        tracing::info!(member_key = own_key, "register member successfully");
        told = registered(&ask("/v3/kv/range", &question, &mut pause)?);
    }
    while told.len() < size {
        tracing::info!(
            found = told.len(),
            wanted = size,
            "waiting for peers from discovery service"
        );
        pause();
        told = registered(&ask("/v3/kv/range", &question, &mut pause)?);
    }
    if !is_among(&told) {
        return Err(NotFound("discovery: cluster is full".to_owned()));
    }
    let parts = Vec::from_iter(told.into_iter().take(size).map(|(_, part)| part));
    InitialCluster::parse(&parts.join(",")).map_err(|error| NotFound(error.to_string()))
}

/// Keys and values of those who have registered, the first first.
fn registered(answer: &Value) -> Vec<(String, String)> {
    let kvs = answer["kvs"].as_array().into_iter().flatten();
    kvs.map(|kv| {
        let text = |name: &str| decoded(kv[name].as_str().unwrap_or_default()).trim().to_owned();
        (text("key"), text("value"))
    })
    .collect()
}

impl Service {
    fn client(&self) -> Result<Client, NotFound> {
        let endpoint = |text: &String| {
            let url = if text.contains("://") { text.clone() } else { format!("http://{text}") };
            Url::parse(&url).map_err(|error| NotFound(error.to_string()))
        };
        let files = Files {
            trusted: self.trusted_ca_file.clone(),
            cert: self.cert_file.clone(),
            key: self.key_file.clone(),
            skip_verify: self.skip_verify,
        };
        Ok(Client {
            endpoints: self.endpoints.iter().map(endpoint).collect::<Result<_, _>>()?,
            tls: client_tls(&files).map_err(NotFound)?,
            token: None,
            patience: Some(self.request_timeout),
        })
    }
}

fn encoded(text: &str) -> String {
    BASE64_STANDARD.encode(text)
}

fn decoded(text: &str) -> String {
    String::from_utf8_lossy(&BASE64_STANDARD.decode(text).unwrap_or_default()).into_owned()
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // User and password are nobody's business.
        let mut shown = f.debug_struct("Service");
        shown.field("endpoints", &self.endpoints).field("token", &self.token);
        shown.finish_non_exhaustive()
    }
}

impl fmt::Display for NotFound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl core::error::Error for NotFound {}

#[cfg(test)]
mod tests {
    use std::thread;

    use simple_dns::ResourceRecord;
    use simple_dns::rdata::SRV;

    use super::*;

    #[test]
    fn the_file_of_resolvers_is_read() {
        let text =
            "# a comment\nsearch example\nnameserver 192.0.2.1\nnameserver ::1 \nnameserver x\n";
        let servers = name_servers(text);
        assert_eq!(servers, ["192.0.2.1:53".parse().unwrap(), "[::1]:53".parse().unwrap()]);
        assert_eq!(name_servers("")[0].to_string(), "127.0.0.1:53");
    }

    #[test]
    fn places_have_names() {
        let places = ["b", "a"].map(|host| ("http", (host.to_owned(), 2380)));
        let cluster = named("me", &places, |(host, _)| host == "a").unwrap();
        assert_eq!(cluster.to_string(), "0=http://b:2380,me=http://a:2380");
    }

    /// A server that answers one question with these places.
    fn serve(places: &[(u16, &'static str, u16)]) -> (SocketAddr, thread::JoinHandle<String>) {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let places = places.to_vec();
        let served = thread::spawn(move || {
            let mut bytes = [0; 512];
            let (len, from) = socket.recv_from(&mut bytes).unwrap();
            let asked = Packet::parse(&bytes[..len]).unwrap();
            let mut answer = Packet::new_reply(asked.id());
            for (priority, target, port) in places {
                let target = Name::new_unchecked(target);
                let srv = SRV { priority, weight: 0, port, target };
                let name = asked.questions[0].qname.clone();
                answer.answers.push(ResourceRecord::new(name, CLASS::IN, 60, RData::SRV(srv)));
            }
            socket.send_to(&answer.build_bytes_vec().unwrap(), from).unwrap();
            asked.questions[0].qname.to_string()
        });
        (address, served)
    }

    #[test]
    fn names_are_looked_up() {
        let (server, served) = serve(&[(2, "b.example", 2), (1, "a.example", 1)]);
        let found = look_up(&[server], "_etcd-server._tcp.example").unwrap();
        assert_eq!(found, [("a.example".to_owned(), 1), ("b.example".to_owned(), 2)]);
        assert_eq!(served.join().unwrap(), "_etcd-server._tcp.example");
        let (server, served) = serve(&[]);
        assert_eq!(look_up(&[server], "_x._tcp.example").unwrap_err(), "no such host");
        served.join().unwrap();
    }

    #[test]
    fn answers_to_others_are_not_believed() {
        let packet = Packet::new_reply(7);
        let bytes = packet.build_bytes_vec().unwrap();
        assert!(read_answer(8, &bytes).is_err());
        assert_eq!(read_answer(7, &bytes), Ok(Some(Vec::new())));
        assert!(read_answer(7, b"nonsense").is_err());
    }
}
