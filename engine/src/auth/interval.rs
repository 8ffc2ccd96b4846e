//! Unions of intervals of keys.

use alloc::vec::Vec;
use core::ops::Bound;

use bytes::Bytes;

use crate::api::KeyRange;

/// A set of keys: disjoint intervals in order, between each two of which there is a gap.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Union(Vec<Interval>);

/// From `start` up to, not including, `end`; without an end, every key from `start` on.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Interval {
    start: Bytes,
    end: Option<Bytes>,
}

impl Union {
    /// All keys of all these. O(n log n).
    pub(super) fn new(ranges: Vec<KeyRange>) -> Self {
        let mut intervals: Vec<Interval> = ranges.iter().filter_map(Interval::of).collect();
        intervals.sort_by(|a, b| a.start.cmp(&b.start));
        let mut union: Vec<Interval> = Vec::with_capacity(intervals.len());
        for next in intervals {
            match union.last_mut() {
                // What touches grows together: there is no key between `b` and `b`.
                Some(last) if last.reaches(&next.start) => {
                    if !ends_behind(last.end.as_deref(), next.end.as_deref()) {
                        last.end = next.end;
                    }
                }
                Some(_) | None => union.push(next),
            }
        }
        Self(union)
    }

    /// Whether every key of `range` is in it. Of a range that holds no key, its start must be: nobody may ask about
    /// what is not theirs, even where there is nothing to find. O(log n).
    pub(super) fn covers(&self, range: &KeyRange) -> bool {
        let start = range.start();
        let after = self.0.partition_point(|interval| interval.start <= start);
        let Some(interval) = after.checked_sub(1).map(|place| &self.0[place]) else { return false };
        let Some(end) = interval.end.as_deref() else { return true };
        match range.bounds().1 {
            Bound::Unbounded => false,
            // A single key, or none.
            Bound::Included(key) => key < end,
            Bound::Excluded(before) => before <= end && start < end,
        }
    }
}

impl Interval {
    /// `None` if it holds no key.
    fn of(range: &KeyRange) -> Option<Self> {
        let end = match range.bounds().1 {
            Bound::Unbounded => None,
            Bound::Included(key) => {
                // Just behind a key is the key with a zero.
                Some([key, &[0]].concat().into())
            }
            Bound::Excluded(end) => Some(Bytes::copy_from_slice(end)),
        };
        let start = Bytes::copy_from_slice(range.start());
        (!range.is_empty()).then_some(Self { start, end })
    }

    fn reaches(&self, key: &[u8]) -> bool {
        self.end.as_deref().is_none_or(|end| key <= end)
    }
}

/// Whether one end is not before another.
fn ends_behind(end: Option<&[u8]>, other: Option<&[u8]>) -> bool {
    match (end, other) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(end), Some(other)) => end >= other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn range(key: &[u8], end: &[u8]) -> KeyRange {
        KeyRange::new(Bytes::copy_from_slice(key), Bytes::copy_from_slice(end))
    }

    #[test]
    fn what_touches_covers_together_and_a_gap_does_not() {
        let union = Union::new(alloc::vec![range(b"a", b"c"), range(b"c", b"e"), range(b"g", b"")]);
        for (key, end, is_covered) in [
            (&b"a"[..], &b"e"[..], true),
            (b"a", b"f", false),
            (b"b", b"", true),
            (b"e", b"", false),
            (b"g", b"", true),
            (b"g", b"g\0", true),
            (b"g", b"h", false),
            (b"a", b"\0", false),
            (b"d", b"b", true),
            (b"f", b"b", false),
            (b"e", b"e", false),
        ] {
            assert_eq!(union.covers(&range(key, end)), is_covered, "{key:?} {end:?}");
        }
        let open = Union::new(alloc::vec![range(b"b", b"\0")]);
        assert!(open.covers(&range(b"c", b"\0")) && !open.covers(&range(b"a", b"\0")));
        assert!(!Union::default().covers(&range(b"a", b"a")));
    }

    /// Keys of up to two letters of a small alphabet: a universe that can be looked at as a whole.
    fn key() -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(0_u8..4, 1..3)
    }

    fn any_range() -> impl Strategy<Value = KeyRange> {
        (key(), prop_oneof![Just(Vec::new()), Just(alloc::vec![0]), key()])
            .prop_map(|(key, end)| range(&key, &end))
    }

    proptest! {
        /// Against a list of intervals and all keys that there are. Keys of three letters stand for what lies between.
        #[test]
        fn a_range_is_covered_if_each_of_its_keys_is(
            given in prop::collection::vec(any_range(), 0..5),
            asked in any_range(),
        ) {
            let letters = || (0_u8..5).map(Some).chain([None]);
            let universe = (0_u8..5).flat_map(|a| {
                letters().flat_map(move |b| {
                    letters().map(move |c| {
                        [Some(a), b, b.and(c)].into_iter().flatten().collect::<Vec<u8>>()
                    })
                })
            });
            let covered = universe
                .filter(|key| asked.contains(key) || key.as_slice() == asked.start())
                .all(|key| {
                    // A single key may be asked for without its neighbour.
                    given.iter().any(|range| range.contains(&key))
                });
            prop_assert_eq!(Union::new(given).covers(&asked), covered);
        }
    }
}
