//! What must hold for placement whatever comes in.

// In a test an unwrap is an assertion; clippy sees that only inside `#[test]`.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use stoic_placement::*;

/// Any finite number a clock, a counter or a broken one may give.
fn any_number() -> impl Strategy<Value = f64> {
    prop_oneof![
        4 => 0.0..1000.0,
        1 => Just(0.0),
        1 => Just(1e12),
        1 => Just(f64::MAX),
        1 => Just(f64::MIN_POSITIVE),
        1 => Just(-1.0),
        1 => Just(7.0),
        1 => proptest::num::f64::NORMAL,
    ]
}

fn regime() -> impl Strategy<Value = Regime> {
    (
        any::<Option<bool>>(),
        any::<Option<bool>>(),
        any::<Option<u8>>(),
    )
        .prop_map(|(image_present, standby, hour)| Regime {
            image_present,
            standby,
            hour,
        })
}

fn features() -> impl Strategy<Value = RunFeatures> {
    let maybe = || proptest::option::of(any_number());
    (
        any_number(),
        maybe(),
        maybe(),
        maybe(),
        any::<Option<bool>>(),
    )
        .prop_map(|(items, bytes, pixels, gpus, cold)| RunFeatures {
            items,
            bytes,
            pixels,
            gpus,
            cold,
        })
}

/// Each row (items, deployment, processing, runtime) is predicted, then taken in.
fn replay(rows: &[(f64, f64, f64, usize)]) -> Vec<Estimate> {
    let mut starts: Vec<DeploymentHistory> = (0..3).map(|_| DeploymentHistory::default()).collect();
    let mut runs: Vec<ProcessingHistory> = (0..3)
        .map(|_| ProcessingHistory::new(ProcessingConfig::default(), 5))
        .collect();
    let mut calibrator = ResponseCalibrator::new();
    rows.iter()
        .map(|&(items, deployment, processing, runtime)| {
            let estimate = calibrator.adjust(&Estimate::of(
                Part::ZERO,
                Part::ZERO,
                starts[runtime].fit().predict(),
                runs[runtime].fit().predict(items),
            ));
            calibrator.observe(&estimate, deployment + processing);
            starts[runtime].push(deployment);
            runs[runtime].push(items, processing);
            estimate
        })
        .collect()
}

fn runs(most: usize) -> impl Strategy<Value = Vec<(f64, f64)>> {
    proptest::collection::vec((any_number(), any_number()), 0..most)
}

fn processing(runs: &[(f64, f64)], seed: u64) -> ProcessingModel {
    let mut history = ProcessingHistory::new(ProcessingConfig::default(), seed);
    for &(items, seconds) in runs {
        history.push(items, seconds);
    }
    history.fit()
}

fn deployment(seconds: &[f64], config: DeploymentConfig) -> DeploymentHistory {
    let mut history = DeploymentHistory::new(config);
    for &seconds in seconds {
        history.push(seconds);
    }
    history
}

fn is_sound(part: &Part) -> bool {
    let ends = [
        part.p90.low,
        part.p50.low,
        part.mean,
        part.p50.high,
        part.p90.high,
    ];
    part.p90.low >= 0.0
        && ends.iter().all(|end| end.is_finite())
        && ends.windows(2).all(|pair| pair[0] <= pair[1])
}

#[derive(Debug)]
struct Runtime {
    name: String,
    available: bool,
    queueing: Part,
    link: LinkModel,
    deployment: Option<DeploymentModel>,
    processing: ProcessingModel,
}

prop_compose! {
    fn runtime()(
        available in any::<bool>(),
        queue in any_number(),
        transfers in proptest::collection::vec((any_number(), any_number(), any_number()), 0..6),
        warm in any::<bool>(),
        deployments in proptest::collection::vec(any_number(), 0..30),
        runs in runs(14),
        seed in any::<u64>(),
    ) -> Runtime {
        let mut bandwidth = Bandwidth::new(LinkConfig::default());
        for (bytes, seconds, at) in transfers {
            bandwidth.observe(bytes, seconds, at);
        }
        let cold = deployment(&deployments, DeploymentConfig::default()).fit();
        Runtime {
            name: String::new(),
            available,
            queueing: Part::exact(queue),
            link: bandwidth.fit(1e3),
            deployment: (!warm).then_some(cold),
            processing: processing(&runs, seed),
        }
    }
}

fn runtimes() -> impl Strategy<Value = Vec<Runtime>> {
    proptest::collection::vec(runtime(), 0..6).prop_map(|mut all| {
        for (index, runtime) in all.iter_mut().enumerate() {
            runtime.name = format!("r{index}");
        }
        all
    })
}

fn candidates(runtimes: &[Runtime]) -> Vec<CandidateInput<'_>> {
    runtimes
        .iter()
        .map(|r| CandidateInput {
            runtime: &r.name,
            available: r.available,
            queueing: r.queueing,
            link: &r.link,
            deployment: r.deployment.as_ref(),
            processing: &r.processing,
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn never_an_unavailable_runtime_and_the_same_answer_twice(
        runtimes in runtimes(), items in any_number(), bytes in any_number(),
        incumbent in 0usize..6, pin in any::<bool>(),
    ) {
        let candidates = candidates(&runtimes);
        let name = format!("r{incumbent}");
        let mode = if pin {
            Mode::Pinned(&name)
        } else {
            Mode::Selector { incumbent: Some(&name), margin: Margin::DEFAULT }
        };
        let features = Features::new(items, bytes);
        let decision = decide(&candidates, &features, mode);
        prop_assert_eq!(&decision, &decide(&candidates, &features, mode));
        match decision {
            Ok(decision) => {
                prop_assert!(candidates[decision.choice.index].available);
                prop_assert_eq!(decision.estimates.len(), candidates.len());
                // Nothing unknown is taken while something is known.
                let any_known = candidates.iter().zip(&decision.estimates)
                    .any(|(c, e)| c.available && e.response.known);
                prop_assert!(pin || !any_known || decision.chosen().response.known);
                for e in &decision.estimates {
                    for part in [e.queueing, e.transfer, e.deployment, e.processing, e.response] {
                        prop_assert!(is_sound(&part), "{:?}", e);
                    }
                }
            }
            Err(ChoiceError::NoCandidates) => prop_assert!(!pin || candidates.is_empty()),
            Err(ChoiceError::NoneAvailable { .. }) => {
                prop_assert!(candidates.iter().all(|c| !c.available));
            }
            Err(ChoiceError::PinnedUnknown { .. }) => {
                prop_assert!(candidates.iter().all(|c| c.runtime != name));
            }
            Err(_) => prop_assert!(!candidates[incumbent].available),
        }
    }

    #[test]
    fn equal_seeds_and_runs_give_equal_models(runs in runs(40), seed in any::<u64>()) {
        prop_assert_eq!(processing(&runs, seed), processing(&runs, seed));
    }

    #[test]
    fn processing_is_sound_and_never_falls(
        runs in runs(40), seed in any::<u64>(), mut sizes in proptest::collection::vec(any_number(), 2..8),
    ) {
        let model = processing(&runs, seed);
        sizes.retain(|size| *size >= 0.0);
        sizes.sort_by(f64::total_cmp);
        let parts: Vec<Part> = sizes.iter().map(|items| model.predict(*items)).collect();
        for part in &parts {
            prop_assert!(is_sound(part), "{:?}", part);
        }
        for pair in parts.windows(2) {
            prop_assert!(pair[0].mean <= pair[1].mean * (1.0 + 1e-12), "{:?}", pair);
        }
    }

    /// Where one runtime is slower to begin with and its line lies flatter, a
    /// larger batch never goes back to the other.
    #[test]
    fn larger_batches_never_go_back_to_the_steeper_line(
        steep in 0.5f64..3.0, flat in 0.01f64..0.4, low in 0.0f64..20.0, more in 0.0f64..60.0,
        mut sizes in proptest::collection::vec(1.0f64..3000.0, 2..12),
    ) {
        let line = |slope: f64, intercept: f64| {
            processing(&[33.0, 10.0, 100.0, 50.0].map(|n| (n, slope * n + intercept)), 3)
        };
        let (steep, flat) = (line(steep, low), line(flat, low + more));
        sizes.sort_by(f64::total_cmp);
        let choices: Vec<usize> = sizes.iter().map(|&items| {
            let candidate = |runtime, processing| CandidateInput {
                runtime, available: true, queueing: Part::ZERO,
                link: &LinkModel::LOCAL, deployment: None, processing,
            };
            decide(
                &[candidate("edge", &steep), candidate("gpu1", &flat)],
                &Features::new(items, 0.0),
                Mode::selector(),
            ).unwrap().choice.index
        }).collect();
        prop_assert!(choices.is_sorted(), "{:?} for {:?}", choices, sizes);
    }

    #[test]
    fn deployment_is_sound(seconds in proptest::collection::vec(any_number(), 0..260)) {
        let model = deployment(&seconds, DeploymentConfig::default()).fit();
        prop_assert!(is_sound(&model.predict()), "{:?}", model);
        prop_assert_eq!(model.predict().known, seconds.iter().any(|s| *s >= 0.0));
    }

    /// Widths, errors and prediction against their definition, computed anew.
    #[test]
    fn windows_equal_brute_force(
        seconds in proptest::collection::vec(prop_oneof![0.0f64..100.0, Just(24.4), 0.0f64..2000.0], 1..90),
        history in 1usize..30, calibrate_every in 1usize..12, max_width in 1usize..25,
    ) {
        let config = DeploymentConfig { history, calibrate_every, max_width };
        let ours = deployment(&seconds, config);
        let window = |past: &[f64], method: Method, width: usize| -> f64 {
            let mut window = past[past.len().saturating_sub(width)..].to_vec();
            window.sort_by(f64::total_cmp);
            let n = window.len();
            match method {
                Method::Median if n % 2 == 1 => window[n / 2],
                Method::Median => (window[n / 2 - 1] + window[n / 2]) / 2.0,
                _ => window.iter().sum::<f64>() / n as f64,
            }
        };
        let mae_at = |end: usize, method: Method, width: usize| -> f64 {
            let first = end.saturating_sub(history).max(1);
            let errors: Vec<f64> = (first..end)
                .map(|i| (seconds[i] - window(&seconds[..i], method, width)).abs())
                .collect();
            errors.iter().sum::<f64>() / errors.len() as f64
        };
        // What the newest state says of each method.
        if seconds.len() > 1 {
            for method in [Method::Mean, Method::Median] {
                let best = ours.best_of(method).unwrap();
                let least = (1..=max_width)
                    .map(|width| mae_at(seconds.len(), method, width))
                    .fold(f64::INFINITY, f64::min);
                prop_assert!((best.mae.unwrap() - least).abs() < 1e-6);
                prop_assert!((mae_at(seconds.len(), method, best.width) - least).abs() < 1e-6);
            }
        }
        // What was chosen when calibration was last due.
        let chosen = ours.window();
        let mut last = None;
        let mut waiting = 0;
        for count in 1..=seconds.len() {
            waiting += 1;
            if waiting >= calibrate_every && count > 1 {
                last = Some(count);
                waiting = 0;
            }
        }
        match last {
            None => prop_assert_eq!((chosen.method, chosen.width, chosen.mae), (Method::Median, max_width, None)),
            Some(end) => {
                let least = [Method::Mean, Method::Median].into_iter()
                    .flat_map(|method| (1..=max_width).map(move |width| (method, width)))
                    .map(|(method, width)| mae_at(end, method, width))
                    .fold(f64::INFINITY, f64::min);
                prop_assert!((chosen.mae.unwrap() - least).abs() < 1e-6);
                prop_assert!((mae_at(end, chosen.method, chosen.width) - least).abs() < 1e-6);
            }
        }
        let expected = window(&seconds, chosen.method, chosen.width);
        prop_assert!((ours.predict_by(chosen.method).unwrap() - expected).abs() < 1e-9);
    }

    /// Whatever regime a caller tells, in whatever order.
    #[test]
    fn deployment_in_a_regime_is_sound(
        samples in proptest::collection::vec(
            (any_number(), proptest::option::of(any_number()), regime()), 0..160),
        asked in regime(),
    ) {
        let mut history = DeploymentHistory::default();
        for (seconds, at_s, regime) in samples {
            history.observe(&DeploymentSample { seconds, at_s, regime });
        }
        let model = history.fit();
        prop_assert!(is_sound(&model.predict_in(&asked)), "{:?}", model);
        prop_assert_eq!(model.within(&asked).predict(), model.predict_in(&asked));
        for (_, loss) in history.methods() {
            prop_assert!(loss.is_none_or(f64::is_finite));
        }
    }

    /// Whatever is known of runs besides their items, time never falls with
    /// the items.
    #[test]
    fn runs_with_features_are_sound_and_never_fall(
        runs in proptest::collection::vec((features(), any_number()), 0..60),
        asked in features(), seed in any::<u64>(),
        mut sizes in proptest::collection::vec(any_number(), 2..8),
    ) {
        let mut history = ProcessingHistory::new(ProcessingConfig::default(), seed);
        for (features, seconds) in runs {
            history.observe(&Run { features, seconds });
        }
        let model = history.fit().given(&asked);
        sizes.retain(|size| *size >= 0.0);
        sizes.sort_by(f64::total_cmp);
        let parts: Vec<Part> = sizes.iter().map(|items| model.predict(*items)).collect();
        for part in &parts {
            prop_assert!(is_sound(part), "{:?}", part);
        }
        for pair in parts.windows(2) {
            prop_assert!(pair[0].mean <= pair[1].mean * (1.0 + 1e-12), "{:?}", pair);
        }
    }

    /// Where boosted trees are in force, after long histories with a step, odd
    /// runs among them: sound, never falling, the same twice, no look-ahead.
    #[test]
    fn boosted_trees_are_sound_and_do_not_look_ahead(
        sizes in proptest::collection::vec(1.0f64..200.0, 110..150),
        step in 50.0f64..150.0, height in 3.0f64..20.0,
        odd in proptest::collection::vec((any_number(), any_number()), 0..12),
        at in 60usize..100, changed in any_number(),
        mut asked in proptest::collection::vec(any_number(), 2..8),
    ) {
        let truth = |items: f64| (5.0 + 0.02 * items) * if items > step { height } else { 1.0 };
        let mut runs: Vec<(f64, f64)> = sizes.iter().map(|&items| (items, truth(items))).collect();
        let predictions = |runs: &[(f64, f64)]| -> (ProcessingHistory, Vec<Part>) {
            let mut history = ProcessingHistory::new(ProcessingConfig::default(), 3);
            let parts = runs.iter().map(|&(items, seconds)| {
                let part = history.fit().predict(items);
                history.push(items, seconds);
                part
            }).collect();
            (history, parts)
        };
        let (history, before) = predictions(&runs);
        let by_trees = history.fit().basis().estimator == "boosted_trees";
        // Seldom, the last runs all lie on one side of the step and the lines do as
        // well. Were the trees never in force, too many rejections would fail this.
        prop_assume!(by_trees);
        prop_assert_eq!(&before, &predictions(&runs).1);
        let model = history.fit();
        asked.retain(|items| *items >= 0.0);
        asked.sort_by(f64::total_cmp);
        let parts: Vec<Part> = asked.iter().map(|items| model.predict(*items)).collect();
        for part in parts.iter().chain(&before[1..]) {
            prop_assert!(is_sound(part), "{:?}", part);
        }
        for pair in parts.windows(2) {
            prop_assert!(pair[0].mean <= pair[1].mean * (1.0 + 1e-12), "{:?}", pair);
        }
        runs[at].1 = changed;
        prop_assert_eq!(&before[..=at], &predictions(&runs).1[..=at]);
        runs.extend(odd);
        for part in &predictions(&runs).1[1..] {
            prop_assert!(is_sound(part), "{:?}", part);
        }
    }

    /// Histories that break estimators: constant, zeros, single, duplicated,
    /// immense, and all of these one after another.
    #[test]
    fn odd_histories_give_finite_models(
        blocks in proptest::collection::vec(
            (prop_oneof![Just(0.0), Just(7.0), Just(1e12), Just(1e-9), 0.0f64..50.0], 1usize..40),
            1..5),
        items in prop_oneof![Just(0.0), Just(10.0), Just(1e15), 1.0f64..300.0],
    ) {
        let mut starts = DeploymentHistory::default();
        let mut runs = ProcessingHistory::new(ProcessingConfig::default(), 1);
        let mut theirs = (paper::Deployment::new(), paper::Processing::new(1));
        for (seconds, count) in blocks {
            for _ in 0..count {
                prop_assert!(starts.push(seconds) && runs.push(items, seconds));
                prop_assert!(theirs.0.push(seconds) && theirs.1.push(items, seconds));
                let parts = [
                    starts.fit().predict(), runs.fit().predict(items), runs.fit().predict(33.0),
                    theirs.0.predict(), theirs.1.predict(items), theirs.1.predict(33.0),
                ];
                for part in parts {
                    prop_assert!(part.known && is_sound(&part), "{:?}", part);
                }
            }
        }
    }

    /// Autoregression against least squares by singular values, order by order.
    #[test]
    fn autoregression_equals_brute_force(
        start in proptest::collection::vec(0.0f64..100.0, 40..120),
        pull in -0.9f64..0.9, most in 0usize..6,
    ) {
        let mut values = start;
        for i in 1..values.len() {
            values[i] += pull * values[i - 1];
        }
        let ours = AutoRegression::fit(&values, most).unwrap();
        // Weights and residual squares of one order over the targets from `skip` on.
        let fit = |order: usize, skip: usize| -> (nalgebra::DVector<f64>, f64) {
            let rows = values.len() - skip;
            let design = nalgebra::DMatrix::from_fn(rows, order + 1, |row, column| {
                if column == 0 { 1.0 } else { values[skip + row - column] }
            });
            let targets = nalgebra::DVector::from_fn(rows, |row, _| values[skip + row]);
            let weights = design.clone().svd(true, true).solve(&targets, 1e-12).unwrap();
            let left = (&targets - &design * &weights).norm_squared();
            (weights, left)
        };
        let targets = (values.len() - most) as f64;
        let criterion =
            |order: usize| targets * (fit(order, most).1 / targets).ln() + 2.0 * (order + 1) as f64;
        let least = (0..=most).map(criterion).fold(f64::INFINITY, f64::min);
        prop_assert!((criterion(ours.order) - least).abs() < 1e-6, "order {}", ours.order);
        let (weights, _) = fit(ours.order, ours.order);
        prop_assert!((ours.intercept - weights[0]).abs() < 1e-6 * weights[0].abs().max(1.0));
        for lag in 0..ours.order {
            prop_assert!((ours.coefficients[lag] - weights[lag + 1]).abs() < 1e-6);
        }
    }

    /// Predictions of a log, with a calibrator over all of it, do not change
    /// when a later row does.
    #[test]
    fn no_prediction_looks_ahead(
        rows in proptest::collection::vec((1.0f64..300.0, any_number(), any_number(), 0usize..3), 2..60),
        at in any::<prop::sample::Index>(),
        other in (1.0f64..300.0, any_number(), any_number(), 0usize..3),
    ) {
        let at = at.index(rows.len());
        let mut changed = rows.clone();
        changed[at] = other;
        let (before, after) = (replay(&rows), replay(&changed));
        prop_assert_eq!(&before[..at], &after[..at]);
        // What is asked in the changed row is another question; the rest of its
        // prediction stands on the rows before it.
        if rows[at].0 == changed[at].0 && rows[at].3 == changed[at].3 {
            prop_assert_eq!(before[at], after[at]);
        }
        for estimate in &after {
            prop_assert!(is_sound(&estimate.response), "{:?}", estimate);
        }
    }

    /// However wrong the intervals are, the calibrator's misses are as many as
    /// they may be, within what its step leaves open.
    #[test]
    fn coverage_is_pinned(
        outcomes in proptest::collection::vec(0.0f64..2000.0, 150..400),
        width in 2.0f64..300.0,
    ) {
        let mut calibrator = ResponseCalibrator::new();
        let mut misses = 0.0;
        let mut part = Part::exact(500.0);
        part.p50 = Interval { low: 500.0 - width / 3.0, high: 500.0 + width / 3.0 };
        part.p90 = Interval { low: 500.0 - width, high: 500.0 + width };
        for actual in &outcomes {
            let given = calibrator.adjust_part(&part);
            prop_assert!(is_sound(&given));
            misses += f64::from(u8::from(!given.p90.contains(*actual)));
            calibrator.observe_part(&given, *actual);
        }
        let share = misses / outcomes.len() as f64;
        let open = calibrator.factors().1.ln().abs() / (0.3 * outcomes.len() as f64);
        prop_assert!((share - 0.1).abs() <= open + 1e-9, "{share} {open}");
    }

    /// Estimates that wander by less than half the margin around fixed values
    /// change the incumbent at most once.
    #[test]
    fn the_choice_does_not_flap_within_the_margin(
        base in proptest::collection::vec(0.5f64..100.0, 2..5),
        wander in proptest::collection::vec(-1.0f64..1.0, 200),
        near in any::<bool>(),
    ) {
        let names = ["a", "b", "c", "d"];
        let margin = Margin::DEFAULT;
        let base: Vec<f64> = if near { base.iter().map(|_| base[0]).collect() } else { base };
        let least = base.iter().copied().fold(f64::INFINITY, f64::min);
        // Half the margin on the difference of two: a quarter on each.
        let reach = 0.24 * margin.seconds.max(margin.relative * least);
        let mut incumbent: Option<&str> = None;
        let mut changes = 0;
        for round in wander.chunks_exact(base.len()) {
            let estimates: Vec<Estimate> = base.iter().zip(round)
                .map(|(mean, wander)| Estimate::of(
                    Part::ZERO, Part::ZERO, Part::ZERO, Part::exact(mean + wander * reach),
                ))
                .collect();
            let candidates: Vec<Candidate<'_>> = estimates.iter().zip(names)
                .map(|(estimate, runtime)| Candidate { runtime, available: true, estimate: Some(estimate) })
                .collect();
            let choice = choose(&candidates, Mode::Selector { incumbent, margin }).unwrap();
            let chosen = names[choice.index];
            changes += usize::from(incumbent.is_some_and(|before| before != chosen));
            incumbent = Some(chosen);
        }
        prop_assert!(changes <= 1, "{} changes", changes);
    }

    #[test]
    fn waiting_is_sound_and_grows_with_the_line(
        slots in 0usize..5,
        running in proptest::collection::vec((any_number(), any_number()), 0..7),
        waiting in proptest::collection::vec(any_number(), 0..7),
    ) {
        let running: Vec<Running> = running.into_iter()
            .map(|(total, elapsed_s)| Running { total: Part::exact(total), elapsed_s })
            .collect();
        let waiting: Vec<Part> = waiting.into_iter().map(Part::exact).collect();
        let mut before = 0.0;
        for count in 0..=waiting.len() {
            let wait = queueing(slots, &running, &waiting[..count]);
            prop_assert!(is_sound(&wait), "{:?}", wait);
            prop_assert_eq!(wait.known, slots > 0);
            prop_assert!(wait.mean >= before);
            before = wait.mean;
        }
    }
}
