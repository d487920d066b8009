//! `stoic calls`: what became of calls that nobody waits for.

use super::call::Destination;
use super::client::{Client, Gateway};
use super::failed::Failed;
use super::output::{Printing, complain, table};
use super::quantity::{age, size};
use crate::calls::{CallState, CallView};
use crate::scheduler::unix_now;
use clap::{Args, Subcommand};
use std::path::PathBuf;
use std::time::Duration;

/// Between two looks at a call that is waited for, at first and at most.
const FIRST_LOOK: Duration = Duration::from_millis(50);
const LAST_LOOK: Duration = Duration::from_secs(2);

/// `stoic calls`.
#[derive(Debug, Subcommand)]
pub(super) enum Calls {
    /// List calls, the newest first
    #[command(
        visible_alias = "ls",
        after_help = "Examples:\n  stoic calls list\n  stoic calls list --state dead -o json"
    )]
    List(List),
    /// Show a call: its state, and every attempt with where it ran and why it failed
    #[command(after_help = "Examples:\n  stoic calls get 01m86nkb25jgf10tt3g8cwp6b4")]
    Get(One),
    /// Wait until a call has ended, then write its result
    #[command(
        after_help = "Examples:\n  stoic calls wait 01m86nkb25jgf10tt3g8cwp6b4 --output labels.json"
    )]
    Wait(Fetch),
    /// Write the result of a call that has ended
    #[command(
        after_help = "Examples:\n  stoic calls result 01m86nkb25jgf10tt3g8cwp6b4 > labels.json"
    )]
    Result(Fetch),
    /// Cancel a call that has not ended; what runs of it ends
    #[command(after_help = "Examples:\n  stoic calls cancel 01m86nkb25jgf10tt3g8cwp6b4")]
    Cancel(One),
    /// Run a dead or failed call again
    #[command(after_help = "Examples:\n  stoic calls retry 01m86nkb25jgf10tt3g8cwp6b4")]
    Retry(One),
}

/// Options of `stoic calls list`.
#[derive(Debug, Args)]
pub(super) struct List {
    /// Only those of this function
    #[arg(short, long, value_name = "NAME")]
    function: Option<String>,
    /// Only those in this state: queued, running, succeeded, failed, dead, cancelled, expired
    #[arg(short, long, value_name = "STATE")]
    state: Option<String>,
    /// So many
    #[arg(short = 'n', long, value_name = "N", default_value_t = 20)]
    limit: u32,
    #[command(flatten)]
    gateway: Gateway,
    #[command(flatten)]
    printing: Printing,
}

/// A call, shown.
#[derive(Debug, Args)]
pub(super) struct One {
    /// Its identity, as `X-Call-Id` had it
    id: String,
    #[command(flatten)]
    gateway: Gateway,
    #[command(flatten)]
    printing: Printing,
}

/// A call, and where its result goes.
#[derive(Debug, Args)]
pub(super) struct Fetch {
    /// Its identity, as `X-Call-Id` had it
    id: String,
    /// Where the result goes [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    gateway: Gateway,
}

impl Calls {
    pub(super) async fn run(self) -> Result<(), Failed> {
        match self {
            Self::List(list) => {
                let client = Client::new(&list.gateway)?;
                let found = client
                    .calls(list.function.as_deref(), list.state.as_deref(), list.limit)
                    .await?;
                list.printing.print(&found.calls, |calls| rows(calls))
            }
            Self::Get(one) => {
                let call = Client::new(&one.gateway)?.one_call(&one.id).await?;
                one.printing.print(&call, told)
            }
            Self::Cancel(one) => {
                let call = Client::new(&one.gateway)?.cancel_call(&one.id).await?;
                one.printing.print(&call, told)
            }
            Self::Retry(one) => {
                let call = Client::new(&one.gateway)?.retry_call(&one.id).await?;
                one.printing.print(&call, told)
            }
            Self::Wait(fetch) => {
                let client = Client::new(&fetch.gateway)?;
                let mut pause = FIRST_LOOK;
                loop {
                    let call = client.one_call(&fetch.id).await?;
                    match call.state {
                        CallState::Queued | CallState::Running => {}
                        CallState::Succeeded => break,
                        _ => return Err(ended_otherwise(&call)),
                    }
                    tokio::time::sleep(pause).await;
                    pause = (pause * 3 / 2).min(LAST_LOOK);
                }
                fetch.write(&client).await
            }
            Self::Result(fetch) => {
                let client = Client::new(&fetch.gateway)?;
                fetch.write(&client).await
            }
        }
    }
}

impl Fetch {
    async fn write(&self, client: &Client) -> Result<(), Failed> {
        let destination = Destination::open(self.output.as_deref())?;
        let answer = client.call_result(&self.id).await?;
        let bytes = destination.write(answer).await?;
        if let Some(path) = &self.output {
            complain(&format!("result: {} ({})", path.display(), size(bytes)));
        }
        Ok(())
    }
}

fn ended_otherwise(call: &CallView) -> Failed {
    let why = call.attempts.last().map_or_else(String::new, |attempt| {
        let times = call.attempts.len();
        format!(
            " after {times} attempts, the last of which said: {}",
            attempt.reason
        )
    });
    Failed::Answer {
        status: call.status.unwrap_or(500),
        text: format!("call {} is {}{why}", call.id, call.state.name()),
    }
}

fn rows(calls: &[CallView]) -> String {
    let now = unix_now();
    let row = |call: &CallView| {
        let last = call.attempts.last();
        let dash = || "-".to_owned();
        vec![
            call.id.clone(),
            call.function.clone(),
            call.state.name().to_owned(),
            age(now - call.created),
            call.attempted.to_string(),
            last.and_then(|a| a.runtime.clone()).unwrap_or_else(dash),
            call.status.map_or_else(dash, |status| status.to_string()),
            size(call.body_bytes),
            call.result_bytes.map_or_else(dash, size),
        ]
    };
    table(
        &[
            "ID",
            "FUNCTION",
            "STATE",
            "AGE>",
            "ATTEMPTS>",
            "RUNTIME",
            "STATUS>",
            "BODY>",
            "RESULT>",
        ],
        calls.iter().map(row),
    )
}

/// One call with its attempts.
fn told(call: &CallView) -> String {
    let mut text = rows(std::slice::from_ref(call));
    for (number, attempt) in call.attempts.iter().enumerate() {
        let place = attempt.runtime.as_deref().unwrap_or("nowhere");
        text += &format!(
            "\nattempt {}: {} on {place} in {:.3} s",
            number + 1,
            attempt.reason,
            attempt.seconds
        );
    }
    if let Some(callback) = &call.callback {
        text += &format!("\ncallback {}: {}", callback.url, callback.state);
        if let Some(error) = &callback.error {
            text += &format!(" ({error})");
        }
    }
    text
}
