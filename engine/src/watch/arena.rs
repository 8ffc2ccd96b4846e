//! Things in numbered slots: handles of four bytes instead of pointers, and few allocations.

use alloc::vec::Vec;
use core::cmp::Ordering;
use core::fmt;
use core::marker::PhantomData;
use core::num::NonZeroU32;
use core::ops::{Index, IndexMut};

use crate::convert::to_usize;

/// Names a place in an arena of `T`. An `Option` of it takes no more room.
pub(super) struct Slot<T> {
    /// The place, counted from one.
    number: NonZeroU32,
    of: PhantomData<fn() -> T>,
}

/// A growing set of `T` that hands out slots, and gives those that fell empty to whoever comes next.
///
/// It grows by chunks, so that nothing moves and little is in reserve. It never shrinks: what many watchers once
/// took, later ones will use.
#[derive(Debug)]
pub(super) struct Arena<T> {
    /// All but the last have [`CHUNK_LEN`] entries.
    chunks: Vec<Vec<Entry<T>>>,
    /// The first of the empty slots, which are a list.
    empty: Option<Slot<T>>,
    len: usize,
}

/// Entries of a chunk: some kilobytes.
const CHUNK_LEN: usize = 128;

#[derive(Debug)]
enum Entry<T> {
    Empty { next: Option<Slot<T>> },
    Full(T),
}

impl<T> Arena<T> {
    /// Nothing yet.
    pub(super) const fn new() -> Self {
        Self { chunks: Vec::new(), empty: None, len: 0 }
    }

    /// How many things there are.
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// Whether there is nothing.
    pub(super) const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Finds room.
    pub(super) fn insert(&mut self, value: T) -> Slot<T> {
        let Some(slot) = self.empty else { return self.push(value) };
        let entry = self.entry_mut(slot);
        let Entry::Empty { next } = *entry else { unreachable!("the list holds empty slots") };
        *entry = Entry::Full(value);
        self.empty = next;
        self.len += 1;
        slot
    }

    /// Finds room behind everything; there is no empty slot.
    fn push(&mut self, value: T) -> Slot<T> {
        if self.len.is_multiple_of(CHUNK_LEN) {
            self.chunks.push(Vec::with_capacity(CHUNK_LEN));
        }
        self.chunks[self.len / CHUNK_LEN].push(Entry::Full(value));
        self.len += 1;
        Slot::last_of(self.len)
    }

    /// Empties a slot; nobody may name it any more.
    pub(super) fn remove(&mut self, slot: Slot<T>) -> T {
        let emptied = Entry::Empty { next: self.empty };
        let entry = core::mem::replace(self.entry_mut(slot), emptied);
        let Entry::Full(value) = entry else { unreachable!("a slot is emptied once") };
        self.empty = Some(slot);
        self.len -= 1;
        value
    }

    /// Everything, by slot.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Slot<T>, &T)> {
        (1..).zip(self.chunks.iter().flatten()).filter_map(|(number, entry)| match entry {
            Entry::Full(value) => Some((Slot::last_of(number), value)),
            Entry::Empty { .. } => None,
        })
    }

    fn entry_mut(&mut self, slot: Slot<T>) -> &mut Entry<T> {
        &mut self.chunks[slot.position() / CHUNK_LEN][slot.position() % CHUNK_LEN]
    }
}

impl<T> Index<Slot<T>> for Arena<T> {
    type Output = T;

    fn index(&self, slot: Slot<T>) -> &T {
        match &self.chunks[slot.position() / CHUNK_LEN][slot.position() % CHUNK_LEN] {
            Entry::Full(value) => value,
            Entry::Empty { .. } => unreachable!("an emptied slot is not named any more"),
        }
    }
}

impl<T> IndexMut<Slot<T>> for Arena<T> {
    fn index_mut(&mut self, slot: Slot<T>) -> &mut T {
        match self.entry_mut(slot) {
            Entry::Full(value) => value,
            Entry::Empty { .. } => unreachable!("an emptied slot is not named any more"),
        }
    }
}

impl<T> Slot<T> {
    /// The last of the first `count` slots.
    fn last_of(count: usize) -> Self {
        let number = u32::try_from(count).ok().and_then(NonZeroU32::new);
        Self { number: number.expect("memory ends before four thousand million"), of: PhantomData }
    }

    fn position(self) -> usize {
        to_usize(u64::from(self.number.get() - 1))
    }
}

// By hand, because `derive` would ask the same of `T`.

impl<T> Clone for Slot<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Slot<T> {}

impl<T> PartialEq for Slot<T> {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl<T> Eq for Slot<T> {}

impl<T> PartialOrd for Slot<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Slot<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.number.cmp(&other.number)
    }
}

impl<T> fmt::Debug for Slot<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_that_fell_empty_are_used_again() {
        let mut arena = Arena::new();
        let (a, b, c) = (arena.insert('a'), arena.insert('b'), arena.insert('c'));
        assert_eq!((arena.remove(a), arena.remove(c)), ('a', 'c'));
        assert_eq!(arena.iter().collect::<Vec<_>>(), [(b, &'b')]);
        let (d, e, f) = (arena.insert('d'), arena.insert('e'), arena.insert('f'));
        assert_eq!((d, e), (c, a), "the latest first");
        arena[f] = 'g';
        assert_eq!((arena[d], arena[b], arena[f], arena.len()), ('d', 'b', 'g', 4));
        assert_eq!(size_of::<Option<Slot<char>>>(), 4);
    }

    #[test]
    fn it_grows_beyond_a_chunk() {
        let mut arena = Arena::new();
        let slots: Vec<_> = (0..3 * CHUNK_LEN).map(|number| arena.insert(number)).collect();
        assert!(slots.iter().enumerate().all(|(number, slot)| arena[*slot] == number));
        assert!(
            arena.iter().eq(slots.iter().copied().zip(&(0..3 * CHUNK_LEN).collect::<Vec<_>>()))
        );
    }
}
