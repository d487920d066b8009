//! A batch that the edge and the cloud share is complete, in order and each item once, and its result is
//! that of one pod, whatever happens to either side on the way.

#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};
use std::time::{Duration, Instant};
use stoic_tests::{Call, Gateway, Launch, Lines, echo, tar_of, texts, zip_of};

/// A function that can be shared, warm at both sites.
fn deployed(gateway: &Gateway, spec: Value) {
    let mut all = json!({
        "input": "batch", "divisible": true,
        "standby": {"edge": {"min": 1, "max": 2}, "cpu": {"min": 1, "max": 2}},
    });
    all.as_object_mut()
        .unwrap()
        .extend(spec.as_object().unwrap().clone());
    gateway.deploy(&echo("shared", all));
    gateway.until_idle("shared", 2);
}

fn gateway() -> Gateway {
    let gateway = Gateway::start();
    deployed(&gateway, json!({}));
    gateway
}

fn call(gateway: &Gateway, path: &str, mode: &str, media: &str, bytes: &[u8]) -> Call {
    gateway
        .call("POST", path)
        .header("x-stoic-mode", mode)
        .body(media, bytes)
}

/// The result of the whole batch in one pod.
fn alone(gateway: &Gateway, path: &str, media: &str, bytes: &[u8]) -> Vec<u8> {
    let call = gateway.call("POST", path).on("edge").body(media, bytes);
    call.send().ok().body
}

/// Items done by each runtime, as the measurement says.
fn by(measurement: &Value, runtime: &str) -> u64 {
    measurement["items_by"][runtime].as_u64().unwrap_or(0)
}

/// Reads on until the runtime says that it has done some of its items.
fn until_works(lines: &mut Lines, runtime: &str) {
    loop {
        let progress = lines.event("progress");
        if progress["by_runtime"][runtime].as_u64() > Some(0) {
            return;
        }
    }
}

/// Reads the last event, and the result that it names.
fn ended(gateway: &Gateway, lines: &mut Lines, items: u64) -> (Value, Vec<u8>) {
    let last = lines.event("result");
    assert_eq!(last["items"], items, "{last}");
    let m = &last["measurement"];
    assert_eq!(by(m, "edge") + by(m, "cpu"), items, "{m}");
    let result = gateway.get(last["result"].as_str().unwrap()).ok().body;
    (last, result)
}

#[test]
fn the_result_is_that_of_one_pod() {
    let gateway = gateway();
    let texts = texts(61);
    for (bytes, media) in [
        (zip_of(&texts), "application/zip"),
        (tar_of(&texts), "application/x-tar"),
    ] {
        let path = "/function/shared?delay=10ms";
        let whole = alone(&gateway, path, media, &bytes);
        let answer = call(&gateway, path, "cooperative", media, &bytes)
            .send()
            .ok();
        assert_eq!(answer.body, whole, "{media}");
        assert_eq!(answer.header("x-stoic-mode"), "cooperative");
        assert_eq!(answer.header("x-stoic-items"), "61");
        assert_eq!(answer.header("x-stoic-runtime"), "edge+cpu");
        assert_eq!(answer.header("x-stoic-emulated"), "link");
        let by: Vec<(&str, u64)> = answer
            .header("x-stoic-items-by")
            .split(';')
            .map(|one| one.split_once('=').unwrap())
            .map(|(runtime, items)| (runtime, items.parse().unwrap()))
            .collect();
        assert_eq!(by.iter().map(|(_, items)| items).sum::<u64>(), 61, "{by:?}");
        assert!(
            by.len() == 2 && by.iter().all(|(_, items)| *items > 5),
            "{by:?}"
        );
    }
    // Neither parts nor results of parts stay behind.
    stoic_tests::until("everything is cleared", || {
        gateway.stored("cloud/packages/").is_empty()
            && gateway
                .stored("results/")
                .iter()
                .all(|key| !key.contains('.'))
    });
}

/// Of each shared batch: what the fluid view said, what was predicted, and what it took.
fn told(gateway: &Gateway, count: usize) -> Vec<(f64, f64, f64)> {
    let asked = "SELECT fluid, pred_processing, act_queueing + act_transfer + act_deployment + act_processing \
                 FROM measurements WHERE fluid IS NOT NULL ORDER BY id";
    stoic_tests::until_some("they are written down", || {
        let database = gateway.database();
        let mut statement = database.prepare(asked).unwrap();
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)));
        let rows: Vec<_> = rows.unwrap().map(Result::unwrap).collect();
        (rows.len() == count).then_some(rows)
    })
}

#[test]
fn what_sharing_costs_is_learned_and_outlives_the_gateway() {
    // Far enough away for the fluid view, which knows no round trips, to be wrong.
    let launch = Launch::default().config(
        "[inquisitor]\nenabled = false\n[sites.edge]\n[sites.cloud.emulated_link]\nbandwidth = \"1 Gbit/s\"\n\
         rtt = \"100ms\"\n",
    );
    let gateway = launch.start();
    deployed(&gateway, json!({}));
    let (path, media) = ("/function/shared?delay=20ms", "application/zip");
    let zip = zip_of(&texts(40));
    for place in ["edge", "cpu", "edge", "cpu"] {
        let _ = gateway.batch(path, place, &zip).send().ok();
    }
    for _ in 0..6 {
        let _ = call(&gateway, path, "cooperative", media, &zip).send().ok();
    }
    let all = told(&gateway, 6);
    let (fluid, predicted, _) = all[0];
    assert!(
        (fluid - predicted).abs() < 1e-9,
        "nothing is known yet: {all:?}"
    );
    let mut errors: Vec<(f64, f64)> = all[3..]
        .iter()
        .map(|(fluid, predicted, took)| ((predicted - took).abs(), (fluid - took).abs()))
        .collect();
    errors.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (learned, fluid) = errors[1];
    assert!(learned < fluid / 2.0, "{all:?}");

    let gateway = gateway.reborn(&launch);
    gateway.until_idle("shared", 2);
    let _ = call(&gateway, path, "cooperative", media, &zip).send().ok();
    let all = told(&gateway, 7);
    let (fluid, predicted, _) = all[6];
    assert!(predicted > 1.1 * fluid, "it is still known: {all:?}");
}

#[test]
fn damaged_items_and_parameters_survive_the_division() {
    let gateway = gateway();
    let texts = texts(24);
    let zip = zip_of(&texts);
    // The checksums of some items no longer hold.
    let bad = {
        let mut bad = zip.clone();
        for at in [bad.len() / 5, bad.len() / 2] {
            bad[at] ^= 0x55;
        }
        bad
    };
    let whole = alone(&gateway, "/function/shared", "application/zip", &bad);
    let failed = serde_json::from_slice::<Value>(&whole).unwrap()["items"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|item| item.get("error").is_some())
        .count();
    let path = "/function/shared?delay=10ms";
    let mut lines = call(&gateway, path, "cooperative", "application/zip", &bad)
        .header("accept", "application/x-ndjson")
        .open();
    let (last, result) = ended(&gateway, &mut lines, 24);
    assert_eq!(last["failed_items"], failed);
    assert_eq!(result, whole);
}

#[test]
fn it_is_quicker_than_either_place_and_says_how_far_each_is() {
    let gateway = gateway();
    let zip = zip_of(&texts(100));
    let path = "/function/shared?delay=20ms";
    let begun = Instant::now();
    let events = call(&gateway, path, "cooperative", "application/zip", &zip)
        .header("accept", "application/x-ndjson")
        .open()
        .rest();
    let took = begun.elapsed();
    // Alone, either would wait for two seconds in all.
    assert!(took < Duration::from_millis(1700), "{took:?}");
    let progress: Vec<&Value> = events.iter().filter(|e| e["type"] == "progress").collect();
    let done: Vec<u64> = progress.iter().filter_map(|e| e["done"].as_u64()).collect();
    assert!(done.is_sorted() && done.last() == Some(&100), "{done:?}");
    let last = progress.last().unwrap();
    let of = |runtime: &str| last["by_runtime"][runtime].as_u64().unwrap();
    assert_eq!(of("edge") + of("cpu"), 100, "{last}");
    // Only what the cloud worked travelled, or little more.
    let sent: u64 = events
        .iter()
        .filter(|e| e["type"] == "transfer")
        .filter_map(|e| e["bytes"].as_u64())
        .sum();
    assert!(
        sent > 0 && sent < zip.len() as u64,
        "{sent} of {}",
        zip.len()
    );
    let working = events.iter().filter(|e| e["type"] == "working").count();
    assert_eq!(working, 2, "one lease a side: {events:?}");
    gateway.until_idle("shared", 2);
}

#[test]
fn the_edge_begins_while_the_cloud_is_deployed_and_may_end_before_it_is_up() {
    let gateway = Gateway::start();
    let spec = json!({
        "input": "batch", "divisible": true, "standby": {"edge": 1},
        "env": {"ECHO_START_DELAY": "1s"},
    });
    gateway.deploy(&echo("shared", spec));
    gateway.until_idle("shared", 1);
    let zip = zip_of(&texts(20));
    let path = "/function/shared?delay=10ms";
    let answer = call(&gateway, path, "cooperative", "application/zip", &zip)
        .send()
        .ok();
    assert_eq!(answer.header("x-stoic-runtime"), "edge");
    assert_eq!(answer.header("x-stoic-items-by"), "cpu=0;edge=20");
    assert_eq!(answer.header("x-stoic-cloud-lost"), "0.0000");
    // One that is long enough is shared once the cloud is up.
    let zip = zip_of(&texts(150));
    gateway.until_idle("shared", 2);
    let path = "/function/shared?delay=20ms";
    let answer = call(&gateway, path, "cooperative", "application/zip", &zip)
        .send()
        .ok();
    assert_eq!(answer.header("x-stoic-runtime"), "edge+cpu");
}

/// A pod that dies is replaced or done without.
fn killed(runtime: &str) {
    let gateway = gateway();
    let zip = zip_of(&texts(80));
    let path = "/function/shared?delay=20ms";
    let whole = alone(&gateway, path, "application/zip", &zip);
    let mut lines = call(&gateway, path, "cooperative", "application/zip", &zip)
        .header("accept", "application/x-ndjson")
        .open();
    until_works(&mut lines, runtime);
    assert!(gateway.kill_pod(gateway.pod_on("shared", runtime)));
    let (_, result) = ended(&gateway, &mut lines, 80);
    assert_eq!(result, whole);
    gateway.until_idle("shared", 2);
}

#[test]
fn the_cloud_pod_dies() {
    killed("cpu");
}

#[test]
fn the_edge_pod_dies() {
    killed("edge");
}

/// A pod that hangs is worked around.
fn frozen(runtime: &str) {
    let gateway = gateway();
    let zip = zip_of(&texts(60));
    let path = "/function/shared?delay=20ms";
    let whole = alone(&gateway, path, "application/zip", &zip);
    let mut lines = call(&gateway, path, "cooperative", "application/zip", &zip)
        .header("accept", "application/x-ndjson")
        .open();
    until_works(&mut lines, runtime);
    gateway.freeze_pod(gateway.pod_on("shared", runtime));
    let begun = Instant::now();
    let (_, result) = ended(&gateway, &mut lines, 60);
    assert_eq!(result, whole);
    assert!(
        begun.elapsed() < Duration::from_secs(15),
        "{:?}",
        begun.elapsed()
    );
}

#[test]
fn the_cloud_pod_hangs() {
    frozen("cpu");
}

/// The link goes down in the middle, and comes back after this time, if at all.
fn outage(kind: &str, back: Option<Duration>) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("outage");
    let config = stoic_tests::QUICK.replace(
        "rtt = \"2ms\"",
        &format!("rtt = \"2ms\"\noutage = {:?}", file.display().to_string()),
    );
    let gateway = Launch::default().config(&config).start();
    deployed(&gateway, json!({}));
    let zip = zip_of(&texts(80));
    let path = "/function/shared?delay=20ms";
    let whole = alone(&gateway, path, "application/zip", &zip);
    let mut lines = call(&gateway, path, "cooperative", "application/zip", &zip)
        .header("accept", "application/x-ndjson")
        .open();
    until_works(&mut lines, "cpu");
    std::fs::write(&file, kind).unwrap();
    if let Some(back) = back {
        std::thread::sleep(back);
        std::fs::remove_file(&file).unwrap();
    }
    let (last, result) = ended(&gateway, &mut lines, 80);
    assert_eq!(result, whole);
    assert!(by(&last["measurement"], "edge") > 0, "{last}");
}

#[test]
fn the_link_is_cut_for_good() {
    outage("cut", None);
}

#[test]
fn the_link_is_cut_and_comes_back() {
    outage("cut", Some(Duration::from_millis(300)));
}

#[test]
fn the_link_hangs_for_good() {
    outage("hold", None);
}

#[test]
fn the_link_is_delayed() {
    outage("hold", Some(Duration::from_millis(500)));
}

/// The edge is known for a hundredth of what it takes now, so that it is given everything at first.
#[test]
fn a_prediction_that_is_wrong_by_far_is_made_up_for() {
    let gateway = gateway();
    let zip = zip_of(&texts(60));
    let whole = alone(&gateway, "/function/shared", "application/zip", &zip);
    let path = "/function/shared?delay=30ms";
    let mut lines = call(&gateway, path, "cooperative", "application/zip", &zip)
        .header("accept", "application/x-ndjson")
        .open();
    let (last, result) = ended(&gateway, &mut lines, 60);
    assert_eq!(result, whole);
    assert!(by(&last["measurement"], "cpu") > 3, "{last}");
}

#[test]
fn a_client_that_leaves_ends_both_sides() {
    let gateway = gateway();
    let zip = zip_of(&texts(200));
    let path = "/function/shared?delay=50ms";
    let mut lines = call(&gateway, path, "cooperative", "application/zip", &zip)
        .header("accept", "application/x-ndjson")
        .open();
    until_works(&mut lines, "edge");
    drop(lines);
    gateway.until_idle("shared", 2);
}
