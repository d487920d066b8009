//! `stoic secret`.

use super::client::{Client, Gateway};
use super::failed::Failed;
use super::output::{Printing, table};
use clap::{Args, Subcommand};
use std::path::PathBuf;
use tokio::io::AsyncReadExt;

/// Largest secret that the gateway keeps.
const LARGEST: u64 = 1 << 20;

/// The verbs of `stoic secret`.
#[derive(Debug, Subcommand)]
pub(super) enum Secret {
    /// Keep a secret that functions may name
    Create(Create),
    /// List the names of the secrets
    #[command(visible_alias = "ls")]
    List(List),
    /// Forget a secret
    #[command(visible_aliases = ["rm", "delete"])]
    Remove(Remove),
}

/// Options of `stoic secret create`.
#[derive(Debug, Args)]
#[command(
    long_about = "Keep a secret, a file that pods of the functions that name it find. Read from standard input \
        unless --from-file says otherwise; never shown again.",
    after_help = "Examples:\n  \
        stoic secret create token --from-file token.txt\n  \
        printf %s \"$TOKEN\" | stoic secret create token --replace"
)]
pub(super) struct Create {
    /// Name: letters, digits, `.`, `_` and `-`
    name: String,
    /// The file that it is read from
    #[arg(long, value_name = "FILE")]
    from_file: Option<PathBuf>,
    /// Put it in place of one of that name; pods that run keep what they have
    #[arg(long)]
    replace: bool,
    #[command(flatten)]
    gateway: Gateway,
    #[command(flatten)]
    printing: Printing,
}

/// Options of `stoic secret list`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  stoic secret list\n  stoic secret list -o json")]
pub(super) struct List {
    #[command(flatten)]
    gateway: Gateway,
    #[command(flatten)]
    printing: Printing,
}

/// Options of `stoic secret remove`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  stoic secret remove token")]
pub(super) struct Remove {
    /// The secret
    name: String,
    #[command(flatten)]
    gateway: Gateway,
    #[command(flatten)]
    printing: Printing,
}

impl Secret {
    pub(super) async fn run(self) -> Result<(), Failed> {
        match self {
            Self::Create(command) => command.run().await,
            Self::List(command) => {
                let all = Client::new(&command.gateway)?.secrets().await?;
                command.printing.print(&all, |all| {
                    table(
                        &["NAME"],
                        all.iter().map(|secret| vec![secret.name.clone()]),
                    )
                })
            }
            Self::Remove(command) => {
                Client::new(&command.gateway)?
                    .remove_secret(&command.name)
                    .await?;
                let removed = serde_json::json!({ "removed": &command.name });
                command
                    .printing
                    .print(&removed, |_| format!("secret {} is removed", command.name))
            }
        }
    }
}

impl Create {
    async fn run(self) -> Result<(), Failed> {
        let mut bytes = Vec::new();
        let (read, from) = match &self.from_file {
            None => {
                let mut input = tokio::io::stdin().take(LARGEST + 1);
                (
                    input.read_to_end(&mut bytes).await,
                    "standard input".to_owned(),
                )
            }
            Some(file) => {
                let from = file.display().to_string();
                let read = async {
                    let file = tokio::fs::File::open(file).await?;
                    file.take(LARGEST + 1).read_to_end(&mut bytes).await
                };
                (read.await, from)
            }
        };
        read.map_err(|e| Failed::Input(format!("cannot read {from}: {e}")))?;
        if bytes.len() as u64 > LARGEST {
            return Err(Failed::Input(format!("{from} is over 1 MiB: no secret is")));
        }
        let client = Client::new(&self.gateway)?;
        let kept = client.put_secret(&self.name, bytes, self.replace).await?;
        self.printing
            .print(&kept, |kept| format!("secret {} is kept", kept.name))
    }
}
