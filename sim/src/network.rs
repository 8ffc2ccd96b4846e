//! The network between members: it delays, drops, doubles and cuts.

use std::collections::{BTreeMap, BTreeSet};

use cairn_engine::MemberId;
use cairn_engine::peer::{Message, codec};

use crate::random::Random;

/// How good the network is.
#[derive(Clone, Copy, Debug)]
pub struct Quality {
    /// The least that a message takes.
    pub delay_ns: u64,
    /// What chance adds at most.
    pub jitter_ns: u64,
    /// One of this many messages is lost; zero: none.
    pub loss_one_in: u64,
    /// One of this many messages arrives twice; zero: none.
    pub double_one_in: u64,
    /// One of this many messages takes a hundred times as long; zero: none.
    pub straggle_one_in: u64,
}

impl Quality {
    /// Whether messages are lost, doubled or late by chance.
    pub fn is_bad(&self) -> bool {
        self.loss_one_in + self.double_one_in + self.straggle_one_in > 0
    }
}

impl Default for Quality {
    fn default() -> Self {
        Self {
            delay_ns: 100_000,
            jitter_ns: 100_000,
            loss_one_in: 0,
            double_one_in: 0,
            straggle_one_in: 0,
        }
    }
}

/// How long each copy of a message takes, in nanoseconds: none, one or two arrive.
pub type Fate = [Option<u64>; 2];

/// The links between members.
#[derive(Clone, Debug)]
pub struct Network {
    /// How good every link is.
    pub quality: Quality,
    /// Directed links that carry nothing.
    cut: BTreeSet<(MemberId, MemberId)>,
    /// Directed links that hold everything back, and until when.
    clogged: BTreeMap<(MemberId, MemberId), u64>,
    /// Directed links with little room: nanoseconds for each byte, and when what is on its way has passed.
    narrow: BTreeMap<(MemberId, MemberId), (u64, u64)>,
    random: Random,
}

impl Network {
    /// A good network.
    pub fn new(seed: u64) -> Self {
        Self {
            quality: Quality::default(),
            cut: BTreeSet::new(),
            clogged: BTreeMap::new(),
            narrow: BTreeMap::new(),
            random: Random::new(seed, 3),
        }
    }

    /// Cuts the link in one direction.
    pub fn cut(&mut self, from: MemberId, to: MemberId) {
        self.cut.insert((from, to));
    }

    /// Lets a link hold everything back until then, in one direction: it arrives all at once.
    pub fn clog(&mut self, from: MemberId, to: MemberId, until_ns: u64) {
        self.clogged.insert((from, to), until_ns);
    }

    /// Lets a link carry a byte in so many nanoseconds, in one direction, one message after the other.
    pub fn throttle(&mut self, from: MemberId, to: MemberId, byte_ns: u64) {
        self.narrow.insert((from, to), (byte_ns, 0));
    }

    /// Cuts every link between these and all others, in both directions.
    pub fn isolate(&mut self, group: &[MemberId], others: &[MemberId]) {
        for a in group {
            for b in others.iter().filter(|b| !group.contains(b)) {
                self.cut(*a, *b);
                self.cut(*b, *a);
            }
        }
    }

    /// Mends everything.
    pub fn heal(&mut self) {
        self.cut.clear();
        self.clogged.clear();
        self.narrow.clear();
    }

    /// How long each copy of a message takes; none arrives if it is lost.
    pub fn fate(&mut self, now_ns: u64, message: &Message) -> Fate {
        let lost = self.happens(self.quality.loss_one_in);
        if lost || self.cut.contains(&(message.from, message.to)) {
            return [None, None];
        }
        let doubled = self.happens(self.quality.double_one_in);
        let first = self.delay();
        let second = doubled.then(|| self.delay());
        let held = self.held(now_ns, message);
        [Some(first + held), second.map(|second| second + held)]
    }

    /// How long a link that is clogged or narrow keeps a message back.
    fn held(&mut self, now_ns: u64, message: &Message) -> u64 {
        let link = (message.from, message.to);
        let clogged = self.clogged.get(&link).map_or(0, |until| until.saturating_sub(now_ns));
        let Some((byte_ns, free_ns)) = self.narrow.get_mut(&link) else { return clogged };
        let bytes = u64::try_from(codec::weight_bytes(message)).expect("64 bits");
        *free_ns = now_ns.max(*free_ns) + bytes * *byte_ns;
        clogged.max(*free_ns - now_ns)
    }

    /// The directed links that carry nothing.
    pub fn cuts(&self) -> &BTreeSet<(MemberId, MemberId)> {
        &self.cut
    }

    fn delay(&mut self) -> u64 {
        let delay = self.quality.delay_ns + self.random.below(self.quality.jitter_ns + 1);
        if self.happens(self.quality.straggle_one_in) { delay * 100 } else { delay }
    }

    fn happens(&mut self, one_in: u64) -> bool {
        one_in > 0 && self.random.chance(1, one_in)
    }
}
