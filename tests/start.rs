//! A gateway that cannot start says why in one line and ends; one that runs is alone on its data.

#![allow(clippy::unwrap_used)]

use serde_json::json;
use std::io::Write;
use std::net::TcpListener;
use std::path::Path;
use std::time::{Duration, Instant};
use stoic_tests::{Exit, Launch, echo, tar_of, texts, zip_of};

/// The one line of a start that failed with this status.
#[track_caller]
fn line(exit: &Exit, code: i32) -> String {
    assert_eq!(exit.code, Some(code), "{exit:?}");
    let lines: Vec<&str> = exit.errors.lines().collect();
    assert_eq!(lines.len(), 1, "{}", exit.errors);
    assert!(lines[0].starts_with("stoic: "), "{}", lines[0]);
    lines[0].to_owned()
}

#[test]
fn a_port_in_use_is_one_line_and_status_1() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let said = line(&Launch::default().listen(address).fail(), 1);
    assert!(
        said.contains(&address.to_string()) && said.contains("--listen"),
        "{said}"
    );
}

#[test]
fn a_configuration_that_is_wrong_is_one_line_and_status_2() {
    for (config, words) in [
        (
            "lisen = \"127.0.0.1:0\"\n",
            ["lisen", "did you mean `listen`"],
        ),
        (
            "[deployment]\natempts = 3\n",
            ["line 2", "did you mean `attempts`"],
        ),
        ("[placement]\nseed = \"seven\"\n", ["line 2", "seven"]),
        (
            "[runtimes.far]\nsite = \"clod\"\n",
            ["runtimes.far.site", "cloud"],
        ),
        (
            "[sites.edge]\n[sites.cloud.emulated_link]\nbandwidth = \"fast\"\nrtt = \"1ms\"\n",
            ["fast", "Mbit/s"],
        ),
        (
            "[sites.edge]\n[sites.cloud.emulated_deployment]\ntrace = \"/no/such/trace\"\n",
            ["/no/such/trace", "nautilus"],
        ),
        ("body_limit = \"0 B\"\n", ["body_limit", "zero"]),
        ("not toml at all", ["line 1", ""]),
    ] {
        let said = line(&Launch::default().config(config).fail(), 2);
        for word in words {
            assert!(said.contains(word), "{config:?}: {said}");
        }
    }
}

#[test]
fn a_data_folder_that_cannot_be_written_is_one_line_and_status_1() {
    let said = line(&Launch::default().data(Path::new("/proc/stoic")).fail(), 1);
    assert!(
        said.contains("/proc/stoic") && said.contains("--data"),
        "{said}"
    );
    let Some(launch) = Launch::default().disk("ro") else {
        return println!("skipped: this user may not mount a read-only disk");
    };
    let said = line(&launch.fail(), 1);
    assert!(
        said.contains("cannot be written") && said.contains("--data"),
        "{said}"
    );
}

#[test]
fn a_second_gateway_on_the_same_data_is_refused_and_the_first_lives() {
    let mut first = Launch::default().start();
    first.deploy(&echo("f", json!({"standby": {"edge": 1}})));
    first.until_idle("f", 1);
    let said = line(&Launch::default().data(first.data()).fail(), 1);
    assert!(
        said.contains("another gateway") && said.contains("--data"),
        "{said}"
    );
    assert!(first.lives());
    // It took none of the first one's pods for orphans.
    assert_eq!(
        first.get("/function/f").ok().header("x-stoic-start"),
        "warm"
    );
}

#[test]
fn a_gateway_that_may_wait_takes_over_when_the_one_before_it_is_gone() {
    let first = Launch::default().start();
    let data = first.data().to_owned();
    let next = Launch::default()
        .data(&data)
        .tables("[storage]\nwait = \"30s\"\n");
    let begun = Instant::now();
    let next = std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(300));
            first.terminate();
        });
        next.start()
    });
    assert!(
        begun.elapsed() >= Duration::from_millis(300),
        "two gateways on one folder"
    );
    assert_eq!(next.get("/healthz").status, 200);
    assert!(next.log().contains("waiting for"), "{}", next.log());
}

#[test]
fn a_full_data_folder_refuses_packages_and_recovers() {
    let Some(launch) = Launch::default().disk("size=24m") else {
        return println!("skipped: this user may not mount a small disk");
    };
    let mut gateway = launch.start();
    gateway.deploy(&echo(
        "echo",
        json!({"concurrency": 4, "standby": {"edge": 1}}),
    ));
    gateway.deploy(&echo(
        "batch",
        json!({"input": "batch", "standby": {"edge": 1}}),
    ));
    gateway.until_idle("batch", 1);
    gateway.until_idle("echo", 1);
    let small = zip_of(&texts(3));
    let _ = gateway.batch("/function/batch", "edge", &small).send().ok();

    // More than the disk holds: refused, and what came of it is cleared away.
    let large = tar_of(&[("large", vec![7_u8; 32 << 20])]);
    let before = gateway.stored("");
    let answer = gateway
        .call("POST", "/function/batch")
        .body("application/x-tar", large)
        .send();
    answer.problem(507, "storage_full");
    assert_eq!(gateway.stored(""), before);
    assert!(gateway.unfinished().is_empty());
    let _ = gateway.batch("/function/batch", "edge", &small).send().ok();

    // Full to the last byte by others.
    let filler = gateway.data().join("filler");
    let mut file = std::fs::File::create(&filler).unwrap();
    while file.write(&[0; 4096]).is_ok_and(|written| written > 0) {}
    let answer = gateway.batch("/function/batch", "edge", &small).send();
    answer.problem(507, "storage_full");
    let answer = gateway.post_function(&echo("more", json!({"runtimes": ["edge"]})));
    answer.problem(507, "storage_full");
    // What needs no disk goes on.
    let echoed = gateway
        .call("POST", "/function/echo")
        .body("text/plain", "hi")
        .send()
        .ok();
    assert_eq!(echoed.text(), "hi");
    assert!(gateway.lives());

    drop(file);
    std::fs::remove_file(&filler).unwrap();
    let _ = gateway.batch("/function/batch", "edge", &small).send().ok();
    gateway.deploy(&echo("more", json!({"runtimes": ["edge"]})));
    let _ = gateway.get("/function/more").ok();
}
