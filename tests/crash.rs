//! `kill -9` in the middle of work loses nothing that was acknowledged and leaves no process behind; a
//! stop that is asked for is in order.

#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};
use std::net::TcpStream;
use std::time::{Duration, Instant};
use stoic_tests::{Gateway, Launch, alive, echo, texts, until, zip_of};

fn pids(pods: &[Value]) -> Vec<u32> {
    pods.iter()
        .map(|pod| u32::try_from(pod["pid"].as_u64().unwrap()).unwrap())
        .collect()
}

#[test]
fn after_kill_9_in_mid_batch_everything_is_there_and_no_orphan_is() {
    let gateway = Gateway::start();
    gateway.deploy(&echo(
        "batch",
        json!({"input": "batch", "standby": {"edge": 1, "cpu": 1}}),
    ));
    // One that leaves a child of its own behind when it is killed.
    let command = json!(["sh", "-c", "sleep 600 & exec stoic-echo"]);
    gateway.deploy(&echo(
        "parent",
        json!({"command": command, "runtimes": ["edge"], "standby": {"edge": 1}}),
    ));
    gateway.until_idle("batch", 2);
    gateway.until_idle("parent", 1);
    let zip = zip_of(&texts(8));
    let trained = gateway
        .batch("/function/batch", "edge", &zip)
        .header("x-stoic-action", "train")
        .send()
        .ok();
    assert_eq!(trained.header("x-stoic-model"), "v1");
    for (n, runtime) in ["edge", "cpu", "edge", "cpu"].into_iter().enumerate() {
        let path = format!("/function/batch?n={n}");
        let _ = gateway.batch(&path, runtime, &zip).send().ok();
    }
    let result = trained.header("x-stoic-invocation").to_owned();
    until("the history is written", || {
        gateway
            .json("/v1/measurements?function=batch")
            .as_array()
            .unwrap()
            .len()
            == 5
    });
    let state = |gateway: &Gateway| {
        let mut functions = gateway.json("/v1/functions");
        for function in functions.as_array_mut().unwrap() {
            // What it is, and not what its pods do now.
            function["status"] = json!({"version": function["status"]["version"], "model": function["status"]["model"], "created": function["status"]["created"]});
        }
        (
            functions,
            gateway.json("/v1/measurements?function=batch"),
            gateway.json("/v1/functions/batch/models"),
            gateway.json(&format!("/v1/invocations/{result}/result")),
        )
    };
    let before = state(&gateway);
    assert_eq!(before.2[0]["version"], "v1");
    let processing = |gateway: &Gateway| -> Vec<Value> {
        let predicted = gateway.json("/v1/functions/batch/predict?items=8&bytes=1000");
        let runtimes = predicted["runtimes"].as_array().unwrap().iter();
        runtimes
            .map(|one| one["estimate"]["processing"].clone())
            .collect()
    };
    until("all of it is learned", || {
        processing(&gateway).iter().all(|one| one["points"] == 2)
    });
    let learned = processing(&gateway);

    let long = zip_of(&texts(600));
    let mut lines = gateway
        .batch("/function/batch?delay=50ms", "edge", &long)
        .header("accept", "application/x-ndjson")
        .open();
    lines.event("progress");
    let former = gateway.processes();
    assert!(former.len() >= 4, "three pods and a child: {former:?}");
    let gateway = gateway.reborn(&Launch::default());

    assert_eq!(state(&gateway), before);
    until("the processes of the former life are gone", || {
        !former.iter().any(|pid| alive(*pid))
    });
    let check: String = gateway
        .database()
        .query_row("PRAGMA integrity_check", [], |row| row.get(0))
        .unwrap();
    assert_eq!(check, "ok");
    // The standbys come up with the newest model, and what was learned is known.
    let pods = gateway.until_idle("batch", 2);
    assert!(pods.iter().all(|pod| pod["model"] == "v1"), "{pods:?}");
    until("what was learned is known", || {
        processing(&gateway) == learned
    });
    let answer = gateway.batch("/function/batch", "edge", &zip).send().ok();
    assert_eq!(
        (
            answer.header("x-stoic-start"),
            answer.header("x-stoic-model")
        ),
        ("warm", "v1")
    );
    // The half of a batch left nothing half.
    assert!(gateway.unfinished().is_empty());
    gateway.until_idle("parent", 1);
    // `parent` is a shell, and has no zygote; `batch` has one on each runtime.
    until("one pod each, the child and the zygotes", || {
        gateway.processes().len() == 4 + 2
    });
}

#[test]
fn many_deaths_in_a_row_lose_no_function() {
    let mut gateway = Gateway::start();
    for n in 0..4 {
        // Acknowledged, and killed at once.
        gateway.deploy(&echo(&format!("f{n}"), json!({"runtimes": ["edge"]})));
        gateway = gateway.reborn(&Launch::default());
        assert_eq!(
            gateway.json("/v1/functions").as_array().unwrap().len(),
            n + 1
        );
        let _ = gateway.get(&format!("/function/f{n}")).ok();
    }
}

#[test]
fn sigterm_lets_requests_finish_and_ends_with_0() {
    let mut gateway = Gateway::start();
    gateway.deploy(&echo(
        "f",
        json!({"concurrency": 4, "standby": {"edge": 1}}),
    ));
    gateway.deploy(&echo(
        "batch",
        json!({"input": "batch", "standby": {"edge": 1}}),
    ));
    let pods = [gateway.until_idle("f", 1), gateway.until_idle("batch", 1)].concat();
    let zip = zip_of(&texts(12));
    std::thread::scope(|scope| {
        let call = gateway
            .call("POST", "/function/f?delay=600ms")
            .on("edge")
            .body("text/plain", "hi");
        let request = scope.spawn(move || call.send());
        let call = gateway.batch("/function/batch?delay=50ms", "edge", &zip);
        let batch = scope.spawn(move || call.send());
        gateway.until_state("f", "busy");
        gateway.until_state("batch", "busy");
        gateway.terminate();
        until("nothing new is taken", || {
            TcpStream::connect(gateway.address).is_err()
        });
        assert_eq!(request.join().unwrap().ok().text(), "hi");
        let result = batch.join().unwrap().ok().json();
        assert_eq!(result["items"].as_array().unwrap().len(), 12);
    });
    let exit = gateway.wait();
    assert_eq!(exit.code, Some(0), "{exit:?}");
    assert!(!pids(&pods).into_iter().any(alive) && gateway.processes().is_empty());
}

#[test]
fn who_lingers_serves_on_and_says_that_no_more_should_come() {
    let mut gateway = Launch::default().keys("linger = \"2s\"\n").start();
    gateway.deploy(&echo("f", json!({"standby": {"edge": 1}})));
    gateway.until_idle("f", 1);
    assert_eq!(gateway.get("/readyz").status, 200);
    let begun = Instant::now();
    gateway.terminate();
    until("it is not ready any more", || {
        gateway.get("/readyz").status == 503
    });
    let refused = gateway.get("/readyz").json();
    assert_eq!(refused["code"], "gateway_stopping", "{refused}");
    assert_eq!(gateway.get("/healthz").status, 200);
    let call = gateway.call("POST", "/function/f");
    assert_eq!(call.body("text/plain", "on").send().ok().text(), "on");
    assert_eq!(gateway.wait().code, Some(0));
    assert!(begun.elapsed() >= Duration::from_secs(2));
    assert!(gateway.processes().is_empty());
}

#[test]
fn an_idle_connection_does_not_hold_up_the_stop() {
    let mut gateway = Gateway::start();
    // Never used, used before, and in the midst of a head.
    let _fresh = stoic_tests::raw(gateway.address, b"");
    let mut kept = stoic_tests::raw(
        gateway.address,
        b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n",
    );
    let _ = stoic_tests::raw_head(&mut kept);
    let _half = stoic_tests::raw(gateway.address, b"GET /healthz HT");
    let begun = Instant::now();
    gateway.terminate();
    assert_eq!(gateway.wait().code, Some(0));
    assert!(
        begun.elapsed() < Duration::from_secs(5),
        "{:?}",
        begun.elapsed()
    );
}

#[test]
fn a_second_sigint_ends_at_once() {
    let mut gateway = Gateway::start();
    gateway.deploy(&echo(
        "f",
        json!({"concurrency": 4, "standby": {"edge": 1}}),
    ));
    gateway.until_idle("f", 1);
    let mut waiting = stoic_tests::raw(
        gateway.address,
        b"GET /function/f?delay=30s HTTP/1.1\r\nhost: localhost\r\n\r\n",
    );
    gateway.until_state("f", "busy");
    let begun = Instant::now();
    gateway.interrupt();
    until("it says that it stops", || {
        gateway.log().contains("a second signal ends them")
    });
    assert!(gateway.lives(), "the request may still finish");
    gateway.interrupt();
    let exit = gateway.wait();
    assert_eq!(exit.signal, None, "in order, though at once: {exit:?}");
    assert!(
        begun.elapsed() < Duration::from_secs(6),
        "{:?}",
        begun.elapsed()
    );
    assert!(gateway.processes().is_empty());
    let _ = std::io::Read::read(&mut waiting, &mut [0]);
}
