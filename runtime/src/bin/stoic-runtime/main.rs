//! Serves a model with no code: a TorchScript file, or the safetensors weights of a net that
//! `stoic-runtime` knows. Images in, the best classes out; or numbers in, numbers out.

mod images;
mod model;
mod numbers;
mod serving;
mod settings;

use clap::Parser;
use std::path::PathBuf;
use std::process::ExitCode;

/// Serves a TorchScript or safetensors model over HTTP on $PORT.
///
/// The model is the argument, or STOIC_MODEL (a path or URL). What it takes is described in a JSON file
/// of the same name beside it (model.pt, model.json): size, mean, scale, classes, top, shape.
#[derive(Debug, Parser)]
#[command(name = "stoic-runtime", version)]
struct Arguments {
    /// The model: TorchScript (.pt) or safetensors.
    model: Option<PathBuf>,
    /// The JSON file that describes it, where it does not stand beside it.
    #[arg(long)]
    settings: Option<PathBuf>,
    /// Names of the classes, one a line.
    #[arg(long)]
    classes: Option<PathBuf>,
}

fn main() -> ExitCode {
    Arguments::parse();
    stoic_runtime::prepare();
    stoic_sdk::serve::<serving::Served>()
}
