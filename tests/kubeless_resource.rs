//! Functions of kubeless, as its own objects: what names an image is served, what does not is told, and
//! `stoic migrate kubeless` makes functions of ours of them. What needs a cluster is skipped, with a line that
//! says so, where `KUBECONFIG` names none.

#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};
use std::process::{Command, Output};
use std::time::Duration;
use stoic_tests::{Engine, Launch, Namespace, binary, until, until_some};

const THEIRS: &str = "functions.kubeless.io";
const OURS: &str = "functions.stoic.dev";

fn migrate(arguments: &[&str]) -> Output {
    let mut command = Command::new(binary("stoic"));
    command.args(["migrate", "kubeless"]).args(arguments);
    command.output().unwrap()
}

#[test]
fn files_are_carried_over_and_what_is_left_is_told() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/kubeless/objects.yaml");
    let output = migrate(&["--dry-run", file]);
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        include_str!("kubeless/functions.yaml")
    );
    assert_eq!(
        String::from_utf8_lossy(&output.stderr),
        include_str!("kubeless/report.txt")
    );
    // One of them names no image.
    assert_eq!(output.status.code(), Some(1));
    let output = migrate(&["--dry-run", "/nowhere.yaml"]);
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn what_names_an_image_is_served_and_what_does_not_is_told() {
    let Some(namespace) = Namespace::make() else {
        return;
    };
    let Some(engine) = Engine::find() else { return };
    let image = engine.odd(
        &format!("stoic-test-kubeless-{}:1", std::process::id()),
        "one",
    );
    let gateway = engine.owns(
        Launch::default()
            .config(&format!(
                "[inquisitor]\nenabled = false\n[controller]\nenabled = true\nkubeless = true\nnamespace = \"{}\"\n\
                 [sites.edge]\nbackend = \"docker\"\n[runtimes.edge]\nsite = \"edge\"\n",
                namespace.name
            ))
            .start(),
    );
    let object = |name: &str, container: Value| {
        json!({
            "apiVersion": "kubeless.io/v1beta1", "kind": "Function",
            "metadata": {"name": name, "labels": {"created-by": "kubeless", "function": name}},
            "spec": {
                "handler": "mod.fun", "function": "def fun(): pass", "runtime": "python3.8", "timeout": "60",
                "deps": "numpy==1.20\n",
                "service": {"ports": [{"name": "http-function-port", "port": 9090, "targetPort": 9090}]},
                "deployment": {"spec": {"template": {"spec": {"containers": [container]}}}},
            },
        })
    };
    let probe = json!({"httpGet": {"path": "/", "port": 9090}});
    let with_image = object("old", json!({"image": image, "livenessProbe": probe}));
    namespace.apply(&with_image);
    namespace.apply(&object("inline", json!({})));
    namespace.wait(THEIRS, "old", "Ready", Duration::from_secs(20));
    assert_eq!(gateway.get("/function/old/x").ok().text(), "version one");
    gateway.until_idle("old", 1);
    let container = engine.inspect(&engine.containers(gateway.id())[0]);
    let env = container["Config"]["Env"].to_string();
    for pair in [
        "FUNC_HANDLER=fun",
        "MOD_NAME=mod",
        "FUNC_TIMEOUT=60",
        "FUNC_RUNTIME=python3.8",
        "FUNC_PORT=9090",
        "KUBELESS_INSTALL_VOLUME=/kubeless",
        "PYTHONPATH=/kubeless/lib/python3.8/site-packages:/kubeless",
    ] {
        assert!(env.contains(pair), "{pair}: {env}");
    }
    let code = gateway
        .get("/function/old/read/kubeless/mod.py")
        .ok()
        .text();
    assert_eq!(code, "def fun(): pass");
    let [carried, _, message] = namespace.condition(THEIRS, "old", "CarriedOver").unwrap();
    assert_eq!(carried, "False");
    assert_eq!(
        message,
        "deps (requirements.txt): numpy==1.20: would need kubeless' build step; the image has to hold them"
    );
    let message = until_some("the status says why it is not served", || {
        let [status, reason, message] = namespace.condition(THEIRS, "inline", "Ready")?;
        (status == "False" && reason == "NotCarriedOver").then_some(message)
    });
    assert!(message.contains("names no image"), "{message}");

    // Carried over, it is ours; theirs says so, and its end is not that of ours.
    let output = migrate(&["--namespace", &namespace.name]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        said.contains("old: applied") && said.contains("inline: NOT"),
        "{said}"
    );
    namespace.wait(OURS, "old", "Ready", Duration::from_secs(20));
    let [_, reason, _] = until_some("theirs says so", || {
        namespace
            .condition(THEIRS, "old", "Ready")
            .filter(|[status, ..]| status == "False")
    });
    assert_eq!(reason, "NameTaken");
    namespace.kubectl(&["delete", THEIRS, "old"]);
    assert_eq!(gateway.get("/function/old/x").ok().text(), "version one");
    namespace.kubectl(&["delete", OURS, "old", "--timeout=20s"]);
    // A finalizer goes when the pods are gone, and not before.
    assert!(engine.containers(gateway.id()).is_empty());

    // Theirs has no finalizer: it goes at once, and its pods with it.
    namespace.apply(&with_image);
    namespace.wait(THEIRS, "old", "Ready", Duration::from_secs(20));
    namespace.kubectl(&["delete", THEIRS, "old", "--timeout=20s"]);
    until("its pods are gone", || {
        engine.containers(gateway.id()).is_empty()
    });
}
