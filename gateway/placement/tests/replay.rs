//! The authors' own measurements (Heronalps/STOIC, Apache-2.0), replayed one by
//! one: every measurement is predicted before it is taken in. The data lie
//! outside the repository; without them these tests say so and pass.

// In a test an unwrap is an assertion; clippy sees that only inside `#[test]`.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::Path;

use stoic_placement::*;

/// The rows of a CSV file with plain fields, each as column name to field.
fn rows(name: &str) -> Option<Vec<BTreeMap<String, String>>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../../shared/data/stoic")
        .join(name);
    let Ok(text) = std::fs::read_to_string(&path) else {
        println!("skipped: {} is not there", path.display());
        return None;
    };
    let mut lines = text.lines();
    let header: Vec<&str> = lines.next().unwrap().split(',').collect();
    Some(
        lines
            .map(|line| {
                header
                    .iter()
                    .zip(line.split(','))
                    .map(|(column, field)| ((*column).to_owned(), field.to_owned()))
                    .collect()
            })
            .collect(),
    )
}

fn number(row: &BTreeMap<String, String>, column: &str) -> Option<f64> {
    row.get(column)?.parse().ok()
}

fn print(what: &str, accuracy: &Accuracy) {
    println!(
        "{what}: n {}, MAE {:.2} s, PMAE {:.1} %, coverage p50 {:.1} % p90 {:.1} %",
        accuracy.count,
        accuracy.mae_s().unwrap(),
        100.0 * accuracy.pmae().unwrap(),
        100.0 * accuracy.coverage_p50().unwrap(),
        100.0 * accuracy.coverage_p90().unwrap(),
    );
}

fn sound_coverage(accuracy: &Accuracy) {
    let (half, most) = (
        accuracy.coverage_p50().unwrap(),
        accuracy.coverage_p90().unwrap(),
    );
    assert!((0.40..=0.65).contains(&half), "{half}");
    assert!((0.80..=0.97).contains(&most), "{most}");
}

#[test]
fn deployments_of_february_2020() {
    let Some(rows) = rows("deployments_feb2020_batches_0_76.csv") else {
        return;
    };
    let mut all = Accuracy::default();
    for runtime in ["cpu", "gpu1", "gpu2"] {
        let mut history = DeploymentHistory::default();
        let mut accuracy = Accuracy::default();
        for row in rows.iter().filter(|row| row["runtime"] == runtime) {
            let actual = number(row, "act_deploy").unwrap();
            accuracy.observe(&history.fit().predict(), actual);
            assert!(history.push(actual));
        }
        print(&format!("deployment {runtime}"), &accuracy);
        let mean = history.best_of(Method::Mean).unwrap();
        let median = history.best_of(Method::Median).unwrap();
        println!("  mean {mean:?}\n  median {median:?}");
        // The paper's Table 2: the median window has the lesser error on all
        // three runtimes.
        assert!(median.mae < mean.mae, "{runtime}");
        all.merge(&accuracy);
    }
    print("deployment, all", &all);
    assert_eq!(all.count, 3 * 75);
    sound_coverage(&all);
}

#[test]
fn invocations_of_january_2020() {
    let Some(rows) = rows("invocations_jan2020.csv") else {
        return;
    };
    let mut all = Accuracy::default();
    let mut edge = None;
    for runtime in ["edge", "cpu", "gpu1", "gpu2"] {
        let mut history = ProcessingHistory::new(ProcessingConfig::default(), 2020);
        let mut accuracy = Accuracy::default();
        let mut theirs = Accuracy::default();
        for row in rows.iter().filter(|row| row["runtime"] == runtime) {
            let items = number(row, "image_num").unwrap();
            let actual = number(row, "act_proc").unwrap();
            let predicted = history.fit().predict(items);
            if history.seen() >= 2 {
                accuracy.observe(&predicted, actual);
                theirs.observe(&Part::exact(number(row, "pred_proc").unwrap()), actual);
            }
            assert!(history.push(items, actual));
        }
        print(&format!("processing {runtime}"), &accuracy);
        println!(
            "  the authors' predictions: MAE {:.2} s, PMAE {:.1} %",
            theirs.mae_s().unwrap(),
            100.0 * theirs.pmae().unwrap()
        );
        if runtime == "edge" {
            edge = Some(accuracy);
        }
        all.merge(&accuracy);
    }
    print("processing, all", &all);
    assert_eq!(all.count, 310);
    sound_coverage(&all);
    assert!(all.pmae().unwrap() < 0.2);
    // The quiet runtime, without rented accelerators of nine kinds.
    assert!(edge.unwrap().pmae().unwrap() < 0.06);
}
