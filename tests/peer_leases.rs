//! Pods that other gateways use belong to a token, and end with it.

#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};
use std::io::Read;
use std::process::Command;
use stoic_tests::{Gateway, Lines, binary, raw, raw_head, until};

fn order() -> String {
    json!({
        "protocol": 1, "runtime": "cpu", "function": "f", "version": "v", "command": ["stoic-echo"],
        "port": 8080, "health": "/healthz", "ready_timeout_s": 20.0,
    })
    .to_string()
}

/// A lease of a pod that is ready; its identity.
fn lease(gateway: &Gateway, token: &str) -> (Lines, String) {
    let call = gateway.call("POST", "/v1/peer/leases");
    let call = call.header("x-stoic-token", token);
    let mut lines = call.body("application/json", order()).open();
    assert_eq!(lines.status, 200);
    let id = lines.event("ready")["lease"].as_str().unwrap().to_owned();
    (lines, id)
}

fn leases(gateway: &Gateway, admin: &str) -> Vec<Value> {
    let call = gateway.call("GET", "/v1/peer/leases");
    let answer = call.header("x-stoic-token", admin).send().ok().json();
    answer.as_array().unwrap().clone()
}

fn tunnel(gateway: &Gateway, token: &str, id: &str) -> String {
    format!(
        "GET /v1/peer/leases/{id} HTTP/1.1\r\nhost: {}\r\nconnection: upgrade\r\nupgrade: stoic-tunnel\r\nx-stoic-token: {token}\r\n\r\n",
        gateway.address
    )
}

fn root(gateway: &Gateway) -> String {
    gateway.create_token("", &json!({"name": "root", "scopes": ["admin"]}))
}

#[test]
fn a_lease_ends_when_its_token_is_revoked_although_another_has_its_name() {
    let gateway = Gateway::start();
    let admin = root(&gateway);
    let edge = json!({"name": "shed", "scopes": ["invoke", "deploy"]});
    let old = gateway.create_token(&admin, &edge);
    let (mut lines, id) = lease(&gateway, &old);
    let (mut others, _) = lease(&gateway, &admin);
    let mut open = raw(gateway.address, tunnel(&gateway, &old, &id).as_bytes());
    let (head, _) = raw_head(&mut open);
    assert!(head.starts_with("http/1.1 101"), "{head}");

    // By another process, both at once: the gateway never sees a time without a token of this name.
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    for words in [
        &["revoke", "shed"][..],
        &[
            "create",
            "--name",
            "shed",
            "--scope",
            "invoke,deploy",
            "--out",
        ],
    ] {
        let mut command = Command::new(binary("stoic"));
        command.arg("token").args(words);
        if words[0] == "create" {
            command.arg(&file);
        }
        let output = command.arg("--data").arg(gateway.data()).output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }
    let new = std::fs::read_to_string(&file).unwrap().trim().to_owned();

    let how = lines.event("exited")["how"].as_str().unwrap().to_owned();
    assert!(how.contains("revoked"), "{how}");
    assert_eq!(lines.next_event(), None);
    assert_eq!(open.read(&mut [0]).unwrap(), 0, "what passed through it");
    until("the pod is given back", || {
        let left = leases(&gateway, &admin);
        left.len() == 1 && left[0]["who"] == "root" && gateway.processes().len() <= 2
    });
    let mut late = raw(gateway.address, tunnel(&gateway, &new, &id).as_bytes());
    assert!(raw_head(&mut late).0.starts_with("http/1.1 404"));
    // Nobody else's.
    others.event("beat");
    let _ = lease(&gateway, &new);
    assert!(!gateway.panicked());
}

#[test]
fn a_lease_ends_when_its_token_expires_or_a_token_is_needed_that_nobody_showed() {
    let gateway = Gateway::start();
    let (mut nobodys, _) = lease(&gateway, "");
    let admin = root(&gateway);
    let how = nobodys.event("exited")["how"].to_string();
    assert!(how.contains("is needed now"), "{how}");
    let brief = json!({"name": "brief", "scopes": ["deploy"], "lifetime_s": 4});
    let brief = gateway.create_token(&admin, &brief);
    let (mut lines, _) = lease(&gateway, &brief);
    lines.event("exited");
    assert_eq!(lines.next_event(), None);
    until("the pods are given back", || {
        leases(&gateway, &admin).is_empty()
    });
}
