//! `cairn local-cluster`: members of a cluster as processes of this machine, and a look at them while they run.
//!
//! To try things: what a client sees of an election, what a member that dies costs. Each member is this very binary
//! with etcd's flags, on two ports of the loopback interface; what it says goes to a file beside its data.
//!
//! Limits: whoever kills this process with SIGKILL leaves the members running.

mod ask;
mod member;
mod show;

use core::net::{Ipv4Addr, SocketAddr};
use core::pin::pin;
use core::time::Duration;
use std::ffi::OsString;
use std::io::{self, BufRead as _, IsTerminal as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::{fs, thread};

use cairn_io::signals::{self, Signal, Signals};
use futures_util::future::{Either, join_all, select};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use self::ask::{Asker, State};
use self::member::Member;
use self::show::Screen;

/// A cluster on this machine.
#[derive(Debug, clap::Args)]
pub(super) struct Options {
    /// How many members
    #[arg(default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=9))]
    members: u16,
    /// Keep the data here, and go on with what is there; else it is gone at the end
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// The first member's port for clients; its port for peers is the next one, and so on
    #[arg(long, value_name = "PORT", default_value_t = 2379)]
    port: u16,
    /// The address of all members; all of 127.0.0.0/8 is this machine
    #[arg(long, value_name = "ADDRESS", default_value_t = Ipv4Addr::LOCALHOST)]
    address: Ipv4Addr,
    /// Start a member again when it dies
    #[arg(long)]
    restart: bool,
    /// Flags for each member, as --election-timeout=500
    #[arg(last = true, value_name = "FLAGS")]
    flags: Vec<OsString>,
}

/// Runs a cluster until a signal ends it.
pub(super) fn run(options: &Options) -> ExitCode {
    match start(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            super::complain(why);
            ExitCode::FAILURE
        }
    }
}

fn start(options: &Options) -> Result<(), String> {
    let signals = signals::block().and_then(signals::Blocked::deliver);
    let signals = signals.map_err(|error| format!("cannot take signals: {error}"))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("cannot start: {error}"))?;
    let temporary = std::env::temp_dir().join(format!("cairn-local-{}", std::process::id()));
    let directory = options.data_dir.as_deref().unwrap_or(&temporary);
    let places = places(options)?;
    claim(directory, options)?;
    let outcome = runtime.block_on(serve(options, directory, &places, signals));
    if options.data_dir.is_none() {
        // What stays is in a directory for such things.
        fs::remove_dir_all(&temporary).ok();
    }
    outcome
}

/// Where a member is reached by clients, and by peers.
#[derive(Clone, Copy, Debug)]
struct Place {
    client: SocketAddr,
    peer: SocketAddr,
}

/// A place for each member, of which nobody has any yet.
fn places(options: &Options) -> Result<Vec<Place>, String> {
    let place = |member: u16| {
        let address = |port| Some(SocketAddr::from((options.address, port)));
        let port = options.port.checked_add(2 * member)?;
        Some(Place { client: address(port)?, peer: address(port.checked_add(1)?)? })
    };
    let places: Option<Vec<Place>> = (0..options.members).map(place).collect();
    let places = places.ok_or("there are not so many ports")?;
    for address in places.iter().flat_map(|place| [place.client, place.peer]) {
        if let Err(error) = TcpListener::bind(address) {
            return Err(format!("cannot listen on {address}: {error}; choose others with --port"));
        }
    }
    Ok(places)
}

/// Notes what cluster a directory holds: members remember each other's addresses, so they cannot have others later.
fn claim(directory: &Path, options: &Options) -> Result<(), String> {
    let Options { members, address, port, .. } = options;
    let said = format!("members {members}\naddress {address}\nport {port}\n");
    let path = directory.join("local-cluster");
    let failed = |error: io::Error| format!("cannot use {}: {error}", directory.display());
    match fs::read_to_string(&path) {
        Ok(found) if found == said => Ok(()),
        Ok(found) => Err(format!(
            "{} holds another cluster ({}): ask for that one, or give another directory",
            directory.display(),
            found.trim_end().replace('\n', ", ")
        )),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            fs::create_dir_all(directory).and_then(|()| fs::write(path, said)).map_err(failed)
        }
        Err(error) => Err(failed(error)),
    }
}

async fn serve(
    options: &Options,
    directory: &Path,
    places: &[Place],
    mut signals: Signals,
) -> Result<(), String> {
    let mut members = Vec::new();
    for number in 0..places.len() {
        members.push(Member::new(number, places, directory, &options.flags)?);
    }
    let mut askers: Vec<Asker> = places.iter().map(|place| Asker::new(place.client)).collect();
    let mut screen = Screen::begin(directory, places, io::stdout().is_terminal());
    let mut words = words();
    loop {
        for member in &mut members {
            if member.look() && options.restart {
                member.start()?;
            }
        }
        let states = states(&members, &mut askers).await;
        screen.show(&members, &states);
        let (signal, word) = (pin!(signals.next()), pin!(next_word(&mut words)));
        match tokio::time::timeout(PERIOD, select(signal, word)).await {
            Ok(Either::Left((Signal::Terminate | Signal::Interrupt, _))) => break,
            Ok(Either::Right((word, _))) => {
                screen.typed();
                obey(&word, &mut members)?;
            }
            Ok(Either::Left((Signal::HangUp, _))) | Err(_) => {}
        }
    }
    screen.end();
    stop(&mut members).await;
    Ok(())
}

/// How often to look.
const PERIOD: Duration = Duration::from_millis(500);

/// Asks all members at once how they are.
async fn states(members: &[Member], askers: &mut [Asker]) -> Vec<Option<State>> {
    let asked = members.iter().zip(askers).map(|(member, asker)| async {
        if member.is_running() { asker.ask().await } else { None }
    });
    join_all(asked).await
}

/// Lines of standard input; a thread waits for them, as nothing else can.
fn words() -> UnboundedReceiver<String> {
    let (tell, words) = unbounded_channel();
    thread::spawn(move || {
        for line in io::stdin().lock().lines().map_while(Result::ok) {
            if tell.send(line).is_err() {
                break;
            }
        }
    });
    words
}

async fn next_word(words: &mut UnboundedReceiver<String>) -> String {
    match words.recv().await {
        Some(word) => word,
        None => core::future::pending().await,
    }
}

/// A member's number kills it, or starts it again.
fn obey(word: &str, members: &mut [Member]) -> Result<(), String> {
    let number: Option<usize> = word.trim().parse().ok().filter(|number| *number > 0);
    let Some(member) = number.and_then(|number| members.get_mut(number - 1)) else { return Ok(()) };
    if member.is_running() {
        member.kill();
        return Ok(());
    }
    member.start()
}

/// Tells all members to stop, and waits until they have.
async fn stop(members: &mut [Member]) {
    members.iter().for_each(Member::terminate);
    for _ in 0..STOP_LOOKS {
        let mut all_ended = true;
        for member in members.iter_mut() {
            member.look();
            all_ended &= !member.is_running();
        }
        if all_ended {
            return;
        }
        tokio::time::sleep(STOP_PERIOD).await;
    }
    // Whoever does not listen is killed when it is dropped.
}

/// How long members may take to stop: longer than their connections may.
const STOP_LOOKS: u32 = 200;
const STOP_PERIOD: Duration = Duration::from_millis(50);
