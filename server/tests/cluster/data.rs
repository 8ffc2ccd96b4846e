//! What one member acknowledged, all have, whoever dies.

use core::cell::RefCell;
use core::time::Duration;
use std::collections::BTreeMap;
use std::rc::Rc;

use crate::ask::{between, put};
use crate::cluster::{Cluster, POLL, big_put, on_both_runtimes, until_ok};

on_both_runtimes! {
    what_one_member_takes_all_members_have,
    nothing_acknowledged_is_lost_when_members_are_killed,
    a_rolling_restart_loses_nothing,
    a_member_that_was_away_for_long_is_sent_a_snapshot,
}

async fn what_one_member_takes_all_members_have(cluster: &mut Cluster) {
    for writer in 0..3 {
        let key = format!("by {writer}");
        cluster.put(writer, &key, "x").await;
        for reader in 0..3 {
            assert_eq!(cluster.get(reader, &key).await.as_deref(), Some("x"), "{writer} {reader}");
        }
    }
    let hashes: Vec<u32> = {
        let mut hashes = Vec::new();
        for number in 0..3 {
            let request = cairn_engine::api::etcdserverpb::HashKvRequest { revision: 4 };
            hashes.push(
                cluster.maintenance(number).hash_kv(request).await.unwrap().into_inner().hash,
            );
        }
        hashes
    };
    assert!(hashes.iter().all(|hash| *hash == hashes[0]), "{hashes:?}");
}

/// Writes numbers to a key of its own, by whichever member takes them, and notes the last that was acknowledged.
struct Writers {
    acknowledged: Rc<RefCell<BTreeMap<String, u64>>>,
    stop: Rc<core::cell::Cell<bool>>,
    tasks: tokio::task::LocalSet,
}

impl Writers {
    fn start(cluster: &Cluster) -> Self {
        let (acknowledged, stop) = (Rc::<RefCell<BTreeMap<_, _>>>::default(), Rc::default());
        let writers = Self { acknowledged, stop, tasks: tokio::task::LocalSet::new() };
        for writer in 0..4 {
            let mut clients: Vec<_> = cluster.members.iter().map(|member| member.kv()).collect();
            let (acknowledged, stop) = (writers.acknowledged.clone(), writers.stop.clone());
            writers.tasks.spawn_local(async move {
                let key = format!("writer {writer}");
                let mut number = 0_u64;
                let mut at = writer % clients.len();
                while !stop.get() {
                    number += 1;
                    let request = put(key.clone(), number.to_string());
                    let asked = clients[at].put(request);
                    match tokio::time::timeout(Duration::from_secs(2), asked).await {
                        Ok(Ok(_)) => drop(acknowledged.borrow_mut().insert(key.clone(), number)),
                        // It may have been written all the same; a greater number will tell.
                        Ok(Err(_)) | Err(_) => {
                            at = (at + 1) % clients.len();
                            tokio::time::sleep(POLL).await;
                        }
                    }
                }
            });
        }
        writers
    }

    /// Waits until each writer has got on by so much.
    async fn progress(&self, by: u64) {
        let before = self.acknowledged.borrow().clone();
        let has = |key: &String| before.get(key).copied().unwrap_or(0);
        while self.acknowledged.borrow().len() < 4
            || self.acknowledged.borrow().iter().any(|(key, number)| *number < has(key) + by)
        {
            tokio::time::sleep(POLL).await;
        }
    }

    async fn finish(self) -> BTreeMap<String, u64> {
        self.stop.set(true);
        self.tasks.await;
        self.acknowledged.take()
    }
}

/// Checks that every member has what was acknowledged, or what came later.
async fn check(cluster: &Cluster, acknowledged: &BTreeMap<String, u64>) {
    for reader in 0..cluster.members.len() {
        let answer = until_ok(async || {
            cluster.members[reader].kv().range(between("writer", "writes")).await
        })
        .await;
        for (key, number) in acknowledged {
            let kv = answer.kvs.iter().find(|kv| kv.key == key.as_bytes()).expect("it is there");
            let found: u64 = core::str::from_utf8(&kv.value).unwrap().parse().unwrap();
            assert!(found >= *number, "{key}: {found} is less than {number}, at {reader}");
        }
    }
}

async fn nothing_acknowledged_is_lost_when_members_are_killed(cluster: &mut Cluster) {
    let writers = Writers::start(cluster);
    let acknowledged = {
        let nemesis = async {
            writers.progress(20).await;
            for round in 0..4 {
                let victim =
                    if round % 2 == 0 { cluster.leader().await } else { cluster.follower().await };
                cluster.kill(victim).await;
                writers.progress(20).await;
                cluster.start_again(victim);
                writers.progress(20).await;
            }
        };
        writers.tasks.run_until(nemesis).await;
        writers.finish().await
    };
    check(cluster, &acknowledged).await;
}

async fn a_rolling_restart_loses_nothing(cluster: &mut Cluster) {
    let writers = Writers::start(cluster);
    let restarts = async {
        for number in 0..3 {
            writers.progress(20).await;
            cluster.members[number].terminate().await;
            writers.progress(20).await;
            cluster.start_again(number);
        }
        writers.progress(20).await;
    };
    writers.tasks.run_until(restarts).await;
    let acknowledged = writers.finish().await;
    check(cluster, &acknowledged).await;
}

async fn a_member_that_was_away_for_long_is_sent_a_snapshot(cluster: &mut Cluster) {
    let away = cluster.follower().await;
    cluster.kill(away).await;
    let leader = cluster.leader().await;
    let mut kv = cluster.members[leader].kv();
    // More than stays in memory for those who lag, even if they seem to answer.
    for number in 0..70 {
        kv.put(big_put(format!("big {}", number % 8), 1 << 20)).await.unwrap();
    }
    cluster.start_again(away);
    assert_eq!(cluster.get(away, "big 5").await.map(|value| value.len()), Some(1 << 20));
    cluster.put(away, "after", "x").await;
    assert_eq!(cluster.get(leader, "after").await.as_deref(), Some("x"));
    let said = |cluster: &mut Cluster, number: usize, text: &str| {
        cluster.members[number].said().iter().any(|line| line.contains(text))
    };
    assert!(said(cluster, away, "applied snapshot"));
    assert!((0..3).any(|number| said(cluster, number, "sent snapshot")));
}
