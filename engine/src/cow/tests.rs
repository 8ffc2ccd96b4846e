//! The tree against its simple twin, `BTreeMap`, and the shapes it promises.

use alloc::collections::BTreeMap;
use alloc::format;

use proptest::prelude::*;

use super::*;

/// An item whose key is bytes behind a pointer, like the newest version of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Pod {
    name: Arc<[u8]>,
    version: u32,
}

impl Item for Pod {
    type Key = [u8];
    type Separator = Arc<[u8]>;

    fn key(&self) -> &[u8] {
        &self.name
    }

    fn separator(left: &[u8], right: &[u8]) -> Arc<[u8]> {
        shortest_separator(left, right).into()
    }
}

/// An item whose key is a small number, like a revision's record.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Record {
    revision: u64,
}

impl Item for Record {
    type Key = u64;
    type Separator = u64;

    fn key(&self) -> &u64 {
        &self.revision
    }

    fn separator(_: &u64, right: &u64) -> u64 {
        *right
    }
}

/// Names whose order is not that of their numbers, and of which some are prefixes of others.
fn name(number: u16) -> Arc<[u8]> {
    format!("/registry/pods/{}/pod-{}", number % 7, number / 7).into_bytes().into()
}

fn records(revisions: Range<u64>) -> impl Iterator<Item = Record> {
    revisions.map(|revision| Record { revision })
}

fn appended(len: u64) -> CowTree<Record> {
    let mut tree = CowTree::new();
    for record in records(0..len) {
        assert_eq!(tree.insert(record), None);
    }
    tree.check();
    tree
}

/// How full each leaf is, from left to right.
fn leaves_len<T: Item>(node: &Node<T>) -> Vec<usize> {
    match node {
        Node::Leaf(items) => vec![items.len()],
        Node::Branch(children) => children.iter().flat_map(|c| leaves_len(&c.node)).collect(),
    }
}

/// The addresses of all nodes.
fn nodes<T: Item>(node: &Arc<Node<T>>) -> Vec<*const Node<T>> {
    let mut all = vec![Arc::as_ptr(node)];
    if let Node::Branch(children) = &**node {
        all.extend(children.iter().flat_map(|child| nodes(&child.node)));
    }
    all
}

fn depth<T: Item>(node: &Node<T>) -> usize {
    match node {
        Node::Leaf(_) => 1,
        Node::Branch(children) => 1 + depth(&children[0].node),
    }
}

// Against the model.

type Names = (Bound<u16>, Bound<u16>);
type Model = BTreeMap<Arc<[u8]>, Pod>;

#[derive(Clone, Debug)]
enum Op {
    Insert(u16),
    InsertRun(u16, u16),
    Remove(u16),
    RemoveRun(u16, u16),
    Clone,
    Read(Names),
}

fn bound() -> impl Strategy<Value = Bound<u16>> {
    prop_oneof![
        2 => (0..NUMBERS).prop_map(Bound::Included),
        2 => (0..NUMBERS).prop_map(Bound::Excluded),
        1 => Just(Bound::Unbounded),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (0..NUMBERS).prop_map(Op::Insert),
        2 => (0..NUMBERS, 1_u16..400).prop_map(|(from, len)| Op::InsertRun(from, len)),
        4 => (0..NUMBERS).prop_map(Op::Remove),
        2 => (0..NUMBERS, 1_u16..400).prop_map(|(from, len)| Op::RemoveRun(from, len)),
        1 => Just(Op::Clone),
        3 => (bound(), bound()).prop_map(Op::Read),
    ]
}

/// Enough for a depth of three.
const NUMBERS: u16 = 4000;

#[derive(Default)]
struct Twins {
    tree: CowTree<Pod>,
    model: Model,
    version: u32,
}

impl Twins {
    fn insert(&mut self, number: u16) {
        self.version += 1;
        let pod = Pod { name: name(number), version: self.version };
        let replaced = self.model.insert(pod.name.clone(), pod.clone());
        assert_eq!(self.tree.insert(pod), replaced);
    }

    fn remove(&mut self, number: u16) {
        let name = name(number);
        assert_eq!(self.tree.remove(&name), self.model.remove(&name));
    }
}

fn check_same(tree: &CowTree<Pod>, model: &Model) {
    assert!(tree.iter().eq(model.values()), "a view changed, or the tree is wrong");
    assert!(tree.iter().rev().eq(model.values().rev()));
    assert_eq!(tree.len(), model.len());
    assert_eq!(tree.is_empty(), model.is_empty());
    assert_eq!(tree.first(), model.values().next());
    assert_eq!(tree.last(), model.values().next_back());
}

fn check_read(tree: &CowTree<Pod>, model: &Model, (start, end): Names) {
    let (start, end) = (start.map(name), end.map(name));
    let bounds = (start.as_ref().map(|key| &**key), end.as_ref().map(|key| &**key));
    let expected: Vec<&Pod> =
        model.values().filter(|pod| RangeBounds::<[u8]>::contains(&bounds, pod.key())).collect();
    assert_eq!(tree.count(bounds), expected.len());
    let range = tree.range(bounds);
    assert_eq!(range.len(), expected.len());
    assert_eq!(range.clone().collect::<Vec<_>>(), expected);
    assert!(range.clone().rev().eq(expected.iter().rev().copied()));
    check_both_ends(range, &expected);
    if let Bound::Included(key) | Bound::Excluded(key) = start {
        assert_eq!(tree.rank(&key), model.range(..key.clone()).count());
        assert_eq!(tree.get(&key), model.get(&key));
    }
}

/// Takes two from the front and one from the back until they meet.
fn check_both_ends(mut range: Iter<'_, Pod>, mut expected: &[&Pod]) {
    while let [first, rest @ ..] = expected {
        assert_eq!(range.next(), Some(*first));
        expected = rest;
        if let [first, middle @ .., last] = expected {
            assert_eq!(range.next(), Some(*first));
            assert_eq!(range.next_back(), Some(*last));
            expected = middle;
        }
    }
    assert_eq!(range.next(), None);
    assert_eq!(range.next_back(), None);
}

proptest! {
    #[test]
    fn behaves_like_a_map_whose_clones_never_change(ops in prop::collection::vec(op(), 1..120)) {
        let mut twins = Twins::default();
        let mut views: Vec<(CowTree<Pod>, Model)> = Vec::new();
        for op in ops {
            match op {
                Op::Insert(number) => twins.insert(number),
                Op::InsertRun(from, len) => (from..from + len).for_each(|n| twins.insert(n)),
                Op::Remove(number) => twins.remove(number),
                Op::RemoveRun(from, len) => (from..from + len).for_each(|n| twins.remove(n)),
                Op::Clone => views.push((twins.tree.clone(), twins.model.clone())),
                Op::Read(bounds) => check_read(&twins.tree, &twins.model, bounds),
            }
            twins.tree.check();
        }
        check_same(&twins.tree, &twins.model);
        for (view, model) in &views {
            view.check();
            check_same(view, model);
        }
    }

    #[test]
    fn a_separator_is_above_the_left_and_at_most_the_right(
        one in prop::collection::vec(0_u8..3, 0..6),
        other in prop::collection::vec(0_u8..3, 0..6),
    ) {
        let (left, right) = (one.clone().min(other.clone()), one.max(other));
        if left == right {
            return Ok(());
        }
        let separator = shortest_separator(&left, &right);
        prop_assert!(&left[..] < separator && separator <= &right[..]);
    }
}

#[test]
fn a_separator_keeps_only_what_parts_the_keys() {
    let (left, right) = (b"/registry/pods/default/api-7f", b"/registry/pods/kube-system/dns-0");
    assert_eq!(shortest_separator(left, right), b"/registry/pods/k");
    assert_eq!(shortest_separator(b"a", b"a\0"), b"a\0");
    assert_eq!(shortest_separator(b"", b"abc"), b"a");
}

#[test]
fn bounds_that_exclude_each_other_hold_nothing() {
    let tree = appended(1000);
    let pairs = [
        (Bound::Included(500), Bound::Included(499)),
        (Bound::Included(900), Bound::Excluded(100)),
        (Bound::Excluded(500), Bound::Excluded(500)),
        (Bound::Excluded(500), Bound::Included(500)),
    ];
    for bounds in pairs {
        assert_eq!(tree.count(bounds), 0);
        assert_eq!(tree.range(bounds).next(), None);
        assert_eq!(tree.range(bounds).next_back(), None);
    }
}

#[test]
fn views_go_to_other_threads() {
    fn check<T: Send + Sync>() {}
    check::<CowTree<Pod>>();
    check::<Iter<'_, Pod>>();
}

// Shapes.

#[test]
fn appending_fills_every_leaf_but_the_last() {
    for len in [1, 32, 33, 1000, 1024, 1025, 40_000] {
        let tree = appended(len);
        let leaves = leaves_len(&tree.root);
        let (last, full) = leaves.split_last().unwrap();
        assert!(full.iter().all(|len| *len == NODE_LEN_MAX));
        assert!((1..=NODE_LEN_MAX).contains(last));
    }
}

#[test]
fn building_from_sorted_items_gives_the_tree_that_appending_gives() {
    for len in [0, 1, 32, 33, 1000, 1024, 1025, 40_000] {
        let built = CowTree::from_sorted(records(0..len));
        built.check();
        let appended = appended(len);
        assert!(built.iter().eq(appended.iter()));
        assert_eq!(leaves_len(&built.root), leaves_len(&appended.root));
        assert_eq!(depth(&built.root), depth(&appended.root));
    }
}

#[test]
#[should_panic(expected = "I1: keys ascend strictly")]
fn building_refuses_a_key_twice_in_a_leaf() {
    CowTree::from_sorted(records(0..10).chain(records(9..20)));
}

#[test]
#[should_panic(expected = "I1: keys ascend strictly")]
fn building_refuses_a_step_back_between_leaves() {
    CowTree::from_sorted(records(0..32).chain(records(31..60)));
}

#[test]
fn a_thin_right_edge_goes_as_it_came() {
    let len = 32 * 32 * 32 + 1;
    let mut tree = appended(len);
    assert_eq!(depth(&tree.root), 4);
    assert_eq!(tree.remove(&(len - 1)), Some(Record { revision: len - 1 }));
    tree.check();
    assert_eq!(depth(&tree.root), 3);
    assert_eq!(tree.len(), 32 * 32 * 32);
}

#[test]
fn removing_in_any_order_ends_with_an_empty_leaf() {
    let len = 5000;
    let ascending: fn(u64) -> u64 = |n| n;
    let descending: fn(u64) -> u64 = |n| 4999 - n;
    // 1613 is prime to 5000, so this visits every number once.
    let scattered: fn(u64) -> u64 = |n| n * 1613 % 5000;
    for order in [ascending, descending, scattered] {
        let mut tree = appended(len);
        let mut view = tree.clone();
        for (removed, revision) in (0..len).map(order).enumerate() {
            assert_eq!(tree.remove(&revision), Some(Record { revision }));
            assert_eq!(tree.remove(&revision), None);
            if removed % 50 == 0 {
                tree.check();
                view.check();
                view = tree.clone();
            }
        }
        tree.check();
        assert!(tree.is_empty());
        assert_eq!(depth(&tree.root), 1);
        assert_eq!((tree.first(), tree.last()), (None, None));
    }
}

#[test]
fn compaction_of_most_revisions_leaves_no_thin_nodes_behind() {
    let mut tree = appended(20_000);
    for revision in (0..19_000).filter(|revision| revision % 10 != 0) {
        tree.remove(&revision);
    }
    tree.check();
    assert_eq!(tree.len(), 1900 + 1000);
    assert!(leaves_len(&tree.root).len() <= tree.len() / NODE_LEN_MIN);
}

// Sharing.

#[test]
fn a_tree_without_views_changes_in_place() {
    let mut tree = appended(5000);
    let before = nodes(&tree.root);
    tree.insert(Record { revision: 17 });
    tree.remove(&2500);
    tree.insert(Record { revision: 2500 });
    assert_eq!(nodes(&tree.root), before);
}

#[test]
fn the_first_write_after_a_clone_copies_one_path_and_the_next_none() {
    let mut tree = appended(5000);
    let view = tree.clone();
    let before = nodes(&view.root);
    tree.insert(Record { revision: 17 });
    let after = nodes(&tree.root);
    let shared = after.iter().filter(|node| before.contains(node)).count();
    assert_eq!(before.len() - shared, depth(&tree.root));
    tree.insert(Record { revision: 18 });
    assert_eq!(nodes(&tree.root), after);
    assert_eq!(nodes(&view.root), before);
}

#[test]
fn removing_what_is_not_there_copies_nothing() {
    let mut tree = appended(5000);
    let view = tree.clone();
    assert_eq!(tree.remove(&5000), None);
    assert!(Arc::ptr_eq(&tree.root, &view.root));
}

#[test]
fn an_item_that_has_left_is_not_kept_alive() {
    let held: Vec<Arc<[u8]>> = (0..1000).map(name).collect();
    let mut tree = CowTree::new();
    for name in &held {
        tree.insert(Pod { name: name.clone(), version: 0 });
    }
    for name in &held {
        assert_eq!(Arc::strong_count(name), 2);
        tree.remove(name);
        assert_eq!(Arc::strong_count(name), 1);
    }
}

// What check() must notice.

fn children(tree: &mut CowTree<Record>) -> &mut Vec<Child<Record>> {
    match Arc::make_mut(&mut tree.root) {
        Node::Branch(children) => children,
        Node::Leaf(_) => panic!("the tree of this test has branches"),
    }
}

fn items(child: &mut Child<Record>) -> &mut Vec<Record> {
    match Arc::make_mut(&mut child.node) {
        Node::Leaf(items) => items,
        Node::Branch(_) => panic!("the tree of this test has a depth of two"),
    }
}

#[test]
#[should_panic(expected = "I1: keys ascend strictly")]
fn check_notices_two_items_swapped() {
    let mut tree = appended(100);
    items(&mut children(&mut tree)[1]).swap(3, 4);
    tree.check();
}

#[test]
#[should_panic(expected = "I2: a key lies below the low of its node")]
fn check_notices_a_low_too_high() {
    let mut tree = appended(100);
    children(&mut tree)[1].low = Some(33);
    tree.check();
}

#[test]
#[should_panic(expected = "I2: a key lies above the low of the next node")]
fn check_notices_a_low_too_low() {
    let mut tree = appended(100);
    children(&mut tree)[1].low = Some(31);
    tree.check();
}

#[test]
#[should_panic(expected = "I2: a branch's first low is its own")]
fn check_notices_a_low_on_the_left_edge() {
    let mut tree = appended(100);
    children(&mut tree)[0].low = Some(0);
    tree.check();
}

#[test]
#[should_panic(expected = "I2: only the left edge has no low")]
fn check_notices_a_missing_low() {
    let mut tree = appended(100);
    children(&mut tree)[2].low = None;
    tree.check();
}

#[test]
#[should_panic(expected = "I3: all paths have one length")]
fn check_notices_a_leaf_beside_a_branch() {
    let mut tree = appended(100);
    let branch = children(&mut appended(2000))[1].clone();
    children(&mut tree)[3] = branch;
    tree.check();
}

#[test]
#[should_panic(expected = "I4: a count is the number of items below")]
fn check_notices_a_wrong_count() {
    let mut tree = appended(100);
    children(&mut tree)[1].count += 1;
    tree.check();
}

#[test]
#[should_panic(expected = "I4: the tree's length is the number of its items")]
fn check_notices_a_wrong_length() {
    let mut tree = appended(100);
    tree.len += 1;
    tree.check();
}

#[test]
#[should_panic(expected = "I5: a node is too empty")]
fn check_notices_a_thin_leaf_off_the_right_edge() {
    let mut tree = appended(100);
    items(&mut children(&mut tree)[1]).truncate(NODE_LEN_MIN - 1);
    tree.check();
}

#[test]
#[should_panic(expected = "I5: a root that is a branch has two children")]
fn check_notices_a_root_with_one_child() {
    let mut tree = appended(100);
    children(&mut tree).truncate(1);
    tree.len = 32;
    tree.check();
}
