//! Clients that ask one thing at a time, think, and ask the next.

use core::time::Duration;

use cairn_engine::api::{Error, Request, Response};
use cairn_engine::auth::Answer;
use cairn_engine::raft::Index;
use cairn_engine::{MemberId, RequestId, ShardId};

use super::alarm::Alarm;
use super::backups::BACKUP;
use super::deeds::Deed;
use super::marks::Fate;
use super::members::OPERATOR;
use super::{Phase, Run};
use crate::check::Violation;
use crate::check::answers::{Asked, Outcome};
use crate::trace::Note;
use crate::workload::Client;

/// A question under way.
#[derive(Debug)]
pub(super) struct Question {
    pub(super) client: u64,
    pub(super) asked: Asked,
    /// The most that could have passed on the cluster's clock then.
    pub(super) at: Duration,
}

impl Run {
    pub(super) fn think(&mut self, client: u64) {
        if self.phase == Phase::Chaos && client < BACKUP && !self.is_planned() {
            let wait = self.random.below(self.swarm.work.think_ns_max);
            self.alarm(wait, Alarm::Client(client));
        }
    }

    /// Somebody who can be asked: mostly a member, now and then one of the past or the future.
    pub(super) fn a_member(&mut self) -> Option<MemberId> {
        let (all, servants) = (self.members(), self.servants());
        let strangers = self.phase == Phase::Chaos && self.random.chance(1, 16);
        let able = |id: &MemberId| self.world.is_up(*id) && (strangers || servants.contains(id));
        let up: Vec<_> = all.into_iter().filter(able).collect();
        (!up.is_empty()).then(|| *self.random.pick(&up))
    }

    pub(super) fn client(&mut self, client: u64) {
        if self.phase == Phase::Calm {
            return;
        }
        let Some(member) = self.a_member() else { return self.think(client) };
        let request = self.generator.request(&self.history.model);
        self.ask(client, member, request);
    }

    pub(super) fn ask(&mut self, client: u64, member: MemberId, request: Request) {
        let shard = self.a_shard();
        let who = match self.nobody_else() {
            Some(who) => who,
            None => self.generator.client(&request, &self.history.model),
        };
        self.ask_as(client, (member, shard), who, request);
    }

    /// Asks on a core, as somebody.
    pub(super) fn ask_as(
        &mut self,
        client: u64,
        (member, shard): (MemberId, ShardId),
        who: Client,
        request: Request,
    ) {
        if self.phase == Phase::Chaos {
            let (who, request) = (who.clone(), request.clone());
            self.note_deed(|| Deed::Ask { client, member, shard, who, request });
        }
        if client == OPERATOR {
            self.roster.wished_ns = self.world.now_ns();
            self.leases.disturbed(self.world.now_ns());
        }
        self.questions_asked += 1;
        let id = RequestId(self.questions_asked);
        let asked = Asked {
            credential: who.credential.clone(),
            user: who.user,
            member,
            shard,
            life: self.world.lives(member),
            command: self.generator.command(&request),
            request: request.clone(),
            at_ns: self.world.now_ns(),
            floor: self.history.last(),
            local_floor: self.history.applied(member),
        };
        self.trace.note(self.world.now_ns(), || {
            let client = Some(client).filter(|client| *client != OPERATOR);
            Note::Asks { client, member, id, request: format!("{request:?}") }
        });
        let at = self.fastest_time();
        self.questions.insert(id, Question { client, asked, at });
        self.world.request_as(who.credential, (member, shard), id, request);
    }

    pub(super) fn a_shard(&mut self) -> ShardId {
        let shards = u64::from(self.swarm.shards);
        ShardId(u16::try_from(self.random.below(shards)).expect("a few"))
    }

    pub(super) fn replied(
        &mut self,
        member: MemberId,
        id: RequestId,
        result: Result<Response, Error>,
    ) -> Result<(), Violation> {
        let Some(question) = self.questions.remove(&id) else {
            let what = format!("member {} answers {} once more: {result:?}", member.0, id.0);
            return Err(Violation::new("answer", what));
        };
        if matches!(question.asked.request, Request::Snapshot) {
            self.backup_begins(member, result);
            return Ok(());
        }
        let result = &result;
        let turned_away =
            self.stateless.contains(&member) && matches!(result, Err(Error::Unhealthy));
        let outcome = if turned_away {
            self.answers.turned_away(&question.asked)
        } else {
            self.answers.judge(&mut self.history, &question.asked, result)?
        };
        if let (Request::Authenticate(assignment), Ok(Response::Auth(Answer::Authenticate(told)))) =
            (&question.asked.request, result)
        {
            let index = told.token.parse().expect("the checker has read it");
            self.generator.assigned(assignment, index);
        }
        self.mark_request(&question.asked.request, Fate::of(&outcome));
        match outcome {
            Outcome::Answered(index) => {
                self.tally.answered += 1;
                self.note_promise(&question, index, result);
            }
            Outcome::Refused(_) => self.tally.refused += 1,
            Outcome::Unknown => self.tally.unknown += 1,
        }
        self.think(question.client);
        Ok(())
    }

    pub(super) fn note_promise(
        &mut self,
        question: &Question,
        index: Option<Index>,
        result: &Result<Response, Error>,
    ) {
        let (lease, ttl) = match result {
            Ok(Response::LeaseGrant(response)) => (response.id, response.ttl),
            Ok(Response::LeaseKeepAlive(response)) => (response.id, response.ttl),
            _ => return,
        };
        if let Some(index) = index.filter(|_| ttl > 0) {
            self.leases.promised(lease, ttl, index, question.at);
        }
    }
}
