//! docs/compat.md against the code: what it says about methods, flags and metrics is what there is.
//!
//! The sections between `<!-- name -->` and `<!-- end of name -->` are made from the code's own tables;
//! `UPDATE=1 cargo test -p cairn-server` writes them anew. The table of methods is written by hand, and checked.

use core::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use cairn_engine::MemberId;
use cairn_engine::api::Code;

use crate::config::MetricsLevel;
use crate::config::gates::FeatureGates;
use crate::grpc::method::{METHODS, Method, Row};
use crate::grpc::{call, unary};
use crate::metrics::peers;
use crate::metrics::{Facts, Metrics};

fn path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/compat.md")
}

fn document() -> String {
    fs::read_to_string(path()).unwrap()
}

/// Compares a section with what it should be, or writes it down.
pub(crate) fn check_section(name: &str, expected: &str) {
    let text = document();
    let (begin, end) = (format!("<!-- {name} -->\n"), format!("<!-- end of {name} -->"));
    let from = text.find(&begin).expect("the section begins") + begin.len();
    let to = from + text[from..].find(&end).expect("the section ends");
    if std::env::var_os("UPDATE").is_some() {
        fs::write(path(), [&text[..from], expected, &text[to..]].concat()).unwrap();
    } else {
        assert!(text[from..to] == *expected, "{name} are others now; UPDATE=1 writes them down");
    }
}

/// Whether the code serves a method.
fn is_served(row: &Row) -> bool {
    if call::needs_task(row.method) {
        return true;
    }
    let limits = unary::Limits { txn_ops_max: 1, message_bytes_max: 1 };
    match unary::read(row.method, Bytes::new(), limits) {
        Ok(_) => true,
        Err(status) => status.code != Code::Unimplemented,
    }
}

#[test]
fn every_method_has_a_row_that_says_whether_it_is_served() {
    let text = document();
    let rows: Vec<Vec<&str>> = text
        .lines()
        .filter(|line| line.starts_with("| `"))
        .map(|line| line.split('|').map(str::trim).collect())
        .collect();
    for row in &METHODS {
        let name = format!("`{}/{}`", row.service, row.name);
        let found: Vec<_> = rows.iter().filter(|cells| cells[1] == name).collect();
        assert_eq!(found.len(), 1, "{name} has one row");
        let says = found[0][2];
        assert!(["same", "differs", "not yet"].contains(&says), "{name}: {says}");
        assert_eq!(says != "not yet", is_served(row), "{name}: {says}");
    }
}

#[test]
fn the_metrics_are_those_that_there_are() {
    let facts = Facts {
        version: "3.7.0".to_owned(),
        member: "1".to_owned(),
        quota_bytes: 0,
        runtime: "tokio".to_owned(),
        level: MetricsLevel::Extensive,
        features: FeatureGates::new(&[]),
        peers: Arc::default(),
    };
    let metrics = Metrics::new(&facts);
    // What has a line for each of something needs one.
    let peer = MemberId(1);
    metrics.set_cluster_version("3.7");
    metrics.asked_by(Method::Range, "3.7");
    metrics.snapshot_sending(peer);
    metrics.snapshot_sent(peer, true);
    metrics.snapshot_sent(peer, false);
    metrics.snapshot_received(peer);
    let text = metrics.to_text();
    let row = |name, kind, help| format!("| `{name}` | {kind} | {help} |");
    let mut rows: Vec<_> = peers::rows().map(|(name, kind, help)| row(name, kind, help)).collect();
    let mut help = "";
    for line in text.lines() {
        if let Some(line) = line.strip_prefix("# HELP ") {
            help = line.split_once(' ').map_or("", |(_, help)| help);
        } else if let Some(line) = line.strip_prefix("# TYPE ") {
            let (name, kind) = line.split_once(' ').unwrap();
            rows.push(row(name, kind, help));
        }
    }
    rows.sort();
    let mut table = "| metric | kind | what |\n|---|---|---|\n".to_owned();
    rows.iter().for_each(|row| writeln!(table, "{row}").unwrap());
    check_section("metrics", &table);
}
