//! A package of items goes in, and its result comes out: at once, as events, and again later.

#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};
use stoic_tests::{Gateway, echo, tar_of, texts, until, zip_of};

/// A gateway with the function `batch`, warm at the edge.
fn gateway() -> Gateway {
    let gateway = Gateway::start();
    gateway.deploy(&echo(
        "batch",
        json!({"input": "batch", "standby": {"edge": 1}}),
    ));
    gateway.until_idle("batch", 1);
    gateway
}

fn names(result: &Value) -> Vec<&str> {
    let items = result["items"].as_array().expect("a list of items");
    items.iter().map(|i| i["name"].as_str().unwrap()).collect()
}

#[test]
fn zip_and_tar_are_worked_at_both_sites_and_give_the_same_result() {
    let gateway = gateway();
    let texts = texts(12);
    let expected: Vec<&str> = texts.iter().map(|(name, _)| name.as_str()).collect();
    for (bytes, media) in [
        (zip_of(&texts), "application/zip"),
        (tar_of(&texts), "application/x-tar"),
    ] {
        for (runtime, emulated) in [("edge", ""), ("cpu", "link")] {
            let answer = gateway
                .call("POST", "/function/batch")
                .on(runtime)
                .body(media, bytes.clone())
                .send()
                .ok();
            let result = answer.json();
            assert_eq!(names(&result), expected, "{media} on {runtime}");
            for (item, (_, text)) in result["items"].as_array().unwrap().iter().zip(&texts) {
                assert_eq!(item["bytes"], text.len(), "{item}");
            }
            assert_eq!(answer.header("x-stoic-runtime"), runtime);
            assert_eq!(answer.header("x-stoic-items"), "12");
            assert!(
                answer.header("x-stoic-emulated").starts_with(emulated),
                "{media} on {runtime}: {:?}",
                answer.headers
            );
        }
    }
}

#[test]
fn a_body_that_is_neither_package_nor_item_is_refused_by_the_function() {
    let gateway = gateway();
    let call = gateway.call("POST", "/function/batch");
    let answer = call.body("image/jpeg", "echo takes no single items").send();
    let detail = answer.problem(415, "unsupported_media_type");
    assert!(
        detail.contains("image/jpeg") && detail.contains("application/zip"),
        "{detail}"
    );
    gateway.until_idle("batch", 1);
}

#[test]
fn events_come_in_order_and_the_result_stays() {
    let gateway = gateway();
    let zip = zip_of(&texts(20));
    let lines = gateway
        .batch("/function/batch?delay=20ms", "cpu", &zip)
        .header("accept", "application/x-ndjson")
        .open();
    assert_eq!(lines.status, 200);
    assert_eq!(lines.headers["content-type"], "application/x-ndjson");
    let invocation = lines.headers["x-stoic-invocation"]
        .to_str()
        .unwrap()
        .to_owned();
    let events = lines.rest();
    let kinds: Vec<&str> = events.iter().map(|e| e["type"].as_str().unwrap()).collect();
    let mut order = kinds.clone();
    order.dedup();
    assert_eq!(
        order,
        [
            "accepted", "placed", "transfer", "working", "progress", "result"
        ],
        "{events:?}"
    );
    assert_eq!(events[0]["invocation"], invocation);
    assert_eq!(
        (&events[0]["items"], &events[0]["bytes"]),
        (&json!(20), &json!(zip.len()))
    );
    assert_eq!(events[1]["runtime"], "cpu");
    assert_eq!(events[2]["emulated"], true);
    assert_eq!(events[3]["start"], "cold");
    let done: Vec<u64> = events.iter().filter_map(|e| e["done"].as_u64()).collect();
    assert!(done.is_sorted() && done.last() == Some(&20), "{done:?}");
    let last = events.last().unwrap();
    assert_eq!(
        (&last["items"], &last["failed_items"]),
        (&json!(20), &json!(0))
    );
    // What the stream says of the invocation is what the history says.
    let rows = gateway.json("/v1/measurements?function=batch&limit=10");
    let row = rows
        .as_array()
        .unwrap()
        .iter()
        .find(|row| row["invocation"] == invocation);
    assert_eq!(row, Some(&last["measurement"]));
    assert!(
        row.unwrap()["actual"]["processing"].as_f64().unwrap() >= 0.4,
        "20 items of 20 ms"
    );

    let path = last["result"].as_str().unwrap();
    assert_eq!(path, format!("/v1/invocations/{invocation}/result"));
    for _ in 0..2 {
        let result = gateway.get(path).ok();
        assert_eq!(result.header("content-type"), "application/json");
        assert_eq!(names(&result.json()).len(), 20);
    }
    let absent = gateway.get("/v1/invocations/01arz3ndektsv4rrffq69g5fav/result");
    absent.problem(404, "unknown_result");
}

#[test]
fn what_was_cleared_at_the_far_site_is_cleared() {
    let gateway = gateway();
    let answer = gateway
        .batch("/function/batch", "cpu", &zip_of(&texts(3)))
        .send()
        .ok();
    let invocation = answer.header("x-stoic-invocation").to_owned();
    // Package and result are at home; soon after the answer the far site holds nothing.
    for kind in ["packages", "results"] {
        until("the far site is cleared", || {
            let left = gateway.stored(&format!("{kind}/{invocation}"));
            left == [format!("edge/{kind}/{invocation}")]
        });
    }
    assert!(gateway.unfinished().is_empty());
}

#[test]
fn work_ends_when_its_caller_leaves() {
    let gateway = gateway();
    let zip = zip_of(&texts(600));
    // 600 items of 50 ms are 30 s of work: more than this test waits for anything.
    for runtime in ["edge", "cpu"] {
        let mut lines = gateway
            .batch("/function/batch?delay=50ms", runtime, &zip)
            .header("accept", "application/x-ndjson")
            .open();
        let begun = lines.event("progress");
        assert!(begun["done"].as_u64().unwrap() < 600);
        drop(lines);
        until("the pod is idle again", || {
            let pods = gateway.pods("batch");
            pods.iter().any(|pod| pod["runtime"] == runtime)
                && pods.iter().all(|pod| pod["state"] == "idle")
        });
        // It serves the next one at once, so it has really stopped: one pod works one at a time.
        let next = gateway
            .batch("/function/batch", runtime, &zip_of(&texts(2)))
            .send()
            .ok();
        assert_eq!(next.header("x-stoic-start"), "warm");
        let pods = gateway.pods("batch");
        assert!(
            pods.iter()
                .filter(|pod| pod["runtime"] == runtime)
                .all(|pod| pod["name"] == next.header("x-stoic-pod")),
            "the same pod, not a new one: {pods:?}"
        );
    }
    // A caller who waits for the plain result and leaves ends the work as well.
    let edge = gateway.batch("/function/batch?delay=50ms", "edge", &zip);
    let left = edge
        .header("connection", "close")
        .give_up_after(std::time::Duration::from_millis(300));
    assert!(left, "30 s of work was done within 0.3 s");
    gateway.until_idle("batch", 2);
}

#[test]
fn a_large_package_is_never_held_in_memory() {
    let mut gateway = gateway();
    let noise: Vec<u8> = (0..10_000_000_u64)
        .map(|n| (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8)
        .collect();
    let entries: Vec<_> = (0..24)
        .map(|n| (format!("{n}.bin"), noise.as_slice()))
        .collect();
    let before = peak_mib(gateway.pid());
    for (runtime, entries) in [("edge", &entries[..]), ("cpu", &entries[..2])] {
        let call = gateway.call("POST", "/function/batch").on(runtime);
        let answer = call.body("application/x-tar", tar_of(entries)).send().ok();
        assert_eq!(answer.header("x-stoic-items"), entries.len().to_string());
    }
    let after = peak_mib(gateway.pid());
    assert!(gateway.lives());
    assert!(
        after < before + 150,
        "from {before} MiB to {after} MiB, for a package of 229 MiB"
    );
}

/// Most memory that a process ever held, in MiB.
fn peak_mib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .unwrap();
    line.split_whitespace()
        .next()
        .unwrap()
        .parse::<u64>()
        .unwrap()
        / 1024
}
