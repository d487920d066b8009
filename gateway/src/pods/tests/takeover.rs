//! A pool that is to take over from that of another version.

use super::*;
use crate::pods::NotUp;

#[tokio::test(start_paused = true)]
async fn it_is_up_when_its_pods_are_and_keeps_them_until_then() {
    let plan = Plan {
        standby: standby(0, 4, 2),
        ..Plan::default()
    };
    let (site, pool) = pool(seconds(5), plan);
    let begun = Instant::now();
    pool.raise(3).await.expect("it comes up");
    assert_eq!((begun.elapsed().as_secs(), pool.ready()), (5, 3));
    pass(seconds(60)).await;
    assert_eq!(pool.ready(), 3, "kept until it takes over");
    pool.lower();
    pass(seconds(3)).await;
    assert_eq!(site.living(), 0);
    // No more than it may have.
    pool.raise(100).await.expect("it comes up");
    assert_eq!(pool.ready(), 4);
}

#[tokio::test(start_paused = true)]
async fn one_pod_is_enough_where_the_others_take_too_long() {
    let plan = Plan {
        standby: standby(0, 2, 300),
        ..Plan::default()
    };
    let (site, pool) = pool(seconds(1), plan);
    let first = tokio::spawn({
        let pool = Arc::clone(&pool);
        async move { pool.raise(1).await }
    });
    first.await.expect("no panic").expect("one is up");
    *site.takes.lock() = seconds(3600);
    let begun = Instant::now();
    pool.raise(2).await.expect("one is up");
    assert_eq!(begun.elapsed().as_secs(), 10);
}

#[tokio::test(start_paused = true)]
async fn a_version_that_does_not_come_up_says_why_soon() {
    for (error, at_most_s) in [
        (StartError::Refused("no such image".to_owned()), 1),
        (StartError::Exited("exit status 7".to_owned()), 4),
        (StartError::NeverReady("no answer".to_owned()), 1),
    ] {
        let (site, pool) = pool(seconds(1), Plan::default());
        *site.fails.lock() = Some(error.clone());
        let begun = Instant::now();
        let why = pool.raise(1).await.expect_err("it cannot come up");
        assert!(
            begun.elapsed() <= seconds(at_most_s),
            "{error}: {:?}",
            begun.elapsed()
        );
        assert!(why.to_string().contains(&error.to_string()), "{why}");
        pool.close(Duration::ZERO).await;
        pass(seconds(3600)).await;
        assert_eq!(site.living(), 0, "nothing is tried any more");
    }
}

#[tokio::test(start_paused = true)]
async fn a_slip_is_forgiven() {
    let (site, pool) = pool(seconds(1), Plan::default());
    *site.fails.lock() = Some(StartError::Exited("exit status 1".to_owned()));
    let raising = tokio::spawn({
        let pool = Arc::clone(&pool);
        async move { pool.raise(1).await }
    });
    pass(Duration::from_millis(1050)).await;
    *site.fails.lock() = None;
    raising
        .await
        .expect("no panic")
        .expect("the second try was good");
    assert_eq!(site.begun(), 2);
}

#[tokio::test(start_paused = true)]
async fn one_that_is_removed_meanwhile_is_told() {
    let (site, pool) = pool(seconds(100), Plan::default());
    let raising = tokio::spawn({
        let pool = Arc::clone(&pool);
        async move { pool.raise(1).await }
    });
    pass(seconds(1)).await;
    pool.close(seconds(1)).await;
    let why = raising.await.expect("no panic").expect_err("closed");
    assert!(matches!(why, NotUp::Closed));
    pass(seconds(1)).await;
    assert_eq!(site.living(), 0);
}
