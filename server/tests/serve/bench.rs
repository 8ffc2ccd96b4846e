//! The command that makes load: each workload for a moment, its answers checked by itself, and what it tells.

use core::time::Duration;
use std::process::Stdio;

use rustix::process::Signal;
use serde_json::Value;

use crate::authority::Authority;
use crate::harness::{Member, Place, Runtime, cairn};

/// Runs a load: exit code, output, errors.
fn run(endpoint: &str, words: &str) -> (Option<i32>, String, String) {
    let mut command = cairn();
    command.args(["bench", "--endpoints", endpoint, "--quiet"]).args(words.split_whitespace());
    let output = command.stdout(Stdio::piped()).stderr(Stdio::piped()).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// Runs a load in which nothing may fail.
fn well(endpoint: &str, words: &str) -> Value {
    let (code, out, error) = run(endpoint, &format!("{words} --json"));
    assert_eq!((code, error.as_str()), (Some(0), ""), "{words}: {out}");
    serde_json::from_str(&out).unwrap()
}

/// Names and numbers of what was done.
fn kinds(run: &Value) -> Vec<(&str, u64)> {
    let kinds = run["kinds"].as_array().unwrap();
    kinds
        .iter()
        .map(|kind| (kind["name"].as_str().unwrap(), kind["count"].as_u64().unwrap()))
        .collect()
}

const MOMENT: &str = "--warm-up 0 --connections 3 --in-flight 5 --keys 500";

#[test]
fn each_workload_does_what_it_says() {
    let member = Member::start(Runtime::Tokio, &[]);
    let at = member.place.address.to_string();
    let expected = [
        ("put --total 300", vec![("put", 300)]),
        ("put --total 30 --value-bytes 200000", vec![("put", 30)]),
        ("put --total 300 --threads 2 --sequential", vec![("put", 300)]),
        ("range --total 300", vec![("read", 300)]),
        ("range --total 300 --serializable --no-populate", vec![("read", 300)]),
        ("range --total 20 --what list --value-bytes 5000", vec![("list", 20)]),
        ("range --total 20 --what limit", vec![("list with a limit", 20)]),
        ("range --total 20 --what count", vec![("count", 20)]),
        ("range --total 20 --what keys-only", vec![("list of keys", 20)]),
        ("range --total 20 --what paginate", vec![("list in pages", 20)]),
        ("range --total 20 --what stream", vec![("list as a stream", 20)]),
        ("txn --total 50 --operations 16", vec![("transaction of puts", 50)]),
        ("txn --total 50 --what mixed --reads 0", vec![("put in a transaction", 50)]),
        ("txn --total 200 --what swap --keys 2", vec![("compare and swap", 200)]),
        ("delete --total 500", vec![("delete", 500)]),
        ("lease --total 50", vec![("lease grant", 50)]),
        ("lease --total 200 --what keep-alive --leases 20", vec![("keep-alive", 200)]),
        ("watch --total 20", vec![("event", 20 * 100), ("put", 20)]),
        ("watch --total 20 --what latency --rate 500 --watched-keys 7", vec![]),
        ("watch --total 10 --what catch-up --events 300", vec![("catch-up", 10)]),
        ("watch --seconds 1 --what idle --streams 2", vec![]),
        ("storm --total 30", vec![("connection", 30)]),
        ("empty --total 300", vec![("empty call", 300)]),
        ("put --rate 1000 --total 300", vec![("put", 300)]),
    ];
    for (words, expected) in expected {
        let told = well(&at, &format!("{MOMENT} {words}"));
        if !expected.is_empty() {
            assert_eq!(kinds(&told), expected, "{words}");
        }
        assert_eq!(told["never_begun"], 0, "{words}");
    }
    let told = well(&at, "kubernetes --warm-up 0 --total 500 --nodes 20 --pods 100 --watchers 50");
    let kinds = kinds(&told);
    assert_eq!(kinds.len(), 5, "{kinds:?}");
    let operations = kinds.iter().filter(|(name, _)| *name != "event").map(|(_, count)| count);
    assert_eq!(operations.sum::<u64>(), 500);
    let told = well(&at, "lease --what expiry --leases 50 --ttl 3");
    assert_eq!(self::kinds(&told), [("lease ended", 50)]);
}

#[test]
fn what_a_server_uses_is_told_and_drawn() {
    let member = Member::start(Runtime::Tokio, &[]);
    let at = member.place.address.to_string();
    let page = member.place.directory.join("page.html");
    let pid = member.process();
    let words =
        format!("put --total 500 --warm-up 0 --server-pid {pid} --report {}", page.display());
    let told = well(&at, &words);
    assert!(told["server"]["memory_bytes"]["end"]["resident"].as_u64() > Some(1_000_000), "{told}");
    assert!(told["server"]["cpu_us_per_operation"].is_number(), "{told}");
    assert!(std::fs::read_to_string(&page).unwrap().contains("<svg"));
    let file = member.place.directory.join("run.json");
    std::fs::write(&file, told.to_string()).unwrap();
    let words = format!("report {0} {0} --report {1}", file.display(), page.display());
    assert_eq!(run(&at, &words), (Some(0), String::new(), String::new()));
    let (code, out, _) = run(&at, "put --total 100 --warm-up 0");
    assert!(code == Some(0) && out.contains("p99.99"), "{out}");
}

#[test]
fn what_cannot_be_is_said() {
    let member = Member::start(Runtime::Tokio, &[]);
    let at = member.place.address.to_string();
    let cannot = |endpoint: &str, words: &str| {
        let (code, out, error) = run(endpoint, words);
        assert_eq!((code, out.as_str()), (Some(1), ""), "{words}");
        error
    };
    assert!(cannot("127.0.0.1:1", "put").starts_with("cairn: cannot connect to 127.0.0.1:1: "));
    assert!(cannot("nonsense", "put").contains("is no endpoint"));
    assert!(cannot(&at, "put --user a:b").contains("FailedPrecondition"));
    assert!(cannot(&at, "put --connections 0").contains("makes no load"));
    assert!(cannot(&at, "txn --operations 3 --keys 2").contains("cannot put a key twice"));
    assert_eq!(run(&at, "put --rate 0").0, Some(64));
    // A lease that is none is an error, by its code and text.
    let (code, out, _) = run(&at, "range --no-populate --total 10 --warm-up 0");
    assert!(code == Some(1) && out.contains("10 failed: wrong: another number of rows"), "{out}");
}

#[test]
fn a_server_that_goes_is_counted_and_not_waited_for() {
    let member = Member::start(Runtime::Tokio, &[]);
    let mut command = cairn();
    let at = member.place.address.to_string();
    command.args([
        "bench",
        "--endpoints",
        &at,
        "--quiet",
        "--seconds",
        "3",
        "--warm-up",
        "0",
        "put",
    ]);
    let load = command.stdout(Stdio::piped()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(1500));
    member.signal(Signal::KILL);
    let output = load.wait_with_output().unwrap();
    let out = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.code() == Some(1) && out.contains("failed: connection: "), "{out}");
}

#[test]
fn users_are_asked_for_through_tls() {
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
    let _member = Member::start_by(cairn(), place, Runtime::Tokio, &flags);
    let trust = format!("--cacert {}", authority.file.display());
    let told = well(&url, &format!("put --total 200 --warm-up 0 --value-bytes 100000 {trust}"));
    assert_eq!(kinds(&told), [("put", 200)]);
    let told = well(&url, &format!("storm --total 20 --warm-up 0 {trust}"));
    assert_eq!(kinds(&told), [("connection", 20)]);
    let told = well(
        &url,
        &format!("range --what list --keys 300 --value-bytes 5000 --total 10 --warm-up 0 {trust}"),
    );
    assert_eq!(kinds(&told), [("list", 10)]);
}
