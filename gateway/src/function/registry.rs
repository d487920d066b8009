//! The functions that are deployed, as the request path sees them.

use super::{FunctionObject, FunctionSpec};
use arc_swap::ArcSwap;
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

/// Annotation of a function that a resource of a Kubernetes cluster declares: which one, `kind/namespace/name`.
pub const RESOURCE: &str = "stoic.dev/resource";

/// A deployed function: a valid object and its version.
#[derive(Debug, Clone)]
pub struct Function {
    /// The object as deployed.
    pub object: FunctionObject,
    /// Version of the declared spec: changes whenever the spec does.
    pub version: String,
    /// The newest published model, where the function has one.
    pub model: Option<PublishedModel>,
    /// When it was deployed first, seconds since the Unix epoch.
    pub created: f64,
}

/// A model that was trained and published to the stores of every site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishedModel {
    /// Version, `v1`, `v2`, ...
    pub version: String,
    /// Key in the object store of every site.
    pub key: String,
}

impl Function {
    /// A function of this object, with no model yet.
    #[must_use]
    pub fn new(object: FunctionObject, model: Option<PublishedModel>, created: f64) -> Self {
        let version = version_of(&object);
        Self {
            object,
            version,
            model,
            created,
        }
    }

    /// Name of the function.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.object.metadata.name
    }

    /// The resource of a cluster that declares it, where one does: `kind/namespace/name`.
    #[must_use]
    pub fn resource(&self) -> Option<&str> {
        let annotations = &self.object.metadata.annotations;
        annotations.get(RESOURCE).map(String::as_str)
    }

    /// Whether this object declares the same spec, but for how many pods are kept: it is the same version
    /// then.
    #[must_use]
    pub fn spec_is(&self, object: &FunctionObject) -> bool {
        without_replicas(&self.object) == without_replicas(object)
    }

    /// Whether the function may run on this runtime.
    #[must_use]
    pub fn allows(&self, runtime: &str) -> bool {
        self.object.spec.runtimes.is_empty()
            || self.object.spec.runtimes.iter().any(|r| r == runtime)
    }
}

fn without_replicas(object: &FunctionObject) -> FunctionSpec {
    FunctionSpec {
        replicas: None,
        ..object.spec.clone()
    }
}

/// The version is a digest of the spec: the same file deployed twice is the same version.
fn version_of(object: &FunctionObject) -> String {
    let mut hasher = DefaultHasher::new();
    serde_json::to_string(&without_replicas(object))
        .unwrap_or_default()
        .hash(&mut hasher);
    format!("{:012x}", hasher.finish() & 0xffff_ffff_ffff)
}

/// A function together with what the request path attached to it at deployment (its pools), so that a
/// request resolves its name once.
pub trait Runnable: Send + Sync + 'static {
    /// Name under which it is registered.
    fn name(&self) -> &str;
}

/// Deployed functions by name. Reads take no lock; a change publishes a new map.
#[derive(Debug)]
pub struct Registry<R> {
    map: ArcSwap<HashMap<String, Arc<R>>>,
}

impl<R: Runnable> Default for Registry<R> {
    fn default() -> Self {
        Self {
            map: ArcSwap::from_pointee(HashMap::new()),
        }
    }
}

impl<R: Runnable> Registry<R> {
    /// The function of this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Arc<R>> {
        self.map.load().get(name).cloned()
    }

    /// All functions, by name.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<R>> {
        let mut all: Vec<_> = self.map.load().values().cloned().collect();
        all.sort_by(|a, b| a.name().cmp(b.name()));
        all
    }

    /// Puts a function in place of the one of its name, which is returned.
    pub fn put(&self, function: Arc<R>) -> Option<Arc<R>> {
        let name = function.name().to_owned();
        let mut former = None;
        self.map.rcu(|map| {
            let mut next = HashMap::clone(map);
            former = next.insert(name.clone(), function.clone());
            next
        });
        former
    }

    /// Takes a function away.
    pub fn remove(&self, name: &str) -> Option<Arc<R>> {
        let mut former = None;
        self.map.rcu(|map| {
            let mut next = HashMap::clone(map);
            former = next.remove(name);
            next
        });
        former
    }
}
