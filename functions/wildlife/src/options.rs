//! Parameters of the action `train`, parsed and checked as a whole before anything is read.

use crate::head::FitOptions;
use std::collections::BTreeMap;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;
use stoic_sdk::Problem;

/// How to train.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainOptions {
    /// Classes to keep (`classes=bird,fox`); none means all.
    pub classes: Vec<String>,
    /// Share of the images of each class set aside for validation (`validation`, default 0.2).
    pub validation: f64,
    /// Altered copies per image of the largest class (`copies`); none: by the number of images.
    pub copies: Option<usize>,
    /// Pixels per side of the network's input (`size`, default 224).
    pub size: usize,
    /// Report leave-one-out accuracy (`leave_one_out=true`): one more training for each image.
    pub leave_one_out: bool,
    /// Train once more on all images, validation's included, for as many epochs as were best
    /// (`refit`, default true).
    pub refit: bool,
    /// `epochs`, `patience`, `batch`, `learning_rate`, `weight_decay`, `dropout`, `smoothing`, `seed`.
    pub fit: FitOptions,
}

impl Default for TrainOptions {
    fn default() -> Self {
        Self {
            classes: Vec::new(),
            validation: 0.2,
            copies: None,
            size: 224,
            leave_one_out: false,
            refit: true,
            fit: FitOptions::default(),
        }
    }
}

/// All names, for the message when one is misspelt.
const NAMES: [&str; 14] = [
    "classes",
    "validation",
    "copies",
    "size",
    "leave_one_out",
    "refit",
    "epochs",
    "patience",
    "batch",
    "learning_rate",
    "weight_decay",
    "dropout",
    "smoothing",
    "seed",
];

impl TrainOptions {
    /// Parses the parameters of an invocation.
    ///
    /// # Errors
    /// 400 `parameter_unknown` and `parameter_invalid`, naming the parameter and what it may be.
    pub fn parse(parameters: &BTreeMap<String, String>) -> Result<Self, Problem> {
        // Those of the invocation as a whole pass by.
        let foreign = ["action", "bootstrap", "format"];
        let known = |name: &str| NAMES.contains(&name) || foreign.contains(&name);
        if let Some(name) = parameters.keys().find(|name| !known(name)) {
            let all = NAMES.join(", ");
            let detail = format!("training has no parameter {name:?}; it has {all}");
            return Err(Problem::new(400, "parameter_unknown", detail));
        }
        let mut o = Self::default();
        let get = |name: &'static str| parameters.get(name).map(|text| (name, text.as_str()));
        if let Some((_, text)) = get("classes") {
            o.classes = text
                .split(',')
                .map(|c| c.trim().to_owned())
                .filter(|c| !c.is_empty())
                .collect();
        }
        set(&mut o.validation, get("validation"), 0.0..=0.9)?;
        if let Some(given) = get("copies") {
            let mut copies = 0;
            set(&mut copies, Some(given), 0..=256)?;
            o.copies = Some(copies);
        }
        set(&mut o.size, get("size"), 64..=1024)?;
        set(&mut o.leave_one_out, get("leave_one_out"), false..=true)?;
        set(&mut o.refit, get("refit"), false..=true)?;
        set(&mut o.fit.epochs, get("epochs"), 1..=10_000)?;
        set(&mut o.fit.patience, get("patience"), 1..=10_000)?;
        set(&mut o.fit.batch, get("batch"), 1..=4096)?;
        set(&mut o.fit.learning_rate, get("learning_rate"), 1e-8..=1.0)?;
        set(&mut o.fit.weight_decay, get("weight_decay"), 0.0..=10.0)?;
        set(&mut o.fit.dropout, get("dropout"), 0.0..=0.95)?;
        set(&mut o.fit.smoothing, get("smoothing"), 0.0..=0.9)?;
        set(&mut o.fit.seed, get("seed"), 0..=u64::MAX)?;
        Ok(o)
    }

    /// Altered copies of each image of a class with `count` images, where the largest class has
    /// `largest` and the set `images` in all: so many that all classes have about as many rows
    /// (the paper up-samples minority classes so), and that training takes a bounded time.
    #[must_use]
    pub fn copies_for(&self, count: usize, largest: usize, images: usize) -> usize {
        /// Rows that a small set is brought to.
        const ROWS: usize = 900;
        /// More copies of one image than this teach nothing new.
        const MOST: usize = 40;
        let base = self
            .copies
            .unwrap_or_else(|| (ROWS / images.max(1)).saturating_sub(1).clamp(1, 15));
        let rows = (base + 1) * largest;
        (rows.div_ceil(count.max(1)) - 1).min(MOST.max(base))
    }
}

fn set<T: FromStr + PartialOrd + Display>(
    value: &mut T,
    given: Option<(&'static str, &str)>,
    range: RangeInclusive<T>,
) -> Result<(), Problem> {
    let Some((name, text)) = given else {
        return Ok(());
    };
    match text.trim().parse() {
        Ok(parsed) if range.contains(&parsed) => {
            *value = parsed;
            Ok(())
        }
        _ => Err(Problem::new(
            400,
            "parameter_invalid",
            format!(
                "{name}={text:?} is not between {} and {}",
                range.start(),
                range.end()
            ),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &[(&str, &str)]) -> Result<TrainOptions, Problem> {
        TrainOptions::parse(
            &text
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                .collect(),
        )
    }

    #[test]
    fn parameters_are_checked_as_a_whole() {
        let o = parse(&[
            ("epochs", "7"),
            ("classes", "fox, bird"),
            ("leave_one_out", "true"),
        ])
        .unwrap();
        assert_eq!((o.fit.epochs, o.leave_one_out), (7, true));
        assert_eq!(o.classes, ["fox", "bird"]);
        assert_eq!(parse(&[]).unwrap(), TrainOptions::default());
        assert_eq!(
            parse(&[("epoch", "7")]).unwrap_err().code,
            "parameter_unknown"
        );
        for bad in [
            ("epochs", "0"),
            ("epochs", "x"),
            ("dropout", "1"),
            ("validation", "NaN"),
            ("refit", "yes"),
        ] {
            assert_eq!(
                parse(&[bad]).unwrap_err().code,
                "parameter_invalid",
                "{bad:?}"
            );
        }
    }

    #[test]
    fn minority_classes_get_more_copies() {
        let o = TrainOptions::default();
        let (few, many) = (o.copies_for(2, 10, 30), o.copies_for(10, 10, 30));
        assert!(few > many && many >= 10, "{few} {many}");
        assert_eq!((many + 1) * 10, 160);
        // A set as large as the paper's is not multiplied without end.
        assert_eq!(o.copies_for(251, 251, 1255), 1);
    }
}
