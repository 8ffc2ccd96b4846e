//! Backups in etcd's format: a member is asked for one, it is read while other things go on, restored, and compared.

use bytes::Bytes;
use cairn_engine::api::{Error, Request, Response};
use cairn_engine::auth::Credential;
use cairn_engine::import::{File, import};
use cairn_engine::snapshot::etcd::EtcdSnapshot;
use cairn_engine::{MemberId, ShardId};

use super::alarm::Alarm;
use super::marks::{Mark, State};
use super::{MILLI, Phase, Run, SECOND};
use crate::check::Violation;
use crate::workload::Client;

/// Who asks for them.
pub(super) const BACKUP: u64 = u64::MAX - 2;
/// Bytes that are read at a time.
const PART_BYTES: usize = 512;

/// A backup that is being read.
#[derive(Debug)]
pub(super) struct Backup {
    member: MemberId,
    snapshot: Box<EtcdSnapshot>,
}

impl Run {
    pub(super) fn plan_backup(&mut self) {
        if self.swarm.backup_every_ns > 0 {
            let wait = self.later.magnitude(MILLI, 2 * self.swarm.backup_every_ns);
            self.alarm(wait, Alarm::Backup);
        }
    }

    /// Asks some member for a backup.
    pub(super) fn back_up(&mut self) {
        if self.phase == Phase::Calm {
            return;
        }
        self.plan_backup();
        let up: Vec<_> = self.members().into_iter().filter(|id| self.world.is_up(*id)).collect();
        if !up.is_empty() {
            let member = *self.later.pick(&up);
            let as_member = Client { credential: Credential::Member, user: None };
            self.ask_as(BACKUP, (member, ShardId(0)), as_member, Request::Snapshot);
        }
    }

    /// A member has begun a backup, which is read some time later, when there is another state.
    pub(super) fn backup_begins(&mut self, member: MemberId, result: Result<Response, Error>) {
        if let Ok(Response::Snapshot(snapshot)) = result {
            let number = u64::try_from(self.backups.len()).expect("64 bits");
            self.backups.push(Some(Backup { member, snapshot }));
            // Chance decides in a plan as well: what is compared is the same whenever it is read.
            self.alarm((number % 7) * SECOND / 2, Alarm::Restore(number));
        }
    }

    /// Reads a backup to its end, restores it, and compares.
    pub(super) fn restore(&mut self, number: u64) -> Result<(), Violation> {
        let place = usize::try_from(number).expect("a few");
        let Some(Backup { member, mut snapshot }) = self.backups[place].take() else {
            return Ok(());
        };
        let mut file = Vec::new();
        while let Some(part) = snapshot.next_part(PART_BYTES) {
            file.extend(part);
        }
        if snapshot.damage().is_some() {
            return Ok(()); // It says so, and sends no whole file.
        }
        let mut source = Bytes::from(file);
        let restored = File::open(&mut source).and_then(|mut file| import(&mut file, None));
        let restored = restored.map_err(|refused| {
            Violation::new("backup", format!("of member {}: {refused:?}", member.0))
        })?;
        self.mark(Mark::State(State::Restored));
        self.history.check_backup(member, &restored)
    }
}
