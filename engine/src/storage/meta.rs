//! Superblocks: the roots of everything, in four copies, and how the newest is chosen.
//!
//! ```text
//!  offset 0         16384         32768         49152        65536
//!  │ even, copy 0 │ odd, copy 0 │ even, copy 1 │ odd, copy 1 │ pages …
//! ```
//!
//! Checkpoint *n* writes the two copies of generation *n* mod 2, so the one before stays whole until *n* is.
//! What was applied and the roots of the trees change in one such write: there is no moment at which one is
//! newer than the other.
//!
//! # Limits
//!
//! A superblock that a crash tore and one that rotted look the same (row E of the table): whoever has the log
//! knows how far it should have gone.

use alloc::vec;
use alloc::vec::Vec;
use core::fmt;

use super::page::Child;
use super::{CheckpointSeq, Fields, HEIGHT_MAX, PageId, PageSize, TreeId};
use crate::convert::to_usize;
use crate::ids::{ClusterId, MemberId};
use crate::raft::membership::Membership;
use crate::raft::{HardState, Index, Term};

/// Bytes at the beginning of the file that belong to superblocks.
pub const SUPERBLOCKS_BYTES: usize = 65536;
/// Length of a superblock.
pub const SUPERBLOCK_BYTES: usize = 4096;

const MAGIC: [u8; 8] = *b"CAIRN-DB";
/// The format this code writes and reads; a new minor version only adds what older code may ignore.
const FORMAT: (u16, u16) = (1, 0);
/// Where the checksums stand, behind all fields.
const SUMS_AT: usize = SUPERBLOCK_BYTES - 8;
const ROOTS_AT: usize = 192;
const ROOTS: usize = 16;
const MEMBERS_AT: usize = ROOTS_AT + ROOTS * 32;
const COPY_BYTES: u64 = 32768;
const GENERATION_BYTES: u64 = 16384;

const _: () = assert!(TreeId::ALL.len() <= ROOTS, "each tree has its root");

/// Whose file it is; drawn or given when it is made, and the same in all superblocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Tells this file from all others.
    pub uuid: [u8; 16],
    /// The cluster that the file belongs to.
    pub cluster: ClusterId,
    /// The member that the file belongs to.
    pub member: MemberId,
    /// The size of its pages.
    pub page_size: PageSize,
}

/// What the trees of a checkpoint stand for. All of it changes together with the roots.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// The last entry that is in the trees.
    pub applied: Index,
    /// Its term.
    pub applied_term: Term,
    /// The revision.
    pub revision: i64,
    /// The compact revision.
    pub compacted: i64,
    /// How far the sweep behind it has come.
    pub sweep: SweepMark,
    /// Where in the log a member that starts from here has to begin.
    pub log_start: u64,
    /// Everything of the log below this was durable.
    pub log_promise: u64,
    /// Term, vote and commit index.
    pub hard_state: HardState,
    /// Cluster time in milliseconds.
    pub cluster_time_ms: u64,
    /// Who takes part: what a member must know of the state to go on voting when the rest of it is damaged.
    pub members: Members,
}

/// A [`Membership`] as bytes, or nothing, where it is larger than anybody's.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Members {
    length: u16,
    bytes: [u8; MEMBERS_BYTES_MAX],
}

/// Room for sixty members.
const MEMBERS_BYTES_MAX: usize = 512;

impl Members {
    /// These members.
    pub fn new(membership: &Membership) -> Self {
        let mut encoded = Vec::new();
        membership.encode(&mut encoded);
        Self::from_bytes(&encoded).unwrap_or_default()
    }

    /// Nobody, if they are not known.
    pub fn membership(&self) -> Membership {
        Membership::decode(&mut self.bytes()).unwrap_or_default()
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }

    fn from_bytes(encoded: &[u8]) -> Option<Self> {
        let mut bytes = [0; MEMBERS_BYTES_MAX];
        bytes.get_mut(..encoded.len())?.copy_from_slice(encoded);
        Some(Self { length: u16::try_from(encoded.len()).ok()?, bytes })
    }
}

impl Default for Members {
    fn default() -> Self {
        Self { length: 0, bytes: [0; MEMBERS_BYTES_MAX] }
    }
}

impl fmt::Debug for Members {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.membership().fmt(f)
    }
}

/// Where the sweep behind a compaction is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SweepMark {
    /// Next revision to look at: main.
    pub main: i64,
    /// Next revision to look at: sub.
    pub sub: i64,
    /// Where it ends; −1: there is none.
    pub end: i64,
}

impl Default for SweepMark {
    fn default() -> Self {
        Self { main: 0, sub: 0, end: -1 }
    }
}

/// The root of a tree: its topmost page, as a parent would know it, and its height.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Root {
    /// The topmost page; none if the tree is empty.
    pub child: Child,
    /// Number of levels; 0 if the tree is empty.
    pub height: u8,
}

/// A superblock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meta {
    /// Whose file it is.
    pub owner: Owner,
    /// Which checkpoint.
    pub seq: CheckpointSeq,
    /// What its trees stand for.
    pub facts: Facts,
    /// Behind the last page that it uses.
    pub end: PageId,
    roots: [Root; TreeId::ALL.len()],
}

/// What stands at the beginning of a file.
#[expect(clippy::large_enum_variant, reason = "made once, when a file is opened")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// Rows C, D and E.
    Use {
        /// The newest checkpoint.
        newest: Meta,
        /// The one before, if it is whole as well.
        fallback: Option<Meta>,
    },
    /// Row F: nothing was ever written here.
    Empty,
    /// Rows A, B and G.
    Refuse(Refusal),
}

/// Why a file is not opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Written in a format, or with features, that this code does not know.
    Unknown {
        /// Its format.
        major: u16,
        /// Its features that whoever opens it must know.
        features: u32,
    },
    /// The superblocks belong to different files.
    Mixed,
    /// No superblock is whole.
    Damaged,
}

/// What one copy turned out to be.
#[expect(clippy::large_enum_variant, reason = "made when a file is opened, four of them")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Copy {
    Whole(Meta),
    Torn,
    Unknown { major: u16, features: u32 },
}

impl Meta {
    /// The first superblock of a file: nothing in it.
    pub fn first(owner: Owner) -> Self {
        let end = PageId(owner.page_size.reserved_pages());
        let (seq, facts) = (CheckpointSeq(0), Facts::default());
        Self { owner, seq, facts, end, roots: [Root::default(); TreeId::ALL.len()] }
    }

    /// The root of a tree.
    pub fn root(&self, tree: TreeId) -> Root {
        self.roots[tree.place()]
    }

    /// Sets the root of a tree.
    pub const fn set_root(&mut self, tree: TreeId, root: Root) {
        self.roots[tree.place()] = root;
    }

    /// Where the two copies are written to.
    pub const fn offsets(&self) -> [u64; 2] {
        let first = (self.seq.0 % 2) * GENERATION_BYTES;
        [first, first + COPY_BYTES]
    }

    /// The superblock as bytes, [`SUPERBLOCK_BYTES`] of them.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(SUPERBLOCK_BYTES);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&FORMAT.0.to_le_bytes());
        out.extend_from_slice(&FORMAT.1.to_le_bytes());
        // Feature bits: incompatible (a reader must know them), read-only compatible, compatible.
        out.extend_from_slice(&[0; 12]);
        out.extend_from_slice(&self.owner.page_size.number().to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&self.owner.uuid);
        let facts = &self.facts;
        for number in [
            self.owner.cluster.0,
            self.owner.member.0,
            self.seq.0,
            facts.applied.0,
            facts.applied_term.0,
        ] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        let sweep = facts.sweep;
        for number in [facts.revision, facts.compacted, sweep.main, sweep.sub, sweep.end] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        for number in [
            facts.log_start,
            facts.log_promise,
            facts.hard_state.term.0,
            facts.hard_state.vote.0,
            facts.hard_state.commit.0,
            facts.cluster_time_ms,
            self.end.0,
            0,
        ] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        assert_eq!(out.len(), ROOTS_AT, "the roots stand at their place");
        for tree in TreeId::ALL {
            let Root { child, height } = self.root(tree);
            if height > 0 {
                out.extend_from_slice(&[tree.letter(), height, 0, 0]);
                out.extend_from_slice(&child.crc.to_le_bytes());
                for number in [child.page.0, child.count, child.bytes] {
                    out.extend_from_slice(&number.to_le_bytes());
                }
            }
        }
        out.resize(MEMBERS_AT, 0);
        out.extend_from_slice(&facts.members.length.to_le_bytes());
        out.extend_from_slice(facts.members.bytes());
        out.resize(SUMS_AT, 0);
        let sums = [crc32fast::hash(&out), crc32c::crc32c(&out)];
        for sum in sums {
            out.extend_from_slice(&sum.to_le_bytes());
        }
        out
    }

    /// Chooses among the superblocks of a file by the table in docs/format.md.
    /// Whoever reads a shorter file fills it up with zeros.
    pub fn choose(bytes: &[u8; SUPERBLOCKS_BYTES]) -> Choice {
        let even = Self::decode_generation(bytes, 0);
        let odd = Self::decode_generation(bytes, 1);
        match (even, odd) {
            (Copy::Unknown { major, features }, _) | (_, Copy::Unknown { major, features }) => {
                Choice::Refuse(Refusal::Unknown { major, features }) // A
            }
            (Copy::Whole(a), Copy::Whole(b)) if a.owner != b.owner => {
                Choice::Refuse(Refusal::Mixed) // B
            }
            (Copy::Whole(a), Copy::Whole(b)) => {
                let (newest, other) = if a.seq > b.seq { (a, b) } else { (b, a) };
                let fallback = (other.seq.next() == newest.seq).then_some(other); // C, else D
                Choice::Use { newest, fallback }
            }
            (Copy::Whole(newest), Copy::Torn) | (Copy::Torn, Copy::Whole(newest)) => {
                Choice::Use { newest, fallback: None } // E
            }
            (Copy::Torn, Copy::Torn) if bytes.iter().all(|byte| *byte == 0) => Choice::Empty, // F
            (Copy::Torn, Copy::Torn) => Choice::Refuse(Refusal::Damaged),                     // G
        }
    }

    /// Both copies of a generation; the newer whole one counts.
    fn decode_generation(bytes: &[u8], generation: u64) -> Copy {
        let [first, second] = [0, 1].map(|copy| {
            let at = to_usize(generation * GENERATION_BYTES + copy * COPY_BYTES);
            Self::decode_copy(&bytes[at..at + SUPERBLOCK_BYTES], generation)
        });
        match (first, second) {
            (unknown @ Copy::Unknown { .. }, _) | (_, unknown @ Copy::Unknown { .. }) => unknown,
            (Copy::Whole(a), Copy::Whole(b)) => Copy::Whole(if b.seq > a.seq { b } else { a }),
            (whole @ Copy::Whole(_), Copy::Torn) | (Copy::Torn, whole) => whole,
        }
    }

    fn decode_copy(bytes: &[u8], generation: u64) -> Copy {
        let (body, sums) = bytes.split_at(SUMS_AT);
        let mut sums = Fields::new(sums);
        let mut fields = Fields::new(body);
        let whole = sums.u32() == crc32fast::hash(body) && sums.u32() == crc32c::crc32c(body);
        if !whole || fields.array() != MAGIC {
            return Copy::Torn;
        }
        let (major, _minor, incompat) = (fields.u16(), fields.u16(), fields.u32());
        let (ro_compat, _compat) = (fields.u32(), fields.u32());
        // Members write, so they do not open what must only be read.
        let features = incompat | ro_compat;
        if major != FORMAT.0 || features != 0 {
            return Copy::Unknown { major, features };
        }
        match Self::decode_fields(fields) {
            Some(meta) if meta.seq.0 % 2 == generation => Copy::Whole(meta),
            Some(_) | None => Copy::Torn,
        }
    }

    /// The rest of the fields; `None` if they contradict each other.
    fn decode_fields(mut fields: Fields<'_>) -> Option<Self> {
        let page_size = PageSize::new(fields.u32())?;
        let _zero = fields.u32();
        let owner = Owner {
            uuid: fields.array(),
            cluster: ClusterId(fields.u64()),
            member: MemberId(fields.u64()),
            page_size,
        };
        let mut meta = Self::first(owner);
        meta.seq = CheckpointSeq(fields.u64());
        meta.facts = Facts {
            applied: Index(fields.u64()),
            applied_term: Term(fields.u64()),
            revision: fields.i64(),
            compacted: fields.i64(),
            sweep: SweepMark { main: fields.i64(), sub: fields.i64(), end: fields.i64() },
            log_start: fields.u64(),
            log_promise: fields.u64(),
            hard_state: HardState {
                term: Term(fields.u64()),
                vote: MemberId(fields.u64()),
                commit: Index(fields.u64()),
            },
            cluster_time_ms: fields.u64(),
            members: Members::default(),
        };
        meta.end = PageId(fields.u64());
        let _zero = fields.u64();
        let reserved = page_size.reserved_pages();
        if meta.end.0 < reserved || meta.end.0 > PAGES_MAX {
            return None;
        }
        for _ in 0..ROOTS {
            let (letter, height, _zero) = (fields.u8(), fields.u8(), fields.u16());
            let crc = fields.u32();
            let (page, count, bytes) = (PageId(fields.u64()), fields.u64(), fields.u64());
            if letter == 0 {
                continue;
            }
            let tree = TreeId::from_letter(letter)?;
            let within = reserved <= page.0 && page < meta.end;
            let possible = 0 < height && height <= HEIGHT_MAX && count.max(bytes) < SUM_MAX;
            if !within || !possible || meta.root(tree).height > 0 {
                return None;
            }
            meta.set_root(tree, Root { child: Child { page, count, bytes, crc }, height });
        }
        let length = usize::from(fields.u16());
        meta.facts.members = Members::from_bytes(fields.rest().get(..length)?)?;
        Some(meta)
    }
}

/// More pages than any file has: their numbers fit references of 48 bits, and their offsets 63.
const PAGES_MAX: u64 = 1 << 47;

/// No tree holds as many keys or bytes: sums fit the 48 bits that a child has for them.
const SUM_MAX: u64 = 1 << 47;

/// The beginning of a new file, [`SUPERBLOCKS_BYTES`] long: checkpoint 0 and zeros.
pub fn new_file(owner: Owner) -> Vec<u8> {
    let meta = Meta::first(owner);
    let mut bytes = vec![0; SUPERBLOCKS_BYTES];
    for offset in meta.offsets() {
        bytes[to_usize(offset)..][..SUPERBLOCK_BYTES].copy_from_slice(&meta.encode());
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWNER: Owner = Owner {
        uuid: *b"0123456789abcdef",
        cluster: ClusterId(7),
        member: MemberId(8),
        page_size: PageSize::DEFAULT,
    };

    fn meta(seq: u64) -> Meta {
        let mut meta = Meta::first(OWNER);
        meta.seq = CheckpointSeq(seq);
        meta.end = PageId(100);
        meta.facts = Facts {
            applied: Index(1),
            applied_term: Term(2),
            revision: 3,
            compacted: -4,
            sweep: SweepMark { main: 5, sub: 6, end: 7 },
            log_start: 8,
            log_promise: 9,
            hard_state: HardState { term: Term(10), vote: MemberId(11), commit: Index(12) },
            cluster_time_ms: 13,
            members: Members::new(&Membership::new([MemberId(8), MemberId(9)])),
        };
        let child = Child { page: PageId(50), count: 3, bytes: 30, crc: 0xdead_beef };
        meta.set_root(TreeId::Graves, Root { child, height: 2 });
        meta
    }

    /// Writes one copy to its place.
    fn put(bytes: &mut [u8], meta: &Meta, copy: usize) {
        let at = to_usize(meta.offsets()[copy]);
        bytes[at..at + SUPERBLOCK_BYTES].copy_from_slice(&meta.encode());
    }

    /// A file in which these copies are whole.
    fn file(copies: &[(&Meta, usize)]) -> [u8; SUPERBLOCKS_BYTES] {
        let mut bytes = [0; SUPERBLOCKS_BYTES];
        for (meta, copy) in copies {
            put(&mut bytes, meta, *copy);
        }
        bytes
    }

    fn with_sums(mut block: Vec<u8>) -> Vec<u8> {
        let sums = [crc32fast::hash(&block[..SUMS_AT]), crc32c::crc32c(&block[..SUMS_AT])];
        block.truncate(SUMS_AT);
        block.extend_from_slice(&sums[0].to_le_bytes());
        block.extend_from_slice(&sums[1].to_le_bytes());
        block
    }

    fn with_byte(seq: u64, at: usize, byte: u8) -> [u8; SUPERBLOCKS_BYTES] {
        let mut bytes = file(&[(&meta(seq), 0), (&meta(seq + 1), 0)]);
        let offset = to_usize(meta(seq).offsets()[0]);
        let mut block = meta(seq).encode();
        block[at] = byte;
        bytes[offset..offset + SUPERBLOCK_BYTES].copy_from_slice(&with_sums(block));
        bytes
    }

    #[test]
    fn row_a_unknown_formats_and_features_are_refused_unless_they_are_compatible() {
        let refused = |major, features| Choice::Refuse(Refusal::Unknown { major, features });
        assert_eq!(Meta::choose(&with_byte(4, 8, 2)), refused(2, 0));
        assert_eq!(Meta::choose(&with_byte(4, 12, 4)), refused(1, 4), "incompatible");
        assert_eq!(Meta::choose(&with_byte(4, 16, 8)), refused(1, 8), "read-only compatible");
        let used = Choice::Use { newest: meta(5), fallback: Some(meta(4)) };
        assert_eq!(Meta::choose(&with_byte(4, 20, 8)), used, "compatible");
        assert_eq!(Meta::choose(&with_byte(4, 10, 8)), used, "a minor version");
    }

    #[test]
    fn row_b_superblocks_of_different_files_are_refused() {
        let mut other = meta(5);
        other.owner.uuid[0] ^= 1;
        let bytes = file(&[(&meta(4), 0), (&other, 0)]);
        assert_eq!(Meta::choose(&bytes), Choice::Refuse(Refusal::Mixed));
    }

    #[test]
    fn row_c_the_newest_with_its_fallback() {
        for copies in [(0, 0), (0, 1), (1, 0), (1, 1)] {
            let bytes = file(&[(&meta(4), copies.0), (&meta(5), copies.1)]);
            let choice = Choice::Use { newest: meta(5), fallback: Some(meta(4)) };
            assert_eq!(Meta::choose(&bytes), choice);
        }
        let bytes = file(&[(&meta(6), 0), (&meta(5), 0), (&meta(4), 1)]);
        let choice = Choice::Use { newest: meta(6), fallback: Some(meta(5)) };
        assert_eq!(Meta::choose(&bytes), choice, "one copy was torn and is the one before");
    }

    #[test]
    fn row_d_a_generation_that_is_too_old_is_no_fallback() {
        let bytes = file(&[(&meta(4), 0), (&meta(7), 0)]);
        assert_eq!(Meta::choose(&bytes), Choice::Use { newest: meta(7), fallback: None });
    }

    #[test]
    fn row_e_one_generation_is_enough() {
        for copy in 0..2 {
            let choice = Choice::Use { newest: meta(5), fallback: None };
            assert_eq!(Meta::choose(&file(&[(&meta(5), copy)])), choice);
        }
        let choice = Choice::Use { newest: Meta::first(OWNER), fallback: None };
        assert_eq!(Meta::choose(&new_file(OWNER).try_into().unwrap()), choice);
    }

    #[test]
    fn row_f_zeros_are_no_file() {
        assert_eq!(Meta::choose(&[0; SUPERBLOCKS_BYTES]), Choice::Empty);
    }

    #[test]
    fn row_g_anything_else_is_damage() {
        let mut bytes = [0; SUPERBLOCKS_BYTES];
        bytes[60000] = 1;
        assert_eq!(Meta::choose(&bytes), Choice::Refuse(Refusal::Damaged));
    }

    #[test]
    fn any_flipped_bit_makes_a_copy_torn() {
        let block = meta(4).encode();
        assert_eq!(Meta::decode_copy(&block, 0), Copy::Whole(meta(4)));
        assert_eq!(Meta::decode_copy(&block, 1), Copy::Torn, "at another's place");
        for bit in 0..SUPERBLOCK_BYTES * 8 {
            let mut damaged = block.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Meta::decode_copy(&damaged, 0), Copy::Torn, "bit {bit}");
        }
    }

    #[test]
    fn impossible_fields_are_refused_whatever_the_sums_say() {
        let cases: [(usize, &[u8]); 6] = [
            (24, &[1, 0, 0, 0]),                 // page size
            (176, &[0, 0, 0, 0, 0, 0, 0, 0]),    // end before the superblocks' end
            (176, &[0, 0, 0, 0, 0, 0, 0xff, 0]), // end beyond all files
            (192, b"?"),                         // unknown tree
            (193, &[0]),                         // no height
            (200, &[0, 0, 0, 0, 0, 0, 0, 0]),    // root among the superblocks
        ];
        for (at, field) in cases {
            let mut block = meta(4).encode();
            block[at..at + field.len()].copy_from_slice(field);
            assert_eq!(Meta::decode_copy(&with_sums(block), 0), Copy::Torn, "offset {at}");
        }
    }
}
