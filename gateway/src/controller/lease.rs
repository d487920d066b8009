//! Which of several replicas writes: the one that holds a `Lease` of the cluster.
//!
//! The times in a lease are of its holder's clock. Nobody compares them with his own: a lease has run out
//! when it was not seen to change for as long as it says.

use super::connect::{code, said};
use k8s_openapi::api::coordination::v1::{Lease as Resource, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::Api;
use kube::api::{ObjectMeta, PostParams};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

/// Name of the lease.
const NAME: &str = "stoic-controller";
/// How long it is good for.
const LENGTH: Duration = Duration::from_secs(15);
/// A holder that could not renew it for so long writes no more.
const SAFE: Duration = Duration::from_secs(10);
/// How often it is renewed, or looked at.
const EVERY: Duration = Duration::from_secs(3);

/// See the module.
pub(super) struct Lease {
    api: Api<Resource>,
    identity: String,
    /// The state that was seen last, and since when.
    seen: Option<(Option<String>, Instant)>,
    renewed: Option<Instant>,
}

impl Lease {
    pub(super) fn new(client: kube::Client, namespace: &str, identity: &str) -> Self {
        Self {
            api: Api::namespaced(client, namespace),
            identity: identity.to_owned(),
            seen: None,
            renewed: None,
        }
    }

    /// Takes part until it is ended, and tells whether this is the holder.
    pub(super) async fn hold(mut self, leads: watch::Sender<bool>, ended: CancellationToken) {
        let mut told = false;
        loop {
            match tokio::time::timeout(SAFE / 2, self.try_hold()).await {
                Ok(Ok(())) => told = false,
                Ok(Err(error)) if !told => {
                    warn!(
                        "the lease cannot be had; no status is written: {}",
                        said(&error)
                    );
                    told = true;
                }
                Ok(Err(error)) => debug!("the lease cannot be had: {}", said(&error)),
                Err(_) => debug!("the lease cannot be had in time"),
            }
            let holds = self.renewed.is_some_and(|at| at.elapsed() < SAFE);
            if *leads.borrow() != holds {
                match holds {
                    true => {
                        info!(identity = %self.identity, "controller: this replica writes statuses")
                    }
                    false => info!("controller: another replica writes statuses"),
                }
                leads.send_replace(holds);
            }
            let pause = tokio::time::sleep(EVERY);
            if ended.run_until_cancelled(pause).await.is_none() {
                break;
            }
        }
        leads.send_replace(false);
        if self.renewed.is_some() {
            let _ = self.give_up().await;
        }
    }

    /// Renews the lease, or takes it where it is free.
    async fn try_hold(&mut self) -> Result<(), kube::Error> {
        let Some(lease) = self.api.get_opt(NAME).await? else {
            let lease = Resource {
                metadata: ObjectMeta {
                    name: Some(NAME.to_owned()),
                    ..ObjectMeta::default()
                },
                spec: Some(self.spec(None)),
            };
            let created = self.api.create(&PostParams::default(), &lease).await;
            return self.note(created);
        };
        let spec = lease.spec.clone().unwrap_or_default();
        let holder = spec.holder_identity.as_deref().unwrap_or_default();
        let version = lease.metadata.resource_version.clone();
        if self.seen.as_ref().map(|(seen, _)| seen) != Some(&version) {
            self.seen = Some((version, Instant::now()));
        }
        let length = spec.lease_duration_seconds.map_or(LENGTH, |seconds| {
            Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
        });
        let run_out = self
            .seen
            .as_ref()
            .is_some_and(|(_, at)| at.elapsed() > length);
        if holder != self.identity && !holder.is_empty() && !run_out {
            self.renewed = None;
            return Ok(());
        }
        let next = Resource {
            metadata: lease.metadata,
            spec: Some(self.spec(Some(&spec))),
        };
        // Its version is in the metadata: of two that take it, one is refused.
        let replaced = self.api.replace(NAME, &PostParams::default(), &next).await;
        self.note(replaced)
    }

    fn note(&mut self, done: Result<Resource, kube::Error>) -> Result<(), kube::Error> {
        match done {
            Ok(lease) => {
                self.renewed = Some(Instant::now());
                self.seen = Some((lease.metadata.resource_version, Instant::now()));
                Ok(())
            }
            // Another was faster.
            Err(error) if code(&error) == Some(409) => {
                self.renewed = None;
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    fn spec(&self, former: Option<&LeaseSpec>) -> LeaseSpec {
        let now = || Some(MicroTime(Timestamp::now()));
        let holder = former.and_then(|f| f.holder_identity.as_deref());
        let same = holder == Some(self.identity.as_str());
        let transitions = former.and_then(|f| f.lease_transitions).unwrap_or(0);
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: i32::try_from(LENGTH.as_secs()).ok(),
            acquire_time: match same {
                true => former.and_then(|f| f.acquire_time.clone()),
                false => now(),
            },
            renew_time: now(),
            lease_transitions: Some(transitions + i32::from(former.is_some() && !same)),
            ..LeaseSpec::default()
        }
    }

    /// Lets another have it at once.
    async fn give_up(&self) -> Result<(), kube::Error> {
        let lease = self.api.get(NAME).await?;
        let mut spec = lease.spec.unwrap_or_default();
        if spec.holder_identity.as_deref() != Some(&self.identity) {
            return Ok(());
        }
        spec.holder_identity = Some(String::new());
        spec.lease_duration_seconds = Some(1);
        let next = Resource {
            metadata: lease.metadata,
            spec: Some(spec),
        };
        let replaced = self.api.replace(NAME, &PostParams::default(), &next).await;
        replaced.map(|_| ())
    }
}
