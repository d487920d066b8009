//! A function is deployed as declared or refused with the key that is wrong; a new version takes over
//! without a failed request; a deletion ends its pods.

#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use stoic_tests::{Gateway, alive, echo, until};

const HEAD: &str = "apiVersion: stoic.dev/v1\nkind: Function\n";

#[test]
fn what_is_wrong_with_an_object_is_named() {
    let mut gateway = Gateway::start();
    let spec = |more: &str| {
        format!("{HEAD}metadata: {{name: f}}\nspec:\n  command: [stoic-echo]\n  {more}\n")
    };
    let name = |name: &str| {
        format!("{HEAD}metadata: {{name: \"{name}\"}}\nspec: {{command: [stoic-echo]}}\n")
    };
    let laughs: String = (1..12).fold(
        "a0: &a0 [x, x, x, x, x, x, x, x]\n".to_owned(),
        |text, n| {
            let before = format!("*a{}", n - 1);
            format!("{text}a{n}: &a{n} [{}]\n", vec![before; 8].join(", "))
        },
    );
    // What is sent, code, words that the detail must hold.
    let cases: Vec<(String, &str, &[&str])> = vec![
        (
            spec("comand: [x]"),
            "function_invalid",
            &["comand", "did you mean `command`"],
        ),
        (
            spec("timeuot: 3s"),
            "function_invalid",
            &["timeuot", "did you mean `timeout`"],
        ),
        (
            spec("queue: {lenght: 3}"),
            "function_invalid",
            &["lenght", "did you mean `length`"],
        ),
        (
            spec("timeout: soon"),
            "function_invalid",
            &["line 6", "soon"],
        ),
        (spec("timeout: 0s"), "function_invalid", &["timeout"]),
        (
            spec("concurrency: 0"),
            "function_invalid",
            &["spec.concurrency"],
        ),
        (spec("concurrency: -1"), "function_invalid", &["line 6"]),
        (spec("input: stream"), "function_invalid", &["stream"]),
        (
            spec("health: healthz"),
            "function_invalid",
            &["spec.health", "/"],
        ),
        (
            spec("standby: {edge: {min: 3, max: 2}}"),
            "function_invalid",
            &["spec.standby.edge"],
        ),
        (
            spec("standby: {egde: 1}"),
            "unknown_runtime",
            &["egde", "edge, cpu"],
        ),
        (
            spec("runtimes: [gpu7]"),
            "unknown_runtime",
            &["gpu7", "edge, cpu"],
        ),
        (
            spec("bootstrap: {batches: [0]}"),
            "function_invalid",
            &["spec.bootstrap.batches"],
        ),
        (
            name("Wild Life"),
            "function_invalid",
            &["metadata.name", "Wild Life"],
        ),
        (name("../etc"), "function_invalid", &["metadata.name"]),
        (name(""), "function_invalid", &["metadata.name"]),
        (
            HEAD.replace("v1", "v9") + "metadata: {name: f}\nspec: {command: [x]}\n",
            "function_invalid",
            &["stoic.dev/v9"],
        ),
        (
            HEAD.replace("Function", "Pod") + "metadata: {name: f}\nspec: {command: [x]}\n",
            "function_invalid",
            &["kind"],
        ),
        (
            format!("{HEAD}metadata: {{name: f}}\nspec: {{command: []}}\n"),
            "function_invalid",
            &["spec.command"],
        ),
        (
            format!("{HEAD}metadata: {{name: f}}\n"),
            "function_invalid",
            &["spec"],
        ),
        ("{]: not yaml".to_owned(), "function_invalid", &[]),
        ("just words".to_owned(), "function_invalid", &[]),
        (String::new(), "function_invalid", &[]),
        (laughs, "function_invalid", &[]),
        ("[".repeat(100_000), "function_invalid", &[]),
    ];
    for (text, code, words) in cases {
        let shown: String = text.chars().take(120).collect();
        let answer = gateway
            .call("POST", "/v1/functions")
            .body("application/yaml", text)
            .send();
        assert_eq!(answer.json()["code"], code, "{shown:?}: {}", answer.text());
        let detail = answer.problem(400, code);
        for word in words {
            assert!(detail.contains(word), "{shown:?}: {detail}");
        }
        assert!(
            detail.lines().count() == 1 && detail.len() < 2000,
            "{shown:?}: {detail}"
        );
    }
    let bytes = gateway
        .call("POST", "/v1/functions")
        .body("application/yaml", vec![0xff, 0xfe, 0])
        .send();
    bytes.problem(400, "function_invalid");
    let other = gateway
        .call("PUT", "/v1/functions/g")
        .body("application/json", echo("f", json!({})).to_string())
        .send();
    let detail = other.problem(400, "function_invalid");
    assert!(detail.contains("`g`") && detail.contains("`f`"), "{detail}");
    assert_eq!(gateway.json("/v1/functions"), json!([]));
    assert!(gateway.lives());
}

#[test]
fn an_object_over_two_mebibytes_is_refused() {
    let gateway = Gateway::start();
    let mut object = echo("f", json!({}));
    object["metadata"]["annotations"] = json!({"long": "x".repeat(2 << 20)});
    let answer = gateway.post_function(&object);
    answer.problem(413, "body_too_large");
}

#[test]
fn the_same_object_again_changes_nothing() {
    let gateway = Gateway::start();
    let object = echo("f", json!({"standby": {"edge": 1}}));
    assert_eq!(gateway.post_function(&object).status, 201);
    let pod = gateway.until_idle("f", 1).remove(0);
    let first = gateway.json("/v1/functions/f");
    let again = gateway.post_function(&object);
    assert_eq!(again.status, 200);
    let put = gateway
        .call("PUT", "/v1/functions/f")
        .body("application/json", object.to_string())
        .send();
    assert_eq!(put.status, 200);
    let second = gateway.json("/v1/functions/f");
    assert_eq!(first["status"]["version"], second["status"]["version"]);
    assert_eq!(first["status"]["created"], second["status"]["created"]);
    let pods = gateway.pods("f");
    assert_eq!((pods.len(), &pods[0]["pid"]), (1, &pod["pid"]));
    // What is read is what was declared.
    assert_eq!(second["spec"]["standby"]["edge"]["min"], 1);
    assert_eq!(second["metadata"]["name"], "f");
}

#[test]
fn requests_succeed_while_versions_take_over() {
    let gateway = Gateway::start();
    let version = |n: usize| {
        echo(
            "f",
            json!({"concurrency": 4, "standby": {"edge": 1}, "env": {"VERSION": n.to_string()}}),
        )
    };
    gateway.deploy(&version(0));
    let first = gateway.until_idle("f", 1)[0]["version"].clone();
    let (ended, served) = (AtomicBool::new(false), AtomicUsize::new(0));
    let mut last: Value = Value::Null;
    std::thread::scope(|scope| {
        for caller in 0..4 {
            let (gateway, ended, served) = (&gateway, &ended, &served);
            scope.spawn(move || {
                while !ended.load(Ordering::Relaxed) {
                    // Some are short, some are still running when their version is replaced.
                    let path = if caller % 2 == 0 {
                        "/function/f"
                    } else {
                        "/function/f?delay=40ms"
                    };
                    let call = gateway.call("POST", path).body("text/plain", "hi");
                    let answer = call.send();
                    if answer.status != 200 {
                        ended.store(true, Ordering::Relaxed);
                    }
                    assert_eq!((answer.status, answer.text().as_str()), (200, "hi"));
                    served.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        for n in 1..=6 {
            let before = served.load(Ordering::Relaxed);
            last = gateway.deploy(&version(n))["status"]["version"].clone();
            until("requests are served meanwhile", || {
                ended.load(Ordering::Relaxed) || served.load(Ordering::Relaxed) > before + 20
            });
        }
        ended.store(true, Ordering::Relaxed);
    });
    assert_ne!(first, last);
    until("the pods of former versions are gone", || {
        let pods = gateway.pods("f");
        // Each runtime may have a zygote of the version in force, and of no other.
        let processes = gateway.processes().len();
        pods.iter().all(|pod| pod["version"] == last) && processes <= pods.len() + 2
    });
}

#[test]
fn a_deletion_ends_the_pods_and_lets_what_runs_finish() {
    let gateway = Gateway::start();
    gateway.deploy(&echo("f", json!({"standby": {"edge": 1, "cpu": 1}})));
    let pods = gateway.until_idle("f", 2);
    std::thread::scope(|scope| {
        let call = gateway
            .call("POST", "/function/f?delay=500ms")
            .on("edge")
            .body("text/plain", "hi");
        let running = scope.spawn(move || call.send());
        gateway.until_state("f", "busy");
        assert_eq!(gateway.call("DELETE", "/v1/functions/f").send().status, 204);
        gateway.get("/function/f").problem(404, "unknown_function");
        assert_eq!(running.join().unwrap().ok().text(), "hi");
    });
    until("its pods are gone", || gateway.processes().is_empty());
    for pod in pods {
        assert!(!alive(u32::try_from(pod["pid"].as_u64().unwrap()).unwrap()));
    }
    gateway
        .call("DELETE", "/v1/functions/f")
        .send()
        .problem(404, "unknown_function");
    assert_eq!(gateway.json("/v1/pods"), json!([]));
    // Its name is free.
    gateway.deploy(&echo("f", json!({})));
    let _ = gateway.get("/function/f").ok();
}
