//! A server for each test: the binary that `CAIRN_BIN` names, in a process and a folder of its own.

use std::fs::File;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command};
use std::thread::sleep;
use std::time::Duration;

use tempfile::TempDir;

/// A running server, which ends with the test.
#[derive(Debug)]
pub struct Server {
    client: SocketAddr,
    process: Child,
    _folder: TempDir,
}

impl Server {
    /// Starts a server and waits until it accepts connections.
    ///
    /// # Panics
    /// If it does not.
    #[expect(clippy::new_without_default, reason = "it starts a process")]
    pub fn new() -> Self {
        let binary = std::env::var_os("CAIRN_BIN").expect("CAIRN_BIN names a binary of Cairn");
        let folder = TempDir::new().expect("a temporary folder");
        let log = File::create(folder.path().join("log")).expect("a log");
        let (client, peer) = (free_address(), free_address());
        let (client_url, peer_url) = (format!("http://{client}"), format!("http://{peer}"));
        let process = Command::new(binary)
            .env_clear()
            .arg("--data-dir")
            .arg(folder.path().join("data"))
            .args(["--listen-client-urls", &client_url, "--advertise-client-urls", &client_url])
            .args(["--listen-peer-urls", &peer_url, "--initial-advertise-peer-urls", &peer_url])
            .args(["--initial-cluster", &format!("default={peer_url}")])
            .stdout(log.try_clone().expect("a log"))
            .stderr(log)
            .spawn()
            .expect("the server starts");
        let server = Self { client, process, _folder: folder };
        let serves = (0..START_TRIES).any(|_| {
            sleep(Duration::from_millis(10));
            TcpStream::connect(client).is_ok()
        });
        assert!(serves, "the server does not serve");
        server
    }

    /// Where clients find it.
    pub fn endpoint(&self) -> String {
        self.client.to_string()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself: then a test has failed already.
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

/// A hundredth of a second each.
const START_TRIES: u32 = 3000;

fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("a bound socket has an address")
}
