//! What placement costs: a decision in the request path, and the refits off it.

use divan::{Bencher, black_box};
use stoic_placement::*;

fn main() {
    divan::main();
}

/// Deployment times as on a shared cluster: a grid of 3 s with a long tail.
fn deployments(count: usize) -> Vec<f64> {
    (0..count)
        .map(|i| 15.4 + 3.0 * ((i * 7919) % 11) as f64 + if i % 37 == 0 { 70.0 } else { 0.0 })
        .collect()
}

fn runs(count: usize) -> Vec<(f64, f64)> {
    (0..count)
        .map(|i| {
            let items = 5.0 + ((i * 7919) % 170) as f64;
            let noise = 1.0 + 0.05 * ((i * 31) % 7) as f64 / 7.0;
            let outlier = if i % 6 == 0 { 90.0 } else { 0.0 };
            (items, (0.33 * items + 28.0) * noise + outlier)
        })
        .collect()
}

fn processing(count: usize) -> ProcessingHistory {
    let mut history = ProcessingHistory::new(ProcessingConfig::default(), 1);
    for (items, seconds) in runs(count) {
        history.push(items, seconds);
    }
    history
}

fn deployment(count: usize) -> DeploymentHistory {
    let mut history = DeploymentHistory::default();
    for seconds in deployments(count) {
        history.push(seconds);
    }
    history
}

/// From fitted models to a choice over four runtimes.
#[divan::bench]
fn decide_over_four_runtimes(bencher: Bencher<'_, '_>) {
    let processing = processing(60).fit();
    let deployment = deployment(300).fit();
    let mut bandwidth = Bandwidth::new(LinkConfig::default());
    for i in 0..32 {
        bandwidth.observe(4e6 + f64::from(i), 0.5, f64::from(i));
    }
    let link = bandwidth.fit(33.0);
    let candidates = ["edge", "cpu", "gpu1", "gpu2"].map(|runtime| CandidateInput {
        runtime,
        available: true,
        queueing: Part::ZERO,
        link: &link,
        deployment: Some(&deployment),
        processing: &processing,
    });
    bencher.bench(|| {
        decide(
            black_box(&candidates),
            black_box(&Features::new(64.0, 13.6e6)),
            Mode::selector(),
        )
    });
}

/// Names of many runtimes.
fn names(count: usize) -> Vec<String> {
    (0..count).map(|i| format!("r{i}")).collect()
}

/// From loads and fitted models to a choice: what the gateway runs for each request. A third of the pools are busy, with
/// two running and one waiting; the others would start a pod, some with one on its way.
fn place_over(bencher: Bencher<'_, '_>, count: usize) {
    let processing = processing(60).fit();
    let deployment = deployment(300).fit();
    let mut bandwidth = Bandwidth::new(LinkConfig::default());
    for i in 0..32 {
        bandwidth.observe(4e6 + f64::from(i), 0.5, f64::from(i));
    }
    let link = bandwidth.fit(33.0);
    let names = names(count);
    let running = [(50.0, 12.0), (30.0, 4.0)];
    let candidates: Vec<PoolInput<'_>> = names
        .iter()
        .enumerate()
        .map(|(index, runtime)| PoolInput {
            runtime,
            available: index % 7 != 6,
            load: if index % 3 == 0 {
                Load {
                    places: 2,
                    running: &running,
                    waiting: &[20.0],
                    ..Load::default()
                }
            } else {
                Load {
                    may_grow: true,
                    deploying_s: (index % 2 == 0).then_some(3.0),
                    ..Load::default()
                }
            },
            link: &link,
            deployment: Some(&deployment),
            processing: Some(&processing),
        })
        .collect();
    bencher.bench(|| {
        place(
            black_box(&candidates),
            black_box(&Features::new(64.0, 13.6e6)),
            Mode::selector(),
        )
    });
}

/// As the gateway places: at most 2 us.
#[divan::bench]
fn place_over_four_runtimes(bencher: Bencher<'_, '_>) {
    place_over(bencher, 4);
}

/// The same over a thousand: at most 200 us.
#[divan::bench]
fn place_over_a_thousand_runtimes(bencher: Bencher<'_, '_>) {
    place_over(bencher, 1000);
}

/// A choice by deadline and price over four estimates.
#[divan::bench]
fn choose_by_deadline_over_four(bencher: Bencher<'_, '_>) {
    let (processing, deployment) = (processing(60).fit(), deployment(300).fit());
    let estimate = Estimate::of(
        Part::ZERO,
        Part::exact(3.0),
        deployment.predict(),
        processing.predict(64.0),
    );
    let candidates = ["edge", "cpu", "gpu1", "gpu2"].map(|runtime| Candidate {
        runtime,
        available: true,
        estimate: Some(&estimate),
    });
    let goal = Goal {
        deadline_s: Some(90.0),
        chance: Some(0.9),
        prices: &[0.0, 0.1, 0.5, 1.0],
        seconds_per_price: 2.0,
        ..Goal::default()
    };
    bencher.bench(|| choose(black_box(&candidates), Mode::Goal(black_box(goal))));
}

/// Mode auto over an edge and three cloud runtimes: every mode is forecast.
#[divan::bench]
fn auto_over_four_runtimes(bencher: Bencher<'_, '_>) {
    use stoic_placement::modes::{Place, Spending, Work, auto};
    let (processing, deployment) = (processing(60).fit(), deployment(300).fit());
    let cloud = Estimate::of(
        Part::ZERO,
        Part::exact(3.0),
        deployment.predict(),
        processing.predict(64.0),
    );
    let here = Estimate::of(Part::ZERO, Part::ZERO, Part::ZERO, Part::exact(106.0));
    let places = ["edge", "cpu", "gpu1", "gpu2"].map(|runtime| Place {
        runtime,
        available: true,
        edge: runtime == "edge",
        estimate: if runtime == "edge" { &here } else { &cloud },
        start_s: 13.0,
        sharing: cooperative::Sharing::default(),
        units: 1,
        price_per_s: 0.0,
    });
    let work = Work {
        items: 64,
        divisible: true,
        repeatable: true,
    };
    bencher.bench(|| auto(black_box(&places), &work, &Spending::default()));
}

/// Waiting time with a full runtime and a line of ten.
#[divan::bench]
fn queue_of_ten_over_four_slots(bencher: Bencher<'_, '_>) {
    let part = processing(60).fit().predict(50.0);
    let running = [Running {
        total: part,
        elapsed_s: 3.0,
    }; 4];
    bencher.bench(|| queueing(black_box(4), black_box(&running), black_box(&[part; 10])));
}

/// One new processing measurement: judged, refitted inside RANSAC, published.
#[divan::bench]
fn refit_processing(bencher: Bencher<'_, '_>) {
    let history = processing(60);
    bencher
        .with_inputs(|| history.clone())
        .bench_local_values(|mut history| {
            history.push(black_box(70.0), black_box(51.0));
            (history.fit(), history)
        });
}

/// One new deployment measurement without calibration, published.
#[divan::bench]
fn push_deployment(bencher: Bencher<'_, '_>) {
    let history = deployment(300);
    bencher
        .with_inputs(|| history.clone())
        .bench_local_values(|mut history| {
            history.push(black_box(24.4));
            (history.fit(), history)
        });
}

/// A log of deployments replayed: each is predicted, then taken in. Time is per
/// 1000 measurements; 10 ms are 100,000 a second.
#[divan::bench]
fn replay_1000_deployments(bencher: Bencher<'_, '_>) {
    let log = deployments(1000);
    bencher.bench(|| {
        let mut history = DeploymentHistory::default();
        let mut sum = 0.0;
        for &seconds in black_box(&log) {
            sum += history.fit().predict().mean;
            history.push(seconds);
        }
        sum
    });
}

/// A log of runs replayed likewise.
#[divan::bench]
fn replay_1000_runs(bencher: Bencher<'_, '_>) {
    let log = runs(1000);
    bencher.bench(|| {
        let mut history = ProcessingHistory::new(ProcessingConfig::default(), 1);
        let mut sum = 0.0;
        for &(items, seconds) in black_box(&log) {
            sum += history.fit().predict(items).mean;
            history.push(items, seconds);
        }
        sum
    });
}

/// Runs with a step, where boosted trees rule and are grown after every ten.
fn steps(count: usize) -> Vec<(f64, f64)> {
    runs(count)
        .into_iter()
        .map(|(items, _)| (items, if items > 90.0 { 60.0 } else { 10.0 } + 0.1 * items))
        .collect()
}

/// A log of these replayed.
#[divan::bench]
fn replay_1000_runs_by_trees(bencher: Bencher<'_, '_>) {
    let log = steps(1000);
    bencher.bench(|| {
        let mut history = ProcessingHistory::new(ProcessingConfig::default(), 1);
        let mut sum = 0.0;
        for &(items, seconds) in black_box(&log) {
            sum += history.fit().predict(items).mean;
            history.push(items, seconds);
        }
        sum
    });
}

/// One new measurement after which the trees are not due, and one after which
/// they are, of a function on which they rule.
#[divan::bench(args = [308, 309])]
fn refit_processing_by_trees(bencher: Bencher<'_, '_>, count: usize) {
    let mut history = ProcessingHistory::new(ProcessingConfig::default(), 1);
    for (items, seconds) in steps(count) {
        history.push(items, seconds);
    }
    assert_eq!(history.fit().basis().estimator, "boosted_trees");
    bencher
        .with_inputs(|| history.clone())
        .bench_local_values(|mut history| {
            history.push(black_box(70.0), black_box(17.0));
            (history.fit(), history)
        });
}

/// The trees due where runs also tell their bytes and pixels: not grouped.
#[divan::bench]
fn refit_processing_by_trees_of_three_measures(bencher: Bencher<'_, '_>) {
    let mut history = ProcessingHistory::new(ProcessingConfig::default(), 1);
    let told = |items: f64, index: usize| RunFeatures {
        bytes: Some(items * (1e5 + 1e3 * (index % 13) as f64)),
        pixels: Some(items * (1e6 + 1e5 * (index % 7) as f64)),
        ..RunFeatures::of_items(items)
    };
    for (index, (items, seconds)) in steps(309).into_iter().enumerate() {
        history.observe(&Run {
            features: told(items, index),
            seconds,
        });
    }
    assert_eq!(history.fit().basis().estimator, "boosted_trees");
    bencher
        .with_inputs(|| history.clone())
        .bench_local_values(|mut history| {
            history.observe(&Run {
                features: told(black_box(70.0), 309),
                seconds: black_box(17.0),
            });
            (history.fit(), history)
        });
}

/// A decision over four runtimes on which they rule.
#[divan::bench]
fn decide_over_four_runtimes_by_trees(bencher: Bencher<'_, '_>) {
    let mut history = ProcessingHistory::new(ProcessingConfig::default(), 1);
    for (items, seconds) in steps(300) {
        history.push(items, seconds);
    }
    let (processing, deployment) = (history.fit(), deployment(300).fit());
    let link = Bandwidth::new(LinkConfig::default()).fit(33.0);
    let candidates = ["edge", "cpu", "gpu1", "gpu2"].map(|runtime| CandidateInput {
        runtime,
        available: true,
        queueing: Part::ZERO,
        link: &link,
        deployment: Some(&deployment),
        processing: &processing,
    });
    bencher.bench(|| {
        decide(
            black_box(&candidates),
            black_box(&Features::new(64.0, 13.6e6)),
            Mode::selector(),
        )
    });
}

/// The paper's own method on the same runs.
#[divan::bench]
fn replay_1000_runs_by_the_paper(bencher: Bencher<'_, '_>) {
    let log = runs(1000);
    bencher.bench(|| {
        let mut history = paper::Processing::new(1);
        let mut sum = 0.0;
        for &(items, seconds) in black_box(&log) {
            sum += history.predict(items).mean;
            history.push(items, seconds);
        }
        sum
    });
}

/// One re-calibration over 100 measurements and 100 widths of both methods.
#[divan::bench]
fn recalibrate_deployment(bencher: Bencher<'_, '_>) {
    let history = deployment(300);
    bencher
        .with_inputs(|| history.clone())
        .bench_local_values(|mut history| {
            history.calibrate();
            history
        });
}
