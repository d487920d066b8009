//! Another gateway as the cloud of this one, over TLS with a token: its runtimes become candidates, every
//! mode and whatever HTTP carries runs over it, and a caller who leaves ends the work there.

#![allow(clippy::unwrap_used)]

use serde_json::json;
use std::time::{Duration, Instant};
use stoic_protocol::ZIP_MEDIA_TYPE;
use stoic_tests::campus::{Campus, call, deploy, runtime, whole};
use stoic_tests::{any_http, texts, until, zip_of};

#[test]
fn the_runtimes_of_another_gateway_serve_as_those_here_do() {
    let campus = Campus::default();
    let edge = campus.edge();
    let cpu = runtime(&edge, "cloud.cpu");
    assert_eq!(
        (&cpu["site"], &cpu["backend"]),
        (&json!("cloud"), &json!("gateway"))
    );
    assert_eq!(cpu["available"], true);
    assert_eq!(runtime(&edge, "cloud.edge")["threads"], 1);
    deploy(&edge, "batch", &json!({}));
    edge.until_idle("batch", 2);
    let leases = campus.leases();
    assert_eq!(leases.len(), 1, "{leases:?}");
    assert_eq!(
        (&leases[0]["who"], &leases[0]["runtime"]),
        (&json!("shed"), &json!("cpu"))
    );

    // The batch travels to the store there, its pod fetches it from there, the result comes home.
    let zip = zip_of(&texts(20));
    let stored = || campus.gateway().stored("peers/passing/shed/packages/");
    let answer = std::thread::scope(|scope| {
        let path = "/function/batch?delay=50ms";
        let sent = scope.spawn(|| edge.batch(path, "cloud.cpu", &zip).send().ok());
        until("the package is there", || stored().len() == 1);
        sent.join().unwrap()
    });
    whole(&answer.json(), 20);
    assert_eq!(answer.header("x-stoic-runtime"), "cloud.cpu");
    assert_eq!(answer.header("x-stoic-start"), "warm");
    assert!(
        answer.header("server-timing").contains("transfer"),
        "{:?}",
        answer.headers
    );
    // Nobody waits for it to be cleared there.
    until("the package is cleared there", || stored().is_empty());
    let measured = edge.json("/v1/measurements?runtime=cloud.cpu");
    assert!(
        measured[0]["actual"]["transfer"].as_f64() > Some(0.0),
        "{measured}"
    );

    // A cold pod there is deployed, and its deployment measured by stage.
    let _ = edge
        .call("POST", "/v1/functions/batch/scale")
        .body(
            "application/json",
            json!({"replicas": 0, "runtime": "cloud.cpu"}).to_string(),
        )
        .send()
        .ok();
    until("the lease is given back", || campus.leases().is_empty());
    let cold = edge.batch("/function/batch", "cloud.cpu", &zip).send().ok();
    assert_eq!(cold.header("x-stoic-start"), "cold");
    whole(&cold.json(), 20);
    let pods = edge.pods("batch");
    let pod = pods
        .iter()
        .find(|pod| pod["runtime"] == "cloud.cpu")
        .unwrap();
    assert!(pod["stages"]["link"].as_f64() > Some(0.0), "{pod}");

    // The link was measured on the way.
    until("the link is known", || {
        runtime(&edge, "cloud.cpu")["link"]["transfer_at"].is_number()
    });
    // Every lease ends with the gateway that had it.
    drop(edge);
    until("nothing is left over", || {
        campus.leases().is_empty() && campus.gateway().processes().len() <= 1
    });
    assert!(!campus.gateway().panicked());
}

#[test]
fn requests_streams_and_upgrades_pass_through_to_pods_there() {
    let campus = Campus::default();
    let edge = campus.edge();
    let spec = json!({"runtimes": ["cloud.cpu"], "standby": {"cloud.cpu": 1}});
    edge.deploy(&any_http("plain", spec));
    edge.until_idle("plain", 1);
    let answer = edge
        .call("POST", "/function/plain/some/path?x=1")
        .body("text/plain", "hello")
        .send()
        .ok();
    assert!(
        answer.text().contains("/some/path?x=1"),
        "{}",
        answer.text()
    );
    assert_eq!(answer.header("x-stoic-site"), "cloud");
    // An answer that goes on arrives as it is made.
    let mut events = edge.get_open("/function/plain/events");
    assert_eq!(events.next_line(), "data: first\n");
    let _ = edge.call("POST", "/function/plain/release").send().ok();
    events.next_line();
    assert_eq!(events.next_line(), "data: second\n");
    // Many at a time, each with its own answer.
    std::thread::scope(|scope| {
        for n in 0..8 {
            let edge = &edge;
            scope.spawn(move || {
                for m in 0..10 {
                    let path = format!("/function/plain/{n}-{m}");
                    let answer = edge.call("POST", &path).body("text/plain", "x").send();
                    assert!(answer.ok().text().contains(&format!("/{n}-{m}")));
                }
            });
        }
    });
}

#[test]
fn every_mode_runs_over_another_gateway() {
    let campus = Campus::default();
    let edge = campus.edge();
    deploy(&edge, "batch", &json!({}));
    edge.until_idle("batch", 2);
    let zip = zip_of(&texts(60));
    let path = "/function/batch?delay=10ms";
    let alone = edge
        .call("POST", path)
        .on("edge")
        .body(ZIP_MEDIA_TYPE, zip.clone());
    let alone = alone.send().ok().body;
    for mode in ["selector", "hedged", "duplicator", "cooperative", "auto"] {
        let answer = call(&edge, path, mode, &zip).send().ok();
        assert_eq!(answer.body, alone, "{mode}");
        whole(&answer.json(), 60);
        if mode == "cooperative" {
            assert_eq!(answer.header("x-stoic-runtime"), "edge+cloud.cpu");
            let by = answer.header("x-stoic-items-by");
            assert!(by.contains("cloud.cpu="), "{by}");
        }
    }
    // The cloud is far quicker: the selector learns it, and sends there.
    for runtime in ["edge", "cloud.cpu"] {
        let delay = if runtime == "edge" { 30 } else { 1 };
        for items in [5, 10, 20] {
            let path = format!("/function/batch?delay={delay}ms");
            let _ = edge
                .batch(&path, runtime, &zip_of(&texts(items)))
                .send()
                .ok();
        }
    }
    let answer = call(&edge, "/function/batch?delay=1ms", "selector", &zip)
        .send()
        .ok();
    assert_eq!(answer.header("x-stoic-runtime"), "cloud.cpu");
    assert!(answer.headers.contains_key("x-stoic-predicted"));
}

#[test]
fn a_caller_who_leaves_ends_the_work_there() {
    let campus = Campus::default();
    let edge = campus.edge();
    deploy(&edge, "batch", &json!({}));
    edge.until_idle("batch", 2);
    let zip = zip_of(&texts(200));
    let mut lines = edge
        .batch("/function/batch?delay=100ms", "cloud.cpu", &zip)
        .header("accept", "application/x-ndjson")
        .open();
    lines.event("progress");
    drop(lines);
    // It would have taken twenty seconds.
    let begun = Instant::now();
    edge.until_idle("batch", 2);
    let answer = edge
        .batch("/function/batch", "cloud.cpu", &zip_of(&texts(1)))
        .send()
        .ok();
    whole(&answer.json(), 1);
    assert!(
        begun.elapsed() < Duration::from_secs(8),
        "{:?}",
        begun.elapsed()
    );
}
