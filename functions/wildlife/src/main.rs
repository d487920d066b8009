//! The pod's program: serves the function, or makes scenes.

use clap::{Parser, Subcommand};
use std::process::ExitCode;
use stoic_wildlife::{ScenesCommand, Wildlife};

/// "Where's The Bear": labels for camera-trap images. Without a command it serves the function on $PORT.
#[derive(Debug, Parser)]
#[command(name = "stoic-wildlife", version)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    Scenes(Box<ScenesCommand>),
}

fn main() -> ExitCode {
    let Some(Command::Scenes(scenes)) = Arguments::parse().command else {
        stoic_runtime::prepare();
        return stoic_sdk::serve::<Wildlife>();
    };
    match scenes.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("stoic-wildlife: {error:#}");
            ExitCode::FAILURE
        }
    }
}
