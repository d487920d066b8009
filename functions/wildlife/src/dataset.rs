//! What to train on: a package with one folder per class, or with a COCO Camera Traps JSON that names
//! classes. Turns names into labelled examples; decodes nothing.
//!
//! What cannot be used is left out and counted with its reason, never silently.

use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use stoic_sdk::Problem;

/// One image with its label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Example {
    /// Its position among the package's items.
    pub position: usize,
    /// Index of its class in [`Dataset::classes`].
    pub class: usize,
}

/// The labelled images of a package.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Dataset {
    /// Labels: the paper's five first, in its order, then the others by name.
    pub classes: Vec<String>,
    /// Images in the package's order.
    pub examples: Vec<Example>,
    /// What was left out.
    pub skipped: Skipped,
}

/// Files that were left out, by reason.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Skipped {
    /// Files in all.
    pub files: u64,
    /// Files by reason: `no_label`, `class_not_chosen`, `several_labels`, or the code of an image error.
    pub reasons: BTreeMap<String, u64>,
    /// The first few, by name.
    pub examples: Vec<SkippedFile>,
}

/// One file that was left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SkippedFile {
    /// Name in the package.
    pub name: String,
    /// Why.
    pub reason: String,
}

impl Skipped {
    /// Files that are named; more are only counted.
    const NAMED: usize = 20;

    /// Counts a file.
    pub fn add(&mut self, name: &str, reason: &str) {
        self.files += 1;
        *self.reasons.entry(reason.to_owned()).or_default() += 1;
        if self.examples.len() < Self::NAMED {
            self.examples.push(SkippedFile {
                name: name.to_owned(),
                reason: reason.to_owned(),
            });
        }
    }

    /// The reasons in a sentence, for problems.
    #[must_use]
    pub fn told(&self) -> String {
        if self.files == 0 {
            return "no file was left out".to_owned();
        }
        let reasons: Vec<String> = self
            .reasons
            .iter()
            .map(|(r, n)| format!("{n} {r}"))
            .collect();
        format!(
            "{} files were left out ({})",
            self.files,
            reasons.join(", ")
        )
    }
}

/// The paper's order of classes (section 4.1).
const KNOWN: [&str; 5] = ["bird", "fox", "rodent", "human", "empty"];

/// Labels items by a COCO Camera Traps file where the package has one, else by their folders.
///
/// `names` are the package's items; `read` gives an item's bytes, asked for `.json` files only;
/// `chosen` are the classes to keep, none meaning all.
///
/// # Errors
/// `dataset_annotations_invalid` (a JSON file that is no COCO Camera Traps file and no folders either),
/// `dataset_no_labels`, `dataset_too_few_classes`.
pub fn label(
    names: &[&str],
    read: impl Fn(usize) -> Result<Vec<u8>, String>,
    chosen: &[String],
) -> Result<Dataset, Problem> {
    let mut annotations = None;
    let mut refused = Vec::new();
    for (position, name) in names.iter().enumerate().filter(|(_, n)| is_json(n)) {
        match read(position).and_then(|bytes| Coco::parse(&bytes)) {
            Ok(coco) if annotations.is_none() => annotations = Some((position, coco.labels())),
            Ok(_) => refused.push(format!("{name}: a second annotation file")),
            Err(why) => refused.push(format!("{name}: {why}")),
        }
    }
    let mut skipped = Skipped::default();
    let mut labelled: Vec<(usize, String)> = Vec::new();
    for (position, name) in names.iter().enumerate() {
        let label = match &annotations {
            Some((json, _)) if *json == position => continue,
            _ if is_json(name) => Err("no_label"),
            Some((_, labels)) => labels.of(name),
            None => folder(name).ok_or("no_label"),
        };
        match label {
            Ok(label) if chosen.is_empty() || chosen.contains(&label) => {
                labelled.push((position, label))
            }
            Ok(_) => skipped.add(name, "class_not_chosen"),
            Err(reason) => skipped.add(name, reason),
        }
    }
    if labelled.is_empty() && !refused.is_empty() {
        let why = refused.join("; ");
        return Err(Problem::new(
            422,
            "dataset_annotations_invalid",
            format!("no label was found; the JSON files were not read as COCO Camera Traps: {why}"),
        ));
    }
    if labelled.is_empty() {
        return Err(Problem::new(
            422,
            "dataset_no_labels",
            format!(
                "no file has a label: training takes a zip with one folder per class (fox/a.jpg), or with \
                 images and a COCO Camera Traps JSON; {}",
                skipped.told()
            ),
        ));
    }
    let found: BTreeSet<&str> = labelled.iter().map(|(_, label)| label.as_str()).collect();
    let mut classes: Vec<String> = KNOWN
        .iter()
        .filter(|k| found.contains(*k))
        .map(|&k| k.to_owned())
        .collect();
    classes.extend(
        found
            .iter()
            .filter(|f| !KNOWN.contains(f))
            .map(|&f| f.to_owned()),
    );
    enough(&classes, &skipped)?;
    let index: HashMap<&str, usize> = classes
        .iter()
        .enumerate()
        .map(|(i, c)| (c.as_str(), i))
        .collect();
    let examples = labelled.iter().map(|(position, label)| Example {
        position: *position,
        class: index[label.as_str()],
    });
    let examples = examples.collect();
    Ok(Dataset {
        classes,
        examples,
        skipped,
    })
}

fn enough(classes: &[String], skipped: &Skipped) -> Result<(), Problem> {
    if classes.len() >= 2 {
        return Ok(());
    }
    Err(Problem::new(
        422,
        "dataset_too_few_classes",
        format!(
            "training needs at least two classes, found {classes:?}; {}",
            skipped.told()
        ),
    ))
}

impl Dataset {
    /// Leaves out examples that turned out unreadable, given as (index into `examples`, reason), and
    /// checks that enough remains.
    ///
    /// # Errors
    /// `dataset_too_few_images` when a class is left without images, or fewer than four remain.
    pub fn without(
        mut self,
        unreadable: &[(usize, String)],
        names: &[&str],
    ) -> Result<Self, Problem> {
        for (index, reason) in unreadable {
            self.skipped.add(
                names
                    .get(self.examples[*index].position)
                    .copied()
                    .unwrap_or(""),
                reason,
            );
        }
        let gone: BTreeSet<usize> = unreadable.iter().map(|(index, _)| *index).collect();
        let mut index = 0;
        self.examples.retain(|_| {
            index += 1;
            !gone.contains(&(index - 1))
        });
        let counts = self.counts();
        let bare: Vec<&str> = self
            .classes
            .iter()
            .zip(&counts)
            .filter_map(|(c, n)| (*n == 0).then_some(c.as_str()))
            .collect();
        if self.examples.len() < 4 || !bare.is_empty() {
            let missing = if bare.is_empty() {
                String::new()
            } else {
                format!(", none for {bare:?}")
            };
            return Err(Problem::new(
                422,
                "dataset_too_few_images",
                format!(
                    "{} readable images remain{missing}; training needs four and one of each class; {}",
                    self.examples.len(),
                    self.skipped.told()
                ),
            ));
        }
        Ok(self)
    }

    /// Images per class.
    #[must_use]
    pub fn counts(&self) -> Vec<usize> {
        let mut counts = vec![0; self.classes.len()];
        for example in &self.examples {
            counts[example.class] += 1;
        }
        counts
    }
}

fn is_json(name: &str) -> bool {
    name.len() >= 5 && name.as_bytes()[name.len() - 5..].eq_ignore_ascii_case(b".json")
}

/// The innermost folder of a name.
fn folder(name: &str) -> Option<String> {
    let name = name.replace('\\', "/");
    let (path, _) = name.rsplit_once('/')?;
    let folder = path.rsplit('/').next()?.trim();
    (!folder.is_empty()).then(|| folder.to_owned())
}

/// COCO Camera Traps, as far as whole-image labels need it. Ids are numbers or strings.
#[derive(Debug, Deserialize)]
struct Coco {
    images: Vec<CocoImage>,
    annotations: Vec<CocoAnnotation>,
    categories: Vec<CocoCategory>,
}

#[derive(Debug, Deserialize)]
struct CocoImage {
    id: Id,
    file_name: String,
}

#[derive(Debug, Deserialize)]
struct CocoAnnotation {
    image_id: Id,
    category_id: Id,
}

#[derive(Debug, Deserialize)]
struct CocoCategory {
    id: Id,
    name: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, Deserialize)]
#[serde(untagged)]
enum Id {
    Number(i64),
    Text(String),
}

impl Coco {
    fn parse(bytes: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(bytes).map_err(|e| e.to_string())
    }

    fn labels(self) -> Labels {
        let categories: HashMap<Id, String> = self
            .categories
            .into_iter()
            .map(|c| (c.id, c.name.trim().replace('/', "_")))
            .collect();
        let mut by_image: HashMap<Id, BTreeSet<String>> = HashMap::new();
        for annotation in self.annotations {
            if let Some(category) = categories.get(&annotation.category_id) {
                by_image
                    .entry(annotation.image_id)
                    .or_default()
                    .insert(category.clone());
            }
        }
        let mut labels = Labels::default();
        for image in self.images {
            let name = image
                .file_name
                .replace('\\', "/")
                .trim_start_matches("./")
                .to_owned();
            let found = by_image.remove(&image.id).unwrap_or_default();
            labels.insert(name, found);
        }
        labels
    }
}

/// Labels by file name.
#[derive(Debug, Default)]
struct Labels {
    by_name: HashMap<String, BTreeSet<String>>,
    /// Full names by last component, where that is unique.
    by_base: HashMap<String, Option<String>>,
}

impl Labels {
    fn insert(&mut self, name: String, labels: BTreeSet<String>) {
        let base = base(&name).to_owned();
        self.by_base
            .entry(base)
            .and_modify(|full| *full = None)
            .or_insert_with(|| Some(name.clone()));
        self.by_name.insert(name, labels);
    }

    fn of(&self, name: &str) -> Result<String, &'static str> {
        let name = name.replace('\\', "/");
        // Packages often hold the images' folder one level deeper or less deep than the JSON says.
        let by_tail = || {
            let tails = name.match_indices('/').map(|(at, _)| &name[at + 1..]);
            tails.into_iter().find_map(|tail| self.by_name.get(tail))
        };
        let by_base = || {
            self.by_base
                .get(base(&name))?
                .as_ref()
                .and_then(|full| self.by_name.get(full))
        };
        let labels = self
            .by_name
            .get(&name)
            .or_else(by_tail)
            .or_else(by_base)
            .ok_or("no_label")?;
        // An annotation of emptiness beside one of an animal says nothing more.
        let mut some = labels
            .iter()
            .filter(|l| labels.len() == 1 || l.as_str() != "empty");
        match (some.next(), some.next()) {
            (Some(label), None) => Ok(label.clone()),
            (None, _) => Err("no_label"),
            (Some(_), Some(_)) => Err("several_labels"),
        }
    }
}

fn base(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unread(_: usize) -> Result<Vec<u8>, String> {
        Err("nothing to read".into())
    }

    #[test]
    fn folders_are_labels_at_any_depth() {
        let names = [
            "set/fox/a.jpg",
            "bird/b.JPG",
            "readme.txt",
            "zebra\\c.png",
            "fox/d.jpg",
        ];
        let data = label(&names, unread, &[]).unwrap();
        assert_eq!(data.classes, ["bird", "fox", "zebra"]);
        let found: Vec<_> = data
            .examples
            .iter()
            .map(|e| (e.position, e.class))
            .collect();
        assert_eq!(found, [(0, 1), (1, 0), (3, 2), (4, 1)]);
        assert_eq!(data.skipped.reasons["no_label"], 1);
        assert_eq!(data.counts(), [1, 2, 1]);
    }

    #[test]
    fn chosen_classes_leave_out_the_others() {
        let names = ["fox/a.jpg", "bird/b.jpg", "other/c.jpg"];
        let data = label(&names, unread, &["fox".into(), "bird".into()]).unwrap();
        assert_eq!(data.classes, ["bird", "fox"]);
        assert_eq!(data.skipped.reasons["class_not_chosen"], 1);
    }

    #[test]
    fn coco_camera_traps_labels_by_file_name() {
        let json = br#"{"images":[{"id":"x","file_name":"a.jpg"},{"id":2,"file_name":"deep/b.jpg"},
            {"id":3,"file_name":"c.jpg"},{"id":4,"file_name":"d.jpg"}],
            "annotations":[{"image_id":"x","category_id":1,"bbox":[1,2,3,4]},{"image_id":2,"category_id":2},
            {"image_id":3,"category_id":1},{"image_id":3,"category_id":2}],
            "categories":[{"id":1,"name":"Grey Fox"},{"id":2,"name":"empty"}]}"#;
        let names = ["all.json", "pics/a.jpg", "b.jpg", "c.jpg", "d.jpg", "e.jpg"];
        let data = label(&names, |_| Ok(json.to_vec()), &[]).unwrap();
        assert_eq!(data.classes, ["empty", "Grey Fox"]);
        let found: Vec<_> = data
            .examples
            .iter()
            .map(|e| (e.position, e.class))
            .collect();
        assert_eq!(found, [(1, 1), (2, 0), (3, 1)]);
        assert_eq!(data.skipped.reasons["no_label"], 2);
    }

    #[test]
    fn what_cannot_be_trained_on_is_a_problem_with_a_code() {
        let code = |names: &[&str], json: &[u8]| {
            label(names, |_| Ok(json.to_vec()), &[]).unwrap_err().code
        };
        assert_eq!(code(&["a.jpg", "b.jpg"], b""), "dataset_no_labels");
        assert_eq!(code(&[], b""), "dataset_no_labels");
        assert_eq!(
            code(&["fox/a.jpg", "fox/b.jpg"], b""),
            "dataset_too_few_classes"
        );
        assert_eq!(
            code(&["a.jpg", "x.json"], b"{\"images\": 3}"),
            "dataset_annotations_invalid"
        );
        let data = label(&["fox/a.jpg", "bird/b.jpg"], unread, &[]).unwrap();
        let problem = data
            .without(&[(0, "image_empty".into())], &["fox/a.jpg", "bird/b.jpg"])
            .unwrap_err();
        assert_eq!(problem.code, "dataset_too_few_images");
        assert!(problem.detail.unwrap().contains("1 image_empty"));
    }
}
