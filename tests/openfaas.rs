//! OpenFaaS' gateway API, as `faas-cli` speaks it: the requests below are those that the real one sends,
//! and the answers what it takes for success or shows as refused.

use serde_json::{Value, json};
use stoic_tests::{Answer, Gateway, until_some};

/// What `faas-cli deploy --image REF --name NAME` sends, with an executable for process sites.
fn deployment(name: &str, more: Value) -> Value {
    let mut all = json!({
        "service": name,
        "image": "ghcr.io/openfaas/echo:latest",
        "namespace": "openfaas-fn",
        "envProcess": "",
        "labels": {"com.openfaas.scale.min": "1"},
        "annotations": {"stoic.dev/command": "stoic-echo"},
    });
    let (Value::Object(base), Value::Object(more)) = (&mut all, more) else {
        panic!("a deployment is an object");
    };
    base.extend(more);
    all
}

fn send(gateway: &Gateway, method: &str, path: &str, body: &Value) -> Answer {
    gateway
        .call(method, path)
        .header("User-Agent", "faas-cli/dev (openfaas; linux; amd64)")
        // `faas-cli login` keeps a password and sends it with everything.
        .header("Authorization", "Basic YWRtaW46cGFzcw==")
        .body("application/json", body.to_string())
        .send()
}

fn described(gateway: &Gateway, name: &str) -> Value {
    gateway.json(&format!(
        "/system/function/{name}?namespace=openfaas-fn&usage=1"
    ))
}

fn until_available(gateway: &Gateway, name: &str, count: u64) -> Value {
    until_some(&format!("{count} available replicas of {name}"), || {
        let all = described(gateway, name);
        (all["availableReplicas"] == count && all["replicas"] == count).then_some(all)
    })
}

#[test]
fn a_function_is_deployed_called_described_and_removed() {
    let gateway = Gateway::start();
    assert_eq!(gateway.json("/system/functions"), json!([]));
    // faas-cli tries to update first, and deploys when there is none.
    let body = deployment("hi", json!({"envVars": {"LEVEL": "debug"}}));
    send(&gateway, "PUT", "/system/functions", &body).problem(404, "unknown_function");
    assert_eq!(
        send(&gateway, "POST", "/system/functions", &body).status,
        202
    );
    send(&gateway, "POST", "/system/functions", &body).problem(409, "function_exists");
    let before = until_available(&gateway, "hi", 1);
    assert_eq!(before["invocationCount"], 0);
    assert_eq!(before["namespace"], "openfaas-fn");
    assert_eq!(before["envVars"], json!({"LEVEL": "debug"}));
    assert_eq!(before["labels"], body["labels"]);
    assert!(
        before["createdAt"]
            .as_str()
            .is_some_and(|at| at.ends_with('Z'))
    );

    for path in ["/function/hi", "/function/hi.openfaas-fn"] {
        let answer = gateway
            .call("POST", path)
            .body("text/plain", "hello")
            .send();
        assert!(answer.ok().text().contains("hello"), "{path}");
    }
    gateway
        .call("POST", "/function/hi.other")
        .body("text/plain", "x")
        .send()
        .problem(404, "unknown_function");
    let counted = until_some("both calls are counted", || {
        let all = described(&gateway, "hi");
        (all["invocationCount"] == 2).then_some(all)
    });
    assert_eq!(
        gateway.json("/system/functions?namespace=openfaas-fn"),
        json!([counted])
    );

    // A second deployment replaces the first; the function is the same to our own surface.
    let changed = deployment("hi", json!({"envVars": {"LEVEL": "info"}}));
    assert_eq!(
        send(&gateway, "PUT", "/system/functions", &changed).status,
        200
    );
    assert_eq!(
        gateway.json("/v1/functions/hi")["spec"]["env"],
        json!({"LEVEL": "info"})
    );
    let removal = json!({"functionName": "hi", "namespace": "openfaas-fn"});
    assert_eq!(
        send(&gateway, "DELETE", "/system/functions", &removal).status,
        202
    );
    send(&gateway, "DELETE", "/system/functions", &removal).problem(404, "unknown_function");
    gateway
        .get("/system/function/hi")
        .problem(404, "unknown_function");
}

#[test]
fn labels_say_how_many_pods_are_kept() {
    let gateway = Gateway::start();
    let two = deployment(
        "two",
        json!({"labels": {"com.openfaas.scale.min": "2", "com.openfaas.scale.max": "3"}}),
    );
    assert_eq!(
        send(&gateway, "POST", "/system/functions", &two).status,
        202
    );
    until_available(&gateway, "two", 2);
    let zero = deployment(
        "zero",
        json!({"labels": {"com.openfaas.scale.zero": "true"}}),
    );
    assert_eq!(
        send(&gateway, "POST", "/system/functions", &zero).status,
        202
    );
    let described = described(&gateway, "zero");
    assert_eq!(
        (&described["replicas"], &described["availableReplicas"]),
        (&json!(0), &json!(0))
    );
}

#[test]
fn a_function_is_scaled_up_and_to_none() {
    let gateway = Gateway::start();
    let body = deployment("hi", json!({"labels": {"com.openfaas.scale.max": "3"}}));
    let _ = send(&gateway, "POST", "/system/functions", &body).ok();
    until_available(&gateway, "hi", 1);
    for replicas in [3, 0] {
        let scale = json!({"serviceName": "hi", "replicas": replicas, "namespace": "openfaas-fn"});
        let answer = send(&gateway, "POST", "/system/scale-function/hi", &scale);
        assert_eq!(answer.status, 202, "{}", answer.text());
        until_available(&gateway, "hi", replicas);
    }
    let other = json!({"serviceName": "other", "replicas": 1});
    send(&gateway, "POST", "/system/scale-function/hi", &other).problem(400, "scale_invalid");
    let none = json!({"serviceName": "none", "replicas": 1});
    send(&gateway, "POST", "/system/scale-function/none", &none).problem(404, "unknown_function");
}

#[test]
fn secrets_are_kept_named_read_by_pods_and_never_shown() {
    let gateway = Gateway::start();
    let secret = |value: &str| json!({"name": "token", "namespace": "openfaas-fn", "value": value});
    assert_eq!(
        gateway.json("/system/secrets?namespace=openfaas-fn"),
        json!([])
    );
    let missing = deployment("hi", json!({"secrets": ["token"]}));
    let refused = send(&gateway, "POST", "/system/functions", &missing);
    assert!(
        refused.status == 400 && refused.text().contains("token"),
        "{}",
        refused.text()
    );

    send(&gateway, "PUT", "/system/secrets", &secret("s3same")).problem(404, "unknown_secret");
    assert_eq!(
        send(&gateway, "POST", "/system/secrets", &secret("s3same")).status,
        201
    );
    send(&gateway, "POST", "/system/secrets", &secret("other")).problem(409, "secret_exists");
    assert_eq!(
        send(&gateway, "PUT", "/system/secrets", &secret("s3same2")).status,
        200
    );
    let raw = json!({"name": "raw", "rawValue": "AAH/"});
    assert_eq!(send(&gateway, "POST", "/system/secrets", &raw).status, 201);
    let listed = gateway.get("/system/secrets").ok();
    assert_eq!(
        listed.json(),
        json!([
            {"name": "raw", "namespace": "openfaas-fn"}, {"name": "token", "namespace": "openfaas-fn"},
        ])
    );
    assert_eq!(
        std::fs::read(gateway.data().join("secrets/token")).expect("kept"),
        b"s3same2"
    );
    assert_eq!(
        std::fs::read(gateway.data().join("secrets/raw")).expect("kept"),
        [0, 1, 255]
    );

    assert_eq!(
        send(&gateway, "POST", "/system/functions", &missing).status,
        202
    );
    until_available(&gateway, "hi", 1);
    for path in ["/system/functions", "/v1/functions/hi", "/v1/secrets"] {
        let text = gateway.get(path).ok().text();
        assert!(text.contains("token") && !text.contains("s3same"), "{path}");
    }
    assert!(!gateway.log().contains("s3same"));
    let named = json!({"name": "token", "namespace": "openfaas-fn"});
    assert_eq!(
        send(&gateway, "DELETE", "/system/secrets", &named).status,
        202
    );
    send(&gateway, "DELETE", "/system/secrets", &named).problem(404, "unknown_secret");
}

#[test]
fn a_broken_body_is_refused_without_repeating_what_it_holds() {
    let gateway = Gateway::start();
    for body in [
        r#"{"name": "a", "value": 5e3same}"#,
        r#"{"name": "a", "value": ["s3same"]}"#,
        "s3same",
    ] {
        let answer = gateway
            .call("POST", "/system/secrets")
            .body("application/json", body)
            .send();
        let detail = answer.problem(400, "body_invalid");
        assert!(!detail.contains("same"), "{detail}");
    }
    for name in ["../x", "", "a/b"] {
        let body = json!({"name": name, "value": "s3same"});
        send(&gateway, "POST", "/system/secrets", &body).problem(400, "secret_invalid");
    }
    assert!(!gateway.log().contains("s3same"));
}

#[test]
fn logs_are_one_object_a_line() {
    let gateway = Gateway::start();
    let _ = send(
        &gateway,
        "POST",
        "/system/functions",
        &deployment("hi", json!({})),
    )
    .ok();
    until_available(&gateway, "hi", 1);
    let pod = gateway.until_idle("hi", 1)[0]["name"].clone();
    let answer = gateway
        .get("/system/logs?follow=false&name=hi&namespace=openfaas-fn&tail=5")
        .ok();
    assert_eq!(answer.header("content-type"), "application/x-ndjson");
    assert!(answer.text().contains("listening"), "{}", answer.text());
    for line in answer.text().lines() {
        let line: Value = serde_json::from_str(line).expect("an object");
        assert_eq!((&line["name"], &line["instance"]), (&json!("hi"), &pod));
        assert_eq!(line["namespace"], "openfaas-fn");
        assert!(line["text"].is_string() && line["timestamp"].is_string());
    }
    gateway
        .get("/system/logs?name=none&follow=false")
        .problem(404, "unknown_function");
    gateway
        .get("/system/logs?follow=false")
        .problem(400, "query_invalid");
    gateway
        .get("/system/logs?name=hi&since=2026-01-01T00:00:00Z")
        .problem(400, "query_invalid");
}

#[test]
fn there_is_one_namespace_and_everything_says_so() {
    let gateway = Gateway::start();
    assert_eq!(gateway.json("/system/namespaces"), json!(["openfaas-fn"]));
    gateway
        .call("POST", "/system/namespace/mine")
        .send()
        .problem(400, "namespace_fixed");
    let elsewhere = deployment("hi", json!({"namespace": "mine"}));
    send(&gateway, "POST", "/system/functions", &elsewhere).problem(400, "unknown_namespace");
    for path in [
        "/system/functions",
        "/system/function/hi",
        "/system/secrets",
        "/system/logs",
    ] {
        gateway
            .get(&format!("{path}?name=hi&namespace=mine"))
            .problem(400, "unknown_namespace");
    }
    let info = gateway.json("/system/info");
    assert_eq!(info["provider"]["provider"], "stoic");
    assert!(info["version"]["release"].is_string());
}

#[test]
fn what_cannot_be_is_refused_by_its_key() {
    let gateway = Gateway::start();
    for (more, key) in [
        (
            json!({"labels": {"com.openfaas.scale.min": "many"}}),
            "com.openfaas.scale.min",
        ),
        (json!({"limits": {"memory": "much"}}), "limits.memory"),
        (
            json!({"constraints": ["node.role == worker"]}),
            "constraints",
        ),
        (json!({"image": "", "annotations": {}}), "image"),
    ] {
        let answer = send(
            &gateway,
            "POST",
            "/system/functions",
            &deployment("hi", more),
        );
        let detail = answer.problem(400, "function_invalid");
        assert!(detail.contains(key), "{detail}");
    }
    send(
        &gateway,
        "POST",
        "/system/functions",
        &deployment("Not_A_Label", json!({})),
    )
    .problem(400, "function_invalid");
    // Process sites run no images.
    let image = deployment("hi", json!({"annotations": {}}));
    send(&gateway, "POST", "/system/functions", &image).problem(400, "runtime_cannot_run");
    assert_eq!(gateway.json("/system/functions"), json!([]));
}
