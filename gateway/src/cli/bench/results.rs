//! What the measurements say: quantiles by way, ratios within rounds, stages of the middle half.

use super::burst::Bursts;
use super::load::Loads;
use super::rounds::Fault;
use super::sample::{Sample, rank};
use super::target::Target;
use super::ways::Way;
use std::collections::BTreeMap;
use std::rc::Rc;
use stoic_evaluation::score::{
    Interval, block_quantile, paired_ratio, plain_quantile, quantile, quantile_ratio,
};

/// One way of one target.
#[derive(Debug, Clone)]
pub(super) struct Row {
    /// Index of what was measured.
    pub(super) target: usize,
    /// In which way.
    pub(super) way: Way,
    /// Each measurement, seconds.
    pub(super) seconds: Vec<f64>,
    /// Median, p90 and p99, seconds.
    pub(super) quantiles: [Option<Interval>; 3],
    /// Where the time of the middle half went, seconds.
    pub(super) stages: Vec<(String, f64)>,
    /// Measurements that went wrong.
    pub(super) faults: usize,
}

/// One way against another, within rounds.
#[derive(Debug, Clone)]
pub(super) struct Ratio {
    /// Index of what was measured.
    pub(super) target: usize,
    /// The way above the line.
    pub(super) of: Way,
    /// The way below it.
    pub(super) to: Way,
    /// Index of what the way below the line was measured on; another one for baselines and backends.
    pub(super) base: usize,
    /// The median of the ratios within rounds.
    pub(super) ratio: Option<Interval>,
    /// What is aimed at.
    pub(super) aim: Option<Aim>,
}

/// A figure that is aimed at.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Aim {
    /// At most so much.
    Most(f64),
    /// At least so much.
    Least(f64),
}

impl Aim {
    /// What an interval says of it.
    pub(super) fn verdict(self, ratio: Interval) -> &'static str {
        let (met, missed) = match self {
            Self::Most(most) => (ratio.high <= most, ratio.low > most),
            Self::Least(least) => (ratio.low >= least, ratio.high < least),
        };
        match (met, missed) {
            (true, _) => "met",
            (_, true) => "missed",
            _ => "cannot be told",
        }
    }

    /// `at most 1.25`.
    pub(super) fn text(self) -> String {
        match self {
            Self::Most(most) => format!("at most {most}"),
            Self::Least(least) => format!("at least {least}"),
        }
    }
}

/// The quantiles that are shown.
pub(super) const QUANTILES: [(&str, f64); 3] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99)];

/// Rows in the order of targets and ways.
pub(super) fn rows(samples: &[Sample], faults: &[Fault], targets: usize, seed: u64) -> Vec<Row> {
    let mut rows = Vec::new();
    for target in 0..targets {
        for way in Way::ALL {
            let of: Vec<&Sample> = samples
                .iter()
                .filter(|sample| sample.target == target && sample.way == way)
                .collect();
            let failed = faults
                .iter()
                .filter(|fault| fault.target == target && fault.way == way)
                .count();
            if of.is_empty() && failed == 0 {
                continue;
            }
            let seconds: Vec<f64> = of.iter().map(|sample| sample.seconds).collect();
            rows.push(Row {
                target,
                way,
                quantiles: QUANTILES.map(|(_, q)| quantile(&seconds, q, seed)),
                stages: stages(&of),
                seconds,
                faults: failed,
            });
        }
    }
    rows
}

/// Where the time went: the mean of each part over the middle half of the measurements by their whole time, so that the
/// parts add up and a slow one does not count.
fn stages(samples: &[&Sample]) -> Vec<(String, f64)> {
    let seconds: Vec<f64> = samples.iter().map(|sample| sample.seconds).collect();
    let (Some(low), Some(high)) = (
        plain_quantile(&seconds, 0.25),
        plain_quantile(&seconds, 0.75),
    ) else {
        return Vec::new();
    };
    let mut sums: BTreeMap<String, f64> = BTreeMap::new();
    let mut count = 0;
    for sample in samples
        .iter()
        // Of two or three there is no middle half.
        .filter(|sample| samples.len() < 4 || (low..=high).contains(&sample.seconds))
    {
        count += 1;
        for (stage, took) in sample.timing.stack(sample.seconds) {
            *sums.entry(stage).or_default() += took;
        }
    }
    let mut means: Vec<(String, f64)> = sums
        .into_iter()
        .map(|(stage, sum)| (stage, sum / f64::from(count.max(1))))
        .collect();
    means.sort_by_key(|(stage, _)| rank(stage));
    means
}

/// Seconds of a way of a target by round.
fn by_round(samples: &[Sample], target: usize, way: Way) -> BTreeMap<usize, f64> {
    samples
        .iter()
        .filter(|sample| sample.target == target && sample.way == way)
        .map(|sample| (sample.round, sample.seconds))
        .collect()
}

/// The ratios that can be told, with what is aimed at. `heavy` says of each target whether it loads a library that takes
/// long to start: the aims of the zygote are for those.
pub(super) fn ratios(samples: &[Sample], targets: &[Rc<Target>], seed: u64) -> Vec<Ratio> {
    let mut ratios = Vec::new();
    let mut add = |target: usize, of: Way, base: usize, to: Way, aim: Option<Aim>| {
        let (above, below) = (by_round(samples, target, of), by_round(samples, base, to));
        let pairs: Vec<(f64, f64)> = above
            .iter()
            .filter_map(|(round, seconds)| Some((*seconds, *below.get(round)?)))
            .collect();
        if pairs.is_empty() {
            return;
        }
        ratios.push(Ratio {
            target,
            of,
            to,
            base,
            ratio: paired_ratio(&pairs, seed),
            aim,
        });
    };
    for (index, target) in targets.iter().enumerate() {
        add(index, Way::Cold, index, Way::Warm, None);
        add(index, Way::ColdDropped, index, Way::Cold, None);
        add(index, Way::Zygote, index, Way::Warm, Some(Aim::Most(1.25)));
        add(index, Way::Cold, index, Way::Zygote, None);
        add(index, Way::Standby, index, Way::Warm, Some(Aim::Most(1.05)));
        add(index, Way::Warm, index, Way::Direct, None);
        // Baselines were measured on one target of the function.
        let on = |way: Way| {
            (0..targets.len()).find(|other| {
                targets[*other].function == target.function
                    && samples.iter().any(|s| s.target == *other && s.way == way)
            })
        };
        if let Some(base) = on(Way::DockerRun) {
            add(
                base,
                Way::DockerRun,
                index,
                Way::Zygote,
                Some(Aim::Least(12.0)),
            );
            add(base, Way::DockerRun, index, Way::Cold, None);
            add(base, Way::DockerRun, index, Way::Standby, None);
        }
        if let Some(base) = on(Way::EngineFloor) {
            let aim = (target.backend == "docker").then_some(Aim::Most(1.1));
            add(index, Way::Cold, base, Way::EngineFloor, aim);
        }
        if let Some(base) = on(Way::BarePod) {
            let aim = (target.backend == "kubernetes").then_some(Aim::Most(1.2));
            add(index, Way::Cold, base, Way::BarePod, aim);
        }
        // The same function elsewhere.
        for (other, elsewhere) in targets.iter().enumerate().skip(index + 1) {
            if elsewhere.function == target.function {
                for way in [Way::Cold, Way::Warm] {
                    add(other, way, index, way, None);
                }
            }
        }
    }
    ratios
}

/// What bursts say: each call's quantiles, and p99 of the burst over the median of single cold starts.
#[derive(Debug, Clone)]
pub(super) struct BurstRow {
    /// Index of what was measured.
    pub(super) target: usize,
    /// Calls of each burst.
    pub(super) calls: u32,
    /// Whole rounds.
    pub(super) rounds: usize,
    /// Median and p99 of the calls, seconds.
    pub(super) together: [Option<Interval>; 2],
    /// Median of the single cold starts, seconds.
    pub(super) single: Option<Interval>,
    /// p99 of the calls over the median of the single ones.
    pub(super) ratio: Option<Interval>,
    /// Most pods that served one burst.
    pub(super) pods: usize,
    /// Calls and starts that failed.
    pub(super) faults: usize,
}

/// Rows of the bursts.
pub(super) fn burst_rows(bursts: &[Bursts], seed: u64) -> Vec<BurstRow> {
    let of = |burst: &Bursts| {
        let together: Vec<Vec<f64>> = burst.rounds.iter().map(|(all, _)| all.clone()).collect();
        let single: Vec<f64> = burst
            .rounds
            .iter()
            .flat_map(|(_, one)| one.clone())
            .collect();
        BurstRow {
            target: burst.target,
            calls: burst.calls,
            rounds: burst.rounds.len(),
            together: [0.5, 0.99].map(|q| block_quantile(&together, q, seed)),
            single: quantile(&single, 0.5, seed),
            ratio: quantile_ratio(&burst.rounds, 0.99, 0.5, seed),
            pods: burst.pods.iter().copied().max().unwrap_or(0),
            faults: burst.faults.len(),
        }
    };
    bursts.iter().map(of).collect()
}

/// What loads say.
#[derive(Debug, Clone)]
pub(super) struct LoadRow {
    /// Index of what was measured.
    pub(super) target: usize,
    /// `closed` or `open`.
    pub(super) kind: &'static str,
    /// Requests a second that were asked for.
    pub(super) asked: Option<f64>,
    /// And that were answered: the median of the passes.
    pub(super) rate: Option<f64>,
    /// Answers.
    pub(super) answers: usize,
    /// Median, p90 and p99, seconds.
    pub(super) quantiles: [Option<Interval>; 3],
    /// The 99th percentile of how late this generator sent, seconds.
    pub(super) late_p99: Option<f64>,
    /// Requests that were due and not sent.
    pub(super) unsent: usize,
}

/// Rows of the loads.
pub(super) fn load_rows(loads: &[Loads], seed: u64) -> Vec<LoadRow> {
    let mut rows = Vec::new();
    for load in loads {
        let quantiles =
            |blocks: &[Vec<f64>]| QUANTILES.map(|(_, q)| block_quantile(blocks, q, seed));
        let count = |blocks: &[Vec<f64>]| blocks.iter().map(Vec::len).sum();
        rows.push(LoadRow {
            target: load.target,
            kind: "closed",
            asked: None,
            rate: plain_quantile(&load.closed_rates, 0.5),
            answers: count(&load.closed),
            quantiles: quantiles(&load.closed),
            late_p99: None,
            unsent: 0,
        });
        rows.push(LoadRow {
            target: load.target,
            kind: "open",
            asked: load.open_rate,
            rate: plain_quantile(&load.open_rates, 0.5),
            answers: count(&load.open),
            quantiles: quantiles(&load.open),
            late_p99: plain_quantile(&load.late, 0.99),
            unsent: load.unsent,
        });
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::bench::sample::Timing;

    fn sample(round: usize, way: Way, milliseconds: f64) -> Sample {
        let parts = [
            ("deployment".to_owned(), milliseconds / 2000.0),
            ("processing".to_owned(), milliseconds / 4000.0),
        ];
        Sample {
            round,
            order: 0,
            target: 0,
            way,
            seconds: milliseconds / 1000.0,
            start: None,
            pod: None,
            timing: Timing {
                parts: parts.into(),
                stages: [("load".to_owned(), milliseconds / 4000.0)].into(),
            },
            calibration_s: 0.003,
        }
    }

    #[test]
    fn a_row_has_quantiles_and_stages_that_add_up() {
        let samples: Vec<Sample> = (0..40)
            .map(|round| sample(round, Way::Cold, 100.0 + round as f64))
            .collect();
        let faults = [Fault {
            target: 0,
            way: Way::Warm,
            text: "x".to_owned(),
        }];
        let rows = rows(&samples, &faults, 1, 1);
        assert_eq!(rows.len(), 2);
        let cold = &rows[0];
        let median = cold.quantiles[0].expect("a median");
        assert!((median.value - 0.1195).abs() < 1e-9 && median.cases == 40);
        let names: Vec<&str> = cold.stages.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["load", "wait", "processing", "around"]);
        let sum: f64 = cold.stages.iter().map(|(_, took)| took).sum();
        assert!((sum - 0.1195).abs() < 1e-9, "{sum}");
        assert_eq!((rows[1].way, rows[1].faults), (Way::Warm, 1));
        assert_eq!(rows[1].quantiles, [None; 3]);
    }

    #[test]
    fn a_pair_is_of_one_round() {
        let mut samples: Vec<Sample> = (0..30)
            .flat_map(|round| {
                let slow = 1.0 + round as f64;
                [
                    sample(round, Way::Standby, 10.4 * slow),
                    sample(round, Way::Warm, 10.0 * slow),
                ]
            })
            .collect();
        // A round that lost its warm call is left out.
        samples.push(sample(30, Way::Standby, 9999.0));
        let pairs: Vec<(f64, f64)> = {
            let (above, below) = (
                by_round(&samples, 0, Way::Standby),
                by_round(&samples, 0, Way::Warm),
            );
            assert_eq!((above.len(), below.len()), (31, 30));
            above
                .iter()
                .filter_map(|(round, seconds)| Some((*seconds, *below.get(round)?)))
                .collect()
        };
        let ratio = paired_ratio(&pairs, 1).expect("pairs");
        assert!((ratio.value - 1.04).abs() < 1e-9 && (ratio.high - ratio.low) < 1e-9);
        assert_eq!(Aim::Most(1.05).verdict(ratio), "met");
        assert_eq!(Aim::Least(12.0).verdict(ratio), "missed");
        let wide = Interval {
            value: 1.0,
            low: 0.9,
            high: 1.2,
            cases: 30,
        };
        assert_eq!(Aim::Most(1.05).verdict(wide), "cannot be told");
    }
}
