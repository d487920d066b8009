//! The objects of one kind: watched with bookmarks, listed again where the watch lost its place, and each
//! change handed to the object's keeper.

use super::Kept;
use super::Shared;
use super::connect::{code, said};
use super::keeper::{Keeper, Wanted};
use super::kind::Kind;
use futures_util::StreamExt;
use kube::Api;
use kube::api::DynamicObject;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tracing::{debug, warn};

/// Between two looks whether a kind that the cluster does not know has come.
const ABSENT: Duration = Duration::from_secs(10);

/// Watches one kind until the controller ends.
pub(super) async fn run(shared: Arc<Shared>, kind: Kind) {
    let ended = shared.ended.clone();
    let _ = ended.run_until_cancelled(follow(shared, kind)).await;
}

async fn follow(shared: Arc<Shared>, kind: Kind) {
    let resource = kind.resource();
    let api: Api<DynamicObject> =
        Api::namespaced_with(shared.client.clone(), &shared.namespace, &resource);
    let mut objects = watcher(api, watcher::Config::default())
        .default_backoff()
        .boxed();
    let mut listed = HashSet::new();
    let mut told = false;
    while let Some(event) = objects.next().await {
        let event = match event {
            Ok(event) => {
                told = false;
                event
            }
            Err(error) => {
                let text = trouble(&error);
                match told {
                    true => debug!(kind = kind.name(), "cannot be watched: {text}"),
                    false => warn!(
                        kind = kind.name(),
                        "cannot be watched; functions serve on: {text}"
                    ),
                }
                told = true;
                if absent(&error) {
                    tokio::time::sleep(ABSENT).await;
                }
                continue;
            }
        };
        match event {
            Event::Init => listed.clear(),
            Event::InitApply(object) => {
                listed.extend(object.metadata.name.clone());
                put(&shared, kind, object);
            }
            Event::Apply(object) => put(&shared, kind, object),
            Event::Delete(object) => {
                if let Some(name) = &object.metadata.name {
                    gone(&shared, kind, name);
                }
            }
            Event::InitDone => prune(&shared, kind, &listed).await,
        }
    }
}

/// Hands an object to its keeper, which is made where there is none.
fn put(shared: &Arc<Shared>, kind: Kind, object: DynamicObject) {
    let Some(name) = object.metadata.name.clone() else {
        return;
    };
    let object = Arc::new(object);
    let mut keepers = shared.keepers.lock();
    let key = (kind, name.clone());
    if let Some(kept) = keepers.get(&key) {
        kept.object.send_replace(Wanted::Is(object));
        return;
    }
    let (sender, receiver) = watch::channel(Wanted::Is(object));
    let nudge = Arc::new(Notify::new());
    let kept = Kept {
        object: sender,
        nudge: Arc::clone(&nudge),
        seen: None,
    };
    keepers.insert(key, kept);
    drop(keepers);
    let keeper = Keeper::new(Arc::clone(shared), kind, name, receiver, nudge);
    tokio::spawn(keeper.run());
}

fn gone(shared: &Shared, kind: Kind, name: &str) {
    let keepers = shared.keepers.lock();
    if let Some(kept) = keepers.get(&(kind, name.to_owned())) {
        kept.object.send_replace(Wanted::Gone);
    }
}

/// Lets go of what is not in the cluster any more: it went while nobody watched.
async fn prune(shared: &Arc<Shared>, kind: Kind, listed: &HashSet<String>) {
    let missing: Vec<String> = {
        let keepers = shared.keepers.lock();
        let of_kind = keepers.keys().filter(|(of, _)| *of == kind);
        let missing = of_kind.filter(|(_, name)| !listed.contains(name));
        missing.map(|(_, name)| name.clone()).collect()
    };
    for name in missing {
        gone(shared, kind, &name);
    }
    let ours = format!("{}/", kind.name());
    for deployed in shared.gateway.functions.all() {
        let function = &deployed.function;
        let declared = function.resource().is_some_and(|r| r.starts_with(&ours));
        if !declared || listed.contains(function.name()) {
            continue;
        }
        // Whoever led then is gone, too; it is there or not for all alike.
        if kind.has_service()
            && shared.in_cluster
            && let Err(error) = shared.reporter.uncount(function.name()).await
        {
            debug!(
                function = function.name(),
                "its Deployment is left: {error}"
            );
        }
        if let Err(failure) = shared.gateway.take_function(function.name()).await {
            debug!(
                function = function.name(),
                "not removed: {}", failure.problem
            );
        }
    }
}

/// Lets go of everything that was of a kind which is not watched any more.
pub(super) async fn forget(shared: &Arc<Shared>, kind: Kind) {
    prune(shared, kind, &HashSet::new()).await;
}

fn trouble(error: &watcher::Error) -> String {
    use watcher::Error;
    match error {
        Error::InitialListFailed(error)
        | Error::WatchStartFailed(error)
        | Error::WatchFailed(error) => said(error),
        Error::WatchError(status) => status.message.clone(),
        Error::NoResourceVersion => error.to_string(),
    }
}

fn absent(error: &watcher::Error) -> bool {
    use watcher::Error;
    match error {
        Error::InitialListFailed(error) | Error::WatchStartFailed(error) => {
            matches!(code(error), Some(403 | 404))
        }
        _ => false,
    }
}
