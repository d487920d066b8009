//! Pods are forked from a zygote that stands ready, and are none the worse for it; where a function asks
//! for it, so is a process for each of its invocations.

#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;
use stoic_tests::{Answer, Call, Gateway, Launch, QUICK, alive, binary, echo, until, zip_of};
use tempfile::TempDir;

/// Asks a pod itself.
#[track_caller]
fn ask(pod: &Value, path: &str) -> Answer {
    let address = pod["address"].as_str().unwrap();
    Call::new("GET", &format!("http://{address}{path}")).send()
}

fn pid(of: &Value) -> u32 {
    u32::try_from(of["pid"].as_u64().unwrap()).unwrap()
}

/// What a process shows of itself in `/proc/PID/status`.
fn status(pid: u32, key: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text.lines().find(|line| line.starts_with(key)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// The zygotes of a gateway: of its processes, those that are no pods.
fn zygotes(gateway: &Gateway) -> Vec<u32> {
    let pods = gateway.json("/v1/pods");
    let pods: Vec<u64> = pods
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|pod| pod["pid"].as_u64())
        .collect();
    let mut left = gateway.processes();
    left.retain(|pid| !pods.contains(&u64::from(*pid)));
    left
}

/// What the open descriptors of a process are, without the numbers of sockets and the like.
fn descriptors(pid: u32) -> Vec<String> {
    let mut found: Vec<String> = std::fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .flatten()
        .filter_map(|entry| std::fs::read_link(entry.path()).ok())
        .map(|link| link.display().to_string())
        .map(|link| link.split(":[").next().unwrap().to_owned())
        .map(|link| {
            if link.ends_with(".log") {
                "log".to_owned()
            } else {
                link
            }
        })
        .collect();
    found.sort();
    found
}

#[test]
fn pods_are_forked_and_tell_where_their_starts_went() {
    let gateway = Gateway::start();
    gateway.deploy(&echo(
        "forked",
        json!({"standby": {"edge": {"min": 2, "max": 4}}}),
    ));
    for pod in gateway.until_idle("forked", 2) {
        let stages = pod["stages"].as_object().unwrap();
        assert!(
            stages.contains_key("fork") && stages.contains_key("ready"),
            "{pod}"
        );
        // Its report and its metrics tell the same.
        let report = ask(&pod, "/_stoic/report").ok().json();
        assert!(
            report["start_s"]["fork"].as_f64().unwrap() > 0.0,
            "{report}"
        );
        let metrics = ask(&pod, "/metrics").ok().text();
        assert!(
            metrics.contains("stoic_pod_start_seconds{stage=\"fork\"}"),
            "{metrics}"
        );
    }
    let metrics = gateway.get("/metrics").ok().text();
    assert!(
        metrics
            .lines()
            .any(|line| line.starts_with("stoic_start_stage_seconds_count{")
                && line.contains("stage=\"fork\"")),
        "{metrics}"
    );
    let zygotes = zygotes(&gateway);
    assert_eq!(zygotes.len(), 1, "one for the function on its runtime");
    assert_eq!(status(zygotes[0], "Threads:"), 1);
    // Pods are the gateway's own children: they live and die with it, not with the zygote.
    for pod in gateway.pods("forked") {
        assert_eq!(status(pid(&pod), "PPid:"), u64::from(gateway.pid()));
    }
}

#[test]
fn a_cold_answer_says_where_the_start_went() {
    let gateway = Gateway::start();
    gateway.deploy(&echo(
        "cold",
        json!({"standby": {"edge": {"min": 0, "idle": "50ms"}}}),
    ));
    let mut kinds = BTreeSet::new();
    for _ in 0..3 {
        until("no pod is left", || gateway.pods("cold").is_empty());
        let answer = gateway
            .call("POST", "/function/cold")
            .on("edge")
            .body("text/plain", "x")
            .send()
            .ok();
        assert_eq!(answer.header("x-stoic-start"), "cold");
        let timing = answer.header("server-timing");
        assert!(
            timing.contains("start-fork;dur=") && timing.contains("start-ready;dur="),
            "{timing}"
        );
        kinds.insert(timing.contains("start-exec"));
    }
    // The first one had its zygote started for it, the others found it.
    assert_eq!(kinds, BTreeSet::from([false, true]));
    let warm = gateway
        .call("POST", "/function/cold")
        .on("edge")
        .body("text/plain", "x")
        .send()
        .ok();
    assert!(
        !warm.header("server-timing").contains("start-") || warm.header("x-stoic-start") == "cold"
    );
}

#[test]
fn fifty_forks_share_nothing_that_they_should_not() {
    let gateway = Gateway::start();
    gateway.deploy(&echo(
        "many",
        json!({"standby": {"edge": {"min": 50, "max": 50}}}),
    ));
    let pods = gateway.until_idle("many", 50);
    let (mut hashes, mut seeds) = (BTreeSet::new(), BTreeSet::new());
    for pod in &pods {
        let told = ask(pod, "/?process").ok().json();
        assert_eq!(told["pid"], pod["pid"]);
        hashes.insert(told["hash"].to_string());
        seeds.insert(told["seed"].to_string());
        assert_eq!(told["calls"], 1);
        // A group of its own, its own name in its log, and no descriptor of the zygote's or a sibling's.
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid(pod))).unwrap();
        let group = stat
            .rsplit(')')
            .next()
            .unwrap()
            .split_whitespace()
            .nth(2)
            .unwrap();
        assert_eq!(group, pid(pod).to_string());
    }
    assert_eq!(
        (hashes.len(), seeds.len()),
        (50, 50),
        "each has random numbers of its own"
    );
    let log = gateway
        .data()
        .join("logs")
        .join(format!("{}.log", pods[0]["name"].as_str().unwrap()));
    assert!(std::fs::read_to_string(log).unwrap().contains("ready"));

    let plain = Launch::default()
        .config(&QUICK.replace("[sites.edge]", "[sites.edge]\nzygote = false"))
        .start();
    plain.deploy(&echo("plain", json!({"standby": {"edge": 1}})));
    let pod = &plain.until_idle("plain", 1)[0];
    assert!(
        pod["stages"]["exec"].is_number() && pod["stages"]["fork"].is_null(),
        "{pod}"
    );
    assert!(zygotes(&plain).is_empty(), "the switch is off");
    let _ = ask(pod, "/?process").ok();
    let own = descriptors(pid(pod));
    // Connections that were asked on close a moment later.
    until("forked pods have open what a plain one has", || {
        pods.iter().all(|pod| {
            let fds = descriptors(pid(pod));
            let is_socket = |fd: &&String| *fd == "socket";
            let (sockets, most) = (
                fds.iter().filter(is_socket).count(),
                own.iter().filter(is_socket).count() + 1,
            );
            // The gateway may keep a connection to the one that ran the bootstrap.
            let others = |all: &[String]| -> Vec<String> {
                let others = all.iter().filter(|fd| *fd != "socket");
                others.cloned().collect()
            };
            sockets <= most && others(&fds) == others(&own)
        })
    });
}

#[test]
fn a_crash_takes_nobody_along() {
    let gateway = Gateway::start();
    gateway.deploy(&echo(
        "crash",
        json!({"standby": {"edge": {"min": 3, "max": 3}}}),
    ));
    let before: BTreeSet<u32> = gateway.until_idle("crash", 3).iter().map(pid).collect();
    let zygote = zygotes(&gateway);
    for how in ["exit", "abort"] {
        let _ = gateway
            .call("GET", &format!("/function/crash?die={how}"))
            .on("edge")
            .try_send();
    }
    until("the dead are replaced", || {
        let pods = gateway.pods("crash");
        let now: BTreeSet<u32> = pods
            .iter()
            .filter(|p| p["state"] == "idle")
            .map(pid)
            .collect();
        now.len() == 3 && now.intersection(&before).count() <= 1
    });
    assert_eq!(zygotes(&gateway), zygote, "the zygote lives on");
}

#[test]
fn a_zygote_that_is_killed_harms_no_pod_and_is_replaced() {
    let gateway = Gateway::start();
    gateway.deploy(&echo(
        "orphaned",
        json!({"standby": {"edge": {"min": 2, "max": 2}}}),
    ));
    let before: BTreeSet<u32> = gateway.until_idle("orphaned", 2).iter().map(pid).collect();
    let zygote = zygotes(&gateway)[0];
    gateway.kill_pod(zygote);
    until("it is gone", || !alive(zygote));
    for pod in gateway.pods("orphaned") {
        let _ = ask(&pod, "/?process").ok();
    }
    let victim = *before.first().unwrap();
    gateway.kill_pod(victim);
    until("a new pod comes from a new zygote", || {
        let now: BTreeSet<u32> = gateway
            .pods("orphaned")
            .iter()
            .filter(|p| p["state"] == "idle")
            .map(pid)
            .collect();
        now.len() == 2 && !now.contains(&victim)
    });
    let new = zygotes(&gateway);
    assert!(new.len() == 1 && new[0] != zygote, "{new:?}");
}

#[test]
fn nothing_outlives_the_gateway_or_the_function() {
    let gateway = Gateway::start();
    gateway.deploy(&echo("gone", json!({"standby": {"edge": 2}})));
    gateway.until_idle("gone", 2);
    assert_eq!(gateway.processes().len(), 3);
    let _ = gateway.call("DELETE", "/v1/functions/gone").send().ok();
    until("pods and zygote are gone", || {
        gateway.processes().is_empty()
    });
    gateway.deploy(&echo("again", json!({"standby": {"edge": 2}})));
    gateway.until_idle("again", 2);
    let left = gateway.processes();
    let launch = Launch::default();
    let new = gateway.reborn(&launch);
    until("those of the former life are gone", || {
        left.iter().all(|pid| !alive(*pid))
    });
    new.until_idle("again", 2);
}

#[test]
fn a_function_that_cannot_start_says_so_as_ever() {
    let gateway = Launch::default().keys("").start();
    gateway.deploy(&echo(
        "broken",
        json!({"env": {"ECHO_FAIL": "exit"}, "standby": {"edge": {"min": 0}}}),
    ));
    let answer = gateway.call("GET", "/function/broken").on("edge").send();
    assert!(answer.status >= 500, "{}", answer.text());
    assert!(
        answer.text().contains("ECHO_FAIL asks for it"),
        "{}",
        answer.text()
    );
}

#[test]
fn a_model_that_is_published_is_in_those_that_are_forked_later() {
    let gateway = Gateway::start();
    gateway.deploy(&echo(
        "model",
        json!({"input": "batch", "standby": {"edge": {"min": 1, "max": 4}}}),
    ));
    gateway.until_idle("model", 1);
    let zip = zip_of(&[("a".to_owned(), b"x".to_vec())]);
    let trained = gateway
        .batch("/function/model", "edge", &zip)
        .header("x-stoic-action", "train")
        .send()
        .ok();
    let version = trained.header("x-stoic-model").to_owned();
    until("the standby has it", || {
        gateway.pods("model")[0]["model"] == version.as_str()
    });
    until(
        "pods are forked with the model, and need not load it",
        || {
            let victim = pid(&gateway.pods("model")[0]);
            gateway.kill_pod(victim);
            until("another one", || {
                gateway
                    .pods("model")
                    .iter()
                    .any(|pod| pod["state"] == "idle" && pid(pod) != victim)
            });
            let pods = gateway.pods("model");
            let pod = pods.iter().find(|pod| pod["state"] == "idle").unwrap();
            let log = gateway
                .data()
                .join("logs")
                .join(format!("{}.log", pod["name"].as_str().unwrap()));
            pod["model"] == version.as_str()
                && !std::fs::read_to_string(log)
                    .unwrap()
                    .contains("model in force")
        },
    );
}

fn isolated(name: &str, more: Value) -> Value {
    let mut spec = json!({"isolation": "invocation", "standby": {"edge": 1}});
    spec.as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    echo(name, spec)
}

#[test]
fn each_isolated_invocation_has_a_process_of_its_own() {
    let gateway = Gateway::start();
    gateway.deploy(&isolated("alone", json!({})));
    let pod = gateway.until_idle("alone", 1).remove(0);
    let mut pids = BTreeSet::new();
    let mut hashes = BTreeSet::new();
    for _ in 0..10 {
        let answer = gateway
            .call("GET", "/function/alone?process")
            .on("edge")
            .send()
            .ok();
        assert_eq!(answer.header("x-stoic-start"), "warm");
        let told = answer.json();
        assert_eq!(told["calls"], 1, "nothing is left of the call before");
        pids.insert(pid(&told));
        hashes.insert(told["hash"].to_string());
    }
    assert_eq!((pids.len(), hashes.len()), (10, 10));
    until("they are gone", || pids.iter().all(|pid| !alive(*pid)));
    // A crash is its invocation's alone.
    let crashed = gateway
        .call("GET", "/function/alone?die=abort")
        .on("edge")
        .send();
    assert!(
        crashed
            .problem(500, "function_crashed")
            .contains("signal 6")
    );
    let body = "y".repeat(100_000);
    let echoed = gateway
        .call("POST", "/function/alone")
        .on("edge")
        .body("text/plain", body.clone())
        .send()
        .ok();
    assert_eq!(echoed.text(), body);
    assert_eq!(
        gateway.until_idle("alone", 1)[0]["pid"],
        pod["pid"],
        "the pod lives on"
    );
    // Its end is in order.
    let _ = gateway.call("DELETE", "/v1/functions/alone").send().ok();
    until("all its processes are gone", || {
        gateway.processes().is_empty()
    });
}

#[test]
fn lines_of_an_isolated_batch_come_through_and_a_caller_who_leaves_ends_it() {
    let gateway = Gateway::start();
    gateway.deploy(&isolated("batch", json!({"input": "batch"})));
    let pod = gateway.until_idle("batch", 1).remove(0);
    let items: Vec<(String, Vec<u8>)> = (0..4).map(|n| (format!("{n}"), vec![n; 10])).collect();
    let zip = zip_of(&items);
    let mut lines = gateway
        .batch("/function/batch?delay=150ms", "edge", &zip)
        .header("accept", stoic_protocol::NDJSON_MEDIA_TYPE)
        .open();
    lines.event("progress");
    let rest = lines.rest();
    assert_eq!(rest.last().unwrap()["type"], "result", "{rest:?}");
    let crashed = gateway
        .batch("/function/batch?die_at=2", "edge", &zip)
        .send();
    assert!(
        crashed.status >= 500 && crashed.text().contains("exit status 3"),
        "{}",
        crashed.text()
    );
    let children = || {
        let own = gateway.processes();
        own.len() - zygotes(&gateway).len()
    };
    let quiet = children();
    assert!(
        gateway
            .batch("/function/batch?delay=20s", "edge", &zip)
            .give_up_after(std::time::Duration::from_millis(500))
    );
    until("the child of a caller who left is gone", || {
        children() <= quiet
    });
    assert_eq!(gateway.pods("batch")[0]["pid"], pod["pid"]);
}

#[test]
fn isolation_is_refused_to_programs_that_cannot_give_it() {
    let gateway = Gateway::start();
    let answer = gateway.post_function(&json!({
        "apiVersion": "stoic.dev/v1", "kind": "Function", "metadata": {"name": "shell"},
        "spec": {"command": ["sleep", "100"], "isolation": "invocation"},
    }));
    assert!(answer.problem(400, "pod_refused").contains("SDK"));
}

/// A few generated scenes.
fn scenes(folder: &Path, labelled: bool, count: &str) -> Vec<u8> {
    let out = folder.join("scenes.zip");
    let mut command = Command::new(binary("stoic-wildlife"));
    command
        .args(["scenes", "--count", count, "--size", "480x270", "--out"])
        .arg(&out);
    if labelled {
        command.arg("--labelled");
    }
    let made = command.output().unwrap();
    assert!(
        made.status.success(),
        "{}",
        String::from_utf8_lossy(&made.stderr)
    );
    std::fs::read(out).unwrap()
}

/// Trains a wildlife function and gives its answers on every runtime, from pods that had to be started.
fn answers(
    gateway: &Gateway,
    spec: &Value,
    training: &[u8],
    zip: &[u8],
) -> BTreeMap<String, Value> {
    gateway.deploy(&json!({
        "apiVersion": "stoic.dev/v1", "kind": "Function", "metadata": {"name": "wildlife"}, "spec": spec,
    }));
    let trained = gateway
        .batch(
            "/function/wildlife?epochs=2&copies=1&refit=false",
            "edge",
            training,
        )
        .header("x-stoic-action", "train")
        .send()
        .ok();
    assert_eq!(trained.header("x-stoic-model"), "v1");
    let mut found = BTreeMap::new();
    for runtime in ["edge", "cpu"] {
        // Twice: the second pod is forked from a zygote that had the model told.
        for round in 0..2 {
            for pod in gateway.pods("wildlife") {
                if let Some(pid) = pod["pid"].as_u64() {
                    gateway.kill_pod(u32::try_from(pid).unwrap());
                }
            }
            let answer = gateway
                .batch("/function/wildlife", runtime, zip)
                .send()
                .ok();
            let mut json = answer.json();
            json.as_object_mut().unwrap().remove("completed");
            if let Some(info) = json.get_mut("info").and_then(Value::as_object_mut) {
                info.remove("completed");
            }
            found.insert(format!("{runtime} {round}"), json);
        }
    }
    found
}

#[test]
fn a_libtorch_function_answers_the_same_forked_isolated_and_plain() {
    let folder = TempDir::new().unwrap();
    let training = scenes(folder.path(), true, "10");
    let zip = scenes(folder.path(), false, "9");
    let spec = json!({
        "command": ["stoic-wildlife"], "input": "batch", "standby": {"edge": 1},
        "bootstrap": {"batches": []}, "env": {"STOIC_BACKBONE": "random:efficientnet-lite0"},
    });
    let forked = Gateway::start();
    let of_forked = answers(&forked, &spec, &training, &zip);
    let pods = forked.pods("wildlife");
    let pod = pods.iter().find(|pod| pod["runtime"] == "edge").unwrap();
    assert!(pod["stages"]["fork"].is_number(), "{pod}");
    let plain = Launch::default()
        .config(
            &QUICK
                .replace("[sites.edge]", "[sites.edge]\nzygote = false")
                .replace(
                    "[sites.cloud.emulated_link]",
                    "[sites.cloud]\nzygote = false\n[sites.cloud.emulated_link]",
                ),
        )
        .start();
    let of_plain = answers(&plain, &spec, &training, &zip);
    assert_eq!(of_forked, of_plain);
    let mut spec = spec;
    spec["isolation"] = "invocation".into();
    let isolated = Gateway::start();
    assert_eq!(answers(&isolated, &spec, &training, &zip), of_plain);
}
