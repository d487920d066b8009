//! Asynchronous calls: accepted when they are on disk, run at least once, their results kept.

#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;
use stoic_tests::{Answer, Gateway, Launch, echo, texts, until, until_some, zip_of};

/// Attempts follow one another at once.
const QUICKLY: &str = "\n[calls]\nattempts = 3\nbackoff = \"20ms\"\nbackoff_max = \"100ms\"\n";

fn call(gateway: &Gateway, path: &str, body: &[u8]) -> String {
    let answer = gateway
        .call("POST", &format!("/async-function/{path}"))
        .body("text/plain", body)
        .send();
    assert_eq!(answer.status, 202, "{}", answer.text());
    let id = answer.header("x-call-id").to_owned();
    assert_eq!(answer.header("location"), format!("/v1/calls/{id}"));
    id
}

fn shown(gateway: &Gateway, id: &str) -> Value {
    gateway.json(&format!("/v1/calls/{id}"))
}

fn until_ended(gateway: &Gateway, id: &str, state: &str) -> Value {
    until_some(&format!("call {id} to be {state}"), || {
        let call = shown(gateway, id);
        let ended = !["queued", "running"].contains(&call["state"].as_str().unwrap());
        assert!(!ended || call["state"] == state, "{call}");
        ended.then_some(call)
    })
}

fn result(gateway: &Gateway, id: &str) -> Answer {
    gateway.get(&format!("/v1/calls/{id}/result"))
}

#[test]
fn a_call_is_accepted_run_and_its_result_fetched() {
    let gateway = Gateway::start();
    gateway.deploy(&echo(
        "f",
        json!({"runtimes": ["edge"], "standby": {"edge": 1}}),
    ));
    let id = call(&gateway, "f/some/path?x=1", b"hello");
    let ended = until_ended(&gateway, &id, "succeeded");
    assert_eq!(
        (&ended["function"], &ended["path"]),
        (&json!("f"), &json!("/some/path?x=1"))
    );
    let attempt = &ended["attempts"][0];
    assert_eq!(
        (&attempt["status"], &attempt["runtime"]),
        (&json!(200), &json!("edge"))
    );
    assert!(
        attempt["actual"].as_str().unwrap().contains("processing="),
        "{ended}"
    );
    let answer = result(&gateway, &id).ok();
    assert_eq!(
        (answer.text().as_str(), answer.header("content-type")),
        ("hello", "text/plain")
    );
    assert_eq!(answer.header("x-function-status"), "200");
    // OpenFaaS' clients name functions with their namespace.
    let other = call(&gateway, "f.openfaas-fn", b"there");
    until_ended(&gateway, &other, "succeeded");
    let page = gateway.json("/v1/calls?function=f&state=succeeded");
    let ids: Vec<&str> = page["calls"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| c["id"].as_str().unwrap())
        .collect();
    assert_eq!(ids, [other.as_str(), id.as_str()]);
}

#[test]
fn a_batch_runs_as_it_would_have_at_once() {
    let gateway = Gateway::start();
    gateway.deploy(&echo(
        "f",
        json!({"input": "batch", "bootstrap": {"batches": []}, "standby": {"edge": 1}}),
    ));
    let zip = zip_of(&texts(5));
    let answer = gateway
        .call("POST", "/async-function/f")
        .on("edge")
        .body("application/zip", zip)
        .send();
    assert_eq!(answer.status, 202, "{}", answer.text());
    let id = answer.header("x-call-id").to_owned();
    until_ended(&gateway, &id, "succeeded");
    assert_eq!(
        result(&gateway, &id).ok().json()["items"]
            .as_array()
            .unwrap()
            .len(),
        5
    );
}

#[test]
fn what_cannot_be_called_is_refused_at_once() {
    let gateway = Gateway::start();
    gateway.deploy(&echo("f", json!({"runtimes": ["edge"]})));
    let ask = |path: &str| gateway.call("POST", path).body("text/plain", "x");
    ask("/async-function/none")
        .send()
        .problem(404, "unknown_function");
    ask("/async-function/f")
        .header("x-callback-url", "ftp://x")
        .send()
        .problem(400, "callback_invalid");
    ask("/async-function/f")
        .header("x-stoic-mode", "fastest")
        .send()
        .problem(400, "unknown_mode");
    gateway.get("/v1/calls/none").problem(404, "unknown_call");
    gateway
        .get("/v1/calls/none/result")
        .problem(404, "unknown_call");
    gateway
        .get("/v1/calls?state=done")
        .problem(400, "query_invalid");
    gateway
        .call("DELETE", "/v1/calls/none")
        .send()
        .problem(404, "unknown_call");
    assert_eq!(gateway.json("/v1/calls")["calls"], json!([]));
}

#[test]
fn what_fails_is_tried_again_then_dead_and_can_be_revived() {
    let gateway = Launch::default().tables(QUICKLY).start();
    gateway.deploy(&echo(
        "f",
        json!({"runtimes": ["edge"], "standby": {"edge": 1}}),
    ));
    let id = call(&gateway, "f?status=503", b"x");
    let dead = until_ended(&gateway, &id, "dead");
    assert_eq!(dead["attempts"].as_array().unwrap().len(), 3, "{dead}");
    assert_eq!(dead["attempts"][2]["status"], 503);
    let revived = gateway
        .call("POST", &format!("/v1/calls/{id}/retry"))
        .send();
    assert_eq!(revived.status, 202, "{}", revived.text());
    let again = until_ended(&gateway, &id, "dead");
    assert!(again["attempts"].as_array().unwrap().len() > 3, "{again}");
    // What the function refuses would be refused again.
    let id = call(&gateway, "f?status=404", b"x");
    let failed = until_ended(&gateway, &id, "failed");
    assert_eq!(failed["attempts"].as_array().unwrap().len(), 1, "{failed}");
    assert_eq!(result(&gateway, &id).header("x-function-status"), "404");
}

#[test]
fn queued_and_running_calls_are_cancelled() {
    let gateway = Gateway::start();
    gateway.deploy(&echo(
        "f",
        json!({"runtimes": ["edge"], "concurrency": 1, "standby": {"edge": 1}}),
    ));
    gateway.until_idle("f", 1);
    let running = call(&gateway, "f?delay=30s", b"x");
    until("the call to run", || {
        shown(&gateway, &running)["state"] == "running"
    });
    let queued = call(&gateway, "f", b"x");
    for id in [&queued, &running] {
        let answer = gateway
            .call("DELETE", &format!("/v1/calls/{id}"))
            .send()
            .ok();
        assert_eq!(answer.json()["state"], "cancelled");
    }
    // The pod's place is free again long before the thirty seconds are over.
    let next = call(&gateway, "f", b"y");
    until_ended(&gateway, &next, "succeeded");
    gateway
        .call("DELETE", &format!("/v1/calls/{next}"))
        .send()
        .problem(409, "call_ended");
    gateway
        .get(&format!("/v1/calls/{running}/result"))
        .problem(404, "no_result");
}

#[test]
fn the_same_idempotency_key_is_the_same_call() {
    let gateway = Gateway::start();
    gateway.deploy(&echo(
        "f",
        json!({"runtimes": ["edge"], "standby": {"edge": 1}}),
    ));
    let ask = |body: &str| {
        let call = gateway
            .call("POST", "/async-function/f")
            .header("idempotency-key", "k1");
        call.body("text/plain", body).send()
    };
    let (first, second) = (ask("one"), ask("one"));
    assert_eq!((first.status, second.status), (202, 202));
    assert_eq!(first.header("x-call-id"), second.header("x-call-id"));
    ask("two").problem(409, "idempotency_conflict");
    assert_eq!(
        gateway.json("/v1/calls")["calls"].as_array().unwrap().len(),
        1
    );
}

#[test]
fn no_acknowledged_call_is_lost_when_the_gateway_is_killed() {
    let launch = Launch::default().tables(QUICKLY);
    let mut gateway = launch.start();
    gateway.deploy(&echo(
        "f",
        json!({"runtimes": ["edge"], "concurrency": 4, "standby": {"edge": 1}}),
    ));
    let mut ids = Vec::new();
    for round in 0..4 {
        let accepted: Vec<String> = std::thread::scope(|scope| {
            let callers: Vec<_> = (0..4)
                .map(|caller| {
                    let gateway = &gateway;
                    scope.spawn(move || {
                        let body = |n: usize| format!("{round}-{caller}-{n}");
                        (0..25)
                            .map(|n| call(gateway, "f?delay=5ms", body(n).as_bytes()))
                            .collect::<Vec<_>>()
                    })
                })
                .collect();
            callers
                .into_iter()
                .flat_map(|caller| caller.join().unwrap())
                .collect()
        });
        ids.extend(accepted);
        // Killed, with calls queued and running.
        gateway = gateway.reborn(&launch);
    }
    for id in &ids {
        until_ended(&gateway, id, "succeeded");
    }
    let mut bodies: Vec<String> = ids
        .iter()
        .map(|id| result(&gateway, id).ok().text())
        .collect();
    bodies.sort();
    bodies.dedup();
    assert_eq!(bodies.len(), 400, "each call has its own answer");
}

#[test]
fn large_bodies_and_results_pass_without_being_held_in_memory() {
    let gateway = Gateway::start();
    gateway.deploy(&echo(
        "f",
        json!({"runtimes": ["edge"], "standby": {"edge": 1}}),
    ));
    gateway.until_idle("f", 1);
    let before = peak(gateway.pid());
    let body: Vec<u8> = (0..48_000_000u32).map(|n| (n % 251) as u8).collect();
    let id = call(&gateway, "f", &body);
    let ended = until_ended(&gateway, &id, "succeeded");
    assert_eq!(ended["result_bytes"], body.len());
    assert_eq!(result(&gateway, &id).ok().body, body);
    let grown = peak(gateway.pid()) - before;
    assert!(grown < 40 << 20, "the gateway grew by {} MiB", grown >> 20);
}

/// Most memory that a process ever held, in bytes.
fn peak(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

#[test]
fn the_result_is_told_to_the_callback_signed_and_until_it_is_taken() {
    let gateway = Launch::default().tables(QUICKLY).start();
    gateway.deploy(&echo(
        "f",
        json!({"runtimes": ["edge"], "standby": {"edge": 1}}),
    ));
    let receiver = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/done", receiver.local_addr().unwrap());
    let call = gateway
        .call("POST", "/async-function/f")
        .header("x-callback-url", &url);
    let id = call
        .body("text/plain", "hello")
        .send()
        .header("x-call-id")
        .to_owned();
    // The first time it fails.
    let (first, _) = receive(&receiver, "503 Service Unavailable");
    let (second, body) = receive(&receiver, "200 OK");
    for head in [&first, &second] {
        assert_eq!(field(head, "x-call-id"), id);
        assert_eq!(field(head, "x-function-name"), "f");
        assert_eq!(field(head, "x-function-status"), "200");
    }
    assert_eq!(body, b"hello");
    let secret = std::fs::read_to_string(gateway.data().join("callback-secret")).unwrap();
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret.trim().as_bytes());
    let signed = [field(&second, "x-stoic-timestamp").as_bytes(), b".", &body].concat();
    let expected = ring::hmac::sign(&key, &signed);
    let expected: String = expected
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert_eq!(
        field(&second, "x-stoic-signature"),
        format!("sha256={expected}")
    );
    until("the callback to be delivered", || {
        shown(&gateway, &id)["callback"]["state"] == "delivered"
    });
}

/// Takes one request, answers with a status, and gives its head and body.
fn receive(receiver: &TcpListener, status: &str) -> (Vec<String>, Vec<u8>) {
    let (stream, _) = receiver.accept().unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    let mut reader = BufReader::new(stream);
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        if line.trim().is_empty() {
            break;
        }
        head.push(line.trim().to_owned());
    }
    let mut body = vec![0; field(&head, "content-length").parse().unwrap()];
    reader.read_exact(&mut body).unwrap();
    let mut stream: TcpStream = reader.into_inner();
    write!(
        stream,
        "HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
    )
    .unwrap();
    (head, body)
}

fn field<'a>(head: &'a [String], name: &str) -> &'a str {
    let found = head.iter().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        key.eq_ignore_ascii_case(name).then(|| value.trim())
    });
    found.unwrap_or_else(|| panic!("no {name} in {head:?}"))
}
