//! What those cost who begin TLS and never finish: memory of the server, and time of others.
//!
//! One member serves a port with TLS and one without. Puts come at a fixed rate over one connection without TLS, and how
//! long they take is measured twice: alone, and while very many connections to the other port say the first bytes of a
//! handshake, or nothing, and wait. Whom the server ends connects anew, so that there are as many all the time.

use core::net::SocketAddr;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use core::time::Duration;
use std::fs;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;

use cairn_engine::api::etcdserverpb::PutRequest;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use crate::figures::Times;
use crate::progress::Progress;
use crate::world::cluster::require_empty;
use crate::world::connection::Connection;
use crate::world::process::Process;
use crate::{Trouble, Verdict};

/// How to run the scenario.
#[derive(Debug, clap::Args)]
pub(crate) struct Settings {
    /// The server's binary, Cairn's or etcd's
    #[arg(long = "bin", default_value = "target/release/cairn")]
    program: PathBuf,
    /// How many connections begin TLS and do not go on
    #[arg(long, default_value_t = 10_000)]
    connections: usize,
    /// How long puts are measured, alone and with the others
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    /// How many puts are begun in a second
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=5000))]
    rate: u32,
    /// How much memory the server may take for them
    #[arg(long, default_value_t = 64, value_name = "MEBIBYTES")]
    memory: u64,
    /// More flags for the member
    #[arg(last = true)]
    arguments: Vec<String>,
}

/// Runs the scenario and tells what it showed.
pub(crate) async fn run(settings: Settings) -> Result<Verdict, Trouble> {
    raise_descriptors(settings.connections)?;
    let folder = std::env::temp_dir().join(format!("cairn-half-open-{}", std::process::id()));
    require_empty(&folder)?;
    fs::create_dir_all(&folder)?;
    let progress = Progress::new(2, "measurements");
    let (plain, secure, peers) = (free_port()?, free_port()?, free_port()?);
    let urls = format!("http://{plain},https://{secure}");
    let mut arguments: Vec<String> = [
        ("--data-dir", folder.join("data").display().to_string()),
        ("--listen-client-urls", urls.clone()),
        ("--advertise-client-urls", urls),
        ("--listen-peer-urls", format!("http://{peers}")),
    ]
    .into_iter()
    .flat_map(|(flag, value)| [flag.to_owned(), value])
    .collect();
    arguments.push("--auto-tls".to_owned());
    arguments.extend(settings.arguments.iter().cloned());
    let process = Process::start(&settings.program, &arguments, &folder.join("log"))?;
    let load = Load { url: format!("http://{plain}"), settings: &settings };
    load.until_served().await?;
    // Not the first memory that is ever touched, but what a member takes that is used.
    load.times().await?;
    let before = memory_mib(process.id(), "VmRSS")?;
    let alone = load.times().await?;
    progress.advance();
    let crowd = Crowd::gather(secure, settings.connections);
    while crowd.open.load(Ordering::Relaxed) < to_u64(settings.connections) {
        sleep(Duration::from_millis(20)).await;
    }
    let beside = load.times().await?;
    progress.advance();
    let most = memory_mib(process.id(), "VmHWM")?;
    let opened = crowd.disperse()?;
    let after = load.times().await?;
    let rest = memory_mib(process.id(), "VmRSS")?;
    process.terminate().await?;
    fs::remove_dir_all(&folder)?;
    progress.finish();
    let Settings { connections, memory, .. } = settings;
    progress.say(format_args!("puts alone:              {}", alone.line(None)));
    progress.say(format_args!("beside {connections} half open: {}", beside.line(None)));
    progress.say(format_args!("afterwards:              {}", after.line(None)));
    progress.say(format_args!(
        "memory: {before} MiB before, {most} MiB at most, {rest} MiB afterwards; {opened} connections were made"
    ));
    let growth = most.saturating_sub(before);
    Ok(if growth <= memory { Verdict::Right } else { Verdict::Wrong })
}

/// Puts at a fixed rate.
struct Load<'a> {
    url: String,
    settings: &'a Settings,
}

impl Load<'_> {
    async fn until_served(&self) -> Result<(), Trouble> {
        let mut kv = Connection::new(&self.url)?.kv();
        let begin = Instant::now();
        while let Err(status) =
            kv.put(PutRequest { key: "a".into(), ..PutRequest::default() }).await
        {
            if begin.elapsed() > START_MAX {
                return Err(Trouble(format!("the member does not serve: {status}")));
            }
            sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// How long puts take: each from when it was due, so that a stall counts for all that it delays.
    async fn times(&self) -> Result<Times, Trouble> {
        let Settings { rate, seconds, .. } = *self.settings;
        let connection = Connection::new(&self.url)?;
        let mut turns = interval(Duration::from_secs(1) / rate);
        turns.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let mut puts = Vec::new();
        for number in 0..u64::from(rate) * seconds {
            let due = turns.tick().await;
            let mut kv = connection.kv();
            puts.push(tokio::task::spawn_local(async move {
                let (key, value) = (format!("{:04}", number % 1000), vec![7; 256]);
                let request =
                    PutRequest { key: key.into(), value: value.into(), ..PutRequest::default() };
                kv.put(request).await.map(|_| due.elapsed())
            }));
        }
        let mut times = Vec::new();
        for put in puts {
            times.push(put.await?.map_err(|status| Trouble(format!("a put failed: {status}")))?);
        }
        Ok(Times::new(times))
    }
}

/// Those who begin and do not go on, on a thread of their own.
struct Crowd {
    /// How many are connected.
    open: Arc<AtomicU64>,
    is_over: Arc<AtomicBool>,
    thread: thread::JoinHandle<u64>,
}

impl Crowd {
    fn gather(to: SocketAddr, count: usize) -> Self {
        let (open, is_over) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (told, ends) = (Arc::clone(&open), Arc::clone(&is_over));
        let thread = thread::spawn(move || {
            let (mut streams, mut made) = (Vec::<Option<TcpStream>>::new(), 0);
            streams.resize_with(count, || None);
            while !ends.load(Ordering::Relaxed) {
                for (number, stream) in streams.iter_mut().enumerate() {
                    if ends.load(Ordering::Relaxed) {
                        break;
                    }
                    if stream.as_mut().is_some_and(is_open) {
                        continue;
                    }
                    *stream = begin(to, number);
                    made += u64::from(stream.is_some());
                }
                told.store(to_u64(streams.iter().flatten().count()), Ordering::Relaxed);
                thread::sleep(Duration::from_secs(1));
            }
            made
        });
        Self { open, is_over, thread }
    }

    /// All go; how many connections were made.
    fn disperse(self) -> Result<u64, Trouble> {
        self.is_over.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| Trouble("those who connect have panicked".to_owned()))
    }
}

/// Connects, and says nothing or the first bytes of a handshake.
fn begin(to: SocketAddr, number: usize) -> Option<TcpStream> {
    let mut stream = TcpStream::connect(to).ok()?;
    if number.is_multiple_of(2) {
        stream.write_all(&[0x16, 3, 1, 2, 0, 1]).ok()?;
    }
    stream.set_nonblocking(true).ok()?;
    Some(stream)
}

fn is_open(stream: &mut TcpStream) -> bool {
    match stream.read(&mut [0; 64]) {
        Ok(bytes) => bytes > 0,
        Err(error) => error.kind() == ErrorKind::WouldBlock,
    }
}

fn raise_descriptors(connections: usize) -> Result<(), Trouble> {
    let needed = to_u64(connections) + 100;
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    if maximum.is_some_and(|maximum| maximum < needed) {
        return Err(Trouble(format!("{needed} descriptors are needed: ulimit -Hn says less")));
    }
    Ok(setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?)
}

/// An address that nobody listens at, at this moment.
fn free_port() -> Result<SocketAddr, Trouble> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

fn memory_mib(process: u32, name: &str) -> Result<u64, Trouble> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find(|line| line.starts_with(name));
    let number = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
    number.map(|kib| kib / 1024).ok_or_else(|| Trouble(format!("the kernel does not say {name}")))
}

fn to_u64(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

/// How long a member may take to start.
const START_MAX: Duration = Duration::from_secs(20);
