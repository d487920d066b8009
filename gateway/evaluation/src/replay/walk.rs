//! One walk over a log in the order of time: every row is predicted from the rows before it, then learnt.

use std::ops::Range;

use stoic_placement::Estimate;

use super::batches::batches;
use super::method::{Method, Ours, Paper};
use crate::log::Runs;

/// What each method said of one thing in advance.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Predicted {
    /// The paper's method.
    pub paper: Estimate,
    /// Ours.
    pub ours: Estimate,
}

/// A batch that ran on more than one runtime, with what was predicted for each before the first of them ran.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// Its rows in the log.
    pub rows: Range<usize>,
    /// One prediction for each of the rows.
    pub predicted: Vec<Predicted>,
}

/// A log with its predictions.
#[derive(Debug, Clone)]
pub struct Walk {
    /// One for each row, made before the row was seen.
    pub rows: Vec<Predicted>,
    /// The batches that allow a comparison of runtimes.
    pub batches: Vec<Batch>,
}

/// Walks a log. Equal logs and seeds give equal predictions.
#[must_use]
pub fn walk(runs: &Runs, seed: u64) -> Walk {
    let (mut paper, mut ours) = (Paper::new(seed), Ours::new(seed));
    let mut rows = Vec::with_capacity(runs.rows.len());
    let mut compared = Vec::new();
    for range in batches(runs) {
        let predict = |paper: &Paper, ours: &Ours, row: usize| {
            let run = &runs.rows[row];
            Predicted {
                paper: paper.predict(run.runtime, run.items),
                ours: ours.predict(run.runtime, run.items),
            }
        };
        if range.len() > 1 {
            compared.push(Batch {
                rows: range.clone(),
                predicted: range
                    .clone()
                    .map(|row| predict(&paper, &ours, row))
                    .collect(),
            });
        }
        for row in range {
            rows.push(predict(&paper, &ours, row));
            let run = &runs.rows[row];
            paper.learn(run.runtime, run.items, run.epoch, &run.actual);
            ours.learn(run.runtime, run.items, run.epoch, &run.actual);
        }
    }
    Walk {
        rows,
        batches: compared,
    }
}
