//! The server as a child process: started, killed without warning, started again.

use core::net::SocketAddr;
use core::time::Duration;
use std::fs::{File, OpenOptions};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tokio::time::{Instant, sleep};

use crate::Trouble;

/// One member, alone in its cluster.
#[derive(Debug)]
pub(crate) struct Server {
    program: PathBuf,
    data: PathBuf,
    client: SocketAddr,
    peer: SocketAddr,
    child: Option<Child>,
}

impl Server {
    /// A server that is yet to start, on free ports, with its data and its log below `folder`.
    pub(crate) fn new(program: PathBuf, folder: &Path) -> Result<Self, Trouble> {
        std::fs::create_dir_all(folder)?;
        let (client, peer) = (free_address()?, free_address()?);
        Ok(Self { program, data: folder.to_path_buf(), client, peer, child: None })
    }

    /// Where clients find it.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.client)
    }

    /// Where its log is.
    pub(crate) fn log(&self) -> PathBuf {
        self.data.join("cairn.log")
    }

    /// Starts the process and waits until it accepts connections.
    pub(crate) async fn start(&mut self) -> Result<(), Trouble> {
        let begin = Instant::now();
        let log: File = OpenOptions::new().create(true).append(true).open(self.log())?;
        let (client, peer) = (self.url(), format!("http://{}", self.peer));
        let child = Command::new(&self.program)
            .arg("--data-dir")
            .arg(self.data.join("data"))
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &format!("default={peer}")])
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .map_err(|error| Trouble(format!("{}: {error}", self.program.display())))?;
        let child = self.child.insert(child);
        while TcpStream::connect(self.client).is_err() {
            if let Some(status) = child.try_wait()? {
                return Err(Trouble(format!("the server ended with {status}: see its log")));
            }
            if begin.elapsed() > START_MAX {
                return Err(Trouble(format!("the server does not serve after {START_MAX:?}")));
            }
            sleep(Duration::from_millis(2)).await;
        }
        Ok(())
    }

    /// Kills the process as `kill -9` does, and waits until it is gone.
    pub(crate) fn kill(&mut self) -> Result<(), Trouble> {
        if let Some(mut child) = self.child.take() {
            if let Some(status) = child.try_wait()? {
                return Err(Trouble(format!("the server had ended by itself, with {status}")));
            }
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Nobody is left to hear of a server that has already gone.
        self.kill().ok();
    }
}

/// How long a start may take, the reading of the log included.
const START_MAX: Duration = Duration::from_secs(120);

fn free_address() -> Result<SocketAddr, Trouble> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}
