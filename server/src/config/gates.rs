//! Feature gates: etcd's switches for what is not yet, or no longer, always on.

use core::fmt;
use std::collections::BTreeMap;

use crate::config::scalar;

/// A feature that etcd can switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Feature {
    /// Compare hashes of compactions between members.
    CompactHashCheck,
    /// Renew leases without waiting for the applied index.
    FastLeaseKeepAlive,
    /// Compare data with other members before serving.
    InitialCorruptCheck,
    /// Replicate the remaining time of leases.
    LeaseCheckpoint,
    /// Keep it in snapshots.
    LeaseCheckpointPersist,
    /// Let some requests pass others under load.
    PriorityRequest,
    /// Dial peers from the address that is advertised to them.
    SetMemberLocalAddr,
    /// Refuse requests while defragmenting.
    StopGrpcServiceOnDefrag,
    /// Check transactions against the write buffer.
    TxnModeWriteWithSharedBuffer,
}

/// Which features are on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FeatureGates {
    chosen: BTreeMap<Feature, bool>,
    /// Whether all features of a stage were switched on.
    all_alpha: bool,
    all_beta: bool,
}

/// One entry of `--feature-gates`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gate {
    One(Feature),
    /// Every feature of a stage that has no entry of its own.
    All(Stage),
}

/// How far a feature has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    Alpha,
    Beta,
}

/// Why a list of gates is none. The texts are etcd's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum GateError {
    NoValue(String),
    NotBool(String, String),
    Unknown(String),
}

struct Row {
    feature: Feature,
    name: &'static str,
    default: bool,
    stage: Stage,
    /// Why switching it changes nothing in Cairn.
    without_effect: &'static str,
}

/// Reads `Name=bool,Name=bool`.
pub(crate) fn parse(text: &str) -> Result<Vec<(Gate, bool)>, GateError> {
    let mut gates = Vec::new();
    for entry in text.split(',').filter(|entry| !entry.is_empty()) {
        let Some((name, value)) = entry.split_once('=') else {
            return Err(GateError::NoValue(entry.trim().to_owned()));
        };
        let (name, value) = (name.trim(), value.trim());
        let Some(on) = scalar::parse_bool(value) else {
            return Err(GateError::NotBool(name.to_owned(), value.to_owned()));
        };
        let gate = match name {
            "AllAlpha" => Gate::All(Stage::Alpha),
            "AllBeta" => Gate::All(Stage::Beta),
            name => match ROWS.iter().find(|row| row.name == name) {
                Some(row) => Gate::One(row.feature),
                None => return Err(GateError::Unknown(name.to_owned())),
            },
        };
        gates.push((gate, on));
    }
    Ok(gates)
}

impl FeatureGates {
    /// The gates that a list sets; of two entries for one feature the later counts.
    pub(crate) fn new(gates: &[(Gate, bool)]) -> Self {
        let mut chosen = BTreeMap::new();
        for (gate, on) in gates {
            if let Gate::One(feature) = gate {
                chosen.insert(*feature, *on);
            }
        }
        for (gate, on) in gates {
            if let Gate::All(stage) = gate {
                for row in ROWS.iter().filter(|row| row.stage == *stage) {
                    chosen.entry(row.feature).or_insert(*on);
                }
            }
        }
        let all = |stage| {
            let said = |(gate, on): &(Gate, bool)| (*gate == Gate::All(stage)).then_some(*on);
            gates.iter().rev().find_map(said).unwrap_or_default()
        };
        Self { chosen, all_alpha: all(Stage::Alpha), all_beta: all(Stage::Beta) }
    }

    /// Whether a feature is on.
    pub fn is_on(&self, feature: Feature) -> bool {
        let default = || ROWS.iter().any(|row| row.feature == feature && row.default);
        self.chosen.get(&feature).copied().unwrap_or_else(default)
    }

    /// All features as metrics show them: name, stage, and whether it is on.
    pub(crate) fn shown(&self) -> impl Iterator<Item = (&'static str, &'static str, bool)> {
        let features = ROWS.iter().map(|row| {
            let stage = match row.stage {
                Stage::Alpha => "ALPHA",
                Stage::Beta => "BETA",
            };
            (row.name, stage, self.is_on(row.feature))
        });
        let stages = [("AllAlpha", "ALPHA", self.all_alpha), ("AllBeta", "BETA", self.all_beta)];
        stages.into_iter().chain(features)
    }

    /// The features that were switched away from their default and yet do as they always do, with the reasons.
    pub(crate) fn without_effect(&self) -> Vec<(&'static str, &'static str)> {
        let switched = |row: &&Row| self.is_on(row.feature) != row.default;
        ROWS.iter().filter(switched).map(|row| (row.name, row.without_effect)).collect()
    }
}

impl fmt::Display for FeatureGates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, (feature, on)) in self.chosen.iter().enumerate() {
            let comma = if number == 0 { "" } else { "," };
            let name = ROWS.iter().find(|row| row.feature == *feature).map_or("", |row| row.name);
            write!(f, "{comma}{name}={on}")?;
        }
        Ok(())
    }
}

impl fmt::Display for GateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoValue(name) => write!(f, "missing bool value for {name}"),
            Self::NotBool(name, value) => {
                write!(f, "invalid value of {name}={value}, err: ")?;
                write!(f, "strconv.ParseBool: parsing {value:?}: invalid syntax")
            }
            Self::Unknown(name) => write!(f, "unrecognized feature gate: {name}"),
        }
    }
}

/// The names of all features, with stage and default, for people.
pub(crate) fn described() -> impl Iterator<Item = String> {
    ROWS.iter().map(|row| {
        let stage = match row.stage {
            Stage::Alpha => "alpha",
            Stage::Beta => "beta",
        };
        format!("{}=true|false ({stage}, default {})", row.name, row.default)
    })
}

/// In the order of the names, which is that of [`Feature`].
#[rustfmt::skip] // A table reads as a table.
const ROWS: [Row; 9] = [
    Row { feature: Feature::CompactHashCheck, name: "CompactHashCheck", default: false, stage: Stage::Alpha,
          without_effect: "members always compare digests of their states" },
    Row { feature: Feature::FastLeaseKeepAlive, name: "FastLeaseKeepAlive", default: true, stage: Stage::Beta,
          without_effect: "renewing a lease never waits for the applied index" },
    Row { feature: Feature::InitialCorruptCheck, name: "InitialCorruptCheck", default: false, stage: Stage::Alpha,
          without_effect: "members always compare digests of their states, from the start" },
    Row { feature: Feature::LeaseCheckpoint, name: "LeaseCheckpoint", default: false, stage: Stage::Alpha,
          without_effect: "leases always keep their deadline when the leader changes" },
    Row { feature: Feature::LeaseCheckpointPersist, name: "LeaseCheckpointPersist", default: false, stage: Stage::Alpha,
          without_effect: "leases always keep their deadline when the leader changes" },
    Row { feature: Feature::PriorityRequest, name: "PriorityRequest", default: false, stage: Stage::Alpha,
          without_effect: "what may pass other requests is fixed" },
    Row { feature: Feature::SetMemberLocalAddr, name: "SetMemberLocalAddr", default: false, stage: Stage::Alpha,
          without_effect: "the system chooses the address from which peers are dialed" },
    Row { feature: Feature::StopGrpcServiceOnDefrag, name: "StopGRPCServiceOnDefrag", default: false, stage: Stage::Alpha,
          without_effect: "defragmentation does not stop requests, so there is nothing to refuse" },
    Row { feature: Feature::TxnModeWriteWithSharedBuffer, name: "TxnModeWriteWithSharedBuffer", default: true, stage: Stage::Beta,
          without_effect: "transactions need no buffer of their own" },
];

#[cfg(test)]
mod tests {
    use super::*;

    fn gates(text: &str) -> FeatureGates {
        FeatureGates::new(&parse(text).unwrap())
    }

    #[test]
    fn gates_have_etcds_defaults() {
        let on = ROWS.iter().filter(|row| gates("").is_on(row.feature)).map(|row| row.name);
        assert_eq!(on.collect::<Vec<_>>(), ["FastLeaseKeepAlive", "TxnModeWriteWithSharedBuffer"]);
        assert!(ROWS.is_sorted_by_key(|row| row.feature));
    }

    #[test]
    fn an_entry_counts_more_than_its_stage() {
        let chosen = gates("PriorityRequest=false,AllAlpha=true, LeaseCheckpoint = T ,,AllBeta=0");
        assert!(!chosen.is_on(Feature::PriorityRequest));
        assert!(chosen.is_on(Feature::CompactHashCheck));
        assert!(!chosen.is_on(Feature::FastLeaseKeepAlive));
        assert_eq!(
            gates("CompactHashCheck=1,CompactHashCheck=0").to_string(),
            "CompactHashCheck=false"
        );
    }

    #[test]
    fn what_is_no_gate_is_refused_in_etcds_words() {
        for (text, why) in [
            ("LeaseCheckpoint", "missing bool value for LeaseCheckpoint"),
            ("Foo=true", "unrecognized feature gate: Foo"),
            (
                "LeaseCheckpoint=x",
                "invalid value of LeaseCheckpoint=x, err: strconv.ParseBool: parsing \"x\": invalid syntax",
            ),
        ] {
            assert_eq!(parse(text).unwrap_err().to_string(), why);
        }
    }

    #[test]
    fn metrics_show_stages_beside_features() {
        let shown = |text| Vec::from_iter(gates(text).shown().filter(|(_, _, on)| *on));
        let alpha = shown("AllAlpha=true");
        assert!(alpha.contains(&("AllAlpha", "ALPHA", true)));
        assert!(alpha.contains(&("LeaseCheckpoint", "ALPHA", true)));
        assert!(!shown("").iter().any(|(name, _, _)| name.starts_with("All")));
    }

    #[test]
    fn a_switch_that_was_moved_is_mentioned() {
        assert_eq!(gates("InitialCorruptCheck=false,FastLeaseKeepAlive=true").without_effect(), []);
        let names = |text| {
            gates(text).without_effect().into_iter().map(|(name, _)| name).collect::<Vec<_>>()
        };
        assert_eq!(names("LeaseCheckpoint=true,AllBeta=true"), ["LeaseCheckpoint"]);
        assert_eq!(names("AllAlpha=true,AllBeta=false").len(), ROWS.len());
    }
}
