//! Logged invocations: how many items ran where, what each part of the response time took, and what had been predicted.

use std::path::{Path, PathBuf};

use super::table::{Columns, Row, Table};
use super::{LogError, Names};

const COLUMNS: Columns = Columns {
    of: "runs",
    required: &[
        "epoch",
        "image_num",
        "runtime",
        "act_total",
        "act_transfer",
        "act_deploy",
        "act_proc",
    ],
    optional: &[
        "pred_total",
        "pred_transfer",
        "pred_deploy",
        "pred_proc",
        "file",
    ],
};

/// The parts of a response time (paper, section 3.4), in seconds.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Parts {
    /// T_t: moving the batch to the site.
    pub transfer: f64,
    /// T_d: bringing up a pod.
    pub deployment: f64,
    /// T_p: running the function.
    pub processing: f64,
}

impl Parts {
    /// T_s, the sum of the parts.
    #[must_use]
    pub fn total(&self) -> f64 {
        self.transfer + self.deployment + self.processing
    }
}

/// One logged invocation.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    /// Its line in the file, from 1.
    pub line: u64,
    /// When it was logged, which is when it ended: seconds since 1970.
    pub epoch: f64,
    /// Images in the batch.
    pub items: f64,
    /// The runtime, as a number of [`Runs::runtimes`].
    pub runtime: usize,
    /// What it took.
    pub actual: Parts,
    /// `act_total` as it was logged. Read [`Runs::totals`] before using it.
    pub logged_total: f64,
    /// What the system that wrote the log had predicted, where it says so. In a batch that ran on several runtimes
    /// this belongs to the runtime that had been chosen, which need not be this row's.
    pub predicted: Option<Parts>,
    /// The log file it came from, as a number of [`Runs::files`].
    pub file: Option<usize>,
}

/// How the logged totals compare with their parts, in rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// `act_total` is deployment and processing; transfer, which is not zero, is left out (the authors' logs before
    /// March 2020).
    pub without_transfer: usize,
    /// `act_total` is the sum of all three.
    pub with_transfer: usize,
    /// Neither, by more than 0.1 s and 0.1 %.
    pub neither: usize,
}

/// A log of invocations in the order of time.
#[derive(Debug, Clone)]
pub struct Runs {
    /// The file it was read from.
    pub path: PathBuf,
    /// The invocations.
    pub rows: Vec<Run>,
    /// Names of the runtimes, in the order of their first appearance.
    pub runtimes: Names,
    /// Names of the log files behind it.
    pub files: Names,
    /// How `act_total` was reckoned. Nothing here is computed from it: T_s is the sum of the parts, predicted and
    /// actual alike.
    pub totals: Totals,
    /// Columns that are of no use here.
    pub ignored: Vec<String>,
}

impl Runs {
    /// Reads a log.
    ///
    /// # Errors
    /// With file and line for what is no such log: a column missing or misspelt, a field that is no number, negative
    /// or empty, an epoch before the one above it, no row at all.
    pub fn read(path: &Path) -> Result<Self, LogError> {
        Self::of(path, &Table::read(path, COLUMNS)?)
    }

    /// Reads a log from the text of a file; `path` is for messages.
    ///
    /// # Errors
    /// As [`Runs::read`].
    pub fn parse(path: &Path, text: &[u8]) -> Result<Self, LogError> {
        Self::of(path, &Table::parse(path, text, COLUMNS)?)
    }

    /// A log that was not read: rows of a simulation or of measurements just made, in the order of time. `path` is
    /// for messages.
    #[must_use]
    pub fn of_rows(path: PathBuf, rows: Vec<Run>, runtimes: Names) -> Self {
        let mut totals = Totals::default();
        rows.iter().for_each(|run| totals.count(run));
        Self {
            path,
            rows,
            runtimes,
            files: Names::default(),
            totals,
            ignored: Vec::new(),
        }
    }

    fn of(path: &Path, table: &Table) -> Result<Self, LogError> {
        let mut runs = Self {
            path: path.to_owned(),
            rows: Vec::with_capacity(table.rows().len()),
            runtimes: Names::default(),
            files: Names::default(),
            totals: Totals::default(),
            ignored: table.ignored().to_vec(),
        };
        let with_file = table.has("file");
        for row in table.rows() {
            let run = Run {
                line: row.line,
                epoch: row.number("epoch")?,
                items: row.count("image_num")?,
                runtime: runs.runtimes.number(row.name("runtime")?),
                actual: Parts {
                    transfer: row.number("act_transfer")?,
                    deployment: row.number("act_deploy")?,
                    processing: row.number("act_proc")?,
                },
                logged_total: row.number("act_total")?,
                predicted: predicted(&row)?,
                file: with_file.then(|| runs.files.number(row.text("file"))),
            };
            if let Some(before) = runs.rows.last()
                && run.epoch < before.epoch
            {
                return Err(row.wrong(format!(
                    "epoch {} comes after {} of line {}; rows must be in the order of time",
                    run.epoch, before.epoch, before.line
                )));
            }
            runs.totals.count(&run);
            runs.rows.push(run);
        }
        Ok(runs)
    }
}

/// The logged prediction. Empty fields are none; a whole one needs deployment and processing.
fn predicted(row: &Row<'_>) -> Result<Option<Parts>, LogError> {
    row.maybe("pred_total")?;
    let transfer = row.maybe("pred_transfer")?;
    let (deployment, processing) = (row.maybe("pred_deploy")?, row.maybe("pred_proc")?);
    Ok(deployment
        .zip(processing)
        .map(|(deployment, processing)| Parts {
            transfer: transfer.unwrap_or(0.0),
            deployment,
            processing,
        }))
}

impl Totals {
    fn count(&mut self, run: &Run) {
        let near = |sum: f64| (run.logged_total - sum).abs() <= 0.1_f64.max(0.001 * sum);
        let whole = run.actual.total();
        // Where transfer is next to nothing, both hold.
        if near(whole - run.actual.transfer) && !near(whole) {
            self.without_transfer += 1;
        } else if near(whole) {
            self.with_transfer += 1;
        } else {
            self.neither += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADING: &str = "epoch,image_num,runtime,act_total,act_transfer,act_deploy,act_proc";

    fn parse(heading: &str, rows: &str) -> Result<Runs, LogError> {
        Runs::parse(Path::new("r.csv"), format!("{heading}\n{rows}").as_bytes())
    }

    #[test]
    fn without_predictions_and_file_and_with_names_of_any_kind() {
        let runs = parse(HEADING, "1,33,tpu-v5 (eu),9,1,2,6\n1.5,4,nuc,6,0,0,6\n").expect("reads");
        assert_eq!(runs.runtimes.all(), ["tpu-v5 (eu)", "nuc"]);
        assert_eq!(runs.rows[0].actual.total(), 9.0);
        assert!(
            runs.rows
                .iter()
                .all(|r| r.predicted.is_none() && r.file.is_none())
        );
        assert_eq!(runs.totals.with_transfer, 2);
    }

    #[test]
    fn totals_without_transfer_are_told_apart() {
        let runs = parse(HEADING, "1,3,a,8,1,2,6\n2,3,a,9,1,2,6\n3,3,a,5,1,2,6\n").expect("reads");
        assert_eq!(
            runs.totals,
            Totals {
                without_transfer: 1,
                with_transfer: 1,
                neither: 1
            }
        );
    }

    #[test]
    fn an_epoch_that_goes_back_and_bad_fields_are_errors_with_their_line() {
        for (rows, says) in [
            (
                "2,3,a,9,1,2,6\n1,3,a,9,1,2,6\n",
                "r.csv:3: epoch 1 comes after 2",
            ),
            ("2,3,a,9,1,-2,6\n", "r.csv:2: act_deploy is -2"),
            ("2,3,a,9,NaN,2,6\n", "r.csv:2: act_transfer is NaN"),
            ("2,3.5,a,9,1,2,6\n", "r.csv:2: image_num is 3.5"),
            ("2,3,,9,1,2,6\n", "r.csv:2: runtime is empty"),
            ("2,3,a,9,1,2,\n", "r.csv:2: act_proc is empty"),
        ] {
            let error = parse(HEADING, rows).expect_err(says).to_string();
            assert!(error.starts_with(says), "{error}");
        }
    }

    #[test]
    fn empty_predictions_are_none_and_wrong_ones_are_errors() {
        let heading = format!("{HEADING},pred_deploy,pred_proc,pred_transfer,pred_total");
        let runs = parse(&heading, "1,3,a,9,1,2,6,,,,\n2,3,a,9,1,2,6,2,5,,\n").expect("reads");
        assert_eq!(runs.rows[0].predicted, None);
        assert_eq!(runs.rows[1].predicted.map(|p| p.total()), Some(7.0));
        assert!(parse(&heading, "1,3,a,9,1,2,6,2,nan,1,8\n").is_err());
    }
}
