//! `cairn local-cluster`: three members, one that is killed and started again, and an end that leaves nobody behind.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use rustix::process::{Pid, Signal, kill_process};

use crate::harness::{LIMIT, Place, cairn};

/// Killed if the test fails; then its members end with its temporary directory.
struct Running {
    child: Child,
    lines: Receiver<String>,
}

impl Running {
    fn wait_for(&self, holds: impl Fn(&str) -> bool) -> String {
        loop {
            let line = self.lines.recv_timeout(LIMIT).expect("it goes on");
            if holds(&line) {
                return line;
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It stops its members.
        kill_process(Pid::from_child(&self.child), Signal::TERM).ok();
        self.child.wait().ok();
    }
}

#[test]
fn a_cluster_is_run_and_watched() {
    let place = Place::new();
    let address = place.address.ip().to_string();
    let mut child = cairn()
        .args(["local-cluster", "3", "--address", &address, "--", "--election-timeout=500"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut words = child.stdin.take().unwrap();
    let out = child.stdout.take().unwrap();
    let (say, lines) = channel();
    thread::spawn(move || {
        BufReader::new(out).lines().map_while(Result::ok).all(|line| say.send(line).is_ok())
    });
    let mut running = Running { child, lines };
    let endpoints = running.wait_for(|line| line.starts_with("export ETCDCTL_ENDPOINTS="));
    assert_eq!(endpoints.matches(&address).count(), 3);
    running.wait_for(|line| line.contains("leader at term"));
    words.write_all(b"1\n").unwrap();
    running.wait_for(|line| line.starts_with("m1 ended: signal: 9"));
    words.write_all(b"1\n").unwrap();
    running.wait_for(|line| line.starts_with("m1 ") && line.contains("follower at term"));
    kill_process(Pid::from_child(&running.child), Signal::INT).unwrap();
    let ended = running.child.wait().unwrap();
    assert_eq!(ended.code(), Some(0), "{ended:?}");
    for port in [2379, 2381, 2383] {
        TcpStream::connect((address.as_str(), port)).expect_err("nobody is left behind");
    }
}

#[test]
fn a_directory_keeps_its_cluster() {
    let place = Place::new();
    std::fs::create_dir_all(place.data()).unwrap();
    let file = place.data().join("local-cluster");
    std::fs::write(file, "members 5\naddress 127.0.0.1\nport 2379\n").unwrap();
    let address = place.address.ip().to_string();
    let mut command = cairn();
    command.args(["local-cluster", "--address", &address, "--data-dir"]).arg(place.data());
    let output = command.stderr(Stdio::piped()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("holds another cluster (members 5"), "{said}");
}
