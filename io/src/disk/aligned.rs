//! Memory that `O_DIRECT` takes: the kernel's DMA wants it at block boundaries.
//!
//! Without `unsafe`: one block more than needed is allocated, and the bytes before the first boundary stay
//! unused.

use super::ALIGNMENT;

/// Zeroed bytes that start at a multiple of [`ALIGNMENT`].
#[derive(Debug)]
pub struct Aligned {
    memory: Vec<u8>,
    start: usize,
    length: usize,
}

impl Aligned {
    /// `length` zero bytes.
    pub fn zeroed(length: usize) -> Self {
        let memory = vec![0; length + ALIGNMENT];
        let start = memory.as_ptr().align_offset(ALIGNMENT);
        assert!(start < ALIGNMENT, "a boundary is within one block");
        Self { memory, start, length }
    }
}

impl AsRef<[u8]> for Aligned {
    fn as_ref(&self) -> &[u8] {
        &self.memory[self.start..self.start + self.length]
    }
}

impl AsMut<[u8]> for Aligned {
    fn as_mut(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..self.start + self.length]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_starts_at_a_boundary_and_is_zero() {
        for length in [0, 1, 4096, 100_000] {
            let mut memory = Aligned::zeroed(length);
            assert_eq!(memory.as_ref().as_ptr().align_offset(ALIGNMENT), 0);
            assert_eq!(memory.as_ref().len(), length);
            assert!(memory.as_mut().iter().all(|&byte| byte == 0));
        }
    }
}
