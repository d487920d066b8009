//! Photos as they come, good and broken together, through the real application: each item has a label or
//! an error with a code, and the pod lives.

#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;
use stoic_tests::{Gateway, optional_binary, shared_data, zip_of};
use tempfile::TempDir;

/// All files below a folder, by their path in it.
fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(folder).unwrap().display().to_string();
                found.push((name, std::fs::read(&path).unwrap()));
            }
        }
    }
    found.sort();
    found
}

/// A gateway with the function `wildlife`, trained on a few generated scenes.
fn trained() -> Option<Gateway> {
    let Some(binary) = optional_binary("stoic-wildlife") else {
        println!("skipped: there is no stoic-wildlife (cargo build -p stoic-wildlife)");
        return None;
    };
    let folder = TempDir::new().unwrap();
    let scenes = folder.path().join("scenes.zip");
    let made = Command::new(binary)
        .args([
            "scenes",
            "--count",
            "10",
            "--labelled",
            "--size",
            "480x270",
            "--out",
        ])
        .arg(&scenes)
        .output()
        .unwrap();
    assert!(
        made.status.success(),
        "{}",
        String::from_utf8_lossy(&made.stderr)
    );
    let gateway = Gateway::start();
    // A random backbone tells no animals apart, but it reads every file that the pretrained one would.
    let spec = json!({
        "command": ["stoic-wildlife"], "input": "batch", "standby": {"edge": 1}, "bootstrap": {"batches": []},
        "env": {"STOIC_BACKBONE": "random:efficientnet-lite0"},
    });
    gateway.deploy(&json!({
        "apiVersion": "stoic.dev/v1", "kind": "Function", "metadata": {"name": "wildlife"}, "spec": spec,
    }));
    gateway.until_idle("wildlife", 1);
    let zip = std::fs::read(scenes).unwrap();
    let answer = gateway
        .batch(
            "/function/wildlife?epochs=2&copies=1&refit=false",
            "edge",
            &zip,
        )
        .header("x-stoic-action", "train")
        .send()
        .ok();
    assert_eq!(answer.header("x-stoic-model"), "v1", "{}", answer.text());
    Some(gateway)
}

/// Checks that every item of an answer has a label or an error with a code; returns how many have a label.
fn labelled(answer: &Value, names: &[String]) -> usize {
    let items = answer["items"].as_array().unwrap();
    let given: Vec<&str> = items
        .iter()
        .map(|item| item["name"].as_str().unwrap())
        .collect();
    assert_eq!(given, names, "in the package's order");
    let good = items.iter().filter(|item| {
        let label = item["label"]
            .as_str()
            .is_some_and(|label| !label.is_empty());
        let code = item["error"]["code"]
            .as_str()
            .is_some_and(|code| !code.is_empty());
        let detail = item["error"]["detail"]
            .as_str()
            .is_some_and(|detail| !detail.is_empty());
        assert!(label != (code && detail), "one or the other: {item}");
        if label {
            let score = item["score"].as_f64().unwrap();
            assert!((0.0..=1.0).contains(&score), "{item}");
        }
        label
    });
    good.count()
}

#[test]
fn odd_images_among_good_ones_each_get_a_label_or_a_code() {
    let (Some(odd), Some(good)) = (shared_data("odd_images"), shared_data("images")) else {
        return println!("skipped: there is no ../shared/data/odd_images and images");
    };
    let Some(mut gateway) = trained() else { return };
    let pod = gateway.until_idle("wildlife", 1)[0]["name"].clone();

    let odd = files(&odd);
    let good = files(&good);
    let good: Vec<_> = good
        .into_iter()
        .filter(|(name, _)| name.ends_with(".jpg") || name.ends_with(".JPG"))
        .take(8)
        .collect();
    let mut all = odd.clone();
    for (n, one) in good.iter().enumerate() {
        all.insert((n * 3 + 1).min(all.len()), one.clone());
    }
    all.push(("words.txt".to_owned(), b"no image".to_vec()));
    let names: Vec<String> = all.iter().map(|(name, _)| name.clone()).collect();
    let answer = gateway
        .batch("/function/wildlife", "edge", &zip_of(&all))
        .send()
        .ok()
        .json();
    let count = labelled(&answer, &names);
    assert!(
        (good.len()..all.len()).contains(&count),
        "{count} of {}: {answer}",
        all.len()
    );
    for (name, _) in &good {
        let item = answer["items"]
            .as_array()
            .unwrap()
            .iter()
            .find(|item| item["name"] == *name);
        assert!(
            item.is_some_and(|item| item["label"].is_string()),
            "a good one: {item:?}"
        );
    }
    // The same pod serves a single photo.
    let one = gateway
        .call("POST", "/function/wildlife")
        .on("edge")
        .body("image/jpeg", good[0].1.clone())
        .send()
        .ok();
    assert_eq!(
        (one.header("x-stoic-items"), one.header("x-stoic-pod")),
        ("1", pod.as_str().unwrap())
    );
    assert!(
        one.json()["items"][0]["label"].is_string(),
        "{}",
        one.text()
    );
    assert!(gateway.lives());
}

#[test]
fn a_broken_photo_alone_is_an_answer_too() {
    let Some(gateway) = trained() else { return };
    for (media, bytes) in [
        ("image/jpeg", vec![0xff, 0xd8, 0xff]),
        ("image/png", b"\x89PNG\r\n\x1a\n".to_vec()),
        ("image/jpeg", vec![0; 100_000]),
    ] {
        let answer = gateway
            .call("POST", "/function/wildlife")
            .on("edge")
            .body(media, bytes)
            .send()
            .ok();
        let item = &answer.json()["items"][0];
        assert!(
            item["error"]["code"].is_string() && item["label"].is_null(),
            "{item}"
        );
        assert_eq!(answer.header("x-stoic-start"), "warm");
    }
    let answer = gateway
        .call("POST", "/function/wildlife")
        .body("application/pdf", "%PDF-1.7")
        .send();
    answer.problem(415, "unsupported_media_type");
}
