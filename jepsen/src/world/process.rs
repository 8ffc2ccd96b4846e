//! A child process: started, paused, killed without warning.

use core::time::Duration;
use std::fs::OpenOptions;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tokio::time::{Instant, sleep};

use crate::Trouble;

/// A process that runs, or has ended without our doing.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    paused: bool,
}

impl Process {
    /// Starts a program whose output is added to the file `log`.
    pub(crate) fn start(program: &Path, arguments: &[String], log: &Path) -> Result<Self, Trouble> {
        let log = OpenOptions::new().create(true).append(true).open(log)?;
        let child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .map_err(|error| Trouble(format!("{}: {error}", program.display())))?;
        Ok(Self { child, paused: false })
    }

    /// The process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> Result<Option<ExitStatus>, Trouble> {
        Ok(self.child.try_wait()?)
    }

    /// Stops its clock, so to say: it does nothing until it is continued.
    pub(crate) fn pause(&mut self) -> Result<(), Trouble> {
        self.paused = true;
        self.signal(Signal::STOP)
    }

    /// Continues it after a pause; without one it does nothing.
    pub(crate) fn proceed(&mut self) -> Result<(), Trouble> {
        if self.paused {
            self.paused = false;
            self.signal(Signal::CONT)?;
        }
        Ok(())
    }

    /// Kills it as `kill -9` does, and waits until it is gone. It is an error if it has gone by itself.
    pub(crate) fn kill(mut self) -> Result<(), Trouble> {
        if let Some(status) = self.ended()? {
            return Err(Trouble(format!("it had ended by itself, with {status}")));
        }
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Asks it to end, and waits for that as long as [`TERMINATION_MAX`]; then kills it.
    pub(crate) async fn terminate(mut self) -> Result<Ended, Trouble> {
        if let Some(status) = self.ended()? {
            return Err(Trouble(format!("it had ended by itself, with {status}")));
        }
        self.proceed()?;
        self.signal(Signal::TERM)?;
        let begin = Instant::now();
        while self.ended()?.is_none() {
            if begin.elapsed() > TERMINATION_MAX {
                self.child.kill()?;
                self.child.wait()?;
                return Ok(Ended::Killed);
            }
            sleep(Duration::from_millis(2)).await;
        }
        Ok(Ended::Obeyed)
    }

    fn signal(&self, signal: Signal) -> Result<(), Trouble> {
        // While the child is not waited for, its id is not given to another process.
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| Trouble("a process without an id".to_owned()))?;
        kill_process(pid, signal).map_err(|error| Trouble(format!("a signal: {error}")))
    }
}

/// How a process ended that was asked to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// By itself.
    Obeyed,
    /// It did not in time.
    Killed,
}

impl Drop for Process {
    fn drop(&mut self) {
        // Nobody is left to hear of a process that has already gone.
        if let Ok(None) = self.child.try_wait() {
            self.child.kill().ok();
            self.child.wait().ok();
        }
    }
}

/// How long a process may take to end when it is asked to.
const TERMINATION_MAX: Duration = Duration::from_secs(20);
