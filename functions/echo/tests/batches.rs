//! Promises of a pod that have to do with batches by URL and with models, held by the real binary.
#![allow(clippy::unwrap_used)]

mod pod;

use pod::store::Store;
use pod::{Answer, Pod, batch_request, read_chunk};
use serde_json::{Value, json};
use std::io::{BufReader, Cursor, Write};
use std::time::{Duration, Instant};
use zip::write::SimpleFileOptions;

const ECHO: &str = env!("CARGO_BIN_EXE_stoic-echo");
const NDJSON: &str = "application/x-ndjson";
const ITEM_BYTES: usize = 200_000;

/// Bytes that deflate cannot shrink, different for each item.
fn content(item: usize, bytes: usize) -> Vec<u8> {
    let mut state = item as u32 + 1;
    let noise = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    });
    noise.take(bytes).collect()
}

fn package(items: usize, bytes: usize) -> Vec<u8> {
    let stored = SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for item in 0..items {
        zip.start_file(format!("{item}.bin"), stored).unwrap();
        zip.write_all(&content(item, bytes)).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

fn batch(url: &str, bytes: usize, more: Value) -> String {
    let mut request = json!({
        "invocation": "inv-7",
        "input": {"url": url, "bytes": bytes, "content_type": "application/zip"},
    });
    let (Value::Object(all), Value::Object(more)) = (&mut request, more) else {
        panic!("objects");
    };
    all.extend(more);
    request.to_string()
}

/// What a store was asked for in bytes.
fn fetched(store: &Store, total: usize) -> usize {
    let asked = store.asked();
    let lengths = asked
        .iter()
        .map(|a| a.range.as_ref().map_or(total, |r| r.len()));
    lengths.sum()
}

#[test]
fn only_the_range_is_fetched_and_in_order() {
    let (pod, store) = (Pod::start(ECHO, &[]), Store::start());
    let zip = package(60, ITEM_BYTES);
    let url = store.keep("/p.zip", &zip);
    let request = batch(&url, zip.len(), json!({"range": {"start": 10, "end": 40}}));
    let answer = pod.batch("*/*", &request);
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.header("x-stoic-items"), Some("30"));
    assert!(
        answer
            .header("server-timing")
            .unwrap()
            .contains("fetch;dur=")
    );
    let result = answer.json();
    for (position, item) in result["items"].as_array().unwrap().iter().enumerate() {
        let index = position + 10;
        let crc = format!("{:08x}", crc32fast::hash(&content(index, ITEM_BYTES)));
        assert_eq!(item["index"], index);
        assert_eq!(item["name"], format!("{index}.bin"));
        assert_eq!(item["crc32"], crc, "item {index}");
    }
    let bytes = fetched(&store, zip.len());
    let wanted = 30 * ITEM_BYTES;
    // The end of the package with its directory, and the items' headers, come on top.
    assert!(
        (wanted..wanted + 70_000).contains(&bytes),
        "{bytes} bytes for {wanted}"
    );
    let (first, last) = (10 * ITEM_BYTES, 40 * (ITEM_BYTES + 100));
    for asked in &store.asked()[1..] {
        let range = asked.range.clone().unwrap();
        assert!(range.start >= first && range.end <= last, "{range:?}");
    }
    // Runs of some megabytes, not a request per item.
    assert!(store.asked().len() <= 4, "{:?}", store.asked());
}

#[test]
fn every_piece_of_a_whole_package_is_fetched_once() {
    let (pod, store) = (Pod::start(ECHO, &[]), Store::start());
    let zip = package(100, ITEM_BYTES);
    let url = store.keep("/p.zip", &zip);
    let result = pod.batch("*/*", &batch(&url, zip.len(), json!({}))).json();
    assert_eq!(result["items"].as_array().unwrap().len(), 100);
    let bytes = fetched(&store, zip.len());
    assert!(bytes < zip.len() + 70_000, "{bytes} for {}", zip.len());
}

#[test]
fn progress_comes_as_lines_and_the_result_goes_to_its_url() {
    let (pod, store) = (Pod::start(ECHO, &[]), Store::start());
    let zip = package(20, 1000);
    let url = store.keep("/p.zip", &zip);
    let more = json!({"output": {"url": store.url("/out.json")}, "parameters": {"delay": "50ms"}});
    let lines = pod.batch(NDJSON, &batch(&url, zip.len(), more)).lines();
    assert_eq!(lines[0], json!({"type": "started", "items": 20}));
    let last = lines.last().unwrap();
    assert_eq!(last["type"], "result", "{last}");
    assert_eq!(
        (last["items"].as_u64(), last["failed_items"].as_u64()),
        (Some(20), Some(0))
    );
    assert!(last.get("value").is_none());
    assert!(
        last["stages_s"]["store"].as_f64().is_some()
            && last["stages_s"]["fetch"].as_f64().is_some()
    );
    let progress = &lines[1..lines.len() - 1];
    // One second of work, four lines a second, and the first and last.
    assert!((3..=7).contains(&progress.len()), "{progress:?}");
    assert_eq!(progress.last().unwrap()["done"], 20);
    assert!(
        progress
            .iter()
            .all(|line| line["type"] == "progress" && line["total"] == 20)
    );
    let stored: Value = serde_json::from_slice(&store.object("/out.json").unwrap()).unwrap();
    assert_eq!(stored["items"].as_array().unwrap().len(), 20);
    // Without a stream the same line is the answer; without an output the result is in it.
    let more = json!({"output": {"url": store.url("/again.json")}});
    assert_eq!(
        pod.batch("*/*", &batch(&url, zip.len(), more)).json()["type"],
        "result"
    );
    let lines = pod
        .batch(NDJSON, &batch(&url, zip.len(), json!({})))
        .lines();
    assert_eq!(lines.last().unwrap()["value"], stored);
    assert_eq!(pod.metric("stoic_pod_items_total"), 60.0);
}

#[test]
fn a_batch_stops_between_two_items_when_its_caller_leaves() {
    let (pod, store) = (Pod::start(ECHO, &[]), Store::start());
    let zip = package(1000, 100);
    let url = store.keep("/p.zip", &zip);
    let more = json!({"parameters": {"delay": "30ms"}, "output": {"url": store.url("/out.json")}});
    let request = batch(&url, zip.len(), more);
    for accept in [NDJSON, "application/json"] {
        let stream = pod.connect();
        (&stream)
            .write_all(&batch_request(accept, &request))
            .unwrap();
        if accept == NDJSON {
            let mut reader = BufReader::new(&stream);
            assert_eq!(Answer::read_head(&mut reader).unwrap().status, 200);
            for _ in 0..3 {
                read_chunk(&mut reader).unwrap().unwrap();
            }
        } else {
            pod.until("busy", || pod.metric("stoic_pod_busy") == 1.0);
        }
        let left = Instant::now();
        drop(stream);
        pod.until("idle", || pod.metric("stoic_pod_busy") == 0.0);
        assert!(
            left.elapsed() < Duration::from_millis(500),
            "{:?}",
            left.elapsed()
        );
    }
    assert_eq!(pod.metric("stoic_pod_cancelled_total"), 2.0);
    assert!(
        store.object("/out.json").is_none(),
        "nothing is stored for nobody"
    );
}

#[test]
fn leaving_while_the_input_is_fetched_stops_the_batch() {
    let (pod, store) = (Pod::start(ECHO, &[]), Store::start());
    let zip = package(100, ITEM_BYTES);
    let url = store.keep("/slow/p.zip", &zip);
    let mut stream = pod.connect();
    stream
        .write_all(&batch_request(NDJSON, &batch(&url, zip.len(), json!({}))))
        .unwrap();
    pod.until("busy", || pod.metric("stoic_pod_busy") == 1.0);
    let left = Instant::now();
    drop(stream);
    pod.until("idle", || pod.metric("stoic_pod_busy") == 0.0);
    assert!(
        left.elapsed() < Duration::from_millis(200),
        "{:?}",
        left.elapsed()
    );
}

#[test]
fn a_pod_that_dies_in_mid_batch_breaks_the_stream() {
    let (mut pod, store) = (Pod::start(ECHO, &[]), Store::start());
    let zip = package(10, 100);
    let url = store.keep("/p.zip", &zip);
    let more = json!({"parameters": {"die_at": "5", "delay": "10ms"}});
    let stream = pod.connect();
    (&stream)
        .write_all(&batch_request(NDJSON, &batch(&url, zip.len(), more)))
        .unwrap();
    let mut reader = BufReader::new(&stream);
    assert_eq!(Answer::read_head(&mut reader).unwrap().status, 200);
    let mut text = Vec::new();
    while let Some(chunk) = read_chunk(&mut reader) {
        text.extend(chunk.expect("the stream is not ended in order"));
    }
    assert!(String::from_utf8(text).unwrap().contains("started"));
    assert_eq!(pod.wait().code(), Some(3));
}

#[test]
fn bad_batches_have_a_code_each() {
    let (mut pod, store) = (Pod::start(ECHO, &[]), Store::start());
    let zip = package(5, 100);
    let good = store.keep("/p.zip", &zip);
    let large = package(50, ITEM_BYTES);
    let junk = store.keep("/junk.zip", b"this is no zip");
    let cases = [
        ("{".to_owned(), 400, "batch_invalid"),
        ("{}".to_owned(), 400, "batch_invalid"),
        (
            batch(&good, zip.len(), json!({"range": {"start": 3, "end": 6}})),
            400,
            "range_invalid",
        ),
        (
            batch(&good, zip.len(), json!({"range": {"start": 3, "end": 3}})),
            400,
            "range_invalid",
        ),
        (batch(&junk, 14, json!({})), 400, "package_invalid"),
        (
            batch(&store.url("/missing"), 100, json!({})),
            502,
            "input_unavailable",
        ),
        (
            batch(&store.url("/denied"), 100, json!({})),
            502,
            "input_unavailable",
        ),
        (
            batch(&good, zip.len() + 1, json!({})),
            502,
            "input_unavailable",
        ),
        (
            batch("http://127.0.0.1:1/x", 100, json!({})),
            502,
            "input_unavailable",
        ),
        (
            batch("file:///etc/passwd", 100, json!({})),
            502,
            "input_unavailable",
        ),
        (
            batch(&store.keep("/no-ranges", &large), large.len(), json!({})),
            502,
            "input_unavailable",
        ),
        (
            batch(
                &good,
                zip.len(),
                json!({"output": {"url": store.url("/denied")}}),
            ),
            502,
            "output_failed",
        ),
        (
            batch(
                &good,
                zip.len(),
                json!({"input": {"url": good, "bytes": 9, "content_type": "text/csv"}}),
            ),
            415,
            "unsupported_media_type",
        ),
    ];
    for (request, status, code) in cases {
        let answer = pod.batch("*/*", &request);
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (status, code),
            "{request}"
        );
        assert!(!answer.text().contains("SECRET"), "{}", answer.text());
        // With lines asked for, a batch that never began is a plain problem as well.
        let streamed = pod.batch(NDJSON, &request);
        if code == "output_failed" {
            assert_eq!(streamed.lines().last().unwrap()["problem"]["code"], code);
        } else {
            assert_eq!((streamed.status, streamed.code().as_str()), (status, code));
        }
    }
    assert!(!pod.log().contains("SECRET"), "{}", pod.log());
    assert!(pod.lives());
}

#[test]
fn a_store_that_hiccups_is_asked_again() {
    let (pod, store) = (Pod::start(ECHO, &[]), Store::start());
    let zip = package(5, 100);
    let url = store.keep("/flaky/p.zip", &zip);
    let answer = pod.batch("*/*", &batch(&url, zip.len(), json!({})));
    assert_eq!(answer.status, 200, "{answer:?}");
    // A small package is one request, here at the third attempt.
    assert_eq!(store.asked().len(), 3, "{:?}", store.asked());
}

#[test]
fn an_input_that_breaks_off_ends_the_batch_and_not_the_pod() {
    let (mut pod, store) = (Pod::start(ECHO, &[]), Store::start());
    let zip = package(60, ITEM_BYTES);
    let url = store.keep("/broken/p.zip", &zip);
    let lines = pod
        .batch(NDJSON, &batch(&url, zip.len(), json!({})))
        .lines();
    assert_eq!(lines.first().unwrap()["type"], "started", "{lines:?}");
    let last = lines.last().unwrap();
    assert_eq!(last["type"], "error");
    assert_eq!(last["problem"]["code"], "input_unavailable");
    assert_eq!(last["problem"]["invocation"], "inv-7");
    assert!(pod.lives());
}

#[test]
fn a_damaged_item_is_an_error_of_that_item() {
    let (pod, store) = (Pod::start(ECHO, &[]), Store::start());
    let mut zip = package(3, 1000);
    let second = content(1, 1000);
    let at = zip.windows(1000).position(|w| w == second).unwrap();
    zip[at + 500] ^= 1;
    let url = store.keep("/p.zip", &zip);
    let line = pod
        .batch(NDJSON, &batch(&url, zip.len(), json!({})))
        .lines()
        .pop()
        .unwrap();
    assert_eq!(
        (line["items"].as_u64(), line["failed_items"].as_u64()),
        (Some(3), Some(1))
    );
    let items = &line["value"]["items"];
    assert_eq!(items[1]["error"]["code"], "item_corrupt");
    assert_eq!(items[2]["bytes"], 1000);
}

#[test]
fn a_sample_is_a_package_that_works() {
    let (pod, store) = (Pod::start(ECHO, &[]), Store::start());
    let sample = pod.get("/_stoic/sample?items=12");
    assert_eq!(sample.header("content-type"), Some("application/zip"));
    let url = store.keep("/s.zip", &sample.body);
    let result = pod
        .batch("*/*", &batch(&url, sample.body.len(), json!({})))
        .json();
    assert_eq!(result["items"].as_array().unwrap().len(), 12);
    assert_eq!(pod.get("/_stoic/sample?items=many").code(), "items_invalid");
}

#[test]
fn models_are_trained_put_fetched_and_kept_when_the_next_is_bad() {
    let store = Store::start();
    let scratch = tempfile::tempdir().unwrap();
    let scratch_path = scratch.path().to_str().unwrap();
    let pod = Pod::start(ECHO, &[("STOIC_SCRATCH", scratch_path)]);
    let zip = package(2, 100);
    let url = store.keep("/p.zip", &zip);
    let target = store.url("/models/v1.json");
    let more = json!({"action": "train", "model_output": {"version": "v1", "url": target}});
    let line = pod
        .batch(NDJSON, &batch(&url, zip.len(), more))
        .lines()
        .pop()
        .unwrap();
    assert_eq!(line["model"], "v1", "{line}");
    let put = |version: &str, url: &str| {
        let body = json!({"version": version, "url": url}).to_string();
        pod.send("PUT", "/_stoic/model", "", body.as_bytes())
    };
    assert_eq!(put("v1", &target).status, 204);
    assert_eq!(pod.get("/_stoic/report").json()["model"], "v1");
    let bad = store.keep("/models/bad.json", b"no json");
    assert_eq!(put("v2", &bad).code(), "model_unusable");
    assert_eq!(
        put("v2", &store.url("/models/none")).code(),
        "model_unavailable"
    );
    assert_eq!(
        pod.send("PUT", "/_stoic/model", "", b"{}").code(),
        "model_invalid"
    );
    assert_eq!(pod.get("/_stoic/report").json()["model"], "v1");
    // A pod that starts with a published model has it when it is ready.
    let env = [
        ("STOIC_SCRATCH", scratch_path),
        ("STOIC_MODEL", target.as_str()),
        ("STOIC_MODEL_VERSION", "v1"),
    ];
    let next = Pod::start(ECHO, &env);
    assert_eq!(next.get("/_stoic/report").json()["model"], "v1");
    let left: Vec<_> = std::fs::read_dir(scratch.path()).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
    let missing = store.url("/models/none");
    let (status, log) = pod::run_to_end(ECHO, &[("STOIC_MODEL", &missing)]);
    assert_eq!(status.code(), Some(1));
    assert!(
        log.contains("model_unavailable") && !log.contains("SECRET"),
        "{log}"
    );
}
