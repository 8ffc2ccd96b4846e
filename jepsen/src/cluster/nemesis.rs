//! The nemesis: does one harm after the other to the members, and undoes each.
//!
//! ```text
//!  choose a harm and whom it meets (half of the time the leader) ──► in one case of three, cut the network first
//!        ▲                                                                        │
//!        └──── every member serves again, or the cluster is at fault ◄── harm, wait, undo
//! ```
//!
//! Limits: when harms come follows from the seed, but what clients are doing then does not.

use core::fmt;
use core::time::Duration;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use clap::ValueEnum;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};
use tokio::time::sleep;

use super::client::Shared;
use super::partition::Partition;
use crate::Trouble;
use crate::progress::Progress;
use crate::world::admin::{Admin, Role};
use crate::world::cluster::Cluster;

/// What can be done to a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Harm {
    /// Kill a member without warning, and start it again
    Kill,
    /// Kill all members at once
    KillAll,
    /// Stop a process for a while, so that its clock seems to jump
    Pause,
    /// Ask one member after the other to end, and start it again
    Roll,
    /// Cut links between members: one member, one direction, one link, or halves
    Cut,
    /// Make links slow
    Slow,
    /// Remove a member, and add one with a fresh folder in its place
    Replace,
    /// Add a learner, promote it, and remove one of the others
    Learner,
    /// Kill a member and take its data away (etcd does not promise to survive it)
    Wipe,
    /// Bring the data of all members back to an earlier state: no store survives it, so the checker must notice
    RollBack,
}

/// What a cluster must survive. [`Harm::Wipe`] only Cairn promises to.
pub(super) const SURVIVABLE: [Harm; 9] = [
    Harm::Kill,
    Harm::KillAll,
    Harm::Pause,
    Harm::Roll,
    Harm::Cut,
    Harm::Slow,
    Harm::Replace,
    Harm::Learner,
    Harm::Wipe,
];

/// Does harm.
#[derive(Debug)]
pub(super) struct Nemesis {
    pub(super) cluster: Cluster,
    pub(super) admin: Admin,
    pub(super) done: BTreeMap<Harm, u32>,
    shared: Rc<Shared>,
    progress: Rc<Progress>,
    random: ChaCha8Rng,
    /// As long as a follower waits before it stands for election.
    election: Duration,
}

impl Nemesis {
    /// One that has done no harm yet.
    pub(super) fn new(
        cluster: Cluster,
        admin: Admin,
        shared: Rc<Shared>,
        progress: Rc<Progress>,
        election: Duration,
    ) -> Self {
        let random = ChaCha8Rng::seed_from_u64(shared.seed);
        Self { cluster, admin, done: BTreeMap::new(), shared, progress, random, election }
    }

    /// Does these harms, in a random order and all equally often, until the time is over; what it could not undo.
    pub(super) async fn run(mut self, harms: Vec<Harm>, end: Duration) -> (Self, Option<Trouble>) {
        let mut left = Vec::new();
        while self.shared.now() < end && !harms.is_empty() {
            if left.is_empty() {
                left.clone_from(&harms);
            }
            let harm = left.swap_remove(self.pick(left.len()));
            let calm = self.within(0, 2000);
            sleep(calm).await;
            if let Err(trouble) = self.harm(harm).await {
                return (self, Some(Trouble(format!("after {harm:?}: {trouble}"))));
            }
            *self.done.entry(harm).or_default() += 1;
        }
        (self, None)
    }

    async fn harm(&mut self, harm: Harm) -> Result<(), Trouble> {
        self.none_has_ended()?;
        let victim = self.victim().await;
        let cut = matches!(harm, Harm::Kill | Harm::Pause | Harm::Roll) && self.pick(3) == 0;
        if cut {
            self.cut(victim);
        }
        self.say(format_args!("{harm:?} m{victim}{}", if cut { ", links cut" } else { "" }));
        match harm {
            Harm::Kill => self.kill(&[victim]).await?,
            Harm::KillAll => self.kill(&self.shared.members()).await?,
            Harm::Pause => {
                self.cluster.pause(victim)?;
                self.wait_about_an_election().await;
                self.cluster.proceed(victim)?;
            }
            Harm::Roll => self.roll(cut).await?,
            Harm::Cut => {
                self.cut(victim);
                self.wait_about_an_election().await;
            }
            Harm::Slow => {
                self.slow(victim);
                self.wait_about_an_election().await;
            }
            Harm::Replace => self.replace(victim).await?,
            Harm::Learner => self.learner(victim).await?,
            Harm::Wipe => self.wipe(victim).await?,
            Harm::RollBack => self.roll_back().await?,
        }
        self.heal();
        self.recovered().await
    }

    /// Half of the time the leader, else anybody.
    async fn victim(&mut self) -> usize {
        if self.pick(2) == 0
            && let Some(leader) = self.admin.leader().await
        {
            return leader;
        }
        let members = self.shared.members();
        members[self.pick(members.len())]
    }

    async fn kill(&mut self, slots: &[usize]) -> Result<(), Trouble> {
        for slot in slots {
            self.cluster.kill(*slot)?;
        }
        let away = if self.pick(2) == 0 { self.within(0, 300) } else { self.within(0, 3000) };
        sleep(away).await;
        for slot in slots {
            self.cluster.launch(*slot)?;
        }
        Ok(())
    }

    async fn roll(&mut self, cut: bool) -> Result<(), Trouble> {
        for slot in self.shared.members() {
            let ended = self.cluster.terminate(slot).await?;
            if ended == crate::world::process::Ended::Killed {
                self.say(format_args!("m{slot} did not end when it was asked to, and was killed"));
            }
            self.cluster.launch(slot)?;
            if cut {
                self.wait_about_an_election().await; // It may not be able to serve.
            } else {
                self.admin.serves(slot, RECOVERY_MAX).await?;
            }
        }
        Ok(())
    }

    /// The member dies for ever; another takes its slot.
    async fn replace(&mut self, victim: usize) -> Result<(), Trouble> {
        self.cluster.kill(victim)?;
        self.remove(victim).await?;
        let others = self.others(victim);
        self.cluster.succeed(victim, &others);
        self.admin.add(&self.cluster.peer_url(victim), Role::Voter).await?;
        self.cluster.launch(victim)
    }

    /// A learner takes the spare slot and is promoted; then the victim goes, and its slot is the spare one.
    async fn learner(&mut self, victim: usize) -> Result<(), Trouble> {
        let members = self.shared.members();
        let spare = (0..self.cluster.slots()).find(|slot| !members.contains(slot));
        let spare = spare.ok_or_else(|| Trouble("there is no spare slot".to_owned()))?;
        self.cluster.succeed(spare, &members);
        let id = self.admin.add(&self.cluster.peer_url(spare), Role::Learner).await?;
        self.cluster.launch(spare)?;
        self.shared.active.borrow_mut()[spare] = true;
        self.admin.promote(id).await?;
        self.admin.serves(spare, RECOVERY_MAX).await?;
        self.shared.active.borrow_mut()[victim] = false;
        self.cluster.kill(victim)?;
        self.remove(victim).await
    }

    async fn remove(&mut self, slot: usize) -> Result<(), Trouble> {
        match self.admin.member(&self.cluster.peer_url(slot)).await? {
            Some(id) => self.admin.remove(id).await,
            None => Err(Trouble(format!("m{slot} is no member any more"))),
        }
    }

    /// The member loses its data but not its membership.
    async fn wipe(&mut self, victim: usize) -> Result<(), Trouble> {
        self.cluster.kill(victim)?;
        let others = self.others(victim);
        self.cluster.succeed(victim, &others);
        let away = self.within(0, 1000);
        sleep(away).await;
        self.cluster.launch(victim)
    }

    /// All members get back the data that they had some seconds ago.
    async fn roll_back(&mut self) -> Result<(), Trouble> {
        let members = self.shared.members();
        let data = members.iter().map(|slot| self.cluster.data(*slot));
        let folders: Vec<(PathBuf, PathBuf)> =
            data.map(|data| (data.with_extension("copy"), data)).collect();
        for back in [false, true] {
            for slot in &members {
                self.cluster.kill(*slot)?;
            }
            for (copy, data) in &folders {
                let (from, to) = if back { (copy, data) } else { (data, copy) };
                if to.exists() {
                    std::fs::remove_dir_all(to)?;
                }
                copy_folder(from, to)?;
            }
            for slot in &members {
                self.cluster.launch(*slot)?;
            }
            self.recovered().await?;
            sleep(Duration::from_secs(2)).await;
        }
        Ok(())
    }

    fn cut(&mut self, victim: usize) {
        let members = self.shared.members();
        let partition = Partition::random(&mut self.random, &members, victim);
        self.say(format_args!("{partition}"));
        if let Some(network) = self.cluster.network() {
            network.change(|from, to| partition.link(from, to));
        }
    }

    fn slow(&mut self, victim: usize) {
        let delay = self.within(1, 200);
        if let Some(network) = self.cluster.network() {
            let partition = Partition::Late(victim, delay);
            network.change(|from, to| partition.link(from, to));
        }
    }

    /// Opens all links; half of the time, connections begin anew.
    fn heal(&mut self) {
        let reset = self.pick(2) == 0;
        if let Some(network) = self.cluster.network() {
            network.heal();
            if reset {
                network.reset();
            }
        }
    }

    /// Waits until every member serves and votes. Harm to another one before that would be two faults at once, which
    /// three members need not survive.
    pub(super) async fn recovered(&mut self) -> Result<(), Trouble> {
        for slot in self.shared.members() {
            let served = self.admin.serves(slot, RECOVERY_MAX).await;
            self.none_has_ended()?;
            served?;
        }
        self.admin.all_vote(self.shared.members().len(), RECOVERY_MAX).await
    }

    /// Undoes whatever was left.
    pub(super) fn undo(&mut self) -> Result<(), Trouble> {
        self.heal();
        for slot in self.shared.members() {
            self.cluster.proceed(slot)?;
            if self.cluster.process(slot).is_none() {
                self.cluster.launch(slot)?;
            }
        }
        Ok(())
    }

    fn none_has_ended(&mut self) -> Result<(), Trouble> {
        for slot in 0..self.cluster.slots() {
            if let Some(status) = self.cluster.ended(slot)? {
                return Err(Trouble(format!("m{slot} ended by itself, with {status}")));
            }
        }
        Ok(())
    }

    fn others(&self, slot: usize) -> Vec<usize> {
        self.shared.members().into_iter().filter(|other| *other != slot).collect()
    }

    async fn wait_about_an_election(&mut self) {
        let most = u64::try_from(self.election.as_millis()).expect("it is short") * 3;
        let while_harmed = self.within(most / 6, most);
        sleep(while_harmed).await;
    }

    fn within(&mut self, least_ms: u64, most_ms: u64) -> Duration {
        let extra = self.random.next_u64() % (most_ms - least_ms).max(1);
        Duration::from_millis(least_ms + extra)
    }

    fn pick(&mut self, count: usize) -> usize {
        let count = u64::try_from(count).expect("counts fit").max(1);
        usize::try_from(self.random.next_u64() % count).expect("it is less")
    }

    fn say(&self, what: fmt::Arguments<'_>) {
        let now = self.shared.now().as_millis();
        self.progress.say(format_args!("{now:>7} ms  {what}"));
    }
}

fn copy_folder(from: &Path, to: &Path) -> Result<(), Trouble> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_folder(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

/// How long a cluster may take to serve again when nothing is wrong any more.
const RECOVERY_MAX: Duration = Duration::from_secs(60);
