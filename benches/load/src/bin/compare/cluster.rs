//! The members of one system, as child processes with directories of their own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use serde_json::{Value, json};

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum System {
    Cairn,
    Etcd,
    /// etcd that does not wait for its disk.
    UnsafeEtcd,
}

impl System {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Cairn => "cairn",
            Self::Etcd => "etcd",
            Self::UnsafeEtcd => "etcd --unsafe-no-fsync",
        }
    }
}

/// Its members. They end with it, and their directories too.
#[derive(Debug)]
pub(crate) struct Cluster {
    members: Vec<Child>,
    directory: PathBuf,
    pub(crate) started: Instant,
}

impl Cluster {
    /// # Errors
    /// If a program cannot be started.
    #[expect(clippy::disallowed_methods, reason = "what is measured is real time")]
    pub(crate) fn start(system: System, program: &Path, members: usize) -> Result<Self, String> {
        let directory = std::env::temp_dir().join(format!("cairn-compare-{}", std::process::id()));
        fs::create_dir_all(&directory)
            .map_err(|error| format!("{}: {error}", directory.display()))?;
        let peers: Vec<_> = (0..members).map(|n| format!("m{n}={}", url(n, "1"))).collect();
        let mut cluster = Self { members: Vec::new(), directory, started: Instant::now() };
        for number in 0..members {
            let (client, peer) = (url(number, "0"), url(number, "1"));
            let data = cluster.directory.join(format!("data{number}"));
            let log = cluster.directory.join(format!("log{number}"));
            let log =
                fs::File::create(&log).map_err(|error| format!("{}: {error}", log.display()))?;
            let mut command = Command::new(program);
            command.args(["--log-level", "error", "--name", &format!("m{number}"), "--data-dir"]);
            command.arg(data).args(["--listen-client-urls", &client]);
            command.args(["--advertise-client-urls", &client, "--listen-peer-urls", &peer]);
            command.args(["--initial-advertise-peer-urls", &peer]);
            command.args(["--initial-cluster", &peers.join(",")]);
            // The loads leave more than the default allows.
            command.args(["--quota-backend-bytes", "8589934592"]);
            if system == System::UnsafeEtcd {
                command.arg("--unsafe-no-fsync");
            }
            let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn();
            let child = child.map_err(|error| format!("{}: {error}", program.display()))?;
            cluster.members.push(child);
        }
        Ok(cluster)
    }

    pub(crate) fn endpoints(&self) -> String {
        (0..self.members.len()).map(|number| url(number, "0")).collect::<Vec<_>>().join(",")
    }

    pub(crate) fn pids(&self) -> String {
        self.members.iter().map(|member| member.id().to_string()).collect::<Vec<_>>().join(",")
    }

    /// What the first member said last.
    pub(crate) fn last_words(&self) -> String {
        let text = fs::read_to_string(self.directory.join("log0")).unwrap_or_default();
        text.lines().last().unwrap_or("nothing").to_owned()
    }

    /// Memory after a second without load, and the share of a core that five seconds of it take.
    pub(crate) fn idle(&self) -> Value {
        let wait = |seconds| std::thread::sleep(core::time::Duration::from_secs(seconds));
        wait(1);
        let before = self.ticks();
        wait(5);
        let percent = (self.ticks() - before) / 5.0;
        let resident: u64 = self.members.iter().map(|member| resident(member.id())).sum();
        json!({"resident_bytes": resident, "cpu_percent": percent})
    }

    /// Hundredths of seconds of CPU time, as Linux counts them on every machine that we know.
    fn ticks(&self) -> f64 {
        let of = |member: &Child| {
            let stat = fs::read_to_string(format!("/proc/{}/stat", member.id())).ok()?;
            let (_, rest) = stat.rsplit_once(')')?;
            let fields = rest.split_ascii_whitespace().skip(11).take(2);
            Some(fields.filter_map(|field| field.parse::<f64>().ok()).sum::<f64>())
        };
        self.members.iter().filter_map(of).sum()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for member in &mut self.members {
            member.kill().ok();
        }
        for member in &mut self.members {
            member.wait().ok();
        }
        fs::remove_dir_all(&self.directory).ok();
    }
}

fn url(number: usize, last: &str) -> String {
    format!("http://127.0.0.1:239{number}{last}")
}

fn resident(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|rest| rest.split_ascii_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}
