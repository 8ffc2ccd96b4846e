//! Ways to cut a network.

use core::fmt;
use core::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::Rng as _;

use crate::world::network::Link;

/// Which links do not work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Partition {
    /// A member is alone.
    Alone(usize),
    /// A member is heard by nobody.
    Mute(usize),
    /// A member hears nobody.
    Deaf(usize),
    /// Two members do not reach each other, others do both.
    Link(usize, usize),
    /// These are apart from the rest.
    Halves(Vec<usize>),
    /// Whatever a member says and hears comes late.
    Late(usize, Duration),
}

impl Partition {
    /// One that concerns the victim.
    pub(super) fn random(random: &mut ChaCha8Rng, members: &[usize], victim: usize) -> Self {
        let others: Vec<usize> = members.iter().copied().filter(|slot| *slot != victim).collect();
        let choice = random.next_u32();
        let Some(other) =
            others.get(usize::try_from(choice >> 8).unwrap_or(0) % others.len().max(1))
        else {
            return Self::Alone(victim);
        };
        match choice % 5 {
            0 => Self::Alone(victim),
            1 => Self::Mute(victim),
            2 => Self::Deaf(victim),
            3 => Self::Link(victim, *other),
            _ => Self::Halves(vec![victim, *other]),
        }
    }

    /// What it makes of the link from one member to another.
    pub(super) fn link(&self, from: usize, to: usize) -> Link {
        let cut = match self {
            Self::Alone(one) => from == *one || to == *one,
            Self::Mute(one) => from == *one,
            Self::Deaf(one) => to == *one,
            Self::Link(one, other) => (from, to) == (*one, *other) || (to, from) == (*one, *other),
            Self::Halves(side) => side.contains(&from) != side.contains(&to),
            Self::Late(one, delay) if from == *one || to == *one => return Link::Slow(*delay),
            Self::Late(..) => false,
        };
        if cut { Link::Cut } else { Link::Open }
    }
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Alone(one) => write!(f, "m{one} is alone"),
            Self::Mute(one) => write!(f, "m{one} is heard by nobody"),
            Self::Deaf(one) => write!(f, "m{one} hears nobody"),
            Self::Link(one, other) => write!(f, "m{one} and m{other} do not reach each other"),
            Self::Halves(side) => write!(f, "{side:?} are apart from the rest"),
            Self::Late(one, delay) => write!(f, "m{one} is {delay:?} late"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The pairs of three members whose link is cut.
    fn cut(partition: &Partition) -> Vec<(usize, usize)> {
        let pairs = (0..3).flat_map(|from| (0..3).map(move |to| (from, to)));
        pairs.filter(|(from, to)| from != to && partition.link(*from, *to) == Link::Cut).collect()
    }

    #[test]
    fn each_partition_cuts_what_it_says() {
        assert_eq!(cut(&Partition::Alone(1)), [(0, 1), (1, 0), (1, 2), (2, 1)]);
        assert_eq!(cut(&Partition::Mute(1)), [(1, 0), (1, 2)]);
        assert_eq!(cut(&Partition::Deaf(1)), [(0, 1), (2, 1)]);
        assert_eq!(cut(&Partition::Link(1, 2)), [(1, 2), (2, 1)]);
        assert_eq!(cut(&Partition::Halves(vec![0, 1])), [(0, 2), (1, 2), (2, 0), (2, 1)]);
        assert_eq!(cut(&Partition::Late(1, Duration::ZERO)), []);
    }
}
