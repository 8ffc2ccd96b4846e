//! A writer: changes its objects one after the other, whatever happens to the store.

use std::rc::Rc;

use bytes::Bytes;
use cairn_engine::api::etcdserverpb::RangeRequest;

use super::history::{Attempt, Change, Outcome, Revision};
use super::objects::{ObjectId, Objects};
use super::store::{Store, Written};
use crate::Trouble;
use crate::progress::Progress;

/// One of several that share the objects among them.
#[derive(Debug)]
pub(super) struct Writer {
    store: Store,
    objects: Objects,
    progress: Rc<Progress>,
    mine: Vec<Mine>,
}

/// What a writer knows of one of its objects.
#[derive(Debug)]
struct Mine {
    id: ObjectId,
    /// The revision of its last change if it exists, else 0.
    known: Revision,
    attempts: Vec<Attempt>,
}

impl Writer {
    /// A writer of the objects `mine`, none of which exists.
    pub(super) fn new(
        store: Store,
        objects: Objects,
        progress: Rc<Progress>,
        mine: impl Iterator<Item = ObjectId>,
    ) -> Self {
        let mine = mine.map(|id| Mine { id, known: 0, attempts: Vec::new() }).collect();
        Self { store, objects, progress, mine }
    }

    /// Creates all objects.
    pub(super) async fn create(mut self) -> Result<Self, Trouble> {
        for place in 0..self.mine.len() {
            self.change(place, Change::Put).await?;
        }
        Ok(self)
    }

    /// Changes all objects once more: one in ten is deleted, and of these every second created anew.
    pub(super) async fn alter(mut self) -> Result<Self, Trouble> {
        for place in 0..self.mine.len() {
            let ObjectId(id) = self.mine[place].id;
            if id % 10 != 9 {
                self.change(place, Change::Put).await?;
                continue;
            }
            self.change(place, Change::Delete).await?;
            if id % 20 == 19 {
                self.change(place, Change::Put).await?;
            }
        }
        Ok(self)
    }

    /// How many changes all writers' [`alter`](Self::alter) makes of so many objects.
    pub(super) fn alterations(objects: usize) -> usize {
        objects + objects / 20
    }

    /// Tries until a change is acknowledged. An attempt whose outcome is unknown is left alone: the next one writes
    /// another value, on top of whatever is there.
    async fn change(&mut self, place: usize, change: Change) -> Result<(), Trouble> {
        let mine = &mut self.mine[place];
        let key = self.objects.key(mine.id);
        loop {
            let guard = mine.known;
            let value = match change {
                Change::Put => Some(self.objects.value(mine.id, mine.attempts.len())),
                Change::Delete if guard == 0 => break, // An unknown attempt has done it.
                Change::Delete => None,
            };
            let outcome = match self.store.write(&key, guard, value).await? {
                Written::Done(revision) => {
                    mine.known = if change == Change::Delete { 0 } else { revision };
                    Outcome::Acknowledged(revision)
                }
                Written::Refused(found) => {
                    mine.known = found;
                    Outcome::Refused
                }
                Written::Unknown => {
                    let key = Bytes::copy_from_slice(key.as_bytes());
                    let read = RangeRequest { key, ..RangeRequest::default() };
                    let found = self.store.range(read).await?;
                    mine.known = found.kvs.first().map_or(0, |kv| kv.mod_revision);
                    Outcome::Unknown
                }
            };
            mine.attempts.push(Attempt { guard, change, outcome });
            if matches!(outcome, Outcome::Acknowledged(_)) {
                break;
            }
        }
        self.progress.advance();
        Ok(())
    }

    /// All that was tried.
    pub(super) fn into_attempts(self) -> impl Iterator<Item = (ObjectId, Vec<Attempt>)> {
        self.mine.into_iter().map(|mine| (mine.id, mine.attempts))
    }
}
