//! What a run is made of, by name: as a plan says it.

use core::fmt::Debug;
use core::str::FromStr;
use core::time::Duration;

use cairn_engine::auto_compact::AutoCompaction;

use super::{Fault, Kind, Swarm};

/// A setting, where it is kept.
enum Field<'a> {
    Number(&'a mut u64),
    Small(&'a mut u16),
    Size(&'a mut usize),
    Flag(&'a mut bool),
    Time(&'a mut Duration),
    Maybe(&'a mut Option<u64>),
    Compaction(&'a mut Option<AutoCompaction>),
    Faults(&'a mut Vec<(Fault, u64)>),
    Mixture(&'a mut Vec<(Kind, u64)>),
}

/// What is not there.
const NONE: &str = "none";

impl Swarm {
    /// Each setting, by its name, as text without blanks.
    pub fn settings(&self) -> Vec<(&'static str, String)> {
        let mut copy = self.clone();
        copy.fields().into_iter().map(|(name, field)| (name, field.text())).collect()
    }

    /// Sets one.
    ///
    /// # Errors
    /// If there is none of this name, or the value is none of it; the text says so.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        let field = self.fields().into_iter().find(|(known, _)| *known == name);
        let (_, field) = field.ok_or_else(|| format!("there is no setting {name:?}"))?;
        field.set(value).ok_or_else(|| format!("{value:?} is no value of {name}"))
    }

    fn fields(&mut self) -> Vec<(&'static str, Field<'_>)> {
        use Field::{
            Compaction, Faults, Flag, Maybe, Mixture, Number as N, Size as S, Small, Time,
        };
        let (delays, network, limits, work) =
            (&mut self.delays, &mut self.network, &mut self.limits, &mut self.work);
        vec![
            ("members", N(&mut self.members)),
            ("operate_every_ns", N(&mut self.operate_every_ns)),
            ("strict_reconfig_check", Flag(&mut self.strict_reconfig_check)),
            ("shards", Small(&mut self.shards)),
            ("span_ns", N(&mut self.span_ns)),
            ("write_ns", N(&mut delays.write_ns)),
            ("hop_ns", N(&mut delays.hop_ns)),
            ("delay_ns", N(&mut network.delay_ns)),
            ("jitter_ns", N(&mut network.jitter_ns)),
            ("loss_one_in", N(&mut network.loss_one_in)),
            ("double_one_in", N(&mut network.double_one_in)),
            ("straggle_one_in", N(&mut network.straggle_one_in)),
            ("request_bytes_max", S(&mut limits.request_bytes_max)),
            ("proposed_bytes_max", S(&mut limits.proposed_bytes_max)),
            ("log_memory_bytes", S(&mut limits.log_memory_bytes)),
            ("log_needed_bytes_max", S(&mut limits.log_needed_bytes_max)),
            ("snapshot_in_flight_bytes", N(&mut limits.snapshot_in_flight_bytes)),
            ("snapshot_bytes_per_second", N(&mut limits.snapshot_bytes_per_second)),
            ("quota_bytes", Maybe(&mut limits.quota_bytes)),
            ("segment_bytes", N(&mut limits.segment_bytes)),
            ("first_segment_bytes", N(&mut limits.first_segment_bytes)),
            ("snapshot_log_bytes", N(&mut limits.snapshot_log_bytes)),
            ("sweep_changes_max", S(&mut limits.sweep_changes_max)),
            ("expire_leases_max", S(&mut limits.expire_leases_max)),
            ("expire_keys_max", S(&mut limits.expire_keys_max)),
            ("append_bytes_max", S(&mut limits.append_bytes_max)),
            ("appends_in_flight_max", S(&mut limits.appends_in_flight_max)),
            ("watch_fragment_bytes", S(&mut limits.watch_fragment_bytes)),
            ("watch_credit_bytes", S(&mut limits.watch_credit_bytes)),
            ("watch_connection_credit_bytes", S(&mut limits.watch_connection_credit_bytes)),
            ("watch_progress_interval_ns", Time(&mut limits.watch_progress_interval)),
            ("token_ttl_ns", Time(&mut limits.token_ttl)),
            ("election_timeout_ns", Time(&mut self.election_timeout)),
            ("auto_compaction", Compaction(&mut self.auto_compaction)),
            ("fault_every_ns", N(&mut self.fault_every_ns)),
            ("faults", Faults(&mut self.faults)),
            ("storm_every_ns", N(&mut self.storm_every_ns)),
            ("backup_every_ns", N(&mut self.backup_every_ns)),
            ("watch_users", Flag(&mut self.watch_users)),
            ("versions", Flag(&mut self.versions)),
            ("hunt_one_in", N(&mut self.hunt_one_in)),
            ("drift_ppm_max", N(&mut self.drift_ppm_max)),
            ("clients", N(&mut work.clients)),
            ("think_ns_max", N(&mut work.think_ns_max)),
            ("keys", N(&mut work.keys)),
            ("value_bytes_max", N(&mut work.value_bytes_max)),
            ("mixture", Mixture(&mut work.mixture)),
            ("streams", N(&mut work.streams)),
            ("watch_think_ns_max", N(&mut work.watch_think_ns_max)),
            ("reading_ns_max", N(&mut work.reading_ns_max)),
            ("leases", N(&mut work.leases)),
            ("ttl_max", N(&mut work.ttl_max)),
            ("auth_one_in", N(&mut work.auth_one_in)),
        ]
    }
}

impl Field<'_> {
    fn text(&self) -> String {
        match self {
            Self::Number(value) => value.to_string(),
            Self::Small(value) => value.to_string(),
            Self::Size(value) => value.to_string(),
            Self::Flag(value) => value.to_string(),
            Self::Time(value) => value.as_nanos().to_string(),
            Self::Maybe(value) => value.map_or_else(|| NONE.to_owned(), |value| value.to_string()),
            Self::Compaction(None) => NONE.to_owned(),
            Self::Compaction(Some(AutoCompaction::Periodic(every))) => {
                format!("every:{}", every.as_nanos())
            }
            Self::Compaction(Some(AutoCompaction::Revisions(kept))) => format!("keep:{kept}"),
            Self::Faults(weights) => weights_text(weights),
            Self::Mixture(weights) => weights_text(weights),
        }
    }

    fn set(self, value: &str) -> Option<()> {
        match self {
            Self::Number(place) => put(place, value),
            Self::Small(place) => put(place, value),
            Self::Size(place) => put(place, value),
            Self::Flag(place) => put(place, value),
            Self::Time(place) => {
                *place = Duration::from_nanos(value.parse().ok()?);
                Some(())
            }
            Self::Maybe(place) => {
                *place = if value == NONE { None } else { Some(value.parse().ok()?) };
                Some(())
            }
            Self::Compaction(place) => {
                *place = match value.split_once(':') {
                    None if value == NONE => None,
                    Some(("every", ns)) => {
                        Some(AutoCompaction::Periodic(Duration::from_nanos(ns.parse().ok()?)))
                    }
                    Some(("keep", kept)) => Some(AutoCompaction::Revisions(kept.parse().ok()?)),
                    _ => return None,
                };
                Some(())
            }
            Self::Faults(place) => {
                *place = weights(value, &Fault::ALL)?;
                Some(())
            }
            Self::Mixture(place) => {
                *place = weights(value, &Kind::ALL)?;
                Some(())
            }
        }
    }
}

fn put<T: FromStr>(place: &mut T, value: &str) -> Option<()> {
    *place = value.parse().ok()?;
    Some(())
}

/// `Crash:3,Pause:1`; nothing is `none`.
fn weights_text<T: Debug>(weights: &[(T, u64)]) -> String {
    let all: Vec<_> = weights.iter().map(|(what, weight)| format!("{what:?}:{weight}")).collect();
    if all.is_empty() { NONE.to_owned() } else { all.join(",") }
}

fn weights<T: Copy + Debug>(text: &str, all: &[T]) -> Option<Vec<(T, u64)>> {
    if text == NONE {
        return Some(Vec::new());
    }
    let one = |part: &str| {
        let (name, weight) = part.split_once(':')?;
        let what = all.iter().find(|one| format!("{one:?}") == name)?;
        Some((*what, weight.parse().ok()?))
    };
    text.split(',').map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_swarm_is_what_its_settings_say() {
        for seed in 0..200 {
            let swarm = Swarm::from_seed(seed);
            let mut other = Swarm::from_seed(seed + 1);
            for (name, value) in swarm.settings() {
                other.set(name, &value).unwrap();
            }
            assert_eq!(format!("{other:?}"), format!("{swarm:?}"));
        }
    }

    #[test]
    fn what_is_no_setting_or_no_value_is_refused() {
        let mut swarm = Swarm::from_seed(1);
        for (name, value) in [
            ("colour", "red"),
            ("members", "many"),
            ("shards", "70000"),
            ("faults", "Crash"),
            ("faults", "Nap:1"),
            ("auto_compaction", "often"),
        ] {
            assert!(swarm.set(name, value).is_err(), "{name} {value}");
        }
    }
}
