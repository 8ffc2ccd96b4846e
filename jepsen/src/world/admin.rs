//! What an operator asks of a cluster, through whichever member answers.

use core::time::Duration;

use cairn_engine::api::etcdserverpb::{
    HashKvRequest, HashKvResponse, Member, MemberAddRequest, MemberListRequest,
    MemberPromoteRequest, MemberRemoveRequest, MoveLeaderRequest, RangeRequest, StatusRequest,
    StatusResponse,
};
use tokio::time::{Instant, sleep, timeout};
use tonic::{Response, Status};

use super::cluster::Cluster;
use super::connection::Connection;
use crate::Trouble;

/// A connection to each slot.
#[derive(Clone, Debug)]
pub(crate) struct Admin {
    connections: Vec<Connection>,
}

impl Admin {
    /// For all slots of a cluster.
    pub(crate) fn new(cluster: &Cluster) -> Result<Self, Trouble> {
        let connections = (0..cluster.slots()).map(|slot| Connection::new(&cluster.url(slot)));
        Ok(Self { connections: connections.collect::<Result<_, _>>()? })
    }

    /// Begins a cluster, and waits until each of its first members serves.
    pub(crate) async fn begin(
        cluster: &mut Cluster,
        members: usize,
        limit: Duration,
    ) -> Result<Self, Trouble> {
        cluster.begin()?;
        let admin = Self::new(cluster)?;
        for slot in 0..members {
            cluster.accepts(slot).await?;
            admin.serves(slot, limit).await?;
        }
        Ok(admin)
    }

    /// What a member says about itself, if it does.
    pub(crate) async fn status(&self, slot: usize) -> Option<StatusResponse> {
        let mut maintenance = self.connections[slot].maintenance();
        let answer = timeout(ANSWER_MAX, maintenance.status(StatusRequest {})).await;
        answer.ok()?.ok().map(Response::into_inner)
    }

    /// The slot of the leader, as the member of the latest term knows it who says that it leads.
    pub(crate) async fn leader(&self) -> Option<usize> {
        let mut found = None;
        for slot in 0..self.connections.len() {
            let Some(status) = self.status(slot).await else { continue };
            let own = status.header.map_or(0, |header| header.member_id);
            let later = found.is_none_or(|(term, _)| term < status.raft_term);
            if status.leader == own && own != 0 && later {
                found = Some((status.raft_term, slot));
            }
        }
        found.map(|(_, slot)| slot)
    }

    /// Waits for a leader.
    pub(crate) async fn some_leader(&self, longest: Duration) -> Result<usize, Trouble> {
        let begin = Instant::now();
        loop {
            if let Some(leader) = self.leader().await {
                return Ok(leader);
            }
            patience("no leader", begin, longest).await?;
        }
    }

    /// Waits until a member answers a linearizable read.
    pub(crate) async fn serves(&self, slot: usize, longest: Duration) -> Result<(), Trouble> {
        let begin = Instant::now();
        loop {
            let request = RangeRequest { key: "jepsen".into(), ..RangeRequest::default() };
            let mut kv = self.connections[slot].kv();
            if let Ok(Ok(_)) = timeout(ANSWER_MAX, kv.range(request)).await {
                return Ok(());
            }
            patience(&format!("m{slot} does not serve"), begin, longest).await?;
        }
    }

    /// Waits until a member has applied what the leader had committed when it was asked.
    pub(crate) async fn caught_up(&self, slot: usize, longest: Duration) -> Result<(), Trouble> {
        let begin = Instant::now();
        loop {
            if let Some(leader) = self.leader().await
                && let Some(ahead) = self.status(leader).await
                && let Some(own) = self.status(slot).await
                && own.raft_applied_index >= ahead.raft_applied_index
                && own.raft_applied_index > 0
            {
                return Ok(());
            }
            patience(&format!("m{slot} does not catch up"), begin, longest).await?;
        }
    }

    /// The members, by the first member that answers.
    pub(crate) async fn members(&self) -> Result<Vec<Member>, Trouble> {
        let request = MemberListRequest { linearizable: true };
        let ask = async |connection: &Connection| connection.cluster().member_list(request).await;
        Ok(self.insist("the members", ask).await?.members)
    }

    /// Waits until there are so many members, and all may vote: one that lost its disk may not, until it has caught up.
    pub(crate) async fn all_vote(&self, count: usize, longest: Duration) -> Result<(), Trouble> {
        let begin = Instant::now();
        loop {
            let members = self.members().await?;
            if members.len() == count && members.iter().all(|member| !member.is_learner) {
                return Ok(());
            }
            patience(&format!("not all may vote: {members:?}"), begin, longest).await?;
        }
    }

    /// The id of the member that its peers find at a URL.
    pub(crate) async fn member(&self, peer_url: &str) -> Result<Option<u64>, Trouble> {
        let members = self.members().await?;
        let found =
            members.iter().find(|member| member.peer_urls.iter().any(|url| url == peer_url));
        Ok(found.map(|member| member.id))
    }

    /// Adds a member; whether it may vote.
    pub(crate) async fn add(&self, peer_url: &str, role: Role) -> Result<u64, Trouble> {
        let begin = Instant::now();
        loop {
            // An attempt whose answer was lost may have been carried out.
            if let Some(id) = self.member(peer_url).await? {
                return Ok(id);
            }
            for connection in &self.connections {
                let request = MemberAddRequest {
                    peer_urls: vec![peer_url.to_owned()],
                    is_learner: role == Role::Learner,
                };
                let answer = timeout(CHANGE_MAX, connection.cluster().member_add(request)).await;
                if let Ok(Ok(answer)) = answer
                    && let Some(member) = answer.into_inner().member
                {
                    return Ok(member.id);
                }
            }
            patience("no member can be added", begin, INSISTENCE_MAX).await?;
        }
    }

    /// Removes a member.
    pub(crate) async fn remove(&self, id: u64) -> Result<(), Trouble> {
        let begin = Instant::now();
        loop {
            for connection in &self.connections {
                let request = MemberRemoveRequest { id };
                let answer = timeout(CHANGE_MAX, connection.cluster().member_remove(request)).await;
                if let Ok(Ok(_)) = answer {
                    return Ok(());
                }
            }
            if !self.members().await?.iter().any(|member| member.id == id) {
                return Ok(());
            }
            patience("no member can be removed", begin, INSISTENCE_MAX).await?;
        }
    }

    /// Makes a learner vote, as soon as it may.
    pub(crate) async fn promote(&self, id: u64) -> Result<(), Trouble> {
        let begin = Instant::now();
        loop {
            for connection in &self.connections {
                let request = MemberPromoteRequest { id };
                let answer =
                    timeout(CHANGE_MAX, connection.cluster().member_promote(request)).await;
                if let Ok(Ok(_)) = answer {
                    return Ok(());
                }
            }
            if self.members().await?.iter().any(|member| member.id == id && !member.is_learner) {
                return Ok(());
            }
            patience("the learner cannot be promoted", begin, PROMOTION_MAX).await?;
        }
    }

    /// Asks the leader to hand over.
    pub(crate) async fn hand_over(&self, leader: usize, target: u64) -> Result<(), Status> {
        let request = MoveLeaderRequest { target_id: target };
        self.connections[leader].maintenance().move_leader(request).await.map(|_| ())
    }

    /// The hash of what a member has at a revision, 0 for its newest.
    pub(crate) async fn hash(&self, slot: usize, revision: i64) -> Result<HashKvResponse, Trouble> {
        let request = HashKvRequest { revision };
        let mut maintenance = self.connections[slot].maintenance();
        Ok(timeout(HASH_MAX, maintenance.hash_kv(request)).await??.into_inner())
    }

    /// Waits until all these members have the same newest revision, and compares their hashes at it. Nobody may be
    /// writing.
    pub(crate) async fn agreement(&self, slots: &[usize]) -> Result<Agreement, Trouble> {
        let begin = Instant::now();
        loop {
            let mut hashes = Vec::new();
            for slot in slots {
                let answer = self.hash(*slot, 0).await;
                let Ok(answer) = answer else { break };
                let revision = answer.header.as_ref().map_or(0, |header| header.revision);
                hashes.push(Hash { slot: *slot, revision, hash: answer.hash });
            }
            let first = hashes.first().map_or(0, |hash| hash.revision);
            if hashes.len() == slots.len() && hashes.iter().all(|hash| hash.revision == first) {
                return Ok(Agreement { hashes });
            }
            if begin.elapsed() > INSISTENCE_MAX {
                return Err(Trouble(format!("the members do not reach one revision: {hashes:?}")));
            }
            sleep(Duration::from_millis(100)).await;
        }
    }

    /// Asks one member after the other until one answers.
    async fn insist<T>(
        &self,
        what: &str,
        ask: impl AsyncFn(&Connection) -> Result<Response<T>, Status>,
    ) -> Result<T, Trouble> {
        let begin = Instant::now();
        loop {
            for connection in &self.connections {
                if let Ok(Ok(answer)) = timeout(ANSWER_MAX, ask(connection)).await {
                    return Ok(answer.into_inner());
                }
            }
            patience(&format!("nobody tells {what}"), begin, INSISTENCE_MAX).await?;
        }
    }
}

/// What a new member is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// One that counts.
    Voter,
    /// One that listens.
    Learner,
}

/// The hashes of members at one revision.
#[derive(Clone, Debug)]
pub(crate) struct Agreement {
    hashes: Vec<Hash>,
}

/// What one member has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hash {
    pub(crate) slot: usize,
    pub(crate) revision: i64,
    pub(crate) hash: u32,
}

impl Agreement {
    /// Whether all have the same.
    pub(crate) fn holds(&self) -> bool {
        self.hashes.windows(2).all(|pair| pair[0].hash == pair[1].hash)
    }

    /// What each has.
    pub(crate) fn hashes(&self) -> &[Hash] {
        &self.hashes
    }
}

/// Waits a little, but not for ever.
pub(crate) async fn patience(what: &str, begin: Instant, longest: Duration) -> Result<(), Trouble> {
    if begin.elapsed() > longest {
        return Err(Trouble(format!("{what}, for {longest:?}")));
    }
    sleep(Duration::from_millis(20)).await;
    Ok(())
}

const ANSWER_MAX: Duration = Duration::from_secs(2);
const CHANGE_MAX: Duration = Duration::from_secs(5);
const HASH_MAX: Duration = Duration::from_secs(60);
const INSISTENCE_MAX: Duration = Duration::from_secs(60);
/// A learner may have to be sent what it lacks first.
const PROMOTION_MAX: Duration = Duration::from_secs(120);
