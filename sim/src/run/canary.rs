//! The canary: a run in which one answer is a lie, so that it is known that somebody listens.
//!
//! A fleet that finds nothing may have nothing to find, or be blind. Under [`Plan::canary`](super::Plan::canary) the world
//! changes what members answer, after a while: each revision is told one too high. Every such run must fail.

use cairn_engine::api::Response;

use super::{Phase, Run, SECOND};
use crate::world::Observation;

/// It sings from here on, or from when the faults end, if that is earlier: by then there is something to see.
const SINGS_NS: u64 = 2 * SECOND;

impl Run {
    /// What is observed, or a lie.
    pub(super) fn sing(&self, mut observation: Observation) -> Observation {
        let is_late = self.world.now_ns() >= SINGS_NS || self.phase == Phase::Calm;
        let sings = self.canary && is_late;
        if let Observation::Reply {
            result: Ok(answer @ (Response::Put(_) | Response::Range(_))),
            ..
        } = &mut observation
            && sings
            && let Some(header) = answer.header_mut()
        {
            header.revision += 1;
        }
        observation
    }
}
