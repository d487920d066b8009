//! A function that cannot start, or dies while it works, costs its caller an honest answer and the
//! gateway nothing.

#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};
use stoic_tests::{Gateway, Launch, alive, echo, texts, until, zip_of};

/// A gateway that gives up on pods soon.
fn impatient() -> Gateway {
    Launch::default()
        .tables("\n[deployment]\nattempts = 2\n")
        .start()
}

fn pid(pod: &Value) -> u32 {
    u32::try_from(pod["pid"].as_u64().expect("a process id")).unwrap()
}

#[test]
fn a_process_that_exits_at_once_is_504_with_its_status_and_last_words() {
    let mut gateway = impatient();
    let command = json!([
        "sh",
        "-c",
        "echo first; echo the disk is on fire >&2; exit 7"
    ]);
    let spec = json!({"command": command, "runtimes": ["edge"]});
    gateway.deploy(&echo("doomed", spec));
    let answer = gateway
        .call("POST", "/function/doomed")
        .body("text/plain", "hi")
        .send();
    let detail = answer.problem(504, "deployment_timeout");
    assert!(
        detail.contains("exit status 7") && detail.contains("the disk is on fire"),
        "{detail}"
    );
    // A batch gets the same answer, also as its last event.
    let spec = json!({"command": command, "input": "batch"});
    gateway.deploy(&echo("doomed-batch", spec));
    let zip = zip_of(&texts(1));
    let answer = gateway.batch("/function/doomed-batch", "edge", &zip).send();
    answer.problem(504, "deployment_timeout");
    let events = gateway
        .batch("/function/doomed-batch", "cpu", &zip)
        .header("accept", "application/x-ndjson")
        .open()
        .rest();
    let last = events.last().unwrap();
    assert_eq!(
        (&last["type"], &last["problem"]["code"]),
        (&json!("error"), &json!("deployment_timeout"))
    );
    assert!(gateway.lives() && gateway.processes().is_empty());
    // Mended, it works at once.
    gateway.deploy(&echo("doomed", json!({"runtimes": ["edge"]})));
    let _ = gateway.get("/function/doomed").ok();
}

#[test]
fn a_load_that_fails_says_why() {
    let gateway = impatient();
    let spec = json!({"env": {"ECHO_FAIL": "exit"}, "runtimes": ["edge"]});
    gateway.deploy(&echo("failing", spec));
    let detail = gateway
        .get("/function/failing")
        .problem(504, "deployment_timeout");
    assert!(
        detail.contains("exit status 1") && detail.contains("ECHO_FAIL asks for it"),
        "{detail}"
    );
}

#[test]
fn a_pod_that_is_never_ready_is_504_in_time_and_is_ended() {
    let gateway = impatient();
    let spec =
        json!({"env": {"ECHO_FAIL": "never-ready"}, "readyTimeout": "300ms", "runtimes": ["edge"]});
    gateway.deploy(&echo("slow", spec));
    let detail = gateway
        .get("/function/slow")
        .problem(504, "deployment_timeout");
    assert!(
        detail.contains("/healthz") && detail.contains("300ms"),
        "{detail}"
    );
    until("its processes are gone", || gateway.processes().is_empty());
    assert!(gateway.pods("slow").is_empty());
    // One that is slow, but in time, serves.
    let spec =
        json!({"env": {"ECHO_START_DELAY": "300ms"}, "readyTimeout": "20s", "runtimes": ["edge"]});
    gateway.deploy(&echo("slow", spec));
    let answer = gateway.get("/function/slow").ok();
    assert_eq!(answer.header("x-stoic-start"), "cold");
}

#[test]
fn an_executable_that_is_absent_is_refused_at_deployment() {
    let gateway = Gateway::start();
    let answer =
        gateway.post_function(&echo("ghost", json!({"command": ["no-such-program", "x"]})));
    let detail = answer.problem(400, "pod_refused");
    assert!(
        detail.contains("no-such-program") && detail.contains("PATH"),
        "{detail}"
    );
    gateway
        .get("/v1/functions/ghost")
        .problem(404, "unknown_function");
}

#[test]
fn a_pod_that_dies_of_a_request_is_tried_once_elsewhere_and_replaced() {
    let mut gateway = Gateway::start();
    gateway.deploy(&echo(
        "echo",
        json!({"concurrency": 4, "standby": {"edge": 1}}),
    ));
    let former = pid(&gateway.until_idle("echo", 1)[0]);
    for how in ["exit", "abort"] {
        // It dies there, too.
        let path = format!("/function/echo?die={how}");
        let answer = gateway.call("POST", &path).body("text/plain", "hi").send();
        answer.problem(502, "pod_died");
        // Insisted on, it gets a second pod, and no other runtime.
        let answer = gateway
            .call("POST", &path)
            .on("edge")
            .body("text/plain", "hi")
            .send();
        answer.problem(502, "pod_died");
    }
    until("a new pod has come up at the edge", || {
        let pods = gateway.pods("echo");
        pods.len() == 1 && pods[0]["state"] == "idle" && pid(&pods[0]) != former
    });
    // With the zygotes of the two runtimes.
    assert_eq!(gateway.processes().len(), 3);
    let answer = gateway
        .call("POST", "/function/echo")
        .body("text/plain", "hi")
        .send()
        .ok();
    assert_eq!(
        (answer.header("x-stoic-start"), answer.text().as_str()),
        ("warm", "hi")
    );
    // A panic is the function's own: the pod answers, and lives.
    let before = gateway.until_idle("echo", 1)[0]["pid"].clone();
    gateway
        .get("/function/echo?die=panic")
        .problem(500, "function_panicked");
    assert_eq!(gateway.until_idle("echo", 1)[0]["pid"], before);
    assert!(gateway.lives());
}

#[test]
fn a_pod_that_dies_leaves_no_child_behind() {
    let gateway = Gateway::start();
    let command = json!(["sh", "-c", "sleep 600 & exec stoic-echo"]);
    let spec = json!({"command": command, "runtimes": ["edge"], "standby": {"edge": 1}});
    gateway.deploy(&echo("parent", spec));
    let pod = gateway.until_idle("parent", 1).remove(0);
    let former = gateway.processes();
    assert_eq!(former.len(), 2, "the pod and its child: {former:?}");
    gateway.kill_pod(pid(&pod));
    until("both are gone", || !former.iter().any(|pid| alive(*pid)));
    // A deletion ends the children, too.
    gateway.until_idle("parent", 1);
    assert_eq!(
        gateway.call("DELETE", "/v1/functions/parent").send().status,
        204
    );
    until("nothing is left", || gateway.processes().is_empty());
}

#[test]
fn a_request_whose_pod_is_killed_is_answered_by_another() {
    let gateway = Gateway::start();
    gateway.deploy(&echo(
        "echo",
        json!({"concurrency": 4, "standby": {"edge": 1}}),
    ));
    let pod = gateway.until_idle("echo", 1).remove(0);
    std::thread::scope(|scope| {
        let call = gateway
            .call("POST", "/function/echo?delay=700ms")
            .body("text/plain", "hi");
        let asked = scope.spawn(move || call.send());
        gateway.until_state("echo", "busy");
        gateway.kill_pod(pid(&pod));
        let answer = asked.join().unwrap().ok();
        assert_eq!(
            (answer.text().as_str(), answer.header("x-stoic-runtime")),
            ("hi", "cpu")
        );
        assert_ne!(answer.header("x-stoic-pod"), pod["name"]);
    });
    until("a new pod has come up at the edge", || {
        let pods = gateway.pods("echo");
        pods.iter().any(|other| {
            other["runtime"] == "edge" && other["state"] == "idle" && other["pid"] != pod["pid"]
        })
    });
}

#[test]
fn a_batch_whose_pod_is_killed_is_worked_once_more_elsewhere() {
    let gateway = Gateway::start();
    gateway.deploy(&echo(
        "batch",
        json!({"input": "batch", "standby": {"edge": 1}}),
    ));
    let pod = gateway.until_idle("batch", 1).remove(0);
    let mut lines = gateway
        .call("POST", "/function/batch?delay=40ms")
        .body("application/zip", zip_of(&texts(15)))
        .header("accept", "application/x-ndjson")
        .open();
    assert_eq!(lines.event("placed")["runtime"], "edge");
    lines.event("progress");
    gateway.kill_pod(pid(&pod));
    let retry = lines.event("retry");
    assert!(
        retry["reason"].as_str().unwrap().contains("pod_died"),
        "{retry}"
    );
    assert_eq!(lines.event("placed")["runtime"], "cpu");
    let result = lines.event("result");
    assert_eq!(
        (&result["items"], &result["measurement"]["runtime"]),
        (&json!(15), &json!("cpu"))
    );
    assert!(lines.next_event().is_none(), "the result is the last line");
    let stored = gateway.json(result["result"].as_str().unwrap());
    assert_eq!(stored["items"].as_array().unwrap().len(), 15);
    until("a new pod has come up at the edge", || {
        let pods = gateway.pods("batch");
        pods.iter().any(|other| {
            other["runtime"] == "edge" && other["state"] == "idle" && other["pid"] != pod["pid"]
        })
    });
}

#[test]
fn a_batch_that_kills_every_pod_is_502_after_two_of_them() {
    let gateway = Gateway::start();
    gateway.deploy(&echo(
        "batch",
        json!({"input": "batch", "standby": {"edge": 1}}),
    ));
    gateway.until_idle("batch", 1);
    let zip = zip_of(&texts(6));
    let events = gateway
        .batch("/function/batch?die_at=3", "edge", &zip)
        .header("accept", "application/x-ndjson")
        .open()
        .rest();
    let placed: Vec<&Value> = events
        .iter()
        .filter(|event| event["type"] == "placed")
        .collect();
    assert_eq!(placed.len(), 2, "{events:?}");
    assert!(
        placed.iter().all(|event| event["runtime"] == "edge"),
        "pinned: {placed:?}"
    );
    let last = events.last().unwrap();
    assert_eq!(last["problem"]["code"], "pod_died", "{last}");
    let plain = gateway
        .call("POST", "/function/batch?die_at=3")
        .body("application/zip", zip.clone())
        .send();
    plain.problem(502, "pod_died");
    // The history says so, and the next batch is served.
    let rows = gateway.json("/v1/measurements?function=batch");
    let died = rows
        .as_array()
        .unwrap()
        .iter()
        .filter(|row| row["outcome"] == "pod_died");
    assert_eq!(died.count(), 2, "{rows}");
    let _ = gateway.batch("/function/batch", "edge", &zip).send().ok();
}
