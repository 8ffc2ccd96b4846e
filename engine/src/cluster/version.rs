//! The version of the cluster: that of its oldest member, or the one to which it is being downgraded.

use alloc::string::String;
use alloc::vec::Vec;

use super::{Change, Cluster};
use crate::api::Error;

impl Cluster {
    /// What the versions of the members ask for, if the cluster's is another: the lowest, once most have said theirs
    /// (clients ask for it first, so one that is missing must not keep the others back), or what the cluster is being
    /// downgraded to (`decideClusterVersion` in etcd v3.7 version/monitor.go). A downgrade ends when all have arrived.
    pub fn next_version(&self) -> Option<Change> {
        let versions = || self.records.values().map(|record| minor_version(&record.version));
        let (said, all) = (versions().flatten().count(), versions().count());
        let lowest = versions().flatten().min().filter(|_| said > all / 2)?;
        let target = minor_version(&self.downgrade);
        if target.is_some() && versions().all(|version| version == target) {
            return Some(Change::Downgrade(String::new()));
        }
        let (major, minor) = target.unwrap_or(lowest);
        let version = alloc::format!("{major}.{minor}");
        (version != self.version).then_some(Change::Version(version))
    }

    /// The version to which the cluster can be downgraded, as `X.Y`, if it is this one.
    pub(super) fn check_downgrade(&self, to: &str) -> Result<String, Error> {
        let to = target_version(to).ok_or(Error::WrongDowngradeVersionFormat)?;
        let current = minor_version(&self.version).ok_or(Error::ClusterVersionUnavailable)?;
        let below = current.1.checked_sub(1).map(|minor| (current.0, minor));
        if below.is_none() || minor_version(&to) != below {
            Err(Error::InvalidDowngradeTargetVersion)
        } else if !self.downgrade.is_empty() {
            Err(Error::DowngradeInProcess)
        } else {
            Ok(to)
        }
    }
}

/// `X.Y` of what etcd's library for versions takes: `X.Y.Z`, with `-…` and `+…` behind it; or of `X.Y`.
fn target_version(text: &str) -> Option<String> {
    let parse = |text: &str| {
        let is_identifier = |text: &str| {
            text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.".contains(&byte))
        };
        let (text, metadata) = text.split_once('+').unwrap_or((text, ""));
        let (numbers, pre_release) = text.split_once('-').unwrap_or((text, ""));
        let numbers: Option<Vec<i64>> =
            numbers.splitn(3, '.').map(|number| number.parse().ok()).collect();
        match numbers?.as_slice() {
            [major, minor, _] if is_identifier(metadata) && is_identifier(pre_release) => {
                Some(alloc::format!("{major}.{minor}"))
            }
            _ => None,
        }
    };
    parse(text).or_else(|| parse(&alloc::format!("{text}.0")))
}

/// `X.Y` of a version `X.Y` or `X.Y.Z`.
fn minor_version(version: &str) -> Option<(u64, u64)> {
    let mut parts = version.split('.');
    let mut number = || parts.next()?.parse().ok();
    Some((number()?, number()?))
}

#[cfg(test)]
mod tests {
    use super::super::{Circumstances, Record, Wish};
    use super::*;
    use alloc::collections::BTreeSet;
    use alloc::string::ToString;

    /// Nothing about it matters to versions.
    fn circumstances() -> Circumstances {
        let nobody = BTreeSet::new();
        Circumstances { strict: true, learners_max: 1, active: nobody.clone(), ready: nobody }
    }

    fn grant(cluster: &mut Cluster, wish: &Wish) {
        let (change, membership) = cluster.plan(wish, &circumstances()).unwrap();
        cluster.apply(Some(change), membership);
    }

    fn record(id: u64, version: &str) -> Record {
        Record { id, version: version.to_string(), ..Record::default() }
    }

    #[test]
    fn a_downgrade_goes_one_minor_version_down_once_and_back_when_it_is_cancelled() {
        let mut cluster = Cluster::new((1..=3).map(|id| record(id, "")));
        let to = |version: &str| Wish::Downgrade(version.to_string());
        let refused =
            |cluster: &Cluster, wish: &Wish| cluster.plan(wish, &circumstances()).unwrap_err();
        assert_eq!(refused(&cluster, &to("3.6")), Error::ClusterVersionUnavailable);
        for id in 1..=3 {
            cluster.apply(Some(Change::Publish(record(id, "3.7.3"))), None);
        }
        let version = |version: &str| Some(Change::Version(version.to_string()));
        assert_eq!(cluster.next_version(), version("3.7"));
        cluster.apply(cluster.next_version(), None);
        for wrong in ["3.7", "3.5.1", "2.6", "4.6", "-3.6.0"] {
            let is_none = wrong.starts_with('-');
            let (none, other) =
                (Error::WrongDowngradeVersionFormat, Error::InvalidDowngradeTargetVersion);
            assert_eq!(refused(&cluster, &to(wrong)), if is_none { none } else { other });
        }
        for text in ["", "3", "3.6.x", "3.6.", "v3.6", "3.6+x", "3.6.0-r_c", "nonsense"] {
            assert_eq!(refused(&cluster, &to(text)), Error::WrongDowngradeVersionFormat, "{text}");
        }
        assert_eq!(target_version("3.6.0-rc.1+x").as_deref(), Some("3.6"));
        grant(&mut cluster, &Wish::MayDowngrade("3.6".to_string()));
        assert_eq!((cluster.downgrade(), cluster.next_version()), ("", None), "nothing changed");
        grant(&mut cluster, &to("3.6"));
        assert_eq!(refused(&cluster, &to("3.6")), Error::DowngradeInProcess);
        assert_eq!(cluster.next_version(), version("3.6"));
        cluster.apply(cluster.next_version(), None);
        assert_eq!(cluster.next_version(), None);
        grant(&mut cluster, &Wish::StayUp);
        assert_eq!(cluster.next_version(), version("3.7"));
        cluster.apply(cluster.next_version(), None);
        grant(&mut cluster, &to("3.6"));
        for id in 1..=3 {
            cluster.apply(Some(Change::Publish(record(id, "3.6.9"))), None);
        }
        assert_eq!(cluster.next_version(), Some(Change::Downgrade(String::new())), "all arrived");
    }
}
