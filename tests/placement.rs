//! Predictions are finite, nested and truthful about size and load, and the choice follows them.

#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};
use stoic_tests::{Gateway, Launch, echo, texts, until, zip_of};

/// The estimate for a runtime in an answer of `predict`.
fn of<'a>(predicted: &'a Value, runtime: &str) -> &'a Value {
    let mut all = predicted["runtimes"].as_array().unwrap().iter();
    let found = all.find(|one| one["runtime"] == runtime);
    &found.unwrap_or_else(|| panic!("no {runtime} in {predicted}"))["estimate"]
}

fn mean(estimate: &Value, part: &str) -> f64 {
    estimate[part]["mean"].as_f64().unwrap()
}

#[test]
fn after_the_bootstrap_every_runtime_has_a_nested_estimate() {
    let gateway = Gateway::start();
    let spec = json!({"input": "batch", "standby": {"edge": 1}, "bootstrap": {"batches": [9, 3]}});
    gateway.deploy(&echo("batch", spec));
    gateway.until_bootstrapped("batch");
    let bootstrap = gateway.json("/v1/functions/batch")["status"]["bootstrap"].clone();
    assert_eq!(
        (&bootstrap["done"], &bootstrap["total"]),
        (&json!(4), &json!(4))
    );
    until("all of it is learned", || {
        let predicted = gateway.json("/v1/functions/batch/predict?items=5&bytes=1000000");
        ["edge", "cpu"]
            .iter()
            .all(|runtime| of(&predicted, runtime)["processing"]["points"] == 2)
    });
    for (items, bytes) in [
        (1, 0),
        (5, 1_000_000),
        (1000, 40_000_000),
        (100_000_000, 1_u64 << 50),
    ] {
        let predicted = gateway.json(&format!(
            "/v1/functions/batch/predict?items={items}&bytes={bytes}"
        ));
        for runtime in ["edge", "cpu"] {
            let estimate = of(&predicted, runtime);
            for part in [
                "queueing",
                "transfer",
                "deployment",
                "processing",
                "response",
            ] {
                let part = &estimate[part];
                let at =
                    |interval: &str, end: &str| part[interval][end].as_f64().unwrap_or(f64::NAN);
                let ladder = [
                    0.0,
                    at("p90", "low"),
                    at("p50", "low"),
                    part["mean"].as_f64().unwrap_or(f64::NAN),
                    at("p50", "high"),
                    at("p90", "high"),
                ];
                assert!(
                    ladder.is_sorted() && ladder.iter().all(|s| s.is_finite()),
                    "{runtime} {items}: {estimate}"
                );
                assert_eq!(part["known"], true, "{runtime} {items}: {estimate}");
            }
            let sum: f64 = ["queueing", "transfer", "deployment", "processing"]
                .iter()
                .map(|part| mean(estimate, part))
                .sum();
            assert!(
                (sum - mean(estimate, "response")).abs() <= 1e-6 * sum.max(1.0),
                "{estimate}"
            );
        }
        let choice = predicted["choice"].as_str().unwrap();
        assert!(
            ["edge", "cpu"].contains(&choice) && !predicted["reason"].as_str().unwrap().is_empty()
        );
    }
}

#[test]
fn transfer_grows_with_bytes_where_there_is_a_link_and_is_nothing_where_there_is_none() {
    let gateway = Launch::default()
        .config(
            "[sites.edge]\n[sites.cloud.emulated_link]\nbandwidth = \"80 Mbit/s\"\nrtt = \"20ms\"\n\
             [sites.cloud.emulated_deployment]\ntrace = \"nautilus\"\nscale = 0.0\n",
        )
        .start();
    gateway.deploy(&echo("batch", json!({"input": "batch"})));
    let at = |bytes: u64| gateway.json(&format!("/v1/functions/batch/predict?bytes={bytes}"));
    let transfers: Vec<f64> = [0, 1_000_000, 10_000_000, 100_000_000]
        .map(|bytes| mean(of(&at(bytes), "cpu"), "transfer"))
        .to_vec();
    assert!(transfers.is_sorted_by(|a, b| a < b), "{transfers:?}");
    // Before anything travelled, the link is taken at its word: 10 MB over 10 MB/s.
    assert!((transfers[2] - 1.0).abs() < 0.2, "{transfers:?}");
    assert_eq!(mean(of(&at(100_000_000), "edge"), "transfer"), 0.0);
    // A package that does travel takes about as long as was said: no faster than the link allows, and
    // the estimate holds.
    let bytes = vec![7_u8; 3_000_000];
    let tar = stoic_tests::tar_of(&[("one", bytes)]);
    let answer = gateway
        .call("POST", "/function/batch")
        .on("cpu")
        .body("application/x-tar", tar)
        .send()
        .ok();
    let actual = answer.header("x-stoic-actual").to_owned();
    let transfer: f64 = actual
        .split(';')
        .find_map(|part| part.strip_prefix("transfer="))
        .unwrap()
        .parse()
        .unwrap();
    assert!(
        (0.3..1.0).contains(&transfer),
        "3 MB over 10 MB/s: {actual}"
    );
    let runtimes = gateway.json("/v1/runtimes");
    let cpu = runtimes
        .as_array()
        .unwrap()
        .iter()
        .find(|one| one["name"] == "cpu")
        .unwrap();
    assert_eq!(
        (&cpu["emulated"], &cpu["site"]),
        (&json!("link,deployment"), &json!("cloud"))
    );
}

#[test]
fn a_busy_edge_shows_a_queue_and_the_choice_goes_elsewhere() {
    let gateway = Gateway::start();
    let spec = json!({"input": "batch", "concurrency": 1, "standby": {"edge": 1, "cpu": 1}});
    gateway.deploy(&echo("batch", spec));
    gateway.until_idle("batch", 2);
    // What there is to learn: 20 ms an item, at both.
    std::thread::scope(|scope| {
        for runtime in ["edge", "cpu"] {
            let gateway = &gateway;
            scope.spawn(move || {
                for items in [2, 10, 5, 15] {
                    let call = gateway.batch(
                        "/function/batch?delay=20ms",
                        runtime,
                        &zip_of(&texts(items)),
                    );
                    let _ = call.send().ok();
                }
            });
        }
    });
    let ask = || gateway.json("/v1/functions/batch/predict?items=10&bytes=1000");
    until("it is learned", || {
        let predicted = ask();
        ["edge", "cpu"]
            .iter()
            .all(|runtime| of(&predicted, runtime)["processing"]["points"] == 4)
    });
    let idle = ask();
    for runtime in ["edge", "cpu"] {
        let processing = mean(of(&idle, runtime), "processing");
        assert!(
            (0.15..0.5).contains(&processing),
            "10 items of 20 ms: {processing} on {runtime}"
        );
        assert_eq!(mean(of(&idle, runtime), "queueing"), 0.0);
    }
    // 3 s of work at the edge, as the edge knows.
    let mut busy = gateway
        .batch("/function/batch?delay=20ms", "edge", &zip_of(&texts(150)))
        .header("accept", "application/x-ndjson")
        .open();
    busy.event("working");
    let loaded = ask();
    let queue = mean(of(&loaded, "edge"), "queueing");
    assert!((1.0..6.0).contains(&queue), "about 3 s are left: {queue}");
    assert_eq!(mean(of(&loaded, "cpu"), "queueing"), 0.0);
    assert_eq!(loaded["choice"], "cpu", "{loaded}");
    let zip = zip_of(&texts(2));
    let answer = gateway
        .call("POST", "/function/batch")
        .body("application/zip", zip)
        .send()
        .ok();
    assert_eq!(answer.header("x-stoic-runtime"), "cpu");
    assert!(!answer.header("x-stoic-reason").is_empty());
    drop(busy);
    gateway.until_idle("batch", 2);
    assert_eq!(mean(of(&ask(), "edge"), "queueing"), 0.0);
}
