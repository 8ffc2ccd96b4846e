//! From events to lines.

use std::sync::mpsc::{Sender, channel};

use serde_json::Value;

use super::*;

struct Channel(Sender<String>);

impl Write for Channel {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.send(String::from_utf8(bytes.to_vec()).unwrap()).unwrap();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The lines that are logged at a level.
fn logged(level: Level, format: Format, log: impl FnOnce()) -> Vec<String> {
    let (sender, receiver) = channel();
    let queue = Queue::start(vec![Sink::Stream(Box::new(Channel(sender)))], format).unwrap();
    let formatter = Formatter { queue: queue.clone(), format, level };
    tracing::subscriber::with_default(Registry::default().with(formatter), log);
    assert!(queue.flush(Duration::from_secs(60)));
    receiver.try_iter().collect::<String>().lines().map(str::to_owned).collect()
}

#[test]
fn fields_become_json_with_etcds_names() {
    let urls = ["http://a:1", "http://b:2"];
    let lines = logged(Level::Info, Format::Json, || {
        let error: &(dyn Error + 'static) = &io::Error::other("no \"way\"");
        tracing::info!(
            listen_address = "127.0.0.1:2379",
            "member-id" = 7_u64,
            negative = -1_i64,
            on = true,
            shown = %"x",
            debugged = ?"y",
            nothing = Option::<u64>::None,
            ratio = 0.5,
            odd = f64::NAN,
            urls = list(&urls).field(),
            none = list(&[""; 0]).field(),
            error = error,
            "serving {} clients",
            3
        );
    });
    let line: Value = serde_json::from_str(&lines[0]).unwrap();
    let caller = line["caller"].as_str().unwrap();
    assert!(caller.starts_with("log/tests.rs:"), "{caller}");
    let (_, rest) = lines[0].split_once(&format!("\"caller\":\"{caller}\",")).unwrap();
    assert_eq!(
        rest,
        r#""msg":"serving 3 clients","listen-address":"127.0.0.1:2379","member-id":7,"negative":-1,"on":true,"shown":"x","debugged":"\"y\"","ratio":0.5,"odd":"NaN","urls":["http://a:1","http://b:2"],"none":[],"error":"no \"way\""}"#
    );
}

#[test]
fn the_console_is_for_people() {
    let lines = logged(Level::Info, Format::Console, || {
        tracing::warn!(urls = list(&["a", "b"]).field(), n = 1, "look");
        tracing::warn!("no fields");
    });
    assert!(lines[0].ends_with("\tlook\t{\"urls\": [\"a\", \"b\"], \"n\": 1}"), "{lines:?}");
    assert!(lines[0].contains("Z\twarn\tlog/tests.rs:"));
    assert!(lines[1].ends_with("\tno fields"));
}

#[test]
fn what_is_less_important_is_left_out() {
    let log_all = || {
        tracing::trace!("trace");
        tracing::debug!("debug");
        tracing::info!("info");
        tracing::warn!("warn");
        tracing::error!("error");
        tracing::error!(target: FATAL, "fatal");
        tracing::info!(target: "h2::server", "foreign info");
        tracing::warn!(target: "h2::server", "foreign warn");
    };
    for (level, expected) in [
        (Level::Debug, "debug info warn error fatal warn"),
        (Level::Info, "info warn error fatal warn"),
        (Level::Warn, "warn error fatal warn"),
        (Level::Error, "error fatal"),
        (Level::Panic, "fatal"),
        (Level::Fatal, "fatal"),
    ] {
        let lines = logged(level, Format::Json, log_all);
        let levels: Vec<String> = lines
            .iter()
            .map(|line| {
                serde_json::from_str::<Value>(line).unwrap()["level"].as_str().unwrap().to_owned()
            })
            .collect();
        assert_eq!(levels.join(" "), expected, "{level:?}");
    }
}
