//! `stoic function call`: the command, and the way of a batch that other commands share.

mod batch;
mod content_type;
mod destination;
mod pack;
mod progress;
mod source;
mod summary;

pub(super) use batch::{Carried, carry};
pub(super) use destination::Destination;
pub(super) use pack::{Entry, Packed, Stamp, list, pack};
pub(super) use progress::Progress;

use super::client::{Call, Client, Gateway, Payload, Unwaited, refusal};
use super::failed::Failed;
use super::output::{complain, say};
use super::quantity::{pair, size};
use crate::function::Input;
use clap::{Args, ValueEnum};
use http::{Method, header};
use source::Source;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use stoic_protocol::PROBLEM_MEDIA_TYPE;
use summary::Summary;

/// How the summary is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum SummaryFormat {
    /// For people
    Text,
    /// One line of JSON
    Json,
    /// Not at all
    None,
}

/// Options of `stoic function call`.
#[derive(Debug, Args)]
#[command(
    long_about = "Call a function and show where it ran, how long it took, and what was predicted.\n\n\
        Functions with `input: batch` take a package of items: a zip or tar, one image, or a folder, which \
        is packed on the way. Progress goes to standard error, the result to --output or standard output, \
        then a summary to standard error: where it ran, cold or warm, the parts of the response time as \
        predicted and as measured (T_q waiting for a busy pod, T_t moving the package to the site, T_d \
        waiting for a pod to be deployed, T_p processing, T_s their sum). What is emulated is called so.\n\n\
        Functions with `input: request` get the data as it is and their answer is printed; without --data \
        the request is a GET.\n\n\
        Interrupting the call ends the work.\n\n\
        With --async nobody waits: the call is accepted when it is on the gateway's disk, its identity is \
        printed, and `stoic calls` tells what becomes of it.",
    after_help = "Examples:\n  \
        stoic function call wildlife --data photos.zip --output labels.json\n  \
        stoic function call wildlife --data DCIM/ > labels.json\n  \
        stoic function call wildlife --data photos.zip --param format=megadetector --runtime edge\n  \
        stoic function call wildlife --data photos.zip --mode cooperative --output labels.json\n  \
        stoic function call wildlife --data photos.zip --mode duplicator --runtime cpu --output labels.json\n  \
        stoic calls wait $(stoic function call wildlife --async --data photos.zip) --output labels.json\n  \
        stoic function call wildlife --action train --data labelled.zip\n  \
        echo hello | stoic function call echo --data - --path /a/b --param x=1"
)]
pub(super) struct CallFunction {
    /// The function
    name: String,
    /// What to send: a file, a folder (packed as a zip in the order of names), or `-` for standard input
    #[arg(short, long, value_name = "FILE")]
    data: Option<PathBuf>,
    /// Where the result goes [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Runtime to run on, instead of the one with the least expected response time; with modes `hedged`,
    /// `duplicator` and `cooperative`, the cloud runtime to use
    #[arg(short, long, value_name = "RUNTIME")]
    runtime: Option<String>,
    /// How it is placed: `pinned`, `selector`, `hedged` (several cloud runtimes are deployed, the first
    /// that is up is kept), `duplicator` (edge and cloud race), `cooperative` (they share the batch) or
    /// `auto` [default: the gateway's, which is `selector` unless configured]
    #[arg(short, long, value_name = "MODE")]
    mode: Option<String>,
    /// Time from now by which the answer is wanted, such as 30s
    #[arg(long, value_name = "TIME")]
    deadline: Option<String>,
    /// What to do with the data: `infer`, or another action of the function [default: infer]
    #[arg(short, long, value_name = "ACTION")]
    action: Option<String>,
    /// Number of items in the data, for predictions of functions that get requests
    #[arg(short = 'n', long, value_name = "N")]
    items: Option<u64>,
    /// Media type of the data [default: by its extension, else by its first bytes]
    #[arg(short = 't', long, value_name = "TYPE")]
    content_type: Option<String>,
    /// Query parameter for the function; may be given many times
    #[arg(short, long = "param", value_name = "KEY=VALUE", value_parser = pair)]
    parameters: Vec<(String, String)>,
    /// Path inside the function
    #[arg(long, value_name = "PATH", default_value = "")]
    path: String,
    /// Wait for nothing: print the call's identity as soon as it is accepted
    #[arg(long = "async", conflicts_with_all = ["output", "summary"])]
    unwaited: bool,
    /// With --async: post the result there when it is done, signed
    #[arg(long, value_name = "URL", requires = "unwaited")]
    callback_url: Option<String>,
    /// With --async: the same request with the same key is the same call, however often it is sent
    #[arg(long, value_name = "KEY", requires = "unwaited")]
    idempotency_key: Option<String>,
    /// How to write the summary
    #[arg(long, value_enum, value_name = "FORMAT", default_value = "text")]
    summary: SummaryFormat,
    /// Show neither progress nor summary
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    gateway: Gateway,
}

impl CallFunction {
    pub(super) async fn run(self) -> Result<(), Failed> {
        let client = Client::new(&self.gateway)?;
        let function = client.function(&self.name).await?;
        let batch = function.object.spec.input == Input::Batch;
        if batch && self.data.is_none() {
            return Err(Failed::Input(format!(
                "{} works batches: name a package, an image or a folder with --data",
                self.name
            )));
        }
        let destination = Destination::open(self.output.as_deref())?;
        let progress = Progress::new(self.quiet);
        let sent = Arc::new(AtomicU64::new(0));
        let (mut length, mut content_type, mut body) = (Some(0), None, Payload::Whole(None));
        if let Some(data) = &self.data {
            let source = Source::open(data, self.content_type.as_deref(), &progress).await?;
            length = source.length;
            content_type = Some(source.content_type);
            body = Payload::stream(source.reader, source.length, &sent);
        }
        let call = Call {
            function: self.name.clone(),
            path: self.path.clone(),
            parameters: self.parameters.clone(),
            method: if self.data.is_some() || self.unwaited {
                Method::POST
            } else {
                Method::GET
            },
            runtime: self.runtime.clone(),
            mode: self.mode.clone(),
            deadline: self.deadline.clone(),
            action: self.action.clone(),
            items: self.items,
            content_type,
            unwaited: self.unwaited.then(|| Unwaited {
                callback_url: self.callback_url.clone(),
                idempotency_key: self.idempotency_key.clone(),
            }),
            body,
        };
        if self.unwaited {
            let handing_in = client.hand_in(call);
            let accepted = batch::uploading(&progress, &sent, length, handing_in).await?;
            progress.finish();
            if accepted.known {
                complain("known already by its idempotency key");
            }
            return say(&accepted.id);
        }
        if batch {
            let carried = carry(&client, call, &sent, length, &progress).await?;
            progress.waiting("fetching the result");
            let answer = client.result(&carried.result).await?;
            let bytes = destination.write(answer).await?;
            progress.finish();
            self.summarise(&carried.summary, bytes);
            return Ok(());
        }
        let answer = batch::uploading(&progress, &sent, length, client.call(call)).await?;
        let status = answer.status();
        let of_type = |kind: &str| {
            let value = answer.headers().get(header::CONTENT_TYPE);
            value.is_some_and(|value| value.as_bytes().starts_with(kind.as_bytes()))
        };
        if !status.is_success() && of_type(PROBLEM_MEDIA_TYPE) {
            return Err(refusal(answer).await);
        }
        let summary = Summary::from_headers(&self.name, answer.headers());
        progress.finish();
        let bytes = destination.write(answer).await?;
        if let Some(summary) = summary {
            self.summarise(&summary, bytes);
        }
        if status.is_success() {
            Ok(())
        } else {
            Err(Failed::Answer {
                status: status.as_u16(),
                text: format!("{} answered {status}", self.name),
            })
        }
    }

    fn summarise(&self, summary: &Summary, bytes: u64) {
        match self.summary {
            _ if self.quiet => {}
            SummaryFormat::None => {}
            SummaryFormat::Json => {
                if let Ok(text) = serde_json::to_string(summary) {
                    complain(&text);
                }
            }
            SummaryFormat::Text => {
                complain(&summary.text());
                if let Some(path) = &self.output {
                    complain(&format!("result: {} ({})", path.display(), size(bytes)));
                }
            }
        }
    }
}
