//! Answers, held against history.
//!
//! The committed log is the order of everything, so linearizability needs no search. A write must be traced to an
//! entry that says the same, that was committed between the question and the answer, that nobody else's answer was
//! traced to, and for which the model has the same answer. A read must be what the model tells of a moment that is
//! not before the last entry that anybody had applied when the question was asked. A question without an answer may
//! have happened or not: history knows.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use cairn_engine::api::check::{is_read_only, is_serializable};
use cairn_engine::api::etcdserverpb::{
    HashKvResponse, LeaseTimeToLiveResponse, RangeRequest, RangeResponse, RangeStreamResponse,
    ResponseHeader, TxnResponse,
};
use cairn_engine::api::{Error, Request, Response};
use cairn_engine::auth::{Answer as Told, Author, Credential, Identity};
use cairn_engine::cluster::{Change, Wish};
use cairn_engine::command::Command;
use cairn_engine::raft::Index;
use cairn_engine::range_stream::RangeStream;
use cairn_engine::{LeaseId, MemberId, ShardId};
use prost::Message;

use super::history::{Committed, History};
use super::{Violation, ensure};
use crate::model::auth::{Auth, Needs};
use crate::model::{Answer, Model};

/// A question under way.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Who is asked.
    pub member: MemberId,
    /// On which core.
    pub shard: ShardId,
    /// In which of the member's lives.
    pub life: u64,
    /// What the client has shown of itself.
    pub credential: Credential,
    /// Who that is, if it is anybody's.
    pub user: Option<Arc<str>>,
    /// What is asked.
    pub request: Request,
    /// What the log says if it happens.
    pub command: Option<Command>,
    /// When it was asked.
    pub at_ns: u64,
    /// What anybody had applied by then.
    pub floor: Index,
    /// What the member had applied by then.
    pub local_floor: Index,
}

impl Asked {
    /// Whom `auth` takes the client for.
    fn author(&self, auth: &Auth) -> Result<Author, Error> {
        let user = |name: &Arc<str>, revision| {
            Ok(Author::User(Identity { name: Arc::clone(name), revision }))
        };
        match (&self.credential, &self.user) {
            (Credential::Member, _) => Ok(Author::Member),
            (Credential::Unreadable, _) if auth.is_enabled() => Err(Error::InvalidAuthToken),
            (Credential::Signed { name, revision }, _) => user(name, *revision),
            (_, Some(name)) => user(name, auth.revision()),
            (_, None) => Ok(Author::Nobody),
        }
    }
}

/// What became of a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was answered, from the entry at this index if it went through the log.
    Answered(Option<Index>),
    /// It was refused.
    Refused(Error),
    /// It may happen yet, or have happened.
    Unknown,
}

/// What is remembered from answer to answer.
#[derive(Debug, Default)]
pub struct Answers {
    /// The latest revision that each core has shown in each life.
    seen: BTreeMap<(MemberId, ShardId, u64), i64>,
    /// Hashes of history by revision and compact revision.
    hashes: BTreeMap<(i64, i64), u32>,
    /// Values of puts that were refused before they were proposed. No two puts have the same value.
    refused: BTreeSet<Bytes>,
    /// Members whose addition was refused. No two members have the same id.
    refused_members: BTreeSet<MemberId>,
    /// Values of puts that are history.
    put: BTreeSet<Bytes>,
}

const LINEARIZABLE: &str = "linearizability";

impl Answers {
    /// Takes the answer of a member that has lost its state, and does nothing for anybody.
    pub fn turned_away(&mut self, asked: &Asked) -> Outcome {
        self.refuse(asked);
        Outcome::Refused(Error::Unhealthy)
    }

    /// Judges an answer.
    ///
    /// # Errors
    /// If it cannot be right.
    pub fn judge(
        &mut self,
        history: &mut History,
        asked: &Asked,
        result: &Result<Response, Error>,
    ) -> Result<Outcome, Violation> {
        if let Err(
            error @ (Error::Timeout
            | Error::TimeoutDueToLeaderFail
            | Error::TimeoutDueToConnectionLost
            | Error::LeaderChanged
            | Error::ContextDeadlineExceeded),
        ) = result
        {
            // These are told when the entry is known to be replaced, or was sent to nobody who could propose it.
            if let Error::LeaderChanged | Error::ContextDeadlineExceeded = error {
                self.refuse(asked);
            }
            let is_read = asked.command.is_none() && !matches!(asked.request, Request::Members(_));
            return Ok(if is_read { Outcome::Refused(*error) } else { Outcome::Unknown });
        }
        let goes_through_the_log = asked.command.is_some()
            && !matches!(asked.request, Request::LeaseKeepAlive(_))
            || matches!(asked.request, Request::Members(_));
        if !goes_through_the_log && self.permitted(history, asked, result.as_ref().err())? {
            return Ok(Outcome::Refused(*result.as_ref().expect_err("it was refused")));
        }
        match (&asked.request, result) {
            (Request::Range(request) | Request::RangeStream(request), Err(error)) => {
                let mut agrees = |model: &Model| model.range(request).err() == Some(*error);
                self.was_so(history, asked, !request.serializable, &mut agrees)?;
            }
            (Request::Range(request), Ok(Response::Range(answer))) => {
                let found = answer.result.to_response();
                self.range(history, asked, request, (answer.header, found))?;
            }
            (Request::RangeStream(request), Ok(Response::RangeStream(stream))) => {
                // Parts come in the order of the keys, whatever the target is.
                let request = RangeRequest { sort_target: 0, ..request.clone() };
                let found = merge(stream.as_ref().clone());
                let header = found.header.unwrap_or_default();
                self.range(history, asked, &request, (header, found))?;
            }
            (Request::Txn(request), _) if is_read_only(request) => {
                let linearizable = !is_serializable(request);
                let expected = match result {
                    Ok(Response::Txn(response)) => {
                        let header = response.header.unwrap_or_default();
                        self.header(history, asked, &header, linearizable)?;
                        Ok(TxnResponse { header: bare(header.revision), ..response.clone() })
                    }
                    Ok(other) => {
                        return Err(Violation::new("answer", format!("{other:?} for {asked:?}")));
                    }
                    Err(error) => Err(*error),
                };
                let mut agrees = |model: &Model| model.read(request) == expected;
                self.was_so(history, asked, linearizable, &mut agrees)?;
            }
            (Request::LeaseKeepAlive(id), Ok(Response::LeaseKeepAlive(response))) => {
                let renewal = (id.0, response.ttl);
                let gives = |answer: &Option<Result<Answer, Error>>| matches!(answer, Some(Ok(Answer::Renewed(renewed))) if renewed.contains(&renewal));
                let to = history.applied(asked.member);
                let entries = history.between(asked.floor, to);
                let found = entries.filter(|(_, entry)| gives(&entry.answer)).last();
                let found = found.map(|(index, _)| index);
                ensure(found.is_some(), LINEARIZABLE, || {
                    format!("no entry gives {renewal:?} for {asked:?}")
                })?;
                return Ok(Outcome::Answered(found));
            }
            (Request::LeaseTimeToLive(_), Ok(Response::LeaseTimeToLive(response))) => {
                time_to_live(history, asked, response)?;
            }
            (Request::HashKv(request), Ok(Response::HashKv(response))) => {
                self.hash(request.revision, response)?;
            }
            (
                Request::LeaseLeases
                | Request::Status
                | Request::AuthQuery(_)
                | Request::HashKv(_)
                | Request::MemberList(_)
                | Request::MoveLeader(_),
                _,
            ) => {}
            (Request::Members(wish), result) => return self.wish(history, asked, wish, result),
            (
                Request::Put(_)
                | Request::DeleteRange(_)
                | Request::Txn(_)
                | Request::Compact(_)
                | Request::LeaseGrant(_)
                | Request::LeaseRevoke(_)
                | Request::Auth(_)
                | Request::Authenticate(_)
                | Request::Alarm(_),
                _,
            ) => {
                return self.write(history, asked, result);
            }
            (_, result) => {
                return Err(Violation::new("answer", format!("{asked:?} is answered {result:?}")));
            }
        }
        Ok(match result {
            Ok(_) => Outcome::Answered(None),
            Err(error) => Outcome::Refused(*error),
        })
    }

    /// Whether somebody who reads was refused for who they are; objects if they should not have been, or should.
    fn permitted(
        &self,
        history: &History,
        asked: &Asked,
        refused: Option<&Error>,
    ) -> Result<bool, Violation> {
        let is_refusal = |error: &Error| {
            matches!(
                error,
                Error::UserEmpty
                    | Error::InvalidAuthToken
                    | Error::PermissionDenied
                    | Error::AuthOldRevision
            )
        };
        let refused = refused.filter(|error| is_refusal(error));
        // A core that lags serves what it has, by the users that it knows.
        let since = |linearizable| if linearizable { asked.floor } else { Index(0) };
        let (needs, from) =
            if let Request::Range(range) | Request::RangeStream(range) = &asked.request {
                (Some(Needs::of_range(range)), since(!range.serializable))
            } else if let Request::Txn(txn) = &asked.request {
                (Some(Needs::of_txn(txn)), since(!is_serializable(txn)))
            } else if let Request::HashKv(_) = &asked.request {
                (Some(Needs::Root), asked.local_floor)
            } else {
                // What the others need depends on leases as they were.
                (None, asked.local_floor)
            };
        let mut auths = history.auths(from, history.applied(asked.member));
        let was_so = match (needs, refused) {
            (Some(needs), refused) => auths.any(|auth| {
                let permitted = match asked.author(auth) {
                    Ok(author) => auth.permit(&author, &needs, |_| Vec::new()),
                    Err(error) => Err(error),
                };
                let is_token = matches!(asked.credential, Credential::Token(_));
                // Whether a token had ended is its member's own knowledge.
                permitted.as_ref().err() == refused
                    || refused == Some(&Error::InvalidAuthToken) && is_token && auth.is_enabled()
            }),
            (None, Some(_)) => auths.any(Auth::is_enabled),
            (None, None) => true,
        };
        // A stranger is refused by a member that lags, too.
        let mut local = history.auths(Index(0), history.applied(asked.member));
        let is_stranger = refused == Some(&Error::UserEmpty)
            && asked.credential == Credential::None
            && local.any(Auth::is_enabled);
        let is_token = refused == Some(&Error::InvalidAuthToken)
            && matches!(asked.credential, Credential::Token(_));
        ensure(was_so || is_stranger || is_token, "permission", || {
            format!("{asked:?} is refused with {refused:?}")
        })?;
        Ok(refused.is_some())
    }

    fn range(
        &mut self,
        history: &mut History,
        asked: &Asked,
        request: &RangeRequest,
        (header, found): (ResponseHeader, RangeResponse),
    ) -> Result<(), Violation> {
        self.header(history, asked, &header, !request.serializable)?;
        let expected = RangeResponse { header: bare(header.revision), ..found };
        let mut agrees = |model: &Model| {
            model.revision() == header.revision && model.range(request).as_ref() == Ok(&expected)
        };
        self.was_so(history, asked, !request.serializable, &mut agrees)
    }

    /// The header of a read.
    fn header(
        &mut self,
        history: &History,
        asked: &Asked,
        header: &ResponseHeader,
        linearizable: bool,
    ) -> Result<(), Violation> {
        let seen = self.seen.entry((asked.member, asked.shard, asked.life)).or_default();
        ensure(header.revision >= *seen, "monotone reads", || {
            format!("{asked:?} is answered at {}, after {seen}", header.revision)
        })?;
        *seen = header.revision;
        let floor = history.moment(asked.floor).revision;
        ensure(!linearizable || header.revision >= floor, LINEARIZABLE, || {
            format!("{asked:?} is answered at revision {}, but {floor} was over", header.revision)
        })?;
        ensure(header.member_id == asked.member.0, "answer", || format!("{header:?} for {asked:?}"))
    }

    /// Objects unless there was a moment, since the question if it is to be linearizable, that agrees.
    fn was_so(
        &self,
        history: &mut History,
        asked: &Asked,
        linearizable: bool,
        agrees: &mut dyn FnMut(&Model) -> bool,
    ) -> Result<(), Violation> {
        let to = history.applied(asked.member);
        let from = if linearizable { asked.floor } else { Index(0) };
        let mut tried = None;
        for index in (from.0..=to.0).rev().map(Index) {
            let moment = history.moment(index);
            if tried.replace(moment) == Some(moment) {
                continue;
            }
            if history.model.at_moment(moment.revision, moment.compacted, &mut *agrees) {
                return Ok(());
            }
        }
        let what = format!("{asked:?} was answered as it never was from {from} to {to}");
        Err(Violation::new(if linearizable { LINEARIZABLE } else { "serializable read" }, what))
    }

    /// The answer to a write, or to a question that goes through the log.
    fn write(
        &mut self,
        history: &mut History,
        asked: &Asked,
        result: &Result<Response, Error>,
    ) -> Result<Outcome, Violation> {
        let command =
            asked.command.as_ref().expect("what goes through the log says something there");
        let physical = matches!(command, Command::Compact(request) if request.physical);
        let answer = match result {
            Ok(response) => Ok(answer_of(response.clone(), asked)?),
            Err(error) => Err(*error),
        };
        let to = history.applied(asked.member);
        for (index, entry) in history.between(asked.floor, to) {
            let elsewhere = entry.origin != Some(asked.member);
            let is_of_another = match &entry.author {
                Author::User(identity) => asked.user.as_ref() != Some(&identity.name),
                Author::Member => asked.credential != Credential::Member,
                // Authentication was not enabled where it was asked.
                Author::Nobody => false,
            };
            if entry.claimed
                || elsewhere
                || is_of_another
                || entry.command.as_ref() != Some(command)
            {
                continue;
            }
            // Who waits for the end of a compaction is answered at a later revision.
            let same = entry.answer.as_ref() == Some(&answer)
                || physical && entry.answer.as_ref().is_some_and(Result::is_ok) && answer.is_ok();
            if same {
                if let Ok(Response::Auth(Told::Authenticate(told))) = result {
                    ensure(told.token == index.0.to_string(), "token", || {
                        format!("{told:?} was assigned by {index}")
                    })?;
                }
                entry.claimed = true;
                return Ok(match result {
                    Ok(_) => Outcome::Answered(Some(index)),
                    Err(error) => Outcome::Refused(*error),
                });
            }
        }
        if let Err(error @ (Error::UserEmpty | Error::InvalidAuthToken)) = result {
            let mut auths = history.auths(asked.local_floor, to);
            let is_stranger = asked.credential == Credential::None && *error == Error::UserEmpty;
            let is_token = matches!(asked.credential, Credential::Token(_));
            let is_so = is_stranger || is_token && *error == Error::InvalidAuthToken;
            if is_so && auths.any(Auth::is_enabled) {
                self.refuse(asked);
                return Ok(Outcome::Refused(*error));
            }
        }
        // These are told before anything is proposed.
        if let Err(
            error @ (Error::NoSpace | Error::RequestTooLarge | Error::RequestTooManyRequests),
        ) = result
        {
            self.refuse(asked);
            return Ok(Outcome::Refused(*error));
        }
        let alike: Vec<_> = history
            .between(asked.floor, to)
            .filter(|(_, entry)| entry.command.as_ref() == Some(command))
            .map(|(index, entry)| format!("{index}: {:?} claimed {}", entry.answer, entry.claimed))
            .collect();
        let what = format!("{asked:?} is answered {answer:?}, up to {to} there is {alike:?}");
        Err(Violation::new(LINEARIZABLE, what))
    }

    /// Remembers that something will never be done, if it can be told from all else.
    fn refuse(&mut self, asked: &Asked) {
        if let Some(Command::Put(put)) = &asked.command {
            self.refused.insert(put.value.clone());
        }
        if let Request::Members(Wish::Add { id, .. }) = &asked.request {
            self.refused_members.insert(*id);
        }
    }

    /// The answer to a change of the members.
    fn wish(
        &mut self,
        history: &mut History,
        asked: &Asked,
        wish: &Wish,
        result: &Result<Response, Error>,
    ) -> Result<Outcome, Violation> {
        if let Err(error) = result {
            self.refuse(asked);
            return Ok(Outcome::Refused(*error));
        }
        let is_it = |change: &Change| match (wish, change) {
            (Wish::Add { id, .. }, Change::Add(record)) => id.0 == record.id,
            (Wish::Remove(id), Change::Remove(other))
            | (Wish::Promote(id), Change::Promote(other)) => id == other,
            (Wish::Update(id, urls), Change::Update(other, others)) => {
                (id, urls) == (other, others)
            }
            (Wish::Downgrade(to), Change::Downgrade(other)) => to == other,
            (Wish::StayUp, Change::Downgrade(to)) => to.is_empty(),
            (Wish::MayDowngrade(_), Change::Downgrade(_)) => true,
            _ => false,
        };
        let to = history.applied(asked.member);
        for (index, entry) in history.between(asked.floor, to) {
            if let Some(Command::Members(change)) = &entry.command
                && !entry.claimed
                && is_it(change)
            {
                entry.claimed = true;
                return Ok(Outcome::Answered(Some(index)));
            }
        }
        Err(Violation::new(LINEARIZABLE, format!("nothing up to {to} did {asked:?}: {result:?}")))
    }

    /// An entry became history.
    ///
    /// # Errors
    /// If whoever asked for it was told that it would not.
    pub fn committed(&mut self, index: Index, entry: &Committed) -> Result<(), Violation> {
        if let Some(Command::Members(Change::Add(record))) = &entry.command {
            let refused = self.refused_members.contains(&MemberId(record.id));
            ensure(!refused, "refused", || format!("{index} adds {record:?}, which was refused"))?;
        }
        let Some(Command::Put(put)) = &entry.command else { return Ok(()) };
        let fresh = put.value.is_empty() || self.put.insert(put.value.clone());
        ensure(fresh, "exactly once", || format!("{index} is {put:?} once more"))?;
        let refused = !put.value.is_empty() && self.refused.contains(&put.value);
        ensure(!refused, "refused", || format!("{index} is a put that was refused: {put:?}"))
    }

    fn hash(&mut self, asked: i64, response: &HashKvResponse) -> Result<(), Violation> {
        let place = (response.hash_revision, response.compact_revision);
        ensure(asked <= 0 || asked == response.hash_revision, "hash", || format!("{response:?}"))?;
        let first = *self.hashes.entry(place).or_insert(response.hash);
        ensure(first == response.hash, "hash", || format!("{response:?} was {first} before"))
    }
}

/// An answer as the model gives it.
fn answer_of(mut response: Response, asked: &Asked) -> Result<Answer, Violation> {
    if let Some(header) = response.header_mut() {
        ensure(header.member_id == asked.member.0, "answer", || {
            format!("{header:?} for {asked:?}")
        })?;
        *header = ResponseHeader { revision: header.revision, ..ResponseHeader::default() };
    }
    Ok(match response {
        Response::Put(response) => Answer::Put(response),
        Response::DeleteRange(response) => Answer::DeleteRange(response),
        Response::Txn(response) => Answer::Txn(response),
        Response::Compact(response) => Answer::Compact(response),
        Response::LeaseGrant(response) => Answer::LeaseGrant(response),
        Response::LeaseRevoke(response) => Answer::LeaseRevoke(response),
        Response::Alarm(response) => Answer::Alarm(response),
        Response::Auth(Told::Done(_)) => Answer::Auth,
        Response::Auth(Told::Authenticate(_)) => Answer::Token,
        Response::Range(_)
        | Response::RangeStream(_)
        | Response::LeaseKeepAlive(_)
        | Response::LeaseTimeToLive(_)
        | Response::LeaseLeases(_)
        | Response::MemberList(_)
        | Response::MemberAdd(_)
        | Response::MemberRemove(_)
        | Response::MemberUpdate(_)
        | Response::MemberPromote(_)
        | Response::Downgrade(_)
        | Response::MoveLeader(_)
        | Response::Status(_)
        | Response::Defragment(_)
        | Response::Hash(_)
        | Response::HashKv(_)
        | Response::Snapshot(_)
        | Response::Auth(_) => {
            return Err(Violation::new("answer", format!("{response:?} for {asked:?}")));
        }
    })
}

/// How long a lease has, as one member knows it.
fn time_to_live(
    history: &History,
    asked: &Asked,
    response: &LeaseTimeToLiveResponse,
) -> Result<(), Violation> {
    let Request::LeaseTimeToLive(request) = &asked.request else { return Ok(()) };
    let sane = match response.ttl {
        -1 => response.granted_ttl == 0 && response.keys.is_empty(),
        ttl => 0 <= ttl && ttl <= response.granted_ttl,
    };
    ensure(sane && response.id == request.id, "lease", || format!("{response:?} for {asked:?}"))?;
    // Only if nothing happened meanwhile is it clear what the member knew.
    if asked.local_floor != history.last() || response.ttl < 0 {
        return Ok(());
    }
    let lease = history.model.leases().get(&LeaseId(response.id).0);
    let keys = history.model.keys_of(response.id);
    let right = lease.is_some_and(|lease| lease.ttl == response.granted_ttl)
        && (!request.keys || keys == response.keys);
    ensure(right, "lease", || format!("{response:?} for {lease:?} with {keys:?}"))
}

/// The answer that the parts add up to.
fn merge(mut stream: RangeStream) -> RangeResponse {
    let mut whole = RangeResponse::default();
    while let Some(part) = stream.next_part() {
        let part = RangeStreamResponse::decode(&*part).expect("a message");
        let part = part.range_response.expect("a part");
        whole.kvs.extend(part.kvs);
        // The last part alone tells of the whole.
        (whole.header, whole.more, whole.count) = (part.header, part.more, part.count);
    }
    whole
}

/// A header as the model writes it.
fn bare(revision: i64) -> Option<ResponseHeader> {
    Some(ResponseHeader { revision, ..ResponseHeader::default() })
}
