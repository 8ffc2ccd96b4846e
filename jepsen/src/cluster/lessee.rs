//! A client that lives on leases: takes one, attaches keys to it, renews it a few times, and lets it end.

use core::time::Duration;
use std::rc::Rc;

use bytes::Bytes;
use cairn_engine::api::etcdserverpb::{
    LeaseGrantRequest, LeaseKeepAliveRequest, LeaseRevokeRequest,
};
use tokio::time::{sleep, timeout};
use tonic::codegen::tokio_stream;

use super::client::{ANSWER_MAX, Client, Shared, key};
use super::history::{Effect, Life, Operation};
use super::requests::what_became;
use crate::Trouble;

/// One such client.
#[derive(Debug)]
pub(super) struct Lessee {
    client: Client,
    leases: i64,
    lives: Vec<Life>,
}

impl Lessee {
    /// One that goes about.
    pub(super) fn new(shared: Rc<Shared>, number: usize) -> Self {
        Self { client: Client::new(shared, number, None), leases: 0, lives: Vec::new() }
    }

    /// Takes one lease after the other until it is enough.
    pub(super) async fn run(mut self) -> Result<Self, Trouble> {
        while self.client.shared.writing.get() {
            if let Some(life) = self.grant().await? {
                self.live(life).await?;
            }
            self.client.rest().await;
        }
        Ok(self)
    }

    /// What it did.
    pub(super) fn into_parts(self) -> (Vec<Operation>, Vec<Life>) {
        (self.client.operations, self.lives)
    }

    /// Takes a lease whose id nobody else takes. If nobody knows whether it was granted, it is left alone.
    async fn grant(&mut self) -> Result<Option<Life>, Trouble> {
        self.leases += 1;
        let number = i64::try_from(self.client.number).expect("counts fit");
        let id = (number + 1) * LEASES_MAX + self.leases;
        let ttl = TTL_SECONDS_MIN + i64::try_from(self.client.below(2)).expect("it is less");
        let renewed = self.client.shared.now();
        let mut lease = self.connection();
        let request = LeaseGrantRequest { ttl, id };
        match timeout(ANSWER_MAX, lease.lease_grant(request)).await {
            Ok(Ok(answer)) => {
                let ttl = Duration::from_secs(u64::try_from(answer.into_inner().ttl)?);
                Ok(Some(Life { id, ttl, renewed, revoked: false }))
            }
            Ok(Err(status)) => what_became(status).map(|_| None),
            Err(_) => Ok(None),
        }
    }

    async fn live(&mut self, mut life: Life) -> Result<(), Trouble> {
        for name in ["a", "b"] {
            let key: Bytes = key(&format!("e/{}/{name}", life.id));
            let effects = vec![Effect::Put { key, value: self.client.value(), lease: life.id }];
            self.client.write(Vec::new(), effects, None).await?;
        }
        for _ in 0..self.client.below(5) {
            sleep(life.ttl / 3).await;
            let begin = self.client.shared.now();
            if self.renew(life.id).await? {
                life.renewed = begin;
            }
        }
        if self.client.below(4) == 0 {
            life.revoked = true;
            let request = LeaseRevokeRequest { id: life.id };
            let answer = timeout(ANSWER_MAX, self.connection().lease_revoke(request)).await;
            if let Ok(Err(status)) = answer {
                what_became(status)?;
            }
        } else if self.client.below(2) == 0 {
            sleep(life.ttl).await;
        }
        self.lives.push(life);
        Ok(())
    }

    /// Renews a lease; whether that was acknowledged.
    async fn renew(&mut self, id: i64) -> Result<bool, Trouble> {
        let mut lease = self.connection();
        let renewal = async {
            let requests = tokio_stream::once(LeaseKeepAliveRequest { id });
            lease.lease_keep_alive(requests).await?.into_inner().message().await
        };
        match timeout(ANSWER_MAX, renewal).await {
            // No time is left of a lease that is gone.
            Ok(Ok(answer)) => Ok(answer.is_some_and(|answer| answer.ttl > 0)),
            Ok(Err(status)) => what_became(status).map(|_| false),
            Err(_) => Ok(false),
        }
    }

    fn connection(
        &mut self,
    ) -> crate::client::etcdserverpb::lease_client::LeaseClient<tonic::transport::Channel> {
        let slot = self.client.slot();
        self.client.shared.connections[slot].lease()
    }
}

const LEASES_MAX: i64 = 1_000_000;
const TTL_SECONDS_MIN: i64 = 2;
