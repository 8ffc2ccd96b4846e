//! Intervals of keys: the one meaning of etcd's pair (`key`, `range_end`).
//!
//! Ranges, deletions, watches, compares and permissions all say which keys they mean by such a
//! pair:
//!
//! ```text
//! range_end              keys
//! empty                  `key` alone
//! one zero byte          every key from `key` on
//! anything else          from `key` up to, not including, `range_end`; none if that is upside down
//! ```
//!
//! Keys are ordered as unsigned bytes.

use super::etcdserverpb::{Compare, DeleteRangeRequest, RangeRequest, WatchCreateRequest};
use alloc::vec::Vec;
use bytes::Bytes;
use core::ops::Bound;

/// A set of keys without gaps.
///
/// Cloning shares the key bytes. Equal intervals that were written differently may compare as
/// different: `[a, a\0)` is not the single key `a` here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRange {
    start: Bytes,
    end: End,
}

/// Where an interval ends.
#[derive(Clone, Debug, PartialEq, Eq)]
enum End {
    /// It holds its start and nothing else.
    AtStart,
    /// Just before this key, which is never below the start.
    Before(Bytes),
    /// Never.
    Unbounded,
}

impl KeyRange {
    /// Reads the pair as etcd does; the module's table says how.
    pub fn new(key: Bytes, range_end: Bytes) -> Self {
        let end = match range_end.as_ref() {
            [] => End::AtStart,
            [0] => End::Unbounded,
            // Ordered maps panic when they are asked for an interval that ends before it starts.
            before if before < key.as_ref() => End::Before(key.clone()),
            _ => End::Before(range_end),
        };
        Self { start: key, end }
    }

    /// The interval of `key` alone.
    pub const fn single(key: Bytes) -> Self {
        Self { start: key, end: End::AtStart }
    }

    /// The interval of every key that begins with `prefix`: of all keys, if that is empty.
    pub fn prefix(prefix: Bytes) -> Self {
        let end = prefix_end(&prefix);
        Self::new(prefix, end)
    }

    /// The key that bounds the interval from below, whether or not there are keys above it.
    pub fn start(&self) -> &[u8] {
        &self.start
    }

    /// The only key of the interval, if it was written as a single key.
    pub fn as_single(&self) -> Option<&[u8]> {
        match &self.end {
            End::AtStart => Some(&self.start),
            End::Before(_) | End::Unbounded => None,
        }
    }

    /// Whether `key` lies in the interval.
    pub fn contains(&self, key: &[u8]) -> bool {
        match &self.end {
            End::AtStart => self.start == key,
            End::Before(end) => self.start <= key && key < end.as_ref(),
            End::Unbounded => self.start <= key,
        }
    }

    /// Whether no key at all can lie in the interval.
    pub fn is_empty(&self) -> bool {
        match &self.end {
            End::AtStart | End::Unbounded => false,
            End::Before(end) => self.start == *end,
        }
    }

    /// The interval as ordered maps take it; never upside down, so that they do not panic.
    pub fn bounds(&self) -> (Bound<&[u8]>, Bound<&[u8]>) {
        let end = match &self.end {
            End::AtStart => Bound::Included(self.start.as_ref()),
            End::Before(end) => Bound::Excluded(end.as_ref()),
            End::Unbounded => Bound::Unbounded,
        };
        (Bound::Included(self.start.as_ref()), end)
    }
}

impl From<&RangeRequest> for KeyRange {
    fn from(request: &RangeRequest) -> Self {
        Self::new(request.key.clone(), request.range_end.clone())
    }
}

impl From<&DeleteRangeRequest> for KeyRange {
    fn from(request: &DeleteRangeRequest) -> Self {
        Self::new(request.key.clone(), request.range_end.clone())
    }
}

impl From<&Compare> for KeyRange {
    fn from(compare: &Compare) -> Self {
        Self::new(compare.key.clone(), compare.range_end.clone())
    }
}

impl From<&WatchCreateRequest> for KeyRange {
    /// Unlike everywhere else, an empty key stands for the smallest one, a single zero byte.
    fn from(request: &WatchCreateRequest) -> Self {
        let key = if request.key.is_empty() { SMALLEST_KEY } else { request.key.clone() };
        Self::new(key, request.range_end.clone())
    }
}

/// The `range_end` that selects every key beginning with `prefix`, in a request whose `key` is
/// `prefix`.
///
/// The prefix with its last byte below 0xff raised by one and the rest cut off; one zero byte
/// (no upper bound) if there is no such byte. Costs a copy of the prefix.
pub fn prefix_end(prefix: &[u8]) -> Bytes {
    let Some(last) = prefix.iter().rposition(|byte| *byte < u8::MAX) else {
        return Bytes::from_static(&[0]);
    };
    let (kept, _) = prefix.split_at(last);
    let mut end = Vec::with_capacity(last.saturating_add(1));
    end.extend_from_slice(kept);
    end.extend(prefix.get(last).map(|byte| byte.saturating_add(1)));
    Bytes::from(end)
}

/// The smallest key that a client can write: keys are never empty.
const SMALLEST_KEY: Bytes = Bytes::from_static(&[0]);

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeSet;
    use alloc::vec;

    fn range(key: &'static [u8], range_end: &'static [u8]) -> KeyRange {
        KeyRange::new(Bytes::from_static(key), Bytes::from_static(range_end))
    }

    /// Keys that surround every boundary used below, in order.
    const KEYS: [&[u8]; 8] = [b"\0", b"\0\0", b"a", b"a\0", b"aa", b"b", b"b\xff", b"\xff\xff"];

    /// Checks `contains`, `bounds` and `is_empty` against the list of keys that the interval holds.
    fn check(range: &KeyRange, expected: &[&[u8]]) {
        let contained: Vec<&[u8]> = KEYS.into_iter().filter(|key| range.contains(key)).collect();
        assert_eq!(contained, expected, "{range:?}");

        let map = BTreeSet::from(KEYS);
        let bounded: Vec<&[u8]> = map.range::<[u8], _>(range.bounds()).copied().collect();
        assert_eq!(bounded, expected, "{range:?}");

        if range.is_empty() {
            assert!(expected.is_empty(), "{range:?}");
        }
    }

    #[test]
    fn an_empty_end_selects_the_single_key() {
        check(&range(b"a", b""), &[b"a"]);
        check(&range(b"c", b""), &[]);
        assert!(!range(b"c", b"").is_empty(), "the key may exist");
        assert_eq!(range(b"a", b"").as_single(), Some(b"a".as_slice()));
        assert_eq!(range(b"a", b""), KeyRange::single(Bytes::from_static(b"a")));
    }

    #[test]
    fn an_end_of_one_zero_byte_is_no_end() {
        check(&range(b"aa", b"\0"), &[b"aa", b"b", b"b\xff", b"\xff\xff"]);
        check(&range(b"\0", b"\0"), &KEYS);
        assert_eq!(range(b"a", b"\0").as_single(), None);
    }

    #[test]
    fn other_ends_are_excluded() {
        check(&range(b"a", b"b"), &[b"a", b"a\0", b"aa"]);
        check(&range(b"a", b"a\0"), &[b"a"]);
        check(&range(b"\0", b"\0\0"), &[b"\0"]);
    }

    #[test]
    fn an_upside_down_interval_is_empty_and_does_not_panic() {
        for (key, end) in [(b"b", b"a".as_slice()), (b"b", b"b"), (b"b", b"\0\0")] {
            check(&range(key, end), &[]);
            assert!(range(key, end).is_empty());
            assert_eq!(range(key, end).start(), b"b");
        }
    }

    #[test]
    fn a_prefix_selects_the_keys_that_begin_with_it() {
        let prefix = |bytes: &'static [u8]| KeyRange::prefix(Bytes::from_static(bytes));
        check(&prefix(b"a"), &[b"a", b"a\0", b"aa"]);
        check(&prefix(b"b\xff"), &[b"b\xff"]);
        check(&prefix(b"\xff"), &[b"\xff\xff"]);
        check(&prefix(b""), &KEYS);
    }

    #[test]
    fn the_end_of_a_prefix_is_etcds() {
        for (prefix, end) in [
            (b"a".as_slice(), b"b".as_slice()),
            (b"foo/", b"foo0"),
            (b"a\xff", b"b"),
            (b"a\xff\xff", b"b"),
            (b"\0", b"\x01"),
            (b"\xff\xff", b"\0"),
            (b"", b"\0"),
        ] {
            assert_eq!(prefix_end(prefix), end, "{prefix:?}");
        }
    }

    #[test]
    fn requests_are_read_alike_but_a_watch_without_key_begins_at_the_smallest() {
        let (key, range_end) = (Bytes::from_static(b"a"), Bytes::from_static(b"b"));
        let expected = range(b"a", b"b");
        let read = RangeRequest {
            key: key.clone(),
            range_end: range_end.clone(),
            ..RangeRequest::default()
        };
        assert_eq!(KeyRange::from(&read), expected);
        let delete = DeleteRangeRequest {
            key: key.clone(),
            range_end: range_end.clone(),
            ..DeleteRangeRequest::default()
        };
        assert_eq!(KeyRange::from(&delete), expected);
        let compare =
            Compare { key: key.clone(), range_end: range_end.clone(), ..Compare::default() };
        assert_eq!(KeyRange::from(&compare), expected);
        let watch = WatchCreateRequest { key, range_end, ..WatchCreateRequest::default() };
        assert_eq!(KeyRange::from(&watch), expected);

        let everything =
            WatchCreateRequest { range_end: Bytes::from(vec![0]), ..WatchCreateRequest::default() };
        assert_eq!(KeyRange::from(&everything), range(b"\0", b"\0"));
        assert_eq!(KeyRange::from(&WatchCreateRequest::default()), range(b"\0", b""));
    }
}
