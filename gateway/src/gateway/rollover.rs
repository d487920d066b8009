//! Deployments and removals of functions. A new version takes over without a request lost: its pods come
//! up beside those of the version in force, which serves until they are ready, and then finishes what it
//! has begun. A version that does not come up is taken back, and the former stays in force.

use super::Gateway;
use crate::failure::Failure;
use crate::function::{Function, FunctionObject, RESOURCE};
use crate::pods::{NotUp, Pool};
use crate::runnable::{Deployed, Rollout};
use crate::scheduler::unix_now;
use futures_util::future;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tracing::{info, warn};

/// Whose turn it is to change a function, and what was asked for last.
#[derive(Debug)]
pub(super) struct Turn {
    one_at_a_time: tokio::sync::Mutex<()>,
    newest: watch::Sender<Wish>,
}

/// What a function is wanted to be: none where it is to be removed.
#[derive(Debug, Clone, Default)]
struct Wish {
    number: u64,
    object: Option<Arc<FunctionObject>>,
}

impl Default for Turn {
    fn default() -> Self {
        Self {
            one_at_a_time: tokio::sync::Mutex::default(),
            newest: watch::Sender::new(Wish::default()),
        }
    }
}

impl Turn {
    /// Says what is wanted from now on; its number.
    fn wish(&self, object: Option<Arc<FunctionObject>>) -> u64 {
        let mut number = 0;
        self.newest.send_modify(|wish| {
            number = wish.number + 1;
            *wish = Wish { number, object };
        });
        number
    }

    /// Returns when something else is wanted than this object, which was asked for with this number.
    async fn superseded(&self, number: u64, object: &FunctionObject) {
        let mut newest = self.newest.subscribe();
        let other = |wish: &Wish| {
            wish.number > number && wish.object.as_deref().is_none_or(|wanted| wanted != object)
        };
        // The sender lives as long as this borrow of it.
        let _ = newest.wait_for(other).await;
    }
}

impl Gateway {
    fn turn(&self, name: &str) -> Arc<Turn> {
        Arc::clone(self.turns.lock().entry(name.to_owned()).or_default())
    }

    /// Deploys a function that a client declares, unless it is declared elsewhere; see
    /// [`put_function`](Self::put_function).
    ///
    /// # Errors
    /// The function belongs to a resource of the cluster (`function_managed`), or it cannot be deployed.
    pub async fn deploy(
        self: &Arc<Self>,
        mut object: FunctionObject,
    ) -> Result<Arc<Deployed>, Failure> {
        object.metadata.annotations.remove(RESOURCE);
        self.check_unmanaged(&object.metadata.name)?;
        self.put_function(object).await
    }

    /// Removes a function that a client declared; see [`take_function`](Self::take_function).
    ///
    /// # Errors
    /// The function belongs to a resource of the cluster (`function_managed`), or it cannot be removed.
    pub async fn remove(self: &Arc<Self>, name: &str) -> Result<(), Failure> {
        self.check_unmanaged(name)?;
        self.take_function(name).await
    }

    /// Refuses to change what a resource of the cluster declares: its controller would undo it.
    fn check_unmanaged(&self, name: &str) -> Result<(), Failure> {
        let deployed = self.functions.get(name);
        match deployed.as_ref().and_then(|d| d.function.resource()) {
            Some(resource) if self.config.controller.enabled => {
                let detail = format!(
                    "`{name}` is declared by the resource {resource} of the cluster: change it there, with kubectl"
                );
                Err(Failure::new(409, "function_managed", detail))
            }
            _ => Ok(()),
        }
    }

    /// Deploys a function: checked, stored, its standbys started. The same object again changes nothing.
    /// A new version of a function that has pods ready takes over when it has some, too: this returns
    /// then. It goes on when the caller leaves.
    ///
    /// # Errors
    /// The object names unknown runtimes, its command cannot be started, or the disk says no; the new
    /// version does not come up (`rollout_failed`), or another was deployed meanwhile
    /// (`deployment_superseded`): the former stays in force.
    pub async fn put_function(
        self: &Arc<Self>,
        object: FunctionObject,
    ) -> Result<Arc<Deployed>, Failure> {
        object.validate()?;
        self.check_runtimes(&object).await?;
        let turn = self.turn(&object.metadata.name);
        let number = turn.wish(Some(Arc::new(object.clone())));
        let gateway = Arc::clone(self);
        let deploying = async move { gateway.deploy_in_turn(object, &turn, number).await };
        self.runtime
            .spawn(deploying)
            .await
            .unwrap_or_else(|error| Err(Failure::new(500, "deployment_broke", error.to_string())))
    }

    async fn deploy_in_turn(
        self: &Arc<Self>,
        object: FunctionObject,
        turn: &Turn,
        number: u64,
    ) -> Result<Arc<Deployed>, Failure> {
        let _one_at_a_time = turn.one_at_a_time.lock().await;
        let name = object.metadata.name.clone();
        let current = self.functions.get(&name);
        if let Some(current) = current
            .as_ref()
            .filter(|current| current.function.object == object)
        {
            return Ok(Arc::clone(current));
        }
        let created = current
            .as_ref()
            .map_or_else(unix_now, |current| current.function.created);
        let same = current
            .as_deref()
            .filter(|current| current.function.spec_is(&object));
        let next = self.prepare(object.clone(), created, same).await?;
        if same.is_some() {
            // Labels and annotations alone: its pods know nothing of them.
            self.history.put_function(&object, created).await?;
            self.put_in_force(&next);
            return Ok(next);
        }
        if let Some(current) = &current {
            let up = tokio::select! {
                up = self.bring_up(&next, current) => up,
                () = turn.superseded(number, &object) => Err(superseded(&name)),
            };
            // Whatever comes now: what is stored is put in force.
            let stored = match up {
                Ok(()) => {
                    let stored = self.history.put_function(&object, created).await;
                    stored.map_err(Failure::from)
                }
                Err(failure) => Err(failure),
            };
            if let Err(failure) = stored {
                warn!(function = %name, version = %next.function.version, "not deployed: {}", failure.problem);
                self.take_back(&next, current, &failure).await;
                return Err(failure);
            }
        } else {
            self.history.put_function(&object, created).await?;
        }
        self.put_in_force(&next);
        self.beside
            .lock()
            .retain(|other| !Arc::ptr_eq(other, &next));
        Ok(next)
    }

    /// Has pods of the next version ready wherever the current one has some.
    async fn bring_up(&self, next: &Arc<Deployed>, current: &Deployed) -> Result<(), Failure> {
        let both = next.pools().iter().zip(current.pools());
        let both: Vec<(&Arc<Pool>, &Arc<Pool>)> = both
            .filter_map(|(next, current)| Some((next.as_ref()?, current.as_ref()?)))
            .filter(|(_, current)| current.ready() > 0)
            .collect();
        if both.is_empty() {
            return Ok(());
        }
        let version = &next.function.version;
        *current.rollout.lock() = Some(Rollout::new("rolling", version));
        // Its pods are seen, and kept.
        self.beside.lock().push(Arc::clone(next));
        let all = both.into_iter().map(|(pool, current)| async move {
            pool.raise(current.needed()).await.map_err(|why: NotUp| {
                let runtime = &pool.options().runtime;
                let detail = format!(
                    "version {version} did not come up on {runtime} and was taken back; version {} stays in force: {why}",
                    current.options().version
                );
                Failure::new(422, "rollout_failed", detail)
            })
        });
        future::try_join_all(all).await.map(|_| ())
    }

    async fn take_back(&self, next: &Arc<Deployed>, current: &Deployed, failure: &Failure) {
        let mut troubles = next.pools().iter().flatten().filter_map(|p| p.trouble());
        let cause = troubles.find_map(|failures| Some(failures.last()?.code().to_owned()));
        next.close(Duration::ZERO).await;
        self.beside.lock().retain(|other| !Arc::ptr_eq(other, next));
        self.retire(&next.function);
        let mut rollout = Rollout::new("failed", &next.function.version);
        rollout.cause = cause;
        rollout.reason = failure.problem.detail.clone().unwrap_or_default();
        *current.rollout.lock() = Some(rollout);
    }

    /// Puts a version in force. What runs on the former one ends there.
    pub(super) fn put_in_force(self: &Arc<Self>, deployed: &Arc<Deployed>) {
        let (name, version) = (deployed.function.name(), &deployed.function.version);
        let former = self.functions.put(Arc::clone(deployed));
        self.keep_replicas(deployed, former.as_deref());
        for pool in deployed.pools().iter().flatten() {
            pool.maintain();
            pool.lower();
        }
        if let Some(former) = former {
            if let Some(model) = former
                .model()
                .filter(|model| deployed.model().as_ref() != Some(model))
            {
                // Published while this version came up.
                deployed.publish(&model);
            }
            let shared = former.pools().iter().flatten().any(|pool| {
                let mut ours = deployed.pools().iter().flatten();
                ours.any(|other| Arc::ptr_eq(other, pool))
            });
            if !shared {
                let grace = former.function.object.spec.timeout;
                self.finish(former, grace);
            }
        }
        info!(function = %name, %version, "function deployed");
        self.bootstrap(deployed);
    }

    /// Keeps as many pods ready as the object asks for in `spec.replicas`.
    fn keep_replicas(&self, deployed: &Deployed, former: Option<&Deployed>) {
        let replicas = |deployed: &Deployed| deployed.function.object.spec.replicas;
        let mut pools = deployed.pools().iter().flatten();
        match replicas(deployed) {
            Some(0) => pools.for_each(|pool| pool.scale(0)),
            Some(many) => {
                if let Some(first) = pools.next() {
                    first.scale(many);
                }
                pools.for_each(Pool::unscale);
            }
            None if former.and_then(replicas).is_some() => pools.for_each(Pool::unscale),
            None => {}
        }
    }

    /// Ends a version that is not in force any more; until it has ended, its pods are seen.
    fn finish(self: &Arc<Self>, former: Arc<Deployed>, grace: Duration) {
        self.beside.lock().push(Arc::clone(&former));
        let gateway = Arc::clone(self);
        self.runtime.spawn(async move {
            former.close(grace).await;
            gateway
                .beside
                .lock()
                .retain(|other| !Arc::ptr_eq(other, &former));
            gateway.retire(&former.function);
        });
    }

    /// Tells every site that a version has no pods any more, unless it was deployed again meanwhile.
    fn retire(&self, former: &Function) {
        let mut versions = self.all_versions().into_iter();
        let same =
            |other: &Function| other.name() == former.name() && other.version == former.version;
        if versions.any(|version| same(&version.function)) {
            return;
        }
        for site in self.sites.values() {
            site.retire(former.name(), &former.version);
        }
    }

    /// Removes a function: no new invocation, what runs may finish within the grace. A version of it that
    /// is coming up is taken back.
    ///
    /// # Errors
    /// There is none of this name, or the disk says no.
    pub async fn take_function(self: &Arc<Self>, name: &str) -> Result<(), Failure> {
        let turn = self.turn(name);
        turn.wish(None);
        let _one_at_a_time = turn.one_at_a_time.lock().await;
        let was_stored = self.history.delete_function(name).await?;
        let former = self.functions.remove(name);
        if !was_stored && former.is_none() {
            self.turns.lock().remove(name);
            return Err(Failure::unknown_function(name));
        }
        if let Some(former) = former {
            self.finish(former, self.config.deployment.grace);
        }
        info!(function = %name, "function removed");
        Ok(())
    }
}

fn superseded(name: &str) -> Failure {
    let detail = format!("something else was asked for `{name}` while this version came up");
    Failure::new(409, "deployment_superseded", detail)
}
