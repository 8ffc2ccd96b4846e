//! The process: how it starts, how it ends, what it survives, and why it would rather not start.

use core::time::Duration;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::Stdio;

use cairn_engine::api::etcdserverpb::{SnapshotRequest, WatchRequest};
use rustix::process::Signal;
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, apply_filter};
use tokio::sync::mpsc::unbounded_channel;
use tokio::time::Instant;
use tonic::Code;
use tonic::codegen::tokio_stream::wrappers::UnboundedReceiverStream;

use crate::ask::{everything, put, range};
use crate::client::etcdserverpb::maintenance_client::MaintenanceClient;
use crate::client::etcdserverpb::watch_client::WatchClient;
use crate::harness::{
    Member, Place, Runtime, block_on, cairn, cairn_after, cairn_as, copy, on_both_runtimes,
    refused, say,
};

on_both_runtimes! {
    a_member_keeps_its_data,
    trees_keep_what_memory_would,
    a_signal_ends_it_whatever_its_clients_do,
    a_signal_ends_it_though_its_clients_are_frozen,
    a_second_signal_does_not_wait,
    nothing_acknowledged_is_lost_by_a_kill,
    several_cores_serve_one_key_space,
    a_unix_socket_will_do,
    a_full_disk_ends_it_and_loses_nothing,
}

#[test]
fn under_etcds_name_it_says_what_etcd_says() {
    let place = Place::new();
    let metrics = format!("--listen-metrics-urls=http://{}:2381", place.address.ip());
    let command = cairn_as("etcd", &place);
    let mut member = Member::start_by(command, place, Runtime::Tokio, &["-pre-vote", &metrics]);
    member.wait_for("serving client traffic insecurely; this is strongly discouraged!");
    let ended = block_on(member.terminate());
    assert_eq!(ended.signal(), Some(Signal::TERM.as_raw()));
    let lines: Vec<serde_json::Value> =
        member.said().iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    // zap's keys, in zap's order, and nothing that alarms anybody.
    for (line, text) in lines.iter().zip(member.said()) {
        assert!(text.starts_with(r#"{"level":""#) && text.contains(r#"","ts":""#), "{text}");
        assert!(line["caller"].is_string() && line["msg"].is_string(), "{text}");
        assert!(line["level"] == "info" || line["level"] == "warn", "{text}");
    }
    // What scripts, test suites and operators wait for, in the order of etcd 3.7.3.
    let mut said = lines.iter().map(|line| line["msg"].as_str().unwrap());
    for wanted in [
        "Running: ",
        "starting an etcd server",
        "now serving peer/client/metrics",
        "ready to serve client requests",
        "serving client traffic insecurely; this is strongly discouraged!",
        "received signal; shutting down",
        "closing etcd server",
        "closed etcd server",
    ] {
        assert!(said.any(|said| said == wanted), "{wanted:?}, or its order");
    }
    let field = |msg: &str, field: &str| {
        let line = lines.iter().find(|line| line["msg"] == msg).unwrap();
        line[field].as_str().unwrap().to_owned()
    };
    let serving = "serving client traffic insecurely; this is strongly discouraged!";
    assert_eq!(field(serving, "traffic"), "grpc+http");
    assert!(!field(serving, "address").contains("http"), "host and port");
    assert_eq!(field("received signal; shutting down", "signal"), "terminated");
    let all: Vec<&str> = lines.iter().map(|line| line["msg"].as_str().unwrap()).collect();
    for wanted in [
        "serving metrics",
        "added member",
        "serving peer traffic",
        "published local member to cluster through raft",
        "set initial cluster version",
    ] {
        assert!(all.contains(&wanted), "{wanted}: {all:#?}");
    }
    for wanted in [" became leader at term ", " elected leader "] {
        assert!(all.iter().any(|said| said.contains(wanted)), "{wanted}: {all:#?}");
    }
}

#[test]
fn whoever_started_it_is_told_when_it_serves_and_when_it_stops() {
    use std::os::linux::net::SocketAddrExt as _;
    use std::os::unix::net::{SocketAddr, UnixDatagram};

    for name in ["path", "@abstract"] {
        let place = Place::new();
        fs::create_dir_all(&place.directory).unwrap();
        let path = place.directory.join(name).display().to_string();
        let path = if name.starts_with('@') { format!("@{path}") } else { path };
        let address = match path.strip_prefix('@') {
            Some(name) => SocketAddr::from_abstract_name(name).unwrap(),
            None => SocketAddr::from_pathname(&path).unwrap(),
        };
        let daemon = UnixDatagram::bind_addr(&address).unwrap();
        daemon.set_read_timeout(Some(crate::harness::LIMIT)).unwrap();
        let mut command = cairn();
        command.env("NOTIFY_SOCKET", &path);
        let mut member = Member::start_by(command, place, Runtime::Tokio, &[]);
        let mut told = [0; 64];
        let len = daemon.recv(&mut told).unwrap();
        assert_eq!(&told[..len], b"READY=1\n");
        member.wait_for("successfully notified init daemon");
        block_on(member.terminate());
        let len = daemon.recv(&mut told).unwrap();
        assert_eq!(&told[..len], b"STOPPING=1\n");
    }
}

async fn a_member_keeps_its_data(member: &mut Member) {
    member.kv().put(put("a", "1")).await.unwrap();
    let before = member.kv().range(everything()).await.unwrap().into_inner();
    // A member keeps the ids that it was born with, and goes on where it stood.
    member.restart(&["--initial-cluster-token=another"]).await;
    let after = member.kv().range(everything()).await.unwrap().into_inner();
    assert_eq!(before.kvs, after.kvs);
    let (before, after) = (before.header.unwrap(), after.header.unwrap());
    assert_eq!((before.cluster_id, before.member_id), (after.cluster_id, after.member_id));
    assert_eq!((before.revision, after.revision), (2, 2));
    assert!(after.raft_term > before.raft_term, "each leader has its term");
}

async fn trees_keep_what_memory_would(member: &mut Member) {
    let flags = ["--storage=trees"];
    member.restart(&flags).await;
    let value = "v".repeat(1 << 20);
    // Checkpoints follow the bytes of the log: there are two of them.
    for number in 0..150 {
        let request = put(format!("key{:02}", number % 30), format!("{number}{value}"));
        member.kv().put(request).await.unwrap();
        member.kv().put(put(format!("small{number}"), "x")).await.unwrap();
    }
    let before = member.kv().range(everything()).await.unwrap().into_inner();
    assert_eq!((before.count, before.kvs.len()), (180, 180));
    assert!(before.kvs[29].value.starts_with(b"149v"));
    let trees = || fs::read_dir(member.place.data().join("db")).unwrap().count();
    assert_eq!(trees(), 1, "there is a file of trees");
    member.signal(Signal::KILL);
    member.wait().await;
    member.start_again(&flags);
    let after = member.kv().range(everything()).await.unwrap().into_inner();
    assert_eq!((after.kvs, after.count), (before.kvs.clone(), 180));
    member.kv().put(put("key00", "new")).await.unwrap();
    // Whatever the flag says, what is there is read.
    member.restart(&[]).await;
    let found = member.kv().range(range("key00")).await.unwrap().into_inner().kvs.remove(0);
    assert_eq!((&found.value[..], found.version), (&b"new"[..], 6));
    member.terminate().await;
    let fsck = || {
        let found =
            cairn().arg("fsck").arg(member.place.data()).stdout(Stdio::piped()).output().unwrap();
        (found.status.code(), String::from_utf8(found.stdout).unwrap())
    };
    let (code, said) = fsck();
    assert!(code == Some(0) && said.contains(".db: whole"), "{said}");
    // Another one may be on its way.
    let is_whole = |path: &PathBuf| path.extension().is_some_and(|suffix| suffix == "db");
    let mut files = fs::read_dir(member.place.data().join("db")).unwrap();
    let file = files.find_map(|entry| Some(entry.unwrap().path()).filter(is_whole)).unwrap();
    let mut bytes = fs::read(&file).unwrap();
    for sector in bytes.chunks_mut(4096) {
        sector[100] ^= 1;
    }
    fs::write(file, bytes).unwrap();
    let (code, said) = fsck();
    assert!(code == Some(2) && said.contains("damaged: tree file"), "{said}");
}

/// A member that is told to end does so soon if its clients let go of it when they are told, and some time later if
/// they do not.
const SOON: Duration = Duration::from_secs(3);
const LATER: Duration = Duration::from_secs(15);

async fn a_signal_ends_it_whatever_its_clients_do(member: &mut Member) {
    for signal in [Signal::TERM, Signal::INT] {
        let mut kv = member.kv();
        kv.put(put("a", "1")).await.unwrap();
        let (requests, outgoing) = unbounded_channel::<WatchRequest>();
        let mut watch = WatchClient::new(member.channel());
        let watched = watch.watch(UnboundedReceiverStream::new(outgoing)).await.unwrap();
        let begun = Instant::now();
        member.signal(signal);
        let ended = member.wait().await;
        assert_eq!(ended.signal(), Some(signal.as_raw()), "{ended:?}");
        assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
        assert!(member.said().last().unwrap().contains("closed etcd server"));
        let gone = watched.into_inner().message().await.expect_err("the stream is ended");
        assert_eq!(gone.code(), Code::Unavailable);
        assert_eq!(gone.message(), "etcdserver: server stopped");
        drop(requests);
        member.start_again(&[]);
    }
}

async fn a_signal_ends_it_though_its_clients_are_frozen(member: &mut Member) {
    let frozen = std::net::TcpStream::connect(member.place.address).unwrap();
    (&frozen).write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").unwrap();
    member.kv().put(put("a", "1")).await.unwrap();
    let begun = Instant::now();
    assert_eq!(member.terminate().await.signal(), Some(Signal::TERM.as_raw()));
    assert!(begun.elapsed() < LATER, "{:?}", begun.elapsed());
    drop(frozen);
}

async fn a_second_signal_does_not_wait(member: &mut Member) {
    let (_requests, outgoing) = unbounded_channel::<WatchRequest>();
    let mut watch = WatchClient::new(member.channel());
    let _watched = watch.watch(UnboundedReceiverStream::new(outgoing)).await.unwrap();
    member.signal(Signal::TERM);
    member.wait_for("received signal; shutting down");
    // It may have ended by itself in the meantime.
    if member.is_running() {
        member.signal(Signal::TERM);
    }
    assert_eq!(member.wait().await.signal(), Some(Signal::TERM.as_raw()));
}

async fn nothing_acknowledged_is_lost_by_a_kill(member: &mut Member) {
    let mut promised = [0; 8];
    for round in 1..=5 {
        let (acknowledge, mut acknowledged) = unbounded_channel();
        for (writer, &from) in promised.iter().enumerate() {
            let (mut kv, acknowledge) = (member.kv(), acknowledge.clone());
            tokio::spawn(async move {
                for number in from + 1.. {
                    let request = put(writer.to_string(), format!("{number}"));
                    if kv.put(request).await.is_err() || acknowledge.send((writer, number)).is_err()
                    {
                        break;
                    }
                }
            });
        }
        drop(acknowledge);
        // The kill comes in the middle of everything.
        let mut left = 200 * round;
        while let Some((writer, number)) = acknowledged.recv().await {
            promised[writer] = number;
            left -= 1;
            if left == 0 {
                member.signal(Signal::KILL);
            }
        }
        assert!(left <= 0, "the writers go on until the end");
        assert_eq!(member.wait().await.signal(), Some(Signal::KILL.as_raw()));
        member.start_again(&[]);
        let found = member.kv().range(everything()).await.unwrap().into_inner().kvs;
        for (writer, promised) in promised.iter_mut().enumerate() {
            let kv = &found[writer];
            let value: u64 = core::str::from_utf8(&kv.value).unwrap().parse().unwrap();
            // What was under way may have happened or not.
            assert!((*promised..=*promised + 1).contains(&value), "{value} for {promised}");
            *promised = value;
        }
    }
}

async fn several_cores_serve_one_key_space(member: &mut Member) {
    member.restart(&["--cores=2"]).await;
    // The kernel spreads connections over the cores.
    let clients: Vec<_> = (0..16).map(|_| member.kv()).collect();
    for (number, mut writer) in clients.clone().into_iter().enumerate() {
        writer.put(put("a", number.to_string())).await.unwrap();
        for mut reader in clients.clone() {
            let found = reader.range(range("a")).await.unwrap().into_inner().kvs.remove(0);
            assert_eq!(found.value, number.to_string(), "each reads the last write");
        }
    }
}

async fn a_unix_socket_will_do(member: &mut Member) {
    let socket = member.place.directory.join("socket");
    let url = format!("unix://{}", socket.display());
    let flags =
        [&*format!("--listen-client-urls={url}"), &format!("--advertise-client-urls={url}")];
    member.restart(&flags).await;
    let endpoint = tonic::transport::Endpoint::from_shared(format!("unix:{}", socket.display()));
    let channel = endpoint.unwrap().connect().await.unwrap();
    let mut kv = crate::client::etcdserverpb::kv_client::KvClient::new(channel);
    kv.put(put("a", "1")).await.unwrap();
    assert_eq!(kv.range(range("a")).await.unwrap().into_inner().count, 1);
}

/// A limit on the size of files stands in for a full disk: it needs no rights, and ends in the same place.
async fn a_full_disk_ends_it_and_loses_nothing(member: &mut Member) {
    const EX_IOERR: i32 = 74;
    member.terminate().await;
    let (place, runtime) = (Place::new(), member.runtime());
    // The first segment of the log fits, others do not. The unit of `ulimit` is 512 bytes.
    let limited = cairn_after("trap '' XFSZ; ulimit -f 16384");
    let mut full = Member::start_by(limited, place, runtime, &[]);
    full.wait_for("a chore of the disk failed and will be tried again");
    let mut kv = full.kv();
    let mut acknowledged = 0;
    while kv.put(put(format!("{acknowledged:04}"), vec![7; 100_000])).await.is_ok() {
        acknowledged += 1;
        assert!(acknowledged < 1000, "the log is full at some point");
    }
    assert!(acknowledged > 10, "the first segment has room for some");
    let ended = full.wait().await;
    assert_eq!(ended.code(), Some(EX_IOERR), "{ended:?}");
    let last = full.said().last().unwrap().clone();
    assert!(last.contains(r#""level":"fatal""#) && last.contains("File too large"), "{last}");
    assert!(last.contains("check the disk, then start it again"), "{last}");
    full.start_again(&[]);
    let found = full.kv().range(everything()).await.unwrap().into_inner();
    assert!((acknowledged..=acknowledged + 1).contains(&found.count), "{}", found.count);
    full.terminate().await;
    full.assert_never_panicked();
    member.start_again(&[]);
}

/// Serves with what a command prepared, and says why it is not `io_uring`.
fn falls_back(start: impl FnOnce() -> Member, reason: &str) {
    let mut member = start();
    let said = member.said().to_vec();
    let warning = said.iter().find(|line| line.contains("io_uring is refused here"));
    let warning = warning.expect("it says so");
    assert!(warning.contains(r#""level":"warn""#) && warning.contains(reason), "{warning}");
    assert!(said.iter().any(|line| line.contains(r#""runtime":"tokio""#)));
    block_on(async {
        member.kv().put(put("a", "1")).await.unwrap();
        assert_eq!(member.kv().range(range("a")).await.unwrap().into_inner().count, 1);
        let snapshot = MaintenanceClient::new(member.channel()).snapshot(SnapshotRequest {}).await;
        assert!(snapshot.unwrap().into_inner().message().await.unwrap().is_some());
    });
    block_on(member.restart(&[]));
    assert_eq!(block_on(member.terminate()).signal(), Some(Signal::TERM.as_raw()));
    member.assert_never_panicked();
}

#[test]
fn a_seccomp_filter_means_tokio_and_a_line_in_the_log() {
    let start = || {
        // A filter is the thread's that installs it, and its children's.
        let filtered = std::thread::spawn(|| {
            let calls =
                [libc::SYS_io_uring_setup, libc::SYS_io_uring_register, libc::SYS_io_uring_enter];
            let filter = SeccompFilter::new(
                calls.into_iter().map(|call| (call, Vec::new())).collect(),
                SeccompAction::Allow,
                // As Docker's default profile does.
                SeccompAction::Errno(libc::EPERM.unsigned_abs()),
                std::env::consts::ARCH.try_into().unwrap(),
            );
            let program: BpfProgram = filter.unwrap().try_into().unwrap();
            apply_filter(&program).unwrap();
            Member::start_by(cairn(), Place::new(), Runtime::Auto, &[])
        });
        filtered.join().unwrap()
    };
    falls_back(start, "io_uring_setup failed (Operation not permitted");
}

#[test]
fn little_locked_memory_means_tokio_and_a_line_in_the_log() {
    // Where io_uring is refused anyway, that is the reason which is given.
    let reason = match cairn_io::probe::glommio_usable() {
        Ok(()) => "only 65536 bytes may be locked in memory",
        Err(_) => "io_uring",
    };
    let start = || Member::start_by(cairn_after("ulimit -l 64"), Place::new(), Runtime::Auto, &[]);
    falls_back(start, reason);
}

#[test]
fn a_runtime_that_cannot_be_had_is_not_replaced() {
    let place = Place::new();
    let mut command = cairn_after("ulimit -l 64");
    command.args(place.flags()).args(["--runtime", "glommio"]);
    let output = command.stderr(Stdio::piped()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("cannot use the runtime that was asked for"), "{said}");
}

/// Checks that a member does not start, and what the last line of its log says.
fn assert_refused(place: &Place, flags: &[&str], texts: &[&str]) {
    let (code, said) = refused(place, flags);
    assert_eq!(code, Some(1), "{said}");
    let last = said.lines().last().expect("it says why");
    for text in texts {
        assert!(last.contains(text), "{text} is missing in {last}");
    }
}

#[test]
fn a_port_in_use_is_a_reason_not_to_start() {
    let member = Member::start(Runtime::Tokio, &[]);
    let place = Place::new();
    let url = format!("http://{}", member.place.address);
    let flags =
        [&*format!("--listen-client-urls={url}"), &format!("--advertise-client-urls={url}")];
    let why = ["cannot listen", "is in use by another process", &member.place.address.to_string()];
    assert_refused(&place, &flags, &why);
}

#[test]
fn a_directory_in_use_is_a_reason_not_to_start() {
    let member = Member::start(Runtime::Tokio, &[]);
    let place = Place::new();
    let directory = format!("--data-dir={}", member.place.data().display());
    let holder = format!("is in use by process {}", member.process());
    assert_refused(&place, &[&directory], &["cannot use the data directory", &holder]);
    // The one that was first is none the worse.
    block_on(async { member.kv().put(put("a", "1")).await.unwrap() });
}

#[test]
fn somebody_elses_directory_is_a_reason_not_to_start() {
    let place = Place::new();
    fs::create_dir_all(place.data().join("member/snap")).unwrap();
    assert_refused(&place, &[], &["this is no whole data directory of etcd's"]);
    assert!(place.data().join("member/snap").exists(), "nothing is changed");

    let place = Place::new();
    fs::create_dir_all(place.data()).unwrap();
    fs::write(place.data().join("thesis.tex"), "years of work").unwrap();
    assert_refused(&place, &[], &["is not empty and has no file FORMAT"]);
    assert_eq!(fs::read(place.data().join("thesis.tex")).unwrap(), b"years of work");

    let place = Place::new();
    fs::create_dir_all(&place.directory).unwrap();
    fs::write(place.data(), "a file").unwrap();
    assert_refused(&place, &[], &["cannot use the data directory"]);
}

#[test]
fn a_directory_of_a_newer_version_is_a_reason_not_to_start() {
    let mut member = Member::start(Runtime::Tokio, &[]);
    block_on(member.terminate());
    let format = member.place.data().join("FORMAT");
    let text = fs::read_to_string(&format).unwrap().replace("format 2", "format 3");
    fs::write(&format, text).unwrap();
    assert_refused(&member.place, &[], &["has format 3, this version knows 2"]);
}

#[test]
fn a_directory_that_cannot_be_written_is_a_reason_not_to_start() {
    // Nobody makes files there, not even root.
    let place = Place::new();
    let why = ["cannot use the data directory", "cannot open LOCK in data directory /proc"];
    assert_refused(&place, &["--data-dir=/proc"], &why);

    fs::create_dir_all(place.data()).unwrap();
    fs::set_permissions(place.data(), fs::Permissions::from_mode(0o500)).unwrap();
    if fs::write(place.data().join("probe"), "").is_ok() {
        fs::remove_file(place.data().join("probe")).unwrap();
        say("NOT CHECKED: permissions of directories do not bind root");
    } else {
        assert_refused(&place, &[], &["cannot use the data directory", "Permission denied"]);
    }
    fs::set_permissions(place.data(), fs::Permissions::from_mode(0o700)).unwrap();
}

#[test]
fn bad_urls_are_a_reason_not_to_start() {
    let place = Place::new();
    for (url, code, why) in [
        ("http://nowhere.invalid:2379", 1, "failed to verify flags"),
        ("https://127.0.0.1:2379", 1, "failed to verify flags"),
        ("ftp://127.0.0.1:2379", 2, "invalid value"),
        ("http://127.0.0.1", 2, "invalid value"),
        ("127.0.0.1:2379", 2, "invalid value"),
    ] {
        let (found, said) = refused(&place, &[&format!("--listen-client-urls={url}")]);
        assert_eq!(found, Some(code), "{url}: {said}");
        assert!(said.contains(why), "{url}: {said}");
    }
}

#[test]
fn damage_is_a_reason_not_to_start() {
    let mut member = Member::start(Runtime::Tokio, &[]);
    block_on(async {
        for number in 0..100 {
            member.kv().put(put("a", number.to_string())).await.unwrap();
        }
    });
    block_on(member.terminate());
    let log = member.place.data().join("wal/0000000000000001.wal");
    let mut bytes = fs::read(&log).unwrap();
    // In the middle of what was acknowledged.
    bytes[8 * 4096 + 100..][..100].fill(0x5a);
    fs::write(&log, bytes).unwrap();
    let why = ["cannot use what the data directory holds", "0000000000000001.wal is corrupt"];
    assert_refused(&member.place, &[], &why);
}

#[test]
fn a_restored_copy_serves_what_was_copied() {
    let mut member = Member::start(Runtime::Tokio, &[]);
    block_on(async { member.kv().put(put("a", "1")).await.unwrap() });
    block_on(member.terminate());
    let place = Place::new();
    copy(&member.place.data(), &place.data());
    let restored = Member::start_by(cairn(), place, Runtime::Tokio, &[]);
    block_on(async {
        assert_eq!(restored.kv().range(range("a")).await.unwrap().into_inner().count, 1);
    });
}
