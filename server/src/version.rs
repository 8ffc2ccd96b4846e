//! Which etcd this is, for those who ask.

/// The version of etcd whose behaviour clients find here.
///
/// It is shown wherever etcd shows its own. Kubernetes reads it as a semantic version and wants 3.5.13 or later
/// before it trusts progress notifications; Patroni splits it at the dots and reads three integers: no suffix.
pub const ETCD_VERSION: &str = "3.7.3";

/// The version of Cairn.
pub const CAIRN_VERSION: &str = env!("CARGO_PKG_VERSION");

/// The commit that was built, if whoever built it set `CAIRN_GIT_SHA`.
pub const GIT_SHA: &str = match option_env!("CAIRN_GIT_SHA") {
    Some(sha) => sha,
    None => "Not provided",
};

/// The oldest Rust that can have built this. A build script could tell which one did; there is none.
pub const RUST_VERSION: &str = env!("CARGO_PKG_RUST_VERSION");

/// The machine's architecture under Go's name, which scripts compare with.
pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_three_integers_and_new_enough_for_kubernetes() {
        let numbers: Vec<u32> = ETCD_VERSION.split('.').map(|part| part.parse().unwrap()).collect();
        assert_eq!(numbers.len(), 3);
        assert!(numbers >= vec![3, 5, 13]);
    }
}
