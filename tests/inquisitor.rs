//! Runtimes are probed in the background and known to be available or not; failed starts are retried and
//! all their reasons told; predictions say truthfully what they rest on.

#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};
use stoic_tests::{Gateway, Launch, binary, echo, texts, until, until_some, zip_of};
use tempfile::TempDir;

/// A gateway whose inquisitor is in a hurry.
fn hasty(more: &str) -> Launch {
    Launch::default().tables(&format!(
        "\n[inquisitor]\nevery = \"300ms\"\ntimeout = \"1500ms\"\nquiet = \"0s\"\n{more}"
    ))
}

/// A function whose pods on a runtime do something else as long as a file is there.
fn troubled(name: &str, runtime: &str, flag: &Path, instead: &str, mut spec: Value) -> Value {
    let script = format!(
        "if [ \"$STOIC_RUNTIME\" = {runtime} ] && [ -e {} ]; then {instead}; else exec stoic-echo; fi",
        flag.display()
    );
    spec["command"] = json!(["sh", "-c", script]);
    echo(name, spec)
}

/// What is known of the deployments of the one function on a runtime.
fn standing(gateway: &Gateway, runtime: &str) -> Value {
    let all = gateway.json("/v1/runtimes");
    let mut all = all.as_array().unwrap().iter();
    let found = all.find(|one| one["name"] == runtime).unwrap();
    found["functions"][0]["standing"].clone()
}

/// Probes in the database: all, and those that came up.
fn probes(gateway: &Gateway) -> (u32, u32) {
    let query = "SELECT count(*), coalesce(sum(ok), 0) FROM deployments WHERE probe = 1";
    let row = gateway
        .database()
        .query_row(query, [], |row| Ok((row.get(0)?, row.get(1)?)));
    row.unwrap()
}

fn of<'a>(predicted: &'a Value, runtime: &str) -> &'a Value {
    let mut all = predicted["runtimes"].as_array().unwrap().iter();
    all.find(|one| one["runtime"] == runtime).unwrap()
}

#[test]
fn a_runtime_whose_pods_never_become_ready_is_unavailable_until_one_does() {
    let folder = TempDir::new().unwrap();
    let flag = folder.path().join("hang");
    let gateway = hasty("").start();
    let hanging = troubled("f", "cpu", &flag, "sleep 600", json!({}));
    gateway.deploy(&hanging);
    until("a probe came up", || probes(&gateway).1 > 0);
    let healthy = standing(&gateway, "cpu");
    assert_eq!(
        (&healthy["available"], &healthy["watched"]),
        (&json!(true), &json!(true))
    );
    assert_eq!(healthy["last_deployment"]["probe"], true);
    // The home runtime is not probed: it has a standby, or none is wanted.
    assert_eq!(standing(&gateway, "edge")["watched"], false);

    std::fs::write(&flag, "").unwrap();
    let down = until_some("it is unavailable", || {
        Some(standing(&gateway, "cpu")).filter(|s| s["available"] == false)
    });
    assert!(
        down["unavailable_since"].as_f64().unwrap() > 1.6e9,
        "{down}"
    );
    assert!(
        down["reason"].as_str().unwrap().contains("1s 500ms"),
        "{down}"
    );
    let predicted = gateway.json("/v1/functions/f/predict?explain=true");
    let cpu = of(&predicted, "cpu");
    assert_eq!(cpu["available"], false, "{cpu}");
    assert_eq!(cpu["explanation"]["standing"]["reason"], down["reason"]);
    assert_ne!(predicted["choice"], "cpu");
    // Who insists is told; who leaves the choice is served elsewhere.
    let ask = || gateway.call("POST", "/function/f").body("text/plain", "hi");
    ask().on("cpu").send().problem(503, "runtime_unavailable");
    assert_eq!(ask().send().ok().header("x-stoic-runtime"), "edge");
    let metrics = gateway.get("/metrics").ok().text();
    assert!(
        metrics.contains("stoic_available{function=\"f\",runtime=\"cpu\"} 0"),
        "{metrics}"
    );
    assert!(metrics.contains("outcome=\"timed_out\""), "{metrics}");

    std::fs::remove_file(&flag).unwrap();
    until("it is available again", || {
        standing(&gateway, "cpu")["available"] == true
    });
    assert_eq!(standing(&gateway, "cpu").get("unavailable_since"), None);
    assert_eq!(ask().on("cpu").send().ok().text(), "hi");
    // The probes left nothing behind: there are pods of real work alone.
    until("no probe is left", || {
        let pods = gateway.pods("f");
        pods.iter()
            .all(|pod| pod["probe"] == true || pod["served"] != 0)
    });
}

#[test]
fn the_daily_budget_holds_and_is_remembered_across_a_restart() {
    let launch = hasty("daily_budget = 3\n");
    let gateway = launch.start();
    gateway.deploy(&echo("f", json!({})));
    until("three probes", || probes(&gateway) == (3, 3));
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(probes(&gateway), (3, 3));
    let now = standing(&gateway, "cpu");
    assert_eq!(now["probes_today"], 3, "{now}");
    let next = now["next_probe"].as_f64().unwrap();
    assert_eq!(next % 86_400.0, 0.0, "at midnight, UTC");
    let gateway = gateway.reborn(&launch);
    until("the function is back", || {
        standing(&gateway, "cpu")["probes_today"] == 3
    });
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(probes(&gateway), (3, 3));
    assert!(gateway.pods("f").is_empty());
}

#[test]
fn work_that_measures_deployments_leaves_nothing_to_probe() {
    let launch = Launch::default().tables("\n[inquisitor]\nevery = \"2s\"\nquiet = \"0s\"\n");
    let gateway = launch.start();
    gateway.deploy(&echo("f", json!({"runtimes": ["cpu"]})));
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(5) {
        // Every request kills its pod, so that each deploys one.
        let call = gateway.call("POST", "/function/f?die=exit");
        call.body("text/plain", "hi")
            .send()
            .problem(502, "pod_died");
    }
    assert_eq!(probes(&gateway).0, 0);
    let last = standing(&gateway, "cpu")["last_deployment"].clone();
    assert_eq!(last["probe"], false, "{last}");
    until("left alone, it is probed", || probes(&gateway).1 > 0);
}

#[test]
fn after_ten_tries_the_caller_gets_504_with_the_reasons_of_all() {
    let folder = TempDir::new().unwrap();
    let count = folder.path().join("count");
    // The fourth try ends otherwise than the rest.
    let script = format!(
        "echo x >> {0}; if [ $(wc -l < {0}) = 4 ]; then echo no memory >&2; exit 9; fi; echo no disk >&2; exit 7",
        count.display()
    );
    let gateway = Launch::default()
        .tables("\n[deployment]\nbackoff = \"1ms\"\n")
        .start();
    let spec = json!({"command": ["sh", "-c", script], "runtimes": ["edge"]});
    gateway.deploy(&echo("doomed", spec));
    let detail = gateway
        .get("/function/doomed")
        .problem(504, "deployment_timeout");
    for words in [
        "in 10 tries",
        "tries 1-3, 5-10: ",
        "exit status 7",
        "no disk",
        "try 4: ",
        "exit status 9",
        "no memory",
    ] {
        assert!(detail.contains(words), "{words}: {detail}");
    }
    let tries = std::fs::read_to_string(&count).unwrap().lines().count();
    assert_eq!(tries, 10);
    let metrics = gateway.get("/metrics").ok().text();
    let failed = "stoic_deployments_total{function=\"doomed\",runtime=\"edge\",outcome=\"failed\",by=\"work\"} 10";
    assert!(metrics.contains(failed), "{metrics}");
}

/// Two cloud runtimes, of which `cpu` is preferred where nothing is known.
const TWO: &str = "\n[runtimes.edge]\nsite = \"edge\"\norder = 0\n[runtimes.cpu]\nsite = \"cloud\"\norder = 1\n\
    [runtimes.other]\nsite = \"cloud\"\norder = 2\n";

#[test]
fn an_invocation_is_placed_again_when_its_runtime_cannot_start_pods() {
    let folder = TempDir::new().unwrap();
    let flag = folder.path().join("trouble");
    std::fs::write(&flag, "").unwrap();
    let gateway = Launch::default()
        .tables(TWO)
        .tables("[deployment]\nattempts = 3\nbackoff = \"5ms\"\n")
        .start();
    for input in ["request", "batch"] {
        let spec = json!({"runtimes": ["cpu", "other"], "input": input});
        gateway.deploy(&troubled(input, "cpu", &flag, "exit 3", spec));
        let answer = gateway
            .call("POST", &format!("/function/{input}"))
            .body("application/zip", zip_of(&texts(2)))
            .send()
            .ok();
        assert_eq!(answer.header("x-stoic-runtime"), "other", "{input}");
        // From now on it is known.
        let predicted = gateway.json(&format!("/v1/functions/{input}/predict"));
        assert_eq!(of(&predicted, "cpu")["available"], false);
        assert_eq!(predicted["choice"], "other");
    }
}

#[test]
fn an_invocation_that_waits_for_a_hanging_runtime_is_placed_again() {
    let folder = TempDir::new().unwrap();
    let flag = folder.path().join("trouble");
    std::fs::write(&flag, "").unwrap();
    let gateway = Launch::default()
        .tables(TWO)
        .tables("[inquisitor]\ntimeout = \"1s\"\n")
        .start();
    for input in ["request", "batch"] {
        let spec = json!({"runtimes": ["cpu", "other"], "input": input});
        gateway.deploy(&troubled(input, "cpu", &flag, "sleep 600", spec));
        let begun = Instant::now();
        let answer = gateway
            .call("POST", &format!("/function/{input}"))
            .body("application/zip", zip_of(&texts(2)))
            .send()
            .ok();
        assert_eq!(answer.header("x-stoic-runtime"), "other", "{input}");
        // Pods may take two minutes to be ready; the inquisitor's time-out counts.
        let took = begun.elapsed().as_secs_f64();
        assert!((1.0..10.0).contains(&took), "{took}");
    }
}

#[test]
fn a_deadline_and_a_price_change_the_choice() {
    let gateway = Launch::default()
        .keys("[placement]\nprice_weight = 0.0\n")
        .start();
    let spec = json!({"input": "batch", "standby": {"edge": 1, "cpu": 1}});
    gateway.deploy(&echo("f", spec.clone()));
    gateway.until_idle("f", 2);
    // The edge is fast three times in four, and slow else; the cloud is neither, always.
    std::thread::scope(|scope| {
        for (runtime, delays) in [
            ("edge", ["10ms", "10ms", "10ms", "800ms"]),
            ("cpu", ["200ms", "200ms", "200ms", "200ms"]),
        ] {
            let gateway = &gateway;
            scope.spawn(move || {
                for delay in delays.iter().cycle().take(16) {
                    let path = format!("/function/f?delay={delay}");
                    let zip = zip_of(&texts(1));
                    let _ = gateway.batch(&path, runtime, &zip).send().ok();
                }
            });
        }
    });
    let ask =
        |more: &str| gateway.json(&format!("/v1/functions/f/predict?items=1&bytes=200{more}"));
    until("it is learned", || {
        let predicted = ask("");
        ["edge", "cpu"]
            .iter()
            .all(|runtime| of(&predicted, runtime)["estimate"]["processing"]["points"] == 16)
    });
    let plain = ask("&explain=true");
    assert_eq!(plain["choice"], "edge", "{plain}");
    let within = ask("&deadline=500ms&explain=true");
    assert_eq!(within["choice"], "cpu", "{within}");
    assert!(
        within["reason"].as_str().unwrap().contains("chance"),
        "{within}"
    );
    let chance = |runtime: &str| {
        of(&within, runtime)["explanation"]["chance"]
            .as_f64()
            .unwrap()
    };
    assert!(chance("cpu") > 0.95 && chance("edge") < 0.95, "{within}");
    assert_eq!(within["deadline_s"], 0.5);
    // A lax one leaves the fastest in its place; an impossible one is no error.
    assert_eq!(ask("&deadline=1h")["choice"], "edge");
    assert!(ask("&deadline=1ms")["choice"].is_string());
    let wrong = gateway.get("/v1/functions/f/predict?deadline=soon");
    wrong.problem(400, "query_invalid");

    // Where a second of the edge has its price, the cloud is worth the wait.
    let priced = "[placement]\nprice_weight = 100.0\n[runtimes.edge]\nsite = \"edge\"\nprice = 1.0\n\
        [runtimes.cpu]\nsite = \"cloud\"\norder = 1\nprice = 0.0\n";
    let gateway = Launch::default().tables(priced).start();
    gateway.deploy(&echo("f", spec));
    gateway.until_idle("f", 2);
    for runtime in ["edge", "cpu", "edge", "cpu"] {
        let _ = gateway
            .batch("/function/f?delay=20ms", runtime, &zip_of(&texts(2)))
            .send()
            .ok();
    }
    let priced = until_some("it is learned", || {
        let predicted = gateway.json("/v1/functions/f/predict?items=2&explain=true");
        let known = |r| of(&predicted, r)["estimate"]["processing"]["points"] == 2;
        (known("edge") && known("cpu")).then_some(predicted)
    });
    assert_eq!(priced["choice"], "cpu", "{priced}");
    assert!(
        priced["reason"].as_str().unwrap().contains("price"),
        "{priced}"
    );
    let price = of(&priced, "edge")["explanation"]["price"]
        .as_f64()
        .unwrap();
    assert!(
        (0.02..0.5).contains(&price),
        "2 items of 20 ms at 1 a second: {price}"
    );
}

#[test]
fn explanations_tell_the_truth() {
    let gateway = Launch::default()
        .tables("\n[link]\nevery = \"1s\"\nsize = \"64 KiB\"\n")
        .start();
    gateway.deploy(&echo(
        "f",
        json!({"input": "batch", "divisible": true, "standby": {"edge": 1}}),
    ));
    gateway.until_idle("f", 1);
    for items in [2, 9, 5, 7] {
        for runtime in ["edge", "cpu"] {
            let zip = zip_of(&texts(items));
            let _ = gateway
                .batch("/function/f?delay=5ms", runtime, &zip)
                .send()
                .ok();
        }
    }
    let explained = |query: &str| {
        let path = format!("/v1/functions/f/predict?items=6&bytes=3000&explain=true{query}");
        gateway.json(&path)
    };
    let part = |predicted: &Value, runtime: &str, part: &str| {
        let parts = of(predicted, runtime)["explanation"]["parts"].clone();
        let mut parts = parts.as_array().unwrap().clone().into_iter();
        parts.find(|row| row["part"] == part).unwrap()
    };
    let predicted = until_some("it is learned and the link was probed", || {
        let predicted = explained("");
        let probed = of(&predicted, "cpu")["explanation"]["link"]["probe_at"].is_number();
        let learned = |r| part(&predicted, r, "processing")["points"] == 4;
        (learned("edge") && learned("cpu") && probed).then_some(predicted)
    });
    for runtime in ["edge", "cpu"] {
        let row = part(&predicted, runtime, "processing");
        let estimator = row["estimator"].as_str().unwrap();
        assert!(estimator.len() > 3 && estimator != "none", "{row}");
        // The first of the four was predicted by nothing.
        assert_eq!(row["recent"]["outcomes"], 3, "{row}");
        assert!(row["recent"]["mae_s"].as_f64().unwrap() < 0.5, "{row}");
        assert!(
            row["detail"].as_str().unwrap().contains("s an item"),
            "{row}"
        );
        let coverage = part(&predicted, runtime, "response")["recent"]["coverage_90"].clone();
        assert!((0.0..=1.0).contains(&coverage.as_f64().unwrap_or(0.5)));
    }
    // One cold start on the cloud runtime, one standby at the edge: as recorded, so explained.
    let recorded = |runtime: &str| -> u64 {
        let query = "SELECT count(*) FROM deployments WHERE ok = 1 AND runtime = ?1";
        let count: i64 = gateway
            .database()
            .query_row(query, [runtime], |row| row.get(0))
            .unwrap();
        u64::try_from(count).unwrap()
    };
    for runtime in ["edge", "cpu"] {
        let row = part(&predicted, runtime, "deployment");
        assert_eq!(row["points"].as_u64().unwrap(), recorded(runtime), "{row}");
        assert!(
            row["detail"].as_str().unwrap().contains("a pod is ready"),
            "{row}"
        );
    }
    let link = &of(&predicted, "cpu")["explanation"]["link"];
    assert!(
        link["points"].as_u64().unwrap() >= 5,
        "4 packages and a probe: {link}"
    );
    assert_eq!(link["recent"]["outcomes"], 4, "{link}");
    assert_eq!(of(&predicted, "edge")["explanation"].get("link"), None);
    assert_eq!(part(&predicted, "edge", "transfer")["estimator"], "local");
    let load = &of(&predicted, "edge")["explanation"]["load"];
    assert_eq!(
        (&load["free"], &load["waiting"]),
        (&load["places"], &json!([]))
    );
    // The link's probes are recorded, and leave nothing behind.
    let probed: i64 = gateway
        .database()
        .query_row(
            "SELECT count(*) FROM transfers WHERE probe = 1 AND bytes = 65536",
            [],
            |row| row.get(0),
        )
        .unwrap();
    assert!(probed >= 1);
    until("no object is left", || gateway.stored("probes/").is_empty());
    // Modes: each as it is predicted, and the best of them.
    let modes: Vec<&str> = predicted["modes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|mode| mode["mode"].as_str().unwrap())
        .collect();
    assert!(
        modes.contains(&"selector") && modes.contains(&"cooperative"),
        "{modes:?}"
    );
    assert!(
        explained("&mode=duplicator")["choice"]
            .as_str()
            .unwrap()
            .contains('+')
    );
    assert!(
        explained("&mode=auto")["reason"]
            .as_str()
            .unwrap()
            .contains("expected")
    );
    let wrong = gateway.get("/v1/functions/f/predict?mode=fastest");
    wrong.problem(400, "unknown_mode");
    // Asked for nothing, it explains nothing.
    let plain = gateway.json("/v1/functions/f/predict");
    assert_eq!(of(&plain, "cpu").get("explanation"), None);

    // The same for people.
    let shown = |arguments: &[&str]| {
        let output = Command::new(binary("stoic"))
            .args(arguments)
            .args(["--gateway", &format!("http://{}", gateway.address)])
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let text = shown(&[
        "predict",
        "f",
        "--items",
        "6",
        "--explain",
        "--deadline",
        "30s",
    ]);
    let estimator = part(&predicted, "cpu", "processing")["estimator"].clone();
    for words in [
        estimator.as_str().unwrap(),
        "ESTIMATOR",
        "a chance of",
        "cpu at site cloud: available",
        "Mbit/s",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
    let text = shown(&["runtimes"]);
    for words in ["AVAILABLE", "LINK MEASURED", "work", "ago"] {
        assert!(text.contains(words), "{words}: {text}");
    }
    let yaml = shown(&["predict", "f", "--items", "6", "--explain", "-o", "yaml"]);
    assert!(
        yaml.contains("explanation:") && yaml.contains("recent_error:"),
        "{yaml}"
    );
}
