//! Probes of the links to the sites' stores, when nothing was measured over them for a while.

use crate::gateway::{Gateway, new_id};
use crate::history::{LinkProbe, TransferRecord};
use crate::link;
use crate::scheduler::Lesson;
use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::time::MissedTickBehavior;
use tracing::{debug, warn};

/// Time from the start to the first look.
const FIRST: Duration = Duration::from_secs(3);
/// Longest time between two looks.
const LOOK: Duration = Duration::from_secs(5);
/// Longest that a probe may take; a link that needs longer is as good as none.
const TIMEOUT: Duration = Duration::from_secs(60);
/// Seconds of a day, and so of a budget.
const DAY_S: f64 = 86_400.0;

/// What the probes of one link cost.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Account {
    day: u64,
    bytes: u64,
    /// When one was tried last, well or not.
    tried_at: Option<f64>,
}

impl Account {
    /// Whether a probe of so many bytes is due and within the day's budget; then it is paid for.
    fn take(
        &mut self,
        now: f64,
        every_s: f64,
        measured_at: Option<f64>,
        bytes: u64,
        budget: u64,
    ) -> bool {
        let day = (now / DAY_S) as u64;
        if day != self.day {
            (self.day, self.bytes) = (day, 0);
        }
        let last = [measured_at, self.tried_at].into_iter().flatten();
        let due = last.fold(f64::NEG_INFINITY, f64::max) + every_s <= now;
        if !due || self.bytes.saturating_add(bytes) > budget {
            return false;
        }
        self.bytes += bytes;
        self.tried_at = Some(now);
        true
    }
}

/// Probes the links of a gateway until it is gone.
pub async fn watch_links(gateway: Weak<Gateway>) {
    let Some(config) = gateway.upgrade().map(|gateway| gateway.config.link.clone()) else {
        return;
    };
    if !config.probe {
        return;
    }
    let mut accounts = match gateway.upgrade() {
        Some(gateway) => earlier(&gateway).await,
        None => return,
    };
    let period = LOOK.min(config.every / 4);
    // Who has just started has other things to do.
    let first = tokio::time::Instant::now() + FIRST.min(config.every);
    let mut tick = tokio::time::interval_at(first, period);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let Some(gateway) = gateway.upgrade() else {
            return;
        };
        for site in gateway.scheduler.remote_sites() {
            let link = gateway.scheduler.link_to(&site);
            let bytes = config.size.map_or(link.probe_bytes, |size| size.as_u64());
            let account = accounts.entry(site.clone()).or_default();
            let (every_s, budget) = (config.every.as_secs_f64(), config.daily_budget.as_u64());
            if account.take(
                gateway.clock.now(),
                every_s,
                link.measured_at(),
                bytes,
                budget,
            ) {
                probe(&gateway, &site, bytes).await;
            }
        }
    }
}

/// What was spent today before this life of the gateway.
async fn earlier(gateway: &Gateway) -> BTreeMap<String, Account> {
    let day = (gateway.clock.now() / DAY_S).floor();
    let spent = gateway.history.link_probed_since(day * DAY_S).await;
    let account = |(site, bytes)| {
        let account = Account {
            day: day as u64,
            bytes,
            tried_at: None,
        };
        (site, account)
    };
    spent.unwrap_or_default().into_iter().map(account).collect()
}

async fn probe(gateway: &Arc<Gateway>, site: &str, bytes: u64) {
    let Ok(store) = gateway.stores.site(site) else {
        return;
    };
    let id = new_id();
    let probe = link::probe_store(store, &id, usize::try_from(bytes).unwrap_or(usize::MAX));
    let measured = match tokio::time::timeout(TIMEOUT, probe).await {
        Ok(Ok(measured)) => measured,
        Ok(Err(error)) => {
            gateway.metrics.link_probed(site, false);
            return warn!(site, "the link's probe failed: {error}");
        }
        Err(_) => {
            gateway.metrics.link_probed(site, false);
            return warn!(
                site,
                "the link's probe took longer than {} s",
                TIMEOUT.as_secs()
            );
        }
    };
    gateway.metrics.link_probed(site, true);
    debug!(
        site,
        seconds = measured.seconds,
        rtt_s = measured.rtt_s,
        "link probed"
    );
    let record = LinkProbe {
        transfer: TransferRecord {
            at: gateway.clock.now(),
            site: site.to_owned(),
            bytes: measured.bytes,
            seconds: measured.seconds,
        },
        rtt_s: measured.rtt_s,
    };
    gateway.history.link_probed(record.clone());
    gateway.teacher.tell(Lesson::LinkProbed(record));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_probed_when_nothing_was_measured_for_a_while_and_within_its_budget() {
        let mut account = Account::default();
        let mut take = |now, measured| account.take(now, 300.0, measured, 100, 250);
        assert!(take(0.0, None));
        assert!(!take(299.0, None));
        // A package was measured meanwhile.
        assert!(!take(301.0, Some(10.0)));
        assert!(take(311.0, Some(10.0)));
        // Two of 100 bytes are all that 250 allow in a day.
        assert!(!take(9000.0, None));
        assert!(take(DAY_S + 1.0, None));
    }
}
