//! What a process asks of its system once: a directory, limits.
#![expect(clippy::unwrap_used, reason = "the linter does not see that helpers of tests are tests")]

use core::time::Duration;
use std::fs;
use std::io::{BufRead, BufReader, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;

use cairn_io::datadir::{self, DataDir};
use cairn_io::probe::Kind;
use cairn_io::runtime::{Plan, Program, Runtime, launch};
use cairn_io::signals;

const CHILD: &str = "CAIRN_IO_CHILD";

fn scratch(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("cairn-{name}-{}", std::process::id()));
    drop(fs::remove_dir_all(&path));
    path
}

/// Starts the test `name` in a child process, with `role` in its environment.
fn child(name: &str, role: &str) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(CHILD, role)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Waits until the child prints a line with this text.
fn wait_for(output: &mut impl BufRead, text: &str) -> String {
    loop {
        let mut line = String::new();
        assert!(output.read_line(&mut line).unwrap() > 0, "the child ended before {text:?}");
        if line.contains(text) {
            return line;
        }
    }
}

#[test]
fn the_directory_is_made_for_us_alone() {
    let path = scratch("private");
    let directory = DataDir::open(&path.join("below")).unwrap();
    let mode = fs::metadata(directory.path()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    fs::remove_dir_all(path).unwrap();
}

#[test]
fn the_directory_is_held_by_one_process() {
    if let Ok(path) = std::env::var(CHILD) {
        let _directory = DataDir::open(path.as_ref()).unwrap();
        println!("held");
        thread::sleep(Duration::from_secs(60));
        return;
    }
    let path = scratch("held");
    let mut holder = child("the_directory_is_held_by_one_process", path.to_str().unwrap());
    wait_for(&mut BufReader::new(holder.stdout.take().unwrap()), "held");
    let error = DataDir::open(&path).unwrap_err();
    assert!(matches!(error, datadir::Error::Held { .. }), "{error}");
    let (message, process) = (error.to_string(), holder.id());
    assert_eq!(
        message,
        format!("data directory {} is in use by process {process}", path.display())
    );
    // However it ends.
    holder.kill().unwrap();
    holder.wait().unwrap();
    let directory = DataDir::open(&path).unwrap();
    // A lock is a file description's, so the same process is refused too.
    assert!(matches!(DataDir::open(&path), Err(datadir::Error::Held { .. })));
    drop(directory);
    DataDir::open(&path).unwrap();
    fs::remove_dir_all(path).unwrap();
}

#[test]
fn a_directory_that_cannot_be_made_is_an_error() {
    let error = DataDir::open("/proc/cairn".as_ref()).unwrap_err();
    assert!(error.to_string().starts_with("cannot create data directory /proc/cairn: "), "{error}");
    let error = DataDir::open("/dev/null".as_ref()).unwrap_err();
    assert!(matches!(error, datadir::Error::Failed { .. }), "{error}");
}

/// A file-size limit is an error with a name, not a death.
#[test]
fn a_file_size_limit_is_an_error() {
    use cairn_io::disk::{Cause, Disk as _, Pace};

    #[derive(Clone)]
    struct Fills(PathBuf);
    impl Program for Fills {
        type Seat = ();
        type Output = String;
        async fn run<R: Runtime>(self, _core: usize, (): ()) -> String {
            let disk = R::Disk::start().unwrap();
            let made = disk.create_zeroed(&self.0.join("segment"), 1 << 20, Pace::Urgent).await;
            let error = made.unwrap_err();
            assert!(matches!(error.cause, Cause::NoSpace(_)), "{error:?}");
            error.to_string()
        }
    }
    if let Ok(path) = std::env::var(CHILD) {
        use rustix::process::{Resource, Rlimit, setrlimit};
        let limit = Some(64 * 1024);
        setrlimit(Resource::Fsize, Rlimit { current: limit, maximum: limit }).unwrap();
        let _signals = signals::block().unwrap().deliver().unwrap();
        let error = launch(Kind::Tokio, Plan::default(), Fills(path.into()), vec![()]).unwrap();
        println!("error: {}", error[0]);
        return;
    }
    let path = scratch("limited");
    fs::create_dir_all(&path).unwrap();
    let mut filling = child("a_file_size_limit_is_an_error", path.to_str().unwrap());
    let mut output = String::new();
    filling.stdout.take().unwrap().read_to_string(&mut output).unwrap();
    assert!(output.contains("segment.tmp") && output.contains("File too large"), "{output}");
    assert!(filling.wait().unwrap().success());
    fs::remove_dir_all(path).unwrap();
}
