//! Function objects for tests, as JSON, which is YAML.

use serde_json::{Value, json};

/// A function of this name that runs `stoic-echo`, with no representative tasks unless the spec asks
/// for some. What `spec` says stands.
#[must_use]
pub fn echo(name: &str, spec: Value) -> Value {
    let mut all = json!({"command": ["stoic-echo"], "bootstrap": {"batches": []}});
    let (Value::Object(base), Value::Object(more)) = (&mut all, spec) else {
        panic!("a spec is an object");
    };
    base.extend(more);
    json!({
        "apiVersion": "stoic.dev/v1",
        "kind": "Function",
        "metadata": {"name": name},
        "spec": all,
    })
}

/// A function of this name that runs the plain server of `any_http/pod.rs`, one of it ready at the edge.
#[must_use]
pub fn any_http(name: &str, spec: Value) -> Value {
    let mut all = json!({"command": ["stoic-test-pod"], "standby": {"edge": 1}, "concurrency": 4});
    let (Value::Object(base), Value::Object(more)) = (&mut all, spec) else {
        panic!("a spec is an object");
    };
    base.extend(more);
    echo(name, all)
}
