//! The commands of every day: `cairn get`, `put`, `del`, `watch`, `member list`, `endpoint status|health`.
//!
//! Names, flags and what they print are etcdctl's, as far as they go, so that fingers need not learn; for everything
//! else there is etcdctl. They ask over the JSON gateway ([`crate::gateway_client`]), and with `-w json` show what it
//! answers.

mod show;

use core::time::Duration;
use std::env;
use std::io::{self, BufRead as _, Read as _, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Map, Value, json};

use self::show::{Format, table};
use crate::config::url::Url;
use crate::gateway_client::{Client, Files, Unanswered, client_tls};

/// Whom to ask, and how to show it.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Common {
    /// Members to ask, with commas; the first that can be reached is asked [variable: `ETCDCTL_ENDPOINTS`]
    #[arg(long, value_delimiter = ',', value_name = "URLS")]
    endpoints: Vec<String>,
    /// Who may have signed the members' certificates
    #[arg(long, value_name = "FILE")]
    cacert: Option<PathBuf>,
    /// The certificate to show
    #[arg(long, value_name = "FILE", requires = "cert_key")]
    cert: Option<PathBuf>,
    /// Its key
    #[arg(long = "key", value_name = "FILE", requires = "cert")]
    cert_key: Option<PathBuf>,
    /// Believe any certificate
    #[arg(long)]
    insecure_skip_tls_verify: bool,
    /// Who asks, as name:password
    #[arg(long, value_name = "NAME:PASSWORD")]
    user: Option<String>,
    /// How long a member may take, in seconds
    #[arg(long, default_value_t = 5, value_name = "SECONDS")]
    command_timeout: u64,
    /// How to show it
    #[arg(short, long, value_enum, default_value_t = Format::Simple)]
    write_out: Format,
}

/// Which keys.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Keys {
    /// The key, or the first of a range
    key: String,
    /// The end of the range, which is not in it
    #[arg(conflicts_with_all = ["prefix", "from_key"])]
    range_end: Option<String>,
    /// All keys that begin with it
    #[arg(long, conflicts_with = "from_key")]
    prefix: bool,
    /// All keys from it on
    #[arg(long)]
    from_key: bool,
}

/// Show keys and their values
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Get {
    #[command(flatten)]
    keys: Keys,
    /// So many keys at most; 0: all
    #[arg(long, default_value_t = 0)]
    limit: u64,
    /// As it was at this revision
    #[arg(long, default_value_t = 0)]
    rev: u64,
    /// Only keys
    #[arg(long, conflicts_with = "print_value_only")]
    keys_only: bool,
    /// Only values
    #[arg(long)]
    print_value_only: bool,
    /// Whatever the member has, even if it lags
    #[arg(long)]
    serializable: bool,
    #[command(flatten)]
    common: Common,
}

/// Write a key
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Put {
    /// The key
    key: String,
    /// The value; without it, or with -, standard input
    value: Option<String>,
    /// The lease that it ends with, in hexadecimal
    #[arg(long, value_name = "ID", default_value = "0")]
    lease: String,
    #[command(flatten)]
    common: Common,
}

/// Delete keys
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Del {
    #[command(flatten)]
    keys: Keys,
    #[command(flatten)]
    common: Common,
}

/// Show what happens to keys, until it is interrupted
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Watch {
    #[command(flatten)]
    keys: Keys,
    /// From this revision on
    #[arg(long, default_value_t = 0)]
    rev: u64,
    #[command(flatten)]
    common: Common,
}

/// About members
#[derive(Clone, Debug, clap::Subcommand)]
pub(super) enum Member {
    /// Show who they are
    List(Common),
}

/// About endpoints
#[derive(Clone, Debug, clap::Subcommand)]
pub(super) enum Endpoint {
    /// Show how each is
    Status(Common),
    /// Show whether each takes writes; 1 if one does not
    Health(Common),
}

/// Shows keys.
pub(super) fn get(command: &Get) -> ExitCode {
    run(&command.common, |client, out| {
        let Get { keys, limit, rev, keys_only, serializable, .. } = command;
        let mut question = keys.question();
        question.insert("limit".to_owned(), json!(limit));
        question.insert("revision".to_owned(), json!(rev));
        question.insert("keys_only".to_owned(), json!(keys_only));
        question.insert("serializable".to_owned(), json!(serializable));
        let answer = client.ask("/v3/kv/range", &Value::Object(question))?;
        if command.common.write_out == Format::Json {
            return Ok(writeln!(out, "{answer}")?);
        }
        for kv in answer["kvs"].as_array().into_iter().flatten() {
            if !command.print_value_only {
                line(out, &bytes(&kv["key"]))?;
            }
            if !keys_only {
                line(out, &bytes(&kv["value"]))?;
            }
        }
        Ok(())
    })
}

/// Writes a key.
pub(super) fn put(command: &Put) -> ExitCode {
    run(&command.common, |client, out| {
        let value = match command.value.as_deref() {
            Some(value) if value != "-" => value.as_bytes().to_vec(),
            _ => {
                let mut value = Vec::new();
                io::stdin().read_to_end(&mut value)?;
                value
            }
        };
        let lease = i64::from_str_radix(&command.lease, 16)
            .map_err(|_| Failed(format!("{:?} is no lease in hexadecimal", command.lease)))?;
        let question = json!({"key": encoded(command.key.as_bytes()), "value": encoded(&value), "lease": lease});
        let answer = client.ask("/v3/kv/put", &question)?;
        match command.common.write_out {
            Format::Json => writeln!(out, "{answer}")?,
            Format::Simple | Format::Table => writeln!(out, "OK")?,
        }
        Ok(())
    })
}

/// Deletes keys.
pub(super) fn del(command: &Del) -> ExitCode {
    run(&command.common, |client, out| {
        let answer = client.ask("/v3/kv/deleterange", &Value::Object(command.keys.question()))?;
        match command.common.write_out {
            Format::Json => writeln!(out, "{answer}")?,
            Format::Simple | Format::Table => {
                writeln!(out, "{}", answer["deleted"].as_str().unwrap_or("0"))?;
            }
        }
        Ok(())
    })
}

/// Shows what happens.
pub(super) fn watch(command: &Watch) -> ExitCode {
    run(&command.common, |client, out| {
        let mut request = command.keys.question();
        request.insert("start_revision".to_owned(), json!(command.rev));
        let client = Client { patience: None, ..client.clone() };
        for said in client.lines("/v3/watch", &json!({"create_request": request}))?.lines() {
            let said: Value = serde_json::from_str(&said?).map_err(io::Error::from)?;
            if let Some(message) = said["error"]["message"].as_str() {
                return Err(Failed(message.to_owned()));
            }
            let result = &said["result"];
            if result["canceled"].as_bool() == Some(true) {
                let why = result["cancel_reason"].as_str().unwrap_or_default();
                let compacted = result["compact_revision"].as_str().unwrap_or("0");
                return Err(Failed(format!(
                    "watch was canceled ({why}), compacted at {compacted}"
                )));
            }
            for event in result["events"].as_array().into_iter().flatten() {
                if command.common.write_out == Format::Json {
                    writeln!(out, "{event}")?;
                    continue;
                }
                writeln!(out, "{}", event["type"].as_str().unwrap_or("PUT"))?;
                line(out, &bytes(&event["kv"]["key"]))?;
                line(out, &bytes(&event["kv"]["value"]))?;
            }
            out.flush()?;
        }
        Err(Failed("the member ended the watch".to_owned()))
    })
}

/// Shows members.
pub(super) fn member(command: &Member) -> ExitCode {
    let Member::List(common) = command;
    run(common, |client, out| {
        let answer = client.ask("/v3/cluster/member/list", &json!({}))?;
        if common.write_out == Format::Json {
            return Ok(writeln!(out, "{answer}")?);
        }
        let rows = answer["members"].as_array().into_iter().flatten().map(|member| {
            let name = member["name"].as_str().unwrap_or_default();
            let urls = |key: &str| {
                let urls = member[key].as_array().into_iter().flatten();
                Vec::from_iter(urls.filter_map(Value::as_str)).join(",")
            };
            vec![
                hexadecimal(&member["ID"]),
                if name.is_empty() { "unstarted" } else { "started" }.to_owned(),
                name.to_owned(),
                urls("peerURLs"),
                urls("clientURLs"),
                member["isLearner"].as_bool().unwrap_or(false).to_string(),
            ]
        });
        let names = ["ID", "STATUS", "NAME", "PEER ADDRS", "CLIENT ADDRS", "IS LEARNER"];
        show_rows(out, common.write_out, &names, &Vec::from_iter(rows))
    })
}

/// Shows how endpoints are.
pub(super) fn endpoint(command: &Endpoint) -> ExitCode {
    match command {
        Endpoint::Status(common) => run(common, |client, out| {
            let mut rows = Vec::new();
            let mut failed = None;
            for endpoint in &client.endpoints {
                match client.ask_one(endpoint, "/v3/maintenance/status", &json!({})) {
                    Ok(status) if common.write_out == Format::Json => {
                        let told = json!({"Endpoint": endpoint.as_str(), "Status": status});
                        writeln!(out, "{told}")?;
                    }
                    Ok(status) => rows.push(status_row(endpoint, &status)),
                    Err(error) => failed = Some(error),
                }
            }
            let names = [
                "ENDPOINT",
                "ID",
                "VERSION",
                "DB SIZE",
                "IS LEADER",
                "IS LEARNER",
                "RAFT TERM",
                "RAFT INDEX",
                "RAFT APPLIED INDEX",
                "ERRORS",
            ];
            if common.write_out != Format::Json {
                show_rows(out, common.write_out, &names, &rows)?;
            }
            failed.map_or(Ok(()), |failed| Err(failed.into()))
        }),
        Endpoint::Health(common) => run(common, |client, out| {
            let mut ill = false;
            for endpoint in &client.endpoints {
                let said = client.get(endpoint, "/health");
                let is_well = said.as_ref().is_ok_and(|said| said.contains(r#""true""#));
                ill |= !is_well;
                let endpoint = endpoint.as_str();
                match said {
                    _ if common.write_out == Format::Json => {
                        writeln!(out, "{}", json!({"endpoint": endpoint, "health": is_well}))?;
                    }
                    Ok(_) if is_well => writeln!(out, "{endpoint} is healthy")?,
                    Ok(said) => writeln!(out, "{endpoint} is unhealthy: {said}")?,
                    Err(error) => writeln!(out, "{endpoint} is unhealthy: {error}")?,
                }
            }
            if ill { Err(Failed("unhealthy cluster".to_owned())) } else { Ok(()) }
        }),
    }
}

fn status_row(endpoint: &Url, status: &Value) -> Vec<String> {
    let text = |key: &str| status[key].as_str().unwrap_or("0").to_owned();
    let is_leader = status["leader"] == status["header"]["member_id"];
    let errors = status["errors"].as_array().into_iter().flatten().filter_map(Value::as_str);
    vec![
        endpoint.as_str().to_owned(),
        hexadecimal(&status["header"]["member_id"]),
        text("version"),
        show::size(text("dbSize").parse().unwrap_or(0)),
        is_leader.to_string(),
        status["isLearner"].as_bool().unwrap_or(false).to_string(),
        text("raftTerm"),
        text("raftIndex"),
        text("raftAppliedIndex"),
        Vec::from_iter(errors).join(","),
    ]
}

fn show_rows(
    out: &mut dyn Write,
    format: Format,
    names: &[&str],
    rows: &[Vec<String>],
) -> Result<(), Failed> {
    if format == Format::Table {
        return Ok(out.write_all(table(names, rows).as_bytes())?);
    }
    for row in rows {
        writeln!(out, "{}", row.join(", "))?;
    }
    Ok(())
}

/// Why a command did not do what it should.
struct Failed(String);

impl From<Unanswered> for Failed {
    fn from(error: Unanswered) -> Self {
        Self(error.to_string())
    }
}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Self {
        Self(error.to_string())
    }
}

/// Does something with a client. Errors are shown as etcdctl shows them.
fn run(
    common: &Common,
    command: impl FnOnce(&Client, &mut dyn Write) -> Result<(), Failed>,
) -> ExitCode {
    let mut out = io::stdout().lock();
    let done = client(common).and_then(|client| command(&client, &mut out));
    let Err(Failed(why)) = done else { return ExitCode::SUCCESS };
    writeln!(io::stderr(), "Error: {why}").ok();
    ExitCode::FAILURE
}

impl Common {
    /// Whom to ask, as a client that has said who asks.
    pub(super) fn client(&self) -> Result<Client, String> {
        client(self).map_err(|Failed(why)| why)
    }
}

fn client(common: &Common) -> Result<Client, Failed> {
    let said = env::var("ETCDCTL_ENDPOINTS").ok().filter(|said| !said.is_empty());
    let endpoints = match (common.endpoints.as_slice(), said) {
        ([], Some(said)) => said.split(',').map(str::to_owned).collect(),
        ([], None) => vec![DEFAULT_ENDPOINT.to_owned()],
        (endpoints, _) => endpoints.to_vec(),
    };
    let endpoint = |text: &String| {
        let url = if text.contains("://") { text.clone() } else { format!("http://{text}") };
        Url::parse(&url).map_err(|error| Failed(error.to_string()))
    };
    let files = Files {
        trusted: common.cacert.clone(),
        cert: common.cert.clone(),
        key: common.cert_key.clone(),
        skip_verify: common.insecure_skip_tls_verify,
    };
    let mut client = Client {
        endpoints: endpoints.iter().map(endpoint).collect::<Result<_, _>>()?,
        tls: client_tls(&files).map_err(Failed)?,
        token: None,
        patience: Some(Duration::from_secs(common.command_timeout.max(1))),
    };
    if let Some(user) = &common.user {
        let (name, password) = user.split_once(':').unwrap_or((user, ""));
        let question = json!({"name": name, "password": password});
        let answer = client.ask("/v3/auth/authenticate", &question)?;
        client.token = answer["token"].as_str().map(str::to_owned);
    }
    Ok(client)
}

const DEFAULT_ENDPOINT: &str = "127.0.0.1:2379";

impl Keys {
    /// The part of a question that says which keys.
    fn question(&self) -> Map<String, Value> {
        let key = if self.key.is_empty() && (self.prefix || self.from_key) {
            vec![0]
        } else {
            self.key.clone().into_bytes()
        };
        let end = if self.from_key || self.prefix && self.key.is_empty() {
            vec![0]
        } else if self.prefix {
            after_prefix(&key)
        } else {
            self.range_end.clone().unwrap_or_default().into_bytes()
        };
        Map::from_iter([
            ("key".to_owned(), json!(encoded(&key))),
            ("range_end".to_owned(), json!(encoded(&end))),
        ])
    }
}

/// The first key behind all that begin with a prefix; from the prefix on, if there is none.
fn after_prefix(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if let Some(next) = last.checked_add(1) {
            end.push(next);
            return end;
        }
    }
    vec![0]
}

fn encoded(bytes: &[u8]) -> String {
    BASE64_STANDARD.encode(bytes)
}

fn bytes(value: &Value) -> Vec<u8> {
    BASE64_STANDARD.decode(value.as_str().unwrap_or_default()).unwrap_or_default()
}

fn line(out: &mut dyn Write, bytes: &[u8]) -> io::Result<()> {
    out.write_all(bytes)?;
    out.write_all(b"\n")
}

fn hexadecimal(id: &Value) -> String {
    format!("{:x}", id.as_str().and_then(|id| id.parse::<u64>().ok()).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_ends_before_the_next() {
        assert_eq!(after_prefix(b"a"), b"b");
        assert_eq!(after_prefix(b"a\xff"), b"b");
        assert_eq!(after_prefix(b"\xff\xff"), b"\0");
        let keys = |key: &str, prefix, from_key| {
            let keys = Keys { key: key.to_owned(), range_end: None, prefix, from_key };
            let question = keys.question();
            (bytes(&question["key"]), bytes(&question["range_end"]))
        };
        assert_eq!(keys("", true, false), (vec![0], vec![0]));
        assert_eq!(keys("k", false, true), (b"k".to_vec(), vec![0]));
        assert_eq!(keys("k", false, false), (b"k".to_vec(), Vec::new()));
    }
}
