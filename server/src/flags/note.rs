//! What there is to say about settings that a member can start with. Collected while there is no log yet.

use std::path::PathBuf;

/// One line of the log. The texts are etcd's where etcd has one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// A variable was used.
    VariableUsed {
        /// Its name.
        name: String,
        /// What it holds; hidden if it is a secret.
        value: String,
    },
    /// A variable looks like one of ours and is none. Its value is nobody's business: images set passwords this way.
    VariableUnknown(String),
    /// `ETCD_VERSION`, which scripts set for themselves.
    VersionVariable,
    /// A key of the file is no flag's.
    KeyUnknown(String),
    /// A file says everything.
    FileLoaded(PathBuf),
    /// A flag changes nothing.
    WithoutEffect {
        /// Its name.
        flag: &'static str,
        /// Why.
        why: &'static str,
    },
    /// A flag changes nothing in this version.
    NotYet {
        /// Its name.
        flag: &'static str,
        /// Why.
        why: &'static str,
    },
    /// A feature gate changes nothing.
    GateWithoutEffect {
        /// Its name.
        gate: &'static str,
        /// Why.
        why: &'static str,
    },
    /// A flag has another name now.
    Retired {
        /// Its name.
        flag: &'static str,
        /// What it was taken for.
        instead: String,
    },
    /// The data directory has its default name.
    DataDir(PathBuf),
    /// Several members, and this one has the default name.
    DefaultName,
    /// The address that this machine reaches others from is advertised.
    DefaultHost(String),
    /// It could not be found out.
    DefaultHostUnknown(String),
    /// The cost was out of range; the default is taken.
    BcryptCost(u64),
    /// There are fewer cores than asked for.
    Cores {
        /// So many were asked for.
        asked: u64,
        /// So many are used.
        used: usize,
    },
}

impl Note {
    /// Writes it to the log.
    pub fn log(&self) {
        match self {
            Self::VariableUsed { name, value } => tracing::info!(
                variable_name = name,
                variable_value = value,
                "recognized and used environment variable"
            ),
            Self::VariableUnknown(name) => {
                tracing::warn!(environment_variable = name, "unrecognized environment variable");
            }
            Self::VersionVariable => {
                tracing::warn!(key = "ETCD_VERSION", "cannot set special environment variable");
            }
            Self::KeyUnknown(key) => {
                tracing::warn!(key, "unrecognized key in the configuration file");
            }
            Self::FileLoaded(path) => tracing::info!(
                path = %path.display(),
                "loaded server configuration, other configuration command line flags and environment variables will \
                 be ignored if provided"
            ),
            Self::WithoutEffect { flag, why } => {
                tracing::warn!(flag_name = flag, reason = why, "flag has no effect in Cairn");
            }
            Self::NotYet { flag, why } => {
                tracing::warn!(
                    flag_name = flag,
                    reason = why,
                    "flag has no effect in this version"
                );
            }
            Self::GateWithoutEffect { gate, why } => {
                tracing::warn!(
                    feature_gate = gate,
                    reason = why,
                    "feature gate has no effect in Cairn"
                );
            }
            Self::Retired { flag, instead } => {
                tracing::warn!(
                    flag_name = flag,
                    instead,
                    "flag is retired; please use its successor"
                );
            }
            Self::DataDir(path) => {
                tracing::warn!(data_dir = %path.display(), "'data-dir' was empty; using default");
            }
            Self::DefaultName => tracing::warn!(
                name = "default",
                "it isn't recommended to use default name, please set a value for --name; members with the same name \
                 are taken for one"
            ),
            Self::DefaultHost(host) => tracing::info!(host, "detected default host for advertise"),
            Self::DefaultHostUnknown(error) => {
                tracing::info!(error, "failed to detect default host");
            }
            Self::BcryptCost(given) => tracing::warn!(
                min_cost = 4,
                max_cost = 31,
                default_cost = 10,
                given_cost = given,
                "use default bcrypt cost instead of the invalid given cost"
            ),
            Self::Cores { asked, used } => {
                tracing::warn!(asked, used, "there are fewer cores than --cores asks for");
            }
        }
    }
}
