//! The engine's state machine against the reference model: random commands, and nothing may differ.
//!
//! Every test runs from a seed that it names when it fails; `PROPTEST_RNG_SEED` runs it from another one, and
//! `PROPTEST_CASES` for longer.

mod coverage;
mod generate;
mod large;
mod pair;
mod snapshots;
mod state_machine;
mod sweeps;

use core::fmt::Debug;

use proptest::strategy::Strategy;
use proptest::test_runner::{Config, RngSeed, TestError, TestRunner};

/// The seed unless `PROPTEST_RNG_SEED` names one.
const SEED: u64 = 0x00ca_112e;

/// Runs `test` on so many random values, from a seed that is named if it fails.
fn check<S: Strategy>(cases: u32, strategy: &S, test: impl Fn(S::Value))
where
    S::Value: Debug,
{
    let mut config = Config { failure_persistence: None, ..Config::default() };
    if config.rng_seed == RngSeed::Random {
        config.rng_seed = RngSeed::Fixed(SEED);
    }
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = cases;
    }
    let seed = config.rng_seed;
    let result = TestRunner::new(config).run(strategy, |value| {
        test(value);
        Ok(())
    });
    match result {
        Ok(()) => {}
        Err(TestError::Fail(why, value)) => panic!("{seed:?}: {why}\n{value:#?}"),
        Err(TestError::Abort(why)) => panic!("{seed:?}: {why}"),
    }
}
