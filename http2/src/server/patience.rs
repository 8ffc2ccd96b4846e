//! How much a client may make us do that leads nowhere.
//!
//! Frames that cost us something and bring no request forward use patience up; answers and time bring it back. So no
//! rule is needed for each flood: empty frames, settings, pings, priorities, windows that nobody waits for, heads in
//! many pieces, requests that are taken back at once (CVE-2023-44487) or made wrong so that we reset them
//! (CVE-2025-8671).

/// What a connection begins with, and never has more of.
const MAX: u32 = 20_000;
/// What comes back in a second.
const PER_SECOND: u64 = 100;
/// What an answer brings back.
const PER_ANSWER: u32 = 4;

/// What is sent brings one back for each so many bytes: two windows are opened for what clients ask for in a frame.
const SENT_BYTES: usize = 4 << 10;

/// What a frame costs that says nothing.
pub(super) const FRAME: u32 = 1;
/// What a request costs that is taken back before it was answered.
pub(super) const TAKEN_BACK: u32 = 2;
/// What a stream costs that we had to reset.
pub(super) const FAULT: u32 = 100;

/// A connection's patience.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    left: u32,
    /// When it was last brought back by time, in nanoseconds.
    since_ns: u64,
}

impl Patience {
    pub(super) const fn new() -> Self {
        Self { left: MAX, since_ns: 0 }
    }

    /// Whether so much was left; it is gone now.
    pub(super) fn spend(&mut self, cost: u32) -> bool {
        let left = self.left.checked_sub(cost);
        self.left = left.unwrap_or(0);
        left.is_some()
    }

    /// Something was brought to its end.
    pub(super) fn answered(&mut self) {
        self.left = MAX.min(self.left + PER_ANSWER);
    }

    /// Data was sent: the client opens windows for that.
    pub(super) fn sent(&mut self, bytes: usize) {
        let frames = u32::try_from(bytes / SENT_BYTES).unwrap_or(MAX);
        self.left = MAX.min(self.left + 1 + frames);
    }

    /// It is so late now.
    pub(super) fn time_is(&mut self, now_ns: u64) {
        let seconds = now_ns.saturating_sub(self.since_ns) / 1_000_000_000;
        if seconds > 0 {
            let back = u32::try_from(seconds.saturating_mul(PER_SECOND)).unwrap_or(MAX);
            self.left = MAX.min(self.left.saturating_add(back));
            self.since_ns = now_ns;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_ends_and_comes_back() {
        let mut patience = Patience::new();
        patience.time_is(5);
        assert!((0..MAX).all(|_| patience.spend(1)));
        assert!(!patience.spend(1));
        patience.answered();
        assert!(patience.spend(PER_ANSWER) && !patience.spend(1));
        patience.time_is(1_000_000_005);
        assert!(patience.spend(100) && !patience.spend(1));
        patience.time_is(u64::MAX);
        assert!(patience.spend(MAX) && !patience.spend(1));
    }
}
