//! A request to a function passes through unchanged, both ways, and the answer says where and how it
//! was worked.

#![allow(clippy::unwrap_used)]

use serde_json::json;
use std::io::{Read, Write};
use stoic_tests::{Gateway, echo, raw, raw_head};

fn gateway() -> Gateway {
    let gateway = Gateway::start();
    gateway.deploy(&echo(
        "echo",
        json!({"concurrency": 16, "standby": {"edge": 1}}),
    ));
    gateway.until_idle("echo", 1);
    gateway
}

/// What a header such as `queueing=0.1;response=0.2` says of a part.
fn part(header: &str, name: &str) -> f64 {
    let mut parts = header.split(';').filter_map(|part| part.split_once('='));
    let found = parts.find(|(key, _)| *key == name);
    found
        .and_then(|(_, value)| value.parse().ok())
        .unwrap_or_else(|| panic!("no {name} in {header:?}"))
}

#[test]
fn any_verb_path_query_and_header_reaches_the_pod_and_comes_back() {
    let gateway = gateway();
    for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PURGE"] {
        // Raw, since clients will not send a body with every verb.
        let mut stream = raw(
            gateway.address,
            format!(
                "{method} /function/echo/a%20b/c?status=418&x=%26y HTTP/1.1\r\nhost: localhost\r\n\
                 x-echo-verb: {method}\r\ncontent-type: text/x-own\r\ncontent-length: 4\r\n\r\nbody"
            )
            .as_bytes(),
        );
        let (head, body) = raw_head(&mut stream);
        assert!(head.starts_with("http/1.1 418"), "{method}: {head}");
        assert!(
            head.contains("content-type: text/x-own"),
            "{method}: {head}"
        );
        let own = format!("x-echo-verb: {}", method.to_lowercase());
        assert!(head.contains(&own), "{method}: {head}");
        assert_eq!(body, b"body", "{method}");
    }
    let head = gateway.call("HEAD", "/function/echo/").send().ok();
    assert!(head.body.is_empty() && head.header("x-stoic-runtime") == "edge");
}

#[test]
fn statuses_and_empty_bodies_pass_unchanged() {
    let gateway = gateway();
    for status in [201, 204, 301, 404, 429, 503] {
        let answer = gateway.get(&format!("/function/echo?status={status}"));
        assert_eq!(answer.status, status);
        assert!(answer.body.is_empty());
        // The function's own answer, not the gateway's: it was worked by a pod.
        assert_eq!(answer.header("x-stoic-runtime"), "edge");
    }
}

#[test]
fn five_megabytes_pass_both_ways_with_and_without_a_length() {
    let gateway = gateway();
    let body: Vec<u8> = (0..5_000_000_u32)
        .map(|n| (n.wrapping_mul(n) >> 7) as u8)
        .collect();
    let call = || {
        gateway
            .call("POST", "/function/echo")
            .body("application/octet-stream", body.clone())
    };
    for answer in [call().send().ok(), call().chunked().send().ok()] {
        assert!(answer.body == body, "{} bytes came back", answer.body.len());
    }
}

#[test]
fn headers_of_one_connection_stay_on_it() {
    let gateway = gateway();
    let mut stream = raw(
        gateway.address,
        b"POST /function/echo HTTP/1.1\r\nhost: localhost\r\ncontent-length: 2\r\n\
          connection: keep-alive, x-echo-secret\r\nx-echo-secret: one\r\nx-echo-open: two\r\n\
          te: trailers\r\nproxy-connection: keep-alive\r\n\r\nhi",
    );
    let (head, _) = raw_head(&mut stream);
    assert!(head.contains("x-echo-open: two"), "{head}");
    assert!(!head.contains("x-echo-secret"), "{head}");
}

#[test]
fn one_connection_carries_many_requests() {
    let gateway = gateway();
    let mut stream = raw(gateway.address, b"");
    for n in 0..20 {
        // Refusals of the gateway itself keep the connection too.
        let path = if n % 5 == 4 {
            "/function/none"
        } else {
            "/function/echo"
        };
        let text =
            format!("POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 2\r\n\r\n{n:02}");
        stream.write_all(text.as_bytes()).unwrap();
        let (head, body) = raw_head(&mut stream);
        if n % 5 == 4 {
            assert!(head.starts_with("http/1.1 404"), "{head}");
        } else {
            assert_eq!(body, format!("{n:02}").into_bytes(), "{head}");
        }
    }
    stream
        .write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
        .unwrap();
    let mut rest = String::new();
    stream.read_to_string(&mut rest).unwrap();
    assert!(rest.ends_with("ok\n"), "{rest}");
}

#[test]
fn answers_say_where_cold_or_warm_and_how_long() {
    let gateway = gateway();
    let ask = |runtime: &str| {
        let call = gateway
            .call("POST", "/function/echo")
            .body("text/plain", "hi");
        call.on(runtime).send().ok()
    };
    let warm = ask("edge");
    let cold = ask("cpu");
    let again = ask("cpu");
    for (answer, runtime, site, start) in [
        (&warm, "edge", "edge", "warm"),
        (&cold, "cpu", "cloud", "cold"),
        (&again, "cpu", "cloud", "warm"),
    ] {
        assert_eq!(answer.header("x-stoic-runtime"), runtime);
        assert_eq!(answer.header("x-stoic-site"), site);
        assert_eq!(answer.header("x-stoic-start"), start, "{runtime}");
        assert!(answer.header("x-stoic-pod").starts_with("echo-"));
        assert_eq!(answer.header("x-stoic-invocation").len(), 26);
        let timing = answer.header("server-timing");
        assert!(
            timing.contains("processing;dur=") && timing.contains("total;dur="),
            "{timing}"
        );
        let actual = answer.header("x-stoic-actual");
        let sum: f64 = ["queueing", "transfer", "deployment", "processing"]
            .map(|name| part(actual, name))
            .iter()
            .sum();
        assert!((sum - part(actual, "response")).abs() < 1e-3, "{actual}");
    }
    // Only the one who waited for the pod to come up paid for it.
    assert!(part(cold.header("x-stoic-actual"), "deployment") > 0.0);
    assert_eq!(part(again.header("x-stoic-actual"), "deployment"), 0.0);
    assert_eq!(warm.header("x-stoic-emulated"), "");
    assert_eq!(cold.header("x-stoic-emulated"), "link,deployment");
    assert_eq!(again.header("x-stoic-emulated"), "link");
    // Two passes over a link of 2 ms leave their trace.
    assert!(part(again.header("x-stoic-actual"), "response") >= 0.002);
}

#[test]
fn prediction_stands_beside_what_happened_once_there_is_one() {
    let gateway = Gateway::start();
    let spec = json!({"concurrency": 4, "standby": {"edge": 1}, "bootstrap": {"batches": [2, 1]}});
    gateway.deploy(&echo("echo", spec));
    gateway.until_bootstrapped("echo");
    let answer = gateway
        .call("POST", "/function/echo")
        .body("text/plain", "hi")
        .send()
        .ok();
    let predicted = answer.header("x-stoic-predicted");
    let (low, response, high) = (
        part(predicted, "low90"),
        part(predicted, "response"),
        part(predicted, "high90"),
    );
    assert!(
        low <= response && response <= high && response > 0.0 && high < 60.0,
        "{predicted}"
    );
    // Both runtimes were measured, and the near one was taken.
    assert_eq!(answer.header("x-stoic-runtime"), "edge");
    let measured = gateway.json("/v1/measurements?function=echo&limit=100");
    let bootstrapped = |runtime: &str| {
        let rows = measured.as_array().unwrap().iter();
        rows.filter(|row| row["mode"] == "bootstrap" && row["runtime"] == runtime)
            .count()
    };
    assert_eq!((bootstrapped("edge"), bootstrapped("cpu")), (2, 2));
}
