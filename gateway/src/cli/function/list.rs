//! `stoic function list`.

use crate::cli::client::{Client, Gateway};
use crate::cli::failed::Failed;
use crate::cli::output::{Printing, table};
use crate::cli::quantity::age;
use crate::function::Input;
use crate::http::FunctionView;
use crate::runnable::Bootstrap;
use crate::scheduler::unix_now;
use clap::Args;

/// Options of `stoic function list`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  stoic function list\n  stoic function list -o json")]
pub(in crate::cli) struct List {
    #[command(flatten)]
    gateway: Gateway,
    #[command(flatten)]
    printing: Printing,
}

impl List {
    pub(in crate::cli) async fn run(self) -> Result<(), Failed> {
        let functions = Client::new(&self.gateway)?.functions().await?;
        self.printing.print(&functions, |all| rows(all))
    }
}

fn rows(functions: &[FunctionView]) -> String {
    let row = |view: &FunctionView| {
        let status = &view.status;
        vec![
            view.object.metadata.name.clone(),
            input(view.object.spec.input).to_owned(),
            format!("{}/{}", status.ready, status.pods),
            bootstrap(&status.bootstrap),
            status.model.clone().unwrap_or_else(|| "-".to_owned()),
            status.version.clone(),
            age(unix_now() - status.created),
        ]
    };
    table(
        &[
            "NAME",
            "INPUT",
            "READY>",
            "BOOTSTRAP",
            "MODEL",
            "VERSION",
            "AGE>",
        ],
        functions.iter().map(row),
    )
}

pub(super) fn input(input: Input) -> &'static str {
    match input {
        Input::Batch => "batch",
        Input::Request => "request",
    }
}

/// How far the bootstrap is, in a few words.
pub(super) fn bootstrap(bootstrap: &Bootstrap) -> String {
    if bootstrap.state == "running" {
        format!("running {}/{}", bootstrap.done, bootstrap.total)
    } else {
        bootstrap.state.clone()
    }
}
