//! Spans: which call took how long, told to a collector of OpenTelemetry (`--enable-distributed-tracing`).
//!
//! A call has a span if whoever made it says that it is traced (`traceparent`, W3C Trace Context), or, if it does not say
//! who asks, if chance has it so (`--distributed-tracing-sampling-rate`): etcd's rules, names and attributes.
//!
//! What has ended goes into a queue of [`QUEUE_SPANS_MAX`] for a thread of its own ([`export`]); no core waits for a
//! collector. What finds no room is counted and lost. Without the flag there is no queue and no thread, and no call is
//! looked at.

mod export;

use core::fmt;
use core::time::Duration;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::{SystemTime, UNIX_EPOCH};

use cairn_engine::api::Code;
use cairn_io::clock;
use opentelemetry::trace::{
    SpanContext, SpanId, SpanKind, Status as SpanStatus, TraceFlags, TraceId, TraceState,
};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};
use prometheus::IntCounter;
use tokio::sync::mpsc;

use crate::grpc::metadata::Metadata;
use crate::grpc::method::Method;

/// Spans that wait for the exporter.
pub const QUEUE_SPANS_MAX: usize = 4096;

/// Where spans go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `host:port` of a collector that speaks OTLP over gRPC, without TLS, as in etcd.
    pub address: String,
    /// Who this is, to the collector.
    pub service_name: String,
    /// Which of them; may be empty.
    pub instance_id: String,
    /// Of a million calls that are not traced already, so many are.
    pub samples_per_million: u64,
}

/// What becomes of spans.
#[derive(Clone, Debug)]
pub struct Counters {
    /// They have arrived at the collector.
    pub exported: IntCounter,
    /// They were lost: there was no room for them, or no collector.
    pub dropped: IntCounter,
}

/// Begins spans, on any core.
#[derive(Clone)]
pub struct Spans(Arc<Inner>);

struct Inner {
    samples_per_million: u64,
    queue: mpsc::Sender<Said>,
    counters: Counters,
    scope: InstrumentationScope,
}

/// What the exporter hears.
#[derive(Debug)]
enum Said {
    Ended(Box<SpanData>),
    /// Everything before this is to be exported now; then this is answered.
    Flush(std::sync::mpsc::SyncSender<()>),
}

/// A call that is traced and has not ended.
pub(crate) struct Span {
    spans: Spans,
    context: SpanContext,
    parent: Option<Parent>,
    began_ns: u64,
}

/// Who asks, as it says in `traceparent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parent {
    trace: u128,
    span: u64,
    /// Whether it is traced itself.
    is_sampled: bool,
}

impl Parent {
    /// Reads `00-<trace id>-<span id>-<flags>` (W3C Trace Context, "traceparent"); later versions may say more behind.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('-');
        let (version, trace) = (hex(parts.next()?, 2)?, hex(parts.next()?, 32)?);
        let (span, flags) = (hex(parts.next()?, 16)?, hex(parts.next()?, 2)?);
        let says_more = parts.next().is_some();
        if version == 0xff || trace == 0 || span == 0 || version == 0 && says_more {
            return None;
        }
        Some(Self { trace, span: u64::try_from(span).ok()?, is_sampled: flags & 1 == 1 })
    }
}

/// Reads so many lower-case hexadecimal digits.
fn hex(text: &str, digits: usize) -> Option<u128> {
    let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    let is_well = text.len() == digits && text.bytes().all(is_digit);
    u128::from_str_radix(text, 16).ok().filter(|_| is_well)
}

impl Spans {
    /// Starts the exporter.
    ///
    /// # Errors
    /// If the address is none, or there can be no more threads.
    pub fn start(settings: &Settings, counters: Counters) -> Result<Self, String> {
        let (queue, said) = mpsc::channel(QUEUE_SPANS_MAX);
        export::start(settings, said, counters.clone())?;
        Ok(Self(Arc::new(Inner {
            samples_per_million: settings.samples_per_million,
            queue,
            counters,
            scope: InstrumentationScope::builder("cairn").build(),
        })))
    }

    /// Begins the span of a call with these headers, if it is to have one.
    pub(crate) fn begin(&self, metadata: &impl Metadata) -> Option<Span> {
        let parent = metadata.text("traceparent").and_then(Parent::parse);
        let is_sampled = match parent {
            Some(parent) => parent.is_sampled,
            None => self.is_chosen(),
        };
        if !is_sampled {
            return None;
        }
        let trace =
            parent.map_or_else(|| u128::from(random()) << 64 | u128::from(random()), |p| p.trace);
        let context = SpanContext::new(
            TraceId::from(trace),
            SpanId::from(random()),
            TraceFlags::SAMPLED,
            false,
            TraceState::NONE,
        );
        Some(Span { spans: self.clone(), context, parent, began_ns: clock::wall_ns() })
    }

    fn is_chosen(&self) -> bool {
        let rate = self.0.samples_per_million;
        rate > 0 && (rate >= MILLION || random() % MILLION < rate)
    }

    /// Waits until everything that has ended is exported, but not for ever.
    pub fn flush(&self, limit: Duration) {
        let (done, is_done) = sync_channel(1);
        if self.0.queue.try_send(Said::Flush(done)).is_ok() {
            // Whether it took too long or not, the process ends.
            is_done.recv_timeout(limit).ok();
        }
    }
}

const MILLION: u64 = 1_000_000;

/// An id that nobody else has: not zero.
fn random() -> u64 {
    getrandom::u64().expect("the kernel has randomness once it runs").max(1)
}

impl Span {
    /// The call has ended.
    pub(crate) fn end(self, method: Method, code: Code) {
        let row = method.row();
        let attributes = vec![
            KeyValue::new("rpc.system", "grpc"),
            KeyValue::new("rpc.service", row.service),
            KeyValue::new("rpc.method", row.name),
            KeyValue::new("rpc.grpc.status_code", i64::from(code.number())),
        ];
        let status = match code {
            Code::Unknown
            | Code::DeadlineExceeded
            | Code::Unimplemented
            | Code::Internal
            | Code::Unavailable
            | Code::DataLoss => SpanStatus::error(code.name()),
            Code::Ok
            | Code::Canceled
            | Code::InvalidArgument
            | Code::NotFound
            | Code::AlreadyExists
            | Code::PermissionDenied
            | Code::ResourceExhausted
            | Code::FailedPrecondition
            | Code::Aborted
            | Code::OutOfRange
            | Code::Unauthenticated => SpanStatus::Unset,
        };
        let at = |ns| UNIX_EPOCH + Duration::from_nanos(ns);
        let (start_time, end_time): (SystemTime, SystemTime) =
            (at(self.began_ns), at(clock::wall_ns().max(self.began_ns)));
        let Inner { queue, counters, scope, .. } = &*self.spans.0;
        let data = SpanData {
            span_context: self.context,
            parent_span_id: self.parent.map_or(SpanId::INVALID, |parent| SpanId::from(parent.span)),
            parent_span_is_remote: self.parent.is_some(),
            span_kind: SpanKind::Server,
            name: format!("{}/{}", row.service, row.name).into(),
            start_time,
            end_time,
            attributes,
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status,
            instrumentation_scope: scope.clone(),
        };
        if queue.try_send(Said::Ended(Box::new(data))).is_err() {
            counters.dropped.inc();
        }
    }
}

impl fmt::Debug for Spans {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spans").field("per_million", &self.0.samples_per_million).finish()
    }
}

impl fmt::Debug for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Span").field(&self.context).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderMap;

    #[test]
    fn a_parent_is_read_as_the_w3c_writes_it() {
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let parent = Parent::parse(good).unwrap();
        assert_eq!(parent.trace, 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736);
        assert_eq!((parent.span, parent.is_sampled), (0x00f0_67aa_0ba9_02b7, true));
        assert!(!Parent::parse(&good.replace("-01", "-00")).unwrap().is_sampled);
        assert!(Parent::parse(&good.replacen("00-", "01-", 1)).is_some());
        assert!(Parent::parse(&format!("{}-more", good.replacen("00-", "cc-", 1))).is_some());
        for bad in [
            "",
            "-",
            "00",
            &good[..54],
            &format!("{good}-more"),
            &good.to_uppercase(),
            &good.replacen("00-", "ff-", 1),
            &good.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)),
            &good.replace("00f067aa0ba902b7", &"0".repeat(16)),
            &good.replace("4bf9", "+bf9"),
        ] {
            assert_eq!(Parent::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn what_finds_no_room_is_counted() {
        let counter = |name: &str| IntCounter::new(name, name).unwrap();
        let counters = Counters { exported: counter("exported"), dropped: counter("dropped") };
        let settings = Settings {
            // Nobody is there: TCP's port of discarding, closed on this machine.
            address: "127.255.255.1:9".to_owned(),
            service_name: "etcd".to_owned(),
            instance_id: String::new(),
            samples_per_million: MILLION,
        };
        let spans = Spans::start(&settings, counters.clone()).unwrap();
        for _ in 0..3 * QUEUE_SPANS_MAX {
            spans.begin(&HeaderMap::new()).unwrap().end(Method::Put, Code::Ok);
        }
        // All of them are lost: for want of room, or of a collector.
        while counters.dropped.get() < u64::try_from(3 * QUEUE_SPANS_MAX).unwrap() {
            spans.flush(Duration::from_secs(1));
        }
        assert_eq!(counters.exported.get(), 0);
        let off = Settings { samples_per_million: 0, ..settings };
        let off = Spans::start(&off, counters).unwrap();
        assert!((0..1000).all(|_| off.begin(&HeaderMap::new()).is_none()));
    }
}
