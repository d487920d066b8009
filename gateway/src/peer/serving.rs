//! The peer's end: pods that other gateways use, and what is told of the runtimes here.

use super::protocol::{Line, PodOrder, RuntimeOffer, Trouble};
use crate::auth::Principal;
use crate::failure::Failure;
use crate::gateway::{Gateway, new_id};
use crate::scheduler::unix_now;
use crate::sites::{PodSpec, Site, StartedPod};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::info;

/// How often a lease says that it is there.
const BEAT: Duration = Duration::from_secs(2);
/// A client that takes no line for so long has gone.
const TAKEN_WITHIN: Duration = Duration::from_secs(20);
/// Most pods that other gateways may use at a time.
const MOST: usize = 256;
/// What a site keeps to start further pods of a version from goes when no pod of it was leased for so long.
const RETIRE: Duration = Duration::from_secs(600);
/// What is told of a lease that ends before its owner gave it back.
const LET_IN_NO_MORE: &str =
    "the token that it was leased with is revoked or has expired, or one is needed now";

/// A pod that another gateway uses.
#[derive(Debug)]
pub struct Leased {
    /// Where the pod listens.
    pub address: SocketAddr,
    /// Whose it is.
    pub owner: Principal,
    /// Ends its tunnels.
    pub ended: CancellationToken,
    view: LeaseView,
}

/// A lease as it is shown: `GET /v1/peer/leases`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LeaseView {
    /// Name of the pod.
    pub pod: String,
    /// Function it serves.
    pub function: String,
    /// Version of that function.
    pub version: String,
    /// Runtime it runs on.
    pub runtime: String,
    /// Who has it: the name of the token.
    pub who: String,
    /// Since when, seconds since the Unix epoch.
    pub since: f64,
}

/// The pods that other gateways use.
#[derive(Debug, Default)]
pub struct Leases {
    by_id: Mutex<HashMap<String, Arc<Leased>>>,
    /// Pods of leases, those on their way too, by function and version.
    versions: Mutex<HashMap<(String, String), usize>>,
    closed: CancellationToken,
}

impl Leases {
    /// The lease of this identity, if whoever asks has it.
    #[must_use]
    pub fn get(&self, id: &str, whose: Principal) -> Option<Arc<Leased>> {
        let found = self.by_id.lock().get(id).cloned();
        found.filter(|leased| leased.owner == whose)
    }

    /// Every lease.
    #[must_use]
    pub fn views(&self) -> Vec<LeaseView> {
        let all = self.by_id.lock();
        let mut all: Vec<LeaseView> = all.values().map(|leased| leased.view.clone()).collect();
        all.sort_by(|a, b| a.pod.cmp(&b.pod));
        all
    }

    /// Ends every lease, and takes no more.
    pub fn close(&self) {
        self.closed.cancel();
    }

    fn count(&self) -> usize {
        self.versions.lock().values().sum()
    }
}

/// The runtimes that other gateways may use: those whose pods are started here, the preferred first.
#[must_use]
pub fn offers(gateway: &Gateway) -> Vec<RuntimeOffer> {
    let offer = |info: &crate::scheduler::RuntimeInfo| {
        let site = gateway.site(&info.site)?;
        let config = gateway.config.runtimes.get(&info.name)?;
        (site.backend() != "gateway").then(|| RuntimeOffer {
            name: info.name.clone(),
            backend: site.backend().to_owned(),
            threads: config.threads,
            precision: config.precision.clone(),
            gpus: config.gpus,
            emulated: info.deployment_emulated,
            price: config.price,
        })
    };
    gateway
        .scheduler
        .runtimes()
        .iter()
        .filter_map(offer)
        .collect()
}

/// The site and the pod that an order means here.
fn resolve(gateway: &Gateway, order: PodOrder) -> Result<(Arc<dyn Site>, PodSpec), Failure> {
    let runtime = order.runtime.clone();
    let info = gateway
        .scheduler
        .runtimes()
        .iter()
        .find(|info| info.name == runtime);
    let site = info.and_then(|info| gateway.site(&info.site));
    let (Some(info), Some(site)) = (info, site.filter(|site| site.backend() != "gateway")) else {
        let all: Vec<String> = offers(gateway)
            .into_iter()
            .map(|offer| offer.name)
            .collect();
        let detail = format!(
            "there is no runtime `{runtime}` here; there are: {}",
            all.join(", ")
        );
        return Err(Failure::new(400, "unknown_runtime", detail));
    };
    // Folders and files are named by it.
    crate::function::check_name(&order.function)
        .and_then(|()| crate::function::check_files(&order.files))
        .map_err(|error| Failure::new(400, "function_invalid", error.to_string()))?;
    // Its own, whatever the client calls it: logs and containers are named so.
    let tail = new_id();
    let name = format!(
        "{}-{runtime}-peer-{}",
        order.function,
        &tail[tail.len().saturating_sub(8)..]
    );
    let config = gateway.config.runtimes.get(&info.name);
    let env = crate::gateway::runtime_env(info, config);
    let gpus = config.map_or(0, |config| config.gpus);
    Ok((Arc::clone(site), order.spec(name, env, gpus)))
}

/// Whether such a pod could be started here.
///
/// # Errors
/// Says what is missing.
pub async fn check(gateway: &Gateway, order: PodOrder) -> Result<(), Failure> {
    let (site, spec) = resolve(gateway, order)?;
    site.check(&spec).await.map_err(|error| {
        let status = match error.code() {
            "engine_unavailable" => 503,
            _ => 422,
        };
        Failure::new(status, error.code(), error.to_string())
    })
}

/// What a lease holds, given back whatever happens.
struct Holding {
    gateway: Arc<Gateway>,
    site: Arc<dyn Site>,
    version: (String, String),
    id: String,
    pod: Option<String>,
}

impl Drop for Holding {
    fn drop(&mut self) {
        let leases = &self.gateway.leases;
        if let Some(leased) = leases.by_id.lock().remove(&self.id) {
            leased.ended.cancel();
            info!(pod = %leased.view.pod, who = %leased.view.who, "the lease of a pod has ended");
        }
        if let Some(count) = leases.versions.lock().get_mut(&self.version) {
            *count = count.saturating_sub(1);
        }
        let (gateway, site) = (Arc::clone(&self.gateway), Arc::clone(&self.site));
        let (pod, version) = (self.pod.take(), self.version.clone());
        let grace = gateway.config.deployment.grace;
        let runtime = gateway.runtime.clone();
        runtime.spawn(async move {
            if let Some(pod) = pod {
                site.stop(&pod, grace).await;
            }
            tokio::time::sleep(RETIRE).await;
            retire(&gateway, &*site, &version);
        });
    }
}

/// Lets go of what is kept for a version of which no pod is leased, and that is not deployed here either.
fn retire(gateway: &Gateway, site: &dyn Site, version: &(String, String)) {
    let mut versions = gateway.leases.versions.lock();
    if versions.get(version).is_none_or(|count| *count > 0) {
        return;
    }
    versions.remove(version);
    drop(versions);
    let own = gateway.functions.get(&version.0);
    if own.is_none_or(|own| own.function.version != version.1) {
        site.retire(&version.0, &version.1);
    }
}

/// Refuses what cannot be leased at all, and gives the work of the lease: it ends when it is dropped, or when
/// its owner may not ask any more. `who` is the name that is shown.
///
/// # Errors
/// There is no such runtime, or too many pods are leased.
pub fn lease(
    gateway: &Arc<Gateway>,
    order: PodOrder,
    owner: Principal,
    who: &str,
    lines: mpsc::Sender<Line>,
) -> Result<impl Future<Output = ()> + Send + use<>, Failure> {
    let (site, spec) = resolve(gateway, order)?;
    if gateway.leases.closed.is_cancelled() {
        return Err(Failure::new(503, "gateway_stopping", "the gateway stops").retry_after(5));
    }
    if gateway.leases.count() >= MOST {
        let detail = format!("other gateways use {MOST} pods already");
        return Err(Failure::new(429, "leases_full", detail).retry_after(5));
    }
    let version = (spec.function.clone(), spec.version.clone());
    *gateway
        .leases
        .versions
        .lock()
        .entry(version.clone())
        .or_default() += 1;
    let holding = Holding {
        gateway: Arc::clone(gateway),
        site,
        version,
        id: lease_id(),
        pod: None,
    };
    let closed = gateway.leases.closed.clone();
    let (auth, who) = (Arc::clone(&gateway.auth), who.to_owned());
    Ok(async move {
        let told = lines.clone();
        let held = hold(holding, spec, owner, who, lines);
        tokio::select! {
            () = held => {}
            () = closed.cancelled() => {}
            () = auth.until_gone(owner) => {
                let how = LET_IN_NO_MORE.to_owned();
                // Nobody is waited for to read it.
                let _ = told.try_send(Line::Exited { how });
            }
        }
    })
}

/// Not to be guessed: whoever knows it, and has the token, reaches the pod.
fn lease_id() -> String {
    format!("{}{:016x}", new_id(), rand::random::<u64>())
}

/// Says a line; whether it was taken.
async fn say(lines: &mpsc::Sender<Line>, line: Line) -> bool {
    let said = tokio::time::timeout(TAKEN_WITHIN, lines.send(line)).await;
    matches!(said, Ok(Ok(())))
}

async fn hold(
    mut holding: Holding,
    spec: PodSpec,
    owner: Principal,
    who: String,
    lines: mpsc::Sender<Line>,
) {
    let mut beat = tokio::time::interval(BEAT);
    let mut view = LeaseView {
        pod: spec.name.clone(),
        function: spec.function.clone(),
        version: spec.version.clone(),
        runtime: spec.runtime.clone(),
        who,
        since: 0.0,
    };
    let started = {
        let site = Arc::clone(&holding.site);
        let start = site.start(spec);
        tokio::pin!(start);
        loop {
            tokio::select! {
                started = &mut start => break started,
                _ = beat.tick() => if !say(&lines, Line::Beat).await { return },
            }
        }
    };
    let StartedPod {
        address,
        id,
        mut exited,
        emulated_s,
        stages,
        model,
        digest,
    } = match started {
        Ok(started) => started,
        Err(error) => {
            let _ = say(&lines, Line::Failed(Trouble::from(&error))).await;
            return;
        }
    };
    holding.pod = Some(id);
    view.since = unix_now();
    let pod = view.pod.clone();
    info!(%pod, who = %view.who, "a pod is leased to another gateway");
    let leased = Leased {
        address,
        owner,
        ended: CancellationToken::new(),
        view,
    };
    let leases = &holding.gateway.leases;
    leases
        .by_id
        .lock()
        .insert(holding.id.clone(), Arc::new(leased));
    let ready = Line::Ready {
        lease: holding.id.clone(),
        pod,
        emulated_s,
        stages: stages.into_iter().map(|(k, v)| (k.to_owned(), v)).collect(),
        model,
        digest,
    };
    if !say(&lines, ready).await {
        return;
    }
    let exit = async move {
        let how = exited.wait_for(Option::is_some).await;
        how.ok().and_then(|how| how.clone()).unwrap_or_default()
    };
    tokio::pin!(exit);
    loop {
        tokio::select! {
            how = &mut exit => {
                let _ = say(&lines, Line::Exited { how }).await;
                return;
            }
            _ = beat.tick() => if !say(&lines, Line::Beat).await { return },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_its_owners_and_not_whose_token_has_the_same_name() {
        let (old, new) = (Principal::Token([1; 32]), Principal::Token([2; 32]));
        let leased = Leased {
            address: SocketAddr::from(([127, 0, 0, 1], 1)),
            owner: old,
            ended: CancellationToken::new(),
            view: LeaseView {
                pod: "p".to_owned(),
                function: "f".to_owned(),
                version: "v".to_owned(),
                runtime: "cpu".to_owned(),
                who: "shed".to_owned(),
                since: 0.0,
            },
        };
        let leases = Leases::default();
        leases.by_id.lock().insert("l".to_owned(), Arc::new(leased));
        assert!(leases.get("l", old).is_some());
        for other in [new, Principal::Anyone, Principal::Itself] {
            assert!(leases.get("l", other).is_none());
        }
        assert_eq!(leases.views()[0].who, "shed");
    }
}
