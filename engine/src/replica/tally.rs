//! What was done, counted: plain numbers for those who watch the member, no part of the state. They begin at zero with
//! the process; what it reads from its log at the start counts, as in etcd.

use crate::api::Response;
use crate::api::etcdserverpb::response_op::Response as OpResponse;
use crate::api::etcdserverpb::{ResponseOp, TxnResponse};
use crate::convert::to_u64;
use crate::mvcc::Change;
use crate::state_machine::{Applied, Outcome};

/// How many upper bounds [`Tally::lease_ttls`] has: 1 s, 2 s, 4 s, … as in etcd.
pub const TTL_BOUNDS: usize = 24;

/// What was done since the process started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Puts, those in transactions included.
    pub puts: u64,
    /// Deletions, however many keys each found.
    pub deletes: u64,
    /// Ranges in transactions that write. Others never reach the log.
    pub ranges: u64,
    /// Requests that did more than one of these.
    pub txns: u64,
    /// Bytes of keys and values that were put.
    pub put_bytes: u64,
    /// Leases that were made.
    pub leases_granted: u64,
    /// Leases that ended, revoked or expired.
    pub leases_revoked: u64,
    /// Renewals of leases that were there.
    pub leases_renewed: u64,
    /// Leases by the seconds they were granted: how many fall between two bounds, and in the end all others.
    pub lease_ttls: [u64; TTL_BOUNDS + 1],
    /// The sum of these seconds.
    pub lease_ttl_sum: u64,
}

impl Tally {
    /// Counts what a command did. O(operations and changes).
    pub(super) fn note(&mut self, applied: &Applied) {
        let changes = || applied.changes.iter().flat_map(|changes| changes.iter());
        let put_bytes = |change: &Change| match change.record.is_tombstone() {
            true => 0,
            false => to_u64(change.record.key().len() + change.record.value().len()),
        };
        self.put_bytes += changes().map(put_bytes).sum::<u64>();
        let before = self.operations();
        match &applied.outcome {
            Ok(Outcome::Response(Response::Put(_))) => self.puts += 1,
            Ok(Outcome::Response(Response::DeleteRange(_))) => self.deletes += 1,
            Ok(Outcome::Response(Response::Txn(txn))) => self.note_operations(txn),
            Ok(Outcome::Response(Response::LeaseGrant(grant))) => self.note_grant(grant.ttl),
            Ok(Outcome::Response(Response::LeaseRevoke(_))) => {
                self.leases_revoked += 1;
                self.deletes += to_u64(changes().count());
            }
            Ok(Outcome::Renewed(renewed)) => {
                self.leases_renewed += to_u64(renewed.iter().filter(|(_, ttl)| *ttl > 0).count());
            }
            Ok(Outcome::Response(_) | Outcome::Nothing) | Err(_) => {}
        }
        self.txns += u64::from(self.operations() - before > 1);
    }

    /// Counts leases that came to their end, and the keys that went with them.
    pub(super) fn note_expired(&mut self, leases: u64, applied: &Applied) {
        self.leases_revoked += leases;
        self.deletes += applied.changes.iter().map(|changes| to_u64(changes.len())).sum::<u64>();
    }

    fn operations(&self) -> u64 {
        self.puts + self.deletes + self.ranges
    }

    fn note_operations(&mut self, txn: &TxnResponse) {
        for ResponseOp { response } in &txn.responses {
            match response {
                Some(OpResponse::ResponsePut(_)) => self.puts += 1,
                Some(OpResponse::ResponseDeleteRange(_)) => self.deletes += 1,
                Some(OpResponse::ResponseRange(_)) => self.ranges += 1,
                Some(OpResponse::ResponseTxn(inner)) => self.note_operations(inner),
                None => {}
            }
        }
    }

    fn note_grant(&mut self, ttl: i64) {
        let ttl = u64::try_from(ttl).unwrap_or_default();
        // The first bound that is no less: 2^n seconds.
        let bits = ttl.max(1).next_power_of_two().trailing_zeros();
        let place = usize::try_from(bits).map_or(TTL_BOUNDS, |bits| bits.min(TTL_BOUNDS));
        self.lease_ttls[place] += 1;
        self.lease_ttl_sum += ttl;
        self.leases_granted += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::etcdserverpb::{
        DeleteRangeResponse, LeaseGrantResponse, PutResponse, RangeResponse,
    };
    use alloc::vec;
    use alloc::vec::Vec;

    fn note(tally: &mut Tally, response: Response) {
        let outcome = Ok(Outcome::Response(response));
        tally.note(&Applied { outcome, changes: Vec::new() });
    }

    #[test]
    fn operations_of_transactions_count_and_so_do_those_that_have_more_than_one() {
        let mut tally = Tally::default();
        note(&mut tally, Response::Put(PutResponse::default()));
        note(&mut tally, Response::DeleteRange(DeleteRangeResponse::default()));
        let op = |response| ResponseOp { response: Some(response) };
        let put = || op(OpResponse::ResponsePut(PutResponse::default()));
        let one = TxnResponse { responses: vec![put()], ..TxnResponse::default() };
        note(&mut tally, Response::Txn(one.clone()));
        let range = op(OpResponse::ResponseRange(RangeResponse::default()));
        let responses = vec![range, op(OpResponse::ResponseTxn(one))];
        note(&mut tally, Response::Txn(TxnResponse { responses, ..TxnResponse::default() }));
        let expected = Tally { puts: 3, deletes: 1, ranges: 1, txns: 1, ..Tally::default() };
        assert_eq!(tally, expected);
    }

    #[test]
    fn leases_are_sorted_by_their_seconds() {
        let mut tally = Tally::default();
        for (ttl, place) in [(1, 0), (2, 1), (3, 2), (4, 2), (1 << 23, 23), (9_000_000_000, 24)] {
            let before = tally.lease_ttls[place];
            let grant = LeaseGrantResponse { ttl, ..LeaseGrantResponse::default() };
            note(&mut tally, Response::LeaseGrant(grant));
            assert_eq!(tally.lease_ttls[place], before + 1, "{ttl} s");
        }
        assert_eq!(tally.leases_granted, 6);
    }
}
