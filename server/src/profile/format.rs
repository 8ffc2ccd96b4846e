//! Profiles in the form that `pprof` reads: `profile.proto` of github.com/google/pprof, of which this is the part that
//! profiles of CPU time need.

use std::collections::BTreeMap;
use std::time::UNIX_EPOCH;

use pprof::{Frames, Report, Symbol};
use prost::Message;

/// A profile: samples, and tables of what they name. Places in `string_table` stand for texts; ids are not zero.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Profile {
    #[prost(message, repeated, tag = "1")]
    sample_type: Vec<ValueType>,
    #[prost(message, repeated, tag = "2")]
    pub(super) sample: Vec<Sample>,
    #[prost(message, repeated, tag = "4")]
    location: Vec<Location>,
    #[prost(message, repeated, tag = "5")]
    function: Vec<Function>,
    #[prost(string, repeated, tag = "6")]
    pub(super) string_table: Vec<String>,
    #[prost(int64, tag = "9")]
    time_nanos: i64,
    #[prost(int64, tag = "10")]
    duration_nanos: i64,
    #[prost(message, optional, tag = "11")]
    period_type: Option<ValueType>,
    #[prost(int64, tag = "12")]
    period: i64,
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
struct ValueType {
    #[prost(int64, tag = "1")]
    kind: i64,
    #[prost(int64, tag = "2")]
    unit: i64,
}

/// How often some stack was found: the innermost function first.
#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct Sample {
    #[prost(uint64, repeated, tag = "1")]
    location_id: Vec<u64>,
    #[prost(int64, repeated, tag = "2")]
    value: Vec<i64>,
    #[prost(message, repeated, tag = "3")]
    label: Vec<Label>,
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
struct Label {
    #[prost(int64, tag = "1")]
    key: i64,
    #[prost(int64, tag = "2")]
    text: i64,
}

/// A place in the code; several lines if functions were inlined there, the innermost first.
#[derive(Clone, PartialEq, Eq, Message)]
struct Location {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(message, repeated, tag = "4")]
    line: Vec<Line>,
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
struct Line {
    #[prost(uint64, tag = "1")]
    function_id: u64,
    #[prost(int64, tag = "2")]
    line: i64,
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
struct Function {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(int64, tag = "2")]
    name: i64,
    #[prost(int64, tag = "3")]
    system_name: i64,
    #[prost(int64, tag = "4")]
    filename: i64,
}

/// What was sampled.
pub(super) fn profile(report: &Report) -> Profile {
    let mut tables = Tables::default();
    tables.text("");
    let kind = |kind, unit, tables: &mut Tables| ValueType {
        kind: tables.text(kind),
        unit: tables.text(unit),
    };
    let samples = kind("samples", "count", &mut tables);
    let cpu = kind("cpu", "nanoseconds", &mut tables);
    let period = SECOND_NS / i64::from(report.timing.frequency.max(1));
    let mut sample: Vec<Sample> = Vec::with_capacity(report.data.len());
    #[expect(clippy::iter_over_hash_type, reason = "samples of a profile have no order")]
    for (frames, count) in &report.data {
        let count = i64::try_from(*count).unwrap_or(i64::MAX);
        sample.push(tables.sample(frames, [count, count.saturating_mul(period)]));
    }
    let began = report.timing.start_time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let nanos = |time: core::time::Duration| i64::try_from(time.as_nanos()).unwrap_or(i64::MAX);
    Profile {
        sample_type: vec![samples, cpu],
        sample,
        location: tables.locations,
        function: tables.functions,
        string_table: tables.texts,
        time_nanos: nanos(began),
        duration_nanos: nanos(report.timing.duration),
        period_type: Some(cpu),
        period,
    }
}

const SECOND_NS: i64 = 1_000_000_000;

/// What samples name, each once.
#[derive(Default)]
struct Tables {
    texts: Vec<String>,
    locations: Vec<Location>,
    functions: Vec<Function>,
    text_places: BTreeMap<String, i64>,
    location_ids: BTreeMap<Vec<(u64, i64)>, u64>,
    function_ids: BTreeMap<(i64, i64), u64>,
}

impl Tables {
    fn text(&mut self, text: &str) -> i64 {
        if let Some(place) = self.text_places.get(text) {
            return *place;
        }
        let place = i64::try_from(self.texts.len()).expect("memory is smaller");
        self.texts.push(text.to_owned());
        self.text_places.insert(text.to_owned(), place);
        place
    }

    fn sample(&mut self, frames: &Frames, value: [i64; 2]) -> Sample {
        let location_id = frames.frames.iter().map(|inlined| self.location(inlined)).collect();
        let (key, text) = (self.text("thread"), self.text(&frames.thread_name_or_id()));
        Sample { location_id, value: value.to_vec(), label: vec![Label { key, text }] }
    }

    fn location(&mut self, inlined: &[Symbol]) -> u64 {
        let lines: Vec<(u64, i64)> =
            inlined.iter().map(|symbol| (self.function(symbol), symbol.lineno().into())).collect();
        let next = next_id(self.locations.len());
        let id = *self.location_ids.entry(lines.clone()).or_insert(next);
        if id == next {
            let line = lines.into_iter().map(|(function_id, line)| Line { function_id, line });
            self.locations.push(Location { id, line: line.collect() });
        }
        id
    }

    fn function(&mut self, symbol: &Symbol) -> u64 {
        let (name, filename) = (self.text(&symbol.name()), self.text(&symbol.filename()));
        let next = next_id(self.functions.len());
        let id = *self.function_ids.entry((name, filename)).or_insert(next);
        if id == next {
            let system_name = self.text(&symbol.sys_name());
            self.functions.push(Function { id, name, system_name, filename });
        }
        id
    }
}

/// Ids count from one.
fn next_id(len: usize) -> u64 {
    u64::try_from(len).expect("64 bits") + 1
}

#[cfg(test)]
impl Profile {
    /// Checks that everything that is named is there.
    pub(super) fn check(&self) {
        let text = |place: i64| &self.string_table[usize::try_from(place).unwrap()];
        for sample in &self.sample {
            assert_eq!(sample.value.len(), self.sample_type.len());
            for id in &sample.location_id {
                assert!(self.locations().any(|location| location.id == *id));
            }
            assert!(sample.label.iter().all(|label| text(label.key) == "thread"));
        }
        for line in self.locations().flat_map(|location| &location.line) {
            assert!(self.function.iter().any(|function| function.id == line.function_id));
        }
        for function in &self.function {
            assert!(!text(function.name).is_empty() && function.id > 0);
            text(function.filename);
        }
        assert_eq!((text(self.sample_type[0].kind).as_str(), self.period), ("samples", 10_000_000));
    }

    fn locations(&self) -> impl Iterator<Item = &Location> {
        self.location.iter()
    }
}
