//! How fast a log is replayed: measurements per second, each predicted before it is learnt.

// Benches have no readers of their documentation.
#![allow(missing_docs)]

use divan::Bencher;
use divan::counter::ItemsCount;
use stoic_evaluation::log::Runs;
use stoic_evaluation::replay::method::{Method, Ours, Paper};
use stoic_evaluation::simulate::{Scenario, log};

const BATCHES: usize = 2_500;

fn main() {
    divan::main();
}

fn replay(runs: &Runs, mut method: impl Method) -> f64 {
    let mut sum = 0.0;
    for run in &runs.rows {
        sum += method.predict(run.runtime, run.items).response.mean;
        method.learn(run.runtime, run.items, run.epoch, &run.actual);
    }
    sum
}

#[divan::bench]
fn ours(bencher: Bencher<'_, '_>) {
    let runs = log(&Scenario::nautilus(), BATCHES, 1);
    bencher
        .counter(ItemsCount::new(runs.rows.len()))
        .bench(|| replay(&runs, Ours::new(1)));
}

#[divan::bench]
fn paper(bencher: Bencher<'_, '_>) {
    let runs = log(&Scenario::nautilus(), BATCHES, 1);
    bencher
        .counter(ItemsCount::new(runs.rows.len()))
        .bench(|| replay(&runs, Paper::new(1)));
}
