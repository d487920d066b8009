//! The memory of all standbys of this host, held to a limit: when they need more, those that were useful
//! least recently are ended, whichever function they belong to. What runs is never ended for it, and a
//! standby that its function's `min` asks for only after all others.

use super::pod::PodState;
use super::pool::Pool;
use super::state::Withheld;
use bytesize::ByteSize;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tracing::{info, warn};

/// How long a measurement stands: an idle pod's memory hardly changes.
const MEASURED_FOR: Duration = Duration::from_secs(10);

/// A standby, as the choice of those that are ended sees it.
#[derive(Debug, Clone, PartialEq)]
struct Held {
    /// Index of its pool.
    pool: usize,
    name: Arc<str>,
    bytes: u64,
    /// When it last was useful: served, or became ready.
    useful: Instant,
    /// Whether its function's `min` asks for it.
    kept: bool,
}

/// Standbys to end so that the others fit, in that order.
fn to_end(mut held: Vec<Held>, limit: u64) -> Vec<Held> {
    let mut total: u64 = held.iter().map(|one| one.bytes).sum();
    held.sort_by(|a, b| {
        let key = |one: &Held| (one.kept, one.useful);
        key(a).cmp(&key(b)).then_with(|| a.name.cmp(&b.name))
    });
    held.into_iter()
        .take_while(|one| {
            let over = total > limit;
            total -= one.bytes;
            over
        })
        .collect()
}

/// See the module.
#[derive(Debug, Clone, Copy)]
pub struct Standbys {
    limit: u64,
}

impl Standbys {
    /// Standbys may hold so many bytes together.
    #[must_use]
    pub fn new(limit: ByteSize) -> Self {
        Self {
            limit: limit.as_u64(),
        }
    }

    /// Measures the standbys of these pools, ends those for which there is no memory, and lets standbys
    /// come back for which there is again.
    pub async fn look(&self, pools: &[Arc<Pool>]) {
        measure(pools).await;
        let held: Vec<Held> = pools
            .iter()
            .enumerate()
            .flat_map(|(index, pool)| pool.held(index))
            .collect();
        let total: u64 = held.iter().map(|one| one.bytes).sum();
        let ending = to_end(held, self.limit);
        for one in &ending {
            let note = format!(
                "standbys held {}, the limit is {}",
                ByteSize(total),
                ByteSize(self.limit)
            );
            pools[one.pool].evict(one, &note);
        }
        if ending.is_empty() {
            self.let_back(pools, total);
        }
    }

    /// Lets missing standbys come back, those that are missed longest first, as far as there is memory.
    fn let_back(&self, pools: &[Arc<Pool>], held: u64) {
        let coming: u64 = pools.iter().map(|pool| pool.memory_on_its_way()).sum();
        let mut total = held.saturating_add(coming);
        let mut missing: Vec<(Instant, &Arc<Pool>, u64)> = pools
            .iter()
            .flat_map(|pool| {
                let missing = pool.missing().into_iter();
                missing.map(move |(since, bytes)| (since, pool, bytes))
            })
            .collect();
        missing.sort_by_key(|(since, ..)| *since);
        for (since, pool, bytes) in missing {
            if total.saturating_add(bytes) <= self.limit {
                total += bytes;
                pool.let_back(since);
            }
        }
    }
}

/// Asks the sites what the idle pods hold that were not measured for a while.
async fn measure(pools: &[Arc<Pool>]) {
    /// A pool, and which of its pods are to be measured.
    type Due<'a> = (&'a Arc<Pool>, Vec<String>);
    let mut by_site: HashMap<&str, Vec<Due<'_>>> = HashMap::new();
    for pool in pools {
        let due = pool.due_for_measuring();
        if !due.is_empty() {
            let site = pool.options.site_name.as_str();
            by_site.entry(site).or_default().push((pool, due));
        }
    }
    for pools in by_site.into_values() {
        let ids: Vec<String> = pools.iter().flat_map(|(_, ids)| ids.clone()).collect();
        let Some((first, _)) = pools.first() else {
            continue;
        };
        let found = first.options.site.memory(&ids).await;
        for (pool, ids) in pools {
            pool.note_memory(&ids, &found);
        }
    }
}

impl Pool {
    /// Ids of idle pods whose memory is to be measured.
    fn due_for_measuring(&self) -> Vec<String> {
        let state = self.state.lock();
        let now = Instant::now();
        let idle = state.pods.iter().filter(|e| e.state == PodState::Idle);
        let due = idle.filter(|e| {
            e.memory
                .is_none_or(|(_, at)| at < e.since || now - at >= MEASURED_FOR)
        });
        due.filter_map(|e| Some(e.pod.as_ref()?.id.clone()))
            .collect()
    }

    /// Takes in what was measured; where nothing was, what the function declares counts.
    fn note_memory(&self, ids: &[String], found: &HashMap<String, u64>) {
        let declared = self.options.pod.resources.as_ref();
        let declared = declared.and_then(|resources| resources.memory);
        let mut state = self.state.lock();
        let now = Instant::now();
        let mut largest = state.size;
        for entry in &mut state.pods {
            let Some(id) = entry.pod.as_ref().map(|pod| &pod.id) else {
                continue;
            };
            if !ids.contains(id) {
                continue;
            }
            let bytes = found.get(id).copied();
            if let Some(bytes) = bytes.or(declared.map(|size| size.as_u64())) {
                entry.memory = Some((bytes, now));
                largest = largest.max(bytes);
            }
        }
        state.size = largest;
    }

    /// Its standbys.
    fn held(&self, pool: usize) -> Vec<Held> {
        let state = self.state.lock();
        if state.closed {
            return Vec::new();
        }
        let spare = state
            .alive()
            .saturating_sub(self.standby(&state).min as usize);
        let idle = state.pods.iter().filter(|e| e.state == PodState::Idle);
        let mut held: Vec<Held> = idle
            .map(|entry| Held {
                pool,
                name: Arc::clone(&entry.name),
                bytes: entry.memory.map_or(0, |(bytes, _)| bytes),
                useful: entry.useful,
                kept: true,
            })
            .collect();
        held.sort_by_key(|one| one.useful);
        for one in held.iter_mut().take(spare) {
            one.kept = false;
        }
        held
    }

    /// Ends a standby, unless it was given work meanwhile.
    fn evict(self: &Arc<Self>, one: &Held, note: &str) {
        let pod = {
            let mut state = self.state.lock();
            let now = Instant::now();
            let Some(entry) = state.entry(&one.name).filter(|e| e.state == PodState::Idle) else {
                return;
            };
            entry.enter(PodState::Draining, now);
            entry.note = Some(format!("ended: {note}"));
            let pod = entry.pod.clone();
            if one.kept {
                let bytes = one.bytes.max(state.size);
                state.withheld.push(Withheld {
                    name: Arc::clone(&one.name),
                    bytes,
                    since: now,
                    note: format!("a standby of the min is not kept: {note}"),
                });
            }
            pod
        };
        let bytes = ByteSize(one.bytes);
        if one.kept {
            warn!(pod = %one.name, %bytes, "standby of the function's min is ended: {note}");
        } else {
            info!(pod = %one.name, %bytes, "standby is ended: {note}");
        }
        self.stop_all(pod.into_iter().collect());
    }

    /// Bytes that pods on their way will hold, as far as one was measured.
    fn memory_on_its_way(&self) -> u64 {
        let state = self.state.lock();
        state.size.saturating_mul(state.coming().count() as u64)
    }

    /// Standbys that are missing: since when, and the bytes that each needs.
    fn missing(&self) -> Vec<(Instant, u64)> {
        let state = self.state.lock();
        let missing = state.withheld.iter();
        missing
            .map(|withheld| (withheld.since, withheld.bytes.max(state.size)))
            .collect()
    }

    /// Starts a missing standby.
    fn let_back(self: &Arc<Self>, since: Instant) {
        {
            let mut state = self.state.lock();
            let Some(at) = state.withheld.iter().position(|w| w.since == since) else {
                return;
            };
            let withheld = state.withheld.remove(at);
            info!(pod = %withheld.name, "there is memory for its standby again");
        }
        self.maintain();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(name: &str, bytes: u64, useful_s: u64, kept: bool, begin: Instant) -> Held {
        Held {
            pool: 0,
            name: name.into(),
            bytes,
            useful: begin + Duration::from_secs(useful_s),
            kept,
        }
    }

    fn names(ended: &[Held]) -> Vec<&str> {
        ended.iter().map(|one| &*one.name).collect()
    }

    #[test]
    fn the_least_recently_useful_go_first_and_those_of_the_min_last() {
        let begin = Instant::now();
        let all = || {
            vec![
                held("old-min", 10, 1, true, begin),
                held("new", 10, 9, false, begin),
                held("old", 10, 2, false, begin),
                held("new-min", 10, 8, true, begin),
            ]
        };
        for (limit, ended) in [
            (40, vec![]),
            (39, vec!["old"]),
            (30, vec!["old"]),
            (20, vec!["old", "new"]),
            (15, vec!["old", "new", "old-min"]),
            (0, vec!["old", "new", "old-min", "new-min"]),
        ] {
            assert_eq!(names(&to_end(all(), limit)), ended, "{limit}");
        }
    }

    #[test]
    fn what_is_left_fits_and_no_fewer_would_do() {
        let begin = Instant::now();
        let mut seed = 7_u64;
        let mut next = |below: u64| {
            seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(99);
            (seed >> 33) % below
        };
        for _ in 0..500 {
            let count = next(12);
            let all: Vec<Held> = (0..count)
                .map(|n| held(&n.to_string(), next(100), next(50), next(3) == 0, begin))
                .collect();
            let limit = next(600);
            let total: u64 = all.iter().map(|one| one.bytes).sum();
            let ended = to_end(all.clone(), limit);
            let freed: u64 = ended.iter().map(|one| one.bytes).sum();
            assert!(total - freed <= limit);
            if let Some((_, before)) = ended.split_last() {
                let freed: u64 = before.iter().map(|one| one.bytes).sum();
                assert!(total - freed > limit, "one fewer would have done");
            }
            let spared = all.iter().filter(|one| !ended.contains(one));
            for one in spared.filter(|one| !one.kept) {
                assert!(ended.iter().all(|e| !e.kept && e.useful <= one.useful));
            }
        }
    }
}
