//! The turn of a core.

use core::future::{Future, poll_fn};
use core::pin::{Pin, pin};
use core::task::{Context, Poll};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use cairn_engine::api::Route;
use cairn_engine::event::{Publication, ReadIndexAnswer};
use cairn_engine::mvcc::View;
use cairn_engine::shard::ShardConfig;
use cairn_engine::{Input, Output, Shard, ShardId, ShardInput, ShardOutput, Time};

use super::handle::{Call, Handle, Standing, core_of};
use super::links::{Hop, Outgoing, Seat};
use super::member::{Member, Written};
use super::{Fatal, Notice, Settings, StartError};
use crate::mailbox::Receiver;
use crate::runtime::Runtime;

/// Batches that one turn takes from its mailbox.
const BATCHES_PER_TURN: usize = 64;
/// How long a core waits before it tries again to hand something to a core that has no room.
const RETRY_NS: u64 = 1_000_000;

/// Who hears what happens on core 0. Called from the driver's turn and from its links' tasks; must not block.
pub type Observer = Rc<dyn Fn(Notice)>;

/// Who ends the process.
pub type OnFatal = Rc<dyn Fn(Fatal)>;

/// Drives the engine on this core until [`Handle::stop`]; on core 0, with the replica.
///
/// `ready` is called once with the core's handle, when it can serve.
///
/// # Errors
/// If the disk cannot be read or holds what cannot be used; then nothing was changed and `ready` was not called.
pub async fn run<R: Runtime>(
    settings: Settings,
    seat: Seat,
    ready: impl FnOnce(Handle),
    observer: Observer,
    fatal: OnFatal,
) -> Result<(), StartError> {
    let Seat { core, mut mail, others } = seat;
    let handle = Handle::new(core, settings.engine.cluster, settings.engine.id);
    let shard_config = ShardConfig {
        cluster: settings.engine.cluster,
        member: settings.engine.id,
        limits: settings.engine.limits,
        seed: settings.engine.seed ^ u64::from(core),
    };
    let (first, member) = if core == 0 {
        let (member, first) = Member::<R>::start(settings, observer, fatal).await?;
        handle.set_peer_acceptor(member.peer_acceptor());
        (first, Some(member))
    } else {
        let Some(first) = first_publication(&mut mail).await else { return Ok(()) };
        (first, None)
    };
    let shard = Shard::new(shard_config, &first);
    let view = if member.is_some() { View::default() } else { first.view.clone() };
    let mut core = Core { number: core, handle: handle.clone(), shard, view, member, others };
    core.note(&first);
    if core.member.is_some() {
        core.tell_others(&first);
    }
    ready(handle);
    core.turns(&mut mail).await;
    Ok(())
}

/// The first state, from core 0; `None` if that could not start.
async fn first_publication(mail: &mut Receiver<Vec<Hop>>) -> Option<Publication> {
    let mut batches = Vec::new();
    mail.receive(&mut batches, 1).await;
    batches.into_iter().flatten().find_map(|hop| match hop {
        Hop::Published(publication) => Some(publication),
        Hop::ToReplica(_) | Hop::ReadIndex(_) | Hop::Reply { .. } => None,
    })
}

struct Core<R: Runtime> {
    number: u16,
    handle: Handle,
    shard: Shard,
    /// The view of the latest publication; on core 0, where the replica lends its own, nothing.
    view: View,
    /// On core 0.
    member: Option<Member<R>>,
    /// The ways to all cores, this one included.
    others: Vec<Outgoing>,
}

/// What ended a wait.
#[derive(Default)]
struct Gathered {
    calls: VecDeque<Call>,
    written: Vec<Written>,
    received: Vec<Input>,
}

/// A timer that was set for a moment.
struct Alarm {
    at: u64,
    timer: Pin<Box<dyn Future<Output = ()>>>,
}

impl<R: Runtime> Core<R> {
    async fn turns(&mut self, mail: &mut Receiver<Vec<Hop>>) {
        let mut gathered = Gathered::default();
        let mut batches = Vec::new();
        let mut alarm: Option<Alarm> = None;
        loop {
            let now = R::now();
            let hops = batches.drain(..).flatten();
            if !self.turn(Time::from_nanos(now), core::mem::take(&mut gathered), hops) {
                return;
            }
            let all_sent = self.others.iter_mut().all(Outgoing::flush);
            let retry = (!all_sent).then_some(now + RETRY_NS);
            let due = self.deadline().into_iter().chain(retry).min();
            if due.is_some_and(|due| due <= now) {
                // There is more to do, but others want their turn.
                yield_now().await;
                R::yield_if_needed().await;
            } else if let Some(at) = due.filter(|due| *due < NEVER_NS)
                && alarm.as_ref().is_none_or(|alarm| alarm.at > at)
            {
                // An alarm that rings too early costs a turn, setting it anew for every turn costs more.
                alarm = Some(Alarm { at, timer: Box::pin(R::sleep_until(at)) });
            }
            let mut receive = pin!(mail.receive(&mut batches, BATCHES_PER_TURN));
            let busy = due.is_some_and(|due| due <= now);
            gathered = poll_fn(|context| {
                let mailed = receive.as_mut().poll(context).is_ready();
                let rang = alarm
                    .as_mut()
                    .is_some_and(|alarm| alarm.timer.as_mut().poll(context).is_ready());
                if rang {
                    alarm = None;
                }
                let gathered = self.gather(context);
                let nothing = gathered.calls.is_empty()
                    && gathered.written.is_empty()
                    && gathered.received.is_empty();
                if nothing && !mailed && !rang && !busy {
                    Poll::Pending
                } else {
                    Poll::Ready(gathered)
                }
            })
            .await;
        }
    }

    fn gather(&mut self, context: &mut Context<'_>) -> Gathered {
        Gathered {
            calls: self.handle.take_calls(context.waker()),
            written: self
                .member
                .as_mut()
                .map_or_else(Vec::new, |member| member.poll_written(context)),
            received: self
                .member
                .as_ref()
                .map_or_else(Vec::new, |member| member.take_received(context)),
        }
    }

    /// When the engine wants to be woken; perhaps in the past.
    fn deadline(&self) -> Option<u64> {
        let replica = self.member.as_ref().and_then(|member| member.replica.deadline());
        replica.into_iter().chain(self.shard.deadline()).min().map(Time::as_nanos)
    }

    /// Gives the engine everything that has gathered and carries out what it wants; false: stop.
    fn turn(&mut self, now: Time, gathered: Gathered, hops: impl Iterator<Item = Hop>) -> bool {
        for hop in hops {
            match hop {
                Hop::ToReplica(input) => self.give_replica(now, input),
                Hop::Published(publication) => self.published(now, publication),
                Hop::ReadIndex(answer) => self.step_shard(now, ShardInput::ReadIndex(answer)),
                Hop::Reply { id, result } => self.handle.deliver(id, result),
            }
        }
        for written in gathered.written {
            match written {
                Written::Log(to) => self.give_replica(now, Input::LogWritten { to }),
                Written::Snapshot => self.give_replica(now, Input::SnapshotWritten),
                Written::Tree(pages) => self.give_replica(now, Input::TreeWritten { pages }),
            }
        }
        for input in gathered.received {
            self.give_replica(now, input);
        }
        for call in gathered.calls {
            match call {
                Call::Request { id, credential, request } => match request.route() {
                    Route::Shard => {
                        self.step_shard(now, ShardInput::Request { id, credential, request });
                    }
                    Route::Replica => {
                        self.give_replica(now, Input::Request { id, credential, request });
                    }
                },
                Call::Shard(input) => self.step_shard(now, input),
                Call::Stop => return false,
            }
        }
        if self.shard.deadline().is_some_and(|due| due <= now) {
            self.step_shard(now, ShardInput::Wake);
        }
        if let Some(member) = &mut self.member
            && member.replica.deadline().is_some_and(|due| due <= now)
        {
            member.replica.step(now, Input::Wake);
        }
        while self.pump_replica(now) | self.pump_shard(now) {}
        true
    }

    fn step_shard(&mut self, now: Time, input: ShardInput) {
        let view = self.member.as_ref().map_or(&self.view, |member| member.replica.view());
        self.shard.step(now, view, input);
    }

    fn give_replica(&mut self, now: Time, input: Input) {
        match &mut self.member {
            Some(member) => member.replica.step(now, input),
            None => self.others[0].push(Hop::ToReplica(input)),
        }
    }

    /// Carries out what the replica wants; whether it wanted anything.
    fn pump_replica(&mut self, now: Time) -> bool {
        let mut any = false;
        while let Some(output) = self.member.as_mut().and_then(|member| member.replica.poll()) {
            any = true;
            match output {
                Output::Reply { id, result } if core_of(id) == self.number => {
                    self.handle.deliver(id, result);
                }
                Output::Reply { id, result } => {
                    self.others[usize::from(core_of(id))].push(Hop::Reply { id, result });
                }
                Output::Publish(publication) => {
                    self.tell_others(&publication);
                    self.published(now, publication);
                }
                Output::ReadIndex(answer) => self.read_index(now, answer),
                output @ (Output::Send(_)
                | Output::AppendLog(_)
                | Output::RetireSegments(_)
                | Output::WriteSnapshot(_)
                | Output::WriteTree(_)
                | Output::RemoveTree(_)
                | Output::CondemnTree(_)
                | Output::Peers(_)
                | Output::Known(_)
                | Output::Event(_)
                | Output::Halt(_)) => {
                    self.member.as_mut().expect("it has just spoken").carry_out(output);
                }
            }
        }
        any
    }

    /// Carries out what the shard wants; whether it wanted anything.
    fn pump_shard(&mut self, now: Time) -> bool {
        let mut any = false;
        while let Some(output) = self.shard.poll() {
            any = true;
            match output {
                ShardOutput::Reply { id, result } => self.handle.deliver(id, result),
                ShardOutput::TokenUsed { index } => {
                    self.give_replica(now, Input::TokenUsed { index });
                }
                ShardOutput::ReadIndex { token } => {
                    let shard = ShardId(self.number);
                    self.give_replica(now, Input::ReadIndex { shard, token });
                }
                ShardOutput::Watch { stream, response } => {
                    self.handle.deliver_watch(stream, response);
                }
            }
        }
        any
    }

    fn read_index(&mut self, now: Time, answer: ReadIndexAnswer) {
        if answer.shard.0 == self.number {
            self.step_shard(now, ShardInput::ReadIndex(answer));
        } else {
            self.others[usize::from(answer.shard.0)].push(Hop::ReadIndex(answer));
        }
    }

    fn published(&mut self, now: Time, publication: Publication) {
        self.note(&publication);
        if self.member.is_none() {
            self.view = publication.view.clone();
        }
        self.step_shard(now, ShardInput::Published(publication));
    }

    /// Notes for the tasks of this core where the cluster stands.
    fn note(&mut self, publication: &Publication) {
        self.handle.set_standing(Standing {
            revision: publication.view.revision(),
            term: publication.term,
            leader: publication.leader,
            alarms: publication.alarms.clone(),
            is_learner: publication.is_learner,
            cluster_version: Arc::clone(&publication.cluster_version),
            auth: Arc::clone(&publication.auth),
            tokens: publication.tokens.clone(),
        });
    }

    fn tell_others(&mut self, publication: &Publication) {
        for other in self.others.iter_mut().skip(1) {
            other.push(Hop::Published(publication.clone()));
        }
    }
}

/// A deadline beyond this is no deadline: three centuries.
const NEVER_NS: u64 = u64::MAX / 2;

/// Lets the other tasks of this core run once.
async fn yield_now() {
    let mut yielded = false;
    poll_fn(|context| {
        if core::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
