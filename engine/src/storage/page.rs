//! The header that every page begins with, and the two references to pages that stand in cells.
//!
//! ```text
//!  off len                 off len
//!   0   4 crc               8   8 page
//!   4   1 kind             16   8 birth
//!   5   1 tree             24   2 cells
//!   6   1 level            26   2 prefix length
//!   7   1 zero             28   4 end of the cells; of an extent, length of its data
//! ```
//!
//! The checksum covers everything behind it and is repeated by whoever refers to the page. So a page has to
//! be whole *and* the one that is meant: a page that was never written, or written to another place, has some
//! other checksum, however whole it is.

use alloc::vec::Vec;

use super::{CheckpointSeq, Fields, PageId, TreeId, Why, u48};

/// Length of the header.
pub const HEADER_BYTES: usize = 32;
/// Where the checksummed part begins.
const CHECKED_FROM: usize = 4;
/// Length of a [`Child`] in a cell.
pub const CHILD_BYTES: usize = 22;

/// What a page holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Keys and values.
    Leaf,
    /// Keys and children.
    Branch,
    /// Bytes that are too long for a node.
    Extent,
    /// Bits of the map of space.
    Map,
    /// Children of the map of space.
    MapIndex,
}

impl Kind {
    const ALL: [Self; 5] = [Self::Leaf, Self::Branch, Self::Extent, Self::Map, Self::MapIndex];

    const fn number(self) -> u8 {
        match self {
            Self::Leaf => 1,
            Self::Branch => 2,
            Self::Extent => 3,
            Self::Map => 4,
            Self::MapIndex => 5,
        }
    }
}

/// What the header of a page says, but for the checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What the page holds.
    pub kind: Kind,
    /// The tree it belongs to.
    pub tree: TreeId,
    /// 0 at the bottom, one more for each level above.
    pub level: u8,
    /// The page itself.
    pub page: PageId,
    /// The checkpoint that wrote it.
    pub birth: CheckpointSeq,
    /// Number of cells, or of children in the map.
    pub cells: u16,
    /// Length of the prefix.
    pub prefix_bytes: u16,
    /// Where the last cell ends; of an extent, the length of its data.
    pub end: u32,
}

impl Header {
    /// Puts the header in front of a page (or extent) that is complete but for it, and returns the checksum.
    ///
    /// # Panics
    /// If `bytes` is shorter than a header.
    pub fn seal(&self, bytes: &mut [u8]) -> u32 {
        let mut header = Vec::with_capacity(HEADER_BYTES);
        header.extend_from_slice(&[0; CHECKED_FROM]);
        header.extend_from_slice(&[self.kind.number(), self.tree.letter(), self.level, 0]);
        header.extend_from_slice(&self.page.0.to_le_bytes());
        header.extend_from_slice(&self.birth.0.to_le_bytes());
        header.extend_from_slice(&self.cells.to_le_bytes());
        header.extend_from_slice(&self.prefix_bytes.to_le_bytes());
        header.extend_from_slice(&self.end.to_le_bytes());
        bytes[..HEADER_BYTES].copy_from_slice(&header);
        let crc = crc32fast::hash(&bytes[CHECKED_FROM..]);
        bytes[..CHECKED_FROM].copy_from_slice(&crc.to_le_bytes());
        crc
    }

    /// Reads the header of a page whose checksum has to be this one.
    ///
    /// # Panics
    /// If `bytes` is shorter than a header.
    pub fn open(bytes: &[u8], crc: u32) -> Result<Self, Why> {
        if stored_crc(bytes) != crc || crc32fast::hash(&bytes[CHECKED_FROM..]) != crc {
            return Err(Why::Checksum);
        }
        Self::decode(bytes).ok_or(Why::Identity)
    }

    /// Reads a header whatever its checksum is; `None` if no version of this code could have written it.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields::new(&bytes[..HEADER_BYTES]);
        let _crc = fields.u32();
        let (kind, tree, level, zero) = (fields.u8(), fields.u8(), fields.u8(), fields.u8());
        let header = Self {
            kind: Kind::ALL.into_iter().find(|known| known.number() == kind)?,
            tree: TreeId::from_letter(tree)?,
            level,
            page: PageId(fields.u64()),
            birth: CheckpointSeq(fields.u64()),
            cells: fields.u16(),
            prefix_bytes: fields.u16(),
            end: fields.u32(),
        };
        (zero == 0).then_some(header)
    }
}

/// Whether a page that was checked before says to be this one: enough to trust it again, whoever refers to it.
pub fn is_again(bytes: &[u8], crc: u32, (kind, tree, level): (Kind, TreeId, u8)) -> bool {
    stored_crc(bytes) == crc && bytes[4..7] == [kind.number(), tree.letter(), level]
}

/// The checksum that a page says it has.
pub fn stored_crc(bytes: &[u8]) -> u32 {
    Fields::new(bytes).u32()
}

/// What a parent knows of a child (T4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Child {
    /// Where it is.
    pub page: PageId,
    /// Keys below it; in the map, pages in use.
    pub count: u64,
    /// Bytes of those keys and their values; nothing in the map.
    pub bytes: u64,
    /// Its checksum.
    pub crc: u32,
}

impl Child {
    /// Appends [`CHILD_BYTES`].
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&u48(self.page.0));
        out.extend_from_slice(&u48(self.count));
        out.extend_from_slice(&u48(self.bytes));
        out.extend_from_slice(&self.crc.to_le_bytes());
    }

    /// Reads what [`Child::encode`] wrote.
    ///
    /// # Panics
    /// If `bytes` is shorter than [`CHILD_BYTES`].
    pub fn decode(bytes: &[u8]) -> Self {
        let mut fields = Fields::new(bytes);
        Self {
            page: PageId(fields.u48()),
            count: fields.u48(),
            bytes: fields.u48(),
            crc: fields.u32(),
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;

    fn header() -> Header {
        Header {
            kind: Kind::Branch,
            tree: TreeId::Keys,
            level: 2,
            page: PageId(77),
            birth: CheckpointSeq(5),
            cells: 3,
            prefix_bytes: 4,
            end: 400,
        }
    }

    #[test]
    fn what_was_sealed_opens_with_its_checksum_only() {
        let mut bytes = vec![7; 512];
        let crc = header().seal(&mut bytes);
        assert_eq!(Header::open(&bytes, crc), Ok(header()));
        assert_eq!(Header::open(&bytes, crc ^ 1), Err(Why::Checksum));
    }

    #[test]
    fn any_flipped_bit_is_noticed() {
        let mut bytes = vec![7; 512];
        let crc = header().seal(&mut bytes);
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Header::open(&bytes, crc), Err(Why::Checksum), "bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }

    #[test]
    fn a_child_has_22_bytes() {
        let most = (1 << 48) - 1;
        let child = Child { page: PageId(most), count: 2, bytes: most, crc: 0xdead_beef };
        let mut bytes = Vec::new();
        child.encode(&mut bytes);
        assert_eq!(bytes.len(), CHILD_BYTES);
        assert_eq!(Child::decode(&bytes), child);
    }
}
