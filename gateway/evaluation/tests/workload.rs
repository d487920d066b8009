//! The workload against its source: the authors' hourly batch sizes (Heronalps/STOIC, Apache-2.0). They lie outside the
//! repository; without them these tests say so and pass.

// In a test an unwrap is an assertion; clippy sees that only inside `#[test]`.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use stoic_evaluation::log;
use stoic_evaluation::workload::{Activity, Sizes, arrivals, kolmogorov_smirnov};

fn shared(name: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../../shared/data/stoic")
        .join(name);
    if path.is_file() {
        return Some(path);
    }
    println!("skipped: {} is not there", path.display());
    None
}

#[test]
fn draws_follow_the_source() {
    let Some(path) = shared("hourly_batch_sizes_nonzero.csv") else {
        return;
    };
    let source = log::sizes(&path).unwrap();
    assert_eq!(source.len(), 9125);
    let sizes = Sizes::of(&source).unwrap();
    for seed in 0..20 {
        let test = kolmogorov_smirnov(&sizes.draws(5000, seed), &source);
        assert!(test.p_value > 0.001, "seed {seed}: {test:?}");
    }
    // The test would see a workload that is off by a tenth.
    let off: Vec<u32> = sizes
        .draws(5000, 1)
        .iter()
        .map(|size| size * 11 / 10)
        .collect();
    assert!(kolmogorov_smirnov(&off, &source).p_value < 1e-6);
}

#[test]
fn the_embedded_table_follows_the_source() {
    let Some(path) = shared("hourly_batch_sizes_nonzero.csv") else {
        return;
    };
    let source = log::sizes(&path).unwrap();
    let test = kolmogorov_smirnov(&Sizes::embedded().draws(20_000, 7), &source);
    assert!(test.distance < 0.02 && test.p_value > 0.01, "{test:?}");
}

#[test]
fn arrivals_have_the_activity_of_the_source() {
    let (Some(sizes), Some(activity)) = (
        shared("hourly_batch_sizes_nonzero.csv"),
        shared("hourly_activity_mean.csv"),
    ) else {
        return;
    };
    let sizes = Sizes::of(&log::sizes(&sizes).unwrap()).unwrap();
    let means = log::hourly_activity(&activity).unwrap();
    let all: Vec<_> = arrivals(
        &sizes,
        &Activity::of(&means, stoic_evaluation::workload::EMPTY_HOURS),
        20_000,
        3,
    )
    .collect();
    for (hour, published) in means.iter().enumerate() {
        let (mut images, mut hours) = (0.0, 0.0);
        for arrival in all.iter().filter(|a| a.hour % 24 == hour as u64) {
            images += f64::from(arrival.images);
            hours += 1.0;
        }
        let mean = images / hours;
        assert!(
            (mean - published).abs() < 0.1 * published,
            "{hour}: {mean} for {published}"
        );
    }
    let drawn: Vec<u32> = all
        .iter()
        .map(|a| a.images)
        .filter(|images| *images > 0)
        .collect();
    let some: Vec<u32> = drawn.into_iter().take(20_000).collect();
    let source = log::sizes(&shared("hourly_batch_sizes_nonzero.csv").unwrap()).unwrap();
    assert!(kolmogorov_smirnov(&some, &source).p_value > 0.01);
}
