//! A batch that runs at the edge and in the cloud is answered by whoever is done first; the other is
//! ended at once, and what that cost the cloud is on the account.

#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};
use std::time::{Duration, Instant};
use stoic_tests::{Call, Gateway, Launch, Lines, QUICK, echo, texts, until, until_some, zip_of};

const ZIP: &str = "application/zip";

fn deployed(gateway: &Gateway, spec: Value) {
    let mut all = json!({
        "input": "batch",
        "standby": {"edge": {"min": 1, "max": 2}, "cpu": {"min": 1, "max": 2}},
    });
    all.as_object_mut()
        .unwrap()
        .extend(spec.as_object().unwrap().clone());
    gateway.deploy(&echo("raced", all));
}

/// A gateway with the function `raced`, warm at both sites.
fn gateway() -> Gateway {
    let gateway = Gateway::start();
    deployed(&gateway, json!({}));
    gateway.until_idle("raced", 2);
    gateway
}

/// Has each runtime work a few batches, at so many milliseconds an item, so that it is known for that.
fn teach(gateway: &Gateway, edge_ms: u64, cpu_ms: u64) {
    for (runtime, delay) in [("edge", edge_ms), ("cpu", cpu_ms)] {
        for items in [5, 10] {
            let path = format!("/function/raced?delay={delay}ms");
            let answer = gateway.batch(&path, runtime, &zip_of(&texts(items))).send();
            let _ = answer.ok();
        }
    }
    until("both are known", || {
        let predicted = gateway.json("/v1/functions/raced/predict?items=10&bytes=1000");
        let known = |one: &Value| one["estimate"]["processing"]["points"] == 2;
        predicted["runtimes"].as_array().unwrap().iter().all(known)
    });
}

fn race(gateway: &Gateway, delay_ms: u64, zip: &[u8]) -> Call {
    gateway
        .call("POST", &format!("/function/raced?delay={delay_ms}ms"))
        .header("x-stoic-mode", "duplicator")
        .body(ZIP, zip)
}

fn open(gateway: &Gateway, delay_ms: u64, zip: &[u8]) -> Lines {
    race(gateway, delay_ms, zip)
        .header("accept", "application/x-ndjson")
        .open()
}

fn names(result: &Value) -> Vec<&str> {
    let items = result["items"].as_array().expect("a list of items");
    items.iter().map(|i| i["name"].as_str().unwrap()).collect()
}

/// Checks that the result holds every item once, in order.
fn whole(gateway: &Gateway, last: &Value, items: usize) {
    let texts = texts(items);
    let expected: Vec<&str> = texts.iter().map(|(name, _)| name.as_str()).collect();
    let result = gateway.get(last["result"].as_str().unwrap()).ok().json();
    assert_eq!(names(&result), expected);
}

/// A number of `/metrics`, summed over all labels but those that are named.
fn metric(gateway: &Gateway, name: &str, label: &str) -> f64 {
    let text = gateway.get("/metrics").ok().text();
    text.lines()
        .filter(|line| line.starts_with(name) && line.contains(label))
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        .sum()
}

/// How many losers were ended, and how many of them within a tenth of a second.
fn losers(gateway: &Gateway) -> (f64, f64) {
    (
        metric(gateway, "stoic_loser_ended_seconds_count", ""),
        metric(gateway, "stoic_loser_ended_seconds_bucket", "le=\"0.1\""),
    )
}

#[test]
fn the_edge_is_first_and_the_cloud_is_ended_within_a_tenth_of_a_second() {
    let gateway = gateway();
    // By what is known, the cloud will be quicker; by what happens, the edge is, which began before.
    teach(&gateway, 80, 2);
    let config = gateway.pods("raced");
    assert_eq!(config.len(), 2);
    let zip = zip_of(&texts(20));
    // The cloud is busy for a moment, so that the edge is ahead.
    let other = zip_of(&texts(10));
    let busy = gateway.batch("/function/raced?delay=40ms", "cpu", &other);
    let busy = busy.header("accept", "application/x-ndjson").open();
    let mut lines = open(&gateway, 60, &zip);
    let resolved = lines.event("resolved");
    assert_eq!(resolved["both"], true, "{resolved}");
    let last = lines.event("result");
    let m = &last["measurement"];
    assert_eq!(
        (&m["runtime"], &m["mode"]),
        (&json!("edge"), &json!("duplicator"))
    );
    whole(&gateway, &last, 20);
    assert!(m["race"]["lost_s"].as_f64().unwrap() > 0.1, "{m}");
    assert_eq!(m["race"]["saved_s"], 0.0);
    assert_eq!(m["race"]["used_s"], 0.0);
    drop(busy);
    until("the loser is ended", || losers(&gateway).0 > 0.0);
    assert_eq!(losers(&gateway), (1.0, 1.0), "{}", gateway.log());
    until("every pod is idle again", || {
        gateway
            .pods("raced")
            .iter()
            .all(|pod| pod["state"] == "idle")
    });
    // In sum: the account and the metrics say the same.
    let account = until_some("the race is on the account", || {
        let account = gateway.json("/v1/account");
        account.as_array().unwrap().first().cloned()
    });
    assert_eq!(account["runtime"], "cpu");
    assert_eq!(
        (&account["races"], &account["edge_wins"]),
        (&json!(1), &json!(1))
    );
    assert_eq!(account["lost_s"], m["race"]["lost_s"]);
    let lost = metric(&gateway, "stoic_cloud_seconds_total", "kind=\"lost\"");
    assert!((lost - m["race"]["lost_s"].as_f64().unwrap()).abs() < 1e-9);
}

#[test]
fn the_edge_runs_alone_when_its_rest_is_shorter_and_the_cloud_is_given_back() {
    let gateway = gateway();
    teach(&gateway, 2, 80);
    let zip = zip_of(&texts(20));
    let mut lines = open(&gateway, 10, &zip);
    let resolved = lines.event("resolved");
    assert_eq!(resolved["both"], false, "{resolved}");
    assert!(
        resolved["edge_rest_s"].as_f64() < resolved["cloud_rest_s"].as_f64(),
        "{resolved}"
    );
    let last = lines.event("result");
    let m = &last["measurement"];
    assert_eq!(m["runtime"], "edge");
    whole(&gateway, &last, 20);
    // What the cloud would have taken.
    assert!(m["race"]["saved_s"].as_f64().unwrap() > 1.0, "{m}");
    assert_eq!(m["race"]["lost_s"], 0.0);
    assert_eq!(losers(&gateway).0, 0.0, "nothing had to be ended");
    gateway.until_idle("raced", 2);
}

#[test]
fn a_slow_edge_loses_and_is_ended_within_a_tenth_of_a_second() {
    let gateway = gateway();
    teach(&gateway, 40, 2);
    let zip = zip_of(&texts(20));
    let mut lines = open(&gateway, 20, &zip);
    assert_eq!(lines.event("resolved")["both"], true);
    // It does nothing any more, and hears nothing.
    gateway.freeze_pod(gateway.pod_on("raced", "edge"));
    let last = lines.event("result");
    let m = &last["measurement"];
    assert_eq!(m["runtime"], "cpu");
    whole(&gateway, &last, 20);
    assert!(m["race"]["used_s"].as_f64().unwrap() > 0.3, "{m}");
    assert_eq!(m["race"]["lost_s"], 0.0);
    until("the loser is ended", || losers(&gateway).0 > 0.0);
    assert_eq!(losers(&gateway), (1.0, 1.0), "{}", gateway.log());
    // The pod that hung is gone, and another is there.
    gateway.until_idle("raced", 2);
}

#[test]
fn a_race_teaches_what_its_winner_took_and_nothing_of_the_loser() {
    let gateway = gateway();
    teach(&gateway, 40, 2);
    let zip = zip_of(&texts(20));
    let _ = race(&gateway, 20, &zip).send().ok();
    until("the winner's time is learned, and no other", || {
        let predicted = gateway.json("/v1/functions/raced/predict?items=10&bytes=1000");
        let all = predicted["runtimes"].as_array().unwrap().iter();
        let points = all.map(|one| one["estimate"]["processing"]["points"].as_u64().unwrap());
        points.sum::<u64>() == 5
    });
}

fn killed(runtime: &str) {
    let gateway = gateway();
    teach(&gateway, 40, 2);
    let zip = zip_of(&texts(30));
    let mut lines = open(&gateway, 20, &zip);
    assert_eq!(lines.event("resolved")["both"], true);
    std::thread::sleep(Duration::from_millis(100));
    assert!(gateway.kill_pod(gateway.pod_on("raced", runtime)));
    let last = lines.event("result");
    assert_ne!(last["measurement"]["runtime"], runtime);
    whole(&gateway, &last, 30);
    gateway.until_idle("raced", 2);
}

#[test]
fn the_cloud_pod_dies() {
    killed("cpu");
}

#[test]
fn the_edge_pod_dies() {
    killed("edge");
}

#[test]
fn both_pods_die_and_the_batch_is_placed_again() {
    let gateway = gateway();
    teach(&gateway, 40, 2);
    let zip = zip_of(&texts(30));
    let mut lines = open(&gateway, 20, &zip);
    assert_eq!(lines.event("resolved")["both"], true);
    for runtime in ["edge", "cpu"] {
        assert!(gateway.kill_pod(gateway.pod_on("raced", runtime)));
    }
    let _ = lines.event("retry");
    let last = lines.event("result");
    whole(&gateway, &last, 30);
}

/// The link goes down in the middle.
fn outage(kind: &str) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("outage");
    let named = format!("rtt = \"2ms\"\noutage = {:?}", file.display().to_string());
    let config = QUICK.replace("rtt = \"2ms\"", &named);
    let gateway = Launch::default().config(&config).start();
    deployed(&gateway, json!({}));
    gateway.until_idle("raced", 2);
    teach(&gateway, 40, 2);
    let zip = zip_of(&texts(30));
    let mut lines = open(&gateway, 20, &zip);
    assert_eq!(lines.event("resolved")["both"], true);
    std::fs::write(&file, kind).unwrap();
    let begun = Instant::now();
    let last = lines.event("result");
    assert_eq!(last["measurement"]["runtime"], "edge");
    assert!(
        begun.elapsed() < Duration::from_secs(5),
        "{:?}",
        begun.elapsed()
    );
    whole(&gateway, &last, 30);
    std::fs::remove_file(&file).unwrap();
}

#[test]
fn the_link_is_cut() {
    outage("cut");
}

#[test]
fn the_link_hangs() {
    outage("hold");
}

#[test]
fn a_cloud_that_cannot_be_deployed_leaves_the_edge_alone() {
    let gateway = Gateway::start();
    // The cloud's pods never become ready.
    let spec = json!({
        "standby": {"edge": 1}, "readyTimeout": "1s", "env": {"ECHO_START_DELAY": "300ms"},
    });
    deployed(&gateway, spec);
    gateway.until_idle("raced", 1);
    let zip = zip_of(&texts(10));
    let answer = race(&gateway, 5, &zip).send().ok();
    assert_eq!(answer.header("x-stoic-runtime"), "edge");
    // The edge was done before the cloud was up.
    assert_eq!(answer.header("x-stoic-cloud-lost"), "0.0000");
}
