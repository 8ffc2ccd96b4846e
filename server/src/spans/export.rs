//! The thread that sends spans to a collector, a batch at a time.

use core::time::Duration;
use std::sync::mpsc::SyncSender;
use std::thread;

use opentelemetry::KeyValue;
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SpanData, SpanExporter as _};
use tokio::sync::mpsc::Receiver;
use tokio::time::{Instant, timeout_at};

use super::{Counters, Said, Settings};

/// Spans that are sent together, at most.
const BATCH_SPANS_MAX: usize = 512;
/// How long the first of a batch waits for others.
const GATHER: Duration = Duration::from_secs(1);
/// How long a collector may take for a batch.
const EXPORT_LIMIT: Duration = Duration::from_secs(10);

/// Starts it. It ends when nobody can begin a span any more.
pub(super) fn start(
    settings: &Settings,
    said: Receiver<Said>,
    counters: Counters,
) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    let address = &settings.address;
    let endpoint =
        if address.contains("://") { address.clone() } else { format!("http://{address}") };
    let exporter = {
        // It makes a connection when it first needs one, on this runtime.
        let _inside = runtime.enter();
        SpanExporter::builder()
            .with_tonic()
            .with_endpoint(endpoint)
            .with_timeout(EXPORT_LIMIT)
            .build()
    };
    let mut exporter = exporter.map_err(|error| format!("{address}: {error}"))?;
    exporter.set_resource(&resource(settings));
    let export = move || runtime.block_on(export(exporter, said, counters));
    let thread = thread::Builder::new().name("cairn-spans".into()).spawn(export);
    thread.map(drop).map_err(|error| error.to_string())
}

fn resource(settings: &Settings) -> Resource {
    let Settings { service_name, instance_id, .. } = settings;
    let builder = Resource::builder_empty()
        .with_attribute(KeyValue::new("service.name", service_name.clone()))
        .with_attribute(KeyValue::new("service.version", crate::version::ETCD_VERSION));
    if instance_id.is_empty() {
        return builder.build();
    }
    builder.with_attribute(KeyValue::new("service.instance.id", instance_id.clone())).build()
}

async fn export(exporter: SpanExporter, mut said: Receiver<Said>, counters: Counters) {
    let mut works = true;
    loop {
        let (batch, flushed, is_last) = gather(&mut said).await;
        let count = u64::try_from(batch.len()).expect("64 bits");
        if count > 0 {
            match exporter.export(batch).await {
                Ok(()) => {
                    counters.exported.inc_by(count);
                    works = true;
                }
                Err(error) => {
                    counters.dropped.inc_by(count);
                    // Once says it all, until it works again.
                    if core::mem::take(&mut works) {
                        tracing::warn!(
                            error = %error,
                            "cannot export spans; those that are lost are counted in cairn_spans_dropped_total"
                        );
                    }
                }
            }
        }
        if let Some(flushed) = flushed {
            // Whoever waits may have given up.
            flushed.try_send(()).ok();
        }
        if is_last {
            return;
        }
    }
}

/// What is to be sent together; who waits until it is; and whether it is the last.
async fn gather(said: &mut Receiver<Said>) -> (Vec<SpanData>, Option<SyncSender<()>>, bool) {
    let mut batch = Vec::new();
    let mut limit: Option<Instant> = None;
    while batch.len() < BATCH_SPANS_MAX {
        let next = match limit {
            None => said.recv().await,
            Some(limit) => match timeout_at(limit, said.recv()).await {
                Ok(next) => next,
                Err(_) => break,
            },
        };
        match next {
            Some(Said::Ended(span)) => batch.push(*span),
            Some(Said::Flush(flushed)) => return (batch, Some(flushed), false),
            None => return (batch, None, true),
        }
        limit.get_or_insert_with(|| Instant::now() + GATHER);
    }
    (batch, None, false)
}
