//! How many pods there are: with what waits and runs, with what did lately, as it is told.

use super::*;

/// The longest of a burst of 16 short requests, in seconds.
async fn burst(pool: &Arc<Pool>, works: Duration) -> f64 {
    let callers: Vec<_> = (0..16).map(|_| caller(pool, works)).collect();
    let mut longest = Duration::ZERO;
    for one in callers {
        longest = longest.max(one.await.expect("it was served").0);
    }
    longest.as_secs_f64()
}

#[tokio::test(start_paused = true)]
async fn a_burst_on_a_cold_function_is_over_before_two_cold_starts() {
    let pace = Arc::new(Pace::new(2, || None));
    let plan = Plan {
        standby: standby(0, 16, 300),
        pace: Some(pace),
        ..Plan::default()
    };
    let (site, pool) = pool(Duration::from_millis(250), plan);
    let longest = burst(&pool, Duration::from_millis(5)).await;
    assert!(longest < 0.5, "{longest} s");
    // Those that were up first served everyone: the others were not needed any more.
    pass(seconds(2)).await;
    assert!(site.begun() <= 4, "{} starts", site.begun());
    assert!(states(&pool).iter().all(|state| state == "idle"));
}

/// A burst of 16 that are predicted to take `predicted` and take `works`, on a pool that knows its starts.
async fn expected_burst(predicted: Duration, works: Duration) -> (u32, f64) {
    let pace = Arc::new(Pace::new(2, || None));
    let plan = Plan {
        standby: standby(0, 16, 1),
        pace: Some(pace),
        ..Plan::default()
    };
    let (site, pool) = pool(Duration::from_millis(600), plan);
    drop(take(&pool).await);
    while !states(&pool).is_empty() {
        pass(seconds(1)).await;
        pool.maintain();
    }
    let before = site.begun();
    let begun = Instant::now();
    let callers: Vec<_> = (0..16)
        .map(|_| {
            let pool = Arc::clone(&pool);
            let expected = Expected {
                processing_s: predicted.as_secs_f64(),
            };
            tokio::spawn(async move {
                let lease = pool.acquire(expected).await.expect("a pod");
                pass(works).await;
                drop(lease);
            })
        })
        .collect();
    let keeper = {
        let pool = Arc::clone(&pool);
        tokio::spawn(async move {
            loop {
                pass(Duration::from_millis(250)).await;
                pool.maintain();
            }
        })
    };
    for one in callers {
        one.await.expect("it was served");
    }
    keeper.abort();
    (site.begun() - before, begun.elapsed().as_secs_f64())
}

#[tokio::test(start_paused = true)]
async fn no_pod_is_started_that_would_be_up_when_the_work_is_done() {
    let ms = Duration::from_millis;
    // 16 times 60 ms are done by two before a third were up.
    let (starts, took) = expected_burst(ms(60), ms(60)).await;
    assert_eq!(starts, 2);
    assert!(took < 1.2, "{took} s");
    // Longer ones have more; and so have those of which nothing is expected.
    assert!(expected_burst(seconds(10), seconds(10)).await.0 >= 16);
    assert_eq!(expected_burst(Duration::ZERO, seconds(10)).await.0, 16);
    // A wrong expectation is not held on to.
    let (starts, took) = expected_burst(ms(60), seconds(10)).await;
    assert_eq!(starts, 16);
    assert!(took < 30.0, "{took} s");
}

#[tokio::test(start_paused = true)]
async fn a_burst_of_long_requests_has_a_pod_for_each() {
    let plan = Plan {
        standby: standby(0, 16, 300),
        ..Plan::default()
    };
    let (site, pool) = pool(Duration::from_millis(250), plan);
    let longest = burst(&pool, seconds(10)).await;
    assert!(longest < 10.3, "{longest} s");
    assert_eq!(site.begun(), 16);
}

#[tokio::test(start_paused = true)]
async fn what_waits_and_what_runs_both_count() {
    let plan = Plan {
        standby: standby(0, 10, 300),
        concurrency: 4,
        ..Plan::default()
    };
    let (site, pool) = pool(seconds(1), plan);
    let callers: Vec<_> = (0..9).map(|_| caller(&pool, seconds(30))).collect();
    pass(seconds(2)).await;
    // Nine need three pods of four places: no more, and none too few.
    assert_eq!((site.begun(), pool.needed(), pool.ready()), (3, 3, 3));
    let more: Vec<_> = (0..3).map(|_| caller(&pool, seconds(30))).collect();
    pass(seconds(1)).await;
    assert_eq!(site.begun(), 3, "there was room");
    let one_more = caller(&pool, seconds(30));
    pass(seconds(2)).await;
    assert_eq!(site.begun(), 4);
    for one in callers.into_iter().chain(more).chain([one_more]) {
        one.await.expect("it was served");
    }
}

#[tokio::test(start_paused = true)]
async fn the_highest_concurrency_of_the_window_stays() {
    let plan = Plan {
        standby: Standby {
            window: Some(seconds(120)),
            ..standby(0, 5, 20)
        },
        ..Plan::default()
    };
    let (site, pool) = pool(seconds(1), plan);
    let peak: Vec<_> = (0..4).map(|_| caller(&pool, seconds(10))).collect();
    for one in peak {
        one.await.expect("it was served");
    }
    // One after the other from now on: three pods idle for longer than their time, and stay.
    let calm = Instant::now();
    while calm.elapsed() < seconds(115) {
        caller(&pool, seconds(1)).await.expect("it was served");
        assert_eq!(site.living(), 4, "after {:?}", calm.elapsed());
    }
    // Past the window, one is enough.
    while calm.elapsed() < seconds(130) {
        caller(&pool, seconds(1)).await.expect("it was served");
    }
    assert_eq!((site.living(), site.begun()), (1, 4));
    // And none when nothing comes at all.
    pass(seconds(125)).await;
    assert_eq!(site.living(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_pod_is_never_idle_while_a_request_runs() {
    let plan = Plan {
        standby: standby(0, 2, 5),
        concurrency: 2,
        ..Plan::default()
    };
    let (site, pool) = pool(seconds(1), plan);
    let long = take(&pool).await;
    // Others come and go beside it; the long one runs for an hour.
    for _ in 0..60 {
        caller(&pool, seconds(1)).await.expect("it was served");
        pass(seconds(59)).await;
        assert_eq!(site.living(), 1);
    }
    assert_eq!(states(&pool), ["busy"]);
    drop(long);
    pass(seconds(4)).await;
    assert_eq!(states(&pool), ["idle"]);
    pass(seconds(2)).await;
    assert_eq!(site.living(), 0);
}

#[tokio::test(start_paused = true)]
async fn standbys_do_not_vanish() {
    let plan = Plan {
        standby: standby(2, 4, 5),
        ..Plan::default()
    };
    let (site, pool) = pool(seconds(1), plan);
    pass(seconds(24 * 3600)).await;
    assert_eq!((site.living(), site.begun()), (2, 2));
    assert_eq!(states(&pool), ["idle", "idle"]);
}

#[tokio::test(start_paused = true)]
async fn scaled_it_keeps_what_it_was_told() {
    let plan = Plan {
        standby: standby(1, 2, 300),
        ..Plan::default()
    };
    let (site, pool) = pool(seconds(1), plan);
    pass(seconds(2)).await;
    assert_eq!(site.living(), 1);
    // Beyond the most that it declares.
    pool.scale(5);
    pass(seconds(2)).await;
    assert_eq!(pool.ready(), 5);
    pass(seconds(3600)).await;
    assert_eq!(pool.ready(), 5);
    // One that works is not ended for it.
    let works = take(&pool).await;
    pool.scale(0);
    pass(seconds(1)).await;
    assert_eq!((site.living(), states(&pool)), (1, vec!["busy".to_owned()]));
    drop(works);
    pass(seconds(301)).await;
    assert_eq!(site.living(), 0);
    // It still serves, and lets go again.
    caller(&pool, seconds(1)).await.expect("it was served");
    pass(seconds(301)).await;
    assert_eq!(site.living(), 0);
    // What is on its way is not awaited.
    pool.scale(3);
    pass(Duration::from_millis(500)).await;
    assert_eq!(site.living(), 3);
    pool.scale(1);
    pass(seconds(5)).await;
    assert_eq!((site.living(), pool.ready()), (1, 1));
}
