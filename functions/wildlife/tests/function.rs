//! The function as the SDK drives it: train, infer in both formats, swap models, refuse what is no
//! input. Uses the pretrained backbone that set-up fetches; with a random one labels are not judged.
#![allow(clippy::unwrap_used)] // In a test, to panic is to fail.

use serde_json::Value;
use std::collections::BTreeMap;
use std::io::Cursor;
use std::sync::OnceLock;
use stoic_sdk::{Batch, Call, Context, Function, Problem};
use stoic_wildlife::Wildlife;
use stoic_wildlife::backbone::Source;
use stoic_wildlife::scenes::{Class, PackageOptions, write_package};

/// A function, and whether its backbone is the pretrained one.
fn function() -> (Wildlife, bool) {
    let get = |name: &str| std::env::var(name).ok();
    let pretrained = Source::find(get).is_ok_and(|s| matches!(s, Source::File(_)));
    let variables = |name: &str| {
        let pairs = [
            ("STOIC_THREADS", "1"),
            ("STOIC_PRECISION", "fp32"),
            ("STOIC_FUNCTION", "wildlife"),
        ];
        pairs
            .iter()
            .find(|(n, _)| *n == name)
            .map(|(_, v)| (*v).to_owned())
    };
    let context = Context::parse(variables, Vec::new()).unwrap();
    if !pretrained {
        println!("skipped: judging labels, since the backbone is a random one");
    }
    (Wildlife::load(&context).unwrap(), pretrained)
}

fn available() -> bool {
    static THERE: OnceLock<bool> = OnceLock::new();
    *THERE.get_or_init(|| {
        let there = Source::find(|name| std::env::var(name).ok()).is_ok();
        if !there {
            println!(
                "skipped: no backbone (make setup, or STOIC_BACKBONE=random:efficientnet-lite0)"
            );
        }
        there
    })
}

fn scenes(count: u64, seed: u64, labelled: bool) -> (Vec<u8>, Vec<&'static str>) {
    let options = PackageOptions {
        count,
        seed,
        labelled,
        classes: vec![Class::Fox, Class::Human, Class::Empty],
        size: (640, 360),
        threads: 2,
    };
    let mut bytes = Cursor::new(Vec::new());
    let summary = write_package(&mut bytes, &options, |_| {}).unwrap();
    (
        bytes.into_inner(),
        summary.images.iter().map(|t| t.label.label()).collect(),
    )
}

fn ask(
    function: &Wildlife,
    action: &str,
    parameters: &[(&str, &str)],
    zip: &[u8],
) -> Result<Value, Problem> {
    let parameters: BTreeMap<String, String> = parameters
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
        .collect();
    let batch = Batch::local(
        action,
        parameters,
        "application/zip",
        zip.to_vec(),
        Wildlife::ITEM_TYPES,
    )?;
    let outcome = function.batch(&batch, &Call::detached())?;
    assert_eq!(outcome.content_type, "application/json");
    Ok(serde_json::from_slice(&outcome.body).unwrap())
}

#[test]
fn a_head_trained_on_a_few_scenes_labels_others_better_than_chance() {
    if !available() {
        return;
    }
    let (function, pretrained) = function();
    let (photos, truth) = scenes(30, 900, false);
    let problem = ask(&function, "infer", &[], &photos).unwrap_err();
    assert_eq!(
        (problem.status, problem.code.as_str()),
        (409, "model_untrained")
    );
    assert_eq!(function.report().model, None);
    let timing = ask(&function, "infer", &[("bootstrap", "true")], &photos).unwrap();
    assert_eq!(timing["model"]["version"], "untrained");
    assert_eq!(timing["items"].as_array().unwrap().len(), 30);

    let (labelled, _) = scenes(24, 1, true);
    let options = [("epochs", "10"), ("copies", "3"), ("validation", "0.25")];
    let report = ask(&function, "train", &options, &labelled).unwrap();
    assert_eq!(
        report["classes"],
        serde_json::json!(["fox", "human", "empty"])
    );
    assert_eq!(report["images"]["fox"], 8);
    assert_eq!(report["rows"]["fox"], 32);
    assert_eq!(report["validation"]["images"], 6);
    assert_eq!(report["model"]["version"], "local");
    assert_eq!(function.report().model.as_deref(), Some("local"));

    let answer = ask(&function, "infer", &[], &photos).unwrap();
    let items = answer["items"].as_array().unwrap();
    let right = items
        .iter()
        .zip(&truth)
        .filter(|(item, label)| item["label"] == **label)
        .count();
    println!(
        "{right} of 30 right; validation accuracy {}",
        report["validation"]["accuracy"]
    );
    if pretrained {
        // Chance is 10 of 30; 18 or more by chance happens once in 400 times.
        assert!(right >= 18, "{right} of 30");
    }
    for item in items {
        let sum: f64 = item["scores"]
            .as_object()
            .unwrap()
            .values()
            .map(|v| v.as_f64().unwrap())
            .sum();
        assert!((sum - 1.0).abs() < 1e-3);
    }
    let answer = ask(&function, "infer", &[("format", "megadetector")], &photos).unwrap();
    assert_eq!(answer["images"].as_array().unwrap().len(), 30);
    assert_eq!(answer["info"]["format_version"], "1.4");

    // A model that is none leaves the former one in force.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bad.safetensors");
    std::fs::write(&path, b"\x08\0\0\0\0\0\0\0{\"a\":1}}").unwrap();
    assert_eq!(
        function.use_model("v2", &path).unwrap_err().code,
        "model_invalid"
    );
    assert_eq!(function.report().model.as_deref(), Some("local"));
}

#[test]
fn what_is_no_input_is_refused_with_a_code() {
    if !available() {
        return;
    }
    let (function, _) = function();
    let (labelled, _) = scenes(2, 1, true);
    let code = |action: &str, parameters: &[(&str, &str)]| {
        ask(&function, action, parameters, &labelled)
            .unwrap_err()
            .code
    };
    assert_eq!(code("dance", &[]), "action_unknown");
    assert_eq!(code("infer", &[("format", "xml")]), "parameter_invalid");
    assert_eq!(code("train", &[("epoch", "3")]), "parameter_unknown");
    assert_eq!(
        code("train", &[("classes", "fox")]),
        "dataset_too_few_classes"
    );
    assert_eq!(code("train", &[]), "dataset_too_few_images");
    let sample = function.sample(3).unwrap();
    let answer = ask(&function, "infer", &[("bootstrap", "true")], &sample.bytes).unwrap();
    assert_eq!(answer["summary"]["failed"], 0);
    assert_eq!(answer["items"].as_array().unwrap().len(), 3);
}

#[test]
fn odd_and_good_images_in_one_package_each_get_an_answer() {
    if !available() {
        return;
    }
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data");
    if !folder.is_dir() {
        println!("skipped: {} is absent", folder.display());
        return;
    }
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let mut names = Vec::new();
    for group in ["odd_images", "images/unlabelled_burst", "images/bird"] {
        for entry in std::fs::read_dir(folder.join(group)).unwrap() {
            let entry = entry.unwrap();
            let name = format!("{group}/{}", entry.file_name().to_string_lossy());
            zip.start_file(&name, zip::write::SimpleFileOptions::default())
                .unwrap();
            std::io::Write::write_all(&mut zip, &std::fs::read(entry.path()).unwrap()).unwrap();
            names.push(name);
        }
    }
    let bytes = zip.finish().unwrap().into_inner();
    let (function, _) = function();
    let answer = ask(&function, "infer", &[("bootstrap", "true")], &bytes).unwrap();
    let items = answer["items"].as_array().unwrap();
    assert_eq!(items.len(), names.len());
    for (item, name) in items.iter().zip(&names) {
        assert_eq!(item["name"], **name);
        assert!(
            item["label"].is_string() ^ item["error"]["code"].is_string(),
            "{item}"
        );
        assert!(
            item["label"].is_string() || name.starts_with("odd_images"),
            "{item}"
        );
    }
}
