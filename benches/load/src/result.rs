//! What a run measured, as others read it: JSON for programs, a table for people. Latencies are in microseconds.

use core::fmt::Write as _;
use std::fs;
use std::path::Path;

use hdrhistogram::Histogram;
use serde_json::{Map, Value, json};

use crate::clock::SECOND;
use crate::drive::Outcome;
use crate::options::Common;
use crate::process::Memory;
use crate::record::Second;

/// A run: its own JSON, so that one that was read is like one that was made.
#[derive(Clone, Debug)]
pub(crate) struct Run(pub(crate) Value);

impl Run {
    pub(crate) fn of(name: &str, common: &Common, outcome: &Outcome) -> Self {
        let record = &outcome.record;
        let seconds = seconds(outcome.elapsed);
        let count = record.count();
        let each = |us: Option<u64>| us.map(|us| us as f64 / count.max(1) as f64);
        let kinds =
            outcome.kinds.iter().zip(&record.kinds).filter(|(_, latency)| !latency.is_empty());
        let kinds: Vec<_> = kinds
            .map(|(name, latency)| {
                json!({
                    "name": name,
                    "count": latency.len(),
                    "per_second": latency.len() as f64 / seconds,
                    "latency_us": percentiles(latency),
                    "curve": curve(latency),
                })
            })
            .collect();
        let [before, ready, most, end] = outcome.memory.map(memory);
        let pids = &common.server_pid;
        let server = (!pids.is_empty()).then(|| {
            json!({
                "cpu_seconds": outcome.server_cpu_us.map(|us| us as f64 / 1e6),
                "cpu_us_per_operation": each(outcome.server_cpu_us),
                "memory_bytes": {"before": before, "ready": ready, "most": most, "end": end},
            })
        });
        Self(json!({
            "name": name,
            "label": common.label,
            "endpoints": common.endpoints,
            "elapsed_seconds": seconds,
            "operations": count,
            "per_second": count as f64 / seconds,
            "kinds": kinds,
            "service_us": percentiles(&record.service),
            "server": server,
            "generator": {"cpu_us_per_operation": each(outcome.own_cpu_us)},
            "seconds": record.seconds.iter().map(second).collect::<Vec<_>>(),
            "errors": record.errors,
            "never_begun": record.never_begun,
        }))
    }

    /// Reads what another run printed.
    pub(crate) fn read(path: &Path) -> Result<Self, String> {
        let failed = |error: &dyn core::fmt::Display| format!("{}: {error}", path.display());
        let text = fs::read_to_string(path).map_err(|error| failed(&error))?;
        let value: Value = serde_json::from_str(&text).map_err(|error| failed(&error))?;
        if value["kinds"].is_array() && value["seconds"].is_array() {
            Ok(Self(value))
        } else {
            Err(failed(&"this is not what 'cairn bench --json' prints"))
        }
    }

    pub(crate) fn json(&self) -> String {
        format!("{}\n", self.0)
    }

    /// Operations that failed, or were never begun.
    pub(crate) fn errors(&self) -> u64 {
        let errors = self.0["errors"].as_object();
        let errors = errors.into_iter().flat_map(Map::values).filter_map(Value::as_u64);
        errors.sum::<u64>() + self.0["never_begun"].as_u64().unwrap_or(0)
    }

    /// What it is called.
    pub(crate) fn title(&self) -> String {
        let (label, name) = (text(&self.0["label"]), text(&self.0["name"]));
        if label.is_empty() { name } else { format!("{label}: {name}") }
    }

    /// What people read.
    pub(crate) fn table(&self) -> String {
        let mut out = format!("{}\n\n", self.title());
        let head = ["", "count", "per second", "p50", "p90", "p99", "p99.9", "p99.99", "max"];
        let mut rows = vec![head.map(str::to_owned)];
        for kind in self.kinds() {
            rows.push(row(&text(&kind["name"]), kind, &kind["latency_us"]));
        }
        columns(&mut out, &rows);
        let number = |value: &Value| value.as_f64();
        let server = &self.0["server"];
        if let Some(us) = number(&server["cpu_us_per_operation"]) {
            let most = number(&server["memory_bytes"]["most"]["resident"]).unwrap_or(0.0) / 1e6;
            let end = number(&server["memory_bytes"]["end"]["resident"]).unwrap_or(0.0) / 1e6;
            line(
                &mut out,
                format_args!(
                    "server: {us:.2} us of CPU for each operation, {end:.1} MB resident, {most:.1} MB at most"
                ),
            );
        }
        if let Some(us) = number(&self.0["generator"]["cpu_us_per_operation"]) {
            line(&mut out, format_args!("generator: {us:.2} us of CPU for each operation"));
        }
        let never = self.0["never_begun"].as_u64().unwrap_or(0);
        if never > 0 {
            line(
                &mut out,
                format_args!(
                    "{never} operations were due and never begun: the rate is more than there are slots for"
                ),
            );
        }
        for (what, count) in self.0["errors"].as_object().into_iter().flatten() {
            line(&mut out, format_args!("{count} failed: {what}"));
        }
        out
    }

    pub(crate) fn kinds(&self) -> impl Iterator<Item = &Value> {
        self.0["kinds"].as_array().into_iter().flatten()
    }
}

fn line(out: &mut String, what: core::fmt::Arguments<'_>) {
    writeln!(out, "{what}").expect("a string has room");
}

pub(crate) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn seconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / SECOND as f64
}

fn us(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e3
}

/// The percentiles of tables, and least, mean and most.
fn percentiles(latency: &Histogram<u64>) -> Value {
    let mut named: Map<_, _> = QUANTILES
        .iter()
        .map(|&(name, quantile)| (name.to_owned(), us(latency.value_at_quantile(quantile)).into()))
        .collect();
    named.insert("min".to_owned(), us(latency.min()).into());
    named.insert("mean".to_owned(), (latency.mean() / 1e3).into());
    named.insert("max".to_owned(), us(latency.max()).into());
    Value::Object(named)
}

/// Quantile and latency, closer together the rarer they are, as far as there are operations for it.
fn curve(latency: &Histogram<u64>) -> Vec<[f64; 2]> {
    let rarest = (latency.len().max(1) as f64).log10();
    let points = (0..=60).map(|point| f64::from(point) / 10.0).take_while(|&nines| nines <= rarest);
    points
        .map(|nines| {
            let quantile = 1.0 - 10_f64.powf(-nines);
            [quantile, us(latency.value_at_quantile(quantile))]
        })
        .collect()
}

fn second(second: &Second) -> Value {
    let at = |quantile| us(second.latency.value_at_quantile(quantile));
    json!({
        "count": second.latency.len(),
        "errors": second.errors,
        "p50": at(0.5),
        "p99": at(0.99),
        "max": us(second.latency.max()),
    })
}

fn memory(memory: Memory) -> Value {
    json!({"resident": memory.resident, "anonymous": memory.anonymous})
}

fn row(name: &str, kind: &Value, latency: &Value) -> [String; 9] {
    let at = |name: &str| duration(latency[name].as_f64().unwrap_or(0.0));
    [
        name.to_owned(),
        kind["count"].to_string(),
        format!("{:.0}", kind["per_second"].as_f64().unwrap_or(0.0)),
        at("p50"),
        at("p90"),
        at("p99"),
        at("p99.9"),
        at("p99.99"),
        at("max"),
    ]
}

/// Microseconds in a unit in which they are short.
pub(crate) fn duration(us: f64) -> String {
    if us < 1000.0 {
        format!("{us:.0} us")
    } else if us < 100_000.0 {
        format!("{:.2} ms", us / 1e3)
    } else if us < 1e6 {
        format!("{:.0} ms", us / 1e3)
    } else {
        format!("{:.2} s", us / 1e6)
    }
}

/// Writes rows whose columns stand below each other, the first to the left.
fn columns<const N: usize>(out: &mut String, rows: &[[String; N]]) {
    let mut widths = [0; N];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    for row in rows {
        let first = format!("{:<1$}", row[0], widths[0]);
        let rest = row.iter().zip(widths).skip(1).map(|(cell, width)| format!("  {cell:>width$}"));
        line(out, format_args!("{first}{}", rest.collect::<String>()));
    }
}

/// What is told of a distribution.
const QUANTILES: [(&str, f64); 5] =
    [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999), ("p99.99", 0.9999)];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::histogram;

    #[test]
    fn percentiles_are_those_of_what_was_recorded() {
        let mut latency = histogram(3);
        (1..=10_000).for_each(|us| latency.record(us * 1000).unwrap());
        let told = percentiles(&latency);
        for (name, expected) in
            [("p50", 5000.0), ("p99", 9900.0), ("p99.99", 9999.0), ("max", 10_000.0)]
        {
            let told = told[name].as_f64().unwrap();
            assert!((told / expected - 1.0).abs() < 0.002, "{name}: {told}");
        }
        let curve = curve(&latency);
        assert_eq!(curve.len(), 41, "four nines are all that ten thousand operations have");
        assert!(curve.windows(2).all(|two| two[0][1] <= two[1][1]), "{curve:?}");
    }

    #[test]
    fn durations_are_short() {
        let told = [0.4, 999.0, 1500.0, 99_999.0, 250_000.0, 2_000_000.0].map(duration);
        assert_eq!(told, ["0 us", "999 us", "1.50 ms", "100.00 ms", "250 ms", "2.00 s"]);
    }

    #[test]
    fn an_empty_run_has_no_kinds_and_no_panic() {
        let latency = histogram(3);
        assert_eq!(percentiles(&latency)["p99"], 0.0);
        let run = Run(json!({"name": "n", "label": "l", "errors": {"a": 2}, "never_begun": 3}));
        assert_eq!((run.errors(), run.kinds().count()), (5, 0));
        assert!(run.table().contains("l: n"));
    }
}
