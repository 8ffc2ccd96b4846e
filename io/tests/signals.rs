//! A parked executor of either runtime hears signals, and the process dies by the one it chooses.
//!
//! No test harness: its threads would not block the signals. The program starts itself as a child, which
//! does what a server's `main` does, and sends it signals.
#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test without the harness by which the linter knows tests"
)]

use core::time::Duration;
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, Stdio};
use std::thread;

use cairn_io::probe::{Choice, Kind, select};
use cairn_io::runtime::{Plan, Program, Runtime, launch};
use cairn_io::signals::{self, Signal, Signals};
use rustix::process::{Pid, kill_process};

/// Waits for two signals and returns the second.
#[derive(Clone)]
struct Listens;

impl Program for Listens {
    type Seat = Signals;
    type Output = Signal;

    async fn run<R: Runtime>(self, _core: usize, mut signals: Signals) -> Signal {
        println!("ready");
        println!("got {}", signals.next().await);
        signals.next().await
    }
}

fn main() {
    // Cargo passes flags of the harness that is not there; the child is told apart by its first word.
    match std::env::args().nth(1).as_deref() {
        Some("child-glommio") => listen(Kind::Glommio),
        Some("child-tokio") => listen(Kind::Tokio),
        Some(_) | None => {}
    }
    for name in ["glommio", "tokio"] {
        if name == "glommio" && select(Choice::Glommio).is_err() {
            println!("glommio: not checked, no io_uring on this machine");
            continue;
        }
        hears(name, Signal::Terminate, rustix::process::Signal::TERM);
        hears(name, Signal::Interrupt, rustix::process::Signal::INT);
        println!("a parked {name} hears signals ... ok");
    }
}

fn listen(kind: Kind) -> ! {
    let signals = signals::block().unwrap().deliver().unwrap();
    let last = launch(kind, Plan::default(), Listens, vec![signals]).unwrap()[0];
    signals::die_by(last)
}

fn hears(name: &str, last: Signal, number: rustix::process::Signal) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .arg(format!("child-{name}"))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let process = Pid::from_raw(child.id().cast_signed()).unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    output.read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    // So that it is parked, most probably.
    thread::sleep(Duration::from_millis(50));
    kill_process(process, rustix::process::Signal::HUP).unwrap();
    line.clear();
    output.read_line(&mut line).unwrap();
    assert_eq!(line, "got hangup\n");
    kill_process(process, number).unwrap();
    output.read_to_string(&mut line).unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some(last.number()), "{line}");
}
