//! `stoic`: one binary, server and command line.

use std::process::ExitCode;

fn main() -> ExitCode {
    stoic_gateway::cli::main()
}
