//! What the binary answers to command lines that start nothing: texts and exit codes, which etcd 3.7.3 has for the
//! same lines.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Output};

/// Runs the binary with an environment of its own.
fn run(words: &str, variables: &[(&str, &str)]) -> (Option<i32>, String, String) {
    run_by(Path::new(env!("CARGO_BIN_EXE_cairn")), words, variables)
}

/// The same, by a link to it.
fn run_by(
    program: &Path,
    words: &str,
    variables: &[(&str, &str)],
) -> (Option<i32>, String, String) {
    let mut command = Command::new(program);
    command.args(words.split_whitespace()).env_clear().envs(variables.iter().copied());
    let Output { status, stdout, stderr } = command.output().expect("the binary runs");
    let text = |bytes| String::from_utf8(bytes).expect("the binary writes text");
    (status.code(), text(stdout), text(stderr))
}

#[test]
fn help_is_for_whoever_asks_and_no_error() {
    for words in ["--help", "-h", "-help", "--name x -h"] {
        let (code, stdout, stderr) = run(words, &[("ETCD_NAME", "x")]);
        assert_eq!((code, stderr.as_str()), (Some(0), ""), "{words}");
        for part in [
            "\n  cairn wal dump|verify <dir>\n",
            "\nMember:\n",
            "--listen-client-urls 'http://localhost:2379'",
            "--cores '0'",
            "\nOnly in Cairn:\n",
        ] {
            assert!(stdout.contains(part), "{part} is missing in\n{stdout}");
        }
        assert!(stdout.lines().all(|line| line.chars().count() < 140));
    }
}

#[test]
fn a_subcommand_has_a_command_line_of_its_own() {
    let data = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/wal");
    let etcd = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/etcd-3.7.3/db");
    for (words, code, out) in [
        ("wal --help".to_owned(), 0, "Usage: cairn wal"),
        ("wal verify --help".to_owned(), 0, "Exit codes:\n  0   clean\n"),
        (format!("wal dump {data}/clean --from 2 --to 2"), 0, "entry index=2 term=2"),
        (format!("wal dump {data}/corrupt"), 0, "state=damaged-or-torn"),
        (format!("wal verify {data}/clean"), 0, "\nclean: row F"),
        (format!("wal verify {data}/torn"), 1, "\ntorn tail: row F"),
        (format!("wal verify {data}/corrupt"), 2, "damaged: row G"),
        // What etcdutl 3.7.3 says of the same file.
        (format!("snapshot status {etcd}"), 0, "23453c48, 9, 3, 53 kB, 3.7.0\n"),
        (
            format!("snapshot status {etcd} -w fields"),
            0,
            "\"Hash\" : 591739976\n\"Revision\" : 9\n",
        ),
        (
            format!("snapshot status {etcd} -w table"),
            0,
            "│ 23453c48 │        9 │          3 │      53 kB │",
        ),
    ] {
        let (found, stdout, stderr) = run(&words, &[]);
        assert_eq!((found, stderr.as_str()), (Some(code), ""), "{words}");
        assert!(stdout.contains(out), "{words}: {stdout}");
    }
    for (words, code, why) in [
        ("wal", 64, "Usage: cairn wal <COMMAND>"),
        ("wal bogus", 64, "unrecognized subcommand 'bogus'"),
        ("wal dump --from x .", 64, "invalid value 'x' for '--from <INDEX>'"),
        (
            "snapshot restore x --bump-revision 5",
            64,
            "Error: --mark-compacted required if --revision-bump > 0",
        ),
        ("snapshot status /nonexistent", 1, "Error: cannot open /nonexistent: No such file"),
        ("snapshot restore /nonexistent --name x", 1, "Error: "),
        ("wal verify /nonexistent", 3, "cairn: there is no directory /nonexistent\n"),
    ] {
        let (found, stdout, stderr) = run(words, &[]);
        assert_eq!((found, stdout.as_str()), (Some(code), ""), "{words}");
        assert!(stderr.contains(why), "{words}: {stderr}");
    }
}

#[test]
fn the_version_has_etcds_lines_and_one_of_ours() {
    let (code, stdout, stderr) = run("--version", &[]);
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    let names: Vec<&str> =
        stdout.lines().filter_map(|line| Some(line.split_once(": ")?.0)).collect();
    assert_eq!(names, ["etcd Version", "Git SHA", "Rust Version", "Rust OS/Arch", "Cairn Version"]);
    assert!(stdout.starts_with("etcd Version: 3.7.3\n"));
}

#[test]
fn under_etcds_name_it_answers_as_etcd() {
    let folder = tempfile::tempdir().expect("there is room");
    let etcd = folder.path().join("etcd");
    symlink(env!("CARGO_BIN_EXE_cairn"), &etcd).expect("links can be made");
    for words in ["--version", "-version", "--version=true"] {
        let (code, stdout, _) = run_by(&etcd, words, &[]);
        let names: Vec<&str> =
            stdout.lines().filter_map(|line| Some(line.split_once(": ")?.0)).collect();
        assert_eq!(code, Some(0));
        assert_eq!(names, ["etcd Version", "Git SHA", "Go Version", "Go OS/Arch", "Cairn Version"]);
        assert!(stdout.starts_with("etcd Version: 3.7.3\n"));
    }
    let (code, stdout, stderr) = run_by(&etcd, "--help", &[]);
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    assert!(stdout.starts_with("Usage:\n\n  etcd [flags]\n"), "{stdout}");
    assert!(!stdout.contains("local-cluster"), "{stdout}");
    let (code, _, stderr) = run_by(&etcd, "--bogus", &[]);
    assert_eq!(code, Some(2));
    assert!(stderr.starts_with("flag provided but not defined: -bogus\nUsage:\n\n  etcd [flags]"));
    // What is a subcommand of ours is nothing to etcd.
    let (code, _, stderr) = run_by(&etcd, "wal", &[]);
    assert_eq!(code, Some(1));
    assert!(stderr.contains(r#""error":"\"wal\" is not a valid flag"#), "{stderr}");
}

#[test]
fn what_is_no_flag_or_no_value_of_one_shows_the_usage() {
    for (words, why) in [
        ("--bogus", "flag provided but not defined: -bogus\n"),
        ("--name=x -bogus=1", "flag provided but not defined: -bogus\n"),
        (
            "--heartbeat-interval=x",
            "invalid value \"x\" for flag -heartbeat-interval: parse error\n",
        ),
        ("--heartbeat-interval", "flag needs an argument: -heartbeat-interval\n"),
        (
            "--client-cert-auth=maybe",
            "invalid boolean value \"maybe\" for -client-cert-auth: parse error\n",
        ),
        (
            "--listen-peer-urls=http://a",
            "invalid value \"http://a\" for flag -listen-peer-urls: URL address ",
        ),
        (
            "--initial-cluster-state=bad",
            "invalid value \"bad\" for flag -initial-cluster-state: invalid value",
        ),
        (
            "--feature-gates=Foo=1",
            "invalid value \"Foo=1\" for flag -feature-gates: unrecognized feature gate: Foo\n",
        ),
        (
            "--log-level=bad",
            "invalid value \"bad\" for flag -log-level: unrecognized level: \"bad\"\n",
        ),
        ("---x", "bad flag syntax: ---x\n"),
    ] {
        let (code, stdout, stderr) = run(words, &[]);
        assert_eq!((code, stdout.as_str()), (Some(2), ""), "{words}");
        assert!(stderr.starts_with(why) && stderr.contains("\nUsage:\n"), "{words}: {stderr}");
    }
}

#[test]
fn settings_that_do_not_go_together_end_with_a_line_of_the_log() {
    for (words, variables, why) in [
        (
            "extra",
            [].as_slice(),
            r#""msg":"failed to verify flags","error":"\"extra\" is not a valid flag"}"#,
        ),
        ("--name a b", &[], r#""error":"\"b\" is not a valid flag"}"#),
        (
            "--heartbeat-interval=0",
            &[],
            r#""error":"--heartbeat-interval must be >0 (set to 0ms)"}"#,
        ),
        (
            "",
            &[("ETCD_HEARTBEAT_INTERVAL", "x")],
            r#""error":"invalid value \"x\" for ETCD_HEARTBEAT_INTERVAL: parse error"}"#,
        ),
        (
            "--config-file=/nonexistent",
            &[],
            r#""error":"open /nonexistent: No such file or directory"#,
        ),
        (
            "",
            &[("ETCD_CONFIG_FILE", "/nonexistent")],
            r#""error":"open /nonexistent: No such file or directory"#,
        ),
        (
            "--log-outputs=/nonexistent/x",
            &[],
            r#""error":"open sink \"/nonexistent/x\": open /nonexistent/x: No such"#,
        ),
        (
            "--listen-client-urls=http://127.0.0.1:1",
            &[],
            r#""msg":"advertise client URLs are not set""#,
        ),
        (
            "--name=a",
            &[("ETCD_NAME", "a")],
            r#""msg":"conflicting environment variable is shadowed by corresponding command-line flag (either unset environment variable or disable flag))","environment-variable":"ETCD_NAME"}"#,
        ),
    ] {
        let (code, stdout, stderr) = run(words, variables);
        assert_eq!((code, stdout.as_str()), (Some(1), ""), "{words}");
        assert!(stderr.contains(why), "{words}: {stderr}");
        assert!(
            stderr.lines().all(|line| line.starts_with(r#"{"level":""#) && line.ends_with('}')),
            "{stderr}"
        );
        let level = if why.contains("conflicting") { "fatal" } else { "warn" };
        assert!(stderr.contains(&format!(r#"{{"level":"{level}","ts":""#)));
    }
}

#[test]
fn secrets_stay_secret() {
    let words =
        "--discovery-password swordfish --discovery-user=me:swordfish --heartbeat-interval=0";
    let variables = [("ETCD_ROOT_PASSWORD", "swordfish")];
    let (code, _, stderr) = run(words, &variables);
    assert_eq!(code, Some(1));
    assert!(!stderr.contains("swordfish"), "{stderr}");
    assert!(stderr.contains(
        r#""msg":"unrecognized environment variable","environment-variable":"ETCD_ROOT_PASSWORD"}"#
    ));
    assert!(stderr.contains(r#""--discovery-password","***","--discovery-user=***""#));
}
