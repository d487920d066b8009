//! What goes with time: calls that did not end, calls that ended long ago, and objects without a call.

use super::{OBJECTS, remove, table};
use crate::gateway::Gateway;
use crate::scheduler::unix_now;
use std::sync::Arc;
use std::time::Duration;
use tracing::{info, warn};

/// Longest and shortest time between two looks.
const RARELY: Duration = Duration::from_secs(60);
const OFTEN: Duration = Duration::from_millis(100);

/// Looks until the gateway ends. Objects of calls before `first` that were never accepted go at once.
pub(super) async fn run(gateway: Arc<Gateway>, first: String) {
    sweep(&gateway, &first).await;
    let every = (gateway.config.calls.expire / 8).clamp(OFTEN, RARELY);
    loop {
        tokio::time::sleep(every).await;
        if let Err(error) = look(&gateway).await {
            warn!("expired calls were not removed: {error}");
        }
    }
}

async fn look(gateway: &Gateway) -> Result<(), crate::history::HistoryError> {
    let now = unix_now();
    let before = now - gateway.config.calls.expire.as_secs_f64();
    for (id, function, told) in table::give_up(&gateway.history, before, now).await? {
        gateway.calls.abort(&id);
        gateway.calls.queue.lock().remove(&function, &id);
        gateway.metrics.call_ended(&function, "expired");
        if told {
            gateway.calls.tell_at(id, 0.0);
        }
    }
    loop {
        let gone = table::outlived(&gateway.history, before).await?;
        if gone.is_empty() {
            return Ok(());
        }
        let mut ids = Vec::with_capacity(gone.len());
        for call in gone {
            for key in call.keys {
                remove(gateway, Some(key)).await;
            }
            ids.push(call.id);
        }
        table::forget(&gateway.history, ids, before).await?;
    }
}

/// A gateway that is killed between a body and its row leaves the body behind.
async fn sweep(gateway: &Gateway, first: &str) {
    let Ok(store) = gateway.stores.home() else {
        return;
    };
    let listed = match store.list(OBJECTS).await {
        Ok(listed) => listed,
        Err(error) => return warn!("the bodies of calls cannot be listed: {error}"),
    };
    let id = |key: &str| {
        let (id, _) = key.strip_prefix(OBJECTS)?.split_once('/')?;
        (id < first).then(|| id.to_owned())
    };
    let mut ids: Vec<String> = listed.iter().filter_map(|object| id(&object.key)).collect();
    ids.dedup();
    let unknown = match table::unknown(&gateway.history, ids).await {
        Ok(unknown) => unknown,
        Err(error) => return warn!("the bodies of calls cannot be looked up: {error}"),
    };
    let mut count = 0;
    for object in listed {
        if id(&object.key).is_some_and(|id| unknown.contains(&id)) {
            remove(gateway, Some(object.key)).await;
            count += 1;
        }
    }
    if count > 0 {
        info!(
            count,
            "objects of calls that were never accepted were removed"
        );
    }
}
