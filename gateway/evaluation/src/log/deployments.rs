//! Logged deployments of all runtimes, batch by batch.

use std::path::{Path, PathBuf};

use super::table::{Columns, Table};
use super::{LogError, Names};

const COLUMNS: Columns = Columns {
    of: "deployments",
    required: &["batch", "runtime", "act_deploy"],
    optional: &["image_num"],
};

/// One logged deployment.
#[derive(Debug, Clone, PartialEq)]
pub struct Deployment {
    /// Its line in the file, from 1.
    pub line: u64,
    /// The number of the batch it was made for.
    pub batch: f64,
    /// Images in that batch, where known.
    pub items: Option<f64>,
    /// The runtime, as a number of [`Deployments::runtimes`].
    pub runtime: usize,
    /// T_d, seconds.
    pub seconds: f64,
}

/// A log of deployments. It has no clock: the order of its rows is the order of time.
#[derive(Debug, Clone)]
pub struct Deployments {
    /// The file it was read from.
    pub path: PathBuf,
    /// The deployments.
    pub rows: Vec<Deployment>,
    /// Names of the runtimes, in the order of their first appearance.
    pub runtimes: Names,
    /// Columns that are of no use here.
    pub ignored: Vec<String>,
}

impl Deployments {
    /// Reads a log.
    ///
    /// # Errors
    /// With file and line, as [`super::Runs::read`].
    pub fn read(path: &Path) -> Result<Self, LogError> {
        Self::of(path, &Table::read(path, COLUMNS)?)
    }

    /// Reads a log from the text of a file; `path` is for messages.
    ///
    /// # Errors
    /// As [`Deployments::read`].
    pub fn parse(path: &Path, text: &[u8]) -> Result<Self, LogError> {
        Self::of(path, &Table::parse(path, text, COLUMNS)?)
    }

    fn of(path: &Path, table: &Table) -> Result<Self, LogError> {
        let mut runtimes = Names::default();
        let mut rows = Vec::with_capacity(table.rows().len());
        for row in table.rows() {
            rows.push(Deployment {
                line: row.line,
                batch: row.count("batch")?,
                items: row.maybe_count("image_num")?,
                runtime: runtimes.number(row.name("runtime")?),
                seconds: row.number("act_deploy")?,
            });
        }
        Ok(Self {
            path: path.to_owned(),
            rows,
            runtimes,
            ignored: table.ignored().to_vec(),
        })
    }

    /// The rows of each batch, as ranges. A batch is of rows that stand together; a runtime that comes again begins
    /// another.
    #[must_use]
    pub fn batches(&self) -> Vec<std::ops::Range<usize>> {
        let mut batches: Vec<std::ops::Range<usize>> = Vec::new();
        for (index, row) in self.rows.iter().enumerate() {
            match batches.last_mut() {
                Some(last)
                    if self.rows[last.start].batch == row.batch
                        && self.rows[last.clone()]
                            .iter()
                            .all(|other| other.runtime != row.runtime) =>
                {
                    last.end = index + 1;
                }
                _ => batches.push(index..index + 1),
            }
        }
        batches
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_may_be_unknown_and_batches_are_rows_that_stand_together() {
        let text = "act_deploy,batch,runtime,image_num\n0,1,edge,11\n5,1,gpu,11\n0,2,edge,\n7.5,2,gpu,\n6,2,gpu,\n1,1,edge,3.0\n";
        let log = Deployments::parse(Path::new("d.csv"), text.as_bytes()).expect("reads");
        assert_eq!(log.rows[2].items, None);
        assert_eq!(log.rows[5].items, Some(3.0));
        assert_eq!(log.batches(), [0..2, 2..4, 4..5, 5..6]);
        let error = Deployments::parse(Path::new("d.csv"), b"batch,runtime,act_deploy\n1,a,-3\n")
            .expect_err("negative");
        assert!(error.to_string().starts_with("d.csv:2: act_deploy is -3"));
    }
}
