//! A deployed function as the request path holds it: its object, its pools and its fitted models.

use crate::function::{Function, PublishedModel, Runnable};
use crate::metrics::Meters;
use crate::pods::{PodView, Pool};
use crate::scheduler::{ActionAccuracy, FunctionModels, Incumbents, unix_now};
use arc_swap::{ArcSwap, ArcSwapOption, Guard};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use stoic_placement::ProcessingModel;
use tokio::time::Instant;

/// See the module.
#[derive(Debug)]
pub struct Deployed {
    /// The function.
    pub function: Function,
    pools: Vec<Option<Arc<Pool>>>,
    meters: Vec<Meters>,
    models: ArcSwap<FunctionModels>,
    model: ArcSwapOption<CurrentModel>,
    /// Who got the last invocation of each kind and size.
    pub incumbents: Incumbents,
    /// How far the bootstrap is.
    pub bootstrap: Mutex<Bootstrap>,
    /// Representative tasks of one function follow one another.
    pub bootstrapping: tokio::sync::Mutex<()>,
    /// The version that was to take over from this one, and how that went.
    pub rollout: Mutex<Option<Rollout>>,
    /// When a request that passes through is recorded next, in milliseconds since `born`.
    sample_next: AtomicU64,
    born: Instant,
}

/// Of requests that pass through, one in so many milliseconds is recorded: all are counted.
const SAMPLE_EVERY_MS: u64 = 50;

/// The newest published model, and the name under which its processing times are kept.
#[derive(Debug)]
struct CurrentModel {
    published: Arc<PublishedModel>,
    infer_key: String,
}

impl From<PublishedModel> for CurrentModel {
    fn from(model: PublishedModel) -> Self {
        Self {
            infer_key: processing_key("infer", Some(&model.version)).into_owned(),
            published: Arc::new(model),
        }
    }
}

/// Name under which the processing times of an action are kept. Inference has one for each published
/// model: a new model is a new version of the application (paper, section 3.7) and may be of another
/// size.
#[must_use]
pub fn processing_key<'a>(action: &'a str, model: Option<&str>) -> Cow<'a, str> {
    let is_version = |v: &&str| {
        v.strip_prefix('v')
            .is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
    };
    match model.filter(is_version) {
        Some(version) if action == "infer" => Cow::Owned(format!("infer@{version}")),
        _ => Cow::Borrowed(action),
    }
}

/// State of the representative tasks of a new version (paper, section 3.7).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Bootstrap {
    /// `waiting`, `running`, `done`, `none` (the function has no sample), or `failed`.
    pub state: String,
    /// Tasks run.
    pub done: usize,
    /// Tasks in all.
    pub total: usize,
    /// What it does now, or why it failed.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
}

/// A version that was to take over from the one in force, and did not, or not yet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rollout {
    /// `rolling`: its pods come up; `failed`: it was taken back.
    pub state: String,
    /// The version that was to take over.
    pub version: String,
    /// Why it did not.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// Code of what kept its pods from coming up, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// Since when this is so, seconds since the Unix epoch.
    pub at: f64,
}

impl Rollout {
    /// This state of this version's, from now on.
    #[must_use]
    pub fn new(state: &str, version: &str) -> Self {
        Self {
            state: state.to_owned(),
            version: version.to_owned(),
            reason: String::new(),
            cause: None,
            at: unix_now(),
        }
    }
}

impl Deployed {
    /// A function with one pool for each runtime that it may use; indices are the scheduler's.
    #[must_use]
    pub fn new(function: Function, pools: Vec<Option<Arc<Pool>>>, meters: Vec<Meters>) -> Self {
        let model = function.model.clone().map(|m| Arc::new(m.into()));
        let model = ArcSwapOption::new(model);
        let bootstrap = Mutex::new(Bootstrap {
            state: "waiting".to_owned(),
            ..Bootstrap::default()
        });
        let (sample_next, born) = (AtomicU64::new(0), Instant::now());
        Self {
            function,
            pools,
            meters,
            models: ArcSwap::default(),
            model,
            incumbents: Incumbents::default(),
            bootstrap,
            bootstrapping: tokio::sync::Mutex::default(),
            rollout: Mutex::default(),
            sample_next,
            born,
        }
    }

    /// Pools by runtime index; none where the function may not run.
    #[must_use]
    pub fn pools(&self) -> &[Option<Arc<Pool>>] {
        &self.pools
    }

    /// The pool on a runtime.
    #[must_use]
    pub fn pool(&self, runtime: usize) -> Option<&Arc<Pool>> {
        self.pools.get(runtime)?.as_ref()
    }

    /// Whether another runtime than this one could take an invocation: one on which pods do not fail to
    /// start.
    #[must_use]
    pub fn elsewhere(&self, runtime: usize) -> bool {
        let mut others = self.pools.iter().enumerate();
        others.any(|(index, pool)| {
            index != runtime && pool.as_ref().is_some_and(|pool| !pool.load().failing)
        })
    }

    /// The meters of a runtime.
    #[must_use]
    pub fn meters(&self, runtime: usize) -> Option<&Meters> {
        self.meters.get(runtime)
    }

    /// The fitted models in force.
    #[must_use]
    pub fn models(&self) -> Guard<Arc<FunctionModels>> {
        self.models.load()
    }

    /// Puts newer fits in force.
    pub fn set_models(&self, models: FunctionModels) {
        self.models.store(Arc::new(models));
    }

    /// The newest published model.
    #[must_use]
    pub fn model(&self) -> Option<Arc<PublishedModel>> {
        let current = self.model.load();
        current.as_ref().map(|m| Arc::clone(&m.published))
    }

    /// How well an action on a runtime, with the model in force, was predicted lately.
    #[must_use]
    pub fn accuracy(&self, action: &str, runtime: usize) -> ActionAccuracy {
        let current = self.model.load();
        let key = match current.as_ref() {
            Some(current) if action == "infer" => &current.infer_key,
            _ => action,
        };
        let models = self.models.load();
        let of_action = models.accuracy.actions.get(key);
        of_action
            .and_then(|all| all.get(runtime))
            .copied()
            .unwrap_or_default()
    }

    /// The fitted processing time of an action on a runtime, with the model in force.
    #[must_use]
    pub fn processing(&self, action: &str, runtime: usize) -> Option<ProcessingModel> {
        let current = self.model.load();
        let key = match current.as_ref() {
            Some(current) if action == "infer" => &current.infer_key,
            _ => action,
        };
        self.models.load().processing(key, runtime).copied()
    }

    /// Puts a newly published model in force: every pod loads it before its next invocation.
    pub fn publish(&self, model: &PublishedModel) {
        self.model.store(Some(Arc::new(model.clone().into())));
        for pool in self.pools.iter().flatten() {
            pool.publish(model.clone());
        }
    }

    /// Whether a request that passes through is to be recorded.
    #[must_use]
    pub fn sample_due(&self) -> bool {
        let now = u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX);
        let next = self.sample_next.load(Ordering::Relaxed);
        now >= next
            && self
                .sample_next
                .compare_exchange(
                    next,
                    now + SAMPLE_EVERY_MS,
                    Ordering::Relaxed,
                    Ordering::Relaxed,
                )
                .is_ok()
    }

    /// Its pods.
    #[must_use]
    pub fn pods(&self) -> Vec<PodView> {
        self.pools
            .iter()
            .flatten()
            .flat_map(|pool| pool.view())
            .collect()
    }

    /// Ends its pods; what runs may finish within the grace.
    pub async fn close(&self, grace: Duration) {
        futures_util::future::join_all(self.pools.iter().flatten().map(|pool| pool.close(grace)))
            .await;
    }
}

impl Runnable for Deployed {
    fn name(&self) -> &str {
        self.function.name()
    }
}

#[cfg(test)]
mod tests {
    use super::processing_key;

    #[test]
    fn inference_is_kept_by_published_model_and_other_actions_are_not() {
        assert_eq!(processing_key("infer", Some("v3")), "infer@v3");
        for model in [None, Some("untrained"), Some("v"), Some("vx"), Some("")] {
            assert_eq!(processing_key("infer", model), "infer", "{model:?}");
        }
        assert_eq!(processing_key("train", Some("v3")), "train");
    }
}
