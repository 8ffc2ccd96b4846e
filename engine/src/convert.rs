//! The only place that converts between lengths in memory and numbers on disk or on the wire.

const _: () = assert!(usize::BITS == 64, "Cairn maps files and counts bytes in 64 bits");

/// A length in memory as a number of fixed width. Lossless: `usize` has 64 bits.
#[expect(clippy::as_conversions, reason = "lossless by the assertion above")]
pub(crate) const fn to_u64(length: usize) -> u64 {
    length as u64
}

/// A number of fixed width as a length in memory. Lossless: `usize` has 64 bits.
#[expect(
    clippy::as_conversions,
    clippy::cast_possible_truncation,
    reason = "lossless by the assertion above"
)]
pub(crate) const fn to_usize(number: u64) -> usize {
    number as usize
}
