//! Any server of HTTP is a function: what callers send reaches it byte for byte, and what it answers
//! reaches them. The pod here knows nothing of STOIC (`any_http/pod.rs`).

#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::time::{Duration, Instant};
use stoic_tests::{Gateway, Launch, any_http, echo, raw, raw_head, until};

fn gateway() -> Gateway {
    let gateway = Gateway::start();
    gateway.deploy(&any_http("any", json!({})));
    gateway.until_idle("any", 1);
    gateway
}

/// What the pod saw of a request that is sent as it stands.
fn seen(gateway: &Gateway, request: &str) -> Value {
    let mut stream = raw(gateway.address, request.as_bytes());
    let (head, body) = raw_head(&mut stream);
    assert!(head.starts_with("http/1.1 200"), "{head}");
    serde_json::from_slice(&body).unwrap()
}

/// All values of a header that the pod saw.
fn values(seen: &Value, name: &str) -> Vec<String> {
    let all = seen["headers"].as_array().unwrap().iter();
    let all = all.filter(|pair| pair[0] == name);
    all.map(|pair| pair[1].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn paths_and_queries_pass_byte_for_byte() {
    let gateway = gateway();
    for path in [
        "/",
        "//",
        "/a%2Fb%2fc/../d/./%2e%2E/",
        "/../../etc/passwd",
        "/..%2f..%2fv1/functions",
        "/%00%20%7e~;a=b/c:d@e!$&'()*+,=",
        "/a?",
        "/a?x=1&x=2&&=&y=%26+%20/../?#".trim_end_matches('#'),
        "/function/any/again",
    ] {
        let request = format!("GET /function/any{path} HTTP/1.1\r\nhost: localhost\r\n\r\n");
        let seen = seen(&gateway, &request);
        assert_eq!(seen["line"], format!("GET {path} HTTP/1.1"));
    }
    // No path is the root; a query alone stays one.
    for (sent, line) in [("", "/"), ("?q=/../x", "/?q=/../x")] {
        let request = format!("PURGE /function/any{sent} HTTP/1.1\r\nhost: localhost\r\n\r\n");
        assert_eq!(
            seen(&gateway, &request)["line"],
            format!("PURGE {line} HTTP/1.1")
        );
    }
}

#[test]
fn statuses_headers_and_empty_answers_pass() {
    let gateway = gateway();
    let answer = gateway.call("DELETE", "/function/any/teapot").send();
    assert_eq!(answer.status, 418);
    let answer = gateway.get("/function/any/cookies");
    let cookies: Vec<_> = answer.headers.get_all("set-cookie").iter().collect();
    assert_eq!(cookies, ["a=1", "b=2"]);
    assert_eq!(answer.headers["x-latin"].as_bytes(), b"caf\xe9");
    for name in ["keep-alive", "x-hop"] {
        assert!(
            !answer.headers.contains_key(name),
            "{name} is of one connection"
        );
    }
    // HEAD: the length of what GET would answer, and no body.
    let mut stream = raw(
        gateway.address,
        b"HEAD /function/any/x HTTP/1.1\r\nhost: localhost\r\n\r\nGET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n",
    );
    let mut all = String::new();
    stream.read_to_string(&mut all).unwrap();
    let (head, rest) = all.split_once("\r\n\r\n").unwrap();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "));
    assert!(
        length.is_some_and(|length| length.parse::<u64>().unwrap() > 50),
        "{head}"
    );
    assert!(
        rest.starts_with("HTTP/1.1 200") && rest.ends_with("ok\n"),
        "{rest}"
    );
}

#[test]
fn a_pod_is_told_who_asked_and_of_which_event() {
    let launch = Launch::default().tables("[http]\norigins = [\"http://example.org\"]\n");
    let gateway = launch.start();
    gateway.deploy(&any_http("any", json!({"eventHeaders": true})));
    gateway.deploy(&any_http("plain", json!({})));
    gateway.until_idle("any", 1);
    gateway.until_idle("plain", 1);
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let seen = seen(
        &gateway,
        &format!(
            "POST /function/any/x HTTP/1.1\r\nhost: example.org:81\r\ncontent-type: image/jpeg\r\n\
             x-forwarded-for: 192.0.2.1\r\ntraceparent: {trace}\r\ntracestate: a=1\r\n\
             connection: x-mine, keep-alive\r\nx-mine: 1\r\nproxy-authorization: secret\r\nkeep-alive: 5\r\n\
             content-length: 2\r\n\r\nhi"
        ),
    );
    for (name, value) in [
        ("host", "example.org:81"),
        ("x-forwarded-host", "example.org:81"),
        ("x-forwarded-proto", "http"),
        ("x-forwarded-for", "192.0.2.1, 127.0.0.1"),
        ("traceparent", trace),
        ("tracestate", "a=1"),
        ("event-type", "image/jpeg"),
        ("event-namespace", "http.stoic.dev"),
        ("content-length", "2"),
    ] {
        assert_eq!(values(&seen, name), [value], "{name}");
    }
    assert_eq!(values(&seen, "event-id")[0].len(), 26);
    let time = &values(&seen, "event-time")[0];
    assert!(
        time.len() == 20 && time.ends_with('Z') && time.contains('T'),
        "{time}"
    );
    for name in [
        "connection",
        "x-mine",
        "proxy-authorization",
        "keep-alive",
        "te",
    ] {
        assert!(
            values(&seen, name).is_empty(),
            "{name} is of one connection: {seen}"
        );
    }
    assert_eq!(seen["body"], "hi");
    // A process that does not ask for events is not told of them.
    let plain = self::seen(
        &gateway,
        "GET /function/plain/ HTTP/1.1\r\nhost: localhost\r\n\r\n",
    );
    assert!(values(&plain, "event-id").is_empty(), "{plain}");
    // Who says it himself is believed.
    let own = "GET /function/any/ HTTP/1.1\r\nhost: localhost\r\nevent-id: mine\r\nevent-type: t\r\nx-forwarded-proto: https\r\n\r\n";
    let seen = self::seen(&gateway, own);
    for (name, value) in [
        ("event-id", "mine"),
        ("event-type", "t"),
        ("x-forwarded-proto", "https"),
    ] {
        assert_eq!(values(&seen, name), [value]);
    }
}

#[test]
fn trailers_pass_both_ways() {
    let gateway = gateway();
    let seen = seen(
        &gateway,
        "POST /function/any/ HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\ntrailer: x-check\r\n\r\n\
         3\r\nabc\r\n2\r\nde\r\n0\r\nx-check: 7\r\n\r\n",
    );
    assert_eq!(seen["body"], "abcde");
    assert_eq!(seen["trailers"], json!([["x-check", "7"]]));
    let ask = |te: &str| {
        let request = format!(
            "GET /function/any/trailers HTTP/1.1\r\nhost: localhost\r\n{te}connection: close\r\n\r\n"
        );
        let mut all = String::new();
        raw(gateway.address, request.as_bytes())
            .read_to_string(&mut all)
            .unwrap();
        all
    };
    let all = ask("te: trailers\r\n");
    assert!(
        all.contains("trailer: x-sum") && all.ends_with("4\r\nsome\r\n0\r\nx-sum: 42\r\n\r\n"),
        "{all}"
    );
    // Who did not say that he takes them gets none.
    let all = ask("");
    assert!(all.ends_with("4\r\nsome\r\n0\r\n\r\n"), "{all}");
}

#[test]
fn events_arrive_when_they_are_sent() {
    let gateway = gateway();
    let mut lines = gateway.get_open("/function/any/events");
    assert_eq!(lines.headers["content-type"], "text/event-stream");
    // The second is not sent before the first was seen.
    assert_eq!(lines.next_line(), "data: first\n");
    let _ = gateway.call("POST", "/function/any/release").send().ok();
    assert_eq!(lines.next_line(), "\n");
    assert_eq!(lines.next_line(), "data: second\n");
}

#[test]
fn caller_and_function_may_talk_while_both_send() {
    let gateway = Launch::default()
        .keys("[http]\nbody_timeout = \"300ms\"\n")
        .start();
    gateway.deploy(&any_http("any", json!({})));
    gateway.until_idle("any", 1);
    let mut stream = raw(
        gateway.address,
        b"POST /function/any/talk HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n",
    );
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut line = String::new();
    while line != "\r\n" {
        line.clear();
        reader.read_line(&mut line).unwrap();
    }
    for word in ["one", "two", "three"] {
        // The answer has begun: there is no hurry.
        std::thread::sleep(Duration::from_millis(200));
        write!(stream, "{:x}\r\n{word}\r\n", word.len()).unwrap();
        for expected in [format!("{:x}\r\n", word.len()), format!("{word}\r\n")] {
            line.clear();
            reader.read_line(&mut line).unwrap();
            assert_eq!(line, expected);
        }
    }
    stream.write_all(b"0\r\n\r\n").unwrap();
    line.clear();
    reader.read_line(&mut line).unwrap();
    assert_eq!(line, "0\r\n");
}

#[test]
fn a_client_is_told_to_go_on_only_where_its_body_is_wanted() {
    let gateway = gateway();
    for (size, path) in [(10, "any"), (300_000, "any")] {
        let head = format!(
            "POST /function/{path}/x HTTP/1.1\r\nhost: localhost\r\nexpect: 100-continue\r\ncontent-length: {size}\r\n\r\n"
        );
        let mut stream = raw(gateway.address, head.as_bytes());
        let (head, _) = raw_head(&mut stream);
        assert!(head.starts_with("http/1.1 100"), "{head}");
        stream.write_all(&vec![b'x'; size]).unwrap();
        let (head, body) = raw_head(&mut stream);
        assert!(head.starts_with("http/1.1 200"), "{head}");
        let seen: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(seen["body"].as_str().unwrap().len(), size);
        assert!(values(&seen, "expect").is_empty());
    }
    let head = "POST /function/none/x HTTP/1.1\r\nhost: localhost\r\nexpect: 100-continue\r\ncontent-length: 10\r\n\r\n";
    let (head, _) = raw_head(&mut raw(gateway.address, head.as_bytes()));
    assert!(head.starts_with("http/1.1 404"), "{head}");
}

#[test]
fn pods_of_any_health_path_and_any_age_of_http_are_served() {
    let gateway = Gateway::start();
    for (name, health) in [("openfaas", "/_/health"), ("root", "/")] {
        gateway.deploy(&any_http(
            name,
            json!({"health": health, "env": {"HEALTH": health}}),
        ));
        gateway.until_idle(name, 1);
        let _ = gateway.get(&format!("/function/{name}/x")).ok();
    }
    // One of OpenFaaS', of which nothing was said.
    gateway.deploy(&any_http("unsaid", json!({"env": {"HEALTH": "/_/health"}})));
    gateway.until_idle("unsaid", 1);
    // HTTP/1.0, ended by closing: the caller's connection stays.
    let request = "GET /function/root/old HTTP/1.1\r\nhost: localhost\r\n\r\nGET /function/root/old HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    let mut all = String::new();
    raw(gateway.address, request.as_bytes())
        .read_to_string(&mut all)
        .unwrap();
    assert_eq!(all.matches("HTTP/1.1 200").count(), 2, "{all}");
    assert_eq!(all.matches("until the end").count(), 2, "{all}");
    // A caller of HTTP/1.0 is answered as one, and the pod's connection is kept all the same.
    let mut all = String::new();
    raw(gateway.address, b"GET /function/root/x HTTP/1.0\r\n\r\n")
        .read_to_string(&mut all)
        .unwrap();
    assert!(
        all.starts_with("HTTP/1.0 200") && !all.contains("chunked"),
        "{all}"
    );
    assert!(all.contains("GET /x HTTP/1.1"), "{all}");
    // The standard server of Python, which knows nothing of `$PORT`.
    let command = json!([
        "sh",
        "-c",
        "exec python3 -m http.server --bind 127.0.0.1 --directory /usr $PORT"
    ]);
    gateway.deploy(&echo(
        "python",
        json!({"command": command, "health": "/", "runtimes": ["edge"]}),
    ));
    let answer = gateway.get("/function/python/").ok();
    assert!(answer.text().contains("bin/") && answer.header("x-stoic-runtime") == "edge");
    assert_eq!(gateway.get("/function/python/none").status, 404);
}

#[test]
fn connections_that_a_pod_closes_without_a_word_cost_no_request() {
    let gateway = Gateway::start();
    gateway.deploy(&any_http("any", json!({"env": {"CLOSES": "yes"}})));
    let pod = gateway.until_idle("any", 1).remove(0);
    for n in 0..200 {
        let answer = gateway
            .call("POST", "/function/any/")
            .body("text/plain", n.to_string())
            .send()
            .ok();
        assert_eq!(answer.json()["body"], n.to_string());
        assert_eq!(answer.header("x-stoic-pod"), pod["name"].as_str().unwrap());
    }
}

#[test]
fn answers_that_are_none_are_502_and_those_that_break_off_are_cut() {
    let gateway = Gateway::start();
    gateway.deploy(&any_http("any", json!({"runtimes": ["edge"]})));
    gateway.until_idle("any", 1);
    let detail = gateway
        .get("/function/any/garbage")
        .problem(502, "pod_answer_invalid");
    assert!(detail.contains("no HTTP"), "{detail}");
    gateway.until_idle("any", 1);
    // It had begun: there is nothing left but to break off, too.
    let broken = gateway.call("GET", "/function/any/cut").try_send();
    assert!(broken.is_err(), "{broken:?}");
    let _ = gateway.get("/function/any/x").ok();
}

#[test]
fn a_pod_that_hangs_is_504_and_one_that_stalls_is_cut_off() {
    let gateway = Gateway::start();
    gateway.deploy(&any_http("any", json!({"timeout": "400ms"})));
    gateway.until_idle("any", 1);
    let begun = Instant::now();
    let detail = gateway
        .get("/function/any/silent")
        .problem(504, "invocation_timeout");
    assert!(detail.contains("400ms"), "{detail}");
    let broken = gateway.call("GET", "/function/any/stalls").try_send();
    assert!(broken.is_err(), "{broken:?}");
    assert!(
        begun.elapsed() < Duration::from_secs(20),
        "{:?}",
        begun.elapsed()
    );
    gateway.until_idle("any", 1);
}

#[test]
fn a_body_that_breaks_off_frees_the_pod_and_harms_it_not() {
    let gateway = gateway();
    let pod = gateway.until_idle("any", 1).remove(0);
    let head = "POST /function/any/x HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1000000\r\n\r\nonly this";
    let stream = raw(gateway.address, head.as_bytes());
    gateway.until_state("any", "busy");
    stream.shutdown(Shutdown::Both).unwrap();
    until("the pod is free", || {
        gateway.pods("any")[0]["state"] == "idle"
    });
    assert_eq!(gateway.until_idle("any", 1)[0]["name"], pod["name"]);
}
