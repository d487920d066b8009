//! Who cannot be served now waits in a bounded queue for a bounded time, and is told when to come back.

#![allow(clippy::unwrap_used)]

use serde_json::json;
use std::time::{Duration, Instant};
use stoic_tests::{Gateway, echo, texts, zip_of};

#[test]
fn a_full_queue_is_429_and_a_long_wait_503_both_with_a_time() {
    let gateway = Gateway::start();
    gateway.deploy(&echo(
        "f",
        json!({"concurrency": 1, "runtimes": ["edge"], "standby": {"edge": 1}, "queue": {"length": 1, "wait": "1s"}}),
    ));
    gateway.until_idle("f", 1);
    let ask = |path: &str| gateway.call("POST", path).body("text/plain", "hi");
    std::thread::scope(|scope| {
        let running = ask("/function/f?delay=2500ms");
        let running = scope.spawn(move || running.send());
        gateway.until_state("f", "busy");
        // One of the two waits, the other finds the queue full, whichever comes first.
        let begun = Instant::now();
        let both: Vec<_> = (0..2)
            .map(|_| {
                let call = ask("/function/f");
                scope.spawn(move || (call.send(), begun.elapsed()))
            })
            .collect();
        let mut both: Vec<_> = both.into_iter().map(|one| one.join().unwrap()).collect();
        both.sort_by_key(|(answer, _)| answer.status);
        let (refused, waited) = (&both[0], &both[1]);
        refused.0.problem(429, "queue_full");
        waited.0.problem(503, "queue_timeout");
        assert!(
            refused.1 < Duration::from_millis(900),
            "refused at once: {:?}",
            refused.1
        );
        assert!(waited.1 >= Duration::from_secs(1), "{:?}", waited.1);
        for (answer, _) in &both {
            let seconds: u64 = answer.header("retry-after").parse().unwrap();
            assert!((1..=3600).contains(&seconds));
        }
        let _ = running.join().unwrap().ok();
    });
    // Who waits less long than that is served.
    std::thread::scope(|scope| {
        let running = ask("/function/f?delay=300ms");
        let running = scope.spawn(move || running.send());
        gateway.until_state("f", "busy");
        let answer = ask("/function/f").send().ok();
        assert_eq!(answer.header("x-stoic-start"), "warm");
        let actual = answer.header("x-stoic-actual");
        assert!(!actual.contains("queueing=0.0000"), "it waited: {actual}");
        let _ = running.join().unwrap().ok();
    });
}

#[test]
fn pods_work_one_at_a_time_unless_more_is_declared_and_grow_to_their_most() {
    let gateway = Gateway::start();
    let spec = json!({"input": "batch", "runtimes": ["edge"], "standby": {"edge": {"min": 1, "max": 3, "idle": "300ms"}}});
    gateway.deploy(&echo("f", spec));
    gateway.until_idle("f", 1);
    let zip = zip_of(&texts(10));
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..5)
            .map(|_| {
                let call = gateway.batch("/function/f?delay=50ms", "edge", &zip);
                scope.spawn(move || call.send().ok())
            })
            .collect();
        stoic_tests::until("three pods work", || {
            let pods = gateway.pods("f");
            assert!(
                pods.len() <= 3 && pods.iter().all(|pod| pod["running"].as_u64() <= Some(1)),
                "{pods:?}"
            );
            pods.iter().filter(|pod| pod["state"] == "busy").count() == 3
        });
        for one in all {
            one.join().unwrap();
        }
    });
    // What is above the standby goes when it has been idle.
    gateway.until_idle("f", 1);
    stoic_tests::until("one process is left, and its zygote", || {
        gateway.processes().len() == 2
    });
}
