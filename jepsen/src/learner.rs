//! A learner joins a cluster that has a lot of data, while a client goes on.
//!
//! ```text
//!  fill ──► puts alone, for comparison ──► add and start a learner ──► caught up ──► same hash ──► promote
//!                                          puts go on ─────────────────────┘
//! ```

use core::time::Duration;
use std::path::PathBuf;
use std::rc::Rc;

use bytes::Bytes;
use cairn_engine::api::etcdserverpb::{
    PutRequest, RangeRequest, RequestOp, TxnRequest, request_op,
};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};
use serde_json::json;
use tokio::task::spawn_local;
use tokio::time::{Instant, sleep};

use crate::figures::Times;
use crate::load::Load;
use crate::progress::Progress;
use crate::world::admin::{Admin, Role, patience};
use crate::world::cluster::{Cluster, PeerTls, Plan, Wiring, require_empty};
use crate::world::connection::Connection;
use crate::{Trouble, Verdict};

/// How to run the scenario.
#[derive(Debug, clap::Args)]
pub(crate) struct Settings {
    /// The servers' binary, Cairn's or etcd's
    #[arg(long = "bin", default_value = "target/release/cairn")]
    program: PathBuf,
    /// How many members there are before
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=7))]
    members: u8,
    /// How much is stored before: bytes of values, as 500MB or 1GB
    #[arg(long, default_value = "1GB", value_parser = parse_bytes)]
    bytes: u64,
    /// The size of a value
    #[arg(long, default_value_t = 4096, value_parser = clap::value_parser!(u32).range(16..=65_536))]
    value_bytes: u32,
    /// How many puts are begun in a second, before and meanwhile
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=5000))]
    rate: u32,
    /// How long puts are measured alone
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Where the figures go as JSON, beside the text
    #[arg(long)]
    json: Option<PathBuf>,
    /// An empty folder for data and logs; kept. Without it, a temporary one that goes if all is well
    #[arg(long)]
    data_dir: Option<PathBuf>,
    /// More flags for every member
    #[arg(last = true)]
    arguments: Vec<String>,
}

/// `1GB`, `500MB`, `64KB` or a number.
fn parse_bytes(text: &str) -> Result<u64, String> {
    let units = [("GB", 1_000_000_000), ("MB", 1_000_000), ("KB", 1000), ("", 1)];
    let found = units.iter().find_map(|(unit, factor)| Some((text.strip_suffix(unit)?, *factor)));
    let (number, factor) = found.unwrap_or((text, 1_u64));
    let number: u64 = number.parse().map_err(|error| format!("{error}"))?;
    number.checked_mul(factor).ok_or_else(|| "too much".to_owned())
}

/// Runs the scenario and tells what it showed.
pub(crate) async fn run(settings: Settings) -> Result<Verdict, Trouble> {
    let temporary = std::env::temp_dir().join(format!("cairn-learner-{}", std::process::id()));
    let folder = settings.data_dir.as_ref().unwrap_or(&temporary);
    require_empty(folder)?;
    let progress = Rc::new(Progress::new(entries(&settings), "transactions"));
    progress.say(format_args!("logs and data: {}", folder.display()));
    let members = usize::from(settings.members);
    // What etcd allows by default is less than what is asked for.
    let mut arguments =
        vec!["--quota-backend-bytes".to_owned(), (settings.bytes * 4 + QUOTA_BYTES).to_string()];
    arguments.extend(settings.arguments.iter().cloned());
    let mut cluster = Cluster::new(Plan {
        program: settings.program.clone(),
        folder: folder.clone(),
        members,
        spares: 1,
        wiring: Wiring::Direct,
        peer_tls: PeerTls::Off,
        arguments,
    })?;
    let admin = Admin::begin(&mut cluster, members, START_MAX).await?;
    let begin = Instant::now();
    fill(&cluster, &settings, &progress).await?;
    progress.finish();
    let filled = begin.elapsed();
    progress.say(format_args!("{} bytes of values stored in {filled:?}", settings.bytes));
    let everybody: Vec<usize> = (0..members).collect();
    for slot in &everybody {
        admin.caught_up(*slot, START_MAX).await?;
    }

    let load = Load::start(&cluster, everybody.clone(), settings.rate, 256)?;
    sleep(Duration::from_secs(1)).await; // For the connections.
    load.forget();
    sleep(Duration::from_secs(settings.seconds)).await;
    let before = latencies(&load);
    load.forget();

    let learner = members;
    cluster.succeed(learner, &everybody);
    let begin = Instant::now();
    let id = admin.add(&cluster.peer_url(learner), Role::Learner).await?;
    let added = begin.elapsed();
    cluster.launch(learner)?;
    admin.caught_up(learner, JOIN_MAX).await?;
    let joined = begin.elapsed();
    let meanwhile = latencies(&load);
    load.forget();
    let begin = Instant::now();
    admin.promote(id).await?;
    let promoted = begin.elapsed();
    drop(load);
    admin.serves(learner, START_MAX).await?;

    // etcd's learners do not tell their hash, so all are compared after the promotion.
    let mut everybody = everybody;
    everybody.push(learner);
    let agreement = admin.agreement(&everybody).await?;
    let counts = counts(&cluster, &everybody).await?;
    progress.say(format_args!(
        "learner added after {added:?}, caught up after {joined:?}, promoted {promoted:?} later\n\
         puts before:    {} of them, {}\nputs meanwhile: {} of them, {}\n\
         hashes: {:?}\nkeys: {counts:?}",
        before.count(),
        before.line(None),
        meanwhile.count(),
        meanwhile.line(None),
        agreement.hashes(),
    ));
    if let Some(path) = &settings.json {
        let figures = json!({
            "program": settings.program.display().to_string(),
            "members": settings.members,
            "bytes": settings.bytes,
            "filled_ms": u64::try_from(filled.as_millis())?,
            "caught_up_ms": u64::try_from(joined.as_millis())?,
            "promoted_ms": u64::try_from(promoted.as_millis())?,
            "before_us": before.json(),
            "meanwhile_us": meanwhile.json(),
        });
        std::fs::write(path, format!("{figures:#}\n"))?;
    }
    if !agreement.holds() || counts.windows(2).any(|pair| pair[0] != pair[1]) {
        progress.say("the learner has other data than the members");
        return Ok(Verdict::Wrong);
    }
    drop(cluster);
    if settings.data_dir.is_none() {
        std::fs::remove_dir_all(&temporary)?;
    }
    Ok(Verdict::Right)
}

fn latencies(load: &Load) -> Times {
    Times::new(load.acknowledged().into_iter().map(|put| put.end - put.begin))
}

/// How many transactions the data takes.
fn entries(settings: &Settings) -> u64 {
    settings.bytes.div_ceil(u64::from(settings.value_bytes) * PUTS)
}

/// Stores values of random bytes, each under a key of its own.
async fn fill(
    cluster: &Cluster,
    settings: &Settings,
    progress: &Rc<Progress>,
) -> Result<(), Trouble> {
    let entries = entries(settings);
    let mut writers = Vec::new();
    for writer in 0..WRITERS {
        let slot = usize::try_from(writer)? % usize::from(settings.members);
        let connection = Connection::new(&cluster.url(slot))?;
        let value_bytes = usize::try_from(settings.value_bytes)?;
        let progress = Rc::clone(progress);
        writers.push(spawn_local(async move {
            let mut random = ChaCha8Rng::seed_from_u64(writer);
            let mut entry = writer;
            while entry < entries {
                let puts = (0..PUTS).map(|put| {
                    let mut value = vec![0; value_bytes];
                    random.fill_bytes(&mut value);
                    let key: Bytes = format!("fill/{:012}", entry * PUTS + put).into();
                    let put = PutRequest { key, value: value.into(), ..PutRequest::default() };
                    RequestOp { request: Some(request_op::Request::RequestPut(put)) }
                });
                let request = TxnRequest { success: puts.collect(), ..TxnRequest::default() };
                let begin = Instant::now();
                // The same transaction again does no harm.
                while let Err(status) = connection.kv().txn(request.clone()).await {
                    patience(&status.to_string(), begin, START_MAX).await?;
                }
                progress.advance();
                entry += WRITERS;
            }
            Ok::<_, Trouble>(())
        }));
    }
    for writer in writers {
        writer.await??;
    }
    Ok(())
}

/// How many keys each member has, by itself.
async fn counts(cluster: &Cluster, slots: &[usize]) -> Result<Vec<i64>, Trouble> {
    let mut counts = Vec::new();
    for slot in slots {
        let request = RangeRequest {
            key: "fill/".into(),
            range_end: "fill0".into(),
            count_only: true,
            serializable: true,
            ..RangeRequest::default()
        };
        let connection = Connection::new(&cluster.url(*slot))?;
        counts.push(connection.kv().range(request).await?.into_inner().count);
    }
    Ok(counts)
}

/// In one transaction: few enough that a gigabyte is more transactions than etcd keeps between two snapshots.
const PUTS: u64 = 10;
const WRITERS: u64 = 16;
const QUOTA_BYTES: u64 = 2_000_000_000;
const START_MAX: Duration = Duration::from_secs(120);
const JOIN_MAX: Duration = Duration::from_secs(1800);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        assert_eq!(parse_bytes("1GB"), Ok(1_000_000_000));
        assert_eq!(parse_bytes("20MB"), Ok(20_000_000));
        assert_eq!(parse_bytes("4711"), Ok(4711));
        assert!(parse_bytes("much").is_err() && parse_bytes("99999999999GB").is_err());
    }
}
