//! Prints a simulation: `cargo run --release -p stoic-evaluation --example simulate -- BATCHES SEED [SCENARIO]`.

use std::time::Instant;
use stoic_evaluation::simulate::{Scenario, run_telling};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let batches = arguments.next().map_or(Ok(10_000), |n| n.parse())?;
    let seed = arguments.next().map_or(Ok(1), |n| n.parse())?;
    let scenario = match arguments.next() {
        Some(path) => Scenario::parse(&std::fs::read_to_string(path)?)?,
        None => Scenario::nautilus(),
    };
    let begun = Instant::now();
    let outcome = run_telling(&scenario, batches, seed, &|done, of| {
        eprintln!(
            "{done} of {of} after {:.2} s",
            begun.elapsed().as_secs_f64()
        );
    });
    println!(
        "{batches} batches in {:.2} s, learned from {}",
        begun.elapsed().as_secs_f64(),
        outcome.learned
    );
    for bound in &outcome.fluid {
        println!("fluid bound {:.4}: {}", bound.versus_min_lat, bound.places);
    }
    println!(
        "policy               success  in 5 %    ratio            95 %      own   mean s    p99 s  used h  saved h  lost h  deploy h  failed"
    );
    for row in &outcome.policies {
        let hours = |s: f64| s / 3600.0;
        println!(
            "{:20} {:7.4} {:7.4} {:8.4} {:7.4}-{:7.4} {:8.4} {:8.2} {:8.2} {:7.1} {:8.1} {:7.1} {:9.1} {:7}",
            row.policy,
            row.success.value,
            row.within_5_percent.value,
            row.versus_min_lat.value,
            row.versus_min_lat.low,
            row.versus_min_lat.high,
            row.versus_own_min_lat.value,
            row.total_s / batches as f64,
            row.p99_s,
            hours(row.cloud_used_s),
            hours(row.cloud_saved_s),
            hours(row.cloud_lost_s),
            hours(row.cloud_deploying_s),
            row.failed
        );
    }
    Ok(())
}
