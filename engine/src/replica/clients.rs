//! Who asks, and what waits until that can be told.

use alloc::collections::VecDeque;

use super::Replica;
use crate::api::{Error, Request};
use crate::auth::{Act, Author, Credential};
use crate::ids::RequestId;
use crate::raft::Index;
use crate::shard::{PARKED_MAX, TOKEN_WAIT};
use crate::time::Time;

/// A request with a token that was assigned by an entry which is not applied here yet.
#[derive(Debug)]
pub(super) struct Parked {
    needs: Index,
    pub(super) deadline: Time,
    id: RequestId,
    credential: Credential,
    request: Request,
}

impl Replica {
    pub(super) fn take_request(&mut self, id: RequestId, credential: Credential, request: Request) {
        let needs = Index(credential.needs());
        if needs > self.applied.index && self.parked.len() < PARKED_MAX {
            let deadline = self.now + TOKEN_WAIT;
            self.parked.push_back(Parked { needs, deadline, id, credential, request });
        } else {
            self.request(id, &credential, request);
        }
    }

    /// Goes on with what waited for its token long enough, or waits for none any more; whether there was any.
    pub(super) fn unpark(&mut self) -> bool {
        if self.parked.is_empty() {
            return false;
        }
        let (applied, now) = (self.applied.index, self.now);
        let is_due = |parked: &Parked| parked.needs <= applied || parked.deadline <= now;
        let (due, parked): (VecDeque<_>, _) =
            core::mem::take(&mut self.parked).into_iter().partition(is_due);
        self.parked = parked;
        let any = !due.is_empty();
        for Parked { id, credential, request, .. } in due {
            self.request(id, &credential, request);
        }
        any
    }

    /// Who shows this; a token begins its time anew. Whoever must be known and is not is refused here: the log is not
    /// for strangers to write into, though what they ask for would be refused when it is applied, too.
    pub(super) fn resolve(
        &mut self,
        credential: &Credential,
        act: Act<'_>,
    ) -> Result<Author, Error> {
        let auth = &self.state.auth;
        let author = auth.resolve(self.tokens.tokens(), self.now, credential)?;
        if let Credential::Token(id) = credential {
            self.tokens.used(self.now, self.config.limits.token_ttl, id.index);
        }
        if author.is_nobody() && !matches!(act, Act::Anyone | Act::Upkeep) {
            // Refuses only while authentication is enabled.
            auth.permit(&author, Act::Known, None)?;
        }
        Ok(author)
    }

    /// Whether an author may do this by the state as it is here.
    pub(super) fn permit(&self, author: &Author, act: Act<'_>) -> Result<(), Error> {
        self.state.auth.permit(author, act, Some(&self.state.lessor))
    }
}
