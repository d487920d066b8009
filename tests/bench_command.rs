//! `stoic bench cold-warm` as a user runs it: short runs that say so, bad input, an interruption, and a gateway of its
//! own. What it measures is judged by `make bench`, not here.

#![allow(clippy::unwrap_used)]

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};
use stoic_tests::{Gateway, binary, echo, until};

fn command(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(binary("stoic"));
    command
        .args(["bench", "cold-warm"])
        .args(arguments)
        .current_dir(folder)
        .env_remove("STOIC_GATEWAY");
    command
}

fn bench(folder: &Path, arguments: &[&str]) -> Output {
    command(folder, arguments).output().unwrap()
}

fn summary(folder: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(folder.join("summary.json")).unwrap()).unwrap()
}

fn result<'a>(summary: &'a Value, way: &str) -> &'a Value {
    let all = summary["results"].as_array().unwrap();
    all.iter()
        .find(|result| result["way"] == way)
        .unwrap_or_else(|| panic!("no {way} in {summary:#}"))
}

#[test]
fn wrong_input_is_one_line_and_exit_status_2() {
    let gateway = Gateway::start();
    gateway.deploy(&echo("hi", json!({"runtimes": ["edge"]})));
    gateway.deploy(&echo("far", json!({"runtimes": ["cpu"]})));
    let url = format!("http://{}", gateway.address);
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("bad.yaml"), "kind: Function\n").unwrap();
    for (arguments, says) in [
        (&["--function", "hi", "--rounds", "3"][..], "--short"),
        (&["--function", "absent"], "absent"),
        (&["--function", "bad.yaml"], "bad.yaml: "),
        (&["--function", "none.yaml"], "cannot read none.yaml"),
        (
            &["--function", "hi", "--backend", "kubernetes"],
            "--backend kubernetes: this gateway has no runtime there",
        ),
        (
            &["--function", "hi", "--runtime", "process=gpu9"],
            "no runtime `gpu9`",
        ),
        (
            &["--function", "far", "--runtime", "process=edge"],
            "spec.runtimes",
        ),
        (&["--function", "hi", "--data", "hi=none.bin"], "none.bin"),
        (&["--function", "hi", "--data", "ho=x"], "`ho` is not among"),
        (
            &["--function", "hi", "--image", "hi=x"],
            "hi is deployed already",
        ),
        (&["--function", "hi", "--rate", "-1"], "--rate"),
        (&["--function", "hi", "--function", "hi"], "given twice"),
    ] {
        let mut all = arguments.to_vec();
        all.extend(["--gateway", &url, "--out", "out"]);
        let ended = bench(folder.path(), &all);
        let said = String::from_utf8(ended.stderr).unwrap();
        assert_eq!(ended.status.code(), Some(2), "{arguments:?}: {said}");
        assert_eq!(said.lines().count(), 1, "{arguments:?}: {said}");
        assert!(said.contains(says), "{said} instead of {says}");
        assert!(!folder.path().join("out/summary.json").exists());
    }
    // A folder of somebody else is left alone, before anything is measured.
    std::fs::create_dir(folder.path().join("thesis")).unwrap();
    std::fs::write(folder.path().join("thesis/index.html"), "mine").unwrap();
    let ended = bench(
        folder.path(),
        &["--function", "hi", "--gateway", &url, "--out", "thesis"],
    );
    assert_eq!(ended.status.code(), Some(2), "{ended:?}");
    // A gateway that was named and does not answer is no reason to start another.
    let ended = bench(
        folder.path(),
        &[
            "--function",
            "hi",
            "--gateway",
            "http://127.0.0.1:1",
            "--out",
            "out",
        ],
    );
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
}

#[test]
fn a_short_run_is_reported_as_too_short_and_leaves_the_function_as_it_was() {
    let gateway = Gateway::start();
    gateway.deploy(&echo(
        "hi",
        json!({"standby": {"edge": {"min": 1, "max": 3}}}),
    ));
    gateway.until_idle("hi", 1);
    let url = format!("http://{}", gateway.address);
    let folder = tempfile::tempdir().unwrap();
    let ended = bench(
        folder.path(),
        &[
            "--function",
            "hi",
            "--rounds",
            "3",
            "--short",
            "--settle",
            "20ms",
            "--baseline",
            "direct",
            "--burst",
            "4",
            "--burst-rounds",
            "2",
            "--load-time",
            "300ms",
            "--load-passes",
            "1",
            "--rate",
            "50",
            "--gateway",
            &url,
            "--out",
            "out",
        ],
    );
    assert!(ended.status.success(), "{ended:?}");
    let shown = String::from_utf8(ended.stdout).unwrap();
    assert!(shown.contains("TOO SHORT TO CONCLUDE"), "{shown}");
    for column in [
        "P50, MS",
        "TO WARM",
        "cold",
        "standby",
        "direct",
        "burst of 4",
    ] {
        assert!(shown.contains(column), "{column} in {shown}");
    }
    let out = folder.path().join("out");
    for name in [
        "index.html",
        "report.md",
        "tables/latencies.csv",
        "tables/stages.csv",
        "tables/ratios.csv",
        "tables/load.csv",
        "tables/bursts.csv",
        "tables/samples.csv",
        "tables/machine.csv",
        "figures/latencies.svg",
        "figures/stages.svg",
        "figures/load.svg",
        "figures/bursts.svg",
    ] {
        let text =
            std::fs::read_to_string(out.join(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert!(!text.contains("NaN") && !text.contains("inf,"), "{name}");
    }
    let page = std::fs::read_to_string(out.join("index.html")).unwrap();
    assert!(
        page.contains("nothing can be concluded") && page.contains("no process of the function")
    );

    let summary = summary(&out);
    assert_eq!(summary["made_by"], "stoic bench cold-warm");
    assert_eq!(
        (
            &summary["conclusive"],
            &summary["rounds"],
            &summary["cut_short"]
        ),
        (&json!(false), &json!(3), &Value::Null)
    );
    for way in ["cold", "standby", "warm", "direct"] {
        let result = result(&summary, way);
        let all = result["all_ms"].as_array().unwrap();
        assert_eq!((all.len(), &result["failed"]), (3, &json!(0)), "{result:#}");
        let median = &result["p50_ms"];
        let of = |key: &str| median[key].as_f64().unwrap();
        assert!(
            of("low") <= of("value") && of("value") <= of("high"),
            "{median}"
        );
    }
    // A process has to be started for the one and not for the other.
    let median = |way: &str| result(&summary, way)["p50_ms"]["value"].as_f64().unwrap();
    assert!(median("cold") > median("warm"), "{summary:#}");
    let stages = result(&summary, "cold")["stages_ms"].as_object().unwrap();
    let sum: f64 = stages.values().map(|ms| ms.as_f64().unwrap()).sum();
    assert!(sum > 0.0 && stages.contains_key("processing"), "{stages:?}");
    let ratio = summary["ratios"].as_array().unwrap().iter();
    let mut cold = ratio.filter(|ratio| ratio["of"] == "cold" && ratio["to"] == "warm");
    assert!(cold.next().unwrap()["ratio"]["value"].as_f64().unwrap() > 1.0);
    let told = summary["ratios"].as_array().unwrap().iter();
    assert!(
        told.filter(|ratio| ratio["aim"].is_string())
            .all(|r| r["told"] == "cannot be told")
    );
    let machine = &summary["machine"];
    for fact in [
        "kernel",
        "cores",
        "memory_bytes",
        "load_before",
        "load_after",
        "stoic",
        "gateway",
    ] {
        assert!(!machine[fact].is_null(), "{fact} in {machine}");
    }
    assert!(summary["noise"]["loops"].as_u64().unwrap() >= 12);
    let burst = &summary["bursts"][0];
    assert_eq!(
        (&burst["calls"], &burst["rounds"]),
        (&json!(4), &json!(2)),
        "{burst:#}"
    );
    let loops: Vec<&Value> = summary["load"].as_array().unwrap().iter().collect();
    assert_eq!(loops.len(), 2);
    assert!(
        loops
            .iter()
            .all(|one| one["answers"].as_u64().unwrap() >= 10),
        "{loops:?}"
    );
    let samples = std::fs::read_to_string(out.join("tables/samples.csv")).unwrap();
    // Cold, standby, warm and direct, three times; and starts from a zygote, but for those that found it
    // not ready and are none.
    let lines = samples.lines().count();
    assert!((1 + 3 * 4 + 1..=1 + 3 * 5).contains(&lines), "{samples}");

    // As it was declared: one standby, and no more.
    gateway.until_idle("hi", 1);
    // Once more over its own folder, for programs.
    let again = bench(
        folder.path(),
        &[
            "--function",
            "hi",
            "--rounds",
            "1",
            "--short",
            "--settle",
            "0",
            "--load-time",
            "0",
            "--gateway",
            &url,
            "--out",
            "out",
            "--output",
            "json",
        ],
    );
    assert!(again.status.success(), "{again:?}");
    let printed: Value = serde_json::from_slice(&again.stdout).unwrap();
    assert_eq!(printed["rounds"], 1);
    assert!(
        !out.join("figures/load.svg").exists(),
        "left over from the run before"
    );
}

#[test]
fn an_interrupted_run_writes_what_was_measured_and_puts_the_scale_back() {
    let gateway = Gateway::start();
    gateway.deploy(&echo("hi", json!({"standby": {"edge": 1}})));
    gateway.until_idle("hi", 1);
    let url = format!("http://{}", gateway.address);
    let folder = tempfile::tempdir().unwrap();
    let mut child = command(
        folder.path(),
        &[
            "--function",
            "hi",
            "--rounds",
            "5000",
            "--settle",
            "5ms",
            "--gateway",
            &url,
            "--out",
            "out",
        ],
    )
    .stdout(Stdio::piped())
    .stderr(Stdio::piped())
    .spawn()
    .unwrap();
    // Not on a clock: when it has measured a little, as the pods that it had show.
    let mut seen = std::collections::BTreeSet::new();
    until("a few starts", || {
        let pods = gateway.pods("hi");
        seen.extend(
            pods.iter()
                .filter_map(|pod| pod["name"].as_str().map(str::to_owned)),
        );
        seen.len() >= 8
    });
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    kill_process(pid, Signal::INT).unwrap();
    let deadline = Instant::now() + Duration::from_secs(40);
    while child.try_wait().unwrap().is_none() {
        if Instant::now() > deadline {
            child.kill().unwrap();
            panic!("it did not end");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let mut said = String::new();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut said)
        .unwrap();
    assert!(said.contains("putting back"), "{said}");
    let summary = summary(&folder.path().join("out"));
    assert_eq!(summary["cut_short"], "interrupted");
    assert_eq!(summary["conclusive"], false);
    assert!(!summary["results"].as_array().unwrap().is_empty());
    gateway.until_idle("hi", 1);
}

#[test]
fn a_function_that_is_deployed_for_the_run_is_gone_after_it() {
    let gateway = Gateway::start();
    let url = format!("http://{}", gateway.address);
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(
        folder.path().join("passing.json"),
        echo("passing", json!({"standby": {"edge": 2}})).to_string(),
    )
    .unwrap();
    let ended = bench(
        folder.path(),
        &[
            "--function",
            "passing.json",
            "--rounds",
            "1",
            "--short",
            "--settle",
            "0",
            "--load-time",
            "0",
            "--gateway",
            &url,
            "--out",
            "out",
        ],
    );
    assert!(ended.status.success(), "{ended:?}");
    assert_eq!(gateway.get("/v1/functions/passing").status, 404);
    assert_eq!(
        result(&summary(&folder.path().join("out")), "cold")["failed"],
        0
    );
}

#[test]
fn with_no_gateway_it_runs_one_of_its_own_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = command(
        folder.path(),
        &[
            "--own",
            "--function",
            "echo",
            "--rounds",
            "2",
            "--short",
            "--settle",
            "0",
            "--load-time",
            "0",
            "--out",
            "out",
        ],
    )
    .stdout(Stdio::null())
    .stderr(Stdio::piped())
    .spawn()
    .unwrap();
    let lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let said: Vec<String> = lines.map_while(Result::ok).collect();
    assert!(child.wait().unwrap().success(), "{said:?}");
    assert!(
        said.iter().any(|line| line.contains("one of its own")),
        "{said:?}"
    );
    let summary = summary(&folder.path().join("out"));
    assert_eq!(summary["own_gateway"], true);
    assert_eq!(result(&summary, "warm")["backend"], "process");
    // Its own gateway knows no function that nobody gave it, and no backend that there is not.
    for (arguments, says) in [
        (&["--function", "hi"][..], "function's file"),
        (
            &["--function", "echo", "--backend", "mainframe"],
            "mainframe",
        ),
    ] {
        let mut all = vec!["--own", "--out", "other"];
        all.extend(arguments);
        let ended = bench(folder.path(), &all);
        let said = String::from_utf8(ended.stderr).unwrap();
        assert_eq!(ended.status.code(), Some(2), "{said}");
        assert!(said.contains(says), "{said}");
    }
}

/// Answers any request with two bytes; what a small image brings is enough to run it.
const SERVER: &str = r#"use IO::Socket::INET;
$s = IO::Socket::INET->new(LocalPort => $ENV{PORT}, Listen => 9, ReuseAddr => 1) or die;
while ($c = $s->accept) { while (<$c>) { last if /^\r?$/ } print $c "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok"; close $c }"#;
const IMAGE: &str = "debian:bookworm-slim";

fn docker(arguments: &[&str]) -> Option<String> {
    let ended = Command::new("docker").args(arguments).output().ok()?;
    let text = String::from_utf8_lossy(&ended.stdout).into_owned();
    ended.status.success().then_some(text)
}

#[test]
fn the_engines_floor_and_docker_run_are_measured_beside_and_leave_no_container() {
    if docker(&["image", "inspect", IMAGE]).is_none() {
        println!("skipped: there is no container engine with the image {IMAGE}");
        return;
    }
    let gateway = Gateway::start();
    // At the process site it is stoic-echo; its image is another program, which answers any path.
    let spec = json!({"image": IMAGE, "args": ["perl", "-e", SERVER], "runtimes": ["edge"]});
    gateway.deploy(&echo("perl", spec));
    let url = format!("http://{}", gateway.address);
    let folder = tempfile::tempdir().unwrap();
    let child = command(
        folder.path(),
        &[
            "--function",
            "perl",
            "--rounds",
            "2",
            "--short",
            "--settle",
            "0",
            "--load-time",
            "0",
            "--baseline",
            "docker-run,engine-floor",
            "--gateway",
            &url,
            "--out",
            "out",
        ],
    )
    .stdout(Stdio::piped())
    .stderr(Stdio::piped())
    .spawn()
    .unwrap();
    let label = format!("label=stoic.bench={}", child.id());
    let ended = child.wait_with_output().unwrap();
    assert!(ended.status.success(), "{ended:?}");
    let summary = summary(&folder.path().join("out"));
    for way in ["docker-run", "engine-floor"] {
        let result = result(&summary, way);
        assert_eq!(result["failed"], 0, "{summary:#}");
        assert_eq!(result["all_ms"].as_array().unwrap().len(), 2);
    }
    let floor = result(&summary, "engine-floor")["stages_ms"].clone();
    for stage in ["create", "start", "processing"] {
        assert!(
            floor[stage].as_f64().unwrap_or(0.0) > 0.0,
            "{stage} in {floor}"
        );
    }
    let ratios = summary["ratios"].as_array().unwrap();
    assert!(
        ratios
            .iter()
            .any(|ratio| ratio["of"] == "docker-run" && ratio["to"] == "cold")
    );
    assert!(!summary["machine"]["engine"].is_null());
    let left = docker(&["ps", "--all", "--quiet", "--filter", &label]).unwrap();
    assert_eq!(left.trim(), "", "containers are left");
}
