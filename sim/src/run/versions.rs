//! Members of several versions, and the version of the cluster that comes of it.

use cairn_engine::MemberId;
use cairn_engine::cluster::Wish;

use super::Run;
use super::marks::{Mark, State};
use crate::check::{Violation, ensure};
use crate::swarm::VERSIONS;

/// `X.Y` of `X.Y.Z`.
fn minor(version: &str) -> Option<(u64, u64)> {
    let mut numbers = version.split('.').map(|number| number.parse().ok());
    Some((numbers.next()??, numbers.next()??))
}

impl Run {
    /// Lets a member have another version from its next start on.
    pub(super) fn start_another_version(&mut self, id: MemberId, number: u64) {
        let place = usize::try_from(number % 4).expect("small");
        let (next, before) = (VERSIONS[place], self.world.version(id).to_owned());
        self.mark(Mark::State(match minor(next).cmp(&minor(&before)) {
            core::cmp::Ordering::Less => State::OlderVersion,
            core::cmp::Ordering::Equal => State::SameVersion,
            core::cmp::Ordering::Greater => State::NewerVersion,
        }));
        self.world.reconfigure(id, |config| next.clone_into(&mut config.version));
    }

    /// What the operator asks about versions, now and then.
    pub(super) fn wish_for_a_version(&mut self) -> Option<Wish> {
        if !self.swarm.versions || !self.later.chance(1, 4) {
            return None;
        }
        let below = |text: &str| {
            let (major, minor) = minor(text)?;
            Some(format!("{major}.{}", minor.checked_sub(1)?))
        };
        let version = self.history.cluster().version();
        let to = below(version).unwrap_or_else(|| "3.6".to_owned());
        Some(match self.later.below(6) {
            0 => Wish::MayDowngrade(to),
            1 => Wish::StayUp,
            2 => Wish::Downgrade("3.5".to_owned()),
            _ => Wish::Downgrade(to),
        })
    }

    /// Objects unless the cluster knows with which versions its members run, and has that of the oldest, or the one to
    /// which it is being downgraded.
    ///
    /// # Errors
    /// If not.
    pub(super) fn check_versions(&self) -> Result<(), Violation> {
        let cluster = self.history.cluster();
        for record in cluster.records().filter(|record| self.world.is_up(MemberId(record.id))) {
            let runs = self.world.version(MemberId(record.id));
            ensure(record.version == runs, "version", || {
                format!("member {} runs {runs} and is known with {:?}", record.id, record.version)
            })?;
        }
        let known: Vec<_> = cluster.records().filter_map(|record| minor(&record.version)).collect();
        let lowest = known.iter().min().filter(|_| 2 * known.len() > cluster.records().count());
        let expected = minor(cluster.downgrade()).or_else(|| lowest.copied());
        let over = known.iter().all(|version| Some(*version) == minor(cluster.downgrade()));
        ensure(!over || known.len() < cluster.records().count(), "version", || {
            format!("all have arrived at {:?}, and the downgrade goes on", cluster.downgrade())
        })?;
        let has = minor(cluster.version());
        ensure(expected.is_none() || has == expected, "version", || {
            format!("the cluster has {has:?}, its members {known:?}, {:?}", cluster.downgrade())
        })
    }
}
