//! The answer to `infer`: our JSON, or MegaDetector's output format for the tools that read it
//! (Timelapse, zamba, speciesnet).

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What became of one item.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Verdict {
    /// Scores of all classes in the model's order; they sum to 1.
    Scores(Vec<f32>),
    /// No label, and why.
    Error(ItemFault),
}

/// Why an item has no label.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ItemFault {
    /// Stable code, such as `image_truncated`.
    pub code: String,
    /// The cause in words.
    pub detail: String,
}

/// The model that gave the answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelInfo {
    /// `wildlife`.
    pub name: String,
    /// Version under which it was published; `untrained` for the random head of a bootstrap.
    pub version: String,
    /// Labels, in the order of scores.
    pub classes: Vec<String>,
    /// `efficientnet-lite0` or `resnet50`.
    pub backbone: String,
    /// `fp32` or `bf16`; `fp32+bf16` where parts of a batch were worked in each.
    pub precision: String,
    /// Pixels per side of the network's input.
    pub size: usize,
}

/// A whole answer, ready to be written in either format. Serialised, it is the result of a part of a
/// batch: scores are kept as they are, and rounded only when the whole is written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// Name and verdict of each item, in the package's order.
    pub items: Vec<(String, Verdict)>,
    /// The model.
    pub model: ModelInfo,
    /// When the work was done, as `2026-11-23 17:45:12` (UTC).
    pub completed: String,
}

#[derive(Serialize)]
struct PlainItem<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    label: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    score: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scores: Option<BTreeMap<&'a str, f64>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a ItemFault>,
}

#[derive(Serialize)]
struct Summary<'a> {
    items: usize,
    labels: BTreeMap<&'a str, u64>,
    failed: usize,
    errors: BTreeMap<&'a str, u64>,
}

#[derive(Serialize)]
struct Plain<'a> {
    items: Vec<PlainItem<'a>>,
    summary: Summary<'a>,
    model: &'a ModelInfo,
}

impl Answer {
    /// The answer to a whole batch from those to its parts, in their order. None where there are no
    /// parts, or where they are of different models.
    #[must_use]
    pub fn merged(parts: impl IntoIterator<Item = Self>) -> Option<Self> {
        let mut parts = parts.into_iter();
        let mut whole = parts.next()?;
        for part in parts {
            let same = |a: &ModelInfo, b: &ModelInfo| {
                (&a.name, &a.version, &a.classes, &a.backbone, a.size)
                    == (&b.name, &b.version, &b.classes, &b.backbone, b.size)
            };
            if !same(&whole.model, &part.model) {
                return None;
            }
            let known = &mut whole.model.precision;
            if !known.split('+').any(|one| one == part.model.precision) {
                known.push('+');
                known.push_str(&part.model.precision);
            }
            whole.items.extend(part.items);
            whole.completed = whole.completed.max(part.completed);
        }
        Some(whole)
    }

    /// Items without a label.
    #[must_use]
    pub fn failed(&self) -> usize {
        self.items
            .iter()
            .filter(|(_, v)| matches!(v, Verdict::Error(_)))
            .count()
    }

    /// Our JSON: `items`, `summary`, `model`.
    ///
    /// # Errors
    /// When a value is no JSON, which these types exclude.
    pub fn json(&self) -> serde_json::Result<Vec<u8>> {
        let mut labels: BTreeMap<&str, u64> =
            self.model.classes.iter().map(|c| (c.as_str(), 0)).collect();
        let mut errors: BTreeMap<&str, u64> = BTreeMap::new();
        let mut items = Vec::with_capacity(self.items.len());
        for (name, verdict) in &self.items {
            let mut item = PlainItem {
                name,
                label: None,
                score: None,
                scores: None,
                error: None,
            };
            match verdict {
                Verdict::Scores(scores) => {
                    if let Some((best, score)) = best(scores) {
                        let label = self.model.classes.get(best).map_or("", String::as_str);
                        *labels.entry(label).or_default() += 1;
                        item.label = Some(label);
                        item.score = Some(round(score));
                    }
                    let all = self
                        .model
                        .classes
                        .iter()
                        .map(String::as_str)
                        .zip(scores.iter().map(|s| round(*s)));
                    item.scores = Some(all.collect());
                }
                Verdict::Error(fault) => {
                    *errors.entry(&fault.code).or_default() += 1;
                    item.error = Some(fault);
                }
            }
            items.push(item);
        }
        let summary = Summary {
            items: self.items.len(),
            labels,
            failed: self.failed(),
            errors,
        };
        serde_json::to_vec_pretty(&Plain {
            items,
            summary,
            model: &self.model,
        })
    }

    /// MegaDetector's batch output format, version 1.4.
    ///
    /// The network classifies whole images and finds no boxes. So each image that is not empty gets one
    /// detection whose box is the whole image, whose category is `person` for humans and else `animal`,
    /// whose confidence is the probability that the image is not empty, and whose `classifications`
    /// are the scores of the classes. An empty image has no detections, as the format wants it; one
    /// that failed has `failure` and `detections: null`. `info` says so in words.
    ///
    /// # Errors
    /// When a value is no JSON, which these types exclude.
    pub fn megadetector(&self) -> serde_json::Result<Vec<u8>> {
        let is_empty = |class: &str| EMPTY.iter().any(|e| class.eq_ignore_ascii_case(e));
        let is_person = |class: &str| PERSON.iter().any(|p| class.eq_ignore_ascii_case(p));
        let classes = &self.model.classes;
        let named: BTreeMap<String, &str> = classes
            .iter()
            .enumerate()
            .filter(|(_, c)| !is_empty(c))
            .map(|(i, c)| (i.to_string(), c.as_str()))
            .collect();
        let images: Vec<serde_json::Value> = self
            .items
            .iter()
            .map(|(name, verdict)| match verdict {
                Verdict::Error(fault) => serde_json::json!({
                    "file": name,
                    "failure": format!("{}: {}", fault.code, fault.detail),
                    "detections": null,
                }),
                Verdict::Scores(scores) => {
                    let label =
                        best(scores).map_or("", |(i, _)| classes.get(i).map_or("", String::as_str));
                    if is_empty(label) {
                        return serde_json::json!({"file": name, "detections": []});
                    }
                    let empty: f32 = classes
                        .iter()
                        .zip(scores)
                        .filter(|(c, _)| is_empty(c))
                        .map(|(_, s)| *s)
                        .sum();
                    let mut ranked: Vec<(String, f64)> = classes
                        .iter()
                        .zip(scores)
                        .enumerate()
                        .filter(|(_, (c, _))| !is_empty(c))
                        .map(|(i, (_, s))| (i.to_string(), round(*s)))
                        .collect();
                    ranked.sort_by(|a, b| b.1.total_cmp(&a.1));
                    serde_json::json!({
                        "file": name,
                        "detections": [{
                            "category": if is_person(label) { "2" } else { "1" },
                            "conf": round(1.0 - empty),
                            "bbox": [0.0, 0.0, 1.0, 1.0],
                            "classifications": ranked,
                        }],
                    })
                }
            })
            .collect();
        let model = format!(
            "{} {} ({})",
            self.model.name, self.model.version, self.model.backbone
        );
        serde_json::to_vec_pretty(&serde_json::json!({
            "info": {
                "format_version": "1.4",
                "detector": "none: whole-image classification",
                "detection_completion_time": self.completed,
                "classifier": model,
                "classification_completion_time": self.completed,
                "detector_metadata": {
                    "typical_detection_threshold": 0.5,
                    "conservative_detection_threshold": 0.25,
                },
                "classifier_metadata": {"typical_classification_threshold": 0.5},
                "stoic_note": "boxes are whole images; conf is the probability that the image is not empty",
            },
            "detection_categories": {"1": "animal", "2": "person", "3": "vehicle"},
            "classification_categories": named,
            "images": images,
        }))
    }
}

/// Labels that mean that nothing is there, as data sets write them.
const EMPTY: [&str; 4] = ["empty", "blank", "background", "nothing"];
/// Labels that mean a human.
const PERSON: [&str; 3] = ["human", "person", "people"];

fn best(scores: &[f32]) -> Option<(usize, f32)> {
    scores
        .iter()
        .copied()
        .enumerate()
        .max_by(|a, b| a.1.total_cmp(&b.1))
}

/// Four digits are more than the scores are worth.
fn round(score: f32) -> f64 {
    (f64::from(score) * 1e4).round() / 1e4
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn answer() -> Answer {
        let fault = ItemFault {
            code: "image_empty".into(),
            detail: "the file is empty".into(),
        };
        Answer {
            items: vec![
                ("a.jpg".into(), Verdict::Scores(vec![0.7, 0.2, 0.1])),
                ("b.jpg".into(), Verdict::Error(fault)),
                ("c.jpg".into(), Verdict::Scores(vec![0.1, 0.1, 0.8])),
                ("d.jpg".into(), Verdict::Scores(vec![0.1, 0.8, 0.1])),
            ],
            model: ModelInfo {
                name: "wildlife".into(),
                version: "v1".into(),
                classes: ["fox", "human", "empty"].map(str::to_owned).to_vec(),
                backbone: "efficientnet-lite0".into(),
                precision: "fp32".into(),
                size: 224,
            },
            completed: "2026-11-23 17:45:12".into(),
        }
    }

    #[test]
    fn our_json_keeps_the_order_and_counts() {
        let value: Value = serde_json::from_slice(&answer().json().unwrap()).unwrap();
        let names: Vec<_> = value["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|i| i["name"].clone())
            .collect();
        assert_eq!(names, ["a.jpg", "b.jpg", "c.jpg", "d.jpg"]);
        assert_eq!(value["items"][0]["label"], "fox");
        assert_eq!(value["items"][0]["scores"]["human"], 0.2);
        assert_eq!(value["items"][1]["error"]["code"], "image_empty");
        assert!(value["items"][1].get("label").is_none());
        assert_eq!(value["summary"]["labels"]["human"], 1);
        assert_eq!(value["summary"]["errors"]["image_empty"], 1);
        assert_eq!(value["summary"]["failed"], 1);
        assert_eq!(value["model"]["version"], "v1");
    }

    #[test]
    fn parts_that_went_over_the_wire_merge_to_the_whole() {
        let whole = answer();
        let part = |range: std::ops::Range<usize>| {
            let part = Answer {
                items: whole.items[range].to_vec(),
                ..whole.clone()
            };
            let bytes = serde_json::to_vec(&part).unwrap();
            serde_json::from_slice::<Answer>(&bytes).unwrap()
        };
        let merged = Answer::merged([part(0..1), part(1..3), part(3..4)]).unwrap();
        assert_eq!(merged, whole);
        assert_eq!(merged.json().unwrap(), whole.json().unwrap());
        assert_eq!(
            merged.megadetector().unwrap(),
            whole.megadetector().unwrap()
        );
        let mut other = part(1..4);
        other.model.precision = "bf16".into();
        other.completed = "2026-11-23 17:45:13".into();
        let merged = Answer::merged([part(0..1), other.clone(), part(0..0)]).unwrap();
        assert_eq!(merged.model.precision, "fp32+bf16");
        assert_eq!(merged.completed, other.completed);
        other.model.version = "v2".into();
        assert_eq!(Answer::merged([part(0..1), other]), None);
        assert_eq!(Answer::merged([]), None);
    }

    /// Every key that a real file of the format has, ours has too, with the same kind of value.
    #[test]
    fn megadetector_has_the_fields_of_the_format() {
        let ours: Value = serde_json::from_slice(&answer().megadetector().unwrap()).unwrap();
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../../shared/data/formats/ena24_megadetector_v1.4.json"
        );
        if let Ok(bytes) = std::fs::read(path) {
            let real: Value = serde_json::from_slice(&bytes).unwrap();
            for key in [
                "info",
                "detection_categories",
                "classification_categories",
                "images",
            ] {
                assert!(ours.get(key).is_some(), "{key}");
            }
            for key in [
                "format_version",
                "detector",
                "detection_completion_time",
                "classifier",
            ] {
                assert_eq!(
                    real["info"][key].is_string(),
                    ours["info"][key].is_string(),
                    "{key}"
                );
            }
            assert_eq!(real["detection_categories"], ours["detection_categories"]);
            let (theirs, mine) = (
                &real["images"][0]["detections"][0],
                &ours["images"][0]["detections"][0],
            );
            for (key, value) in theirs.as_object().unwrap() {
                assert_eq!(
                    std::mem::discriminant(value),
                    std::mem::discriminant(&mine[key]),
                    "{key}"
                );
            }
            let pair = mine["classifications"][0].as_array().unwrap();
            assert!(pair[0].is_string() && pair[1].is_number());
        } else {
            println!("skipped: {path} is absent");
        }
        assert_eq!(ours["images"][0]["detections"][0]["conf"], 0.9);
        assert_eq!(
            ours["images"][0]["detections"][0]["classifications"][0],
            serde_json::json!(["0", 0.7])
        );
        assert!(
            ours["images"][1]["detections"].is_null() && ours["images"][1]["failure"].is_string()
        );
        assert_eq!(ours["images"][2]["detections"], serde_json::json!([]));
        assert_eq!(ours["images"][3]["detections"][0]["category"], "2");
    }
}
