//! The start of a pod: its object is made, and from then on the watch tells what became of it. As soon as
//! it has an address it is connected to until it answers.

use super::Inner;
use super::answer::answer;
use super::labels;
use super::living::Told;
use super::manifest::{self, Place};
use super::reach::Reached;
use super::status::Seen;
use crate::sites::ready::{exited_early, never_ready, told_stages};
use crate::sites::reference::Reference;
use crate::sites::{PodSpec, StartError, StartedPod, check_secrets};
use k8s_openapi::api::core::v1::Pod;
use kube::api::PostParams;
use rand::Rng;
use std::future::pending;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use stoic_protocol::stages::{CREATE, LISTEN, READY, SCHEDULE, START};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until};
use tracing::debug;

/// Name of the object that is only tried.
const TRIED: &str = "stoic-check";

/// A pod that was made and belongs to nobody else: dropped, it is removed.
struct Made {
    inner: Arc<Inner>,
    name: String,
    told: Told,
    kept: bool,
}

impl Drop for Made {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        let (inner, name) = (Arc::clone(&self.inner), std::mem::take(&mut self.name));
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                inner.living.with(&name, |life| life.stopping = true);
                inner.delete(&name, Duration::ZERO).await;
                inner.living.remove(&name);
            });
        }
    }
}

/// When a pod passed the stages of its start.
#[derive(Debug, Default)]
struct Passed {
    scheduled: Option<Instant>,
    running: Option<Instant>,
    /// Since when the scheduler has said that there is no room.
    no_room: Option<Instant>,
}

impl Inner {
    /// Whether such a pod could be made: the API server tells without making it.
    pub(super) async fn check_pod(&self, spec: &PodSpec) -> Result<(), StartError> {
        let image = image_of(spec)?;
        check_secrets(&self.secrets, spec)?;
        let body = manifest::pod(TRIED, &image, spec, self.place());
        let params = PostParams {
            dry_run: true,
            ..PostParams::default()
        };
        match answer(self.pods.create(&params, &body)).await {
            Ok(_) => Ok(()),
            Err(error) => match error.into_start_error("the pod") {
                // Room may be there when it is needed.
                StartError::NoRoom(_) => Ok(()),
                error => Err(error),
            },
        }
    }

    pub(super) async fn start_pod(
        self: &Arc<Self>,
        spec: PodSpec,
    ) -> Result<StartedPod, StartError> {
        let delay = self
            .delays
            .as_ref()
            .map_or(Duration::ZERO, |trace| trace.draw(&spec.runtime));
        tokio::time::sleep(delay).await;
        check_secrets(&self.secrets, &spec)?;
        let image = image_of(&spec)?;
        let begun = Instant::now();
        let mut made = self.make(&spec, &image).await?;
        let created = Instant::now();
        let mut passed = Passed::default();
        let reached = self.come_up(&spec, &mut made, created, &mut passed).await?;

        let since = |from: Instant, to: Instant| (to - from).as_secs_f64();
        let ready = Instant::now();
        // What was not seen in between happened by the time that it answered.
        let scheduled = passed.scheduled.unwrap_or(created);
        let running = passed.running.unwrap_or(ready).max(scheduled);
        let own = told_stages(&reached.told);
        let told_s: f64 = own.iter().map(|(_, seconds)| seconds).sum();
        let mut stages = vec![
            (CREATE, since(begun, created)),
            (SCHEDULE, since(created, scheduled)),
        ];
        if own.is_empty() {
            stages.push((START, since(scheduled, running)));
            stages.push((LISTEN, since(running, ready)));
        } else {
            // Its own stages lie before the node's report that it runs, or after it.
            let around = (since(scheduled, ready) - told_s).max(0.0);
            let after = around.min(since(running, ready));
            stages.push((START, around - after));
            stages.extend(own);
            stages.push((READY, after));
        }
        let (address, forward) = (reached.address, reached.forward);
        for former in self.living.settle(&made.name, address, forward) {
            self.bury(former, None);
        }
        debug!(pod = %spec.name, site = %self.name, object = %made.name, %address, "pod answers");
        made.kept = true;
        let digest = made.told.seen.borrow().digest.clone();
        Ok(StartedPod {
            address,
            id: made.name.clone(),
            exited: made.told.exited.clone(),
            emulated_s: delay.as_secs_f64(),
            stages,
            model: None,
            digest,
        })
    }

    pub(super) fn place(&self) -> Place<'_> {
        Place {
            gateway_id: &self.gateway_id,
            site: &self.name,
            namespace: &self.namespace,
            config: &self.config,
            owner: self.owner.as_ref(),
        }
    }

    /// Has the pod's object made, and its secrets. The asking goes on when the caller leaves, so that
    /// what comes of it can be removed.
    async fn make(self: &Arc<Self>, spec: &PodSpec, image: &str) -> Result<Made, StartError> {
        let stopping = || StartError::Refused("the gateway is stopping".to_owned());
        if self.closing.load(Ordering::SeqCst) {
            return Err(stopping());
        }
        let files = self.secrets.read(&spec.secrets);
        let mut files = files.map_err(|e| StartError::Refused(format!("secrets: {e}")))?;
        for (n, file) in spec.files.iter().enumerate() {
            let bytes = file.bytes();
            let bytes = bytes.map_err(|e| StartError::Refused(e.to_string()))?;
            files.push((manifest::file_key(n), bytes));
        }
        let name = format!("stoic-{}-{:08x}", spec.name, rand::rng().random::<u32>());
        let body = manifest::pod(&name, image, spec, self.place());
        let memory = spec.resources.as_ref().and_then(|r| r.memory);
        // Known before it is there, so that the watch tells of it from the first.
        let told = self
            .living
            .add(&name, &spec.name, memory.map(|memory| memory.as_u64()));
        let inner = Arc::clone(self);
        let (answered, asked) = oneshot::channel();
        tokio::spawn(async move {
            let outcome = inner.create(&name, &body, files).await;
            let outcome = match outcome {
                Ok(()) => Ok(Made {
                    inner: Arc::clone(&inner),
                    name,
                    told,
                    kept: false,
                }),
                Err(error) => {
                    inner.living.remove(&name);
                    Err(error)
                }
            };
            // Where nobody waits any more, the pod comes back here and is dropped.
            let _ = answered.send(outcome);
        });
        asked.await.unwrap_or_else(|_| Err(stopping()))
    }

    async fn create(
        &self,
        name: &str,
        body: &Pod,
        files: Vec<(String, Vec<u8>)>,
    ) -> Result<(), StartError> {
        let params = PostParams::default();
        let made = match answer(self.pods.create(&params, body)).await {
            Ok(made) => made,
            // An answer got lost, and the client asked again.
            Err(error) if error.status == Some(409) => {
                let there = answer(self.pods.get(name)).await;
                let ours = there.ok().filter(|pod| {
                    let labels = pod.metadata.labels.as_ref();
                    labels::is_ours(labels, &self.gateway_id, &self.name)
                });
                ours.ok_or_else(|| error.into_start_error("the pod"))?
            }
            Err(error) => return Err(error.into_start_error("the pod")),
        };
        self.living.made(name);
        if files.is_empty() {
            return Ok(());
        }
        // Only now: they belong to the pod, and go with it. Its node waits for them.
        let secret = manifest::secret(&made, files);
        match answer(self.keeps.create(&params, &secret)).await {
            Ok(_) => Ok(()),
            Err(error) if error.status == Some(409) => Ok(()),
            Err(error) => {
                self.delete(name, Duration::ZERO).await;
                Err(error.into_start_error("the pod's secrets and files"))
            }
        }
    }

    /// Follows a pod until it answers.
    async fn come_up(
        self: &Arc<Self>,
        spec: &PodSpec,
        made: &mut Made,
        created: Instant,
        passed: &mut Passed,
    ) -> Result<Reached, StartError> {
        type Reaching<'a> = Pin<Box<dyn Future<Output = std::io::Result<Reached>> + Send + 'a>>;
        let name = made.name.clone();
        let watched = made.told.seen.clone();
        let Told { seen, exited } = &mut made.told;
        let mut reaching: Option<Reaching<'_>> = None;
        loop {
            let now = seen.borrow_and_update().clone();
            passed.note(&now);
            if let Some(stuck) = &now.stuck {
                return Err(stuck.clone());
            }
            if now.ended.as_ref().is_some_and(|ended| ended.no_room) {
                return Err(no_room(&now));
            }
            if let Some(ip) = now.ip
                && reaching.is_none()
            {
                let reached = self.reached(&name, ip, spec.port, &spec.health, watched.clone());
                reaching = Some(Box::pin(reached));
            }
            let answers = async {
                match &mut reaching {
                    Some(reaching) => reaching.await,
                    None => pending().await,
                }
            };
            let exit = async {
                let how = exited.wait_for(Option::is_some).await.ok();
                let how = how.and_then(|how| how.clone());
                how.unwrap_or_else(|| "it is gone".to_owned())
            };
            let room = passed.no_room.map(|since| since + self.config.room_timeout);
            let limit = match passed.running {
                Some(running) => running + spec.ready_timeout,
                None => created + self.config.start_timeout,
            };
            tokio::select! {
                reached = answers => {
                    return reached.map_err(|e| StartError::Refused(format!("no free port: {e}")));
                }
                Ok(()) = seen.changed() => {}
                how = exit => return Err(exited_early(&how)),
                () = async { match room { Some(at) => sleep_until(at).await, None => pending().await } } => {
                    return Err(no_room(&now));
                }
                () = sleep_until(limit) => {
                    return Err(match passed.running {
                        Some(_) => {
                            let last = self.last_words(&name);
                            let last = tokio::time::timeout(Duration::from_secs(5), last).await;
                            let last = last.ok().flatten();
                            let line = last.as_deref().and_then(crate::sites::last_line_of);
                            never_ready(spec, Some(spec.port), line)
                        }
                        None => not_started(&now, self.config.start_timeout),
                    });
                }
            }
        }
    }
}

impl Passed {
    fn note(&mut self, seen: &Seen) {
        let now = Instant::now();
        if seen.scheduled {
            self.scheduled.get_or_insert(now);
        }
        if seen.running {
            self.running.get_or_insert(now);
        }
        if seen.no_room.is_none() {
            self.no_room = None;
        } else {
            self.no_room.get_or_insert(now);
        }
    }
}

fn no_room(seen: &Seen) -> StartError {
    let said = match (&seen.no_room, &seen.ended) {
        (Some(said), _) => said.clone(),
        (None, Some(ended)) => ended.how.clone(),
        (None, None) => String::new(),
    };
    StartError::NoRoom(format!("the cluster has no room for the pod: {said}"))
}

fn not_started(seen: &Seen, limit: Duration) -> StartError {
    let waits = seen.waits.as_deref().unwrap_or("no node has taken it");
    StartError::NeverReady(format!(
        "the pod's container did not run within {}: {waits}",
        humantime::format_duration(limit)
    ))
}

/// The image of a pod.
fn image_of(spec: &PodSpec) -> Result<String, StartError> {
    let image = spec
        .image
        .as_deref()
        .ok_or_else(|| StartError::Refused("spec.image: the function has none".to_owned()))?;
    Reference::parse(image).map_err(StartError::Refused)?;
    Ok(image.to_owned())
}
