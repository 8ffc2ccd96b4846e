//! Chance, from a seed: one stream of numbers for each purpose, so that a change in one leaves the others alone.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng};

/// A stream of random numbers. The same seed and purpose give the same numbers on every machine, for ever.
#[derive(Clone, Debug)]
pub struct Random(ChaCha8Rng);

impl Random {
    /// The stream of `seed` for `purpose`.
    pub fn new(seed: u64, purpose: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(purpose);
        Self(rng)
    }

    /// The next number, uniform over all 64 bits.
    pub fn number(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// A number below `bound`, which is not zero.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.number() % bound
    }

    /// A number from `low` to `high`, both included.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }

    /// True in `of` out of `total` cases.
    pub fn chance(&mut self, of: u64, total: u64) -> bool {
        self.below(total) < of
    }

    /// One of these.
    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        let place = self.below(u64::try_from(from.len()).expect("64 bits"));
        &from[usize::try_from(place).expect("a place in a slice")]
    }

    /// A number whose magnitude is uniform: from `low` to about `high`, small ones as likely as large ones.
    pub fn magnitude(&mut self, low: u64, high: u64) -> u64 {
        let bits = u64::from((high / low.max(1)).max(1).ilog2());
        let scale = low.max(1) << self.between(0, bits);
        self.between(scale, scale.saturating_mul(2) - 1).min(high)
    }
}
