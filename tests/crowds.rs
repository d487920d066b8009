//! Many callers, slow callers, callers who leave, and pods that say they are full.

#![allow(clippy::unwrap_used)]

use serde_json::json;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};
use stoic_tests::{Gateway, Launch, any_http, raw, raw_head, until};

/// How many invocations of a function wait at the edge.
fn waiting(gateway: &Gateway, function: &str) -> usize {
    let all = gateway.json(&format!("/v1/functions/{function}/predict?explain=true"));
    let mut runtimes = all["runtimes"].as_array().unwrap().iter();
    let edge = runtimes.find(|one| one["runtime"] == "edge").unwrap();
    let waiting = edge["explanation"]["load"]["waiting"].as_array();
    waiting.unwrap().len()
}

#[test]
fn a_thousand_callers_of_two_pods_are_answered_in_order() {
    const CALLERS: usize = 1000;
    const GROUP: usize = 50;
    let gateway = Gateway::start();
    let spec = json!({"concurrency": 1, "runtimes": ["edge"], "standby": {"edge": {"min": 2, "max": 2}}, "queue": {"length": CALLERS}});
    gateway.deploy(&any_http("any", spec));
    gateway.until_idle("any", 2);
    // Both pods are held until all have come.
    let open = |path: &str| {
        let request = format!("GET /function/any/{path} HTTP/1.1\r\nhost: localhost\r\n\r\n");
        raw(gateway.address, request.as_bytes())
    };
    let held: Vec<TcpStream> = (0..2).map(|_| open("silent")).collect();
    until("both pods are busy", || {
        gateway.pods("any").iter().all(|pod| pod["state"] == "busy")
    });
    let mut callers = Vec::with_capacity(CALLERS);
    for group in 1..=CALLERS / GROUP {
        callers.extend((0..GROUP).map(|_| open("stamp")));
        until("they wait", || waiting(&gateway, "any") == group * GROUP);
    }
    // The queue is full now: one more is told so.
    gateway
        .get("/function/any/stamp")
        .problem(429, "queue_full");
    drop(held);
    let begun: Vec<u128> = callers
        .iter_mut()
        .map(|stream| {
            let (head, body) = raw_head(stream);
            assert!(head.starts_with("http/1.1 200"), "{head}");
            String::from_utf8(body).unwrap().parse().unwrap()
        })
        .collect();
    // Groups came one after the other, and so they were served. Two pods work at the same time, so that
    // two neighbours may be seen to begin in either order.
    let span = |group: &[u128]| {
        let mut sorted = group.to_vec();
        sorted.sort_unstable();
        (sorted[0], sorted[1], sorted[GROUP - 2])
    };
    let groups: Vec<_> = begun.chunks(GROUP).map(span).collect();
    for (earlier, later) in groups.iter().zip(&groups[1..]) {
        assert!(earlier.2 <= later.1, "{earlier:?} {later:?}");
    }
    assert!(groups.is_sorted_by_key(|group| group.0));
    gateway.until_idle("any", 2);
}

#[test]
fn a_full_pod_means_another_pod() {
    let gateway = Gateway::start();
    let spec = json!({"runtimes": ["edge"], "standby": {"edge": {"min": 2, "max": 2}}});
    gateway.deploy(&any_http("any", spec));
    gateway.until_idle("any", 2);
    let full = gateway.call("POST", "/function/any/fill").send().ok();
    let full = full.header("x-stoic-pod");
    for n in 0..20 {
        let call = gateway
            .call("POST", "/function/any/x")
            .body("text/plain", n.to_string());
        let answer = call.send().ok();
        assert_ne!(answer.header("x-stoic-pod"), full);
        assert_eq!(answer.json()["body"], n.to_string());
    }
    // What cannot be sent twice gets the pod's own answer.
    let call = gateway
        .call("POST", "/function/any/x")
        .body("text/plain", vec![b'x'; 300_000]);
    let answer = call.send();
    assert_eq!(
        (
            answer.status,
            answer.header("retry-after"),
            answer.text().as_str()
        ),
        (429, "7", "full")
    );
    // When all are full, so does everyone, and nothing else happens to the pods.
    let fill = gateway.call("POST", "/function/any/fill");
    let other = fill.body("text/plain", "x").send().ok();
    assert_ne!(other.header("x-stoic-pod"), full);
    let answer = gateway.get("/function/any/x");
    assert_eq!((answer.status, answer.text().as_str()), (429, "full"));
    assert_eq!(gateway.until_idle("any", 2).len(), 2);
}

#[test]
fn a_full_pod_means_one_of_another_runtime_that_is_ready() {
    let gateway = Gateway::start();
    gateway.deploy(&any_http("any", json!({"standby": {"edge": 1, "cpu": 1}})));
    gateway.until_idle("any", 2);
    let _ = gateway
        .call("POST", "/function/any/fill")
        .on("edge")
        .send()
        .ok();
    let answer = gateway.get("/function/any/x").ok();
    assert_eq!(
        (
            answer.header("x-stoic-runtime"),
            answer.header("x-stoic-start")
        ),
        ("cpu", "warm")
    );
    // Insisted on, it is the edge's answer.
    assert_eq!(
        gateway
            .call("GET", "/function/any/x")
            .on("edge")
            .send()
            .status,
        429
    );
}

#[test]
fn callers_who_leave_free_their_place_at_once() {
    let gateway = Gateway::start();
    let spec = json!({"concurrency": 1, "runtimes": ["edge"], "timeout": "10m"});
    gateway.deploy(&any_http("any", spec));
    let pod = gateway.until_idle("any", 1).remove(0);
    let open = |request: &str| raw(gateway.address, request.as_bytes());
    for what in [
        // Before the answer, in the middle of it, and in the middle of the body.
        "GET /function/any/silent HTTP/1.1\r\nhost: localhost\r\n\r\n",
        "GET /function/any/stalls HTTP/1.1\r\nhost: localhost\r\n\r\n",
        "GET /function/any/events HTTP/1.1\r\nhost: localhost\r\n\r\n",
        "POST /function/any/x HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n4\r\nabcd\r\n",
        "POST /function/any/talk HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n4\r\nabcd\r\n",
    ] {
        let stream = open(what);
        gateway.until_state("any", "busy");
        // One waits behind, and leaves as well: it is forgotten.
        let behind = open("GET /function/any/silent HTTP/1.1\r\nhost: localhost\r\n\r\n");
        until("it waits", || waiting(&gateway, "any") == 1);
        drop(behind);
        let begun = Instant::now();
        drop(stream);
        gateway.until_idle("any", 1);
        assert!(
            begun.elapsed() < Duration::from_secs(2),
            "{what}: {:?}",
            begun.elapsed()
        );
        let _ = gateway.get("/function/any/x").ok();
    }
    assert_eq!(gateway.until_idle("any", 1)[0]["name"], pod["name"]);
}

#[test]
fn heads_and_bodies_that_do_not_come_are_408() {
    let gateway = Launch::default()
        .keys("[http]\nhead_timeout = \"400ms\"\nbody_timeout = \"400ms\"\n")
        .start();
    gateway.deploy(&any_http("any", json!({"runtimes": ["edge"]})));
    gateway.deploy(&any_http(
        "batch",
        json!({"input": "batch", "runtimes": ["edge"]}),
    ));
    let pod = gateway.until_idle("any", 1).remove(0);
    let small = "POST /function/any/x HTTP/1.1\r\nhost: localhost\r\ncontent-length: 40\r\n\r\nabc";
    let large =
        "POST /function/any/x HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1000000\r\n\r\nabc";
    let chunked = "POST /function/any/x HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n";
    let batch = "POST /function/batch HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/zip\r\ncontent-length: 1000\r\n\r\nPK";
    for (request, code) in [
        (
            "GET /function/any/x HTTP/1.1\r\nhost: localhost\r\nx-a: ",
            "head_timeout",
        ),
        (small, "body_timeout"),
        (large, "body_timeout"),
        (chunked, "body_timeout"),
        (batch, "body_timeout"),
    ] {
        let begun = Instant::now();
        let mut stream = raw(gateway.address, request.as_bytes());
        // Dripping does not help: it is the sum that counts.
        let mut dripping = stream.try_clone().unwrap();
        let drip = std::thread::spawn(move || {
            for _ in 0..40 {
                std::thread::sleep(Duration::from_millis(50));
                if dripping.write_all(b"1").is_err() {
                    return;
                }
            }
        });
        let (head, body) = raw_head(&mut stream);
        let took = begun.elapsed();
        assert!(head.starts_with("http/1.1 408"), "{request}: {head}");
        let body = String::from_utf8(body).unwrap();
        assert!(body.contains(code), "{request}: {body}");
        assert!(
            took >= Duration::from_millis(350) && took < Duration::from_secs(2),
            "{request}: {took:?}"
        );
        let _ = stream.shutdown(Shutdown::Both);
        drip.join().unwrap();
    }
    // Who says nothing is closed without a word, on a new connection and on one that was used.
    for first in ["", "GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n"] {
        let mut stream = raw(gateway.address, first.as_bytes());
        let mut all = String::new();
        stream.read_to_string(&mut all).unwrap();
        assert_eq!(
            all.matches("HTTP/1.1").count(),
            usize::from(!first.is_empty()),
            "{all}"
        );
    }
    // Whoever is slow but steady gets through: more than a KiB a second.
    let head = "POST /function/any/x HTTP/1.1\r\nhost: localhost\r\ncontent-length: 20480\r\n\r\n";
    let mut stream = raw(gateway.address, head.as_bytes());
    for _ in 0..10 {
        std::thread::sleep(Duration::from_millis(100));
        stream.write_all(&[b'x'; 2048]).unwrap();
    }
    assert!(raw_head(&mut stream).0.starts_with("http/1.1 200"));
    // A pod that takes its time is not the caller's fault.
    let begun = Instant::now();
    let mut lines = gateway.get_open("/function/any/events");
    assert_eq!(lines.next_line(), "data: first\n");
    std::thread::sleep(Duration::from_millis(800));
    let _ = gateway.call("POST", "/function/any/release").send().ok();
    assert_eq!(
        (lines.next_line(), lines.next_line()),
        ("\n".to_owned(), "data: second\n".to_owned())
    );
    assert!(begun.elapsed() > Duration::from_millis(800));
    assert_eq!(gateway.until_idle("any", 1)[0]["name"], pod["name"]);
}
