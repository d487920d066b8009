//! Another gateway as the cloud of this one, when the link to it breaks or it is killed: each item is in the
//! result once, the edge does what comes meanwhile, and the cloud is used again when it is back.

#![allow(clippy::unwrap_used)]

use serde_json::json;
use stoic_tests::campus::{Campus, call, call_now, deploy, runtime, until_works, whole};
use stoic_tests::{Launch, texts, until, zip_of};
use tempfile::TempDir;

#[test]
fn a_link_that_is_cut_in_mid_batch_loses_nothing_and_comes_back() {
    let campus = Campus::default();
    let edge = campus.edge();
    deploy(&edge, "batch", &json!({}));
    let zip = zip_of(&texts(100));
    for (mode, hold) in [
        ("cooperative", false),
        ("duplicator", false),
        ("cooperative", true),
    ] {
        until("the cloud can be used", || {
            runtime(&edge, "cloud.cpu")["available"] == true
        });
        edge.until_idle("batch", 2);
        let path = "/function/batch?delay=60ms";
        let call = call(&edge, path, mode, &zip);
        let mut lines = call.header("accept", "application/x-ndjson").open();
        match mode {
            "cooperative" => until_works(&mut lines, "cloud.cpu"),
            _ => drop(lines.event("progress")),
        }
        if hold {
            campus.link.hold();
        } else {
            campus.link.cut();
        }
        let last = lines.event("result");
        let result = edge.get(last["result"].as_str().unwrap()).ok().json();
        whole(&result, 100);
        until("it is said that the link is down", || {
            let cpu = runtime(&edge, "cloud.cpu");
            let reason = cpu["reason"].as_str().unwrap_or_default();
            cpu["available"] == false && reason.contains("cannot be reached")
        });
        // Meanwhile the edge does what comes.
        assert_eq!(call_now(&edge, &zip_of(&texts(3))), "edge");
        campus.link.cut();
        campus.link.restore();
    }
    until("no pod is left over there", || campus.leases().len() == 1);
    assert!(!edge.panicked() && !campus.gateway().panicked());
}

#[test]
fn a_gateway_that_is_killed_in_mid_batch_is_replaced_by_the_edge_and_used_again_when_it_is_back() {
    let mut campus = Campus::default();
    let edge = campus.edge();
    deploy(&edge, "batch", &json!({}));
    let zip = zip_of(&texts(100));
    edge.until_idle("batch", 2);
    let path = "/function/batch?delay=50ms";
    let mut lines = call(&edge, path, "cooperative", &zip)
        .header("accept", "application/x-ndjson")
        .open();
    until_works(&mut lines, "cloud.cpu");
    let address = campus.gateway().address;
    campus.kill();
    let last = lines.event("result");
    let result = edge.get(last["result"].as_str().unwrap()).ok().json();
    whole(&result, 100);
    let m = &last["measurement"]["items_by"];
    assert!(m["edge"].as_u64() > Some(0), "{last}");
    assert_eq!(call_now(&edge, &zip_of(&texts(3))), "edge");

    campus.gateway = Some(campus.launch.clone().listen(address).start());
    until("it is used again", || {
        runtime(&edge, "cloud.cpu")["available"] == true
    });
    edge.until_idle("batch", 2);
    let answer = edge.batch("/function/batch", "cloud.cpu", &zip).send().ok();
    whole(&answer.json(), 100);
}

#[test]
fn an_edge_box_starts_and_works_while_its_cloud_cannot_be_reached() {
    let campus = Campus::default();
    let data = TempDir::new().unwrap();
    let launch = Launch::default()
        .config(&campus.table(""))
        .data(data.path());
    // One that was never met has to answer: nobody knows what it has.
    campus.link.cut();
    let unmet = launch.fail();
    assert_eq!(unmet.code, Some(1), "{}", unmet.errors);
    let last = unmet.errors.trim_end().lines().last().unwrap();
    assert!(
        last.contains("cannot be reached") && last.contains("configure"),
        "{last}"
    );
    campus.link.restore();
    drop(launch.start());
    campus.link.cut();
    let edge = launch.start();
    let cpu = runtime(&edge, "cloud.cpu");
    assert_eq!(cpu["available"], false, "{cpu}");
    deploy(&edge, "batch", &json!({}));
    assert_eq!(call_now(&edge, &zip_of(&texts(3))), "edge");
    campus.link.restore();
    until("the cloud is there", || {
        runtime(&edge, "cloud.cpu")["available"] == true
    });
    edge.until_idle("batch", 2);
    whole(
        &edge
            .batch("/function/batch", "cloud.cpu", &zip_of(&texts(3)))
            .send()
            .ok()
            .json(),
        3,
    );
}
