//! Extents: bytes that are too long for a node, in pages of their own.
//!
//! An extent is a run of pages with one header in front; the data follow without a break, so that whoever
//! reads a value of a mebibyte gets it as one slice. A cell refers to it by page, checksum and length. Each
//! extent has one such reference (T6): it is free as soon as the cell is gone.

use alloc::vec;
use alloc::vec::Vec;

use super::page::{HEADER_BYTES, Header, Kind};
use super::{CheckpointSeq, Fields, PageId, PageSize, Run, TreeId, Why, u48};
use crate::convert::{to_u64, to_usize};

/// Length of a reference in a cell.
pub const REF_BYTES: usize = 14;

/// The longest data of an extent: what a reference can say, less than a header.
pub const DATA_BYTES_MAX: u32 = u32::MAX - 64;

/// What a cell knows of its extent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExtentRef {
    /// The first page.
    pub page: PageId,
    /// Checksum of the whole extent.
    pub crc: u32,
    /// Length of the data.
    pub data_bytes: u32,
}

impl ExtentRef {
    /// Appends [`REF_BYTES`].
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&u48(self.page.0));
        out.extend_from_slice(&self.crc.to_le_bytes());
        out.extend_from_slice(&self.data_bytes.to_le_bytes());
    }

    /// Reads what [`ExtentRef::encode`] wrote.
    ///
    /// # Panics
    /// If `bytes` is shorter than [`REF_BYTES`].
    pub fn decode(bytes: &[u8]) -> Self {
        let mut fields = Fields::new(bytes);
        Self { page: PageId(fields.u48()), crc: fields.u32(), data_bytes: fields.u32() }
    }

    /// The pages of the extent.
    pub fn run(&self, size: PageSize) -> Run {
        Run { first: self.page, pages: pages_for(self.data_bytes, size) }
    }

    /// Checks an extent's bytes against the reference, and returns its data.
    pub fn open<'a>(&self, bytes: &'a [u8], tree: TreeId) -> Result<&'a [u8], Why> {
        let header = Header::open(bytes, self.crc)?;
        let meant = Header {
            kind: Kind::Extent,
            tree,
            level: 0,
            page: self.page,
            birth: header.birth,
            cells: 0,
            prefix_bytes: 0,
            end: self.data_bytes,
        };
        if header != meant {
            return Err(Why::Identity);
        }
        Ok(self.data(bytes))
    }

    /// The data of an extent that was checked before.
    pub fn data<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        &bytes[HEADER_BYTES..][..to_usize(u64::from(self.data_bytes))]
    }
}

/// Pages that data of this length need.
pub fn pages_for(data_bytes: u32, size: PageSize) -> u32 {
    let bytes = to_usize(u64::from(data_bytes)) + HEADER_BYTES;
    u32::try_from(bytes.div_ceil(size.bytes())).expect("fewer pages than bytes")
}

/// The bytes of an extent that begins at `page`, and the reference to it.
///
/// # Panics
/// If the data are longer than [`DATA_BYTES_MAX`]; requests are limited far below.
pub fn build(
    data: &[u8],
    tree: TreeId,
    page: PageId,
    birth: CheckpointSeq,
    size: PageSize,
) -> (Vec<u8>, ExtentRef) {
    let data_bytes = u32::try_from(data.len()).expect("requests are limited");
    assert!(data_bytes <= DATA_BYTES_MAX, "requests are limited");
    let pages = pages_for(data_bytes, size);
    let mut bytes = vec![0; to_usize(u64::from(pages)) * size.bytes()];
    bytes[HEADER_BYTES..HEADER_BYTES + data.len()].copy_from_slice(data);
    let header = Header {
        kind: Kind::Extent,
        tree,
        level: 0,
        page,
        birth,
        cells: 0,
        prefix_bytes: 0,
        end: data_bytes,
    };
    let crc = header.seal(&mut bytes);
    assert_eq!(to_u64(bytes.len()), u64::from(pages) * to_u64(size.bytes()), "whole pages");
    (bytes, ExtentRef { page, crc, data_bytes })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: PageSize = PageSize(512);

    #[test]
    fn data_come_back_and_fill_whole_pages() {
        for (length, pages) in [(1, 1), (480, 1), (481, 2), (992, 2), (993, 3), (100_000, 196)] {
            let data: Vec<u8> = (0..=255).cycle().take(length).collect();
            let (bytes, extent) = build(&data, TreeId::Keys, PageId(9), CheckpointSeq(3), SIZE);
            assert_eq!(extent.run(SIZE), Run { first: PageId(9), pages });
            assert_eq!(bytes.len(), 512 * to_usize(u64::from(pages)));
            assert_eq!(extent.open(&bytes, TreeId::Keys), Ok(&data[..]));
            assert_eq!(extent.open(&bytes, TreeId::History), Err(Why::Identity));
            let elsewhere = ExtentRef { page: PageId(8), ..extent };
            assert_eq!(elsewhere.open(&bytes, TreeId::Keys), Err(Why::Identity));
        }
    }

    #[test]
    fn any_flipped_byte_is_noticed() {
        let (mut bytes, extent) = build(&[5; 600], TreeId::Keys, PageId(9), CheckpointSeq(3), SIZE);
        for at in 0..bytes.len() {
            bytes[at] ^= 0x10;
            assert_eq!(extent.open(&bytes, TreeId::Keys), Err(Why::Checksum), "byte {at}");
            bytes[at] ^= 0x10;
        }
    }
}
