//! The commands of every day, against a member.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};

use crate::authority::Authority;
use crate::harness::{Member, Place, Runtime, cairn};

/// Runs a command against a member: exit code, output, errors.
fn run(endpoint: &str, words: &[&str], input: &str) -> (Option<i32>, String, String) {
    let mut child = command(endpoint, words);
    child.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = child.spawn().unwrap();
    // Whoever is refused may not read it.
    child.stdin.take().unwrap().write_all(input.as_bytes()).ok();
    let output = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

fn command(endpoint: &str, words: &[&str]) -> Command {
    let mut command = cairn();
    command.args(words).env("ETCDCTL_ENDPOINTS", endpoint);
    command
}

fn well(endpoint: &str, words: &[&str]) -> String {
    let (code, out, error) = run(endpoint, words, "");
    assert_eq!((code, error.as_str()), (Some(0), ""), "{words:?}");
    out
}

#[test]
fn keys_are_written_read_and_deleted() {
    let member = Member::start(Runtime::Tokio, &[]);
    let at = member.place.address.to_string();
    assert_eq!(well(&at, &["put", "a", "1"]), "OK\n");
    assert_eq!(run(&at, &["put", "ab", "-"], "from\ninput"), (Some(0), "OK\n".into(), "".into()));
    assert_eq!(well(&at, &["get", "a"]), "a\n1\n");
    assert_eq!(well(&at, &["get", "a", "--prefix", "--keys-only"]), "a\nab\n");
    assert_eq!(well(&at, &["get", "", "--prefix", "--print-value-only"]), "1\nfrom\ninput\n");
    assert_eq!(well(&at, &["get", "a", "ab"]), "a\n1\n", "the end is not in it");
    assert_eq!(well(&at, &["get", "nothing"]), "");
    let json: serde_json::Value =
        serde_json::from_str(&well(&at, &["get", "a", "-w", "json"])).unwrap();
    assert_eq!((&json["kvs"][0]["value"], &json["count"]), (&"MQ==".into(), &"1".into()));
    assert_eq!(well(&at, &["put", "a", "2"]), "OK\n");
    assert_eq!(well(&at, &["get", "a", "--rev", "2"]), "a\n1\n");
    assert_eq!(well(&at, &["del", "a", "--from-key"]), "2\n");

    let (code, out, error) = run(&at, &["put", "a", "1", "--lease", "77"], "");
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert_eq!(error, "Error: etcdserver: requested lease not found\n");
    let (code, _, error) = run(&at, &["get", "a", "--rev", "99"], "");
    assert_eq!(
        (code, &*error),
        (Some(1), "Error: etcdserver: mvcc: required revision is a future revision\n")
    );
    let (code, _, error) = run("127.0.0.1:1", &["get", "a"], "");
    assert_eq!(code, Some(1));
    assert!(error.starts_with("Error: http://127.0.0.1:1: "), "{error}");
    assert_eq!(run(&at, &["get"], "").0, Some(64));
}

#[test]
fn a_watch_shows_what_happens() {
    let member = Member::start(Runtime::Tokio, &[]);
    let at = member.place.address.to_string();
    well(&at, &["put", "a", "1"]);
    let watch = command(&at, &["watch", "a", "--rev", "2"]).stdout(Stdio::piped()).spawn();
    let mut watch = watch.unwrap();
    let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert_eq!(Vec::from_iter(lines.by_ref().take(3)), ["PUT", "a", "1"]);
    well(&at, &["del", "a"]);
    assert_eq!(Vec::from_iter(lines.by_ref().take(3)), ["DELETE", "a", ""]);
    watch.kill().unwrap();
    watch.wait().unwrap();
}

#[test]
fn members_and_endpoints_are_shown_through_tls_too() {
    let place = Place::new();
    let authority = Authority::new(&place.directory, "authority");
    let identity = authority.issue("server", 1, &[&place.address.ip().to_string()]);
    let url = format!("https://{}", place.address);
    let flags = [
        format!("--listen-client-urls={url}"),
        format!("--advertise-client-urls={url}"),
        format!("--cert-file={}", identity.cert.display()),
        format!("--key-file={}", identity.key.display()),
    ];
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let member = Member::start_by(cairn(), place, Runtime::Tokio, &flags);
    let peer = format!("http://{}:2380", member.place.address.ip());
    let trusts = authority.file.display().to_string();
    let trusts = ["--cacert", &trusts];
    let list = well(&url, &[&["member", "list"], &trusts[..]].concat());
    let cells: Vec<&str> = list.trim_end().split(", ").collect();
    // As etcdctl prints it.
    assert_eq!(
        cells[1..],
        ["started", "default", "http://localhost:2380", &url, "false"],
        "{peer}"
    );
    let table = well(&url, &[&["endpoint", "status", "-w", "table"], &trusts[..]].concat());
    assert!(table.contains("| ENDPOINT ") && table.contains(" 3.7.3 "), "{table}");
    assert_eq!(table.lines().count(), 5, "{table}");
    let health = well(&url, &[&["endpoint", "health"], &trusts[..]].concat());
    assert_eq!(health, format!("{url} is healthy\n"));
    // Nobody is believed without being asked to.
    let (code, _, error) = run(&url, &["member", "list"], "");
    assert_eq!(code, Some(1));
    assert!(error.contains("--cacert"), "{error}");
    let (code, out, _) = run(&url, &["endpoint", "health"], "");
    assert_eq!(code, Some(1));
    assert!(out.contains("is unhealthy"), "{out}");
}

#[test]
fn shells_and_man_know_commands_and_flags() {
    for shell in ["bash", "zsh", "fish"] {
        let text = well("", &["completion", shell]);
        assert!(
            text.contains("initial-cluster-state") && text.contains("local-cluster"),
            "{shell}"
        );
    }
    let man = well("", &["man"]);
    assert!(man.contains(".TH cairn 1") && man.contains("peer\\-trusted\\-ca\\-file"), "{man}");
}
