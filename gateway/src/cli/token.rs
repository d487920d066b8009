//! `stoic token`: over a gateway's HTTP, or in its data folder, for the first one.

use super::client::{Client, Gateway};
use super::failed::Failed;
use super::output::{Printing, complain, table};
use crate::auth::{Audit, Change, NewToken, OFFLINE, Rate, Scope, Scopes, TokenView};
use crate::history::History;
use crate::scheduler::unix_now;
use clap::{Args, Subcommand};
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// The verbs of `stoic token`.
#[derive(Debug, Subcommand)]
pub(super) enum Token {
    /// Make a token: it is printed once, and kept as a hash
    Create(Create),
    /// List the tokens: names, scopes, limits
    #[command(visible_alias = "ls")]
    List(List),
    /// Revoke a token, at once
    #[command(visible_aliases = ["rm", "delete"])]
    Revoke(Revoke),
}

/// Options of `stoic token create`.
#[derive(Debug, Args)]
#[command(
    long_about = "Make a token. It is printed once and kept as a hash. As soon as there is one, every request to the \
        gateway needs one: the first should have scope admin. Where no gateway runs yet, or none lets you in, --data \
        makes it in the data folder.",
    after_help = "Examples:\n  \
        stoic token create --name me --scope admin --out ~/.stoic-token\n  \
        stoic token create --name cameras --scope invoke --expires 30d --rate 10/s\n  \
        stoic token create --data /var/lib/stoic --name me --scope admin"
)]
pub(super) struct Create {
    /// Name: letters, digits, `.`, `_` and `-`
    #[arg(long)]
    name: String,
    /// What it may do: invoke, deploy, admin; several with commas between
    #[arg(long, value_name = "SCOPE", required = true)]
    scope: Scopes,
    /// Time after which it is no good any more, as `30d` [default: never]
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    expires: Option<Duration>,
    /// Most requests in a second, minute or hour, as `10/s` [default: any]
    #[arg(long, value_name = "RATE")]
    rate: Option<Rate>,
    /// File that the token is written to, for you alone to read, instead of standard output
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    place: Place,
}

/// Options of `stoic token list`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  stoic token list\n  stoic token list -o json")]
pub(super) struct List {
    #[command(flatten)]
    place: Place,
}

/// Options of `stoic token revoke`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  stoic token revoke cameras")]
pub(super) struct Revoke {
    /// The token
    name: String,
    #[command(flatten)]
    place: Place,
}

/// Where the tokens are.
#[derive(Debug, Args)]
struct Place {
    /// The gateway's data folder: change it there, and not over HTTP. A gateway that runs on it notices
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    #[command(flatten)]
    gateway: Gateway,
    #[command(flatten)]
    printing: Printing,
}

impl Token {
    pub(super) async fn run(self) -> Result<(), Failed> {
        match self {
            Self::Create(command) => command.run().await,
            Self::List(command) => {
                let all = command.place.tokens().await?;
                command.place.printing.print(&all, |all| shown(all))
            }
            Self::Revoke(command) => command.run().await,
        }
    }
}

impl Place {
    async fn tokens(&self) -> Result<Vec<TokenView>, Failed> {
        match &self.data {
            None => Client::new(&self.gateway)?.tokens().await,
            Some(data) => {
                let all = opened(data)?.tokens().await.map_err(|e| said(data, &e))?;
                Ok(all.iter().map(TokenView::of).collect())
            }
        }
    }
}

impl Create {
    async fn run(self) -> Result<(), Failed> {
        let new = NewToken {
            name: self.name,
            scopes: self.scope,
            lifetime_s: self.expires.map(|time| time.as_secs_f64()),
            rate: self.rate,
        };
        // Before there is a token that nobody has.
        let mut out = match &self.out {
            None => None,
            Some(path) => {
                let opened = OpenOptions::new()
                    .write(true)
                    .create_new(true)
                    .mode(0o600)
                    .open(path);
                Some(opened.map_err(|e| Failed::Input(format!("--out {}: {e}", path.display())))?)
            }
        };
        let made = match &self.place.data {
            None => Client::new(&self.place.gateway)?.create_token(&new).await,
            Some(data) => create_in(data, new).await,
        };
        let mut view = made.inspect_err(|_| {
            if let Some(path) = &self.out {
                let _ = std::fs::remove_file(path);
            }
        })?;
        // Who may not ask any more has no token of scope admin.
        let others = self.place.tokens().await.unwrap_or_default();
        if !view.scopes.has(Scope::Admin)
            && !others.iter().any(|token| token.scopes.has(Scope::Admin))
        {
            complain(
                "requests need a token from now on, and none has scope admin yet: make one with --data",
            );
        }
        if let Some(file) = &mut out {
            let text = view.token.take().unwrap_or_default();
            writeln!(file, "{text}").map_err(|e| Failed::io("--out", &e))?;
        }
        self.place.printing.print(&view, |view| match &view.token {
            Some(text) => text.clone(),
            None => format!("token {} is made", view.name),
        })
    }
}

impl Revoke {
    async fn run(self) -> Result<(), Failed> {
        let name = &self.name;
        match &self.place.data {
            None => Client::new(&self.place.gateway)?.revoke_token(name).await?,
            Some(data) => {
                let history = opened(data)?;
                if !history
                    .delete_token(name)
                    .await
                    .map_err(|e| said(data, &e))?
                {
                    return Err(Failed::Input(format!("there is no token `{name}`")));
                }
                note(data, format!("stoic token revoke {name}"));
            }
        }
        let revoked = serde_json::json!({ "revoked": name });
        self.place
            .printing
            .print(&revoked, |_| format!("token {name} is revoked"))
    }
}

/// Makes a token in a data folder.
async fn create_in(data: &Path, new: NewToken) -> Result<TokenView, Failed> {
    std::fs::create_dir_all(data).map_err(|e| Failed::io(data.display(), &e))?;
    let history = opened(data)?;
    let (record, secret) = new.make(unix_now()).map_err(Failed::Input)?;
    let mut view = TokenView::of(&record);
    if !history
        .put_token(record)
        .await
        .map_err(|e| said(data, &e))?
    {
        return Err(Failed::Input(format!(
            "there is a token `{}`; revoke it first, or choose another name",
            view.name
        )));
    }
    note(data, format!("stoic token create {}", view.name));
    view.token = Some(secret.text().to_owned());
    Ok(view)
}

fn opened(data: &Path) -> Result<History, Failed> {
    if !data.is_dir() {
        return Err(Failed::Input(format!(
            "--data {}: there is no such folder",
            data.display()
        )));
    }
    History::open(&data.join("stoic.db")).map_err(|e| said(data, &e))
}

fn said(data: &Path, error: &crate::history::HistoryError) -> Failed {
    Failed::Machine(format!("--data {}: {error}", data.display()))
}

fn note(data: &Path, what: String) {
    Audit::new(data).note(&Change::new(unix_now(), OFFLINE, what, 200));
}

fn shown(all: &[TokenView]) -> String {
    let never = || "never".to_owned();
    let rows = all.iter().map(|token| {
        vec![
            token.name.clone(),
            token.scopes.text(),
            time(token.created),
            token.expires.map_or_else(never, time),
            token
                .rate
                .map_or_else(|| "any".to_owned(), |rate| rate.to_string()),
        ]
    });
    table(&["NAME", "SCOPES", "CREATED", "EXPIRES", "RATE"], rows)
}

fn time(seconds: f64) -> String {
    let at = SystemTime::UNIX_EPOCH + Duration::from_secs_f64(seconds.clamp(0.0, 2e11));
    humantime::format_rfc3339_seconds(at).to_string()
}
