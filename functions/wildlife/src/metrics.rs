//! How well labels agree with the truth: accuracy, per-class precision, recall and F1, and the
//! confusion matrix. Plain counting.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Agreement of predictions with the truth.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Metrics {
    /// Images judged.
    pub images: u64,
    /// Share that was right.
    pub accuracy: f64,
    /// Mean of the classes' recall, for classes that occur: what accuracy would be if all were equally
    /// frequent.
    pub balanced_accuracy: f64,
    /// Per class.
    pub per_class: BTreeMap<String, ClassMetrics>,
    /// `confusion[truth][label]`: images of class `truth` that were labelled `label`, in the order of
    /// the model's classes.
    pub confusion: Vec<Vec<u64>>,
}

/// Agreement for one class. Shares whose denominator is zero are absent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClassMetrics {
    /// Images of this class.
    pub support: u64,
    /// Of those labelled so, the share that is so.
    pub precision: Option<f64>,
    /// Of those that are so, the share labelled so.
    pub recall: Option<f64>,
    /// Harmonic mean of both.
    pub f1: Option<f64>,
}

impl Metrics {
    /// Counts pairs of (truth, label), both indices into `classes`; pairs outside are ignored.
    #[must_use]
    pub fn of(classes: &[String], pairs: &[(usize, usize)]) -> Self {
        let n = classes.len();
        let mut confusion = vec![vec![0u64; n]; n];
        for &(truth, label) in pairs.iter().filter(|(t, l)| *t < n && *l < n) {
            confusion[truth][label] += 1;
        }
        let share = |part: u64, whole: u64| (whole > 0).then(|| part as f64 / whole as f64);
        let images: u64 = confusion.iter().flatten().sum();
        let right: u64 = (0..n).map(|i| confusion[i][i]).sum();
        let per_class: BTreeMap<String, ClassMetrics> = classes
            .iter()
            .enumerate()
            .map(|(i, class)| {
                let support = confusion[i].iter().sum();
                let precision = share(confusion[i][i], confusion.iter().map(|row| row[i]).sum());
                let recall = share(confusion[i][i], support);
                let f1 = match (precision, recall) {
                    (Some(p), Some(r)) if p + r > 0.0 => Some(2.0 * p * r / (p + r)),
                    (Some(_), Some(_)) => Some(0.0),
                    _ => None,
                };
                (
                    class.clone(),
                    ClassMetrics {
                        support,
                        precision,
                        recall,
                        f1,
                    },
                )
            })
            .collect();
        let recalls: Vec<f64> = per_class.values().filter_map(|m| m.recall).collect();
        Self {
            images,
            accuracy: share(right, images).unwrap_or(0.0),
            balanced_accuracy: recalls.iter().sum::<f64>() / recalls.len().max(1) as f64,
            per_class,
            confusion,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_agreement() {
        let classes = ["bird", "fox", "rodent"].map(str::to_owned);
        let m = Metrics::of(&classes, &[(0, 0), (0, 0), (0, 1), (1, 1), (9, 0)]);
        assert_eq!(m.images, 4);
        assert_eq!(m.confusion, [[2, 1, 0], [0, 1, 0], [0, 0, 0]]);
        assert!((m.accuracy - 0.75).abs() < 1e-9);
        assert!((m.balanced_accuracy - (2.0 / 3.0 + 1.0) / 2.0).abs() < 1e-9);
        let fox = &m.per_class["fox"];
        assert_eq!((fox.precision, fox.recall), (Some(0.5), Some(1.0)));
        assert!((fox.f1.unwrap() - 2.0 / 3.0).abs() < 1e-9);
        assert_eq!(m.per_class["rodent"].recall, None);
    }
}
