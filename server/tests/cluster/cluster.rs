//! Several members in processes of their own.

use core::time::Duration;

use cairn_engine::api::etcdserverpb::{
    Member as Listed, MemberListRequest, PutRequest, StatusRequest, StatusResponse,
};
use rustix::process::Signal;
use tonic::transport::Channel;
use tonic::{Request, Status};

use crate::ask::{put, range};
use crate::client::etcdserverpb::cluster_client::ClusterClient;
use crate::client::etcdserverpb::maintenance_client::MaintenanceClient;
use crate::harness::{LIMIT, Member, Place, Runtime, block_on, cairn};

/// Makes of each of these functions a test on each runtime, with a fresh cluster of three.
macro_rules! on_both_runtimes {
    ($($name:ident),+ $(,)?) => {
        mod on_glommio {
            $(#[test] fn $name() {
                $crate::cluster::run($crate::harness::Runtime::Glommio, super::$name);
            })+
        }
        mod on_tokio {
            $(#[test] fn $name() {
                $crate::cluster::run($crate::harness::Runtime::Tokio, super::$name);
            })+
        }
    };
}
pub(crate) use on_both_runtimes;

/// Runs a test with three members, none of which may panic.
pub(crate) fn run(runtime: Runtime, test: impl AsyncFnOnce(&mut Cluster)) {
    if !runtime.is_here() {
        return;
    }
    run_secured(runtime, "http", |_, _| Vec::new(), test);
}

/// The same with another scheme between members, and more flags for each by its number and place.
pub(crate) fn run_secured(
    runtime: Runtime,
    scheme: &'static str,
    more: impl Fn(usize, &Place) -> Vec<String> + 'static,
    test: impl AsyncFnOnce(&mut Cluster),
) {
    let mut cluster = Cluster::start(runtime, scheme, Box::new(more));
    block_on(test(&mut cluster));
    cluster.members.iter_mut().for_each(Member::assert_never_panicked);
}

/// How long members wait for a leader: short, and long enough for a loaded machine.
const ELECTION_TIMEOUT: Duration = Duration::from_millis(500);

/// More flags for a member, by its number and place.
type Flags = Box<dyn Fn(usize, &Place) -> Vec<String>>;

/// The members, in the order in which they came.
pub(crate) struct Cluster {
    pub(crate) runtime: Runtime,
    pub(crate) members: Vec<Member>,
    /// What each is started with.
    pub(crate) flags: Vec<Vec<String>>,
    /// How members speak to each other.
    scheme: &'static str,
    more: Flags,
}

impl Cluster {
    /// Three members that begin together.
    fn start(runtime: Runtime, scheme: &'static str, more: Flags) -> Self {
        let places: Vec<Place> = (0..3).map(|_| Place::new()).collect();
        let (members, flags) = (Vec::new(), Vec::new());
        let mut cluster = Self { runtime, members, flags, scheme, more };
        let named = places.iter().enumerate().map(|(n, place)| cluster.name_and_url(n, place));
        let named = Vec::from_iter(named);
        for place in places {
            cluster.begin(place, &named.join(","), "new");
        }
        cluster.members.iter_mut().for_each(Member::wait_until_ready);
        cluster
    }

    /// Starts one more member, without waiting for it.
    pub(crate) fn begin(&mut self, place: Place, initial_cluster: &str, state: &str) -> usize {
        let number = self.members.len();
        let peer_url = self.peer_url(&place);
        let mut flags = vec![
            format!("--name=m{number}"),
            format!("--listen-peer-urls={peer_url}"),
            format!("--initial-advertise-peer-urls={peer_url}"),
            format!("--initial-cluster={initial_cluster}"),
            format!("--initial-cluster-state={state}"),
            format!("--election-timeout={}", ELECTION_TIMEOUT.as_millis()),
            "--heartbeat-interval=50".to_owned(),
        ];
        flags.extend((self.more)(number, &place));
        self.members.push(Member::begin_by(cairn(), place, self.runtime, &texts(&flags)));
        self.flags.push(flags);
        number
    }

    /// What another member would be told of those that are there, and itself.
    pub(crate) fn initial_cluster_with(&self, place: &Place) -> String {
        let mut named: Vec<_> = self
            .members
            .iter()
            .enumerate()
            .map(|(n, member)| self.name_and_url(n, &member.place))
            .collect();
        named.push(self.name_and_url(self.members.len(), place));
        named.join(",")
    }

    /// Where a member that lives there is found by the others.
    pub(crate) fn peer_url(&self, place: &Place) -> String {
        format!("{}://{}:2380", self.scheme, place.address.ip())
    }

    fn name_and_url(&self, number: usize, place: &Place) -> String {
        format!("m{number}={}", self.peer_url(place))
    }

    /// Kills a member, as a crash would.
    pub(crate) async fn kill(&mut self, number: usize) {
        self.members[number].signal(Signal::KILL);
        self.members[number].wait().await;
    }

    /// Starts one again that has ended, and waits until it serves.
    pub(crate) fn start_again(&mut self, number: usize) {
        self.members[number].start_again(&texts(&self.flags[number]));
    }

    pub(crate) fn maintenance(&self, number: usize) -> MaintenanceClient<Channel> {
        MaintenanceClient::new(self.members[number].channel())
    }

    /// The RPCs about members, asked of one of them.
    pub(crate) fn membership(&self, number: usize) -> ClusterClient<Channel> {
        ClusterClient::new(self.members[number].channel())
    }

    /// How a member is.
    pub(crate) async fn status(&self, number: usize) -> StatusResponse {
        self.maintenance(number).status(StatusRequest {}).await.unwrap().into_inner()
    }

    /// A member's id.
    pub(crate) async fn id(&self, number: usize) -> u64 {
        self.status(number).await.header.unwrap().member_id
    }

    /// The members, as all agree.
    pub(crate) async fn list(&self, number: usize) -> Vec<Listed> {
        let request = MemberListRequest { linearizable: true };
        self.membership(number).member_list(request).await.unwrap().into_inner().members
    }

    /// The member that leads, according to those that run: waits until they agree.
    pub(crate) async fn leader(&mut self) -> usize {
        loop {
            let running: Vec<usize> =
                (0..self.members.len()).filter(|n| self.members[*n].is_running()).collect();
            let mut told = Vec::new();
            for &number in &running {
                let status = self.maintenance(number).status(StatusRequest {}).await;
                let Ok(status) = status.map(tonic::Response::into_inner) else { break };
                told.push((number, status.header.unwrap().member_id, status.leader));
            }
            let leader = told.first().map_or(0, |(.., leader)| *leader);
            let agree = told.len() == running.len() && told.iter().all(|(.., it)| *it == leader);
            if agree && let Some((number, ..)) = told.iter().find(|(_, id, _)| *id == leader) {
                return *number;
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Some member that does not lead.
    pub(crate) async fn follower(&mut self) -> usize {
        let leader = self.leader().await;
        (0..self.members.len())
            .find(|n| *n != leader && self.members[*n].is_running())
            .expect("there are several")
    }

    /// Writes by one member and waits until it is acknowledged, however often that takes.
    pub(crate) async fn put(&self, number: usize, key: &str, value: &str) {
        until_ok(async || {
            let request = put(key.to_owned(), value.to_owned());
            self.members[number].kv().put(request).await
        })
        .await;
    }

    /// Reads what is current by one member.
    pub(crate) async fn get(&self, number: usize, key: &str) -> Option<String> {
        let answer =
            until_ok(async || self.members[number].kv().range(range(key.to_owned())).await).await;
        answer.kvs.first().map(|kv| String::from_utf8(kv.value.to_vec()).unwrap())
    }
}

/// Asks until it is granted.
pub(crate) async fn until_ok<T>(
    mut ask: impl AsyncFnMut() -> Result<tonic::Response<T>, Status>,
) -> T {
    let mut last = None;
    let asked = async {
        loop {
            match ask().await {
                Ok(answer) => return answer.into_inner(),
                Err(status) => last = Some(status),
            }
            tokio::time::sleep(POLL).await;
        }
    };
    // Before the limit of the whole test, so that it says why.
    let limit = LIMIT - Duration::from_secs(5);
    tokio::time::timeout(limit, asked).await.unwrap_or_else(|_| panic!("still refused: {last:?}"))
}

/// How often to ask again.
pub(crate) const POLL: Duration = Duration::from_millis(10);

/// A call that wants a leader.
pub(crate) fn with_leader<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("hasleader", "true".parse().unwrap());
    request
}

/// A write that may take as long as it takes.
pub(crate) fn big_put(key: String, bytes: usize) -> PutRequest {
    put(key, vec![b'v'; bytes])
}

pub(crate) fn texts(flags: &[String]) -> Vec<&str> {
    flags.iter().map(String::as_str).collect()
}
