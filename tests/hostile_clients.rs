//! Clients that send no HTTP, too much of it, or none of it for long, harm nobody else.

#![allow(clippy::unwrap_used)]

use serde_json::json;
use std::io::Read;
use std::net::Shutdown;
use stoic_tests::{Gateway, echo, raw, raw_head, until};

/// Open descriptors of a process.
fn descriptors(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .count()
}

fn gateway() -> Gateway {
    let gateway = Gateway::start();
    gateway.deploy(&echo(
        "echo",
        json!({"concurrency": 4, "standby": {"edge": 1}}),
    ));
    gateway.until_idle("echo", 1);
    let _ = gateway.get("/function/echo").ok();
    gateway
}

#[test]
fn heads_that_never_end_hold_up_nobody() {
    let mut gateway = gateway();
    let before = descriptors(gateway.pid());
    let slow: Vec<_> = (0..200)
        .map(|n| match n % 3 {
            0 => raw(gateway.address, b""),
            1 => raw(
                gateway.address,
                b"GET /function/echo HTTP/1.1\r\nhost: localhost\r\nx-a: ",
            ),
            _ => raw(
                gateway.address,
                b"POST /function/echo HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1000\r\n\r\nnot all",
            ),
        })
        .collect();
    // Some of what was open before is closed meanwhile.
    until("the gateway has taken them", || {
        descriptors(gateway.pid()) >= before + slow.len() - 20
    });
    for n in 0..20 {
        let call = gateway.call("POST", "/function/echo");
        assert_eq!(
            call.body("text/plain", n.to_string()).send().ok().text(),
            n.to_string()
        );
    }
    drop(slow);
    until("their descriptors are given back", || {
        descriptors(gateway.pid()) < before + 20
    });
    assert!(gateway.lives());
    // Bodies that did not come are no fault of the pod.
    assert_eq!(
        gateway.until_idle("echo", 1)[0]["name"]
            .as_str()
            .map(|name| name.ends_with("-1")),
        Some(true)
    );
}

#[test]
fn heads_that_are_too_large_get_431_or_414() {
    let gateway = gateway();
    let many: String = (0..500).map(|n| format!("x-{n}: y\r\n")).collect();
    let large = format!("x-large: {}\r\n", "y".repeat(200_000));
    for (what, headers) in [("many headers", many), ("a large header", large)] {
        let head = format!("GET /function/echo HTTP/1.1\r\nhost: localhost\r\n{headers}\r\n");
        let (head, _) = raw_head(&mut raw(gateway.address, head.as_bytes()));
        assert!(head.starts_with("http/1.1 431"), "{what}: {head}");
    }
    let head = format!(
        "GET /function/echo?{} HTTP/1.1\r\nhost: localhost\r\n\r\n",
        "q".repeat(65_600)
    );
    let (head, _) = raw_head(&mut raw(gateway.address, head.as_bytes()));
    assert!(
        head.starts_with("http/1.1 414") || head.starts_with("http/1.1 431"),
        "{head}"
    );
    // What is large but fits passes, head and all.
    let fits = "z".repeat(16_000);
    let answer = gateway
        .call("GET", "/function/echo")
        .header("x-echo-large", &fits)
        .send()
        .ok();
    assert_eq!(answer.header("x-echo-large"), fits);
}

#[test]
fn bytes_that_are_no_http_are_refused_and_forgotten() {
    let mut gateway = gateway();
    let tls = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".as_slice();
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("TLS", tls.to_vec()),
        ("zeros", vec![0; 4096]),
        ("noise", (0..9999_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect()),
        ("no version", b"GET /function/echo\r\n\r\n".to_vec()),
        ("HTTP/9", b"GET / HTTP/9.9\r\nhost: localhost\r\n\r\n".to_vec()),
        ("a bad name", b"GET / HTTP/1.1\r\nho st: x\r\n\r\n".to_vec()),
        ("a NUL in a value", b"GET / HTTP/1.1\r\nhost: x\0y\r\n\r\n".to_vec()),
        ("a length below zero", b"POST /function/echo HTTP/1.1\r\nhost: localhost\r\ncontent-length: -1\r\n\r\n".to_vec()),
        ("two lengths", b"POST /function/echo HTTP/1.1\r\nhost: localhost\r\ncontent-length: 3\r\ncontent-length: 5\r\n\r\nabcde".to_vec()),
        ("a huge length", b"POST /function/echo HTTP/1.1\r\nhost: localhost\r\ncontent-length: 99999999999999999999999\r\n\r\n".to_vec()),
        ("a bad chunk", b"POST /function/echo HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\nzz\r\nabc\r\n".to_vec()),
        ("an unknown coding", b"POST /function/echo HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: gzip\r\n\r\nabc".to_vec()),
    ];
    for (what, bytes) in cases {
        let mut stream = raw(gateway.address, &bytes);
        let _ = stream.shutdown(Shutdown::Write);
        // Refused with 4xx, or just closed; never left open, never a success. A connection that is reset
        // was closed, too.
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let answer = String::from_utf8_lossy(&answer).into_owned();
        assert!(
            answer.is_empty()
                || answer.starts_with("HTTP/1.1 4")
                || answer.starts_with("HTTP/1.0 4"),
            "{what}: {answer:?}"
        );
    }
    assert!(gateway.lives());
    let call = gateway
        .call("POST", "/function/echo")
        .body("text/plain", "still here");
    let answer = call.send().ok();
    assert_eq!(
        (answer.text().as_str(), answer.header("x-stoic-start")),
        ("still here", "warm")
    );
    assert!(
        answer.header("x-stoic-pod").ends_with("-1"),
        "no pod paid for it"
    );
    assert!(!gateway.panicked());
}

#[test]
fn one_request_cannot_be_smuggled_in_another() {
    let gateway = gateway();
    // Both framings at once: whichever counts, the second request is not worked as one of its own.
    let bytes = b"POST /function/echo HTTP/1.1\r\nhost: localhost\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n\
                  0\r\n\r\nGET /v1/info HTTP/1.1\r\nhost: localhost\r\n\r\n";
    let mut stream = raw(gateway.address, bytes);
    let _ = stream.shutdown(Shutdown::Write);
    let mut all = Vec::new();
    let _ = stream.read_to_end(&mut all);
    let all = String::from_utf8_lossy(&all).into_owned();
    assert!(!all.contains("\"pid\""), "{all}");
}
