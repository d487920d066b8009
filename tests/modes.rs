//! The modes of placement at the door: what is asked for, what is refused and how, and what an answer
//! says of it.

#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};
use stoic_tests::{Answer, Gateway, Launch, echo, texts, until, zip_of};

const ZIP: &str = "application/zip";

fn gateway() -> Gateway {
    let gateway = Gateway::start();
    let warm = json!({"edge": 1, "cpu": 1});
    let spec = json!({"input": "batch", "divisible": true, "standby": warm});
    gateway.deploy(&echo("shared", spec));
    gateway.deploy(&echo(
        "whole",
        json!({"input": "batch", "standby": {"edge": 1}}),
    ));
    let edge = json!({"input": "batch", "divisible": true, "runtimes": ["edge"]});
    gateway.deploy(&echo("local", edge));
    let cloud = json!({"input": "batch", "divisible": true, "runtimes": ["cpu"]});
    gateway.deploy(&echo("far", cloud));
    gateway.deploy(&echo("quick", json!({"input": "request"})));
    gateway
}

fn asked(gateway: &Gateway, function: &str, headers: &[(&str, &str)]) -> Answer {
    let mut call = gateway.call("POST", &format!("/function/{function}"));
    for (name, value) in headers {
        call = call.header(name, value);
    }
    call.body(ZIP, zip_of(&texts(6))).send()
}

#[test]
fn what_cannot_be_is_refused_with_a_code() {
    let gateway = gateway();
    let mode = "x-stoic-mode";
    let detail = asked(&gateway, "shared", &[(mode, "cooperativ")]).problem(400, "unknown_mode");
    assert!(detail.contains("did you mean `cooperative`"), "{detail}");
    asked(&gateway, "shared", &[(mode, "pinned")]).problem(400, "runtime_missing");
    for free in ["selector", "auto"] {
        let both = [(mode, free), ("x-stoic-runtime", "cpu")];
        asked(&gateway, "shared", &both).problem(400, "mode_conflict");
    }
    for several in ["hedged", "duplicator", "cooperative"] {
        asked(&gateway, "local", &[(mode, several)]).problem(400, "mode_impossible");
        asked(&gateway, "quick", &[(mode, several)]).problem(400, "mode_impossible");
        let edge = [(mode, several), ("x-stoic-runtime", "edge")];
        asked(&gateway, "shared", &edge).problem(400, "mode_impossible");
        let absent = [(mode, several), ("x-stoic-runtime", "gpu9")];
        asked(&gateway, "shared", &absent).problem(400, "unknown_runtime");
    }
    for both in ["duplicator", "cooperative"] {
        asked(&gateway, "far", &[(mode, both)]).problem(400, "mode_impossible");
        let train = [(mode, both), ("x-stoic-action", "train")];
        asked(&gateway, "shared", &train).problem(400, "mode_impossible");
    }
    let whole = asked(&gateway, "whole", &[(mode, "cooperative")]);
    let detail = whole.problem(400, "function_indivisible");
    assert!(detail.contains("divisible: true"), "{detail}");
    for deadline in ["soon", "0s", "-5s", "30", "8days"] {
        let header = [("x-stoic-deadline", deadline)];
        let detail = asked(&gateway, "shared", &header).problem(400, "header_invalid");
        assert!(detail.contains("x-stoic-deadline"), "{detail}");
    }
}

#[test]
fn every_mode_answers_the_same_and_says_which_it_was() {
    let gateway = gateway();
    let mut bodies = Vec::new();
    for mode in ["selector", "hedged", "duplicator", "cooperative", "auto"] {
        let headers = [("x-stoic-mode", mode), ("x-stoic-deadline", "30s")];
        let answer = asked(&gateway, "shared", &headers).ok();
        let said = answer.header("x-stoic-mode");
        assert!(said == mode || mode == "auto", "{mode}: {said}");
        bodies.push(answer.body);
    }
    bodies.dedup();
    assert_eq!(bodies.len(), 1, "all of them give the same result");
    let named = [("x-stoic-mode", "hedged"), ("x-stoic-runtime", "cpu")];
    let answer = asked(&gateway, "shared", &named).ok();
    assert_eq!(answer.header("x-stoic-runtime"), "cpu");
    let single = asked(&gateway, "quick", &[("x-stoic-mode", "auto")]);
    assert_eq!(single.ok().status, 200, "a request has one place");
    until("each is in the history", || {
        let rows = gateway.json("/v1/measurements?function=shared&limit=20");
        let rows = rows.as_array().unwrap();
        let all = ["selector", "hedged", "duplicator", "cooperative"];
        all.iter()
            .all(|mode| rows.iter().any(|row| row["mode"] == *mode))
    });
}

#[test]
fn one_item_is_not_divided() {
    let gateway = gateway();
    let call = gateway
        .call("POST", "/function/shared")
        .header("x-stoic-mode", "cooperative")
        .body(ZIP, zip_of(&texts(1)));
    let answer = call.send().ok();
    assert_eq!(answer.json()["items"].as_array().unwrap().len(), 1);
}

#[test]
fn the_default_mode_is_the_configured_one_where_it_can_be() {
    let gateway = Launch::default()
        .tables("\n[placement]\nmode = \"cooperative\"\n")
        .start();
    let warm = json!({"edge": 1, "cpu": 1});
    let spec = json!({"input": "batch", "divisible": true, "standby": warm});
    gateway.deploy(&echo("shared", spec));
    gateway.deploy(&echo("whole", json!({"input": "batch", "standby": warm})));
    gateway.until_idle("shared", 2);
    let answer = asked(&gateway, "shared", &[]).ok();
    assert_eq!(answer.header("x-stoic-mode"), "cooperative");
    let answer = asked(&gateway, "whole", &[]).ok();
    assert_eq!(answer.header("x-stoic-mode"), "selector");
    let answer = asked(&gateway, "shared", &[("x-stoic-runtime", "edge")]).ok();
    assert_eq!(answer.header("x-stoic-mode"), "pinned");
}

#[test]
fn a_configured_mode_that_makes_no_sense_is_refused() {
    for (table, key) in [
        ("[placement]\nmode = \"pinned\"", "placement.mode"),
        ("[placement.hedge]\nmost = 0", "placement.hedge"),
    ] {
        let exit = Launch::default().tables(&format!("\n{table}\n")).fail();
        assert_eq!(exit.code, Some(2));
        assert!(exit.errors.contains(key), "{}", exit.errors);
    }
}

/// Two cloud runtimes of which nobody knows which will be up first: both are deployed, one is kept, and
/// the other is returned.
#[test]
fn a_hedge_keeps_the_first_and_returns_the_others() {
    let runtimes = "\n[runtimes.edge]\nsite = \"edge\"\n[runtimes.cpu]\nsite = \"cloud\"\norder = 1\n\
        [runtimes.spare]\nsite = \"cloud\"\norder = 2\n[placement.hedge]\nworth = 0.0\n";
    let gateway = Launch::default().tables(runtimes).start();
    let spec = json!({
        "input": "batch", "runtimes": ["cpu", "spare"], "bootstrap": {"batches": [4, 2]},
        "standby": {"cpu": {"min": 0, "max": 1, "idle": "100ms"}, "spare": {"min": 0, "max": 1, "idle": "100ms"}},
        "env": {"ECHO_START_DELAY": "200ms"},
    });
    gateway.deploy(&echo("far", spec));
    gateway.until_bootstrapped("far");
    // Deployments of different lengths, so that the intervals are wide.
    for _ in 0..3 {
        for runtime in ["cpu", "spare"] {
            let _ = gateway
                .batch("/function/far", runtime, &zip_of(&texts(2)))
                .send()
                .ok();
        }
        until("the pods went", || gateway.pods("far").is_empty());
    }
    let mut placed = 0;
    for _ in 0..6 {
        let mut lines = gateway
            .call("POST", "/function/far")
            .header("x-stoic-mode", "hedged")
            .header("accept", "application/x-ndjson")
            .body(ZIP, zip_of(&texts(4)))
            .open();
        let mut events: Vec<Value> = Vec::new();
        while let Some(event) = lines.next_event() {
            events.push(event);
        }
        let last = events.last().unwrap();
        assert_eq!(last["type"], "result", "{last}");
        let count = events.iter().filter(|e| e["type"] == "placed").count();
        let working = events.iter().filter(|e| e["type"] == "working").count();
        assert_eq!(working, 1, "one of them gets the work");
        placed = placed.max(count);
        until("all pods went, the returned one too", || {
            gateway.pods("far").is_empty()
        });
        if placed == 2 {
            return;
        }
    }
    panic!("never were both deployed");
}

/// A gateway with these tables and a function of that spec, which knows how long a batch takes on each of
/// these runtimes.
fn learned(tables: &str, spec: Value, runtimes: &[&str]) -> Gateway {
    let gateway = Launch::default().tables(tables).start();
    gateway.deploy(&echo("f", spec));
    gateway.until_idle("f", runtimes.len());
    for items in [10, 20, 40] {
        for runtime in runtimes {
            let _ = gateway
                .batch("/function/f?delay=10ms", runtime, &zip_of(&texts(items)))
                .send()
                .ok();
        }
    }
    until("it is learned", || {
        let predicted = gateway.json("/v1/functions/f/predict?items=40");
        let mut all = predicted["runtimes"].as_array().unwrap().iter();
        all.all(|one| one["estimate"]["processing"]["points"] == 3)
    });
    gateway
}

/// Two that share are sooner than one, but where a second of the edge costs more than the time is worth,
/// the batch goes to the cloud alone; what is predicted is what is done.
#[test]
fn mode_auto_counts_what_the_runtimes_cost() {
    let spec =
        json!({"input": "batch", "divisible": true, "standby": json!({"edge": 1, "cpu": 1})});
    for (weight, mode) in [(0.0, "cooperative"), (100.0, "selector")] {
        let tables = format!(
            "\n[placement]\nprice_weight = {weight:.1}\n[runtimes.edge]\nsite = \"edge\"\nprice = 1.0\n\
             [runtimes.cpu]\nsite = \"cloud\"\norder = 1\nprice = 0.0\n"
        );
        let gateway = learned(&tables, spec.clone(), &["edge", "cpu"]);
        let predicted = gateway.json("/v1/functions/f/predict?items=40&mode=auto");
        let choice = predicted["choice"].as_str().unwrap();
        assert_eq!(choice.contains("edge"), weight == 0.0, "{predicted}");
        let reason = predicted["reason"].as_str().unwrap();
        assert!(reason.starts_with(mode), "{predicted}");
        let answer = gateway
            .call("POST", "/function/f?delay=10ms")
            .header("x-stoic-mode", "auto")
            .body(ZIP, zip_of(&texts(40)))
            .send()
            .ok();
        assert_eq!(answer.header("x-stoic-mode"), mode, "{predicted}");
        if mode == "selector" {
            assert_eq!(answer.header("x-stoic-runtime"), "cpu");
        }
    }
}

/// No mode is forecast that could not be run: a batch is shared with one cloud runtime, one that cannot be
/// divided with none, and hedging keeps to its budget.
#[test]
fn only_what_can_be_run_is_predicted() {
    let all = ["edge", "cpu", "spare"];
    for (most, divisible) in [(3, true), (1, false)] {
        let tables = format!(
            "\n[runtimes.edge]\nsite = \"edge\"\n[runtimes.cpu]\nsite = \"cloud\"\norder = 1\n\
             [runtimes.spare]\nsite = \"cloud\"\norder = 2\n[placement.hedge]\nworth = 0.0\nmost = {most}\n"
        );
        let warm = json!({"edge": 1, "cpu": 1, "spare": 1});
        let spec =
            json!({"input": "batch", "divisible": divisible, "runtimes": all, "standby": warm});
        let gateway = learned(&tables, spec, &all);
        let predicted = gateway.json("/v1/functions/f/predict?items=40&mode=auto");
        let forecasts = predicted["modes"].as_array().unwrap();
        let of = |mode: &str| forecasts.iter().find(|forecast| forecast["mode"] == mode);
        assert_eq!(of("hedged").is_some(), most > 1, "{predicted}");
        assert!(of("duplicator").is_some(), "{predicted}");
        let shared = of("cooperative").map(|f| f["runtimes"].as_array().unwrap().len());
        assert_eq!(shared, divisible.then_some(2), "{predicted}");
    }
}
