//! The ids of members and clusters, as etcd computes them.
//!
//! An id is the first eight bytes, in the order of the network, of the SHA-1 of some text: for a member that was there
//! from the beginning its peer URLs, sorted and without anything between them, and the cluster's token; for one that
//! was added later, the URLs and the second it was added, as decimal digits; for a cluster its first members' ids,
//! sorted, in eight bytes each. Members that are told the same find the same ids without asking each other
//! (etcd `membership/member.go`, `membership/cluster.go`).
//!
//! SHA-1 guards nothing here; it only spreads.

use cairn_engine::config::Member;
use cairn_engine::ids::{ClusterId, MemberId};
use sha1::{Digest, Sha1};

use crate::config::Config;
use crate::config::invalid::Invalid;
use crate::config::url::Url;
use crate::data::{Origin, Owner};

/// Who a member is, and with whom its cluster began.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The cluster.
    pub cluster: ClusterId,
    /// This member.
    pub id: MemberId,
    /// The members that the cluster began with, by id; none: this member joined it. Where clients reach them is not
    /// said: that is what members say of themselves when they have started.
    pub members: Vec<Member>,
}

impl Identity {
    /// What the initial cluster of a configuration makes of it. Check [`Config::verify_bootstrap`] before.
    ///
    /// # Errors
    ///
    /// This member is not in the cluster, or two members would have one id.
    pub fn at_bootstrap(config: &Config) -> Result<Self, Invalid> {
        let mut members = Vec::new();
        let mut own = None;
        for (name, urls) in config.initial_cluster.iter() {
            let peer_urls = texts(urls);
            let id = bootstrap_member_id(&peer_urls, &config.initial_cluster_token);
            let is_taken = members.iter().any(|other: &Member| other.id == id);
            if is_taken || !id.is_some() {
                return Err(Invalid::SameId(format!("{name} ({id})")));
            }
            if name == config.name {
                own = Some(id);
            }
            members.push(Member { id, name: name.to_owned(), peer_urls, client_urls: Vec::new() });
        }
        members.sort_by_key(|member| member.id);
        let Some(id) = own else { return Err(Invalid::NotInCluster(config.name.clone())) };
        let ids: Vec<MemberId> = members.iter().map(|member| member.id).collect();
        Ok(Self { cluster: cluster_id(&ids), id, members })
    }

    /// A member that was there before. As in etcd, `--initial-cluster` and what belongs to it mean nothing any more.
    pub fn again(config: &Config, owner: Owner) -> Self {
        let Owner { cluster, member: id, origin } = owner;
        let members = match origin {
            Origin::Began(members) => members,
            Origin::Joined => Vec::new(),
            Origin::Alone => vec![Member {
                id,
                name: config.name.clone(),
                peer_urls: texts(&config.initial_advertise_peer_urls),
                client_urls: Vec::new(),
            }],
        };
        Self { cluster, id, members }
    }

    /// What its data directory is to remember.
    pub fn owner(&self) -> Owner {
        let origin = match self.members.as_slice() {
            [] => Origin::Joined,
            members => Origin::Began(members.to_vec()),
        };
        Owner { cluster: self.cluster, member: self.id, origin }
    }
}

/// URLs as they are written.
pub(crate) fn texts(urls: &[Url]) -> Vec<String> {
    urls.iter().map(|url| url.as_str().to_owned()).collect()
}

/// The id of a member that is there from the beginning.
pub fn bootstrap_member_id(peer_urls: &[impl AsRef<str>], token: &str) -> MemberId {
    MemberId(hash(&[&joined(peer_urls), token.as_bytes()]))
}

/// The id of a member that is added at a time, in seconds since 1970.
pub fn added_member_id(peer_urls: &[impl AsRef<str>], added_unix_s: i64) -> MemberId {
    MemberId(hash(&[&joined(peer_urls), added_unix_s.to_string().as_bytes()]))
}

/// The id of a cluster that begins with these members.
pub fn cluster_id(members: &[MemberId]) -> ClusterId {
    let mut ids: Vec<u64> = members.iter().map(|member| member.0).collect();
    ids.sort_unstable();
    let bytes: Vec<u8> = ids.into_iter().flat_map(u64::to_be_bytes).collect();
    ClusterId(hash(&[&bytes]))
}

fn joined(urls: &[impl AsRef<str>]) -> Vec<u8> {
    let mut urls: Vec<&str> = urls.iter().map(AsRef::as_ref).collect();
    urls.sort_unstable();
    urls.concat().into_bytes()
}

fn hash(parts: &[&[u8]]) -> u64 {
    let mut sha = Sha1::new();
    for part in parts {
        sha.update(part);
    }
    let digest = sha.finalize();
    u64::from_be_bytes(*digest.first_chunk().expect("SHA-1 has twenty bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What etcd 3.7.3 answered to `member list -w json` with these names, URLs and tokens.
    #[test]
    fn ids_of_single_members_are_etcds() {
        for (urls, token, member, cluster) in [
            (
                ["http://localhost:45380"].as_slice(),
                "etcd-cluster",
                9_404_187_076_934_036_556,
                14_188_844_007_596_472_287,
            ),
            (
                &["http://127.0.0.1:45382", "http://127.0.0.1:45381"],
                "my-token",
                4_882_203_437_569_654_074,
                4_618_475_460_249_240_935,
            ),
            (&["http://127.0.0.1:45383"], "", 9_959_766_181_474_499_931, 1_147_699_942_449_574_913),
        ] {
            let id = bootstrap_member_id(urls, token);
            assert_eq!((id, cluster_id(&[id])), (MemberId(member), ClusterId(cluster)));
        }
    }

    /// The ids that everybody has seen who ever started etcd without flags.
    #[test]
    fn the_default_member_is_the_one_of_etcds_documentation() {
        let id = bootstrap_member_id(&["http://localhost:2380"], "etcd-cluster");
        assert_eq!(id.to_string(), "8e9e05c52164694d");
        assert_eq!(cluster_id(&[id]).to_string(), "cdf818194e3a8c32");
    }

    /// The same etcd, three members with token `tkn`, and a learner that was added in a known second.
    #[test]
    fn ids_of_a_cluster_and_of_who_joins_it_are_etcds() {
        let ids =
            [1, 2, 3].map(|n| bootstrap_member_id(&[format!("http://127.0.0.1:4539{n}")], "tkn"));
        let expected =
            [16_674_866_211_328_499_795, 3_440_425_681_721_684_350, 1_810_068_588_848_622_454];
        assert_eq!(ids, expected.map(MemberId));
        assert_eq!(cluster_id(&ids), ClusterId(8_579_924_487_488_628_762));
        let added = added_member_id(&["http://127.0.0.1:45394"], 1_795_237_817);
        assert_eq!(added, MemberId(2_678_425_906_876_271_474));
    }
}
