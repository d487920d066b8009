//! Function objects for tests, as JSON, which is YAML.

use crate::Gateway;
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

/// Files for a function on the odd image: one beside what the image has there, one in its place.
#[must_use]
pub fn files() -> Value {
    json!([
        {"path": "/etc/field/notes.txt", "text": "two foxes"},
        {"path": "/etc/debian_version", "base64": "AP8="},
    ])
}

/// Checks that a container of the odd image finds those [`files`], and can only read them.
///
/// # Panics
/// It does not.
#[track_caller]
pub fn finds_its_files(gateway: &Gateway, function: &str) {
    let ask = |path: &str| gateway.get(&format!("/function/{function}{path}")).ok();
    let read = |path: &str| ask(&format!("/read{path}")).body;
    assert_eq!(read("/etc/field/notes.txt"), b"two foxes");
    assert_eq!(read("/etc/debian_version"), [0, 255]);
    assert!(read("/etc/os-release").starts_with(b"PRETTY_NAME"));
    let changed = ask("/change/etc/field/notes.txt");
    assert_eq!(changed.text(), "refused kept");
    // Not for want of rights alone: whoever is root there cannot write either.
    let mounts = ask("/read/proc/self/mountinfo");
    let mounts = mounts.text();
    for path in [" /etc/field/notes.txt ", " /etc/debian_version "] {
        let mount = mounts.lines().find(|line| line.contains(path));
        let options = mount
            .expect("a mount of its own")
            .split_once(path)
            .expect("options")
            .1;
        assert!(options.starts_with("ro"), "{mounts}");
    }
}
