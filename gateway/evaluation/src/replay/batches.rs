//! Which rows of a log are one batch run on several runtimes.
//!
//! The authors ran a batch on one runtime after the other and logged each run as it ended, so its rows stand together
//! with the same number of images and different runtimes. (In some of their logs a fifth row follows: the runtime that
//! had been chosen, run again. It begins a batch of its own here and, alone, is compared with nothing.)

use std::ops::Range;

use crate::log::Runs;

/// Longest time between the end of one run and the beginning of the next of the same batch, seconds.
pub const APART_S: f64 = 600.0;

/// The rows of each batch, as ranges over [`Runs::rows`], in order; a batch that ran on one runtime is a range of one.
#[must_use]
pub fn batches(runs: &Runs) -> Vec<Range<usize>> {
    let mut batches: Vec<Range<usize>> = Vec::new();
    for (index, row) in runs.rows.iter().enumerate() {
        let joins = |batch: &Range<usize>| {
            let before = &runs.rows[batch.end - 1];
            before.items == row.items
                && before.file == row.file
                && row.epoch - before.epoch <= row.actual.total() + APART_S
                && runs.rows[batch.clone()]
                    .iter()
                    .all(|other| other.runtime != row.runtime)
        };
        match batches.last_mut() {
            Some(last) if joins(last) => last.end = index + 1,
            _ => batches.push(index..index + 1),
        }
    }
    batches
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn of(rows: &str) -> Vec<Range<usize>> {
        let text = format!(
            "epoch,image_num,runtime,act_total,act_transfer,act_deploy,act_proc,file\n{rows}"
        );
        batches(&Runs::parse(Path::new("r.csv"), text.as_bytes()).expect("reads"))
    }

    #[test]
    fn a_batch_is_of_rows_that_stand_together_with_runtimes_that_differ() {
        let batches = of(
            "10,11,edge,9,0,0,9,a\n60,11,gpu1,9,1,2,6,a\n90,11,gpu2,9,1,2,6,a\n\
             120,11,edge,9,0,0,9,a\n150,11,edge,9,0,0,9,a\n200,11,gpu1,9,1,2,6,b\n230,12,edge,9,0,0,9,b\n",
        );
        assert_eq!(batches, [0..3, 3..4, 4..5, 5..6, 6..7]);
    }

    #[test]
    fn a_long_run_is_no_gap_but_a_long_wait_is() {
        let batches = of("10,500,a,9,0,0,9,\n4000,500,b,3900,1,9,3890,\n9000,500,c,9,1,2,6,\n");
        assert_eq!(batches, [0..2, 2..3]);
    }
}
