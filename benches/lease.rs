//! Leases among a hundred thousand: granting, renewing, and finding those that end.

use cairn_engine::LeaseId;
use cairn_engine::lease::{ClusterTime, Lease, Lessor};

/// Leases that are there.
const LEASES: i64 = 100_000;

fn lease(number: i64) -> Lease {
    let deadline = ClusterTime(number.unsigned_abs().wrapping_mul(0x9e37_79b9) % 1_000_000_000);
    Lease { id: LeaseId(number), ttl: 60, deadline }
}

fn main() {
    let mut criterion = cairn_benches::criterion();
    let mut lessor = Lessor::default();
    for number in 1..=LEASES {
        lessor.grant(lease(number)).expect("it is new");
    }
    let mut next = LEASES;
    criterion.bench_function("lease grant and end one of 100,000", |bencher| {
        bencher.iter(|| {
            next += 1;
            lessor.grant(lease(next)).expect("it is new");
            lessor.remove(LeaseId(next));
        });
    });
    let (mut number, mut now) = (0, 0);
    criterion.bench_function("lease renew one of 100,000", |bencher| {
        bencher.iter(|| {
            (number, now) = (number % LEASES + 1, now + 1);
            lessor.renew(LeaseId(number), ClusterTime(now)).expect("it is there")
        });
    });
    criterion.bench_function("lease find 1000 that end", |bencher| {
        bencher.iter(|| lessor.expired(ClusterTime(u64::MAX), 1000, 1000).len());
    });
    criterion.bench_function("lease find none that ends", |bencher| {
        bencher.iter(|| lessor.expired(ClusterTime(0), 1000, 1000).len());
    });
    criterion.final_summary();
}
