//! A map from half-open intervals of keys to values, which finds all intervals that hold a key.
//!
//! # The idea
//!
//! A search tree, ordered by start and then by end, in which every node also knows the farthest end below it
//! (Cormen et al., "Introduction to Algorithms", interval trees). Whoever looks for the intervals that hold a
//! key turns back where all of them end too early, and does not go right where all of them start too late.
//! So the search follows one path down, and leaves it only for subtrees that hold a hit: O(log n), and at most
//! as much again for each hit, less where hits are neighbours.
//!
//! Balance comes from chance (Seidel and Aragon, "Randomized Search Trees", 1996): each node draws a priority
//! and no child's is above its parent's. The shape depends on the draws alone, not on the order of insertions,
//! so that no client can make the tree deep without knowing the seed.
//!
//! # Invariants
//!
//! - T1 Left of a node are smaller intervals, right of it larger ones; no interval is there twice.
//! - T2 No child has a higher priority than its parent.
//! - T3 `farthest` of a node names the node below it, itself included, that ends last.

use alloc::boxed::Box;
use core::cmp::Ordering;

use super::arena::{Arena, Slot};
use crate::rng::Rng;

/// The map. An end of `None` lies behind every key.
#[derive(Debug)]
pub(super) struct Intervals<V> {
    nodes: Arena<Node<V>>,
    root: Link<V>,
    rng: Rng,
}

/// An interval and its value; names it as a [`Slot`] outside of this file.
#[derive(Debug)]
pub(super) struct Node<V> {
    start: Box<[u8]>,
    end: Option<Box<[u8]>>,
    priority: u32,
    left: Link<V>,
    right: Link<V>,
    /// The node that ends last among those below this one and itself; `None` until it has a place.
    farthest: Link<V>,
    value: V,
}

type Link<V> = Option<Slot<Node<V>>>;

impl<V: Default> Intervals<V> {
    /// No intervals; priorities will come from `rng`.
    pub(super) const fn new(rng: Rng) -> Self {
        Self { nodes: Arena::new(), root: None, rng }
    }

    /// The node of an interval, with a default value if the interval is new. O(log n).
    pub(super) fn find_or_insert(&mut self, start: &[u8], end: Option<&[u8]>) -> Slot<Node<V>> {
        let mut at = self.root;
        while let Some(slot) = at {
            let node = &self.nodes[slot];
            at = match compare((start, end), node.interval()) {
                Ordering::Less => node.left,
                Ordering::Greater => node.right,
                Ordering::Equal => return slot,
            };
        }
        let new = self.nodes.insert(Node {
            start: start.into(),
            end: end.map(Box::from),
            // The upper half: the better half of the bits of many generators.
            priority: u32::try_from(self.rng.next_u64() >> 32).expect("half of 64 bits"),
            left: None,
            right: None,
            farthest: None,
            value: V::default(),
        });
        self.root = Some(self.insert(self.root, new));
        new
    }

    /// Forgets an interval; nobody may name its node any more. O(log n).
    pub(super) fn remove(&mut self, slot: Slot<Node<V>>) -> V {
        self.root = self.detach(self.root, slot);
        self.nodes.remove(slot).value
    }

    /// The value of an interval.
    pub(super) fn value_mut(&mut self, slot: Slot<Node<V>>) -> &mut V {
        &mut self.nodes[slot].value
    }

    /// The interval of a node; without an end, it ends behind every key.
    pub(super) fn interval(&self, slot: Slot<Node<V>>) -> (&[u8], Option<&[u8]>) {
        self.nodes[slot].interval()
    }

    /// All values, in no particular order.
    pub(super) fn values(&self) -> impl Iterator<Item = &V> {
        self.nodes.iter().map(|(_, node)| &node.value)
    }

    /// Visits the values of all intervals that hold `key`, in the order of the intervals.
    pub(super) fn stab(&self, key: &[u8], visit: &mut impl FnMut(&V)) {
        self.stab_below(self.root, key, visit);
    }

    fn stab_below(&self, root: Link<V>, key: &[u8], visit: &mut impl FnMut(&V)) {
        let mut at = root;
        while let Some(slot) = at {
            let node = &self.nodes[slot];
            if !self.farthest_of(node).ends_behind(key) {
                return;
            }
            self.stab_below(node.left, key, visit);
            if *key < *node.start {
                return;
            }
            if node.ends_behind(key) {
                visit(&node.value);
            }
            at = node.right;
        }
    }

    /// Puts `new` below `root`; returns who is the root then.
    fn insert(&mut self, root: Link<V>, new: Slot<Node<V>>) -> Slot<Node<V>> {
        let Some(slot) = root else {
            self.settle(new);
            return new;
        };
        if self.nodes[new].priority > self.nodes[slot].priority {
            let (left, right) = self.split(root, new);
            self.nodes[new].left = left;
            self.nodes[new].right = right;
            self.settle(new);
            return new;
        }
        match self.order(new, slot) {
            Ordering::Less => {
                let left = self.insert(self.nodes[slot].left, new);
                self.nodes[slot].left = Some(left);
            }
            Ordering::Greater => {
                let right = self.insert(self.nodes[slot].right, new);
                self.nodes[slot].right = Some(right);
            }
            Ordering::Equal => unreachable!("no interval is there twice (T1)"),
        }
        self.settle(slot);
        slot
    }

    /// Takes `gone` out of the tree below `root`; returns who is the root then.
    fn detach(&mut self, root: Link<V>, gone: Slot<Node<V>>) -> Link<V> {
        let slot = root.expect("the order leads to every node (T1)");
        let (left, right) = (self.nodes[slot].left, self.nodes[slot].right);
        match self.order(gone, slot) {
            Ordering::Less => self.nodes[slot].left = self.detach(left, gone),
            Ordering::Greater => self.nodes[slot].right = self.detach(right, gone),
            Ordering::Equal => return self.join(left, right),
        }
        self.settle(slot);
        root
    }

    /// Parts a tree into what is smaller than `at` and what is larger.
    fn split(&mut self, root: Link<V>, at: Slot<Node<V>>) -> (Link<V>, Link<V>) {
        let Some(slot) = root else { return (None, None) };
        let parts = if self.order(slot, at) == Ordering::Less {
            let (left, right) = self.split(self.nodes[slot].right, at);
            self.nodes[slot].right = left;
            (root, right)
        } else {
            let (left, right) = self.split(self.nodes[slot].left, at);
            self.nodes[slot].left = right;
            (left, root)
        };
        self.settle(slot);
        parts
    }

    /// Makes one tree of two, of which `left` has the smaller intervals.
    fn join(&mut self, left: Link<V>, right: Link<V>) -> Link<V> {
        let (Some(left_root), Some(right_root)) = (left, right) else { return left.or(right) };
        if self.nodes[left_root].priority > self.nodes[right_root].priority {
            self.nodes[left_root].right = self.join(self.nodes[left_root].right, right);
            self.settle(left_root);
            left
        } else {
            self.nodes[right_root].left = self.join(left, self.nodes[right_root].left);
            self.settle(right_root);
            right
        }
    }

    /// Makes T3 true of a node whose children have changed.
    fn settle(&mut self, slot: Slot<Node<V>>) {
        let node = &self.nodes[slot];
        let mut farthest = slot;
        for below in [node.left, node.right].into_iter().flatten() {
            let other = self.nodes[below].farthest.expect("a child is settled first");
            if compare_ends(self.nodes[other].end(), self.nodes[farthest].end()).is_gt() {
                farthest = other;
            }
        }
        self.nodes[slot].farthest = Some(farthest);
    }

    fn farthest_of(&self, node: &Node<V>) -> &Node<V> {
        &self.nodes[node.farthest.expect("who has a place in the tree is settled")]
    }

    fn order(&self, a: Slot<Node<V>>, b: Slot<Node<V>>) -> Ordering {
        compare(self.nodes[a].interval(), self.nodes[b].interval())
    }

    /// Checks T1 to T3. O(n log n).
    ///
    /// # Panics
    /// If one is broken; the message says which.
    pub(super) fn check(&self) {
        let mut count = 0;
        let mut last = None;
        self.check_below(self.root, &mut |node| {
            let ascends = last.is_none_or(|last| compare(last, node.interval()) == Ordering::Less);
            assert!(ascends, "intervals ascend strictly (T1)");
            last = Some(node.interval());
            count += 1;
        });
        assert_eq!(count, self.nodes.len(), "every node hangs in the tree");
    }

    fn check_below<'a>(&'a self, root: Link<V>, visit: &mut impl FnMut(&'a Node<V>)) {
        let Some(node) = root.map(|slot| &self.nodes[slot]) else { return };
        let children = || [node.left, node.right].into_iter().flatten().map(|at| &self.nodes[at]);
        let farthest = self.farthest_of(node).end();
        for child in children() {
            assert!(child.priority <= node.priority, "no child is above its parent (T2)");
        }
        let mut ends = children().map(|child| self.farthest_of(child).end()).chain([node.end()]);
        assert!(ends.any(|end| end == farthest), "the farthest end is one below (T3)");
        let mut ends = children().map(|child| self.farthest_of(child).end()).chain([node.end()]);
        assert!(ends.all(|end| compare_ends(end, farthest).is_le()), "and none is farther (T3)");
        self.check_below(node.left, visit);
        visit(node);
        self.check_below(node.right, visit);
    }
}

impl<V> Node<V> {
    fn interval(&self) -> (&[u8], Option<&[u8]>) {
        (&self.start, self.end())
    }

    fn end(&self) -> Option<&[u8]> {
        self.end.as_deref()
    }

    fn ends_behind(&self, key: &[u8]) -> bool {
        self.end().is_none_or(|end| key < end)
    }
}

fn compare(a: (&[u8], Option<&[u8]>), b: (&[u8], Option<&[u8]>)) -> Ordering {
    a.0.cmp(b.0).then_with(|| compare_ends(a.1, b.1))
}

fn compare_ends(a: Option<&[u8]>, b: Option<&[u8]>) -> Ordering {
    match (a, b) {
        (Some(a), Some(b)) => a.cmp(b),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => Ordering::Equal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;
    use alloc::collections::BTreeMap;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    type Interval = (Vec<u8>, Option<Vec<u8>>);

    #[derive(Clone, Debug)]
    enum Step {
        Insert(Interval),
        /// Removes one of those that are there.
        Remove(usize),
        Stab(Vec<u8>),
    }

    fn key() -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(0..4_u8, 0..4)
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (key(), prop::option::weighted(0.8, key())).prop_map(Step::Insert),
            2 => any::<usize>().prop_map(Step::Remove),
            3 => key().prop_map(Step::Stab),
        ]
    }

    proptest! {
        #[test]
        fn it_finds_what_a_list_of_intervals_finds(
            seed in any::<u64>(),
            steps in prop::collection::vec(step(), 1..200),
        ) {
            let mut intervals: Intervals<u32> = Intervals::new(Rng::new(seed));
            let mut model: BTreeMap<Interval, u32> = BTreeMap::new();
            let holds = |(start, end): &Interval, key: &Vec<u8>| {
                start <= key && end.as_ref().is_none_or(|end| key < end)
            };
            for (number, step) in (0..).zip(steps) {
                match step {
                    Step::Insert(interval) => {
                        let slot =
                            intervals.find_or_insert(&interval.0, interval.1.as_deref());
                        let known = model.contains_key(&interval);
                        let value = *model.entry(interval).or_insert(number);
                        prop_assert_eq!(*intervals.value_mut(slot), if known { value } else { 0 });
                        *intervals.value_mut(slot) = value;
                    }
                    Step::Remove(which) => {
                        let Some(at) = which.checked_rem(model.len()) else { continue };
                        let interval = model.keys().nth(at).unwrap().clone();
                        let slot =
                            intervals.find_or_insert(&interval.0, interval.1.as_deref());
                        prop_assert_eq!(Some(intervals.remove(slot)), model.remove(&interval));
                    }
                    Step::Stab(key) => {
                        let mut found = Vec::new();
                        intervals.stab(&key, &mut |value| found.push(*value));
                        let in_order = model.iter().collect::<Vec<_>>();
                        let mut expected: Vec<_> =
                            in_order.into_iter().filter(|(interval, _)| holds(interval, &key)).collect();
                        // Unlike `Option`, an interval has its unbounded end last.
                        expected.sort_by_key(|(interval, _)| {
                            (interval.0.clone(), interval.1.is_none(), interval.1.clone())
                        });
                        let expected: Vec<u32> =
                            expected.into_iter().map(|(_, value)| *value).collect();
                        prop_assert_eq!(found, expected);
                    }
                }
                intervals.check();
            }
        }
    }

    #[test]
    fn ascending_insertions_do_not_make_it_deep() {
        let mut intervals: Intervals<()> = Intervals::new(Rng::new(7));
        for number in 0..10_000_u32 {
            let start = number.to_be_bytes();
            intervals.find_or_insert(&start, Some(&[&start[..], &[0]].concat()));
        }
        let depth = depth(&intervals, intervals.root);
        assert!(depth < 50, "twice the natural logarithm would be 19, and it is {depth}");
    }

    fn depth(intervals: &Intervals<()>, root: Link<()>) -> usize {
        root.map_or(0, |slot| {
            let node = &intervals.nodes[slot];
            1 + depth(intervals, node.left).max(depth(intervals, node.right))
        })
    }
}
