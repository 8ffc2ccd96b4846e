//! A worker that is elected: several of them, of whom one at a time is to keep a ledger.
//!
//! Whoever makes the key `leader`, with a lease, leads, and the revision that made it is its *fence*. Each entry of the
//! ledger says under which fence it was written: fences must never go back, or somebody has written who had been deposed.
//! A worker that asks whether its lease still lives, and then writes, does not keep to that: its process may stand still in
//! between. One whose writes are refused unless its key is still there does.
//!
//! `cargo run -p cairn-sim --example worker` shows both, over some seeds.

use core::cell::RefCell;
use std::rc::Rc;

use cairn_sim::lab::{Client, Faults, Lab, Trouble};

/// The key of whoever leads.
const LEADER: &str = "leader";
/// What only the leader writes.
const LEDGER: &str = "ledger";

/// How a worker writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Care {
    /// Only as long as its key is there: the store decides.
    Fenced,
    /// Whenever it believes to lead: it has just asked.
    Unfenced,
}

/// One worker, for ever.
async fn work(client: Client, name: String, care: Care) {
    loop {
        if let Err(trouble) = reign(&client, &name, care).await {
            // Refused, unknown, or deposed: whatever it was, it begins anew.
            let wait = if trouble == Trouble::Unavailable { 500 } else { 50 };
            client.sleep_ms(wait + client.random(500)).await;
        }
    }
}

/// Stands for election, and writes while it leads.
async fn reign(client: &Client, name: &str, care: Care) -> Result<(), Trouble> {
    let lease = client.grant(3).await?;
    let Some(fence) = client.create(LEADER, name, lease).await? else {
        client.revoke(lease).await?;
        client.sleep_ms(500).await;
        return Ok(());
    };
    loop {
        let is_alive = client.keep_alive(lease).await? > 0;
        if !is_alive {
            return Ok(());
        }
        // The work. A process may sleep here for longer than its lease lives.
        client.sleep_ms(200 + client.random(400)).await;
        let entry = format!("{fence} {name}");
        match care {
            Care::Unfenced => {
                client.put(LEDGER, &entry).await?;
            }
            Care::Fenced => {
                if client.put_fenced((LEADER, fence), LEDGER, &entry).await?.is_none() {
                    return Ok(());
                }
            }
        }
    }
}

/// Reads all that was ever written to the ledger: the fences, in order.
async fn audit(client: Client, fences: Rc<RefCell<Vec<i64>>>) {
    let mut next = 1;
    loop {
        let Ok(mut watch) = client.watch_prefix(LEDGER, next) else {
            client.sleep_ms(100).await;
            continue;
        };
        while let Ok(changes) = watch.next().await {
            for change in changes {
                next = change.revision + 1;
                let entry = change.value.unwrap_or_default();
                let fence = entry.split(' ').next().and_then(|fence| fence.parse().ok());
                fences.borrow_mut().push(fence.expect("an entry begins with its fence"));
            }
        }
    }
}

/// What a seed came to: how many entries there are, and the first fence that is older than the one before it.
pub(crate) struct Ledger {
    /// Entries.
    pub(crate) entries: usize,
    /// The fence before, and the one that is older.
    pub(crate) went_back: Option<(i64, i64)>,
    /// What happened, as a page.
    pub(crate) page: String,
}

/// Lets three workers work for three minutes, in a rough world.
pub(crate) fn keep_a_ledger(seed: u64, care: Care) -> Ledger {
    let mut lab = Lab::new(seed).members(3).faults(Faults::rough());
    for number in 1..=3 {
        let name = format!("worker-{number}");
        lab.spawn(&name.clone(), |client| work(client, name, care));
    }
    let fences = Rc::new(RefCell::new(Vec::new()));
    let kept = Rc::clone(&fences);
    lab.spawn("audit", |client| audit(client, kept));
    lab.run_for_secs(180);
    let fences = fences.take();
    let went_back = fences.windows(2).find(|pair| pair[1] < pair[0]).map(|pair| (pair[0], pair[1]));
    let wrong = went_back.map(|(newer, older)| format!("fence {older} after {newer}"));
    Ledger { entries: fences.len(), went_back, page: lab.page(wrong.as_deref()) }
}

#[allow(dead_code, clippy::allow_attributes, reason = "a test has this file as a module")]
fn main() -> std::io::Result<()> {
    use std::io::Write as _;
    let mut out = std::io::stdout().lock();
    for care in [Care::Fenced, Care::Unfenced] {
        for seed in 1..=10 {
            let Ledger { entries, went_back, page } = keep_a_ledger(seed, care);
            let what = match went_back {
                Some((newer, older)) => format!("NOT in order: fence {older} after {newer}"),
                None => "in order".to_owned(),
            };
            writeln!(out, "{care:?}, seed {seed}: {entries} entries, {what}")?;
            if went_back.is_some() {
                std::fs::write("worker.html", page)?;
                return writeln!(out, "page: worker.html");
            }
        }
    }
    Ok(())
}
