//! `stoic crd`.

use super::failed::Failed;
use super::output::say;
use crate::controller;
use clap::Args;
use std::process::ExitCode;

/// Options of `stoic crd`.
#[derive(Debug, Args)]
#[command(
    long_about = "Print the definition of the Kubernetes resource functions.stoic.dev, as the cluster has \
        to know it before functions can be applied there.",
    after_help = "Examples:\n  stoic crd | kubectl apply --server-side -f -"
)]
pub(super) struct Crd {}

impl Crd {
    pub(super) fn run(self) -> ExitCode {
        let printed = controller::yaml(&controller::definition())
            .map_err(|error| Failed::Machine(error.to_string()))
            .and_then(|text| say(&text));
        match printed {
            Ok(()) => ExitCode::SUCCESS,
            Err(failed) => failed.report(),
        }
    }
}
