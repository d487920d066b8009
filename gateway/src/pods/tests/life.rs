//! The life of one pod: its first request, its end on request, pods of an earlier life.

use super::*;
use crate::pods::Start;
use crate::sites::AdoptedPod;

fn warm_up() -> Plan {
    Plan {
        standby: standby(1, 2, 300),
        warmup: Some(Warmup {
            path: "/".to_owned(),
            method: None,
            body: None,
            content_type: None,
        }),
        ..Plan::default()
    }
}

#[tokio::test(start_paused = true)]
async fn a_pod_has_answered_its_first_request_before_it_is_ready() {
    let site = TestSite::new(seconds(1));
    let (pool, warmer) = pool_at(&site, warm_up());
    pass(Duration::from_millis(1300)).await;
    assert_eq!(
        (states(&pool), pool.ready()),
        (vec!["deploying".to_owned()], 0)
    );
    pass(Duration::from_millis(400)).await;
    assert_eq!((states(&pool), pool.ready()), (vec!["idle".to_owned()], 1));
    caller(&pool, seconds(1)).await.expect("it was served");
    assert_eq!(warmer.first.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_fails_its_first_request_is_ended_and_told_of() {
    let site = TestSite::new(seconds(1));
    let (pool, warmer) = pool_at(&site, warm_up());
    *warmer.fails.lock() = Some("it answered 503".to_owned());
    let error = pool.acquire(Expected::default()).await.expect_err("no pod");
    let text = error.to_string();
    assert!(
        text.contains("10 tries") && text.contains("GET /: it answered 503"),
        "{text}"
    );
    assert_eq!(site.living(), 0);
}

/// A site whose pods were built on the SDK.
fn of_the_sdk() -> Arc<TestSite> {
    let site = TestSite::new(seconds(1));
    *site.stages.lock() = vec![(stoic_protocol::stages::LOAD, 1.0)];
    site
}

#[tokio::test(start_paused = true)]
async fn standbys_work_the_functions_sample_before_they_are_ready() {
    let plan = Plan {
        standby: standby(2, 2, 300),
        ..Plan::default()
    };
    let (pool, warmer) = pool_at(&of_the_sdk(), plan);
    pass(Duration::from_millis(1400)).await;
    assert_eq!(
        (states(&pool), pool.ready()),
        (vec!["warming".to_owned(); 2], 0)
    );
    pass(Duration::from_millis(200)).await;
    assert_eq!(
        (states(&pool), pool.ready()),
        (vec!["idle".to_owned(); 2], 2)
    );
    assert_eq!(warmer.settled.load(Ordering::SeqCst), 2);
    assert_eq!(warmer.samples.load(Ordering::SeqCst), 1, "it is kept");
}

#[tokio::test(start_paused = true)]
async fn who_waits_gets_a_pod_that_works_its_sample_at_once() {
    // One that is waited for from the start.
    let (pool, warmer) = pool_at(&of_the_sdk(), Plan::default());
    let begun = Instant::now();
    drop(take(&pool).await);
    assert_eq!(begun.elapsed(), seconds(1));
    // One that is waited for when it has begun.
    let plan = Plan {
        standby: standby(1, 1, 300),
        ..Plan::default()
    };
    let (pool, other) = pool_at(&of_the_sdk(), plan);
    pass(Duration::from_millis(1200)).await;
    assert_eq!(states(&pool), ["warming"]);
    let begun = Instant::now();
    let _lease = take(&pool).await;
    assert_eq!(begun.elapsed(), Duration::ZERO);
    pass(seconds(2)).await;
    for warmer in [warmer, other] {
        assert_eq!(warmer.settled.load(Ordering::SeqCst), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_pod_ends_on_request_when_what_runs_is_done() {
    let plan = Plan {
        standby: standby(1, 2, 300),
        ..Plan::default()
    };
    let (site, pool) = pool(seconds(1), plan);
    pass(seconds(2)).await;
    let name = pool.view()[0].name.clone();
    assert!(!pool.end("nobody"));
    // Idle: at once, and the standby is started anew.
    assert!(pool.end(&name));
    pass(Duration::from_millis(1)).await;
    assert!(!site.living.lock().contains_key(&name));
    pass(seconds(2)).await;
    let next = pool.view()[0].name.clone();
    assert_ne!(name, next);
    // Busy: it finishes, and takes nothing new.
    let lease = take(&pool).await;
    assert!(pool.end(&next));
    pass(seconds(60)).await;
    assert!(site.living.lock().contains_key(&next));
    let other = take(&pool).await;
    assert_ne!(*other.pod.name, *next);
    drop(lease);
    pass(Duration::from_millis(1)).await;
    assert!(!site.living.lock().contains_key(&next));
    drop(other);
    // On its way: it is let go of.
    pool.scale(0);
    pass(seconds(1)).await;
    let waits = caller(&pool, seconds(0));
    pass(Duration::from_millis(500)).await;
    let coming = pool.view()[0].name.clone();
    assert!(pool.end(&coming));
    assert!(
        !site.living.lock().contains_key(&coming) || {
            tokio::task::yield_now().await;
            !site.living.lock().contains_key(&coming)
        }
    );
    // Who waited gets another.
    let (took, name) = waits.await.expect("it was served");
    assert_ne!(*name, *coming);
    assert!(took < seconds(2), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_pod_of_an_earlier_life_serves_on() {
    let site = TestSite::new(seconds(5));
    let started = site.up("f-edge-012345-xxxx-7");
    let (pool, _) = pool_at(
        &site,
        Plan {
            standby: standby(1, 2, 300),
            ..Plan::default()
        },
    );
    pool.adopt(AdoptedPod {
        name: "f-edge-012345-xxxx-7".to_owned(),
        function: "f".to_owned(),
        version: "0123456789".to_owned(),
        runtime: "edge".to_owned(),
        started,
    });
    pool.maintain();
    pass(seconds(1)).await;
    let lease = take(&pool).await;
    assert_eq!(&*lease.pod.name, "f-edge-012345-xxxx-7");
    assert_eq!((lease.start, site.begun()), (Start::Warm, 0));
    // Its death is noticed like any other's.
    site.kill("f-edge-012345-xxxx-7");
    drop(lease);
    pass(seconds(6)).await;
    assert_eq!((site.begun(), pool.ready()), (1, 1));
    assert!(!pool.view()[0].name.contains("-xxxx-"));
}

#[tokio::test(start_paused = true)]
async fn a_closing_pool_lets_what_runs_finish() {
    let plan = Plan {
        standby: standby(2, 4, 300),
        ..Plan::default()
    };
    let (site, pool) = pool(seconds(1), plan);
    pass(seconds(2)).await;
    let lease = take(&pool).await;
    let closing = tokio::spawn({
        let pool = Arc::clone(&pool);
        async move { pool.close(seconds(60)).await }
    });
    pass(seconds(30)).await;
    // The idle one is gone, the other works on, and is seen.
    assert_eq!(
        (site.living(), states(&pool)),
        (1, vec!["draining".to_owned()])
    );
    assert!(!closing.is_finished());
    assert!(pool.acquire(Expected::default()).await.is_err());
    drop(lease);
    pass(Duration::from_millis(1)).await;
    assert!(closing.is_finished());
    assert_eq!(site.living(), 0);
}

#[tokio::test(start_paused = true)]
async fn what_does_not_finish_within_the_grace_is_ended() {
    let (site, pool) = pool(seconds(1), Plan::default());
    let lease = take(&pool).await;
    // And what is on its way is let go of at once.
    let waits = caller(&pool, seconds(1));
    let begun = Instant::now();
    pool.close(seconds(10)).await;
    assert_eq!(begun.elapsed().as_secs(), 10);
    assert_eq!(site.living(), 0);
    drop(lease);
    assert!(waits.await.is_err(), "it was told");
}
