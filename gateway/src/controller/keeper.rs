//! The keeper of one object: makes its function be what the object declares, and says what became of it.

use super::Shared;
use super::deployment::Count;
use super::kind::Kind;
use super::report::Written;
use super::status::{Facts, Outcome, ResourceStatus, Seen, Trouble, status};
use crate::failure::Failure;
use crate::function::RESOURCE;
use crate::runnable::Deployed;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use kube::api::DynamicObject;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tracing::{info, warn};

/// Least time between two writes of one status.
const WRITE_EVERY: Duration = Duration::from_millis(400);
/// Most looks at the pods of a function, one after each such time, until all are counted that can be.
const MOST_LOOKS: u32 = 25;
/// Wait before a status that could not be written is written again; it doubles.
const WRITE_AGAIN: Duration = Duration::from_secs(1);
/// Wait before what could not be deployed is tried again; it doubles,
const TRY_AGAIN: Duration = Duration::from_secs(2);
/// up to this.
const LONGEST_WAIT: Duration = Duration::from_secs(120);
/// Between two looks whether the pods of a deleted function are gone.
const GONE_EVERY: Duration = Duration::from_millis(100);
/// Wait before a Service or a Deployment that could not be kept is tried for again: whoever had its name may be
/// gone, the API server back.
const KEEP_AGAIN: Duration = Duration::from_secs(10);
/// Longest wait for an answer of the API server.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);

/// What the cluster has.
#[derive(Debug, Clone)]
pub(super) enum Wanted {
    /// This object.
    Is(Arc<DynamicObject>),
    /// None any more.
    Gone,
}

type Deploying = BoxFuture<'static, Result<Arc<Deployed>, Failure>>;

/// See the module.
pub(super) struct Keeper {
    shared: Arc<Shared>,
    kind: Kind,
    name: String,
    wanted: watch::Receiver<Wanted>,
    nudge: Arc<Notify>,
    /// Generation, labels and annotations that were asked for last.
    asked: Option<Asked>,
    outcome: Outcome,
    deploying: Option<Deploying>,
    /// When what failed is tried again, and how often it failed in a row.
    retry: Option<Instant>,
    failures: u32,
    written: Written,
    /// No write before this.
    write_at: Option<Instant>,
    failed_writes: u32,
    /// What could not be carried over.
    left: Option<Vec<String>>,
    image: bool,
    /// Port of its pods, and the one that its Service leads to.
    port: u16,
    service: Option<u16>,
    /// Pods that are always wanted, and how far they are counted.
    replicas: usize,
    counted: Counted,
    /// Looks at pods that are not all counted yet.
    looks: u32,
    /// Why they are not, where that was told.
    uncounted: Option<String>,
    /// Why no Service leads to them, where that was told.
    unserved: Option<String>,
    /// When either is tried for again.
    again: Option<Instant>,
    /// Whether its pods are gone, and the cluster may delete it.
    releasing: bool,
}

/// Whether the Deployment of a function's name counts its pods.
#[derive(Debug, PartialEq)]
enum Counted {
    Unknown,
    /// It does: the version, how many pods there are, and how many take work.
    These(String, usize, usize),
    /// There is none of ours.
    Not,
}

/// By what a change is told from an echo of our own writing.
#[derive(Debug, PartialEq)]
struct Asked {
    uid: Option<String>,
    generation: i64,
    labels: Option<std::collections::BTreeMap<String, String>>,
    annotations: Option<std::collections::BTreeMap<String, String>>,
}

impl Asked {
    fn of(object: &DynamicObject) -> Self {
        let metadata = &object.metadata;
        Self {
            uid: metadata.uid.clone(),
            generation: metadata.generation.unwrap_or_default(),
            labels: metadata.labels.clone(),
            annotations: metadata.annotations.clone(),
        }
    }
}

impl Keeper {
    pub(super) fn new(
        shared: Arc<Shared>,
        kind: Kind,
        name: String,
        wanted: watch::Receiver<Wanted>,
        nudge: Arc<Notify>,
    ) -> Self {
        Self {
            shared,
            kind,
            name,
            wanted,
            nudge,
            asked: None,
            outcome: Outcome::Deploying,
            deploying: None,
            retry: None,
            failures: 0,
            written: Written::default(),
            write_at: None,
            failed_writes: 0,
            left: None,
            image: false,
            port: 0,
            service: None,
            replicas: 0,
            counted: Counted::Unknown,
            looks: 0,
            uncounted: None,
            unserved: None,
            again: None,
            releasing: false,
        }
    }

    /// Keeps the object until it is gone, or the controller ends.
    pub(super) async fn run(mut self) {
        let ended = self.shared.ended.clone();
        let mut leads = self.shared.leads.clone();
        self.wanted.mark_changed();
        loop {
            let Some(turn) = ended.run_until_cancelled(self.turn(&mut leads)).await else {
                return;
            };
            match turn {
                Turn::Changed => {
                    let wanted = self.wanted.borrow_and_update().clone();
                    match wanted {
                        Wanted::Gone => {
                            self.end().await;
                            if self.is_forgotten() {
                                return;
                            }
                        }
                        Wanted::Is(object) if object.metadata.deletion_timestamp.is_some() => {
                            self.asked = None;
                            self.end().await;
                            self.releasing = true;
                        }
                        Wanted::Is(object) => {
                            self.releasing = false;
                            if self.asked.as_ref() != Some(&Asked::of(&object)) {
                                self.failures = 0;
                                self.begin(&object);
                            }
                        }
                    }
                }
                Turn::Retry => {
                    let wanted = self.wanted.borrow().clone();
                    match wanted {
                        Wanted::Is(object) if !self.releasing => self.begin(&object),
                        _ => self.retry = None,
                    }
                }
                Turn::Deployed(done) => {
                    self.deploying = None;
                    self.conclude(done);
                }
                // What the former one wrote is in the object.
                Turn::Leads => {
                    self.written = Written::default();
                    self.counted = Counted::Unknown;
                }
                Turn::Look => self.mind_the_owner(),
                Turn::Again => {
                    self.again = None;
                    if self.unserved.is_some() {
                        self.service = None;
                    }
                    if self.uncounted.is_some() {
                        self.counted = Counted::Unknown;
                    }
                }
                Turn::Ended => return,
            }
            self.report().await;
        }
    }

    /// Waits for something to do.
    async fn turn(&mut self, leads: &mut watch::Receiver<bool>) -> Turn {
        let deploying = &mut self.deploying;
        let deployed = async {
            match deploying {
                Some(deploying) => deploying.await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = self.wanted.changed() => changed.map_or(Turn::Ended, |()| Turn::Changed),
            done = deployed => Turn::Deployed(done),
            () = at(self.retry) => Turn::Retry,
            () = at(self.write_at) => Turn::Look,
            () = at(self.again) => Turn::Again,
            () = self.nudge.notified() => Turn::Look,
            changed = leads.changed() => changed.map_or(Turn::Ended, |()| Turn::Leads),
        }
    }

    /// Begins to make the function be what the object declares.
    fn begin(&mut self, object: &DynamicObject) {
        self.asked = Some(Asked::of(object));
        self.retry = None;
        self.deploying = None;
        let read = self.kind.read(object, &self.shared.namespace);
        let read = match read {
            Ok(read) => read,
            Err(trouble) => {
                self.outcome = Outcome::Failed(trouble);
                return;
            }
        };
        self.left = read.left;
        self.image = read.object.spec.image.is_some();
        self.port = read.object.spec.port;
        self.replicas = read.object.spec.replicas.unwrap_or(0) as usize;
        self.counted = Counted::Unknown;
        let ours = read.object.metadata.annotations.get(RESOURCE).cloned();
        let current = self.shared.gateway.functions.get(&self.name);
        let other = current.as_ref().and_then(|d| d.function.resource());
        if let Some(other) = other.filter(|other| Some(*other) != ours.as_deref())
            && self.kind != Kind::Stoic
        {
            let taken = name_taken(&self.name, other);
            self.fail(taken);
            return;
        }
        self.outcome = Outcome::Deploying;
        let gateway = Arc::clone(&self.shared.gateway);
        let deploying = async move { gateway.put_function(read.object).await };
        self.deploying = Some(deploying.boxed());
    }

    fn conclude(&mut self, done: Result<Arc<Deployed>, Failure>) {
        match done {
            Ok(_) => {
                self.failures = 0;
                self.outcome = Outcome::InForce;
            }
            Err(failure) => {
                let problem = &failure.problem;
                let text = problem.detail.clone().unwrap_or_default();
                // Of an image that cannot be had, the rollout's text tells; its code does not.
                let code = match self.rollout_cause() {
                    Some(cause) if problem.code == "rollout_failed" => cause,
                    _ => problem.code.clone(),
                };
                self.fail(Trouble::new(&code, text));
            }
        }
    }

    /// The code of what kept the next version from coming up.
    fn rollout_cause(&self) -> Option<String> {
        let deployed = self.shared.gateway.functions.get(&self.name)?;
        let rollout = deployed.rollout.lock();
        let cause = rollout.as_ref()?.cause.clone()?;
        (cause == "image_unavailable").then_some(cause)
    }

    fn fail(&mut self, trouble: Trouble) {
        warn!(function = %self.name, kind = self.kind.name(), "not deployed: {}", trouble.text);
        if trouble.code != "function_invalid" {
            let doubled = 2u32.saturating_pow(self.failures.min(16));
            let wait = TRY_AGAIN.saturating_mul(doubled).min(LONGEST_WAIT);
            self.retry = Some(Instant::now() + wait);
            self.failures += 1;
        }
        self.outcome = Outcome::Failed(trouble);
    }

    /// A function that is in force by another's declaration, or gone with it, is tried for again.
    fn mind_the_owner(&mut self) {
        if self.kind == Kind::Stoic || self.outcome != Outcome::InForce {
            return;
        }
        let ours = self.kind.annotation(&self.shared.namespace, &self.name);
        let current = self.shared.gateway.functions.get(&self.name);
        let owner = current.as_ref().and_then(|d| d.function.resource());
        if owner != Some(ours.as_str()) {
            let trouble = name_taken(&self.name, owner.unwrap_or("a client"));
            self.fail(trouble);
        }
    }

    /// Takes the function away, and waits until its pods are gone.
    async fn end(&mut self) {
        self.uncount().await;
        let (gateway, name) = (&self.shared.gateway, &self.name);
        self.deploying = None;
        let ours = self.kind.annotation(&self.shared.namespace, name);
        let current = gateway.functions.get(name);
        let is_ours = |d: &Arc<Deployed>| d.function.resource() == Some(ours.as_str());
        self.service = None;
        self.written = Written::default();
        if !current.as_ref().is_none_or(is_ours) {
            // Its pods are somebody else's.
            return;
        }
        // One that is on its way is taken back, and is not known yet.
        let _ = gateway.take_function(name).await;
        while gateway.has_pods(name) {
            tokio::time::sleep(GONE_EVERY).await;
        }
        info!(function = %name, kind = self.kind.name(), "its resource is gone, and so is the function");
    }

    /// Whether nothing came after the end of the object: this keeper is none any more then.
    fn is_forgotten(&self) -> bool {
        // Changes are sent under the same lock.
        let mut keepers = self.shared.keepers.lock();
        let changed = self.wanted.has_changed().unwrap_or(false);
        if !changed {
            keepers.remove(&(self.kind, self.name.clone()));
        }
        !changed
    }

    /// Writes the status where it says something else than the one written last.
    async fn report(&mut self) {
        if !*self.shared.leads.borrow() {
            return;
        }
        if self.write_at.is_some_and(|at| Instant::now() < at) {
            return;
        }
        self.write_at = None;
        let wanted = self.wanted.borrow().clone();
        let Wanted::Is(object) = wanted else {
            return;
        };
        if self.releasing {
            return self.release(&object).await;
        }
        self.serve(&object).await;
        self.count().await;
        let former = match &self.written.status {
            Some(status) => status.clone(),
            None => object
                .data
                .get("status")
                .and_then(|status| serde_json::from_value(status.clone()).ok())
                .unwrap_or_default(),
        };
        let next = self.status(&object, &former);
        let reporter = &self.shared.reporter;
        let writing = reporter.write(self.kind, &object, &former, &next, &mut self.written);
        let done = in_time(writing).await;
        match done {
            Ok(false) => self.failed_writes = 0,
            Ok(true) => {
                self.failed_writes = 0;
                self.write_at = Some(Instant::now() + WRITE_EVERY);
            }
            Err(error) => self.write_later(&error),
        }
    }

    /// Keeps the Service of a kind that has one, where pods are pods of a cluster.
    async fn serve(&mut self, object: &DynamicObject) {
        let wanted = self.keeps() && self.outcome == Outcome::InForce;
        if !wanted || self.service == Some(self.port) {
            return;
        }
        self.service = Some(self.port);
        let reporter = &self.shared.reporter;
        let done = in_time(reporter.serve(self.kind, object, self.port)).await;
        let error = done.err();
        if let Some(error) = &error {
            if self.unserved.as_ref() != Some(error) {
                warn!(function = %self.name, "it has no Service of its own: {error}");
            }
            self.again = Some(Instant::now() + KEEP_AGAIN);
        }
        self.unserved = error;
    }

    /// Whether this replica is to keep what a kind has in the cluster beside its pods.
    fn keeps(&self) -> bool {
        self.kind.has_service() && self.shared.in_cluster && *self.shared.leads.borrow()
    }

    /// Has the Deployment of a kind that has one count its pods, where they have changed.
    async fn count(&mut self) {
        if !self.keeps() {
            return;
        }
        let ours = self.kind.annotation(&self.shared.namespace, &self.name);
        let Some(current) = self.shared.gateway.functions.get(&self.name) else {
            return;
        };
        if current.function.resource() != Some(ours.as_str()) {
            // Another declares it now: the end of this object is not to be that of the pods.
            return self.uncount().await;
        }
        // Not whether pods are idle, which changes with every request.
        let Seen { version, pods, .. } = Seen::of(&current);
        let these = Counted::These(version.clone(), pods.pods, pods.ready);
        if self.counted == these {
            return;
        }
        let of = Count {
            name: &self.name,
            version: &version,
            wanted: self.replicas,
            pods: pods.pods,
            ready: pods.ready,
            gateway: &self.shared.id,
        };
        let done = in_time(self.shared.reporter.count(of)).await;
        match done {
            Ok(true) => (self.counted, self.uncounted) = (these, None),
            // Its ReplicaSet is on its way, or a node has not said yet that a pod runs.
            Ok(false) if self.looks < MOST_LOOKS => {
                self.looks += 1;
                self.write_at = Some(Instant::now() + WRITE_EVERY);
                return;
            }
            // Its pods may be at another site.
            Ok(false) => self.counted = these,
            Err(error) => {
                if self.uncounted.as_ref() != Some(&error) {
                    warn!(function = %self.name, "`kubeless function ls` does not show it as ready: {error}");
                }
                (self.counted, self.uncounted) = (these, Some(error));
                self.again = Some(Instant::now() + KEEP_AGAIN);
            }
        }
        self.looks = 0;
    }

    /// Has nobody count the pods any more.
    async fn uncount(&mut self) {
        if !self.keeps() || std::mem::replace(&mut self.counted, Counted::Not) == Counted::Not {
            return;
        }
        if let Err(error) = in_time(self.shared.reporter.uncount(&self.name)).await {
            warn!(function = %self.name, "its Deployment is left: {error}");
        }
    }

    /// Lets the cluster delete an object whose pods are gone.
    async fn release(&mut self, object: &DynamicObject) {
        let released = in_time(self.shared.reporter.release(self.kind, object)).await;
        if let Err(error) = released {
            self.write_later(&error);
        }
    }

    fn write_later(&mut self, error: &str) {
        if self.failed_writes == 0 {
            warn!(function = %self.name, "its resource is written later: {error}");
        }
        let doubled = 2u32.saturating_pow(self.failed_writes.min(6));
        self.failed_writes += 1;
        self.write_at = Some(Instant::now() + WRITE_AGAIN.saturating_mul(doubled));
    }

    fn status(&self, object: &DynamicObject, former: &ResourceStatus) -> ResourceStatus {
        let ours = self.kind.annotation(&self.shared.namespace, &self.name);
        let current = self.shared.gateway.functions.get(&self.name);
        let owner = current.as_ref().and_then(|d| d.function.resource());
        let seen = current
            .as_ref()
            .filter(|_| owner == Some(ours.as_str()))
            .map(|deployed| Seen::of(deployed));
        let outcome = match owner {
            // Ours took over from another kind's.
            Some(other) if other != ours && self.outcome == Outcome::InForce => {
                Outcome::Failed(name_taken(&self.name, other))
            }
            _ => self.outcome.clone(),
        };
        let facts = Facts {
            generation: object.metadata.generation.unwrap_or_default(),
            outcome: &outcome,
            seen: seen.as_ref(),
            name: &self.name,
            image: self.image,
            left: self.left.as_deref(),
        };
        status(&facts, former, &super::report::now())
    }
}

/// An answer of the API server, if it comes in time: who waits for one holds versions and deletions up.
async fn in_time<T>(asked: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    match tokio::time::timeout(ANSWER_WITHIN, asked).await {
        Ok(answered) => answered,
        Err(_) => Err(format!("no answer within {} s", ANSWER_WITHIN.as_secs())),
    }
}

fn name_taken(name: &str, by: &str) -> Trouble {
    let text = format!("the function `{name}` is declared by {by}");
    Trouble::new("name_taken", text)
}

/// What a keeper is woken by.
enum Turn {
    Changed,
    Deployed(Result<Arc<Deployed>, Failure>),
    Retry,
    Look,
    Again,
    Leads,
    Ended,
}

/// Returns at this time, or never.
async fn at(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}
