//! Logs of invocations, of deployments and of batch sizes, from CSV files with the columns of the authors' own.
//!
//! Raw text becomes valid values here: past this room every time is finite and not negative, and runs are in the order
//! of time.

mod deployments;
mod error;
mod runs;
mod sizes;
mod table;

pub use deployments::{Deployment, Deployments};
pub use error::LogError;
pub use runs::{Parts, Run, Runs, Totals};
pub use sizes::{hourly_activity, sizes, timestamps};

use std::collections::HashMap;

/// Names as small numbers, in the order of their first appearance.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names {
    names: Vec<String>,
    index: HashMap<String, usize>,
}

impl Names {
    /// The number of a name, new or known.
    pub fn number(&mut self, name: &str) -> usize {
        if let Some(&number) = self.index.get(name) {
            return number;
        }
        self.names.push(name.to_owned());
        self.index.insert(name.to_owned(), self.names.len() - 1);
        self.names.len() - 1
    }

    /// The name of a number that [`Names::number`] gave.
    #[must_use]
    pub fn name(&self, number: usize) -> &str {
        self.names.get(number).map_or("", String::as_str)
    }

    /// All names, in the order of their numbers.
    #[must_use]
    pub fn all(&self) -> &[String] {
        &self.names
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }
}
