//! Who gets which pod, and when.

use super::*;
use crate::pods::{AcquireError, Start};
use std::collections::HashMap;

#[tokio::test(start_paused = true)]
async fn who_waits_gets_the_first_pod_that_is_free_or_ready() {
    let plan = || Plan {
        standby: standby(1, 2, 300),
        ..Plan::default()
    };
    // Freed before the one that was started for it is ready.
    let (site, pool_) = pool(seconds(10), plan());
    pass(seconds(11)).await;
    let first = caller(&pool_, seconds(1));
    pass(Duration::from_millis(1)).await;
    let second = caller(&pool_, seconds(1));
    let (first, second) = (first.await.expect("served"), second.await.expect("served"));
    assert_eq!(first.1, second.1);
    assert!(second.0 < seconds(3), "{:?}", second.0);
    assert_eq!(site.begun(), 2, "one was started for it all the same");
    // Ready before the other is freed.
    let (_site, pool_) = pool(seconds(2), plan());
    pass(seconds(3)).await;
    let first = caller(&pool_, seconds(60));
    pass(Duration::from_millis(1)).await;
    let second = caller(&pool_, seconds(1)).await.expect("served");
    assert!(second.0 < seconds(4), "{:?}", second.0);
    assert_ne!(first.await.expect("served").1, second.1);
}

#[tokio::test(start_paused = true)]
async fn who_came_first_is_served_first() {
    let (_site, pool) = pool(seconds(1), Plan::default());
    let order: Arc<Mutex<Vec<usize>>> = Arc::default();
    let mut callers = Vec::new();
    for n in 0..200 {
        let (pool, order) = (Arc::clone(&pool), Arc::clone(&order));
        callers.push(tokio::spawn(async move {
            let _lease = take(&pool).await;
            order.lock().push(n);
            pass(Duration::from_millis(n as u64 % 7)).await;
        }));
        // Some come while places are being handed on.
        pass(Duration::from_millis(n as u64 % 3 * 20)).await;
    }
    for one in callers {
        one.await.expect("it was served");
    }
    assert_eq!(*order.lock(), (0..200).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn a_thousand_callers_share_two_pods_one_at_a_time() {
    let plan = Plan {
        standby: standby(0, 2, 300),
        ..Plan::default()
    };
    let (site, pool) = pool(seconds(1), plan);
    let inside: Arc<Mutex<HashMap<Arc<str>, u32>>> = Arc::default();
    let callers: Vec<_> = (0..1000)
        .map(|_| {
            let (pool, inside) = (Arc::clone(&pool), Arc::clone(&inside));
            tokio::spawn(async move {
                let lease = take(&pool).await;
                let name = Arc::clone(&lease.pod.name);
                let before =
                    std::mem::replace(inside.lock().entry(Arc::clone(&name)).or_default(), 1);
                assert_eq!(before, 0, "two in one pod");
                pass(Duration::from_millis(3)).await;
                inside.lock().insert(name, 0);
            })
        })
        .collect();
    for one in callers {
        one.await.expect("it was served, alone");
    }
    assert_eq!((site.begun(), inside.lock().len()), (2, 2));
}

#[tokio::test(start_paused = true)]
async fn callers_beyond_the_queue_are_told_at_once() {
    let plan = Plan {
        standby: standby(0, 2, 300),
        queue: 50,
        ..Plan::default()
    };
    let (_site, pool) = pool(seconds(1), plan);
    let asked: Vec<_> = (0..1000)
        .map(|_| {
            let pool = Arc::clone(&pool);
            tokio::spawn(async move { pool.acquire(Expected::default()).await.map(drop) })
        })
        .collect();
    let (mut served, mut full) = (0, 0);
    for one in asked {
        match one.await.expect("no panic") {
            Ok(()) => served += 1,
            Err(AcquireError::QueueFull { length: 50, .. }) => full += 1,
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!((served, full), (50, 950));
}

#[tokio::test(start_paused = true)]
async fn who_leaves_takes_nobodys_place() {
    let (site, pool) = pool(seconds(5), Plan::default());
    let leaving: Vec<_> = (0..20).map(|_| caller(&pool, seconds(1))).collect();
    pass(seconds(1)).await;
    let stays = caller(&pool, seconds(1));
    pass(seconds(1)).await;
    for one in leaving {
        one.abort();
    }
    let (took, _) = stays.await.expect("it was served");
    assert!(took < seconds(6), "{took:?}");
    assert_eq!(site.begun(), 1);
    assert_eq!(states(&pool), ["idle"]);
}

#[tokio::test(start_paused = true)]
async fn a_killed_pod_costs_its_next_caller_a_fresh_start_and_no_more() {
    let (site, pool) = pool(seconds(2), Plan::default());
    let (cold, name) = caller(&pool, seconds(0)).await.expect("served");
    site.kill(&name);
    // At once, before anybody could have noticed.
    let (after, other) = caller(&pool, seconds(0)).await.expect("served");
    assert!(
        after <= cold + Duration::from_millis(50) || other == name,
        "{after:?}"
    );
    pass(seconds(1)).await;
    let lease = take(&pool).await;
    assert_ne!(lease.pod.name, name);
    assert_eq!(lease.start, Start::Warm);
    // One that dies while it works, too.
    site.kill(&lease.pod.name);
    pass(Duration::from_millis(1)).await;
    let (after, _) = caller(&pool, seconds(0)).await.expect("served");
    assert!(after <= cold + Duration::from_millis(50), "{after:?}");
    drop(lease);
    pass(Duration::from_millis(1)).await;
    assert_eq!(pool.needed(), 0, "its place is given back once");
}
