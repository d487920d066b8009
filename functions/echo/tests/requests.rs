//! Promises of a pod that have to do with requests, its start and its end, held by the real binary.
#![allow(clippy::unwrap_used)]

mod pod;

use pod::{Answer, Pod, request, run_to_end};
use std::io::{BufReader, Write};
use std::time::{Duration, Instant};

const ECHO: &str = env!("CARGO_BIN_EXE_stoic-echo");

#[test]
fn not_ready_before_it_is_loaded() {
    let pod = Pod::start_only(ECHO, &[("ECHO_START_DELAY", "400ms")]);
    assert_eq!(pod.get("/healthz").status, 503);
    let refused = pod.send("POST", "/", "", b"early");
    assert_eq!(
        (refused.status, refused.code().as_str()),
        (503, "pod_loading")
    );
    pod.until("ready", || pod.get("/healthz").status == 200);
    assert_eq!(pod.send("POST", "/", "", b"late").text(), "late");
    let report = pod.get("/_stoic/report").json();
    assert!(
        report["start_s"]["load"].as_f64().unwrap() >= 0.4,
        "{report}"
    );
    assert!(
        report["start_s"]["exec"].as_f64().unwrap() < 5.0,
        "{report}"
    );
    assert!(pod.metric("stoic_pod_start_seconds{stage=\"load\"}") >= 0.4);
}

#[test]
fn body_type_headers_and_status_come_back() {
    let pod = Pod::start(ECHO, &[]);
    let headers = "content-type: text/x-test\r\nx-echo-one: 1\r\nx-other: 2\r\n";
    let answer = pod.send("PUT", "/any/path?status=418", headers, b"the body");
    assert_eq!((answer.status, answer.text().as_str()), (418, "the body"));
    assert_eq!(answer.header("content-type"), Some("text/x-test"));
    assert_eq!(answer.header("x-echo-one"), Some("1"));
    assert_eq!(answer.header("x-other"), None);
    let large = vec![b'x'; 5 << 20];
    assert_eq!(pod.send("POST", "/", "", &large).body, large);
    let chunked = b"POST / HTTP/1.1\r\nhost: p\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
    assert_eq!(pod.raw(chunked).unwrap().text(), "abcde");
    assert_eq!(
        pod.send("POST", "/?status=abc", "", b"").code(),
        "parameter_invalid"
    );
}

#[test]
fn a_full_pod_refuses_and_counts() {
    let pod = Pod::start(ECHO, &[("STOIC_CONCURRENCY", "1")]);
    let mut first = pod.connect();
    first
        .write_all(&request("POST", "/?delay=10s", "", b""))
        .unwrap();
    pod.until("busy", || pod.metric("stoic_pod_busy") == 1.0);
    let refused = pod.send("POST", "/?delay=1ms", "", b"");
    assert_eq!((refused.status, refused.code().as_str()), (429, "pod_full"));
    assert_eq!(
        pod.get("/healthz").status,
        200,
        "health answers while the pod works"
    );
    assert_eq!(pod.metric("stoic_pod_refused_total"), 1.0);
}

#[test]
fn work_stops_when_the_caller_leaves() {
    let pod = Pod::start(ECHO, &[]);
    let mut stream = pod.connect();
    stream
        .write_all(&request("POST", "/?delay=1m", "", b""))
        .unwrap();
    pod.until("busy", || pod.metric("stoic_pod_busy") == 1.0);
    let left = Instant::now();
    drop(stream);
    pod.until("idle", || pod.metric("stoic_pod_busy") == 0.0);
    assert!(
        left.elapsed() < Duration::from_millis(500),
        "{:?}",
        left.elapsed()
    );
    assert_eq!(pod.metric("stoic_pod_cancelled_total"), 1.0);
}

#[test]
fn sigterm_finishes_what_runs_and_takes_nothing_new() {
    let mut pod = Pod::start(ECHO, &[]);
    let mut stream = pod.connect();
    stream
        .write_all(&request("POST", "/?delay=700ms", "", b"finished"))
        .unwrap();
    pod.until("busy", || pod.metric("stoic_pod_busy") == 1.0);
    pod.signal("-TERM");
    pod.until("draining", || pod.get("/healthz").status == 503);
    assert_eq!(pod.send("POST", "/", "", b"new").code(), "pod_draining");
    let answer = Answer::read(&mut BufReader::new(stream)).unwrap();
    assert_eq!((answer.status, answer.text().as_str()), (200, "finished"));
    assert_eq!(pod.wait().code(), Some(0), "{}", pod.log());
}

#[test]
fn a_drain_has_an_end() {
    let mut pod = Pod::start(ECHO, &[("STOIC_DRAIN_S", "0")]);
    let mut stream = pod.connect();
    stream
        .write_all(&request("POST", "/?delay=1h", "", b""))
        .unwrap();
    pod.until("busy", || pod.metric("stoic_pod_busy") == 1.0);
    let asked = Instant::now();
    pod.signal("-TERM");
    let answer = Answer::read(&mut BufReader::new(stream)).unwrap();
    assert_eq!((answer.status, answer.code().as_str()), (503, "cancelled"));
    assert_eq!(pod.wait().code(), Some(0), "{}", pod.log());
    assert!(asked.elapsed() < Duration::from_secs(3));
}

#[test]
fn an_idle_pod_and_a_loading_one_end_at_once() {
    for env in [&[][..], &[("ECHO_FAIL", "never-ready")][..]] {
        let mut pod = Pod::start_only(ECHO, env);
        let _idle = pod.connect();
        let asked = Instant::now();
        pod.signal("-TERM");
        assert_eq!(pod.wait().code(), Some(0), "{}", pod.log());
        assert!(
            asked.elapsed() < Duration::from_secs(2),
            "{:?}",
            asked.elapsed()
        );
    }
}

#[test]
fn a_start_that_fails_says_why_and_exits_1() {
    let (status, log) = run_to_end(ECHO, &[("ECHO_FAIL", "exit")]);
    assert_eq!(status.code(), Some(1));
    assert!(log.contains("echo_failed"), "{log}");
    let (status, log) = run_to_end(ECHO, &[("STOIC_THREADS", "many")]);
    assert_eq!(status.code(), Some(1));
    assert!(log.contains("STOIC_THREADS"), "{log}");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let (status, log) = run_to_end(ECHO, &[("PORT", &port)]);
    assert_eq!(status.code(), Some(1));
    assert!(log.contains("port_in_use") && log.contains(&port), "{log}");
}

#[test]
fn a_panic_is_an_answer_and_a_death_is_none() {
    let mut pod = Pod::start(ECHO, &[]);
    let answer = pod.send("POST", "/?die=panic", "x-stoic-invocation: inv-1\r\n", b"");
    assert_eq!(
        (answer.status, answer.code().as_str()),
        (500, "function_panicked")
    );
    assert_eq!(answer.json()["invocation"], "inv-1");
    assert_eq!(pod.metric("stoic_pod_failures_total"), 1.0);
    assert_eq!(pod.send("POST", "/", "", b"alive").text(), "alive");
    assert!(pod.raw(&request("POST", "/?die=exit", "", b"")).is_none());
    assert_eq!(pod.wait().code(), Some(3));
    let mut pod = Pod::start(ECHO, &[]);
    assert!(pod.raw(&request("POST", "/?die=abort", "", b"")).is_none());
    assert_eq!(pod.wait().code(), None, "ended by a signal");
}

#[test]
fn garbage_never_ends_a_pod() {
    let mut pod = Pod::start(ECHO, &[("STOIC_BODY_LIMIT", "1000")]);
    // A head that never ends, and one that stays open.
    let mut slow = pod.connect();
    slow.write_all(b"POST / HT").unwrap();
    let huge = format!(
        "GET / HTTP/1.1\r\nhost: p\r\nx-huge: {}\r\n\r\n",
        "h".repeat(300_000)
    );
    assert!(pod.raw(huge.as_bytes()).is_none_or(|a| a.status == 431));
    let many: String = (0..500).map(|n| format!("x-{n}: 1\r\n")).collect();
    let many = format!("GET / HTTP/1.1\r\n{many}\r\n");
    assert!(pod.raw(many.as_bytes()).is_none_or(|a| a.status == 431));
    for garbage in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..],
        b"GET / HTTP/9.9\r\n\r\n",
        b"\r\n\r\n\0\0\0\0 \r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: p\r\ncontent-length: -5\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: p\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nabcdef",
        b"POST / HTTP/1.1\r\nhost: p\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET http://[::1 HTTP/1.1\r\n\r\n",
    ] {
        let mut stream = pod.connect();
        stream.write_all(garbage).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        if let Some(answer) = Answer::read(&mut BufReader::new(stream)) {
            assert!(
                (400..600).contains(&answer.status),
                "{garbage:?}: {answer:?}"
            );
        }
    }
    let mut half = pod.connect();
    half.write_all(b"POST / HTTP/1.1\r\nhost: p\r\ncontent-length: 100\r\n\r\nhalf")
        .unwrap();
    drop(half);
    let large = pod.send("POST", "/", "", &[b'x'; 1001]);
    assert_eq!(
        (large.status, large.code().as_str()),
        (413, "body_too_large")
    );
    let mut chunked =
        b"POST / HTTP/1.1\r\nhost: p\r\ntransfer-encoding: chunked\r\n\r\n800\r\n".to_vec();
    chunked.extend_from_slice(&[b'x'; 0x800]);
    chunked.extend_from_slice(b"\r\n0\r\n\r\n");
    assert_eq!(pod.raw(&chunked).unwrap().code(), "body_too_large");
    assert_eq!(pod.send("POST", "/", "", b"alive").text(), "alive");
    slow.write_all(b"TP/1.1\r\nhost: p\r\ncontent-length: 4\r\n\r\nslow")
        .unwrap();
    assert_eq!(
        Answer::read(&mut BufReader::new(slow)).unwrap().text(),
        "slow"
    );
    assert!(pod.lives());
}
