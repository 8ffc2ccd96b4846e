//! The map of space on disk: which pages a checkpoint uses, as a radix tree of pages of its own.
//!
//! Only the parts that changed are written, and where to is decided before anything is serialised: a page that
//! a part of the map moves to is one more bit in the map, which may move another part. Moves only add up, and
//! there are few parts, so that ends at once; then all contents are known, and are written from the bottom up.

use alloc::collections::BTreeSet;
use alloc::vec;
use alloc::vec::Vec;

use super::free_space::Bits;
use super::meta::Root;
use super::page::{CHILD_BYTES, Child, HEADER_BYTES, Header, Kind};
use super::pages::Pages;
use super::work::{PageWrite, Work};
use super::{Damage, PageId, PageSize, Run, TreeId, Why};
use crate::convert::{to_u64, to_usize};

/// Where the parts of a checkpoint's map are: level 0 is the bits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Map {
    levels: Vec<Vec<Child>>,
}

impl Map {
    /// Reads a map: where its parts are, and its bits. Only pages before `end` may be in use, all of the map's own and the
    /// first `reserved` must be.
    pub fn load(pages: Pages<'_>, root: Root, end: PageId) -> Result<(Self, Bits), Damage> {
        let size = pages.size();
        let mut bits = Bits::default();
        if root.height == 0 {
            return Ok((Self::default(), Bits::with_first(size.reserved_pages())));
        }
        let mut levels = vec![vec![root.child]];
        for level in (1..root.height).rev() {
            let mut below = Vec::new();
            for child in levels.last().expect("the level above") {
                let first = below.len();
                below.resize(first + fan_out(size), Child::default());
                if child.page.is_some() {
                    let index = load_index(pages, level, child)?;
                    below[first..first + index.len()].copy_from_slice(&index);
                }
            }
            // What the file has no pages for is absent, and need not be remembered.
            let used = below.iter().rposition(|child| child.page.is_some());
            below.truncate(used.map_or(0, |last| last + 1));
            if to_u64(below.len()) > parts(end.0, size, level - 1) {
                return Err(Damage { page: root.child.page, why: Why::Map });
            }
            levels.push(below);
        }
        levels.reverse();
        for (part, child) in levels[0].iter().enumerate() {
            if child.page.is_some() {
                load_bits(pages, part, child, &mut bits)?;
            }
        }
        let map = Self { levels };
        let own = map.pages().all(|page| bits.contains(page.0));
        let reserved = (0..size.reserved_pages()).all(|page| bits.contains(page));
        if !own || !reserved || bits.end() > end.0 {
            return Err(Damage { page: root.child.page, why: Why::Map });
        }
        Ok((map, bits))
    }

    /// The pages that the map itself takes.
    pub fn pages(&self) -> impl Iterator<Item = PageId> {
        self.levels.iter().flatten().map(|child| child.page).filter(|page| page.is_some())
    }

    /// Writes what has changed since this map was written; returns the new map and its root.
    pub fn write(&self, work: &mut Work<'_>) -> Result<(Self, Root), Damage> {
        let size = work.pages.size();
        let mut map = self.clone();
        let mut moved = BTreeSet::new();
        loop {
            let before = moved.len();
            map.fit(work)?;
            for part in 0..map.levels[0].len() {
                // The first part always says something: that the superblocks are in use.
                let is_missing = part == 0 && !map.levels[0][0].page.is_some();
                if is_missing || differs(work, part, size) {
                    map.move_part(work, part, &mut moved)?;
                }
            }
            if moved.len() == before {
                break;
            }
        }
        let writes = map.serialise(work, &moved);
        work.writes.extend(writes);
        let root = map.root(work.space.used_pages());
        Ok((map, root))
    }

    fn root(&self, used_pages: u64) -> Root {
        let top = self.levels.last().expect("a map has a level");
        let height = u8::try_from(self.levels.len()).expect("a map is not that high");
        assert!(top[0].count == used_pages, "T8: the map counts what is in use");
        Root { child: top[0], height }
    }

    /// Gives the map as many parts and levels as the file needs now. Parts are only added while a map is written.
    fn fit(&mut self, work: &mut Work<'_>) -> Result<(), Damage> {
        let size = work.pages.size();
        let end = work.space.current().end();
        if self.levels.is_empty() {
            self.levels.push(Vec::new());
        }
        let mut level = 0;
        loop {
            let parts = to_usize(parts(end, size, u8::try_from(level).expect("few levels")));
            if self.levels.len() == level {
                self.levels.push(Vec::new());
            }
            if self.levels[level].len() < parts {
                self.levels[level].resize(parts, Child::default());
            }
            if self.levels[level].len() == 1 {
                // Levels above had one part each, which said the same.
                for child in self.levels.drain(level + 1..).flatten() {
                    if child.page.is_some() {
                        work.free(Run::one(child.page))?;
                    }
                }
                return Ok(());
            }
            level += 1;
        }
    }

    /// Moves a part, and those above it, to free pages, unless that was done before.
    fn move_part(
        &mut self,
        work: &mut Work<'_>,
        part: usize,
        moved: &mut BTreeSet<(usize, usize)>,
    ) -> Result<(), Damage> {
        let mut at = part;
        for (level, children) in self.levels.iter_mut().enumerate() {
            if moved.insert((level, at)) {
                let old = children[at].page;
                if old.is_some() {
                    work.free(Run::one(old))?;
                }
                children[at].page = work.allocate(1);
            }
            at /= fan_out(work.pages.size());
        }
        Ok(())
    }

    /// The moved parts as pages, from the bottom up.
    fn serialise(&mut self, work: &Work<'_>, moved: &BTreeSet<(usize, usize)>) -> Vec<PageWrite> {
        let size = work.pages.size();
        let mut writes = Vec::with_capacity(moved.len());
        for (level, part) in moved {
            let page = self.levels[*level][*part].page;
            let mut bytes = vec![0; size.bytes()];
            let (kind, cells, count) = if *level == 0 {
                (Kind::Map, 0, put_bits(work.space.current(), *part, &mut bytes))
            } else {
                let below = &self.levels[level - 1];
                let first = part * fan_out(size);
                let children = &below[first..below.len().min(first + fan_out(size))];
                let mut body = Vec::with_capacity(children.len() * CHILD_BYTES);
                children.iter().for_each(|child| child.encode(&mut body));
                bytes[HEADER_BYTES..HEADER_BYTES + body.len()].copy_from_slice(&body);
                let cells = u16::try_from(children.len()).expect("an index fits its page");
                (Kind::MapIndex, cells, children.iter().map(|child| child.count).sum())
            };
            let header = Header {
                kind,
                tree: TreeId::Space,
                level: u8::try_from(*level).expect("few levels"),
                page,
                birth: work.seq,
                cells,
                prefix_bytes: 0,
                end: 0,
            };
            let crc = header.seal(&mut bytes);
            self.levels[*level][*part] = Child { page, count, bytes: 0, crc };
            writes.push(PageWrite { page, bytes });
        }
        writes
    }
}

/// Pages that one page of bits speaks for.
fn pages_per_part(size: PageSize) -> u64 {
    to_u64(size.bytes() - HEADER_BYTES) * 8
}

/// Children of a page of the index.
fn fan_out(size: PageSize) -> usize {
    (size.bytes() - HEADER_BYTES) / CHILD_BYTES
}

/// Parts that a level has for so many pages; at least one.
fn parts(pages: u64, size: PageSize, level: u8) -> u64 {
    let bits = pages.div_ceil(pages_per_part(size)).max(1);
    (0..level).fold(bits, |parts, _| parts.div_ceil(to_u64(fan_out(size))))
}

/// Whether a part says something else than it did in the newest checkpoint.
fn differs(work: &Work<'_>, part: usize, size: PageSize) -> bool {
    let words = to_usize(pages_per_part(size) / 64);
    let (old, new) = (work.space.durable(), work.space.current());
    (part * words..(part + 1) * words).any(|at| old.word(at) != new.word(at))
}

fn put_bits(bits: &Bits, part: usize, bytes: &mut [u8]) -> u64 {
    let places = bytes[HEADER_BYTES..].chunks_exact_mut(8);
    let words = places.len();
    let mut count = 0;
    for (at, place) in places.enumerate() {
        let word = bits.word(part * words + at);
        place.copy_from_slice(&word.to_le_bytes());
        count += u64::from(word.count_ones());
    }
    count
}

fn load_bits(pages: Pages<'_>, part: usize, child: &Child, bits: &mut Bits) -> Result<(), Damage> {
    let damage = |why| Damage { page: child.page, why };
    let (header, bytes) = pages.map(Kind::Map, 0, child)?;
    if header.cells != 0 {
        return Err(damage(Why::Layout));
    }
    let mut count = 0;
    let words = bytes[HEADER_BYTES..].chunks_exact(8);
    let first = part * words.len();
    for (at, word) in words.enumerate() {
        let word = u64::from_le_bytes(word.try_into().expect("eight bytes"));
        bits.set_word(first + at, word);
        count += u64::from(word.count_ones());
    }
    if count == child.count && child.bytes == 0 { Ok(()) } else { Err(damage(Why::Sums)) }
}

fn load_index(pages: Pages<'_>, level: u8, child: &Child) -> Result<Vec<Child>, Damage> {
    let damage = |why| Damage { page: child.page, why };
    let (header, bytes) = pages.map(Kind::MapIndex, level, child)?;
    let cells = usize::from(header.cells);
    if cells > fan_out(pages.size()) {
        return Err(damage(Why::Layout));
    }
    let (cells, zeros) = bytes[HEADER_BYTES..].split_at(cells * CHILD_BYTES);
    if zeros.iter().any(|byte| *byte != 0) {
        return Err(damage(Why::Layout));
    }
    let children: Vec<_> = cells.chunks_exact(CHILD_BYTES).map(Child::decode).collect();
    let absent = Child::default();
    if children.iter().any(|child| !child.page.is_some() && *child != absent) {
        return Err(damage(Why::Cell));
    }
    let count: u64 = children.iter().map(|child| child.count).sum();
    if count == child.count && child.bytes == 0 { Ok(children) } else { Err(damage(Why::Sums)) }
}
