//! `stoic function describe`.

use super::list::{bootstrap, input};
use crate::cli::client::{Client, Gateway};
use crate::cli::failed::Failed;
use crate::cli::output::{Format, Printing, table};
use crate::cli::pods;
use crate::cli::quantity::{age, moment};
use crate::http::FunctionView;
use crate::pods::PodView;
use crate::scheduler::unix_now;
use clap::Args;
use humantime::format_duration;

/// Options of `stoic function describe`.
#[derive(Debug, Args)]
#[command(
    long_about = "Show everything that is known of a function: what its file declares, what became of it, \
        its pods. With -o yaml the object as a file that `deploy` takes, save for its status.",
    after_help = "Examples:\n  stoic function describe wildlife\n  stoic function describe wildlife -o yaml"
)]
pub(in crate::cli) struct Describe {
    /// The function
    name: String,
    #[command(flatten)]
    gateway: Gateway,
    #[command(flatten)]
    printing: Printing,
}

impl Describe {
    pub(in crate::cli) async fn run(self) -> Result<(), Failed> {
        let client = Client::new(&self.gateway)?;
        let view = client.function(&self.name).await?;
        let pods = match self.printing.output {
            Format::Table => client.pods().await?,
            Format::Json | Format::Yaml => Vec::new(),
        };
        self.printing.print(&view, |view| {
            let own: Vec<PodView> = pods
                .into_iter()
                .filter(|pod| pod.function == self.name)
                .collect();
            text(view, &own)
        })
    }
}

fn text(view: &FunctionView, own: &[PodView]) -> String {
    let (spec, status) = (&view.object.spec, &view.status);
    let list = |all: &[String]| {
        if all.is_empty() {
            "all".to_owned()
        } else {
            all.join(", ")
        }
    };
    let mut rows = vec![
        vec!["name".to_owned(), view.object.metadata.name.clone()],
        vec!["version".to_owned(), status.version.clone()],
        vec![
            "deployed".to_owned(),
            format!(
                "{} UTC, {} ago",
                moment(status.created),
                age(unix_now() - status.created)
            ),
        ],
        vec!["input".to_owned(), input(spec.input).to_owned()],
        vec![
            "divisible".to_owned(),
            if spec.divisible { "yes" } else { "no" }.to_owned(),
        ],
        vec!["command".to_owned(), spec.command.join(" ")],
        vec![
            "image".to_owned(),
            spec.image.clone().unwrap_or_else(|| "-".to_owned()),
        ],
        vec!["runtimes".to_owned(), list(&spec.runtimes)],
        vec!["concurrency".to_owned(), spec.concurrency.to_string()],
        vec![
            "timeout".to_owned(),
            format_duration(spec.timeout).to_string(),
        ],
        vec![
            "queue".to_owned(),
            format!(
                "{} waiting, {} each",
                spec.queue.length,
                format_duration(spec.queue.wait)
            ),
        ],
    ];
    for (runtime, standby) in &spec.standby {
        let text = format!(
            "{} to {} pods, idle {}",
            standby.min,
            standby.max,
            format_duration(standby.idle)
        );
        rows.push(vec![format!("standby {runtime}"), text]);
    }
    let detail = &status.bootstrap.detail;
    let separator = if detail.is_empty() { "" } else { ": " };
    rows.push(vec![
        "bootstrap".to_owned(),
        format!("{}{separator}{detail}", bootstrap(&status.bootstrap)),
    ]);
    rows.push(vec![
        "model".to_owned(),
        status.model.clone().unwrap_or_else(|| "-".to_owned()),
    ]);
    rows.push(vec![
        "ready".to_owned(),
        format!("{} of {} pods", status.ready, status.pods),
    ]);
    let facts = table(&["", ""], rows);
    let facts = facts.trim_start_matches('\n');
    if own.is_empty() {
        facts.to_owned()
    } else {
        format!("{facts}\n\n{}", pods::rows(own))
    }
}
