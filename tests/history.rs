//! What happened is remembered as it was: where, cold or warm, predicted and actual, failed or not; and a
//! trained model reaches every site.

#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};
use stoic_tests::{Gateway, echo, texts, until, until_some, zip_of};

fn rows(gateway: &Gateway, query: &str, count: usize) -> Vec<Value> {
    until_some(&format!("{count} measurements for {query}"), || {
        let rows = gateway.json(&format!("/v1/measurements?{query}"));
        let rows = rows.as_array().unwrap().clone();
        (rows.len() == count).then_some(rows)
    })
}

#[test]
fn measurements_tell_cold_from_warm_and_say_where_the_time_went() {
    let gateway = Gateway::start();
    gateway.deploy(&echo(
        "batch",
        json!({"input": "batch", "standby": {"edge": 1}}),
    ));
    gateway.deploy(&echo("other", json!({"input": "batch"})));
    gateway.until_idle("batch", 1);
    let zip = zip_of(&texts(7));
    let ask = |runtime: &str| {
        let answer = gateway
            .batch("/function/batch?delay=10ms", runtime, &zip)
            .send()
            .ok();
        answer.header("x-stoic-invocation").to_owned()
    };
    let invocations = [ask("edge"), ask("cpu"), ask("cpu")];
    let _ = gateway
        .call("POST", "/function/other")
        .body("application/zip", zip.clone())
        .send()
        .ok();
    let found = rows(&gateway, "function=batch", 3);
    // The newest first.
    let ids: Vec<&str> = found
        .iter()
        .map(|row| row["invocation"].as_str().unwrap())
        .collect();
    assert_eq!(ids, [&*invocations[2], &*invocations[1], &*invocations[0]]);
    let starts: Vec<&str> = found
        .iter()
        .map(|row| row["start"].as_str().unwrap())
        .collect();
    assert_eq!(starts, ["warm", "cold", "warm"]);
    let emulated: Vec<&str> = found
        .iter()
        .map(|row| row["emulated"].as_str().unwrap())
        .collect();
    assert_eq!(emulated, ["link", "link,deployment", ""]);
    for row in &found {
        assert_eq!(
            (&row["items"], &row["bytes"]),
            (&json!(7), &json!(zip.len())),
            "{row}"
        );
        assert_eq!(
            (&row["outcome"], &row["mode"], &row["action"]),
            (&json!("ok"), &json!("pinned"), &json!("infer"))
        );
        let part = |name: &str| row["actual"][name].as_f64().unwrap();
        assert!(part("processing") >= 0.07, "7 items of 10 ms: {row}");
        let far = row["site"] == "cloud";
        assert_eq!(part("transfer") > 0.0, far, "{row}");
    }
    assert_eq!(rows(&gateway, "function=batch&runtime=cpu", 2).len(), 2);
    assert_eq!(
        rows(&gateway, "function=batch&limit=1", 1)[0]["invocation"],
        invocations[2]
    );
    rows(&gateway, "", 4);
    rows(&gateway, "function=none", 0);
    // Counted as well.
    let metrics = gateway.get("/metrics").ok().text();
    let counted = metrics
        .lines()
        .filter(|line| line.contains("function=\"batch\"") && line.contains("cpu"));
    assert!(
        counted.count() > 0 && metrics.ends_with("# EOF\n"),
        "{metrics}"
    );
}

#[test]
fn a_trained_model_reaches_every_site_and_every_pod() {
    let gateway = Gateway::start();
    gateway.deploy(&echo(
        "batch",
        json!({"input": "batch", "standby": {"edge": 1, "cpu": 1}}),
    ));
    gateway.until_idle("batch", 2);
    assert_eq!(gateway.json("/v1/functions/batch/models"), json!([]));
    let zip = zip_of(&texts(3));
    for (version, runtime) in [("v1", "edge"), ("v2", "cpu")] {
        let call = gateway
            .batch("/function/batch", runtime, &zip)
            .header("x-stoic-action", "train");
        assert_eq!(call.send().ok().header("x-stoic-model"), version);
        until("every pod serves it", || {
            gateway
                .pods("batch")
                .iter()
                .all(|pod| pod["model"] == version && pod["state"] == "idle")
        });
        for site in ["edge", "cpu"] {
            let answer = gateway.batch("/function/batch", site, &zip).send().ok();
            assert_eq!(answer.header("x-stoic-model"), version, "on {site}");
        }
        assert_eq!(
            gateway.json("/v1/functions/batch")["status"]["model"],
            version
        );
    }
    let models = gateway.json("/v1/functions/batch/models");
    assert_eq!(models.as_array().unwrap().len(), 2);
    assert_eq!(models[0]["version"], "v2", "the newest first: {models}");
    for model in models.as_array().unwrap() {
        let key = model["key"].as_str().unwrap();
        let stored: Vec<String> = ["cloud", "edge"]
            .map(|site| format!("{site}/{key}"))
            .to_vec();
        assert_eq!(gateway.stored(key), stored);
    }
    // A pod that comes up later loads it before it works.
    let pod = gateway
        .pods("batch")
        .into_iter()
        .find(|pod| pod["runtime"] == "edge")
        .unwrap();
    gateway.kill_pod(u32::try_from(pod["pid"].as_u64().unwrap()).unwrap());
    until("the edge has a new pod", || {
        gateway.pods("batch").iter().any(|other| {
            other["runtime"] == "edge" && other["pid"] != pod["pid"] && other["state"] == "idle"
        })
    });
    let answer = gateway.batch("/function/batch", "edge", &zip).send().ok();
    assert_eq!(answer.header("x-stoic-model"), "v2");
}
