//! Photos that the edge and the cloud share get the labels and scores that one pod gives them, in both
//! formats.

#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};
use std::process::Command;
use stoic_tests::{Gateway, Launch, QUICK, optional_binary};

/// Scores are rounded to four digits; how many images are worked at once may turn the last.
const LAST_DIGIT: f64 = 2e-4;

/// Holds two values to each other, numbers up to the last digit, and nothing but the time of day apart.
fn same(one: &Value, other: &Value, at: &str) {
    match (one, other) {
        (Value::Object(a), Value::Object(b)) => {
            let keys: Vec<&String> = a.keys().collect();
            assert_eq!(keys, b.keys().collect::<Vec<_>>(), "{at}");
            for (key, value) in a
                .iter()
                .filter(|(key, _)| !key.ends_with("completion_time"))
            {
                same(value, &b[key], &format!("{at}.{key}"));
            }
        }
        (Value::Array(a), Value::Array(b)) => {
            assert_eq!(a.len(), b.len(), "{at}");
            for (n, (a, b)) in a.iter().zip(b).enumerate() {
                same(a, b, &format!("{at}[{n}]"));
            }
        }
        (Value::Number(a), Value::Number(b)) if a.is_f64() && b.is_f64() => {
            let apart = (a.as_f64().unwrap() - b.as_f64().unwrap()).abs();
            assert!(apart <= LAST_DIGIT, "{at}: {a} {b}");
        }
        _ => assert_eq!(one, other, "{at}"),
    }
}

#[test]
fn both_formats_are_those_of_one_pod() {
    let pretrained = std::env::var_os("STOIC_BACKBONE").filter(|path| !path.is_empty());
    let (Some(binary), Some(backbone)) = (optional_binary("stoic-wildlife"), pretrained) else {
        println!("skipped: needs stoic-wildlife, and its backbone in STOIC_BACKBONE");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let scenes = folder.path().join("scenes.zip");
    let made = Command::new(binary)
        .args(["scenes", "--count", "60", "--size", "480x270", "--out"])
        .arg(&scenes)
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    let zip = std::fs::read(scenes).unwrap();
    // Both compute alike: in the cloud's own precision the scores would differ.
    let config = format!(
        "{QUICK}\n[runtimes.edge]\nsite = \"edge\"\nprecision = \"fp32\"\n\
         [runtimes.cpu]\nsite = \"cloud\"\nprecision = \"fp32\"\norder = 1\n"
    );
    let gateway: Gateway = Launch::default().config(&config).start();
    let spec = json!({
        "command": ["stoic-wildlife"], "input": "batch", "divisible": true, "bootstrap": {"batches": []},
        "standby": {"edge": 1, "cpu": 1}, "env": {"STOIC_BACKBONE": backbone.to_str().unwrap()},
    });
    gateway.deploy(&json!({
        "apiVersion": "stoic.dev/v1", "kind": "Function", "metadata": {"name": "wildlife"}, "spec": spec,
    }));
    gateway.until_idle("wildlife", 2);
    for format in ["stoic", "megadetector"] {
        let path = format!("/function/wildlife?bootstrap=true&format={format}");
        let alone = gateway.batch(&path, "edge", &zip).send().ok().json();
        let shared = gateway
            .call("POST", &path)
            .header("x-stoic-mode", "cooperative")
            .body("application/zip", zip.clone())
            .send()
            .ok();
        assert_eq!(shared.header("x-stoic-runtime"), "edge+cpu");
        same(&shared.json(), &alone, format);
    }
}
