//! Mode `duplicator` (paper, section 4.3): the edge begins at once, while a cloud pod is deployed and
//! the package travels. When that pod is up, what is left at the edge, by its progress, is held against
//! what is left of the transfer and the processing in the cloud: both run, or the edge alone. Whoever is
//! done first ends the other.

use super::batch::{BatchAnswer, BatchJob, Failed, race};
use super::events::{Event, Events};
use super::package::Staged;
use super::pod::{Done, Session, Step};
use super::single::{self, Waited};
use super::{loser, places};
use crate::failure::Failure;
use crate::gateway::Gateway;
use crate::pods::Lease;
use crate::scheduler::Placed;
use crate::storage::result_key;
use futures_util::future::{BoxFuture, FutureExt};
use std::sync::Arc;
use stoic_placement::account::{Account, Entry};
use stoic_placement::duplicator::{Progress, Resolution, cloud_rest, resolve};
use stoic_placement::{Part, Running, sum};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tracing::info;

/// A side's work that is done: what the pod said, when it began and when its result was at home, in
/// seconds since the race began.
#[derive(Debug)]
struct Ran {
    done: Done,
    began_s: f64,
    ended_s: f64,
}

/// The edge's or the cloud's part of the race, until it is over or given up.
struct Lane {
    placed: Placed,
    lease: Option<Lease>,
    began_s: Option<f64>,
    transferred_s: Option<f64>,
    failed: Option<Failed>,
}

impl Lane {
    fn new(placed: Placed) -> Self {
        Self {
            placed,
            lease: None,
            began_s: None,
            transferred_s: None,
            failed: None,
        }
    }
}

type Acquiring<'a> = BoxFuture<'a, Result<Lease, Failed>>;
type Moving<'a> = BoxFuture<'a, Result<f64, Failure>>;
type Working<'a> = BoxFuture<'a, Result<Ran, Failed>>;

/// Runs a batch at the edge and, if that is predicted to be worth it, in the cloud.
pub(super) async fn run(
    gateway: &Arc<Gateway>,
    job: &BatchJob,
    staged: &Staged,
    events: &Events,
) -> Result<BatchAnswer, Failed> {
    let (edge, cloud) = match places::pair(gateway, job, staged) {
        (Some(edge), Some(cloud)) => (edge, cloud),
        (Some(one), None) | (None, Some(one)) => {
            return single::run(gateway, job, staged, vec![one], events).await;
        }
        (None, None) => {
            let detail = "no runtime can take the batch now";
            return Err(Failure::new(503, "runtime_unavailable", detail).into());
        }
    };
    let race = Race {
        gateway,
        job,
        staged,
        events,
        begun: Instant::now(),
        units: places::units(gateway, cloud.runtime),
        edge: Lane::new(edge),
        cloud: Lane::new(cloud),
    };
    race.run().await
}

/// A race under way.
struct Race<'a> {
    gateway: &'a Arc<Gateway>,
    job: &'a BatchJob,
    staged: &'a Staged,
    events: &'a Events,
    begun: Instant,
    /// GPUs of the cloud runtime.
    units: u32,
    edge: Lane,
    cloud: Lane,
}

impl<'a> Race<'a> {
    fn now(&self) -> f64 {
        self.begun.elapsed().as_secs_f64()
    }

    fn name(&self, lane: &Lane) -> String {
        let runtimes = self.gateway.scheduler.runtimes();
        runtimes[lane.placed.runtime].name.clone()
    }

    fn acquire(&self, placed: &Placed) -> Acquiring<'a> {
        let (job, placed) = (self.job, placed.clone());
        async move { single::acquire(job, &placed).await }.boxed()
    }

    /// Sends the whole batch to the pod of a lease, and brings its result home under its own name.
    fn work(
        &self,
        lane: &Lane,
        lease: &Lease,
        steps: Option<mpsc::UnboundedSender<Step>>,
    ) -> Working<'a> {
        let (gateway, job, staged, begun) = (self.gateway, self.job, self.staged, self.begun);
        let runtime = lane.placed.runtime;
        let pod = Arc::clone(&lease.pod);
        let output = own_result(job, lane.placed.runtime);
        async move {
            let info = &gateway.scheduler.runtimes()[runtime];
            let store = gateway.stores.site(&info.site)?;
            let request = single::request(store, job, staged, &output).await?;
            let timeout = job.deployed.function.object.spec.timeout;
            let began_s = begun.elapsed().as_secs_f64();
            let step = |step: Step| {
                if let Some(steps) = &steps {
                    let _ = steps.send(step);
                }
            };
            let worked = async {
                let mut session = Session::open(&pod).await?;
                session.work(&request, timeout, step).await
            };
            let worked = worked.await;
            let done = worked.map_err(|error| Failed::of_pod(error, runtime))?;
            if info.remote {
                let homed = single::home_result(gateway, &info.site, &output).await;
                homed.map_err(|error| Failed::elsewhere(error, runtime, true))?;
            }
            Ok(Ran {
                done,
                began_s,
                ended_s: begun.elapsed().as_secs_f64(),
            })
        }
        .boxed()
    }

    fn told_working(&self, lane: &Lane, lease: &Lease) {
        self.events.tell(|| Event::Working {
            runtime: self.name(lane),
            pod: lease.pod.name.to_string(),
            start: lease.start.name().to_owned(),
        });
    }

    async fn run(mut self) -> Result<BatchAnswer, Failed> {
        for lane in [&self.edge, &self.cloud] {
            let info = &self.gateway.scheduler.runtimes()[lane.placed.runtime];
            self.events.tell(|| Event::Placed {
                runtime: info.name.clone(),
                site: info.site.clone(),
                mode: self.job.mode.name().to_owned(),
                predicted_s: lane.placed.parts().map(|parts| parts.response()),
                predicted_90: lane.placed.interval_90(),
                reason: "the edge begins at once while the cloud is deployed".to_owned(),
            });
        }
        let (steps, mut stepped) = mpsc::unbounded_channel();
        let mut progress = Progress::new(self.staged.items as f64);
        let mut edge_up: Option<Acquiring<'a>> = Some(self.acquire(&self.edge.placed));
        let mut cloud_up: Option<Acquiring<'a>> = Some(self.acquire(&self.cloud.placed));
        let mut moving: Option<Moving<'a>> = Some(
            single::move_package(
                self.gateway,
                self.staged,
                self.cloud.placed.runtime,
                self.events,
            )
            .boxed(),
        );
        let (mut edge_work, mut cloud_work): (Option<Working<'a>>, Option<Working<'a>>) =
            (None, None);
        // Whether the cloud is to work, once its pod is up.
        let mut both = None;
        loop {
            if both == Some(true)
                && cloud_work.is_none()
                && self.cloud.transferred_s.is_some()
                && self.cloud.failed.is_none()
                && let Some(lease) = &self.cloud.lease
            {
                self.told_working(&self.cloud, lease);
                cloud_work = Some(self.work(&self.cloud, lease, None));
                self.cloud.began_s = Some(self.now());
            }
            tokio::select! {
                biased;
                ran = ready(&mut edge_work), if edge_work.is_some() => {
                    edge_work = None;
                    match ran {
                        Ok(ran) => {
                            drop((cloud_up, moving, cloud_work));
                            return self.edge_won(ran).await;
                        }
                        Err(failed) => {
                            Self::fail(&mut self.edge, failed);
                            // What was given back is needed after all.
                            if self.cloud.failed.is_none() && cloud_work.is_none() {
                                both = self.cloud.lease.is_some().then_some(true);
                                if self.cloud.lease.is_none() && cloud_up.is_none() {
                                    cloud_up = Some(self.acquire(&self.cloud.placed));
                                }
                                if self.cloud.transferred_s.is_none() && moving.is_none() {
                                    moving = Some(self.moving());
                                }
                            }
                        }
                    }
                }
                ran = ready(&mut cloud_work), if cloud_work.is_some() => {
                    cloud_work = None;
                    match ran {
                        Ok(ran) => {
                            drop((edge_up, edge_work));
                            return self.cloud_won(ran).await;
                        }
                        Err(failed) => Self::fail(&mut self.cloud, failed),
                    }
                }
                lease = ready(&mut edge_up), if edge_up.is_some() => {
                    edge_up = None;
                    match lease {
                        Ok(lease) => {
                            self.told_working(&self.edge, &lease);
                            edge_work = Some(self.work(&self.edge, &lease, Some(steps.clone())));
                            self.edge.began_s = Some(self.now());
                            self.edge.lease = Some(lease);
                        }
                        Err(failed) => {
                            Self::fail(&mut self.edge, failed);
                            both = both.or(self.cloud.lease.is_some().then_some(true));
                        }
                    }
                }
                lease = ready(&mut cloud_up), if cloud_up.is_some() => {
                    cloud_up = None;
                    match lease {
                        Ok(lease) => {
                            self.cloud.lease = Some(lease);
                            let resolution = self.resolve(&progress);
                            both = Some(resolution == Resolution::Both);
                            if resolution == Resolution::EdgeOnly {
                                // The pod is idle from here on, and the package stays where it is.
                                self.cloud.lease = None;
                                moving = None;
                            }
                        }
                        Err(failed) => Self::fail(&mut self.cloud, failed),
                    }
                }
                moved = ready(&mut moving), if moving.is_some() => {
                    moving = None;
                    match moved {
                        Ok(_) => self.cloud.transferred_s = Some(self.now()),
                        Err(failure) => {
                            let runtime = self.cloud.placed.runtime;
                            Self::fail(&mut self.cloud, Failed::elsewhere(failure, runtime, true));
                            cloud_up = None;
                        }
                    }
                }
                Some(step) = stepped.recv() => {
                    let began_s = self.edge.began_s.unwrap_or_default();
                    progress.mark(step.done as f64, self.now() - began_s);
                    let by_runtime = [(self.name(&self.edge), step.done)].into();
                    self.events.tell(|| Event::Progress {
                        done: step.done,
                        total: step.total,
                        elapsed_s: step.elapsed_s,
                        stage: step.stage,
                        by_runtime,
                    });
                }
            }
            if self.edge.failed.is_some() && self.cloud.failed.is_some() {
                return Err(self.both_failed());
            }
            // The function's own verdict is the same everywhere.
            if let Some(failed) = self
                .edge
                .failed
                .take_if(|f| !f.again && f.failure.problem.status < 500)
            {
                return Err(failed);
            }
        }
    }

    fn moving(&self) -> Moving<'a> {
        let (gateway, staged, events) = (self.gateway, self.staged, self.events);
        let runtime = self.cloud.placed.runtime;
        single::move_package(gateway, staged, runtime, events).boxed()
    }

    /// A side is out of the race.
    fn fail(lane: &mut Lane, failed: Failed) {
        if let Some(lease) = lane.lease.take()
            && failed.died
        {
            lease.condemn();
        }
        lane.failed = Some(failed);
    }

    /// The conditional decision: the cloud pod is up.
    fn resolve(&mut self, progress: &Progress) -> Resolution {
        let now = self.now();
        if self.edge.failed.is_some() {
            return Resolution::Both;
        }
        let e = &self.edge.placed.estimate;
        let edge_rest = match self.edge.began_s {
            Some(began_s) => progress.remaining(now - began_s, &e.processing),
            None => {
                let wait = Running {
                    total: sum(&[e.queueing, e.deployment]),
                    elapsed_s: now,
                };
                sum(&[wait.remaining(), e.processing])
            }
        };
        let c = &self.cloud.placed.estimate;
        let transfer = match self.cloud.transferred_s {
            Some(_) => Part::ZERO,
            None => c.transfer,
        };
        let cloud_rest = cloud_rest(&transfer, now, &c.processing);
        let resolution = resolve(&edge_rest, &cloud_rest);
        let (runtime, both) = (self.name(&self.cloud), resolution == Resolution::Both);
        let known = |part: &Part| part.known.then_some(part.mean);
        let (edge_rest_s, cloud_rest_s) = (known(&edge_rest), known(&cloud_rest));
        info!(
            invocation = %self.job.invocation, %runtime, both, ?edge_rest_s, ?cloud_rest_s, edge_done = progress.done(),
            "the cloud pod is up"
        );
        self.events.tell(|| Event::Resolved {
            runtime,
            both,
            edge_rest_s,
            cloud_rest_s,
        });
        resolution
    }

    async fn edge_won(mut self, ran: Ran) -> Result<BatchAnswer, Failed> {
        let cloud = self.name(&self.cloud);
        let mut account = Account::default();
        let predicted_s = self.cloud.placed.estimate.processing.mean;
        let entry = match (self.cloud.began_s, &self.cloud.failed) {
            (Some(began_s), Some(_)) => {
                account.cloud_failed(&cloud, self.units, (ran.ended_s - began_s).max(0.0))
            }
            (Some(began_s), None) => {
                account.edge_first(&cloud, self.units, (ran.ended_s - began_s).max(0.0))
            }
            (None, Some(_)) => Entry::default(),
            (None, None) => account.edge_alone(&cloud, self.units, predicted_s, None),
        };
        // The edge was done before the package had a use, or with it: it is not needed any more.
        let site = &self.gateway.scheduler.runtimes()[self.cloud.placed.runtime].site;
        single::clear(self.gateway, site, vec![self.staged.key.clone()]);
        if let Some(lease) = self.cloud.lease.take() {
            loser::end(self.gateway, lease, &self.job.invocation, self.job);
        }
        let Some(lease) = self.edge.lease.take() else {
            return Err(Failure::new(500, "internal", "the edge won without a pod").into());
        };
        let waited = Waited {
            transfer_s: 0.0,
            wait_s: ran.began_s,
            start: lease.start,
        };
        let placed = self.edge.placed.clone();
        self.won(ran, &placed, &lease, waited, entry, &cloud).await
    }

    async fn cloud_won(mut self, ran: Ran) -> Result<BatchAnswer, Failed> {
        let cloud = self.name(&self.cloud);
        let mut account = Account::default();
        let entry = account.cloud_first(&cloud, self.units, (ran.ended_s - ran.began_s).max(0.0));
        if let Some(lease) = self.edge.lease.take() {
            loser::end(self.gateway, lease, &self.job.invocation, self.job);
        }
        let Some(lease) = self.cloud.lease.take() else {
            return Err(Failure::new(500, "internal", "the cloud won without a pod").into());
        };
        let site = &self.gateway.scheduler.runtimes()[self.cloud.placed.runtime].site;
        let edges = own_result(self.job, self.edge.placed.runtime);
        single::clear(self.gateway, site, vec![self.staged.key.clone()]);
        let home = &self.gateway.scheduler.runtimes()[self.edge.placed.runtime].site;
        single::clear(self.gateway, home, vec![edges]);
        let transfer_s = self
            .cloud
            .transferred_s
            .unwrap_or_default()
            .min(ran.began_s);
        let waited = Waited {
            transfer_s,
            wait_s: (ran.began_s - transfer_s).max(0.0),
            start: lease.start,
        };
        let placed = self.cloud.placed.clone();
        self.won(ran, &placed, &lease, waited, entry, &cloud).await
    }

    async fn won(
        self,
        ran: Ran,
        placed: &Placed,
        lease: &Lease,
        waited: Waited,
        entry: Entry,
        cloud: &str,
    ) -> Result<BatchAnswer, Failed> {
        let own = own_result(self.job, placed.runtime);
        adopt(self.gateway, &own, &result_key(&self.job.invocation)).await?;
        let edge = placed.runtime == self.edge.placed.runtime;
        let reason = if edge {
            "the edge was done first"
        } else {
            "the cloud was done first"
        };
        let processing_s = (self.now() - ran.began_s).max(0.0);
        let mut answer = single::answer(
            self.gateway,
            self.job,
            self.staged,
            placed,
            lease,
            waited,
            processing_s,
            reason.to_owned(),
            ran.done,
        );
        answer.measurement.race = Some(race(cloud, &entry));
        Ok(answer)
    }

    fn both_failed(self) -> Failed {
        let runtimes = vec![self.edge.placed.runtime, self.cloud.placed.runtime];
        let died = [&self.edge, &self.cloud]
            .into_iter()
            .any(|lane| lane.failed.as_ref().is_some_and(|f| f.died));
        let (edge, cloud) = (self.edge.failed, self.cloud.failed);
        let internal = || Failure::new(500, "internal", "both sides failed").into();
        let first: Failed = edge.or(cloud).unwrap_or_else(internal);
        Failed {
            runtimes,
            died,
            ..first
        }
    }
}

/// The result of one side of a race, until it has won.
fn own_result(job: &BatchJob, runtime: usize) -> String {
    format!("{}.{runtime}", result_key(&job.invocation))
}

/// Gives the winner's result the name under which results are found.
async fn adopt(gateway: &Gateway, own: &str, key: &str) -> Result<(), Failure> {
    let home = gateway.stores.home()?;
    let object = home.get(own).await?;
    let (length, media) = (Some(object.bytes), object.content_type.clone());
    home.put_stream(key, object.body, length, &media, u64::MAX)
        .await?;
    let (home, own) = (home.clone(), own.to_owned());
    gateway
        .runtime
        .spawn(async move { home.delete(&own).await });
    Ok(())
}

/// The output of a future that is under way.
async fn ready<T>(future: &mut Option<BoxFuture<'_, T>>) -> T {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}
