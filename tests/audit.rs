//! The audit log: every change with who and what, also one whose caller has left; what was refused, apart.

#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};
use std::time::Duration;
use stoic_tests::{Gateway, Launch, echo, until};

/// The lines of a log: who, what, name, status, and the code of what was refused.
fn shown(gateway: &Gateway, name: &str) -> Vec<String> {
    let text = std::fs::read_to_string(gateway.data().join(name)).unwrap_or_default();
    let line = |line: &str| {
        let line: Value = serde_json::from_str(line).unwrap();
        assert!(line["from"] == "127.0.0.1" && line["at"].as_str().unwrap().ends_with('Z'));
        let text = |key: &str| line[key].as_str().unwrap_or("-").to_owned();
        let code = line["code"].as_str().map(|code| format!(" {code}"));
        format!(
            "{} {} {} {}{}",
            text("who"),
            text("what"),
            text("name"),
            line["status"],
            code.unwrap_or_default()
        )
    };
    text.lines().map(line).collect()
}

#[test]
fn changes_are_noted_with_who_and_what_and_no_secret() {
    let gateway = Gateway::start();
    let admin = gateway.create_token("", &json!({"name": "root", "scopes": ["admin"]}));
    let invoke = gateway.create_token(&admin, &json!({"name": "cam", "scopes": ["invoke"]}));
    let change = |method: &str, path: &str, token: &str, body: String| {
        let call = gateway.call(method, path).header("x-stoic-token", token);
        call.body("application/json", body).send()
    };
    let function = echo("echo", json!({})).to_string();
    assert_eq!(
        change("POST", "/v1/functions", &admin, function).status,
        201
    );
    let secret = "the-secret-itself".to_owned();
    assert_eq!(change("PUT", "/v1/secrets/key", &admin, secret).status, 201);
    let scale = json!({"replicas": 1}).to_string();
    let _ = change("POST", "/v1/functions/echo/scale", &admin, scale).ok();
    change("DELETE", "/v1/functions/echo", &invoke, String::new()).problem(403, "scope_missing");
    let removal = json!({"functionName": "echo"}).to_string();
    let _ = change("DELETE", "/system/functions", &admin, removal).ok();
    // Reading and invoking change nothing.
    let _ = gateway
        .call("GET", "/v1/functions")
        .header("x-stoic-token", &admin)
        .send()
        .ok();
    let noted = shown(&gateway, "audit.log");
    assert_eq!(
        noted,
        [
            "anonymous POST /v1/tokens root 201",
            "root POST /v1/tokens cam 201",
            "root POST /v1/functions echo 201",
            "root PUT /v1/secrets/key - 201",
            "root POST /v1/functions/echo/scale - 200",
            "root DELETE /system/functions echo 202",
        ]
    );
    // What was refused stands elsewhere, with the reason.
    change("PUT", "/v1/secrets/key", "stoic_wrong", String::new()).problem(401, "token_unknown");
    let nobody = gateway.call("DELETE", "/v1/functions/echo").send();
    nobody.problem(401, "token_missing");
    // Neither reading nor invoking in vain is a change, nor what peers pass through.
    let read = gateway.call("GET", "/v1/functions").send();
    read.problem(401, "token_missing");
    for (method, path) in [
        ("POST", "/function/echo"),
        ("PUT", "/v1/peer/objects/packages%2Fx"),
    ] {
        change(method, path, "stoic_wrong", String::new()).problem(401, "token_unknown");
    }
    assert_eq!(
        shown(&gateway, "audit-refused.log"),
        [
            "cam DELETE /v1/functions/echo - 403 scope_missing",
            "unknown PUT /v1/secrets/key - 401 token_unknown",
            "anonymous DELETE /v1/functions/echo - 401 token_missing",
        ]
    );
    let mut all = std::fs::read_to_string(gateway.data().join("audit.log")).unwrap();
    all += &std::fs::read_to_string(gateway.data().join("audit-refused.log")).unwrap();
    for hidden in [&admin, &invoke, "the-secret-itself", "stoic_wrong"] {
        assert!(!all.contains(hidden) && !gateway.log().contains(hidden));
    }
}

/// A gateway in the middle of a change whose caller has left.
fn left_in_mid_change() -> Gateway {
    let gateway = Gateway::start();
    let standby = json!({"edge": 1});
    gateway.deploy(&echo("echo", json!({"standby": standby})));
    gateway.until_idle("echo", 1);
    let slow = json!({"standby": standby, "env": {"ECHO_START_DELAY": "1500ms"}});
    let call = gateway.call("PUT", "/v1/functions/echo");
    let call = call.body("application/json", echo("echo", slow).to_string());
    assert!(call.give_up_after(Duration::from_millis(400)), "it left");
    assert_eq!(shown(&gateway, "audit.log").len(), 1);
    gateway
}

const BOTH: [&str; 2] = [
    "anonymous POST /v1/functions echo 201",
    "anonymous PUT /v1/functions/echo echo 200",
];

#[test]
fn a_change_whose_caller_hangs_up_is_noted_all_the_same() {
    let gateway = left_in_mid_change();
    until("the change is noted", || {
        shown(&gateway, "audit.log") == BOTH
    });
}

#[test]
fn a_gateway_that_stops_ends_and_notes_changes_first() {
    let mut gateway = left_in_mid_change();
    gateway.terminate();
    assert_eq!(gateway.wait().code, Some(0));
    assert_eq!(shown(&gateway, "audit.log"), BOTH);
}

#[test]
fn no_caller_makes_the_log_grow_without_bounds() {
    let launch = Launch::default().tables("[auth]\nrequired = true\naudit_size = \"4 KiB\"\n");
    let gateway = launch.start();
    for n in 0..100 {
        let call = gateway.call("DELETE", &format!("/v1/functions/{n}-{}", "x".repeat(1000)));
        call.send().problem(401, "token_missing");
    }
    let names = ["audit-refused.log", "audit-refused.log.1"];
    for name in names {
        let bytes = std::fs::metadata(gateway.data().join(name)).unwrap().len();
        assert!((1024..=4096).contains(&bytes), "{name}: {bytes}");
    }
    let last = shown(&gateway, names[0]).pop().unwrap();
    assert!(
        last.starts_with("anonymous DELETE /v1/functions/99-"),
        "{last}"
    );
    let refused = Launch::default()
        .tables("[auth]\naudit_size = \"1 KiB\"\n")
        .fail();
    assert!(
        refused.errors.contains("auth.audit_size"),
        "{}",
        refused.errors
    );
}
