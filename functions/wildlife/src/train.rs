//! The action `train`: a package of labelled images becomes a head (paper, section 4.1).
//!
//! In order: label, decode and extract features of each image and its altered copies (once; the
//! backbone is frozen), set images aside for validation, fit, judge, fit again on all. Knows nothing of
//! where models are published.

use crate::augment;
use crate::backbone::{Extractors, Features, Views, to_tensor, to_vec};
use crate::dataset::{self, Dataset, Skipped};
use crate::head::{Fitted, Head, Metadata, Rows, TrainingSummary, fit};
use crate::metrics::Metrics;
use crate::options::TrainOptions;
use crate::pixels::{Crop, Frame, ImageError, Limits};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Instant;
use stoic_runtime::tch::TchError;
use stoic_sdk::{Batch, Call, ItemError, Problem};

/// A head that was trained, and what there is to say of it.
#[derive(Debug)]
pub struct Trained {
    /// The head.
    pub head: Head,
    /// What is stored with it.
    pub metadata: Metadata,
    /// The answer to the invocation, but for the model's version.
    pub report: Report,
}

/// The answer to `train`.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Labels, in the order of the confusion matrices.
    pub classes: Vec<String>,
    /// Images per class.
    pub images: BTreeMap<String, usize>,
    /// Images and altered copies per class.
    pub rows: BTreeMap<String, usize>,
    /// Files left out.
    pub skipped: Skipped,
    /// Epochs of the head.
    pub epochs: usize,
    /// Whether the head was fitted once more on all images.
    pub refit: bool,
    /// Loss on the training rows in the last epoch.
    pub training_loss: f64,
    /// On images set aside; absent when there are too few to set any aside.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub validation: Option<Judgement>,
    /// Each image judged by a head trained on all others, where that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub leave_one_out: Option<LeaveOneOut>,
    /// The options in force.
    pub options: serde_json::Value,
    /// Seconds of each stage.
    pub seconds: BTreeMap<&'static str, f64>,
}

/// Metrics of a head on images it was not trained on.
#[derive(Debug, Clone, Serialize)]
pub struct Judgement {
    /// Mean cross entropy.
    pub loss: f64,
    /// Divides the logits for honest probabilities, as found on these images.
    pub temperature: f64,
    /// Counts.
    #[serde(flatten)]
    pub metrics: Metrics,
}

/// Leave-one-out: for each image a head is trained on all other images and their copies. Images of one
/// burst are nearly alike, so with bursts in the set this flatters.
#[derive(Debug, Clone, Serialize)]
pub struct LeaveOneOut {
    /// Counts.
    #[serde(flatten)]
    pub metrics: Metrics,
    /// Images that were mistaken: name, truth, label.
    pub mistakes: Vec<(String, String, String)>,
}

/// Features of the images and their copies.
struct Extracted {
    data: Dataset,
    /// For each example: its own features first, then its copies'.
    features: Vec<Vec<Features>>,
}

impl Extracted {
    /// Rows of some examples, with their copies or without.
    fn rows(&self, examples: &[usize], copies: bool, width: usize) -> Result<Rows, TchError> {
        let mut rows: Vec<&Features> = Vec::new();
        let mut classes = Vec::new();
        for &example in examples {
            let all = &self.features[example];
            for row in if copies { &all[..] } else { &all[..1] } {
                rows.push(row);
                classes.push(self.data.examples[example].class as i64);
            }
        }
        Ok(Rows {
            features: to_tensor(&rows, width)?,
            classes,
        })
    }
}

/// Trains on a batch.
///
/// # Errors
/// `parameter_*`, `dataset_*`, `training_failed`, and the call's own problem when it was cancelled.
pub fn train(
    batch: &Batch,
    extractors: &Extractors,
    limits: Limits,
    call: &Call,
) -> Result<Trained, Problem> {
    let options = TrainOptions::parse(batch.parameters())?;
    let mut seconds = BTreeMap::new();
    let began = Instant::now();
    let names: Vec<&str> = batch
        .items()
        .iter()
        .map(|item| item.name.as_str())
        .collect();
    let read = |position: usize| {
        batch
            .read(position)
            .map(|b| b.to_vec())
            .map_err(|e| e.detail)
    };
    let data = dataset::label(&names, read, &options.classes)?;
    let extracted = extract(batch, data, extractors, &options, limits, &names, call)?;
    seconds.insert("features", round(began.elapsed().as_secs_f64()));
    let began = Instant::now();
    let trainer = Trainer::new(&extracted, extractors, &options, call);
    let (training, validation) = split(&extracted.data, &options);
    let first = trainer.fit(&training, &validation, options.fit.epochs, 0)?;
    let judgement = if validation.is_empty() {
        None
    } else {
        Some(trainer.judge(&first, &validation).map_err(failed)?)
    };
    let refit = options.refit && !validation.is_empty();
    let last = if refit {
        let all: Vec<usize> = (0..extracted.data.examples.len()).collect();
        trainer.fit(&all, &[], first.epochs, options.fit.epochs)?
    } else {
        first
    };
    seconds.insert("fit", round(began.elapsed().as_secs_f64()));
    let began = Instant::now();
    let leave_one_out = if options.leave_one_out {
        Some(trainer.leave_one_out(&names)?)
    } else {
        None
    };
    if leave_one_out.is_some() {
        seconds.insert("leave_one_out", round(began.elapsed().as_secs_f64()));
    }
    call.progress(trainer.steps, trainer.steps, Some("trained"));
    let data = &extracted.data;
    let metadata = Metadata {
        format: 1,
        classes: data.classes.clone(),
        backbone: extractors.architecture.name().to_owned(),
        size: options.size,
        temperature: judgement.as_ref().map_or(1.0, |j| j.temperature),
        training: TrainingSummary {
            images: data.examples.len(),
            epochs: last.epochs,
            seed: options.fit.seed,
            validation: judgement.as_ref().map(|j| j.metrics.clone()),
        },
    };
    let mut rows = vec![0; data.classes.len()];
    for (example, features) in data.examples.iter().zip(&extracted.features) {
        rows[example.class] += features.len();
    }
    let named = |counts: Vec<usize>| data.classes.iter().cloned().zip(counts).collect();
    let report = Report {
        classes: data.classes.clone(),
        images: named(data.counts()),
        rows: named(rows),
        skipped: data.skipped.clone(),
        epochs: last.epochs,
        refit,
        training_loss: round(last.training_loss),
        validation: judgement,
        leave_one_out,
        options: told(&options),
        seconds,
    };
    Ok(Trained {
        head: last.head,
        metadata,
        report,
    })
}

/// Decodes every example, alters copies of it and extracts the features of all.
fn extract(
    batch: &Batch,
    data: Dataset,
    extractors: &Extractors,
    options: &TrainOptions,
    limits: Limits,
    names: &[&str],
    call: &Call,
) -> Result<Extracted, Problem> {
    let counts = data.counts();
    let largest = counts.iter().copied().max().unwrap_or(1);
    let images = data.examples.len();
    call.progress(0, images as u64, Some("features"));
    let views = |position: usize| {
        let example = &data.examples[position];
        let copies = options.copies_for(counts[example.class], largest, images);
        let bytes = batch.read(example.position)?;
        // Crops need somewhat more pixels than the network takes.
        let decoded = options.size + options.size / 4;
        let frame = Frame::decode(&bytes, decoded, decoded, limits).map_err(item_error)?;
        let mut rng = ChaCha8Rng::seed_from_u64(options.fit.seed);
        rng.set_stream(position as u64 + 1);
        let mut pixels = vec![
            frame
                .fit(Crop::WHOLE, options.size, options.size)
                .map_err(item_error)?,
        ];
        for _ in 0..copies {
            pixels.push(augment::copy(&frame, options.size, &mut rng).map_err(item_error)?);
        }
        Ok(Views {
            size: options.size,
            pixels,
        })
    };
    let results = extractors.workers.run(images, views, call)?;
    let mut features = Vec::with_capacity(images);
    let mut unreadable = Vec::new();
    for (position, result) in results.into_iter().enumerate() {
        match result {
            Ok(rows) if !rows.is_empty() => features.push(rows),
            Ok(_) => unreadable.push((position, "model_failed".to_owned())),
            Err(error) => unreadable.push((position, error.code)),
        }
    }
    Ok(Extracted {
        data: data.without(&unreadable, names)?,
        features,
    })
}

/// What an item's error says.
pub(crate) fn item_error(error: ImageError) -> ItemError {
    ItemError::new(error.code(), error.to_string())
}

/// Fits heads to parts of the examples.
struct Trainer<'a> {
    extracted: &'a Extracted,
    options: &'a TrainOptions,
    call: &'a Call,
    width: usize,
    /// Epochs of everything that will be fitted, for progress.
    steps: u64,
}

impl<'a> Trainer<'a> {
    fn new(
        extracted: &'a Extracted,
        extractors: &Extractors,
        options: &'a TrainOptions,
        call: &'a Call,
    ) -> Self {
        let fits = 1
            + usize::from(options.refit)
            + if options.leave_one_out {
                extracted.features.len()
            } else {
                0
            };
        let width = extractors.architecture.features() as usize;
        Self {
            extracted,
            options,
            call,
            width,
            steps: (fits * options.fit.epochs) as u64,
        }
    }

    /// Fits a head; `before` are the epochs that were done before, for progress.
    fn fit(
        &self,
        training: &[usize],
        validation: &[usize],
        epochs: usize,
        before: usize,
    ) -> Result<Fitted, Problem> {
        let rows = self
            .extracted
            .rows(training, true, self.width)
            .map_err(failed)?;
        let aside = self.extracted.rows(validation, false, self.width);
        let aside = if validation.is_empty() {
            None
        } else {
            Some(aside.map_err(failed)?)
        };
        let options = crate::head::FitOptions {
            epochs,
            ..self.options.fit
        };
        fit(
            &rows,
            aside.as_ref(),
            self.extracted.data.classes.len(),
            &options,
            |epoch| {
                self.call.check()?;
                let stage = format!("epoch {epoch} of {epochs}");
                self.call
                    .progress((before + epoch) as u64, self.steps, Some(&stage));
                Ok(())
            },
        )
    }

    fn judge(&self, fitted: &Fitted, examples: &[usize]) -> Result<Judgement, TchError> {
        let rows = self.extracted.rows(examples, false, self.width)?;
        let classes = &self.extracted.data.classes;
        let logits = to_vec(&fitted.head.logits(&rows.features)?)?;
        let logits: Vec<&[f32]> = logits.chunks_exact(classes.len()).collect();
        let pairs: Vec<(usize, usize)> = rows
            .classes
            .iter()
            .zip(&logits)
            .map(|(&truth, row)| (truth as usize, largest(row)))
            .collect();
        Ok(Judgement {
            loss: round(fitted.validation_loss.unwrap_or(f64::NAN)),
            temperature: temperature(&logits, &rows.classes),
            metrics: Metrics::of(classes, &pairs),
        })
    }

    fn leave_one_out(&self, names: &[&str]) -> Result<LeaveOneOut, Problem> {
        let data = &self.extracted.data;
        let count = data.examples.len();
        let mut pairs = Vec::with_capacity(count);
        let mut mistakes = Vec::new();
        for out in 0..count {
            let others: Vec<usize> = (0..count).filter(|&i| i != out).collect();
            let before = self.options.fit.epochs * (2 + out);
            let fitted = self.fit(&others, &[], self.options.fit.epochs, before)?;
            let row = self
                .extracted
                .rows(&[out], false, self.width)
                .map_err(failed)?;
            let logits = fitted
                .head
                .logits(&row.features)
                .and_then(|l| to_vec(&l))
                .map_err(failed)?;
            let (truth, label) = (data.examples[out].class, largest(&logits));
            pairs.push((truth, label));
            if truth != label {
                let name = names
                    .get(data.examples[out].position)
                    .copied()
                    .unwrap_or_default();
                mistakes.push((
                    name.to_owned(),
                    data.classes[truth].clone(),
                    data.classes[label].clone(),
                ));
            }
        }
        Ok(LeaveOneOut {
            metrics: Metrics::of(&data.classes, &pairs),
            mistakes,
        })
    }
}

/// Divides examples into those to train on and those to validate with, class by class; at least one of
/// each class is trained on, and classes of three or more give at least one to validation.
fn split(data: &Dataset, options: &TrainOptions) -> (Vec<usize>, Vec<usize>) {
    let mut rng = ChaCha8Rng::seed_from_u64(options.fit.seed ^ 0x5711);
    let (mut training, mut validation) = (Vec::new(), Vec::new());
    for class in 0..data.classes.len() {
        let mut members: Vec<usize> = (0..data.examples.len())
            .filter(|&i| data.examples[i].class == class)
            .collect();
        members.shuffle(&mut rng);
        let n = members.len();
        let mut aside = (n as f64 * options.validation).round() as usize;
        if options.validation > 0.0 && n >= 3 {
            aside = aside.max(1);
        }
        let aside = aside.min(n.saturating_sub(1));
        validation.extend_from_slice(&members[..aside]);
        training.extend_from_slice(&members[aside..]);
    }
    training.sort_unstable();
    validation.sort_unstable();
    (training, validation)
}

/// The temperature that makes the scores of these rows most likely. With few rows it stays at 1.
fn temperature(logits: &[&[f32]], classes: &[i64]) -> f64 {
    if logits.len() < 20 {
        return 1.0;
    }
    let loss = |t: f64| -> f64 {
        let each = logits.iter().zip(classes).map(|(row, &truth)| {
            let top = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let sum: f64 = row.iter().map(|&v| (f64::from(v - top) / t).exp()).sum();
            sum.ln() - f64::from(row[truth as usize] - top) / t
        });
        each.sum()
    };
    let grid = (0..=40).map(|i| 0.5 * 8f64.powf(f64::from(i) / 40.0));
    let best = grid
        .min_by(|a, b| loss(*a).total_cmp(&loss(*b)))
        .unwrap_or(1.0);
    round(best)
}

fn largest(row: &[f32]) -> usize {
    row.iter()
        .enumerate()
        .max_by(|a, b| a.1.total_cmp(b.1))
        .map_or(0, |(i, _)| i)
}

fn told(options: &TrainOptions) -> serde_json::Value {
    let mut value = serde_json::to_value(options.fit).unwrap_or_default();
    value["validation"] = options.validation.into();
    value["copies"] = options.copies.map_or("auto".into(), Into::into);
    value["size"] = options.size.into();
    value
}

fn failed(error: TchError) -> Problem {
    let text = error.to_string();
    Problem::new(
        500,
        "training_failed",
        text.lines().next().unwrap_or("libtorch refused").to_owned(),
    )
}

fn round(value: f64) -> f64 {
    (value * 1e4).round() / 1e4
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::Example;

    #[test]
    fn each_class_is_trained_on_and_larger_ones_are_validated() {
        let counts = [1usize, 2, 3, 20];
        let mut data = Dataset {
            classes: (0..4).map(|c| format!("c{c}")).collect(),
            ..Dataset::default()
        };
        for (class, &n) in counts.iter().enumerate() {
            data.examples
                .extend((0..n).map(|position| Example { position, class }));
        }
        let (training, validation) = split(&data, &TrainOptions::default());
        let of = |part: &[usize], class| {
            part.iter()
                .filter(|&&i| data.examples[i].class == class)
                .count()
        };
        assert_eq!([0, 1, 2, 3].map(|c| of(&training, c)), [1, 2, 2, 16]);
        assert_eq!([0, 1, 2, 3].map(|c| of(&validation, c)), [0, 0, 1, 4]);
        assert_eq!(
            split(&data, &TrainOptions::default()),
            (training, validation)
        );
    }

    #[test]
    fn temperature_softens_what_is_too_sure() {
        // Right in three of four cases, but as sure as e^8.
        let rows: Vec<Vec<f32>> = (0..40)
            .map(|i| {
                if i % 4 == 0 {
                    vec![0.0, 8.0]
                } else {
                    vec![8.0, 0.0]
                }
            })
            .collect();
        let rows: Vec<&[f32]> = rows.iter().map(Vec::as_slice).collect();
        assert!(temperature(&rows, &[0; 40]) > 3.0);
        assert_eq!(temperature(&rows[..10], &[0; 10]), 1.0);
    }
}
