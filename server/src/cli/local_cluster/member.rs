//! One member: a child process, and what it is started with.

use std::ffi::OsString;
use std::fs::File;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use super::Place;

/// A member. Dropping it kills it.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) name: String,
    /// Where it says what it does.
    pub(super) log: PathBuf,
    arguments: Vec<OsString>,
    child: Option<Child>,
    /// How it ended last, if it has.
    ended: Option<ExitStatus>,
}

impl Member {
    /// Starts the member with a number.
    pub(super) fn new(
        number: usize,
        places: &[Place],
        directory: &Path,
        flags: &[OsString],
    ) -> Result<Self, String> {
        let name = name(number);
        let Place { client, peer } = places[number];
        let cluster: Vec<String> = places
            .iter()
            .enumerate()
            .map(|(other, place)| format!("{}=http://{}", self::name(other), place.peer))
            .collect();
        let data = directory.join(&name);
        let mut arguments: Vec<OsString> = [
            format!("--name={name}"),
            format!("--listen-client-urls=http://{client}"),
            format!("--advertise-client-urls=http://{client}"),
            format!("--listen-peer-urls=http://{peer}"),
            format!("--initial-advertise-peer-urls=http://{peer}"),
            format!("--initial-cluster={}", cluster.join(",")),
            // Several members share the cores.
            "--cores=1".to_owned(),
        ]
        .map(OsString::from)
        .into();
        let mut data_dir = OsString::from("--data-dir=");
        data_dir.push(&data);
        arguments.push(data_dir);
        arguments.extend_from_slice(flags);
        let log = directory.join(format!("{name}.log"));
        let mut member = Self { name, log, arguments, child: None, ended: None };
        member.start()?;
        Ok(member)
    }

    /// Starts it, again perhaps.
    pub(super) fn start(&mut self) -> Result<(), String> {
        let failed = |error: std::io::Error| format!("cannot start {}: {error}", self.name);
        let binary = std::env::current_exe().map_err(failed)?;
        let log = File::options().create(true).append(true).open(&self.log).map_err(failed)?;
        let child = Command::new(binary)
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            // Ctrl-C is for this process; it tells the members.
            .process_group(0)
            .spawn();
        self.child = Some(child.map_err(failed)?);
        self.ended = None;
        Ok(())
    }

    /// Looks whether it has ended; whether that is news.
    pub(super) fn look(&mut self) -> bool {
        let Some(child) = &mut self.child else { return false };
        let Ok(Some(ended)) = child.try_wait() else { return false };
        (self.child, self.ended) = (None, Some(ended));
        true
    }

    pub(super) fn is_running(&self) -> bool {
        self.child.is_some()
    }

    /// How it ended, if it has.
    pub(super) fn ended(&self) -> Option<ExitStatus> {
        self.ended
    }

    /// Tells it to stop.
    pub(super) fn terminate(&self) {
        if let Some(child) = &self.child {
            // A child that was not waited for is there, if only as a zombie.
            kill_process(Pid::from_child(child), Signal::TERM).ok();
        }
    }

    /// Kills it, as a crash would.
    pub(super) fn kill(&mut self) {
        if let Some(child) = &mut self.child {
            child.kill().ok();
        }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.kill();
        if let Some(child) = &mut self.child {
            child.wait().ok();
        }
    }
}

fn name(number: usize) -> String {
    format!("m{}", number + 1)
}
