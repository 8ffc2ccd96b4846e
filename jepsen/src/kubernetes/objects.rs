//! The objects: their keys, and the value that each attempt at writing one would leave there.
//!
//! Everything follows from the seed, so that nothing needs to be remembered: whoever finds a value can tell which
//! attempt at which object wrote it, or that nobody did.

use core::fmt::Write as _;

use bytes::Bytes;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};

/// An object: its place in the list of all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ObjectId(pub(super) usize);

/// A kind of objects: its place in [`KINDS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kind(usize);

/// What a cluster has most of.
const KINDS: [&str; 6] = ["pods", "configmaps", "secrets", "events", "endpointslices", "leases"];

/// All objects of a run.
#[derive(Clone, Debug)]
pub(super) struct Objects {
    seed: u64,
    count: usize,
}

impl Objects {
    /// `count` objects.
    pub(super) fn new(seed: u64, count: usize) -> Self {
        Self { seed, count }
    }

    /// The kinds of objects.
    pub(super) fn kinds() -> impl Iterator<Item = Kind> {
        (0..KINDS.len()).map(Kind)
    }

    /// The objects of a kind, in no order.
    pub(super) fn of_kind(&self, kind: Kind) -> impl Iterator<Item = ObjectId> {
        (kind.0..self.count).step_by(KINDS.len()).map(ObjectId)
    }

    /// An object's key: `/registry/<kind>/<namespace>/<name>`.
    pub(super) fn key(&self, ObjectId(place): ObjectId) -> String {
        let kind = KINDS[place % KINDS.len()];
        let mut random = self.random(place, KEY_STREAM);
        let namespace = random.next_u32() % NAMESPACES;
        // The name ends with the place, so that the object of a key is known.
        format!("/registry/{kind}/namespace-{namespace}/{:08x}-{place}", random.next_u32())
    }

    /// The object that has a key.
    pub(super) fn object(&self, key: &[u8]) -> Option<ObjectId> {
        let (_, place) = core::str::from_utf8(key).ok()?.rsplit_once('-')?;
        let id = ObjectId(place.parse().ok().filter(|place| *place < self.count)?);
        (self.key(id).as_bytes() == key).then_some(id)
    }

    /// What attempt number `attempt` at an object writes: 0.5 to 4 KiB that no other attempt writes.
    pub(super) fn value(&self, id: ObjectId, attempt: usize) -> Bytes {
        let stream = u64::try_from(attempt).expect("counts fit") + 1;
        let mut random = self.random(id.0, stream);
        let extra = VALUE_BYTES_MAX - VALUE_BYTES_MIN;
        let length = VALUE_BYTES_MIN
            + usize::try_from(random.next_u32()).expect("32 bits fit") % (extra + 1);
        let mut value = String::with_capacity(length + 16);
        write!(value, r#"{{"attempt":{attempt},"key":"{}","data":""#, self.key(id))
            .expect("strings take everything");
        while value.len() < length - 2 {
            write!(value, "{:016x}", random.next_u64()).expect("strings take everything");
        }
        value.truncate(length - 2);
        value.push_str("\"}");
        value.into()
    }

    /// The attempt that wrote a value, if one did.
    pub(super) fn attempt(&self, id: ObjectId, value: &[u8]) -> Option<usize> {
        let text = core::str::from_utf8(value).ok()?;
        let (attempt, _) = text.strip_prefix(r#"{"attempt":"#)?.split_once(',')?;
        let attempt = attempt.parse().ok()?;
        (self.value(id, attempt) == value).then_some(attempt)
    }

    /// Numbers of an object for a purpose.
    fn random(&self, place: usize, stream: u64) -> ChaCha8Rng {
        let place = u64::try_from(place).expect("counts fit");
        let mut random = ChaCha8Rng::seed_from_u64(self.seed ^ place.rotate_left(32));
        random.set_stream(stream);
        random
    }
}

impl Kind {
    /// What the keys of its objects begin with.
    pub(super) fn prefix(self) -> String {
        format!("/registry/{}/", KINDS[self.0])
    }

    /// The first key behind those of its objects.
    pub(super) fn end(self) -> String {
        // The byte behind the slash.
        format!("/registry/{}0", KINDS[self.0])
    }

    /// A key among those of its objects that is none: it is written at the very end.
    pub(super) fn marker(self) -> String {
        format!("/registry/{}/the-end", KINDS[self.0])
    }
}

const KEY_STREAM: u64 = 0;
const NAMESPACES: u32 = 50;
const VALUE_BYTES_MIN: usize = 512;
const VALUE_BYTES_MAX: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_finds_a_value_can_tell_who_wrote_it() {
        let objects = Objects::new(7, 100);
        for id in (0..100).map(ObjectId) {
            assert_eq!(objects.object(objects.key(id).as_bytes()), Some(id));
            for attempt in [0, 1, 12] {
                let value = objects.value(id, attempt);
                assert!((VALUE_BYTES_MIN..=VALUE_BYTES_MAX).contains(&value.len()));
                assert_eq!(objects.attempt(id, &value), Some(attempt));
                let mut torn = value.to_vec();
                torn[300] ^= 1;
                assert_eq!(objects.attempt(id, &torn), None);
                assert_eq!(objects.attempt(id, &value[..value.len() - 1]), None);
                assert_eq!(objects.attempt(ObjectId(id.0 + 1), &value), None);
            }
        }
        for foreign in ["", "/registry/pods/x-1", "/registry/pods/namespace-1/00000000-100"] {
            assert_eq!(objects.object(foreign.as_bytes()), None);
        }
    }

    #[test]
    fn each_kind_has_a_range_of_keys() {
        let objects = Objects::new(7, 100);
        let mut seen = 0;
        for kind in Objects::kinds() {
            for id in objects.of_kind(kind) {
                let key = objects.key(id);
                assert!(kind.prefix() <= key && key < kind.end());
                seen += 1;
            }
            assert!(kind.prefix() <= kind.marker() && kind.marker() < kind.end());
        }
        assert_eq!(seen, 100);
    }
}
