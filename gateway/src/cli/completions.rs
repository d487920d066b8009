//! `stoic completions`.

use super::Arguments;
use super::output::say;
use clap::{Args, CommandFactory};
use clap_complete::{Shell, generate};
use std::process::ExitCode;

/// Options of `stoic completions`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    stoic completions bash > ~/.local/share/bash-completion/completions/stoic\n  \
    stoic completions zsh > ~/.zfunc/_stoic\n  \
    stoic completions fish > ~/.config/fish/completions/stoic.fish")]
pub(super) struct Completions {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

impl Completions {
    pub(super) fn run(self) -> ExitCode {
        let mut script = Vec::new();
        generate(self.shell, &mut Arguments::command(), "stoic", &mut script);
        match say(&String::from_utf8_lossy(&script)) {
            Ok(()) => ExitCode::SUCCESS,
            Err(failed) => failed.report(),
        }
    }
}
