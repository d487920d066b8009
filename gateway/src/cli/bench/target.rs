//! A function at a site, and what brings it to a known state before a measurement: no pod, a pod that nobody has used,
//! a pod that has just answered.

use super::sample::Timing;
use crate::cli::client::{Address, Client, Exchange, Exchanged, Gateway};
use crate::cli::failed::Failed;
use crate::function::{FunctionSpec, Input, Standby};
use crate::pods::PodView;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use std::collections::HashSet;
use std::time::Duration;
use stoic_protocol::{headers, paths};
use tokio::time::{Instant, sleep};

/// How often the gateway is asked for its pods while one is awaited; nothing is measured meanwhile.
const ASK_EVERY: Duration = Duration::from_millis(4);
/// How long pods that were told to go may stay, beyond what a start may take.
const PATIENCE: Duration = Duration::from_secs(45);
/// After so long an idle pod is ended by name: it was still at work when it was told to go with the others.
const HINT: Duration = Duration::from_millis(20);

/// See the module.
#[derive(Debug, Clone)]
pub(super) struct Target {
    /// Name of the function.
    pub(super) function: String,
    /// Kind of its site.
    pub(super) backend: String,
    /// Runtime that calls are pinned to.
    pub(super) runtime: String,
    /// Name of the site.
    pub(super) site: String,
    /// What is emulated on the way there; empty: nothing.
    pub(super) emulated: String,
    /// What its spec says of its standbys: what is put back in the end.
    pub(super) standby: Standby,
    /// Whether it has a published model.
    pub(super) trained: bool,
    /// Path inside the function; empty or from `/` on.
    pub(super) path: String,
    /// What to send, and its type; a batch function's own sample, where nothing was given.
    pub(super) data: Option<(Bytes, String)>,
    /// The call, to the gateway.
    pub(super) outer: Exchange,
    /// The same, to a pod.
    pub(super) inner: Exchange,
    /// Whether its pods are forked from one that has loaded everything.
    pub(super) forks: bool,
    /// Its spec.
    pub(super) spec: FunctionSpec,
}

impl Target {
    /// `hi on docker`.
    pub(super) fn label(&self) -> String {
        format!("{} on {}", self.function, self.backend)
    }

    fn patience(&self) -> Duration {
        self.spec.ready_timeout + PATIENCE
    }

    fn is_mine(&self, pod: &PodView) -> bool {
        pod.function == self.function && pod.runtime == self.runtime && !pod.probe
    }

    /// Puts the call together, from what is to be sent.
    pub(super) fn compose(&mut self) -> Result<(), Failed> {
        let mut inner = HeaderMap::new();
        let mut body = Bytes::new();
        if let Some((bytes, kind)) = &self.data {
            let value = HeaderValue::from_str(kind)
                .map_err(|_| Failed::Input(format!("`{kind}` is no media type")))?;
            inner.insert(header::CONTENT_TYPE, value);
            body = bytes.clone();
        }
        let mut outer = inner.clone();
        let runtime = HeaderValue::from_str(&self.runtime)
            .map_err(|_| Failed::Input(format!("`{}` is no runtime", self.runtime)))?;
        outer.insert(HeaderName::from_static(headers::RUNTIME), runtime);
        let mut path = self.path.clone();
        if self.spec.input == Input::Batch && !self.trained {
            // Without a model there are no labels; the time is the same.
            path.push(if path.contains('?') { '&' } else { '?' });
            path.push_str("bootstrap=true");
        }
        let method = if body.is_empty() && self.spec.input == Input::Request {
            Method::GET
        } else {
            Method::POST
        };
        let slash = if path.starts_with('/') { "" } else { "/" };
        self.outer = Exchange {
            method: method.clone(),
            path: format!("/function/{}{path}", self.function),
            headers: outer,
            body: body.clone(),
        };
        self.inner = Exchange {
            method,
            path: format!("{slash}{path}"),
            headers: inner,
            body,
        };
        Ok(())
    }
}

/// A pod that answered, and what it said.
#[derive(Debug)]
pub(super) struct Answered {
    /// Seconds, as the caller has them.
    pub(super) seconds: f64,
    /// `cold` or `warm`.
    pub(super) start: Option<String>,
    /// The pod.
    pub(super) pod: Option<String>,
    /// Where the time went.
    pub(super) timing: Timing,
}

/// Why there is no measurement.
#[derive(Debug)]
pub(super) enum Missed {
    /// This one went wrong; others may go well.
    Fault(String),
    /// Nothing more can be measured.
    End(Failed),
}

impl From<Failed> for Missed {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Unreachable { .. } | Failed::Interrupted(_) | Failed::OutputClosed => {
                Self::End(failed)
            }
            // A gateway that does not know the route will not learn it.
            failed if matches!(failed.code(), Some("unknown_path" | "method_not_allowed")) => {
                Self::End(Failed::Machine(format!(
                    "this gateway cannot scale functions ({failed}): cold starts cannot be made on it"
                )))
            }
            failed => Self::Fault(failed.to_string()),
        }
    }
}

/// Hands on a gateway.
#[derive(Debug)]
pub(super) struct Hands<'a> {
    /// The gateway.
    pub(super) client: &'a Client,
    /// Pods that have served this caller.
    used: HashSet<String>,
}

impl<'a> Hands<'a> {
    pub(super) fn new(client: &'a Client) -> Self {
        Self {
            client,
            used: HashSet::new(),
        }
    }

    async fn pods(&self, target: &Target) -> Result<Vec<PodView>, Failed> {
        let mut pods = self.client.pods().await?;
        // A standby that is withheld is none.
        pods.retain(|pod| target.is_mine(pod) && pod.state != "withheld");
        Ok(pods)
    }

    /// Ends every pod; returns when none is left.
    pub(super) async fn empty(&self, target: &Target) -> Result<(), Missed> {
        self.client
            .hold(&target.function, &target.runtime, 0)
            .await?;
        let (begun, mut told) = (Instant::now(), HashSet::new());
        loop {
            let pods = self.pods(target).await?;
            if pods.is_empty() {
                return Ok(());
            }
            if begun.elapsed() > target.patience() {
                let left: Vec<String> = pods
                    .iter()
                    .map(|pod| format!("{} is {}", pod.name, pod.state))
                    .collect();
                return Err(Missed::Fault(format!(
                    "pods did not go within {} s: {}",
                    target.patience().as_secs(),
                    left.join(", ")
                )));
            }
            if begun.elapsed() > HINT {
                for pod in pods.iter().filter(|pod| pod.state == "idle") {
                    if told.insert(pod.name.clone()) {
                        gone_is_good(self.client.end_pod(&pod.name).await)?;
                    }
                }
            }
            sleep(ASK_EVERY).await;
        }
    }

    /// A ready pod that runs nothing; with `fresh`, none that has served this caller is left beside it.
    pub(super) async fn ready(&self, target: &Target, fresh: bool) -> Result<PodView, Missed> {
        self.client
            .hold(&target.function, &target.runtime, 1)
            .await?;
        let (begun, mut told) = (Instant::now(), HashSet::new());
        loop {
            let pods = self.pods(target).await?;
            let used = |pod: &PodView| fresh && self.used.contains(&pod.name);
            let mut stale = pods.iter().filter(|pod| used(pod)).peekable();
            let none_stale = stale.peek().is_none();
            for pod in stale.filter(|pod| pod.state == "idle") {
                if told.insert(pod.name.clone()) {
                    gone_is_good(self.client.end_pod(&pod.name).await)?;
                }
            }
            let ready = pods
                .iter()
                .find(|pod| !used(pod) && pod.state == "idle" && pod.running == 0);
            if let Some(pod) = ready.filter(|_| none_stale) {
                return Ok(pod.clone());
            }
            if begun.elapsed() > target.patience() {
                return Err(Missed::Fault(format!(
                    "no pod was ready within {} s",
                    target.patience().as_secs()
                )));
            }
            sleep(ASK_EVERY).await;
        }
    }

    /// Calls the function through the gateway.
    pub(super) async fn call(&mut self, target: &Target) -> Result<Answered, Missed> {
        let exchanged = self.client.exchange(&target.outer).await?;
        let answered = read(target, exchanged)?;
        if let Some(pod) = &answered.pod {
            self.used.insert(pod.clone());
        }
        Ok(answered)
    }

    /// An open connection to the gateway, so that no measurement has to make one.
    pub(super) async fn connect(&self) -> Result<(), Missed> {
        self.client.exchange(&Exchange::get("/healthz")).await?;
        Ok(())
    }

    /// What the pod itself said of its start, where the answer's headers were silent.
    pub(super) async fn stages(&self, pod: &str) -> Option<Vec<(String, f64)>> {
        let pods = self.client.listed_pods().await.ok()?;
        let listed = pods.iter().find(|listed| listed["name"] == pod)?;
        let stages = listed["stages"].as_object()?;
        let seconds =
            |(name, value): (&String, &serde_json::Value)| Some((name.clone(), value.as_f64()?));
        Some(stages.iter().filter_map(seconds).collect())
    }

    /// The function's own sample, from a ready pod.
    pub(super) async fn sample(
        &self,
        target: &Target,
        items: u32,
    ) -> Result<(Bytes, String), Missed> {
        let pod = self.ready(target, false).await?;
        let path = format!("{}?items={items}", paths::SAMPLE);
        let got = at(&pod)?.exchange(&Exchange::get(&path)).await?;
        let kind = got.headers.get(header::CONTENT_TYPE);
        let kind = kind.and_then(|kind| kind.to_str().ok()).map(str::to_owned);
        match kind.filter(|_| got.status.is_success()) {
            Some(kind) => Ok((got.body, kind)),
            None => Err(Missed::End(Failed::Input(format!(
                "{} works batches and has no sample of its own: give it a package with --data {}=FILE",
                target.function, target.function
            )))),
        }
    }
}

/// A client of a pod.
pub(super) fn at(pod: &PodView) -> Result<Client, Failed> {
    let text = pod.address.as_deref().unwrap_or_default();
    let address: Address = text
        .parse()
        .map_err(|_| Failed::Machine(format!("pod {} has no address to call", pod.name)))?;
    Client::new(&Gateway::at(address))
}

/// What an answer of the gateway says of itself.
pub(super) fn read(target: &Target, exchanged: Exchanged) -> Result<Answered, Missed> {
    let text = |name: &'static str| {
        let value = exchanged.headers.get(name)?;
        value.to_str().ok().map(str::to_owned)
    };
    if !exchanged.status.is_success() {
        let said = String::from_utf8_lossy(&exchanged.body[..exchanged.body.len().min(300)]);
        return Err(Missed::Fault(format!(
            "{} answered {}: {}",
            target.label(),
            exchanged.status,
            said.split_whitespace().collect::<Vec<_>>().join(" ")
        )));
    }
    Ok(Answered {
        seconds: exchanged.seconds,
        start: text(headers::START),
        pod: text(headers::POD),
        timing: Timing::of(&exchanged.headers),
    })
}

/// A pod that is gone already need not be ended.
fn gone_is_good(ended: Result<(), Failed>) -> Result<(), Missed> {
    match ended {
        Err(failed) if failed.code() != Some("unknown_pod") => Err(failed.into()),
        _ => Ok(()),
    }
}
