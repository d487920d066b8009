//! The memory of all standbys, held to a limit.

use super::*;
use crate::pods::Standbys;
use bytesize::ByteSize;

const EACH: u64 = 100;

/// Pools at one site, and who holds their standbys to a limit.
fn limited(limit: u64, plans: Vec<Plan>) -> (Arc<TestSite>, Vec<Arc<Pool>>) {
    let site = TestSite::new(seconds(1));
    *site.each.lock() = Some(EACH);
    let pools: Vec<Arc<Pool>> = plans
        .into_iter()
        .map(|plan| pool_at(&site, plan).0)
        .collect();
    let standbys = Standbys::new(ByteSize(limit));
    let looked = pools.clone();
    tokio::spawn(async move {
        loop {
            pass(Duration::from_millis(250)).await;
            standbys.look(&looked).await;
        }
    });
    (site, pools)
}

fn plan(function: &'static str, min: u32, max: u32) -> Plan {
    Plan {
        function,
        standby: standby(min, max, 3600),
        ..Plan::default()
    }
}

#[tokio::test(start_paused = true)]
async fn the_least_recently_useful_standby_goes_whichever_function_it_is_of() {
    let plans = vec![plan("a", 0, 2), plan("b", 0, 2), plan("c", 0, 2)];
    let (site, pools) = limited(2 * EACH, plans);
    for pool in &pools {
        caller(pool, seconds(1)).await.expect("served");
        pass(seconds(2)).await;
    }
    // `a` was useful longest ago.
    assert_eq!(site.living(), 2);
    assert_eq!(
        pools.iter().map(|pool| pool.ready()).collect::<Vec<_>>(),
        [0, 1, 1]
    );
    caller(&pools[1], seconds(1)).await.expect("served");
    caller(&pools[0], seconds(1)).await.expect("served");
    pass(seconds(2)).await;
    assert_eq!(
        pools.iter().map(|pool| pool.ready()).collect::<Vec<_>>(),
        [1, 1, 0]
    );
    assert_eq!(pools[0].view()[0].memory_bytes, Some(EACH));
}

#[tokio::test(start_paused = true)]
async fn what_runs_is_never_ended_for_it() {
    let (site, pools) = limited(EACH, vec![plan("a", 0, 8)]);
    let callers: Vec<_> = (0..8).map(|_| caller(&pools[0], seconds(60))).collect();
    for one in callers {
        one.await.expect("it was served to its end");
    }
    assert_eq!(site.begun(), 8);
    pass(seconds(2)).await;
    assert_eq!(site.living(), 1, "what is idle now has to fit");
}

#[tokio::test(start_paused = true)]
async fn standbys_of_the_min_go_last_are_said_to_be_missing_and_come_back() {
    let (site, pools) = limited(3 * EACH, vec![plan("a", 2, 2), plan("b", 1, 4)]);
    pass(seconds(3)).await;
    assert_eq!(site.living(), 3);
    // One more of `b`: it is the youngest, and goes all the same before any of the min.
    let two = [caller(&pools[1], seconds(1)), caller(&pools[1], seconds(1))];
    for one in two {
        one.await.expect("served");
    }
    pass(seconds(2)).await;
    assert_eq!((pools[0].ready(), pools[1].ready()), (2, 1));
    // They grow: not even the min fits any more.
    *site.each.lock() = Some(EACH * 3 / 2);
    pass(seconds(15)).await;
    assert_eq!(site.living(), 2);
    let view: Vec<_> = pools.iter().flat_map(|pool| pool.view()).collect();
    let missing: Vec<_> = view.iter().filter(|pod| !pod.exists()).collect();
    assert_eq!((view.len(), missing.len()), (3, 1));
    assert_eq!(missing[0].state, "withheld");
    let note = missing[0].note.as_deref().unwrap_or_default();
    assert!(note.contains("min") && note.contains("limit"), "{note}");
    // It stays so: nothing is started and ended in turn.
    let begun = site.begun();
    pass(seconds(3600)).await;
    assert_eq!((site.begun(), site.living()), (begun, 2));
    // It shrinks: as soon as that is measured, the missing one comes back.
    let ended = missing[0].function.clone();
    let pool = pools.iter().find(|p| p.options().function == ended);
    let pool = pool.expect("one of them");
    pool.state.lock().size = EACH;
    for withheld in &mut pool.state.lock().withheld {
        withheld.bytes = EACH;
    }
    *site.each.lock() = Some(EACH);
    pass(seconds(15)).await;
    assert_eq!(site.living(), 3);
    assert!(
        pools
            .iter()
            .all(|pool| pool.view().iter().all(|pod| pod.exists()))
    );
}

#[tokio::test(start_paused = true)]
async fn a_function_whose_standby_is_missing_still_serves() {
    let (site, pools) = limited(EACH, vec![plan("a", 1, 2), plan("b", 1, 2)]);
    pass(seconds(5)).await;
    assert_eq!(site.living(), 1);
    let missing = usize::from(pools[0].ready() == 1);
    caller(&pools[missing], seconds(1)).await.expect("served");
    pass(seconds(2)).await;
    // It is the one that was useful last now.
    assert_eq!((pools[missing].ready(), pools[1 - missing].ready()), (1, 0));
    assert_eq!(site.living(), 1);
}

#[tokio::test(start_paused = true)]
async fn where_a_site_measures_nothing_what_is_declared_counts() {
    let site = TestSite::new(seconds(1));
    let (undeclared, _) = pool_at(&site, plan("u", 1, 1));
    pass(seconds(2)).await;
    Standbys::new(ByteSize(1))
        .look(&[Arc::clone(&undeclared)])
        .await;
    assert_eq!(undeclared.ready(), 1, "nothing is known of it");
    let mut options = undeclared.options().clone();
    options.pod.resources = Some(crate::function::Resources {
        cpu: None,
        memory: Some(ByteSize(EACH)),
        gpu: 0,
    });
    let declared = Pool::new(
        options,
        None,
        tokio::runtime::Handle::current(),
        Arc::new(TestWarmer::default()),
        Arc::new(|_| {}),
    );
    declared.maintain();
    pass(seconds(2)).await;
    let pools = [Arc::clone(&declared)];
    Standbys::new(ByteSize(EACH)).look(&pools).await;
    assert_eq!(declared.ready(), 1);
    Standbys::new(ByteSize(EACH - 1)).look(&pools).await;
    assert_eq!(declared.ready(), 0);
}
