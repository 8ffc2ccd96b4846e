//! Where `io_uring` is refused, the reason is known and tokio does the work.
//!
//! A filter or a limit cannot be taken back, so each test runs itself again in a child process, told apart by
//! an environment variable, and looks at what the child prints and how it ends.
#![expect(clippy::unwrap_used, reason = "the linter does not see that helpers of tests are tests")]

use core::net::SocketAddr;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Command, Output};
use std::thread;

use cairn_io::probe::{Choice, Kind, Refusal, select};
use cairn_io::runtime::{Address, Plan, Program, Runtime, launch};
use cairn_io::{limits, listener};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, apply_filter};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

const CHILD: &str = "CAIRN_IO_CHILD";

/// Runs the test `name` in a child process.
fn child(name: &str) -> Output {
    let executable = std::env::current_exe().unwrap();
    let mut command = Command::new(executable);
    command.args(["--exact", name, "--nocapture"]).env(CHILD, "1").output().unwrap()
}

fn is_child() -> bool {
    std::env::var_os(CHILD).is_some()
}

fn succeeded(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

/// Answers one connection with what it sends.
#[derive(Clone)]
struct EchoOnce;

impl Program for EchoOnce {
    type Seat = listener::Prepared;
    type Output = ();

    async fn run<R: Runtime>(self, _core: usize, prepared: listener::Prepared) {
        let listener = R::listen(prepared).unwrap();
        let (mut stream, _) = R::accept(&listener).await.unwrap();
        let mut bytes = [0; 5];
        stream.read_exact(&mut bytes).await.unwrap();
        stream.write_all(&bytes).await.unwrap();
    }
}

/// Selects as a server does at start, and serves one connection with the result.
fn serve(choice: Choice) -> (Kind, Option<Refusal>) {
    limits::raise();
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let seats = listener::bind(&Address::Tcp(any), core::num::NonZeroUsize::MIN).unwrap();
    let Address::Tcp(address) = seats[0].address().unwrap() else { panic!("TCP") };
    let selected = select(choice).unwrap();
    let client = thread::spawn(move || {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(b"hello").unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        assert_eq!(answer, b"hello");
    });
    launch(selected.kind, Plan::default(), EchoOnce, seats).unwrap();
    client.join().unwrap();
    (selected.kind, selected.refusal)
}

/// Lets these system calls fail with this error from now on.
fn forbid(calls: &[i64], error: i32) {
    let rules = calls.iter().map(|&call| (call, Vec::new())).collect();
    let filter = SeccompFilter::new(
        rules,
        SeccompAction::Allow,
        SeccompAction::Errno(error.unsigned_abs()),
        std::env::consts::ARCH.try_into().unwrap(),
    );
    let program: BpfProgram = filter.unwrap().try_into().unwrap();
    apply_filter(&program).unwrap();
}

const RING_CALLS: [i64; 3] =
    [libc::SYS_io_uring_setup, libc::SYS_io_uring_register, libc::SYS_io_uring_enter];

#[test]
fn a_seccomp_filter_means_tokio() {
    if !is_child() {
        let printed = succeeded(&child("a_seccomp_filter_means_tokio"));
        assert!(
            printed.contains("reason: io_uring_setup failed (Operation not permitted"),
            "{printed}"
        );
        return;
    }
    // As Docker's default profile does.
    forbid(&RING_CALLS, libc::EPERM);
    let (kind, refusal) = serve(Choice::Auto);
    assert_eq!(kind, Kind::Tokio);
    println!("reason: {}", refusal.unwrap());
    assert!(matches!(select(Choice::Glommio), Err(Refusal::NoRing(_))));
}

#[test]
fn a_kernel_without_rings_means_tokio() {
    if !is_child() {
        succeeded(&child("a_kernel_without_rings_means_tokio"));
        return;
    }
    forbid(&RING_CALLS, libc::ENOSYS);
    let (kind, refusal) = serve(Choice::Auto);
    assert_eq!(kind, Kind::Tokio);
    assert!(matches!(refusal, Some(Refusal::NoRing(_))), "{refusal:?}");
}

#[test]
fn a_filter_on_the_probe_alone_means_tokio() {
    if !is_child() {
        succeeded(&child("a_filter_on_the_probe_alone_means_tokio"));
        return;
    }
    if select(Choice::Glommio).is_err() {
        println!("not checked: no io_uring on this machine");
        return;
    }
    forbid(&[libc::SYS_io_uring_register], libc::EPERM);
    let (kind, refusal) = serve(Choice::Auto);
    assert_eq!(kind, Kind::Tokio);
    assert!(matches!(refusal, Some(Refusal::NoProbe(_))), "{refusal:?}");
}

#[test]
fn little_locked_memory_means_tokio() {
    if !is_child() {
        succeeded(&child("little_locked_memory_means_tokio"));
        return;
    }
    use rustix::process::{Resource, Rlimit, setrlimit};
    let limit = Some(64 * 1024);
    setrlimit(Resource::Memlock, Rlimit { current: limit, maximum: limit }).unwrap();
    let possible = select(Choice::Glommio);
    let (kind, refusal) = serve(Choice::Auto);
    assert_eq!(kind, Kind::Tokio);
    match refusal.unwrap() {
        Refusal::LockedMemory { limit_bytes } => assert_eq!(limit_bytes, 65536),
        refusal @ (Refusal::NoRing(_) | Refusal::NoProbe(_) | Refusal::NoOperation(_)) => {
            println!("not checked: no io_uring on this machine: {refusal}");
        }
    }
    assert!(possible.is_err());
}

/// A low soft limit is raised to the hard one first, so that it is no reason to fall back.
#[test]
fn a_low_soft_limit_is_raised() {
    if !is_child() {
        succeeded(&child("a_low_soft_limit_is_raised"));
        return;
    }
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let maximum = getrlimit(Resource::Memlock).maximum;
    let possible = select(Choice::Glommio).is_ok();
    setrlimit(Resource::Memlock, Rlimit { current: Some(64 * 1024), maximum }).unwrap();
    let (kind, _) = serve(Choice::Auto);
    assert_eq!(kind == Kind::Glommio, possible);
}

#[test]
fn what_was_asked_for_is_taken_where_it_can_be() {
    let (kind, refusal) = serve(Choice::Tokio);
    assert_eq!((kind, refusal.is_none()), (Kind::Tokio, true));
    match select(Choice::Glommio) {
        Ok(_) => assert_eq!(serve(Choice::Glommio).0, Kind::Glommio),
        Err(refusal) => println!("not checked: {refusal}"),
    }
}
