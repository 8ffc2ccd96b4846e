//! A cache that is fed by a watch: reads once, follows what changes, and survives that its stream is cut.
//!
//! What must hold: the cache never goes back, and once nothing changes any more it is what the store is. A cache that begins
//! its next watch *now*, rather than behind what it has seen, loses what was changed in between; that shows, too.
//!
//! `cargo run -p cairn-sim --example cache`

use core::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use cairn_sim::lab::{Client, Faults, Lab, Trouble};

/// Where a cache goes on when its stream was cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resume {
    /// Behind the last change that it saw.
    BehindTheLast,
    /// With whatever comes next.
    Now,
}

/// What a cache holds.
#[derive(Debug, Default)]
struct Cache {
    keys: BTreeMap<String, String>,
    revision: i64,
    cuts: u64,
}

/// Keys below this are cached.
const PREFIX: &str = "item/";

/// Feeds a cache, for ever.
async fn feed(client: Client, cache: Rc<RefCell<Cache>>, resume: Resume) {
    'read: loop {
        let Ok((keys, revision)) = client.get_prefix(PREFIX).await else {
            client.sleep_ms(100).await;
            continue;
        };
        {
            let mut cache = cache.borrow_mut();
            cache.keys = keys.into_iter().map(|key| (key.key, key.value)).collect();
            cache.revision = revision;
        }
        loop {
            let from = match resume {
                Resume::BehindTheLast => cache.borrow().revision + 1,
                Resume::Now => 0,
            };
            match follow(&client, &cache, from).await {
                // What is forgotten can only be read again.
                Trouble::Compacted(_) => continue 'read,
                Trouble::Unavailable | Trouble::Unknown | Trouble::Refused(_) => {
                    cache.borrow_mut().cuts += 1;
                    client.sleep_ms(200).await;
                }
            }
        }
    }
}

/// Follows one stream until it ends.
async fn follow(client: &Client, cache: &RefCell<Cache>, from: i64) -> Trouble {
    let mut watch = match client.watch_prefix(PREFIX, from) {
        Ok(watch) => watch,
        Err(trouble) => return trouble,
    };
    loop {
        let changes = match watch.next().await {
            Ok(changes) => changes,
            Err(trouble) => return trouble,
        };
        let mut cache = cache.borrow_mut();
        for change in changes {
            assert!(change.revision >= cache.revision, "a cache never goes back");
            cache.revision = change.revision;
            match change.value {
                Some(value) => cache.keys.insert(change.key, value),
                None => cache.keys.remove(&change.key),
            };
        }
    }
}

/// Changes keys for a while.
async fn change(client: Client) {
    for turn in 0..200 {
        let key = format!("{PREFIX}{}", client.random(20));
        // Unknown, refused: the cache has to follow whatever became of it.
        let done = if client.random(4) == 0 {
            client.delete(&key).await.map(drop)
        } else {
            client.put(&key, &format!("value {turn}")).await.map(drop)
        };
        let wait = if done.is_ok() { client.random(600) } else { 500 };
        client.sleep_ms(wait).await;
    }
}

/// What a seed came to.
pub(crate) struct Outcome {
    /// How often the stream was cut.
    pub(crate) cuts: u64,
    /// What the cache holds and the store does not, or the other way round.
    pub(crate) differs: Option<String>,
}

/// A cache and two writers in a rough world, which in the end becomes calm.
pub(crate) fn cache_and_compare(seed: u64, resume: Resume) -> Outcome {
    let mut lab = Lab::new(seed).members(3).faults(Faults::rough());
    let cache = Rc::new(RefCell::new(Cache::default()));
    let fed = Rc::clone(&cache);
    lab.spawn("cache", |client| feed(client, fed, resume));
    lab.spawn("writer", change);
    lab.spawn("writer", change);
    lab.run_for_secs(300);
    let mut lab = lab.faults(Faults::none());
    lab.run_for_secs(60);
    let store = Rc::new(RefCell::new(None));
    let read = Rc::clone(&store);
    lab.spawn("reader", |client| async move {
        *read.borrow_mut() = client.get_prefix(PREFIX).await.ok();
    });
    lab.run_for_secs(30);
    let (keys, _) = store.take().expect("a calm cluster answers");
    let store: BTreeMap<_, _> = keys.into_iter().map(|key| (key.key, key.value)).collect();
    let cache = cache.borrow();
    let differs =
        (cache.keys != store).then(|| format!("{:?}, and the store {store:?}", cache.keys));
    Outcome { cuts: cache.cuts, differs }
}

#[allow(dead_code, clippy::allow_attributes, reason = "a test has this file as a module")]
fn main() -> std::io::Result<()> {
    use std::io::Write as _;
    let mut out = std::io::stdout().lock();
    for resume in [Resume::BehindTheLast, Resume::Now] {
        for seed in 1..=10 {
            let Outcome { cuts, differs } = cache_and_compare(seed, resume);
            let what = differs.map_or("the same as the store", |_| "NOT the same as the store");
            writeln!(out, "{resume:?}, seed {seed}: {cuts} cuts, {what}")?;
        }
    }
    Ok(())
}
