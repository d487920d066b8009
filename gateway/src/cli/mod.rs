//! The command line: `up` runs a gateway, everything else talks to one over its own HTTP.

mod up;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Functions at the edge or in the cloud, wherever they finish first.
#[derive(Debug, Parser)]
#[command(name = "stoic", version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a gateway: HTTP front, embedded object stores, sites `edge` and `cloud`
    Up(up::Up),
}

/// Exit status for input that is wrong.
const BAD_INPUT: u8 = 2;

/// Runs the command line. Wrong input is one line on standard error and exit status 2.
#[must_use]
pub fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Up(up) => up.run(),
    }
}
