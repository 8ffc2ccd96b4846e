//! A persistent, counted B+tree: one owner changes it, everyone else reads old views of it.
//!
//! # The idea
//!
//! Nodes hang on reference counts, so [`Clone`] copies one pointer and yields a *view* that never
//! changes. A write walks down from the root and makes each node on its path its own: a node that no
//! view holds is changed in place, a shared one is copied first ([`Arc::make_mut`]). The first write to
//! a node after a clone pays for the copy, the writes after it do not.
//!
//! ```text
//! view (a clone) --> root ---> b ---> y        y has changed since the clone, so y and every node
//!                     |        |               above it were copied; a and x belong to both
//!                     v        v
//!                     a        x
//!                     ^        ^
//!                     |        |
//! tree (the owner) -> root' -> b' --> y'
//! ```
//!
//! Items live in the leaves. A branch keeps, for every child, the child's node, how many items are
//! under it (so that ranks and counts take one descent) and its *low*: an owned separator, at most the
//! smallest key below it and above every key to its left. Separators are not items, so that an item
//! which has left the tree is not kept alive by one, and they are cut as short as [`Item`] can cut them.
//!
//! Why `Arc`, in an engine where everything has one owner: a view is handed to other cores, which read
//! it without a lock while the owner goes on (docs/decisions/shared-views.md). No memory is ordered by
//! hand here: nodes that two threads can see are never written, `Arc`'s counter orders the last
//! reader's reads before the owner's first change in place, and whatever carries a view to another
//! core orders the rest.
//!
//! # Invariants
//!
//! - I1 order: keys ascend strictly, within a leaf and from leaf to leaf.
//! - I2 lows: a child's low is at most every key under it and above every key to its left. A branch's
//!   first low is its own; there is none (`None`) down the left edge of the tree.
//! - I3 depth: every path from the root to a leaf has the same length.
//! - I4 counts: a child's count is the number of items under it, the tree's length that of all.
//! - I5 fill: a node holds at most `NODE_LEN_MAX` and at least `NODE_LEN_MIN` items or children.
//!   On the right edge of the tree one is enough, so that a tree which grows by appending has full
//!   nodes everywhere else. A root that is a leaf may be empty, one that is a branch has two children.
//!
//! # Limits
//!
//! An item's key must not change while the item is in a tree. A view pins the nodes and items it sees;
//! whoever drops the last handle of a node frees it, there and then, so dropping an old view costs as
//! much as the owner has changed since. Nodes do not compress the prefixes that keys have in common.

use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::borrow::Borrow;
use core::iter::FusedIterator;
use core::ops::{Bound, Range, RangeBounds};
use core::{fmt, mem, slice};

#[cfg(test)]
mod tests;

/// What a tree holds: a small handle that carries its own key and is cheap to clone, because copying a
/// leaf clones all of its items.
pub trait Item: Clone {
    /// What items are ordered by.
    type Key: ?Sized + Ord;

    /// An owned key that parts two leaves; cheap to clone, because copying a branch clones all of its
    /// separators: `Arc<[u8]>` or `Bytes` for byte keys, the key itself where it is `Copy`. A
    /// `Box<[u8]>` would allocate for every child: measured, it doubles the cost of writing under views.
    type Separator: Clone + Borrow<Self::Key>;

    /// Returns the key; the same one for as long as the item is in a tree.
    fn key(&self) -> &Self::Key;

    /// Returns a key above `left` and at most `right`, the shorter the better; asked only with
    /// `left < right`. See [`shortest_separator`].
    fn separator(left: &Self::Key, right: &Self::Key) -> Self::Separator;
}

/// A map from the items' keys to the items, in the order of the keys; the clones are its views.
///
/// Cloning is O(1). Invariants: I1 to I5 above.
#[derive(Clone)]
pub struct CowTree<T: Item> {
    root: Arc<Node<T>>,
    len: usize,
}

#[derive(Clone)]
enum Node<T: Item> {
    Leaf(Vec<T>),
    Branch(Vec<Child<T>>),
}

#[derive(Clone)]
struct Child<T: Item> {
    low: Option<T::Separator>,
    count: usize,
    node: Arc<Node<T>>,
}

/// What an insertion below has done; the branches above do the rest.
enum Insertion<T: Item> {
    /// The key was there: this is the item that held it. Nothing changes above.
    Replaced(T),
    /// One item more. A node that was full has split off this one, to be put to its right.
    Added(Option<Child<T>>),
}

/// Where a node lies. Only the right edge may be thin (I5).
#[derive(Clone, Copy)]
enum Edge {
    Inner,
    Right,
}

impl<T: Item> CowTree<T> {
    /// Makes an empty tree.
    pub fn new() -> Self {
        Self { root: Arc::new(Node::Leaf(Vec::new())), len: 0 }
    }

    /// Makes a tree of items whose keys ascend strictly. O(n); every node but the last of a level is
    /// full.
    ///
    /// # Panics
    ///
    /// If the keys do not ascend strictly: the caller decodes and refuses, the tree does not.
    pub fn from_sorted(items: impl IntoIterator<Item = T>) -> Self {
        let mut level = pack_leaves(items.into_iter());
        while level.len() > 1 {
            level = pack_branches(level);
        }
        match level.pop() {
            Some(Child { count, node, .. }) => Self { root: node, len: count },
            None => Self::new(),
        }
    }

    /// How many items the tree holds. O(1).
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the tree holds nothing. O(1).
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns the item with this key. O(log n).
    pub fn get(&self, key: &T::Key) -> Option<&T> {
        let mut node = &*self.root;
        loop {
            match node {
                Node::Leaf(items) => return search(items, key).ok().map(|at| &items[at]),
                Node::Branch(children) => node = &children[child_of(children, key)].node,
            }
        }
    }

    /// Returns the item with the smallest key. O(log n).
    pub fn first(&self) -> Option<&T> {
        self.iter().next()
    }

    /// Returns the item with the largest key. O(log n).
    pub fn last(&self) -> Option<&T> {
        self.iter().next_back()
    }

    /// Walks all items in the order of their keys.
    pub fn iter(&self) -> Iter<'_, T> {
        self.range(..)
    }

    /// Walks the items whose keys lie within `bounds`, in the order of their keys or from the back.
    /// O(log n) to begin, then O(1) amortised per item; its `len()` is [`CowTree::count`].
    ///
    /// Bounds that exclude each other (start after end) hold nothing; they are no error. For keys
    /// without a size, such as `[u8]`, `bounds` is `..` or a pair of [`Bound`]s.
    pub fn range<R: RangeBounds<T::Key>>(&self, bounds: R) -> Iter<'_, T> {
        Iter {
            root: &self.root,
            ranks: self.ranks(bounds),
            front: [].iter(),
            front_leaves: [].iter(),
            back: [].iter(),
        }
    }

    /// How many items have keys within `bounds`. O(log n), however many they are.
    pub fn count<R: RangeBounds<T::Key>>(&self, bounds: R) -> usize {
        self.ranks(bounds).len()
    }

    /// How many items have keys below `key`. O(log n).
    pub fn rank(&self, key: &T::Key) -> usize {
        self.root.rank(|other| other < key)
    }

    /// Puts an item into the tree and returns the one with the same key that it replaces. O(log n), one
    /// descent; nodes shared with a view are copied on the way.
    pub fn insert(&mut self, item: T) -> Option<T> {
        let split = match Arc::make_mut(&mut self.root).insert(item, Edge::Right) {
            Insertion::Replaced(old) => return Some(old),
            Insertion::Added(split) => split,
        };
        self.len += 1;
        if let Some(right) = split {
            assert!(right.count < self.len, "I5: a split leaves something on both sides");
            let node = Arc::clone(&self.root);
            let left = Child { low: None, count: self.len - right.count, node };
            self.root = Arc::new(Node::Branch(vec![left, right]));
        }
        None
    }

    /// Takes the item with this key out of the tree. O(log n); nodes shared with a view are copied on
    /// the way, but only if the key is there.
    pub fn remove(&mut self, key: &T::Key) -> Option<T> {
        // A descent more, over memory that the next one needs anyway, against copying for nothing.
        self.get(key)?;
        let removed = Arc::make_mut(&mut self.root).remove(key);
        self.len -= 1;
        assert!(self.root.len() >= 1 || self.len == 0, "I5: only an empty tree has an empty root");
        while let Node::Branch(children) = &*self.root
            && children.len() == 1
        {
            self.root = Arc::clone(&children[0].node);
        }
        Some(removed)
    }

    /// Checks the invariants I1 to I5. O(n).
    ///
    /// # Panics
    ///
    /// If one is violated; the message says which.
    pub fn check(&self) {
        self.root.check(Fences { low: None, high: None }, Edge::Right);
        assert_eq!(self.root.count(), self.len, "I4: the tree's length is the number of its items");
        if let Node::Branch(children) = &*self.root {
            assert!(children.len() >= 2, "I5: a root that is a branch has two children");
        }
    }

    /// The ranks of the items within `bounds`; a range that starts after its end is empty as it is.
    fn ranks<R: RangeBounds<T::Key>>(&self, bounds: R) -> Range<usize> {
        let start = match bounds.start_bound() {
            Bound::Included(key) => self.root.rank(|other| other < key),
            Bound::Excluded(key) => self.root.rank(|other| other <= key),
            Bound::Unbounded => 0,
        };
        let end = match bounds.end_bound() {
            Bound::Included(key) => self.root.rank(|other| other <= key),
            Bound::Excluded(key) => self.root.rank(|other| other < key),
            Bound::Unbounded => self.len,
        };
        start..end
    }
}

impl<T: Item> Default for CowTree<T> {
    fn default() -> Self {
        Self::new()
    }
}

/// Never shows the items: a store is large, and its values are nobody's business in a log.
impl<T: Item> fmt::Debug for CowTree<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CowTree").field("len", &self.len).finish_non_exhaustive()
    }
}

/// Walks the items of a range from both ends; made by [`CowTree::range`].
///
/// It is a range of ranks and the leaves that its ends are in. Counts find any rank in one descent, so
/// no path to the root is kept; going up, the rest of a bottom branch spares most of the descents.
#[derive(Clone)]
pub struct Iter<'a, T: Item> {
    root: &'a Node<T>,
    ranks: Range<usize>,
    front: slice::Iter<'a, T>,
    front_leaves: slice::Iter<'a, Child<T>>,
    back: slice::Iter<'a, T>,
}

impl<'a, T: Item> Iterator for Iter<'a, T> {
    type Item = &'a T;

    fn next(&mut self) -> Option<&'a T> {
        let rank = self.ranks.next()?;
        if self.front.as_slice().is_empty() {
            if let Some(leaf) = self.front_leaves.next() {
                self.front = leaf.node.items().iter();
            } else {
                let place = self.root.place(rank);
                self.front = place.items[place.at..].iter();
                self.front_leaves = place.leaves_after.iter();
            }
        }
        self.front.next()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.ranks.size_hint()
    }
}

impl<T: Item> DoubleEndedIterator for Iter<'_, T> {
    fn next_back(&mut self) -> Option<Self::Item> {
        let rank = self.ranks.next_back()?;
        if self.back.as_slice().is_empty() {
            let place = self.root.place(rank);
            self.back = place.items[..=place.at].iter();
        }
        self.back.next_back()
    }
}

impl<T: Item> ExactSizeIterator for Iter<'_, T> {}

impl<T: Item> FusedIterator for Iter<'_, T> {}

impl<T: Item> fmt::Debug for Iter<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Iter").field("ranks", &self.ranks).finish_non_exhaustive()
    }
}

/// Where the item of some rank lies.
struct Place<'a, T: Item> {
    /// Its leaf,
    items: &'a [T],
    /// its position in there,
    at: usize,
    /// and the leaves after it that hang on the same branch.
    leaves_after: &'a [Child<T>],
}

/// The keys that a node may hold: `low <= key < high`, without limit where there is none.
struct Fences<'a, T: Item> {
    low: Option<&'a T::Separator>,
    high: Option<&'a T::Separator>,
}

impl<T: Item> Child<T> {
    fn leaf(low: Option<T::Separator>, items: Vec<T>) -> Self {
        Self { low, count: items.len(), node: Arc::new(Node::Leaf(items)) }
    }

    fn branch(children: Vec<Self>) -> Self {
        let low = children[0].low.clone();
        let node = Node::Branch(children);
        Self { low, count: node.count(), node: Arc::new(node) }
    }
}

impl<T: Item> Node<T> {
    /// How many items or children it holds itself (I5).
    fn len(&self) -> usize {
        match self {
            Self::Leaf(items) => items.len(),
            Self::Branch(children) => children.len(),
        }
    }

    /// How many items are under it.
    fn count(&self) -> usize {
        match self {
            Self::Leaf(items) => items.len(),
            Self::Branch(children) => count(children),
        }
    }

    fn items(&self) -> &[T] {
        match self {
            Self::Leaf(items) => items,
            Self::Branch(_) => panic!("I3: the siblings of a leaf are leaves"),
        }
    }

    /// How many items have keys for which `before` holds; it holds up to some key and for none after.
    fn rank(&self, before: impl Fn(&T::Key) -> bool) -> usize {
        let mut rank = 0;
        let mut node = self;
        loop {
            match node {
                Self::Leaf(items) => return rank + partition(items, |item| before(item.key())),
                Self::Branch(children) => {
                    let at = child_where(children, &before);
                    rank += count(&children[..at]);
                    node = &children[at].node;
                }
            }
        }
    }

    /// Finds the item of this rank, which is below the count.
    fn place(&self, rank: usize) -> Place<'_, T> {
        let mut at = rank;
        let mut node = self;
        let mut leaves_after: &[Child<T>] = &[];
        loop {
            match node {
                Self::Leaf(items) => return Place { items, at, leaves_after },
                Self::Branch(children) => {
                    let mut child = 0;
                    while children[child].count <= at {
                        at -= children[child].count;
                        child += 1;
                    }
                    leaves_after = &children[child + 1..];
                    node = &children[child].node;
                }
            }
        }
    }

    fn insert(&mut self, item: T, edge: Edge) -> Insertion<T> {
        match self {
            Self::Leaf(items) => insert_into_leaf(items, item, edge),
            Self::Branch(children) => insert_into_branch(children, item, edge),
        }
    }

    /// Takes out the item with this key, which is there.
    fn remove(&mut self, key: &T::Key) -> T {
        match self {
            Self::Leaf(items) => {
                let at = search(items, key).expect("remove descends only to a key that get found");
                items.remove(at)
            }
            Self::Branch(children) => {
                let at = child_of(children, key);
                let child = &mut children[at];
                let node = Arc::make_mut(&mut child.node);
                let removed = node.remove(key);
                child.count -= 1;
                if node.len() < NODE_LEN_MIN {
                    rebalance(children, at);
                }
                removed
            }
        }
    }

    /// Takes over what its right neighbour holds; if that is too much for one node, returns a new right
    /// neighbour with half of it.
    fn join(&mut self, right: Self) -> Option<Child<T>> {
        match (self, right) {
            (Self::Leaf(left), Self::Leaf(right)) => {
                let right = merge(left, right)?;
                Some(Child::leaf(Some(separator(left, &right[0])), right))
            }
            (Self::Branch(left), Self::Branch(right)) => merge(left, right).map(Child::branch),
            (Self::Leaf(_), Self::Branch(_)) | (Self::Branch(_), Self::Leaf(_)) => {
                panic!("I3: neighbours have the same depth")
            }
        }
    }

    /// Checks what is under the node and returns its depth.
    fn check(&self, fences: Fences<'_, T>, edge: Edge) -> usize {
        assert!(self.len() <= NODE_LEN_MAX, "I5: a node holds more than it may");
        let is_root = fences.low.is_none() && fences.high.is_none();
        match edge {
            Edge::Inner => assert!(self.len() >= NODE_LEN_MIN, "I5: a node is too empty"),
            Edge::Right => assert!(self.len() >= 1 || is_root, "I5: a node is empty"),
        }
        match self {
            Self::Leaf(items) => check_leaf(items, fences),
            Self::Branch(children) => check_branch(children, fences, edge),
        }
    }
}

fn insert_into_leaf<T: Item>(items: &mut Vec<T>, item: T, edge: Edge) -> Insertion<T> {
    let at = match search(items, item.key()) {
        Ok(at) => return Insertion::Replaced(mem::replace(&mut items[at], item)),
        Err(at) => at,
    };
    let split = insert_at(items, at, item, edge);
    Insertion::Added(split.map(|right| Child::leaf(Some(separator(items, &right[0])), right)))
}

fn insert_into_branch<T: Item>(children: &mut Vec<Child<T>>, item: T, edge: Edge) -> Insertion<T> {
    let at = child_of(children, item.key());
    let child_edge = if at + 1 == children.len() { edge } else { Edge::Inner };
    let child = &mut children[at];
    let split = match Arc::make_mut(&mut child.node).insert(item, child_edge) {
        Insertion::Replaced(old) => return Insertion::Replaced(old),
        Insertion::Added(split) => split,
    };
    child.count += 1;
    let Some(right) = split else { return Insertion::Added(None) };
    child.count -= right.count;
    Insertion::Added(insert_at(children, at + 1, right, edge).map(Child::branch))
}

/// Inserts an item or child; a node that is full splits, and its right part is returned.
///
/// It splits in half, except where the tree grows at its end: there the full node stays as it is and
/// the newcomer begins the next one.
fn insert_at<E>(slots: &mut Vec<E>, at: usize, newcomer: E, edge: Edge) -> Option<Vec<E>> {
    if slots.len() < NODE_LEN_MAX {
        // A copied node has no room to spare; one that grows gets all it may need, once.
        slots.reserve_exact(NODE_LEN_MAX - slots.len());
        slots.insert(at, newcomer);
        return None;
    }
    let middle = match edge {
        Edge::Right if at == slots.len() => at,
        Edge::Right | Edge::Inner => slots.len() / 2,
    };
    let mut right = Vec::with_capacity(NODE_LEN_MAX);
    right.extend(slots.drain(middle..));
    if at < middle {
        slots.insert(at, newcomer);
    } else {
        right.insert(at - middle, newcomer);
    }
    Some(right)
}

/// Joins the child at `at`, which has become too small, with a neighbour.
fn rebalance<T: Item>(children: &mut Vec<Child<T>>, at: usize) {
    if children.len() == 1 {
        // A thin right edge: no neighbour here. An empty child goes, and then its parent is too small.
        if children[at].count == 0 {
            children.clear();
        }
        return;
    }
    let left = at.saturating_sub(1);
    let right = Arc::unwrap_or_clone(children.remove(left + 1).node);
    let child = &mut children[left];
    let node = Arc::make_mut(&mut child.node);
    let split = node.join(right);
    child.count = node.count();
    if let Some(right) = split {
        children.insert(left + 1, right);
    }
}

/// Moves the right part behind the left; returns the second half if that is too much for one node.
fn merge<E>(left: &mut Vec<E>, mut right: Vec<E>) -> Option<Vec<E>> {
    left.reserve_exact(right.len());
    left.append(&mut right);
    if left.len() <= NODE_LEN_MAX {
        return None;
    }
    let right = left.split_off(left.len() / 2);
    left.shrink_to(NODE_LEN_MAX);
    Some(right)
}

fn pack_leaves<T: Item>(items: impl Iterator<Item = T>) -> Vec<Child<T>> {
    let mut items = items.peekable();
    let mut leaves = Vec::new();
    let mut low = None;
    while items.peek().is_some() {
        let leaf: Vec<T> = items.by_ref().take(NODE_LEN_MAX).collect();
        assert!(leaf.is_sorted_by(|a, b| a.key() < b.key()), "I1: keys ascend strictly");
        let low_next = items.peek().map(|next| separator(&leaf, next));
        leaves.push(Child::leaf(low, leaf));
        low = low_next;
    }
    leaves
}

fn pack_branches<T: Item>(children: Vec<Child<T>>) -> Vec<Child<T>> {
    let mut branches = Vec::with_capacity(children.len().div_ceil(NODE_LEN_MAX));
    let mut children = children.into_iter().peekable();
    while children.peek().is_some() {
        branches.push(Child::branch(children.by_ref().take(NODE_LEN_MAX).collect()));
    }
    branches
}

fn check_leaf<T: Item>(items: &[T], fences: Fences<'_, T>) -> usize {
    assert!(items.is_sorted_by(|a, b| a.key() < b.key()), "I1: keys ascend strictly");
    if let (Some(first), Some(low)) = (items.first(), fences.low) {
        assert!(low.borrow() <= first.key(), "I2: a key lies below the low of its node");
    }
    if let (Some(last), Some(high)) = (items.last(), fences.high) {
        assert!(last.key() < high.borrow(), "I2: a key lies above the low of the next node");
    }
    1
}

fn check_branch<T: Item>(children: &[Child<T>], fences: Fences<'_, T>, edge: Edge) -> usize {
    let first_low = children[0].low.as_ref().map(Borrow::borrow);
    assert!(first_low == fences.low.map(Borrow::borrow), "I2: a branch's first low is its own");
    let mut depth_last = None;
    for (at, child) in children.iter().enumerate() {
        assert!(at == 0 || child.low.is_some(), "I2: only the left edge has no low");
        let (high, edge) = match children.get(at + 1) {
            Some(next) => (next.low.as_ref(), Edge::Inner),
            None => (fences.high, edge),
        };
        let depth = child.node.check(Fences { low: child.low.as_ref(), high }, edge);
        assert!(depth_last.is_none_or(|last| last == depth), "I3: all paths have one length");
        depth_last = Some(depth);
        assert_eq!(child.node.count(), child.count, "I4: a count is the number of items below");
    }
    depth_last.map_or(0, |depth| depth + 1)
}

/// A key that parts two neighbouring leaves; asserts what [`Item::separator`] promises.
fn separator<T: Item>(left: &[T], right: &T) -> T::Separator {
    let (left, right) = (left[left.len() - 1].key(), right.key());
    assert!(left < right, "I1: keys ascend strictly");
    let separator = T::separator(left, right);
    assert!(left < separator.borrow(), "I2: a separator is above the left key");
    assert!(separator.borrow() <= right, "I2: a separator is at most the right key");
    separator
}

/// The position of a key, or where it would have to be inserted.
fn search<T: Item>(items: &[T], key: &T::Key) -> Result<usize, usize> {
    let at = partition(items, |item| item.key() < key);
    if items.get(at).is_some_and(|item| item.key() == key) { Ok(at) } else { Err(at) }
}

/// The child that `key` belongs to.
fn child_of<T: Item>(children: &[Child<T>], key: &T::Key) -> usize {
    child_where(children, &|low: &T::Key| low <= key)
}

/// The last child whose low is `before`; the first one has no other to leave its keys to.
fn child_where<T: Item>(children: &[Child<T>], before: &impl Fn(&T::Key) -> bool) -> usize {
    partition(&children[1..], |child| child.low.as_ref().is_none_or(|low| before(low.borrow())))
}

/// How many slots at the front are `before`, by binary search.
///
/// Unlike `slice::partition_point`, which compiles to conditional moves, this one branches. Keys lie
/// behind pointers and a comparison waits for memory: a processor that guesses the branch fetches the
/// next key meanwhile, one that must know the outcome cannot. Measured: a quarter faster or more on
/// trees larger than the caches.
fn partition<E>(slots: &[E], before: impl Fn(&E) -> bool) -> usize {
    let (mut low, mut high) = (0, slots.len());
    while low < high {
        let middle = low.midpoint(high);
        if before(&slots[middle]) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low
}

fn count<T: Item>(children: &[Child<T>]) -> usize {
    children.iter().map(|child| child.count).sum()
}

/// Returns the shortest prefix of `right` that is above `left`; `right` is above `left`.
///
/// ```text
/// left    /registry/pods/default/api-7f      right   /registry/pods/kube-system/dns-0
/// prefix  /registry/pods/k
/// ```
pub fn shortest_separator<'a>(left: &[u8], right: &'a [u8]) -> &'a [u8] {
    let common = left.iter().zip(right).take_while(|(left, right)| left == right).count();
    &right[..right.len().min(common + 1)]
}

/// The most items in a leaf and children in a branch.
///
/// Measured with a million random keys like those of Kubernetes and with as many appended revisions:
/// with 16 ranges are slower and the tree is a level deeper, with 64 copying nodes that a view holds
/// costs more than all else gains. Giving leaves and branches different sizes gained nothing.
const NODE_LEN_MAX: usize = 32;

/// The fewest, but for the right edge: a quarter, so that a node that has just split or been joined
/// sees many writes before the opposite happens to it.
const NODE_LEN_MIN: usize = NODE_LEN_MAX / 4;

const _: () = assert!(NODE_LEN_MIN >= 2, "a node that becomes too small has a neighbour");
const _: () = assert!(NODE_LEN_MIN <= NODE_LEN_MAX / 2, "both halves of a split are large enough");
