//! A `cairn` in a process of its own, for tests that see it from outside.
//!
//! Each member has a directory and an address of its own: all of 127.0.0.0/8 is this machine, so no two tests meet on
//! a port, and none is chosen that somebody else takes a moment later. What a member says is kept, and shown if its
//! test fails.

use core::net::{Ipv4Addr, SocketAddrV4};
use core::sync::atomic::{AtomicU32, Ordering};
use core::time::Duration;
use std::fs;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;

use rustix::process::{Pid, Signal, kill_process};
use tonic::transport::{Channel, Endpoint};

use crate::client::etcdserverpb::kv_client::KvClient;

/// Whatever takes longer than this will not happen. Far beyond what a loaded machine needs.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// Which runtime a member is told to use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Runtime {
    Glommio,
    Tokio,
    /// The one that this machine allows.
    Auto,
}

impl Runtime {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Glommio => "glommio",
            Self::Tokio => "tokio",
            Self::Auto => "auto",
        }
    }

    /// Whether this machine has it. If not, says so where the harness of the tests cannot hide it.
    pub(crate) fn is_here(self) -> bool {
        let usable = match self {
            Self::Glommio => cairn_io::probe::glommio_usable(),
            Self::Tokio | Self::Auto => Ok(()),
        };
        let refusal = usable.err();
        if let Some(refusal) = &refusal {
            say(&format!("NOT CHECKED on {}: {refusal}", self.name()));
        }
        refusal.is_none()
    }
}

/// Says something past the capture of output by the harness of the tests.
pub(crate) fn say(text: &str) {
    io::stderr().write_all(format!("\n{text}\n").as_bytes()).unwrap();
}

/// Makes of each of these functions a test on each runtime, with a fresh member.
macro_rules! on_both_runtimes {
    ($($name:ident),+ $(,)?) => {
        mod on_glommio {
            $(#[test] fn $name() {
                $crate::harness::run($crate::harness::Runtime::Glommio, super::$name);
            })+
        }
        mod on_tokio {
            $(#[test] fn $name() {
                $crate::harness::run($crate::harness::Runtime::Tokio, super::$name);
            })+
        }
    };
}
pub(crate) use on_both_runtimes;

/// Runs a test with a fresh member, which must not panic, and must end well when it is told to.
pub(crate) fn run(runtime: Runtime, test: impl AsyncFnOnce(&mut Member)) {
    if !runtime.is_here() {
        return;
    }
    let mut member = Member::start(runtime, &[]);
    block_on(test(&mut member));
    if member.is_running() {
        let ended = block_on(member.terminate());
        assert_eq!(ended.signal(), Some(Signal::TERM.as_raw()), "{ended:?}");
    }
    member.assert_never_panicked();
}

/// Waits for a future, but not for ever. Its connections end with it.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime
        .block_on(async { tokio::time::timeout(LIMIT, future).await })
        .expect("the test is done within its limit")
}

/// Where a member lives.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) directory: PathBuf,
    pub(crate) address: SocketAddrV4,
}

impl Place {
    /// A place that nobody else has.
    pub(crate) fn new() -> Self {
        static LAST: AtomicU32 = AtomicU32::new(0);
        let process = std::process::id();
        loop {
            let number = LAST.fetch_add(1, Ordering::Relaxed) + 1;
            let bytes = (process * 256 + number).to_be_bytes();
            let address = SocketAddrV4::new(Ipv4Addr::new(127, bytes[1], bytes[2], bytes[3]), 2379);
            // Another process of tests may have the same lower bits in its id.
            if !matches!(bytes[3], 0 | 255) && TcpListener::bind(address).is_ok() {
                let name = format!("cairn-serve-{process}-{number}");
                return Self { directory: std::env::temp_dir().join(name), address };
            }
        }
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.directory.join("data")
    }

    /// The flags that make a member live here.
    pub(crate) fn flags(&self) -> [String; 5] {
        let Self { address, .. } = self;
        [
            format!("--data-dir={}", self.data().display()),
            format!("--listen-client-urls=http://{address}"),
            format!("--advertise-client-urls=http://{address}"),
            format!("--listen-peer-urls=http://{}:2380", address.ip()),
            "--log-level=info".to_owned(),
        ]
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !thread::panicking() {
            fs::remove_dir_all(&self.directory).ok();
        }
    }
}

/// The binary, with a clean environment.
pub(crate) fn cairn() -> Command {
    clean(Command::new(env!("CARGO_BIN_EXE_cairn")))
}

/// The binary, by a link to it that has another name.
pub(crate) fn cairn_as(name: &str, place: &Place) -> Command {
    fs::create_dir_all(&place.directory).unwrap();
    let link = place.directory.join(name);
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_cairn"), &link).unwrap();
    clean(Command::new(link))
}

/// The binary, started by a shell that does something first.
pub(crate) fn cairn_after(script: &str) -> Command {
    let mut command = clean(Command::new("sh"));
    let script = format!("{script}; exec \"$0\" \"$@\"");
    command.args(["-c", &script, env!("CARGO_BIN_EXE_cairn")]);
    command
}

fn clean(mut command: Command) -> Command {
    let path = std::env::var_os("PATH").unwrap_or_default();
    command.env_clear().env("PATH", path).stdin(Stdio::null()).stdout(Stdio::null());
    command
}

/// A member in a process of its own. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) place: Place,
    runtime: Runtime,
    child: Child,
    lines: Receiver<String>,
    /// What it has said so far, of all its lives.
    said: Vec<String>,
}

impl Member {
    /// Starts a member in a place of its own and waits until it serves.
    pub(crate) fn start(runtime: Runtime, flags: &[&str]) -> Self {
        Self::start_by(cairn(), Place::new(), runtime, flags)
    }

    /// Starts a member by a command that someone prepared.
    pub(crate) fn start_by(
        command: Command,
        place: Place,
        runtime: Runtime,
        flags: &[&str],
    ) -> Self {
        let mut member = Self::begin_by(command, place, runtime, flags);
        member.wait_until_ready();
        member
    }

    /// The same, without waiting for anything.
    pub(crate) fn begin_by(
        command: Command,
        place: Place,
        runtime: Runtime,
        flags: &[&str],
    ) -> Self {
        fs::create_dir_all(&place.directory).unwrap();
        let (child, lines) = spawn(command, &place, runtime.name(), flags);
        Self { place, runtime, child, lines, said: Vec::new() }
    }

    /// Starts it again where it was.
    pub(crate) fn start_again(&mut self, flags: &[&str]) {
        self.begin_again(flags);
        self.wait_until_ready();
    }

    /// The same, without waiting for anything.
    pub(crate) fn begin_again(&mut self, flags: &[&str]) {
        assert!(!self.is_running(), "it has ended before");
        (self.child, self.lines) = spawn(cairn(), &self.place, self.runtime.name(), flags);
    }

    /// Ends it, and starts it again with these flags.
    pub(crate) async fn restart(&mut self, flags: &[&str]) {
        self.terminate().await;
        self.start_again(flags);
    }

    pub(crate) fn wait_until_ready(&mut self) {
        self.wait_for("ready to serve client requests");
    }

    /// Waits until it says something, and gives back that line.
    pub(crate) fn wait_for(&mut self, text: &str) -> String {
        loop {
            match self.lines.recv_timeout(LIMIT) {
                Ok(line) => {
                    self.said.push(line);
                    let line = self.said.last().expect("just pushed");
                    if line.contains(text) {
                        return line.clone();
                    }
                }
                Err(RecvTimeoutError::Timeout) => panic!("it did not say {text:?}"),
                Err(RecvTimeoutError::Disconnected) => {
                    panic!("it ended without saying {text:?}: {:?}", self.child.wait())
                }
            }
        }
    }

    /// What it has said, up to now.
    pub(crate) fn said(&mut self) -> &[String] {
        self.said.extend(self.lines.try_iter());
        &self.said
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// The id of its process.
    pub(crate) fn process(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn runtime(&self) -> Runtime {
        self.runtime
    }

    /// Waits until it has ended. Clients go on meanwhile: it may wait for them.
    pub(crate) async fn wait(&mut self) -> ExitStatus {
        let ended = loop {
            match self.child.try_wait().unwrap() {
                Some(ended) => break ended,
                None => tokio::time::sleep(Duration::from_millis(2)).await,
            }
        };
        // Its log ends when it does.
        self.said.extend(self.lines.iter());
        ended
    }

    /// Tells it to end, and waits until it has.
    pub(crate) async fn terminate(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.wait().await
    }

    /// Fails if it ever panicked.
    pub(crate) fn assert_never_panicked(&mut self) {
        let fatal = self.said().iter().find(|line| line.contains(r#""stacktrace""#)).cloned();
        assert_eq!(fatal, None, "it panicked");
    }

    /// A number of kibibytes in its `/proc/…/status`: `VmRSS` now, `VmHWM` at most so far.
    pub(crate) fn memory_kib(&self, name: &str) -> u64 {
        let status = format!("/proc/{}/status", self.child.id());
        let status = fs::read_to_string(status).unwrap();
        let line = status.lines().find(|line| line.starts_with(name)).expect("Linux has it");
        line.split_whitespace().nth(1).expect("a number").parse().unwrap()
    }

    /// A channel of tonic's, which connects when it is used.
    pub(crate) fn channel(&self) -> Channel {
        let uri = format!("http://{}", self.place.address);
        Endpoint::from_shared(uri).unwrap().connect_timeout(LIMIT).connect_lazy()
    }

    /// A client of its key space.
    pub(crate) fn kv(&self) -> KvClient<Channel> {
        KvClient::new(self.channel()).max_decoding_message_size(usize::MAX)
    }

    /// Sends bytes over a connection of their own, and reads what comes until the other side ends it.
    pub(crate) fn talk(&self, words: &[u8]) -> String {
        let mut stream = TcpStream::connect(self.place.address).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream.write_all(words).unwrap();
        let mut answer = Vec::new();
        // Whoever is refused may be cut off.
        stream.read_to_end(&mut answer).ok();
        String::from_utf8_lossy(&answer).into_owned()
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
        if thread::panicking() {
            let said = self.said().join("\n");
            say(&format!("The member in {} said:\n{said}", self.place.directory.display()));
        }
    }
}

fn spawn(
    mut command: Command,
    place: &Place,
    runtime: &str,
    flags: &[&str],
) -> (Child, Receiver<String>) {
    command.args(["--runtime", runtime]).args(place.flags()).args(flags);
    let mut child = command.stderr(Stdio::piped()).spawn().expect("the binary starts");
    let log = child.stderr.take().expect("a pipe");
    let (say, lines) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(log).lines().map_while(Result::ok) {
            // Nobody listens any more once the test is over.
            if say.send(line).is_err() {
                break;
            }
        }
    });
    (child, lines)
}

/// What becomes of a member that must not start: its exit code and what it said.
pub(crate) fn refused(place: &Place, flags: &[&str]) -> (Option<i32>, String) {
    let mut command = cairn();
    command.args(place.flags()).args(flags);
    let output = command.stderr(Stdio::piped()).output().expect("the binary starts");
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// Copies all files of a directory.
pub(crate) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}
