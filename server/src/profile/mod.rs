//! `/debug/pprof/`: where the process's time goes, as `go tool pprof` reads it.
//!
//! A profile is taken by a signal (`SIGPROF`) each hundredth of a second of CPU time that the process uses; an idle member
//! is not woken. Names are found when it is over, on a thread of its own, so that no core waits.
//!
//! # Limits
//!
//! One profile at a time, as in Go. What Go's runtime knows about its heap and goroutines has no like here: those paths
//! say where to look instead.

mod format;

use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;
use std::io::Write as _;
use std::thread;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::{HeaderName, HeaderValue, StatusCode, header};
use pprof::ProfilerGuardBuilder;
use prost::Message as _;
use tokio::sync::oneshot;

use crate::flags;
use crate::http1::text;
use crate::web::{self, Answer};

/// Samples in a second of CPU time: Go's number.
const SAMPLES_PER_SECOND: i32 = 100;
/// How long a profile takes that says nothing about it: Go's number.
const DEFAULT_SECONDS: u64 = 30;
/// How long one may take.
const SECONDS_MAX: u64 = 600;
/// How often to look whether whoever asked is still there.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Where no sample is taken: whoever holds a lock there would wait for itself.
const NOT_INSIDE: [&str; 4] = ["libc", "libgcc", "pthread", "vdso"];

/// Whether a profile is being taken: there is one timer in a process.
static IS_TAKEN: AtomicBool = AtomicBool::new(false);

/// Answers what was sent to a path below `/debug/pprof/`.
pub(crate) async fn answer(path: &str, seconds: Option<&str>) -> Answer {
    match path {
        "" => html(INDEX),
        "profile" => cpu(seconds).await,
        "cmdline" => text(StatusCode::OK, &flags::arguments().join("\0")),
        // Go's tool asks whether names are to be asked for: they are in the profile.
        "symbol" => text(StatusCode::OK, "num_symbols: 1\n"),
        "heap" | "allocs" => text(StatusCode::NOT_IMPLEMENTED, NO_HEAP),
        "goroutine" | "threadcreate" | "block" | "mutex" | "trace" => {
            text(StatusCode::NOT_IMPLEMENTED, NO_GOROUTINES)
        }
        _ => go_error(StatusCode::NOT_FOUND, "Unknown profile"),
    }
}

async fn cpu(seconds: Option<&str>) -> Answer {
    // As in Go, what is no number of seconds is the default.
    let seconds = seconds.and_then(|text| text.parse().ok()).filter(|seconds| *seconds > 0);
    let seconds = seconds.unwrap_or(DEFAULT_SECONDS);
    if seconds > SECONDS_MAX {
        let why = format!("a profile takes {SECONDS_MAX} seconds at most");
        return go_error(StatusCode::BAD_REQUEST, &why);
    }
    if IS_TAKEN.swap(true, Ordering::Acquire) {
        let why = "Could not enable CPU profiling: cpu profiling already in use";
        return go_error(StatusCode::INTERNAL_SERVER_ERROR, why);
    }
    let (answer, answered) = oneshot::channel();
    let take = move || {
        let taken = take(Duration::from_secs(seconds), || answer.is_closed());
        IS_TAKEN.store(false, Ordering::Release);
        // Whoever asked may be gone.
        answer.send(taken).ok();
    };
    if let Err(error) = thread::Builder::new().name("cairn-profile".into()).spawn(take) {
        IS_TAKEN.store(false, Ordering::Release);
        let why = format!("Could not enable CPU profiling: {error}");
        return go_error(StatusCode::INTERNAL_SERVER_ERROR, &why);
    }
    match tokio::task::coop::unconstrained(answered).await {
        Ok(Ok(profile)) => {
            let mut answer = web::whole(profile);
            let headers = answer.headers_mut();
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(BYTES));
            headers.insert(header::CONTENT_DISPOSITION, HeaderValue::from_static(ATTACHED));
            headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
            answer
        }
        Ok(Err(why)) => go_error(StatusCode::INTERNAL_SERVER_ERROR, &why),
        Err(_) => go_error(StatusCode::INTERNAL_SERVER_ERROR, "the profile was broken off"),
    }
}

const BYTES: &str = "application/octet-stream";
const ATTACHED: &str = "attachment; filename=\"profile\"";

/// Takes a profile for so long, or until nobody wants it; in the form of `profile.proto`, compressed.
fn take(wanted: Duration, is_unwanted: impl Fn() -> bool) -> Result<Bytes, String> {
    let failed =
        |error: &dyn core::fmt::Display| format!("Could not enable CPU profiling: {error}");
    let profiler = ProfilerGuardBuilder::default()
        .frequency(SAMPLES_PER_SECOND)
        .blocklist(&NOT_INSIDE)
        .build()
        .map_err(|error| failed(&error))?;
    let mut left = wanted;
    while !left.is_zero() && !is_unwanted() {
        let pause = left.min(LOOK_EVERY);
        thread::sleep(pause);
        left -= pause;
    }
    let report = profiler.report().build().map_err(|error| failed(&error))?;
    let profile = format::profile(&report).encode_to_vec();
    let mut compressed = GzEncoder::new(Vec::new(), Compression::fast());
    let compressed = compressed.write_all(&profile).and_then(|()| compressed.finish());
    compressed.map(Bytes::from).map_err(|error| failed(&error))
}

/// A refusal as Go's handlers make them.
fn go_error(status: StatusCode, why: &str) -> Answer {
    let mut answer = text(status, &format!("{why}\n"));
    answer
        .headers_mut()
        .insert(HeaderName::from_static("x-go-pprof"), HeaderValue::from_static("1"));
    answer
}

fn html(page: &'static str) -> Answer {
    let mut answer = web::whole(Bytes::from_static(page.as_bytes()));
    let kind = HeaderValue::from_static("text/html; charset=utf-8");
    answer.headers_mut().insert(header::CONTENT_TYPE, kind);
    answer
}

const INDEX: &str = "<html>\n<head><title>/debug/pprof/</title></head>\n<body>\n<h1>/debug/pprof/</h1>\n\
    <ul>\n\
    <li><a href=\"profile?seconds=30\">profile</a>: CPU profile; seconds=N says for how long. \
    <code>go tool pprof http://…/debug/pprof/profile</code></li>\n\
    <li><a href=\"cmdline\">cmdline</a>: the command line, without secrets</li>\n\
    <li>heap, allocs, goroutine, threadcreate, block, mutex, trace: of Go's runtime, not here; \
    see <a href=\"../../metrics\">/metrics</a> and <a href=\"../vars\">/debug/vars</a></li>\n\
    </ul>\n</body>\n</html>\n";
const NO_HEAP: &str = "Cairn has no profile of its heap: its allocator does not sample. How much memory there is, and of what, is in \
    /metrics (process_resident_memory_bytes, etcd_mvcc_db_total_size_in_bytes, etcd_debugging_mvcc_keys_total) and \
    /debug/vars; who allocates is shown by heaptrack(1) or perf(1), which need no restart:\n\n  \
    perf record -e 'probe_libc:malloc' --call-graph dwarf -p PID -- sleep 10\n";
const NO_GOROUTINES: &str = "Cairn has no goroutines, and nothing in it waits for locks that could be profiled. Its threads are \
    one for each core, and a few for disks, passwords and the log: /debug/pprof/profile names the thread of each \
    sample, and `ps -T` shows all of them.\n";

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;

    #[test]
    fn what_takes_time_is_in_the_profile() {
        let worker = thread::Builder::new().name("worker".into());
        let stop = std::sync::Arc::new(AtomicBool::new(false));
        let is_over = std::sync::Arc::clone(&stop);
        let worker = worker.spawn(move || {
            let mut sum = 0_u64;
            while !is_over.load(Ordering::Relaxed) {
                sum = core::hint::black_box(sum.wrapping_mul(31).wrapping_add(7));
            }
        });
        let compressed = take(Duration::from_millis(400), || false).unwrap();
        stop.store(true, Ordering::Relaxed);
        worker.unwrap().join().unwrap();
        let mut bytes = Vec::new();
        flate2::read::GzDecoder::new(&compressed[..]).read_to_end(&mut bytes).unwrap();
        let profile = format::Profile::decode(&bytes[..]).unwrap();
        assert!(!profile.sample.is_empty());
        assert_eq!(profile.string_table[0], "");
        assert!(profile.string_table.iter().any(|text| text == "worker"), "the thread is named");
        let this = "what_takes_time_is_in_the_profile";
        assert!(profile.string_table.iter().any(|text| text.contains(this)), "and the function");
        profile.check();
    }
}
