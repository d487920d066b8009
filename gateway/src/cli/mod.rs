//! The command line: `up` runs a gateway, everything else talks to one over its own HTTP.
//!
//! One file or folder per command. `client` is the gateway's HTTP as an asynchronous client; `failed`
//! says how commands fail, `output` how they print.

mod account;
mod bench;
mod call;
mod calls;
mod client;
mod completions;
mod crd;
mod demo;
mod evaluate;
mod failed;
mod function;
mod measurements;
mod migrate;
mod models;
mod output;
mod pods;
mod predict;
mod quantity;
mod runtimes;
mod secret;
mod token;
mod up;
mod watch;
mod workload;

use clap::error::ErrorKind;
use clap::{Parser, Subcommand};
use failed::{BAD_INPUT, Failed};
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};

/// Functions at the edge or in the cloud, wherever they finish first.
#[derive(Debug, Parser)]
#[command(
    name = "stoic",
    version,
    about,
    after_help = "Every command but `up` talks to a gateway: http://127.0.0.1:8080 unless --gateway or \
        STOIC_GATEWAY says otherwise.\nA gateway that asks for a token gets the one of --token-file or STOIC_TOKEN.\nExit status: 0 done, 1 failed, 2 wrong input, 130 interrupted."
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a gateway: HTTP front, embedded object stores, sites `edge` and `cloud`
    Up(up::Up),
    /// The main job on this machine: train, then place batches at the edge or in the emulated cloud
    Demo(demo::Demo),
    /// Deploy, list, describe, call and delete functions
    #[command(subcommand, visible_alias = "fn")]
    Function(function::Function),
    /// Show how long a batch would take on each runtime, and which one would be chosen
    Predict(predict::Predict),
    /// List the pods
    #[command(visible_alias = "ps")]
    Pods(pods::Pods),
    /// Keep, list and remove the secrets of functions
    #[command(subcommand)]
    Secret(secret::Secret),
    /// Make, list and revoke the tokens that requests need
    #[command(subcommand)]
    Token(token::Token),
    /// List the runtimes, their sites and the links to them
    Runtimes(runtimes::Runtimes),
    /// List invocations as they were predicted and as they went
    Measurements(measurements::Measurements),
    /// Show what races between edge and cloud saved the cloud, and cost it
    Account(account::Account),
    /// List the published models of a function
    Models(models::Models),
    /// Watch a folder that cameras write to, and call a function with what arrives
    Watch(watch::Watch),
    /// Replay logs, simulate, or run every batch everywhere: what predictions and choices are worth
    #[command(subcommand)]
    Evaluate(evaluate::Evaluate),
    /// Measure what starts and calls take on this machine: cold against warm, by stage
    #[command(subcommand)]
    Bench(bench::Bench),
    /// Draw batches as the paper's cameras made them, and replay arrivals faster than real time
    #[command(subcommand)]
    Workload(workload::Workload),
    /// Asynchronous calls: list, show, wait for, cancel, run again
    #[command(subcommand)]
    Calls(calls::Calls),
    /// Carry functions of other gateways over to resources of ours
    #[command(subcommand)]
    Migrate(migrate::Migrate),
    /// Print the definition of the Kubernetes resource
    Crd(crd::Crd),
    /// Print a completion script for a shell
    Completions(completions::Completions),
}

/// Runs the command line. Wrong input is one line on standard error and exit status 2.
#[must_use]
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return misunderstood(&error),
    };
    match arguments.command {
        Command::Up(up) => up.run(),
        Command::Demo(command) => drive(command.run()),
        Command::Function(command) => drive(command.run()),
        Command::Predict(command) => drive(command.run()),
        Command::Pods(command) => drive(command.run()),
        Command::Secret(command) => drive(command.run()),
        Command::Token(command) => drive(command.run()),
        Command::Runtimes(command) => drive(command.run()),
        Command::Measurements(command) => drive(command.run()),
        Command::Account(command) => drive(command.run()),
        Command::Models(command) => drive(command.run()),
        Command::Watch(command) => drive(command.run()),
        Command::Evaluate(command) => drive(command.run()),
        Command::Bench(command) => settle(command.run()),
        Command::Workload(command) => drive(command.run()),
        Command::Calls(command) => drive(command.run()),
        Command::Migrate(command) => drive(command.run()),
        Command::Crd(command) => command.run(),
        Command::Completions(command) => command.run(),
    }
}

/// Shows the help that was asked for, or what is wrong with the arguments, in one line.
fn misunderstood(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() || error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        error.exit();
    }
    let text = error.to_string();
    let lines = text.lines().take_while(|line| {
        !line.starts_with("Usage:") && !line.starts_with("For more information")
    });
    let words: Vec<&str> = lines.flat_map(str::split_whitespace).collect();
    let line = words.join(" ");
    let line = line.strip_prefix("error: ").unwrap_or(&line).to_owned();
    Failed::Input(line).report()
}

/// Runs a command until it ends or a signal ends it. Ending drops its connections, which cancels what
/// they asked for.
fn drive(command: impl Future<Output = Result<(), Failed>>) -> ExitCode {
    settle(async {
        tokio::select! {
            // The command first: for a watch, an interruption is how it ends.
            biased;
            ended = command => ended,
            failed = interrupted() => Err(failed),
        }
    })
}

/// Runs a command until it ends, signals or not: it minds them itself.
fn settle(command: impl Future<Output = Result<(), Failed>>) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return Failed::io("cannot start", &error).report(),
    };
    let ended = runtime.block_on(command);
    // A read of standard input cannot be cancelled: it is left behind.
    runtime.shutdown_background();
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(failed) => failed.report(),
    }
}

/// Ends on SIGINT or SIGTERM.
async fn interrupted() -> Failed {
    let one = |kind: SignalKind, number: u8| async move {
        match signal(kind) {
            Ok(mut signals) => {
                signals.recv().await;
                Failed::Interrupted(number)
            }
            Err(error) => Failed::io("cannot await signals", &error),
        }
    };
    tokio::select! {
        failed = one(SignalKind::interrupt(), 2) => failed,
        failed = one(SignalKind::terminate(), 15) => failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn every_client_command_names_its_gateway() {
        fn check(command: &clap::Command, path: &str) {
            let inner: Vec<_> = command.get_subcommands().collect();
            // These talk to no gateway, write a folder, or copy lines as they are.
            let other = matches!(
                path,
                "stoic up"
                    | "stoic demo"
                    | "stoic crd"
                    | "stoic migrate kubeless"
                    | "stoic completions"
                    | "stoic function logs"
                    | "stoic evaluate replay"
                    | "stoic evaluate simulate"
                    | "stoic evaluate live"
                    | "stoic workload sizes"
                    | "stoic workload arrivals"
            );
            if inner.is_empty() && !matches!(path, "stoic up" | "stoic demo" | "stoic completions")
            {
                let known =
                    |long: &str| command.get_arguments().any(|a| a.get_long() == Some(long));
                assert!(other || (known("gateway") && known("output")), "{path}");
                assert!(known("gateway") == known("token-file"), "{path}");
                assert!(command.get_after_help().is_some(), "{path} has no examples");
            }
            for command in inner {
                check(command, &format!("{path} {}", command.get_name()));
            }
        }
        check(&Arguments::command(), "stoic");
    }
}
