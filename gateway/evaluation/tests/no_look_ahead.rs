//! No look-ahead: a change to any later row changes no earlier prediction.

// In a test an unwrap is an assertion; clippy sees that only inside `#[test]`.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use proptest::prelude::*;
use stoic_evaluation::log::{Deployments, Names, Parts, Run, Runs};
use stoic_evaluation::replay::{deployments, walk};

/// Rows of a log: runtime, items, T_t, T_d, T_p, seconds since the row before.
type Row = (usize, u16, f64, f64, f64, f64);

fn row() -> impl Strategy<Value = Row> {
    (
        0..4usize,
        0..500u16,
        0.0..30.0f64,
        prop_oneof![Just(0.0), 5.0..90.0f64, Just(1600.0)],
        0.0..900.0f64,
        0.0..2000.0f64,
    )
}

fn runs(rows: &[Row]) -> Runs {
    let mut runtimes = Names::default();
    for name in ["edge", "cpu", "gpu1", "gpu2"] {
        runtimes.number(name);
    }
    let mut epoch = 1.5e9;
    let rows = rows
        .iter()
        .enumerate()
        .map(
            |(index, (runtime, items, transfer, deployment, processing, apart))| {
                epoch += apart;
                let local = *runtime == 0;
                let actual = Parts {
                    transfer: if local { 0.0 } else { *transfer },
                    deployment: if local { 0.0 } else { *deployment },
                    processing: *processing,
                };
                Run {
                    line: index as u64 + 2,
                    epoch,
                    items: f64::from(*items),
                    runtime: *runtime,
                    actual,
                    logged_total: actual.total(),
                    predicted: None,
                    file: None,
                }
            },
        )
        .collect();
    Runs::of_rows(PathBuf::from("r.csv"), rows, runtimes)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn later_runs_change_no_earlier_prediction(
        rows in prop::collection::vec(row(), 2..80),
        other in row(),
        at in any::<prop::sample::Index>(),
    ) {
        let changed_at = at.index(rows.len());
        let mut changed = rows.clone();
        changed[changed_at] = other;
        // Sizes and runtimes are known before a row runs: its own prediction may differ by them, none before may.
        let (before, after) = (walk(&runs(&rows), 7), walk(&runs(&changed), 7));
        prop_assert_eq!(&before.rows[..changed_at], &after.rows[..changed_at]);
        for batch in before.batches.iter().filter(|batch| batch.rows.end <= changed_at) {
            let same = after.batches.iter().find(|other| other.rows.start == batch.rows.start);
            // The changed row may have joined the batch; what was said of its other rows stays.
            let said = &same.unwrap().predicted;
            prop_assert_eq!(&batch.predicted[..], &said[..batch.predicted.len()]);
        }
        // What a row itself took does not reach its own prediction either.
        let mut slower = rows.clone();
        slower[changed_at].4 += 100.0;
        let slower = walk(&runs(&slower), 7);
        prop_assert_eq!(&before.rows[..=changed_at], &slower.rows[..=changed_at]);
    }

    #[test]
    fn later_deployments_change_no_earlier_prediction(
        seconds in prop::collection::vec(prop_oneof![3.0..90.0f64, Just(606.0)], 2..120),
        other in 0.0..900.0f64,
        at in any::<prop::sample::Index>(),
    ) {
        let log = |seconds: &[f64]| {
            let mut text = "batch,runtime,act_deploy\n".to_owned();
            for (index, seconds) in seconds.iter().enumerate() {
                text += &format!("{},gpu{},{seconds}\n", index / 2, index % 2 + 1);
            }
            Deployments::parse(Path::new("d.csv"), text.as_bytes()).unwrap()
        };
        let at = at.index(seconds.len());
        let mut changed = seconds.clone();
        changed[at] = other;
        let (before, after) = (deployments::walk(&log(&seconds)), deployments::walk(&log(&changed)));
        prop_assert_eq!(&before[..=at], &after[..=at]);
    }
}
