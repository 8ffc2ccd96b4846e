//! The end of a run: everything is healed, and everybody is asked for everything.

use core::time::Duration;
use std::path::Path;
use std::rc::Rc;

use tokio::task::spawn_local;
use tokio::time::{Instant, sleep};

use super::Crowd;
use super::client::{Client, Shared, key};
use super::fault::Fault;
use super::history::{Effect, History, Outcome, Reading, Request, Revision, Span};
use super::nemesis::Nemesis;
use super::watcher::{Goal, watch};
use crate::Trouble;

/// What remains to be done and told.
#[derive(Debug)]
pub(super) struct Ending {
    nemesis: Nemesis,
    faults: Vec<Fault>,
}

impl Ending {
    /// After a nemesis that may have failed to undo its harm.
    pub(super) fn new(nemesis: Nemesis, trouble: Option<Trouble>) -> Self {
        let dead = trouble.map(|Trouble(what)| Fault::Dead { what });
        Self { nemesis, faults: dead.into_iter().collect() }
    }

    /// Heals, and completes the history.
    pub(super) async fn bring_about(
        &mut self,
        crowd: Crowd,
        shared: &Rc<Shared>,
        goal: &Rc<Goal>,
    ) -> Result<History, Trouble> {
        if self.faults.is_empty()
            && let Err(Trouble(what)) = self.heal().await
        {
            self.faults.push(Fault::Dead { what });
        }
        shared.writing.set(false);
        let mut history = History::default();
        for client in crowd.clients {
            history.operations.extend(client.await??.operations);
        }
        for lessee in crowd.lessees {
            let (operations, lives) = lessee.await??.into_parts();
            history.operations.extend(operations);
            history.lives.extend(lives);
        }
        let alive = self.faults.is_empty();
        let mut last = Client::new(Rc::clone(shared), LAST, None);
        if alive {
            goal.last.set(self.last_words(&mut last).await?);
        } else {
            // Where the cluster is dead, watchers are not to blame.
            shared.active.borrow_mut().fill(false);
        }
        let begin = Instant::now();
        let again: Vec<_> = shared
            .members()
            .into_iter()
            .map(|slot| spawn_local(watch(Rc::clone(shared), slot, Rc::clone(goal))))
            .collect();
        let mut watchers = crowd.watchers;
        watchers.extend(again);
        while alive && begin.elapsed() < WATCH_MAX && !complete(&watchers, shared) {
            sleep(Duration::from_millis(50)).await;
        }
        goal.over.set(true);
        for watcher in watchers {
            history.watched.push(watcher.await??);
        }
        if alive {
            self.last_reads(&mut last, shared).await?;
            self.compare_hashes(shared).await;
        }
        history.operations.extend(last.operations);
        Ok(history)
    }

    /// The faults that are not in the history.
    pub(super) fn into_faults(mut self) -> Result<Vec<Fault>, Trouble> {
        for log in self.nemesis.cluster.logs() {
            self.faults.extend(read_log(&log)?);
        }
        Ok(self.faults)
    }

    async fn heal(&mut self) -> Result<(), Trouble> {
        self.nemesis.undo()?;
        self.nemesis.recovered().await
    }

    /// Waits until the last lease has ended, then makes the last change of all: its revision.
    async fn last_words(&mut self, last: &mut Client) -> Result<Option<Revision>, Trouble> {
        let begin = Instant::now();
        loop {
            let span = Span::Prefix(key("e/"));
            let request = Request::Read { span, at: 0, reading: Reading::Linearizable };
            if let Outcome::Seen { seen, .. } = last.attempt(request).await? {
                if seen.is_empty() {
                    break;
                }
                if begin.elapsed() > LEASES_MAX {
                    self.faults.push(Fault::Immortal { keys: seen.len() });
                    break;
                }
            }
            sleep(Duration::from_millis(200)).await;
        }
        while begin.elapsed() < LEASES_MAX * 2 {
            let (key, value) = (key("d/end"), last.value());
            let effects = vec![Effect::Put { key, value, lease: 0 }];
            if let Outcome::Written { revision, .. } = last.write(Vec::new(), effects, None).await?
            {
                return Ok(Some(*revision));
            }
        }
        self.faults.push(Fault::Dead { what: "nothing can be written".to_owned() });
        Ok(None)
    }

    /// Everything, from every member, in both ways.
    async fn last_reads(&mut self, last: &mut Client, shared: &Shared) -> Result<(), Trouble> {
        for slot in shared.members() {
            for reading in [Reading::Linearizable, Reading::Serializable] {
                let span = Span::Prefix(key(""));
                last.attempt_at(slot, Request::Read { span, at: 0, reading }).await?;
            }
        }
        Ok(())
    }

    async fn compare_hashes(&mut self, shared: &Shared) {
        let fault = match self.nemesis.admin.agreement(&shared.members()).await {
            Ok(agreement) if agreement.holds() => return,
            Ok(agreement) => Fault::Diverged { hashes: format!("{:?}", agreement.hashes()) },
            Err(Trouble(what)) => Fault::Dead { what },
        };
        self.faults.push(fault);
    }
}

/// Whether all watchers of members have seen what there is to see.
fn complete(
    watchers: &[tokio::task::JoinHandle<Result<super::history::Watched, Trouble>>],
    shared: &Shared,
) -> bool {
    let idle = shared.active.borrow().iter().filter(|active| !**active).count();
    watchers.iter().filter(|watcher| !watcher.is_finished()).count() <= idle
}

/// The lines of a log that none should have.
fn read_log(log: &Path) -> Result<Vec<Fault>, Trouble> {
    let text = String::from_utf8_lossy(&std::fs::read(log)?).into_owned();
    let bad = text.lines().filter(|line| is_last_words(line)).take(LINES_MAX);
    let name = log.display().to_string();
    let fault = |line: &str| Fault::Line { log: name.clone(), line: line.to_owned() };
    Ok(bad.map(fault).collect())
}

/// Whether a line tells of a process that gave up: in etcd's words, Go's, or Rust's.
fn is_last_words(line: &str) -> bool {
    let beginnings = ["panic:", "fatal error:", "thread '"];
    let words = [r#""level":"panic""#, r#""level":"fatal""#, "panicked at"];
    beginnings.iter().any(|beginning| line.starts_with(beginning))
        || words.iter().any(|word| line.contains(word))
}

/// The number of the client that ends the run: no other has so great a one.
const LAST: usize = 1_000_000;
const LEASES_MAX: Duration = Duration::from_secs(60);
const WATCH_MAX: Duration = Duration::from_secs(30);
const LINES_MAX: usize = 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_words_are_known_in_three_languages() {
        for line in [
            r#"{"level":"fatal","ts":"…","msg":"failed to publish"}"#,
            r#"{"level":"panic","ts":"…","msg":"tocommit(3) is out of range"}"#,
            "panic: runtime error: index out of range",
            "thread 'main' (4711) panicked at engine/src/raft.rs:1:1:",
        ] {
            assert!(is_last_words(line), "{line}");
        }
        assert!(!is_last_words(r#"{"level":"warn","msg":"panic is what others do"}"#));
    }
}
