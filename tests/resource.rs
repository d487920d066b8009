//! Functions as resources of a real Kubernetes cluster: applied there, served here, seen there. Skipped,
//! with a line that says so, where `KUBECONFIG` names no cluster.

#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};
use std::time::{Duration, Instant};
use stoic_tests::{Gateway, Launch, Namespace, echo, until, until_some};

const KIND: &str = "functions.stoic.dev";

fn launch(namespace: &Namespace) -> Launch {
    let name = &namespace.name;
    Launch::default().tables(&format!(
        "[inquisitor]\nenabled = false\n[controller]\nenabled = true\nkubeless = true\nnamespace = \"{name}\"\n"
    ))
}

fn status(namespace: &Namespace, name: &str) -> Value {
    namespace.get(KIND, name)["status"].clone()
}

#[test]
fn what_is_applied_is_served_seen_scaled_changed_and_deleted() {
    let Some(namespace) = Namespace::make() else {
        return;
    };
    let gateway = launch(&namespace).start();
    let mut object = echo("hi", json!({"standby": {"edge": 1}, "timeout": "30s"}));
    object["metadata"]["labels"] = json!({"team": "a"});
    let begun = Instant::now();
    namespace.apply(&object);
    until("the applied function answers", || {
        gateway.call("POST", "/function/hi").send().status == 200
    });
    println!("applied to answered: {:?}", begun.elapsed());
    namespace.wait(KIND, "hi", "Ready", Duration::from_secs(20));
    namespace.wait(KIND, "hi", "Warm", Duration::from_secs(20));

    let seen = namespace.get(KIND, "hi");
    assert_eq!(
        seen["status"]["observedGeneration"],
        seen["metadata"]["generation"]
    );
    assert_eq!(seen["status"]["path"], "/function/hi");
    assert_eq!(seen["metadata"]["finalizers"], json!(["stoic.dev/pods"]));
    let there = gateway.json("/v1/functions/hi");
    assert_eq!(seen["status"]["version"], there["status"]["version"]);
    assert_eq!(there["metadata"]["labels"]["team"], "a");
    until("the columns say so", || {
        let columns = namespace.kubectl(&["get", KIND]);
        let mut lines = columns.lines();
        let head: Vec<&str> = lines.next().unwrap().split_whitespace().collect();
        let row: Vec<&str> = lines.next().unwrap().split_whitespace().collect();
        assert_eq!(head, ["NAME", "READY", "STANDBY", "IMAGE", "STATUS", "AGE"]);
        // It has no image: its cell is empty.
        row[..4] == ["hi", "1", "1", "PodsReady"]
    });
    let explained = namespace.kubectl(&["explain", "functions.stoic.dev.spec.standby"]);
    assert!(explained.contains("Warm pods by runtime"), "{explained}");
    let explained = namespace.kubectl(&["explain", "functions.stoic.dev.spec.warmup.contentType"]);
    assert!(explained.contains("Media type"), "{explained}");

    namespace.kubectl(&["scale", &format!("{KIND}/hi"), "--replicas=3"]);
    gateway.until_idle("hi", 3);
    until("the status counts them", || {
        status(&namespace, "hi")["ready"] == 3
    });
    let version = there["status"]["version"].clone();
    assert_eq!(
        status(&namespace, "hi")["version"],
        version,
        "no new version"
    );
    namespace.kubectl(&["scale", &format!("{KIND}/hi"), "--replicas=0"]);
    gateway.until_idle("hi", 0);
    namespace.wait(KIND, "hi", "Ready", Duration::from_secs(20));
    assert_eq!(namespace.condition(KIND, "hi", "Ready").unwrap()[1], "Idle");
    namespace.kubectl(&[
        "patch",
        KIND,
        "hi",
        "--type=json",
        "-p",
        r#"[{"op": "remove", "path": "/spec/replicas"}]"#,
    ]);
    gateway.until_idle("hi", 1);

    object["spec"]["env"] = json!({"A": "b"});
    namespace.apply(&object);
    until("the new version is in force", || {
        status(&namespace, "hi")["version"] != version
    });
    namespace.wait(KIND, "hi", "Ready", Duration::from_secs(20));

    let events = until_some("events tell of it", || {
        let events = namespace.kubectl(&["get", "events", "-o", "wide"]);
        (events.contains("Deployed") && events.contains("PodsReady")).then_some(events)
    });
    assert!(events.contains("is in force"), "{events}");

    namespace.kubectl(&["delete", KIND, "hi", "--timeout=20s"]);
    assert_eq!(gateway.call("POST", "/function/hi").send().status, 404);
    assert!(gateway.pods("hi").is_empty());
    assert!(!gateway.panicked());
}

#[test]
fn what_cannot_be_is_refused_by_the_cluster() {
    let Some(namespace) = Namespace::make() else {
        return;
    };
    let refused = |object: &Value, words: &str| {
        let said = namespace.try_apply(object).expect_err(words);
        assert!(said.contains(words), "{words}: {said}");
    };
    let with = |spec: Value| echo("hi", spec);
    refused(
        &with(json!({"comand": ["x"]})),
        "unknown field \"spec.comand\"",
    );
    refused(
        &with(json!({"warmup": {"pth": "/"}})),
        "unknown field \"spec.warmup.pth\"",
    );
    refused(&echo(&"x".repeat(64), json!({})), "at most 63");
    refused(&echo("a.b", json!({})), "DNS label");
    refused(&with(json!({"command": []})), "what to run");
    refused(
        &with(json!({"image": "Not An Image"})),
        "no reference of an image",
    );
    refused(
        &with(json!({"image": "x/UPPER:1"})),
        "no reference of an image",
    );
    refused(
        &with(json!({"concurrency": 0})),
        "greater than or equal to 1",
    );
    refused(&with(json!({"timeout": "0s"})), "longer than zero");
    refused(&with(json!({"timeout": "soon"})), "spec.timeout");
    refused(&with(json!({"port": 70000})), "spec.port");
    refused(&with(json!({"pull": "always"})), "spec.pull");
    refused(&with(json!({"health": "healthz"})), "spec.health");
    refused(
        &with(json!({"bootstrap": {"batches": [0]}})),
        "spec.bootstrap",
    );
    refused(&with(json!({"standby": {"edge": -1}})), "spec.standby.edge");
    for image in [
        "echo",
        "localhost:5000/stoic-echo:1",
        "ghcr.io/a/b.c/d_e-f:v1.2",
        "a/b@sha256:0123456789012345678901234567890123456789012345678901234567890123",
    ] {
        namespace.apply(&with(
            json!({"image": image, "standby": {"edge": {"min": 1, "idle": "5m"}}}),
        ));
    }
}

#[test]
fn what_only_the_gateway_knows_is_told_in_the_status() {
    let Some(namespace) = Namespace::make() else {
        return;
    };
    let gateway = launch(&namespace).start();
    for (name, spec, reason, words) in [
        (
            "few",
            json!({"standby": {"edge": {"min": 3, "max": 2}}}),
            "FunctionInvalid",
            "at least min (3)",
        ),
        (
            "odd",
            json!({"standby": {"edge": {"minn": 3}}}),
            "FunctionInvalid",
            "`minn`",
        ),
        (
            "nowhere",
            json!({"runtimes": ["moon"]}),
            "UnknownRuntime",
            "no runtime `moon`",
        ),
        (
            "absent",
            json!({"command": ["no-such-program"]}),
            "PodRefused",
            "no-such-program",
        ),
    ] {
        namespace.apply(&echo(name, spec));
        let message = until_some("the status says why", || {
            let [status, is, message] = namespace.condition(KIND, name, "Ready")?;
            (status == "False" && is == reason).then_some(message)
        });
        assert!(message.contains(words), "{name}: {message}");
        assert_eq!(
            gateway
                .call("POST", &format!("/function/{name}"))
                .send()
                .status,
            404
        );
    }
    // What is put right is deployed.
    namespace.apply(&echo(
        "few",
        json!({"standby": {"edge": {"min": 1, "max": 2}}}),
    ));
    namespace.wait(KIND, "few", "Ready", Duration::from_secs(20));
    assert!(status(&namespace, "few")["error"].is_null());
}

#[test]
fn what_the_cluster_declares_is_changed_there_alone() {
    let Some(namespace) = Namespace::make() else {
        return;
    };
    let gateway = launch(&namespace).start();
    gateway.deploy(&echo("own", json!({})));
    namespace.apply(&echo("hi", json!({})));
    namespace.wait(KIND, "hi", "Ready", Duration::from_secs(20));
    let said = gateway
        .post_function(&echo("hi", json!({"env": {"A": "b"}})))
        .problem(409, "function_managed");
    assert!(
        said.contains(&format!("{KIND}/{}/hi", namespace.name)),
        "{said}"
    );
    let deleted = gateway.call("DELETE", "/v1/functions/hi").send();
    deleted.problem(409, "function_managed");
    // Others are the client's own.
    assert_eq!(
        gateway.call("DELETE", "/v1/functions/own").send().status,
        204
    );
}

#[test]
fn what_went_while_the_gateway_was_away_is_gone_when_it_is_back() {
    let Some(namespace) = Namespace::make() else {
        return;
    };
    let launch = launch(&namespace);
    let gateway = launch.start();
    for name in ["stays", "goes", "forced"] {
        namespace.apply(&echo(name, json!({"standby": {"edge": 1}})));
        namespace.wait(KIND, name, "Ready", Duration::from_secs(20));
    }
    gateway.deploy(&echo("own", json!({})));
    // Its objects are deleted while nobody looks, one of them without waiting for its finalizer.
    gateway.freeze();
    namespace.kubectl(&["delete", KIND, "goes", "--wait=false"]);
    let none = r#"{"metadata":{"finalizers":null}}"#;
    namespace.kubectl(&["patch", KIND, "forced", "--type=merge", "-p", none]);
    namespace.kubectl(&["delete", KIND, "forced"]);
    let gateway = gateway.reborn(&launch);
    until("they are gone", || {
        let all = gateway.json("/v1/functions");
        let names: Vec<&str> = all
            .as_array()
            .unwrap()
            .iter()
            .map(|f| f["metadata"]["name"].as_str().unwrap())
            .collect();
        names == ["own", "stays"]
    });
    until("the cluster lets go of it", || {
        namespace
            .kubectl(&["get", KIND, "-o", "name"])
            .lines()
            .count()
            == 1
    });
    gateway.until_idle("stays", 1);
    namespace.wait(KIND, "stays", "Ready", Duration::from_secs(20));
}

#[test]
fn of_two_gateways_one_writes_and_both_serve() {
    let Some(namespace) = Namespace::make() else {
        return;
    };
    let holder = || {
        let lease = namespace.try_kubectl(&["get", "lease", "stoic-controller", "-o", "json"]);
        let lease: Value = serde_json::from_str(&lease.ok()?).ok()?;
        let holder = lease["spec"]["holderIdentity"].as_str()?.to_owned();
        (!holder.is_empty()).then_some(holder)
    };
    let mut first = launch(&namespace).start();
    let leader = until_some("the first holds the lease", holder);
    assert_eq!(leader, format!("stoic-{}", first.id()));
    let second = launch(&namespace).start();
    namespace.apply(&echo("hi", json!({"standby": {"edge": 1}})));
    namespace.wait(KIND, "hi", "Ready", Duration::from_secs(20));
    for gateway in [&first, &second] {
        until("both serve it", || {
            gateway.call("POST", "/function/hi").send().status == 200
        });
    }
    assert_eq!(holder().unwrap(), leader);
    first.terminate();
    first.wait();
    let next = until_some("the second takes over", || {
        holder().filter(|h| *h != leader)
    });
    assert_eq!(next, format!("stoic-{}", second.id()));
    namespace.apply(&echo("hi", json!({"standby": {"edge": 2}})));
    until("the second writes", || {
        status(&namespace, "hi")["ready"] == 2
    });
    namespace.kubectl(&["delete", KIND, "hi", "--timeout=20s"]);
}

#[test]
fn many_functions_cost_little() {
    let Some(namespace) = Namespace::make() else {
        return;
    };
    let count = 200;
    let gateway = launch(&namespace).start();
    let items: Vec<Value> = (0..count)
        .map(|n| echo(&format!("f{n}"), json!({})))
        .collect();
    let list = json!({"apiVersion": "v1", "kind": "List", "items": items});
    let begun = Instant::now();
    namespace.apply(&list);
    let applied = begun.elapsed();
    let ready = |namespace: &Namespace| {
        let all: Value =
            serde_json::from_str(&namespace.kubectl(&["get", KIND, "-o", "json"])).unwrap();
        let items = all["items"].as_array().unwrap().clone();
        let is = |object: &&Value| {
            let conditions = object["status"]["conditions"].as_array();
            conditions.is_some_and(|all| {
                all.iter()
                    .any(|c| c["type"] == "Ready" && c["status"] == "True")
            })
        };
        let versions: Vec<String> = items
            .iter()
            .map(|o| {
                o["metadata"]["resourceVersion"]
                    .as_str()
                    .unwrap()
                    .to_owned()
            })
            .collect();
        (items.iter().filter(is).count(), versions)
    };
    let patience = Instant::now() + Duration::from_secs(60);
    while ready(&namespace).0 < count {
        assert!(
            Instant::now() < patience,
            "{} are ready",
            ready(&namespace).0
        );
        std::thread::sleep(Duration::from_millis(200));
    }
    println!(
        "{count} functions: applied in {applied:?}, all ready after {:?}",
        begun.elapsed()
    );
    // Nothing changes, so nothing is written any more.
    std::thread::sleep(Duration::from_secs(1));
    let (_, before) = ready(&namespace);
    let cpu = cpu_seconds(&gateway);
    std::thread::sleep(Duration::from_secs(4));
    assert_eq!(ready(&namespace).1, before);
    let used = (cpu_seconds(&gateway) - cpu) / 4.0;
    println!(
        "idle with {count} functions: {:.1} % of a core",
        used * 100.0
    );
    assert!(used < 0.25, "{used} of a core");
}

/// Processor time that a gateway has had so far.
fn cpu_seconds(gateway: &Gateway) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", gateway.pid())).unwrap();
    let after = stat.rsplit(')').next().unwrap();
    let fields: Vec<&str> = after.split_whitespace().collect();
    let ticks: f64 = fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap();
    ticks / 100.0
}
