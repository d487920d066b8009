//! `stoic evaluate` and `stoic workload` as a user runs them: good logs, bad ones, folders that are somebody else's.

#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};
use std::path::Path;
use std::process::{Command, Output};
use stoic_tests::{Gateway, binary, echo, texts, zip_of};

const HEADING: &str = "epoch,image_num,runtime,act_total,act_transfer,act_deploy,act_proc";

fn stoic(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(binary("stoic"))
        .args(arguments)
        .current_dir(folder)
        .output()
        .unwrap()
}

/// Batches of all sizes, each on an edge and on a cloud runtime.
fn log(line_end: &str) -> String {
    let mut text = format!("\u{feff}{HEADING}{line_end}");
    for i in 0..60_u32 {
        let items = 5 + i * 37 % 150;
        let (edge, cloud) = (1.4 * f64::from(items) + 3.0, 0.25 * f64::from(items) + 9.0);
        let (deployment, transfer) = (f64::from(20 + i * 13 % 17), 0.06 * f64::from(items));
        let epoch = 1_580_000_000 + 900 * i;
        text += &format!("{epoch},{items},\"the edge, here\",{edge},0,0,{edge}{line_end}");
        let total = transfer + deployment + cloud;
        text += &format!(
            "{},{items},tpu,{total},{transfer},{deployment},{cloud}{line_end}",
            epoch + 60
        );
    }
    text
}

fn refused(text: &str, says: &str) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("runs.csv"), text).unwrap();
    let ended = stoic(folder.path(), &["evaluate", "replay", "--runs", "runs.csv"]);
    let said = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.status.code(), Some(2), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.contains(says), "{said} instead of {says}");
    assert!(
        !folder.path().join("evaluation").exists(),
        "a folder for nothing"
    );
}

#[test]
fn a_log_that_nobody_has_seen_is_replayed_into_a_folder_to_read() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("runs.csv"), log("\r\n")).unwrap();
    let ended = stoic(folder.path(), &["evaluate", "replay", "--runs", "runs.csv"]);
    assert!(ended.status.success(), "{ended:?}");
    let out = folder.path().join("evaluation");
    for name in [
        "report.md",
        "index.html",
        "tables/table_2_mae_by_method.csv",
        "tables/table_3_pmae.csv",
        "tables/table_4_policies.csv",
        "tables/table_5_cloud_time.csv",
        "figures/figure_2_mae_by_window.svg",
        "figures/figure_3_over_time.svg",
        "figures/figure_4_workload.svg",
        "figures/figure_6_histograms.svg",
        "figures/calibration.svg",
        "figures/regret.svg",
    ] {
        let text =
            std::fs::read_to_string(out.join(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert!(!text.contains("NaN") && !text.contains("inf,"), "{name}");
    }
    let summary: Value =
        serde_json::from_slice(&std::fs::read(out.join("summary.json")).unwrap()).unwrap();
    assert_eq!(summary["rows"], 120);
    for method in ["paper", "ours"] {
        for part in ["deployment", "processing", "total"] {
            let pmae = summary["pmae"][method][part].as_f64().unwrap();
            assert!((0.0..1.0).contains(&pmae), "{method} {part}: {pmae}");
        }
    }
    let oracle = &summary["policies"]["min_lat"];
    assert_eq!(
        (&oracle["success"], &oracle["regret_s"]),
        (&json!(1.0), &json!(0.0))
    );
    for policy in [
        "paper_selector",
        "selector",
        "hedged",
        "duplicator",
        "worst",
    ] {
        let score = &summary["policies"][policy];
        for key in ["success", "within_5_percent"] {
            let share = score[key].as_f64().unwrap();
            assert!((0.0..=1.0).contains(&share), "{policy} {key}");
        }
        let of = |key: &str| score[key].as_f64().unwrap();
        assert!(
            (of("total_s") - of("min_lat_s") - of("regret_s")).abs() < 1e-6,
            "{policy}"
        );
    }
    assert_eq!(summary["policies"]["cooperative"], Value::Null);
    // Once more, over its own folder; then a folder of somebody else.
    let again = stoic(folder.path(), &["evaluate", "replay", "--runs", "runs.csv"]);
    assert!(again.status.success(), "{again:?}");
    std::fs::create_dir(folder.path().join("thesis")).unwrap();
    std::fs::write(folder.path().join("thesis/report.md"), "mine").unwrap();
    let foreign = stoic(
        folder.path(),
        &[
            "evaluate", "replay", "--runs", "runs.csv", "--out", "thesis",
        ],
    );
    assert_eq!(foreign.status.code(), Some(2));
    assert_eq!(
        std::fs::read(folder.path().join("thesis/report.md")).unwrap(),
        b"mine"
    );
}

#[test]
fn wrong_logs_are_one_line_with_file_and_line() {
    let row = "1580000000,11,edge,9,0,0,9";
    for (text, says) in [
        (
            format!("{}\n{row}\n", HEADING.replace("act_deploy", "act_deploi")),
            "runs.csv:1: has no column `act_deploy`; is `act_deploi` meant?",
        ),
        (
            format!("{HEADING}\n{row}\n1580000001,11,gpu,9,1,-2,6\n"),
            "runs.csv:3: act_deploy is -2",
        ),
        (
            format!("{HEADING}\n{row}\n1580000001,11,gpu,9,NaN,2,6\n"),
            "runs.csv:3: act_transfer is NaN",
        ),
        (
            format!("{HEADING}\n{row}\n1579999999,11,gpu,9,1,2,6\n"),
            "runs.csv:3: epoch 1579999999 comes after",
        ),
        (
            format!("{HEADING}\n{row}\n1580000001,11,gpu,9,1,2\n"),
            "runs.csv:3: has 6 fields",
        ),
        (
            format!("{HEADING}\n{row}\n1580000001,eleven,gpu,9,1,2,6\n"),
            "runs.csv:3: image_num is `eleven`",
        ),
        (
            format!("{HEADING}\n"),
            "runs.csv: holds a heading and no runs",
        ),
        (String::new(), "runs.csv: is empty"),
    ] {
        refused(&text, says);
    }
}

#[test]
fn absent_files_and_folders_that_cannot_be_written_are_the_callers_fault() {
    let folder = tempfile::tempdir().unwrap();
    let says = |arguments: &[&str], text: &str| {
        let ended = stoic(folder.path(), arguments);
        let said = String::from_utf8(ended.stderr).unwrap();
        assert_eq!(ended.status.code(), Some(2), "{said}");
        assert!(said.contains(text), "{said}");
    };
    says(
        &["evaluate", "replay", "--runs", "none.csv"],
        "none.csv: there is no such file",
    );
    says(&["evaluate", "replay", "--runs", "."], "is a folder");
    std::fs::write(folder.path().join("runs.csv"), log("\n")).unwrap();
    // A file is in the way: not even root may write below it.
    says(
        &[
            "evaluate",
            "replay",
            "--runs",
            "runs.csv",
            "--out",
            "runs.csv/out",
        ],
        "runs.csv/out",
    );
    says(
        &["evaluate", "simulate", "--scenario", "none.toml"],
        "none.toml",
    );
    std::fs::write(folder.path().join("bad.toml"), "nam = \"x\"\n").unwrap();
    says(
        &["evaluate", "simulate", "--scenario", "bad.toml"],
        "bad.toml: line",
    );
    std::fs::write(folder.path().join("sizes.csv"), "images\n5\n-1\n").unwrap();
    says(
        &["workload", "sizes", "--from", "sizes.csv"],
        "sizes.csv:3: images is -1",
    );
    std::fs::write(folder.path().join("zeros.csv"), "images\n0\n").unwrap();
    says(
        &["workload", "sizes", "--from", "zeros.csv"],
        "no batch with images",
    );
}

#[test]
fn a_simulation_is_reported_and_repeats_for_its_seed() {
    let folder = tempfile::tempdir().unwrap();
    let summary = |out: &str| -> Value {
        let ended = stoic(
            folder.path(),
            &[
                "evaluate",
                "simulate",
                "--batches",
                "120",
                "--seed",
                "3",
                "--out",
                out,
            ],
        );
        assert!(ended.status.success(), "{ended:?}");
        let text = std::fs::read(folder.path().join(out).join("summary.json")).unwrap();
        serde_json::from_slice(&text).unwrap()
    };
    let (one, two) = (summary("one"), summary("two"));
    assert_eq!(one, two);
    assert_eq!(one["batches"], 120);
    assert!(one["policies"]["cooperative"]["total_s"].is_number());
    assert!(
        one["policies"]["selector"]["versus_min_lat"]
            .as_f64()
            .unwrap()
            >= 1.0
    );
    assert!(
        folder
            .path()
            .join("one/figures/figure_2_mae_by_window.svg")
            .is_file()
    );
}

#[test]
fn the_workload_is_drawn_from_a_source_and_repeats_for_its_seed() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("sizes.csv"), "images\n7\n0\n0\n9\n").unwrap();
    let drawn = |arguments: &[&str]| -> String {
        let ended = stoic(folder.path(), arguments);
        assert!(ended.status.success(), "{ended:?}");
        String::from_utf8(ended.stdout).unwrap()
    };
    let sizes = drawn(&[
        "workload",
        "sizes",
        "--from",
        "sizes.csv",
        "--count",
        "500",
        "--seed",
        "1",
    ]);
    assert_eq!(sizes.lines().count(), 501);
    assert!(sizes.lines().skip(1).all(|size| ["7", "9"].contains(&size)));
    assert_eq!(
        sizes,
        drawn(&[
            "workload",
            "sizes",
            "--from",
            "sizes.csv",
            "--count",
            "500",
            "--seed",
            "1"
        ])
    );
    // Half of the source's hours are empty.
    let arrivals = drawn(&[
        "workload",
        "arrivals",
        "--from",
        "sizes.csv",
        "--days",
        "400",
        "--all-hours",
    ]);
    let rows: Vec<&str> = arrivals.lines().skip(1).collect();
    assert_eq!(rows.len(), 400 * 24);
    let empty = rows.iter().filter(|row| row.ends_with(",0")).count() as f64 / rows.len() as f64;
    assert!((empty - 0.5).abs() < 0.03, "{empty}");
    // Embedded: two thirds.
    let arrivals = drawn(&["workload", "arrivals", "--days", "400"]);
    let share = (arrivals.lines().count() - 1) as f64 / (400.0 * 24.0);
    assert!((share - 0.3347).abs() < 0.03, "{share}");
}

#[test]
fn batches_run_on_every_runtime_and_arrivals_are_replayed_against_a_gateway() {
    let gateway = Gateway::start();
    let spec = json!({"input": "batch", "standby": {"edge": 1}, "bootstrap": {"batches": [9, 3]}});
    gateway.deploy(&echo("batch", spec));
    gateway.until_bootstrapped("batch");
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("pool.zip"), zip_of(&texts(20))).unwrap();
    let url = format!("http://{}", gateway.address);
    let ended = stoic(
        folder.path(),
        &[
            "evaluate",
            "live",
            "--function",
            "batch",
            "--batches",
            "3",
            "--largest",
            "20",
            "--data",
            "pool.zip",
            "--gateway",
            &url,
            "--out",
            "live",
        ],
    );
    assert!(ended.status.success(), "{ended:?}");
    let text = std::fs::read(folder.path().join("live/summary.json")).unwrap();
    let summary: Value = serde_json::from_slice(&text).unwrap();
    assert_eq!(summary["rows"], 6, "{summary:#}");
    for policy in ["always_edge", "always_cpu", "selector", "min_lat"] {
        assert_eq!(summary["policies"][policy]["batches"], 3, "{policy}");
    }
    // What it measured is a log again.
    let again = stoic(
        folder.path(),
        &[
            "evaluate",
            "replay",
            "--runs",
            "live/tables/runs.csv",
            "--out",
            "again",
        ],
    );
    assert!(again.status.success(), "{again:?}");

    std::fs::write(
        folder.path().join("arrivals.csv"),
        "epoch,images\n1000,4\n4600,0\n8200,6\n",
    )
    .unwrap();
    let ended = stoic(
        folder.path(),
        &[
            "workload",
            "replay",
            "--speed",
            "7200",
            "--function",
            "batch",
            "--timestamps",
            "arrivals.csv",
            "--data",
            "pool.zip",
            "--gateway",
            &url,
            "--output",
            "json",
        ],
    );
    assert!(ended.status.success(), "{ended:?}");
    let summary: Value = serde_json::from_slice(&ended.stdout).unwrap();
    assert_eq!(
        (&summary["batches"], &summary["items"], &summary["failed"]),
        (&json!(2), &json!(10), &json!(0))
    );
    // Two hours at 7,200 times the speed are a second.
    assert!(summary["took_s"].as_f64().unwrap() >= 1.0, "{summary}");
}
