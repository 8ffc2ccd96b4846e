//! What a process says that panics.
//!
//! The test runs itself: with a variable set, it is the process that panics.

use std::env;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::thread;

use cairn_server::log;

const CHILD: &str = "CAIRN_TEST_PANICS";

#[test]
fn a_panic_is_a_line_of_the_log_and_ends_the_process() {
    if env::var_os(CHILD).is_some() {
        log::start(&log::Settings::default()).unwrap();
        tracing::info!(target: "cairn_test", "before");
        thread::Builder::new()
            .name("core-1".to_owned())
            .spawn(|| panic!("all is lost:\n{}", 7))
            .unwrap()
            .join()
            .ok();
        unreachable!("the process has ended");
    }
    let test = "a_panic_is_a_line_of_the_log_and_ends_the_process";
    let mut command = Command::new(env::current_exe().unwrap());
    let output = command.args(["--exact", test, "--nocapture"]).env(CHILD, "1").output().unwrap();
    const SIGABRT: i32 = 6;
    assert_eq!(output.status.signal(), Some(SIGABRT));
    let stderr = String::from_utf8(output.stderr).unwrap();
    let lines: Vec<&str> = stderr.lines().collect();
    assert!(lines[0].ends_with(r#""msg":"before"}"#), "{stderr}");
    assert!(lines[1].starts_with(r#"{"level":"fatal","ts":""#), "{stderr}");
    assert!(lines[1].contains(r#""caller":"tests/last_words.rs:"#));
    assert!(lines[1].contains(r#""msg":"all is lost:\n7","thread":"core-1","stacktrace":""#));
    assert_eq!(lines.len(), 2, "{stderr}");
}
