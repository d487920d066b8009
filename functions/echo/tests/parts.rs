//! Promises of a pod that have to do with parts of a batch: worked apart, cut short, merged, given up.
#![allow(clippy::unwrap_used)]

mod pod;

use pod::store::Store;
use pod::{Pod, batch_request};
use serde_json::{Value, json};
use std::io::{Cursor, Write};
use std::time::{Duration, Instant};
use zip::write::SimpleFileOptions;

const ECHO: &str = env!("CARGO_BIN_EXE_stoic-echo");
const NDJSON: &str = "application/x-ndjson";

fn package(items: usize) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for item in 0..items {
        zip.start_file(format!("{item}.txt"), SimpleFileOptions::default())
            .unwrap();
        zip.write_all(format!("item {item}").repeat(item).as_bytes())
            .unwrap();
    }
    zip.finish().unwrap().into_inner()
}

/// A request for a range of a package at a URL.
fn part(store: &Store, zip: &[u8], range: std::ops::Range<usize>, more: Value) -> String {
    let mut request = json!({
        "invocation": "inv-9",
        "input": {"url": store.url("/p.zip"), "bytes": zip.len(), "content_type": "application/zip"},
        "range": {"start": range.start, "end": range.end},
        "part": {"first": range.start, "total": 30},
    });
    let (Value::Object(all), Value::Object(more)) = (&mut request, more) else {
        panic!("objects");
    };
    all.extend(more);
    request.to_string()
}

fn merge(pod: &Pod, parts: &[(String, usize, [usize; 2])]) -> pod::Answer {
    let parts: Vec<Value> = parts
        .iter()
        .map(|(url, bytes, [start, end])| {
            json!({"url": url, "bytes": bytes, "take": {"start": start, "end": end}})
        })
        .collect();
    let body = json!({"invocation": "inv-9", "action": "infer", "parts": parts}).to_string();
    pod.send("POST", "/_stoic/merge", "", body.as_bytes())
}

#[test]
fn parts_that_overlap_merge_to_the_whole() {
    let (pod, store) = (Pod::start(ECHO, &[]), Store::start());
    let zip = package(30);
    store.keep("/p.zip", &zip);
    let whole = json!({
        "invocation": "inv-8",
        "input": {"url": store.url("/p.zip"), "bytes": zip.len(), "content_type": "application/zip"},
    });
    let whole = pod.batch("*/*", &whole.to_string()).json();
    let mut parts = Vec::new();
    // Items 8 to 12 were done twice; each is taken once.
    for (range, take) in [(0..12, [0, 8]), (8..20, [0, 12]), (20..30, [0, 10])] {
        let answer = pod.batch("*/*", &part(&store, &zip, range.clone(), json!({})));
        assert_eq!(
            answer.header("x-stoic-items"),
            Some(&*range.len().to_string())
        );
        let path = format!("/part-{}", range.start);
        parts.push((store.keep(&path, &answer.body), answer.body.len(), take));
    }
    let merged = merge(&pod, &parts).json();
    assert_eq!(merged["value"], whole);
    assert_eq!(
        (&merged["items"], &merged["failed_items"]),
        (&json!(30), &json!(0))
    );
    // More than a part holds is not taken from it.
    parts[0].2 = [0, 13];
    let refused = merge(&pod, &parts);
    assert_eq!(
        (refused.status, refused.code()),
        (400, "part_invalid".to_owned())
    );
    let refused = pod.send("POST", "/_stoic/merge", "", b"{}");
    assert_eq!(refused.code(), "merge_invalid");
}

#[test]
fn a_part_ends_where_it_is_told_to_meanwhile() {
    let (pod, store) = (Pod::start(ECHO, &[]), Store::start());
    let zip = package(30);
    store.keep("/p.zip", &zip);
    let more = json!({"parameters": {"delay": "30ms"}, "output": {"url": store.url("/out")}});
    let request = part(&store, &zip, 10..30, more);
    let limit = |first: u64, items: u64| {
        let body = json!({"invocation": "inv-9", "first": first, "items": items}).to_string();
        pod.send("PUT", "/_stoic/limit", "", body.as_bytes())
    };
    assert_eq!(limit(10, 5).code(), "part_absent");
    let began = Instant::now();
    let lines = std::thread::scope(|scope| {
        let answer = scope.spawn(|| pod.batch(NDJSON, &request).lines());
        pod.until("working", || pod.metric("stoic_pod_busy") > 0.0);
        std::thread::sleep(Duration::from_millis(60));
        assert_eq!(limit(11, 5).code(), "part_absent");
        assert_eq!(limit(10, 5).status, 204);
        // It only ever shrinks.
        assert_eq!(limit(10, 9).status, 204);
        answer.join().unwrap()
    });
    let last = lines.last().unwrap();
    assert_eq!(
        (&last["type"], &last["items"]),
        (&json!("result"), &json!(5)),
        "{last}"
    );
    assert!(
        began.elapsed() < Duration::from_millis(500),
        "{:?}",
        began.elapsed()
    );
    let kept: Value = serde_json::from_slice(&store.object("/out").unwrap()).unwrap();
    let items = kept["items"].as_array().unwrap();
    let indices: Vec<u64> = items.iter().map(|i| i["index"].as_u64().unwrap()).collect();
    assert_eq!(indices, [10, 11, 12, 13, 14]);
}

#[test]
fn whoever_gave_a_batch_up_learns_when_the_pod_did() {
    let (pod, store) = (Pod::start(ECHO, &[]), Store::start());
    let zip = package(30);
    store.keep("/p.zip", &zip);
    let request = part(
        &store,
        &zip,
        0..30,
        json!({"parameters": {"delay": "100ms"}}),
    );
    let ended = |within: u64| {
        let path = format!("/_stoic/ended?invocation=inv-9&within_ms={within}");
        pod.get(&path)
    };
    assert_eq!(ended(0).status, 204, "it has not begun");
    let mut stream = pod.connect();
    stream.write_all(&batch_request(NDJSON, &request)).unwrap();
    pod.until("working", || pod.metric("stoic_pod_busy") > 0.0);
    assert_eq!(ended(20).code(), "invocation_running");
    let began = Instant::now();
    drop(stream);
    assert_eq!(ended(1000).status, 204);
    assert!(
        began.elapsed() < Duration::from_millis(90),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(pod.metric("stoic_pod_cancelled_total"), 1.0);
}

#[test]
fn a_part_that_is_not_in_its_batch_is_refused() {
    let (pod, store) = (Pod::start(ECHO, &[]), Store::start());
    let zip = package(40);
    store.keep("/p.zip", &zip);
    let refused = pod.batch("*/*", &part(&store, &zip, 20..40, json!({})));
    assert_eq!(
        (refused.status, refused.code()),
        (400, "part_invalid".to_owned())
    );
}
