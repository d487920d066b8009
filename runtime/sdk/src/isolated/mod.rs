//! Isolation of invocations: each runs in a fresh child process, of which nothing is left for the next.
//!
//! A pod is then three kinds of processes. The **holder**, which the site started, has loaded the function
//! on its only thread; it forks, waits for its children, and passes on what it is told to stop by. The
//! **front**, its first child, serves HTTP as any pod does, but runs no invocation. For each of them the
//! holder forks a **child**, which serves a single connection, from the front, and ends with it. When the
//! holder dies the kernel ends the others.

mod front;
mod holder;

pub(crate) use front::{Front, forward};
pub(crate) use holder::{Held, hold};

use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use stoic_protocol::Problem;

/// What the front asks of the holder.
#[derive(Debug, Serialize, Deserialize)]
enum Ask {
    /// Fork a child that serves the connection which comes with this.
    Child {
        /// Told with the answer.
        number: u64,
    },
    /// End a child that was told to, and did not.
    Kill {
        /// Its process.
        pid: u32,
    },
    /// Take a model into use: children from now on have it.
    Model {
        /// Its version.
        version: String,
        /// Its file.
        path: PathBuf,
    },
}

/// What the holder tells the front.
#[derive(Debug, Serialize, Deserialize)]
enum Tell {
    /// A child runs, or why it does not.
    Child {
        /// Which was asked for.
        number: u64,
        /// Its process.
        pid: Result<u32, String>,
    },
    /// A child is gone.
    Ended {
        /// Its process.
        pid: u32,
        /// How it ended.
        how: String,
    },
    /// The model is in use, or why not.
    Model {
        /// Why not.
        problem: Option<Problem>,
    },
}
