//! What the demo says of its batches: one line each, and a summary.

use super::plot::{self, Point};
use crate::cli::call::Carried;
use crate::cli::failed::Failed;
use crate::history::Parts;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::Path;
use stoic_placement::{Accuracy, Interval, Part};

/// Heads of the columns of [`Batch::line`].
pub(super) const HEADING: &str = "    #  items  runtime  start   predicted [90 %]            actual     queue + transfer + deploy + process     right";

/// One batch, where the selector put it and elsewhere.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Batch {
    number: usize,
    items: u64,
    runtime: String,
    start: String,
    emulated: String,
    predicted: Option<Parts>,
    predicted_90: Option<(f64, f64)>,
    actual: Parts,
    actual_s: f64,
    right: usize,
    /// Response time on every runtime that was tried, in seconds.
    everywhere_s: BTreeMap<String, f64>,
    #[serde(skip)]
    others: Vec<Point>,
}

/// Sums over all batches.
#[derive(Debug, Default, Serialize)]
pub(super) struct Report {
    batches: Vec<Batch>,
}

/// What is said at the end.
#[derive(Debug, Serialize)]
pub(super) struct Summary {
    batches: usize,
    items: u64,
    accuracy: f64,
    /// Mean absolute error of T_s over warm batches by its mean.
    pmae_warm: Option<f64>,
    /// Share of the 90 % intervals that held, over all batches with a prediction.
    interval_90_held: Option<f64>,
    predictions: usize,
    selector_s: f64,
    /// Response time in sum, had every batch gone to this runtime.
    always_s: BTreeMap<String, f64>,
    best_s: f64,
    /// Share of batches where the selector's choice was the fastest.
    success: f64,
}

impl Batch {
    pub(super) fn new(number: usize, carried: &Carried, (right, items): (usize, usize)) -> Self {
        let s = &carried.summary;
        let actual_s = s.actual.response();
        Self {
            number,
            items: items as u64,
            runtime: s.runtime.clone(),
            start: s.start.clone(),
            emulated: s.emulated.clone(),
            predicted: s.predicted,
            predicted_90: s.predicted_90,
            actual: s.actual,
            actual_s,
            right,
            everywhere_s: BTreeMap::from([(s.runtime.clone(), actual_s)]),
            others: Vec::new(),
        }
    }

    /// The same package, run elsewhere.
    pub(super) fn compare(&mut self, carried: &Carried) {
        let s = &carried.summary;
        self.everywhere_s
            .insert(s.runtime.clone(), s.actual.response());
        self.others.extend(point(
            self.number,
            self.items,
            &s.runtime,
            &s.start,
            s.predicted,
            s.predicted_90,
            s.actual,
        ));
    }

    /// One line for people.
    pub(super) fn line(&self) -> String {
        let predicted = match (self.predicted, self.predicted_90) {
            (Some(parts), Some((low, high))) => {
                format!("{:6.2} s [{low:.2}, {high:.2}]", parts.response())
            }
            _ => "unknown".to_owned(),
        };
        let Parts {
            queueing,
            transfer,
            deployment,
            processing,
        } = self.actual;
        let emulated = if self.emulated.is_empty() {
            String::new()
        } else {
            format!("   (emulated: {})", self.emulated)
        };
        format!(
            "   {:2}  {:5}  {:7}  {:5}  {predicted:26}  {:6.2} s   {queueing:5.2} + {transfer:5.2} + {deployment:5.2} + {processing:6.2}        {:3}/{}{emulated}",
            self.number,
            self.items,
            self.runtime,
            self.start,
            self.actual_s,
            self.right,
            self.items
        )
    }

    fn points(&self) -> impl Iterator<Item = Point> {
        let own = point(
            self.number,
            self.items,
            &self.runtime,
            &self.start,
            self.predicted,
            self.predicted_90,
            self.actual,
        );
        own.into_iter().chain(self.others.iter().cloned())
    }
}

fn point(
    number: usize,
    items: u64,
    runtime: &str,
    start: &str,
    predicted: Option<Parts>,
    interval: Option<(f64, f64)>,
    actual: Parts,
) -> Option<Point> {
    let (predicted_s, interval_90, actual_s) =
        (predicted?.response(), interval?, actual.response());
    Some(Point {
        runtime: runtime.to_owned(),
        predicted_s,
        interval_90,
        actual_s,
        cold: start == "cold",
        label: format!(
            "batch {number}, {items} images on {runtime} ({start}): predicted {predicted_s:.2} s, actual {actual_s:.2} s"
        ),
    })
}

impl Report {
    pub(super) fn add(&mut self, batch: Batch) {
        self.batches.push(batch);
    }

    /// Sums up.
    pub(super) fn finish(&self, runtimes: &[String]) -> Summary {
        let (mut warm, mut all) = (Accuracy::default(), Accuracy::default());
        for point in self.batches.iter().flat_map(Batch::points) {
            let (low, high) = point.interval_90;
            let interval = Interval { low, high };
            let part = Part {
                mean: point.predicted_s,
                p50: Interval::point(point.predicted_s),
                p90: interval,
                known: true,
                points: 1,
            };
            all.observe(&part, point.actual_s);
            if !point.cold {
                warm.observe(&part, point.actual_s);
            }
        }
        let items: u64 = self.batches.iter().map(|batch| batch.items).sum();
        let right: usize = self.batches.iter().map(|batch| batch.right).sum();
        let best = |batch: &Batch| {
            batch
                .everywhere_s
                .values()
                .copied()
                .fold(f64::INFINITY, f64::min)
        };
        let fastest = self
            .batches
            .iter()
            .filter(|batch| batch.actual_s <= best(batch))
            .count();
        let always = |runtime: &String| {
            let times: Option<Vec<f64>> = self
                .batches
                .iter()
                .map(|batch| batch.everywhere_s.get(runtime).copied())
                .collect();
            times.map(|times| (runtime.clone(), times.iter().sum()))
        };
        Summary {
            batches: self.batches.len(),
            items,
            accuracy: right as f64 / (items as f64).max(1.0),
            pmae_warm: warm.pmae(),
            interval_90_held: all.coverage_p90(),
            predictions: self.batches.iter().flat_map(Batch::points).count(),
            selector_s: self.batches.iter().map(|batch| batch.actual_s).sum(),
            always_s: runtimes.iter().filter_map(always).collect(),
            best_s: self.batches.iter().map(best).sum(),
            success: fastest as f64 / (self.batches.len() as f64).max(1.0),
        }
    }

    /// Writes the plot and the summary.
    pub(super) fn write(&self, out: &Path, summary: &Summary) -> Result<(), Failed> {
        let points: Vec<Point> = self.batches.iter().flat_map(Batch::points).collect();
        let title = format!(
            "Predicted and actual response times: {} batches, {} images",
            summary.batches, summary.items
        );
        let put = |name: &str, text: String| {
            let path = out.join(name);
            std::fs::write(&path, text).map_err(|e| Failed::io(path.display(), &e))
        };
        put("predicted-actual.svg", plot::svg(&title, &points))?;
        let value = serde_json::json!({ "summary": summary, "batches": self.batches });
        put("summary.json", format!("{value:#}\n"))
    }
}

impl Summary {
    /// For people.
    pub(super) fn text(&self) -> String {
        let percent = |share: Option<f64>| {
            share.map_or_else(
                || "unknown".to_owned(),
                |share| format!("{:.1} %", share * 100.0),
            )
        };
        let always: Vec<String> = self
            .always_s
            .iter()
            .map(|(runtime, total)| format!("always {runtime} {total:.1} s"))
            .collect();
        format!(
            "5. Summary\n   \
             labels           {} of {} images right (generated scenes, not photographs)\n   \
             prediction       error of T_s over warm batches (PMAE) {}; 90 % intervals that held: {} of {} predictions\n   \
             response, sum    selector {:.1} s; {}; always the best {:.1} s\n   \
             choice           the fastest runtime in {} of the batches",
            percent(Some(self.accuracy)),
            self.items,
            percent(self.pmae_warm),
            percent(self.interval_90_held),
            self.predictions,
            self.selector_s,
            always.join(", "),
            self.best_s,
            percent(Some(self.success)),
        )
    }
}

/// Accuracy on the images that training set aside, where it did.
pub(super) fn validation(answer: &serde_json::Value) -> Option<String> {
    let find = |value: &serde_json::Value| value["validation"]["accuracy"].as_f64();
    let accuracy = find(answer).or_else(|| find(&answer["training"]))?;
    Some(format!("{:.1} % right", accuracy * 100.0))
}
