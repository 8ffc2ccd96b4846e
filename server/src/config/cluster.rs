//! The members that a cluster begins with.

use core::fmt;
use core::net::SocketAddr;
use std::collections::{BTreeMap, BTreeSet};
use std::net::ToSocketAddrs;

use crate::config::Config;
use crate::config::invalid::Invalid;
use crate::config::url::{Url, UrlError};

/// Names and the peer URLs of each, sorted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InitialCluster {
    members: BTreeMap<String, Vec<Url>>,
}

/// Whether the members start together or this one joins others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClusterState {
    /// They start together.
    New,
    /// It joins.
    Existing,
}

impl InitialCluster {
    /// Reads `name=url,name=url`; a name that comes again adds a URL to its member.
    ///
    /// # Errors
    ///
    /// The first URL that is none.
    pub fn parse(text: &str) -> Result<Self, UrlError> {
        let mut members: BTreeMap<String, Vec<Url>> = BTreeMap::new();
        for entry in text.split(',').filter(|entry| !entry.is_empty()) {
            let (name, url) = entry.split_once('=').unwrap_or((entry, ""));
            members.entry(name.to_owned()).or_default().push(Url::parse(url)?);
        }
        members.values_mut().for_each(|urls| urls.sort());
        Ok(Self { members })
    }

    /// A cluster of one.
    pub fn of_one(name: &str, urls: &[Url]) -> Self {
        let mut urls = urls.to_vec();
        urls.sort();
        Self { members: BTreeMap::from([(name.to_owned(), urls)]) }
    }

    /// Names and URLs, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[Url])> {
        self.members.iter().map(|(name, urls)| (name.as_str(), urls.as_slice()))
    }

    /// The URLs of a member.
    pub fn urls(&self, name: &str) -> Option<&[Url]> {
        self.members.get(name).map(Vec::as_slice)
    }

    /// How many members there are.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }
}

impl Config {
    /// Checks what must hold before a data directory is made; a member that has one ignores the initial cluster.
    ///
    /// May ask the resolver, when the same addresses could be meant by different names.
    ///
    /// # Errors
    ///
    /// This member is not in the cluster, advertises other addresses than the cluster has, or an address is there
    /// twice.
    pub fn verify_bootstrap(&self) -> Result<(), Invalid> {
        let Some(urls) = self.initial_cluster.urls(&self.name) else {
            return Err(Invalid::NotInCluster(self.name.clone()));
        };
        if self.initial_cluster_state == ClusterState::New {
            same_places(&self.name, urls, &self.initial_advertise_peer_urls)?;
        }
        let mut seen = BTreeSet::new();
        let mut all = self.initial_cluster.iter().flat_map(|(_, urls)| urls);
        if all.any(|url| !seen.insert(url)) {
            return Err(Invalid::DuplicateUrl(self.initial_cluster.to_string()));
        }
        Ok(())
    }
}

fn same_places(name: &str, cluster: &[Url], advertised: &[Url]) -> Result<(), Invalid> {
    let missing = |wanted: &[Url], there: &[Url]| {
        let missing = wanted.iter().filter(|url| !there.contains(url));
        missing.map(|url| format!("{name}={url}")).collect::<Vec<_>>().join(",")
    };
    let not_advertised = missing(cluster, advertised);
    let not_in_cluster = missing(advertised, cluster);
    if (not_advertised.is_empty() && not_in_cluster.is_empty())
        || resolve(cluster) == resolve(advertised)
    {
        return Ok(());
    }
    if !not_advertised.is_empty() {
        let advertised = advertised.iter().map(Url::as_str).collect::<Vec<_>>().join(",");
        return Err(Invalid::NotAdvertised(not_advertised, advertised));
    }
    let own = InitialCluster::of_one(name, advertised).to_string();
    Err(Invalid::NotInInitialCluster(not_in_cluster.replace(&format!("{name}="), ""), own))
}

/// What the URLs mean, as far as it can be found out: scheme, and address or text.
fn resolve(urls: &[Url]) -> BTreeSet<(&'static str, Result<SocketAddr, &str>)> {
    let address = |url: &Url| {
        let mut found = (url.host()?, url.port()?).to_socket_addrs().ok()?;
        // IPv4 first, as Go's resolver does.
        let first = found.next()?;
        Some(if first.is_ipv4() { first } else { found.find(SocketAddr::is_ipv4).unwrap_or(first) })
    };
    urls.iter().map(|url| (url.scheme().name(), address(url).ok_or(url.as_str()))).collect()
}

impl fmt::Display for InitialCluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut comma = "";
        for (name, urls) in self.iter() {
            for url in urls {
                write!(f, "{comma}{name}={url}")?;
                comma = ",";
            }
        }
        Ok(())
    }
}

impl fmt::Display for ClusterState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::New => "new",
            Self::Existing => "existing",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_comes_again_adds_a_url() {
        let cluster = InitialCluster::parse("b=http://b:1,a=http://z:1,,a=http://a:1").unwrap();
        assert_eq!(cluster.to_string(), "a=http://a:1,a=http://z:1,b=http://b:1");
        assert_eq!((cluster.len(), cluster.urls("b").unwrap().len()), (2, 1));
        assert!(InitialCluster::parse("").unwrap().is_empty());
        assert!(InitialCluster::parse("a").is_err());
    }

    #[test]
    fn the_cluster_and_what_is_advertised_must_agree() {
        let check = |cluster: &str, advertised: &str| {
            same_places(
                "a",
                &Url::parse_list(cluster).unwrap(),
                &Url::parse_list(advertised).unwrap(),
            )
            .map_err(|error| error.to_string())
        };
        assert_eq!(check("http://127.0.0.1:1", "http://127.0.0.1:1"), Ok(()));
        assert_eq!(check("http://127.0.0.1:1", "http://localhost:1"), Ok(()));
        assert_eq!(
            check("http://127.0.0.1:1,http://127.0.0.1:2", "http://127.0.0.1:1").unwrap_err(),
            "--initial-cluster has a=http://127.0.0.1:2 but missing from \
             --initial-advertise-peer-urls=http://127.0.0.1:1"
        );
        assert_eq!(
            check("http://127.0.0.1:1", "http://127.0.0.1:1,http://127.0.0.1:2").unwrap_err(),
            "--initial-advertise-peer-urls has http://127.0.0.1:2 but missing from \
             --initial-cluster=a=http://127.0.0.1:1,a=http://127.0.0.1:2"
        );
        assert!(check("http://127.0.0.1:1", "https://127.0.0.1:1").is_err());
    }
}
