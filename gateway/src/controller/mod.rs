//! Functions as resources of a Kubernetes cluster: what is applied there becomes a function of this
//! gateway, and what became of it is written into its status.
//!
//! One task watches the objects of a kind, and each object has a keeper of its own, so that one whose pods do
//! not come up holds nobody else up. Every replica of a gateway knows all functions; the one that holds the
//! lease writes status, events and finalizers. An API server that is away stops
//! nothing but that.

mod connect;
mod definition;
mod deployment;
mod keeper;
mod kind;
mod lease;
mod report;
mod status;
mod v1beta1;
mod watch;

pub use definition::{GROUP, PLURAL, VERSION, definition, yaml};

pub(crate) use connect::{connect, said};

use crate::gateway::Gateway;
use kind::Kind;
use parking_lot::Mutex;
use report::Reporter;
use status::Seen;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, watch as channel};
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tracing::info;

/// How often the functions are looked at for what has changed.
const LOOK_EVERY: Duration = Duration::from_millis(300);

/// A controller that works.
#[derive(Debug)]
pub struct Controller {
    ended: CancellationToken,
    lease: JoinHandle<()>,
}

/// What its tasks share.
struct Shared {
    gateway: Arc<Gateway>,
    client: kube::Client,
    namespace: String,
    /// Identity of the gateway, as its pods bear it.
    id: String,
    /// Whether there is a site whose pods are pods of a cluster.
    in_cluster: bool,
    reporter: Reporter,
    /// Whether this replica is the one that writes.
    leads: channel::Receiver<bool>,
    keepers: Mutex<HashMap<(Kind, String), Kept>>,
    ended: CancellationToken,
}

/// The way to the keeper of one object.
struct Kept {
    object: channel::Sender<keeper::Wanted>,
    nudge: Arc<Notify>,
    seen: Option<Seen>,
}

impl Controller {
    /// Begins to work; asks the cluster nothing before it returns.
    ///
    /// # Errors
    /// No cluster is configured, the history cannot be read, or `controller.v1beta1` cannot be served.
    pub async fn start(gateway: &Arc<Gateway>) -> anyhow::Result<Self> {
        let config = &gateway.config.controller;
        let (client, namespace) = connect(config).await?;
        let id = gateway
            .history
            .setting("gateway-id", crate::gateway::new_id)
            .await?;
        let identity = format!("stoic-{id}");
        let ended = CancellationToken::new();
        if let Some(old) = &config.v1beta1 {
            v1beta1::serve(old, ended.clone()).await?;
        }
        let (leading, leads) = channel::channel(false);
        let lease = lease::Lease::new(client.clone(), &namespace, &identity);
        let lease = tokio::spawn(lease.hold(leading, ended.clone()));
        let shared = Arc::new(Shared {
            reporter: Reporter::new(client.clone(), &namespace, &identity),
            in_cluster: gateway
                .config
                .sites
                .values()
                .any(|site| site.backend.name() == "kubernetes"),
            gateway: Arc::clone(gateway),
            client,
            namespace,
            id,
            leads,
            keepers: Mutex::default(),
            ended: ended.clone(),
        });
        info!(namespace = %shared.namespace, "controller: functions of the cluster are served");
        for kind in kind::all() {
            if kind.watched(config) {
                tokio::spawn(watch::run(Arc::clone(&shared), kind));
            } else {
                watch::forget(&shared, kind).await;
            }
        }
        tokio::spawn(look(shared));
        Ok(Self { ended, lease })
    }

    /// Stops, and lets another replica have the lease at once.
    pub async fn stop(self) {
        self.ended.cancel();
        let _ = tokio::time::timeout(Duration::from_secs(3), self.lease).await;
    }
}

/// Looks at the functions every now and then, and nudges the keepers of those that have changed.
async fn look(shared: Arc<Shared>) {
    let mut tick = tokio::time::interval(LOOK_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while shared
        .ended
        .run_until_cancelled(tick.tick())
        .await
        .is_some()
    {
        for ((_, name), kept) in shared.keepers.lock().iter_mut() {
            let seen = shared.gateway.functions.get(name);
            let seen = seen.map(|deployed| Seen::of(&deployed));
            if kept.seen != seen {
                kept.seen = seen;
                kept.nudge.notify_one();
            }
        }
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("namespace", &self.namespace)
            .finish_non_exhaustive()
    }
}
