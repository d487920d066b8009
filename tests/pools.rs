//! Pools: pods are there when they are needed, never too many work in one, and versions change without a
//! request lost.

#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use stoic_tests::{Gateway, Launch, QUICK, alive, echo, until, until_some};

/// A function whose pods are no part of this project and refuse to work two requests at once.
fn strict(name: &str, spec: Value) -> Value {
    let mut all = json!({
        "command": [env!("CARGO_BIN_EXE_stoic-test-strict")],
        "runtimes": ["edge"],
        "concurrency": 1,
        "queue": {"length": 2000, "wait": "60s"},
    });
    all.as_object_mut()
        .unwrap()
        .extend(spec.as_object().unwrap().clone());
    echo(name, all)
}

fn pid(pod: &Value) -> u32 {
    u32::try_from(pod["pid"].as_u64().expect("a process id")).unwrap()
}

/// The middle of some times.
fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

/// Sends requests from many callers at once; how long each took, the longest last. Every one has to get
/// its own body back, worked alone.
fn at_once(gateway: &Gateway, callers: usize, each: usize, path: &str) -> Vec<Duration> {
    let mut times: Vec<Duration> = std::thread::scope(|scope| {
        let all: Vec<_> = (0..callers)
            .map(|caller| {
                scope.spawn(move || {
                    let mut times = Vec::new();
                    for n in 0..each {
                        let body = format!("{caller}-{n}-{}", "x".repeat(caller * 37 % 2000));
                        let begun = Instant::now();
                        let call = gateway.call("POST", path).body("text/plain", body.clone());
                        let answer = call.send();
                        assert_eq!(
                            (answer.status, answer.text()),
                            (200, body),
                            "caller {caller}, request {n}"
                        );
                        times.push(begun.elapsed());
                    }
                    times
                })
            })
            .collect();
        all.into_iter()
            .flat_map(|one| one.join().unwrap())
            .collect()
    });
    times.sort();
    times
}

#[test]
fn one_at_a_time_is_never_two_and_no_answer_goes_astray() {
    let gateway = Gateway::start();
    gateway.deploy(&strict(
        "f",
        json!({"standby": {"edge": {"min": 3, "max": 3}}}),
    ));
    gateway.until_idle("f", 3);
    // Six thousand short requests over three pods, from more callers than there are pods; then some that
    // take a while, so that they wait for each other.
    at_once(&gateway, 24, 250, "/function/f");
    at_once(&gateway, 24, 10, "/function/f?delay=5");
    let served: u64 = gateway
        .pods("f")
        .iter()
        .map(|pod| pod["served"].as_u64().unwrap())
        .sum();
    assert_eq!(served, 24 * 260);
}

#[test]
fn a_thousand_callers_share_two_pods() {
    let gateway = Gateway::start();
    gateway.deploy(&strict("f", json!({"standby": {"edge": {"max": 2}}})));
    let most = AtomicUsize::new(0);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::SeqCst) {
                most.fetch_max(gateway.pods("f").len(), Ordering::SeqCst);
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        at_once(&gateway, 1000, 1, "/function/f?delay=1");
        done.store(true, Ordering::SeqCst);
    });
    assert!(most.load(Ordering::SeqCst) <= 2);
    // With a queue that is shorter, the others are told so at once, and nobody waits in vain.
    let spec = json!({"standby": {"edge": {"max": 2}}, "queue": {"length": 100, "wait": "60s"}});
    gateway.deploy(&strict("g", spec));
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let all: Vec<_> = (0..1000)
            .map(|_| {
                let call = gateway.call("POST", "/function/g?delay=2");
                scope.spawn(move || call.body("text/plain", "x").send())
            })
            .collect();
        let answers = all.into_iter().map(|one| one.join().unwrap());
        answers
            .inspect(|answer| {
                if answer.status != 200 {
                    let _ = answer.problem(429, "queue_full");
                    assert!(!answer.header("retry-after").is_empty());
                }
            })
            .map(|answer| answer.status)
            .collect()
    });
    let served = statuses.iter().filter(|status| **status == 200).count();
    assert!(served >= 100, "{served}");
    let pods = gateway.pods("g");
    assert!(pods.len() <= 2, "{pods:?}");
}

#[test]
fn a_burst_on_a_cold_function_is_over_before_two_cold_starts() {
    let gateway = Gateway::start();
    let function = |n: usize| {
        let name = format!("f{n}");
        gateway.deploy(&echo(
            &name,
            json!({"runtimes": ["edge"], "concurrency": 1, "env": {"ECHO_START_DELAY": "100ms"}, "standby": {"edge": {"max": 16}}}),
        ));
        format!("/function/{name}")
    };
    let (mut cold, mut bursts) = (Vec::new(), Vec::new());
    for n in 0..5 {
        cold.extend(at_once(&gateway, 1, 1, &function(2 * n)));
        let burst = at_once(&gateway, 16, 1, &function(2 * n + 1));
        bursts.push(*burst.last().unwrap());
    }
    println!("cold {cold:?}; the last of 16 at once {bursts:?}");
    let (cold, burst) = (median(cold), median(bursts));
    assert!(burst < cold * 2, "{burst:?} against {cold:?}");
}

#[test]
fn a_killed_pod_costs_its_next_caller_no_more_than_a_fresh_start() {
    let gateway = Gateway::start();
    gateway.deploy(&strict("f", json!({"env": {"START_DELAY": "100"}})));
    let (mut fresh, mut killed) = (Vec::new(), Vec::new());
    for _ in 0..5 {
        fresh.extend(at_once(&gateway, 1, 1, "/function/f"));
        let pod = gateway.until_idle("f", 1).remove(0);
        assert!(gateway.kill_pod(pid(&pod)));
        // At once: nobody was told.
        killed.extend(at_once(&gateway, 1, 1, "/function/f"));
        let pod = gateway.until_idle("f", 1).remove(0);
        let name = pod["name"].as_str().unwrap();
        let _ = gateway
            .call("DELETE", &format!("/v1/pods/{name}"))
            .send()
            .ok();
        until("it is gone", || gateway.pods("f").is_empty());
    }
    println!("fresh {fresh:?}; after a kill {killed:?}");
    let (fresh, killed) = (median(fresh), median(killed));
    assert!(
        killed < fresh * 3 / 2 + Duration::from_millis(50),
        "{killed:?} against {fresh:?}"
    );
}

#[test]
fn a_body_of_two_megabytes_passes() {
    let gateway = Gateway::start();
    gateway.deploy(&strict("f", json!({})));
    let body: Vec<u8> = (0..2_000_000_u32).map(|n| (n % 251) as u8).collect();
    for chunked in [false, true] {
        let call = gateway
            .call("POST", "/function/f")
            .body("application/octet-stream", body.clone());
        let call = if chunked { call.chunked() } else { call };
        assert!(call.send().ok().body == body);
    }
}

#[test]
fn standbys_stay_and_what_is_above_them_goes() {
    let gateway = Gateway::start();
    gateway.deploy(&strict(
        "f",
        json!({"standby": {"edge": {"min": 1, "max": 4, "idle": "400ms", "window": "2s"}}}),
    ));
    let first = gateway.until_idle("f", 1).remove(0);
    at_once(&gateway, 4, 1, "/function/f?delay=700");
    assert!(gateway.pods("f").len() >= 3);
    // Longer than the idle time-out, shorter than the window: they stay.
    std::thread::sleep(Duration::from_millis(1000));
    assert!(gateway.pods("f").len() >= 3);
    // A request that runs for longer than any time-out keeps its pod.
    at_once(&gateway, 1, 1, "/function/f?delay=2500");
    gateway.until_idle("f", 1);
    std::thread::sleep(Duration::from_millis(1500));
    let last = gateway.until_idle("f", 1).remove(0);
    assert!(alive(pid(&last)));
    assert_eq!(first["name"], last["name"], "the eldest stays");
}

#[test]
fn a_pod_has_answered_its_first_request_before_it_serves() {
    let gateway = Launch::default()
        .tables("\n[deployment]\nattempts = 2\n")
        .start();
    let spec =
        |env: Value| json!({"warmup": {"path": "/first"}, "standby": {"edge": 1}, "env": env});
    gateway.deploy(&strict("f", spec(json!({}))));
    gateway.until_idle("f", 1);
    let count = gateway.get("/function/f/count").ok().text();
    assert_eq!(count, "0 1", "worked, first");
    gateway.deploy(&strict("g", spec(json!({"FAIL_FIRST": "1"}))));
    let detail = gateway
        .get("/function/g")
        .problem(504, "deployment_timeout");
    assert!(
        detail.contains("/first") && detail.contains("503"),
        "{detail}"
    );
    until("nothing of it is left", || gateway.pods("g").is_empty());
    let spec = json!({"warmup": {"path": "first"}});
    let detail = gateway
        .post_function(&strict("h", spec))
        .problem(400, "function_invalid");
    assert!(detail.contains("spec.warmup.path"), "{detail}");
}

#[test]
fn a_function_is_scaled_and_pods_are_ended_on_request() {
    let gateway = Gateway::start();
    gateway.deploy(&strict("f", json!({})));
    let scale = |body: Value| {
        gateway
            .call("POST", "/v1/functions/f/scale")
            .body("application/json", body.to_string())
            .send()
    };
    let scaled = scale(json!({"replicas": 3})).ok().json();
    assert_eq!(
        scaled,
        json!({"function": "f", "replicas": 3, "runtimes": ["edge"]})
    );
    let pods = gateway.until_idle("f", 3);
    // One that is ended is started anew: three are to be kept.
    let name = pods[0]["name"].as_str().unwrap();
    let answer = gateway.call("DELETE", &format!("/v1/pods/{name}")).send();
    assert_eq!(answer.status, 202);
    until("another is in its place", || {
        let pods = gateway.pods("f");
        let idle = pods.iter().filter(|pod| pod["state"] == "idle").count();
        idle == 3 && pods.iter().all(|pod| pod["name"] != name)
    });
    until("its process is gone", || !alive(pid(&pods[0])));
    // The next life of the gateway knows.
    let gateway = gateway.reborn(&Launch::default());
    gateway.until_idle("f", 3);
    let scale = |body: Value| {
        gateway
            .call("POST", "/v1/functions/f/scale")
            .body("application/json", body.to_string())
            .send()
    };
    // What runs is finished first.
    std::thread::scope(|scope| {
        let running = scope.spawn(|| at_once(&gateway, 1, 1, "/function/f?delay=1000"));
        let busy = gateway.until_state("f", "busy");
        let _ = scale(json!({"replicas": 0, "runtime": "edge"})).ok();
        until("one is left", || gateway.pods("f").len() == 1);
        let name = busy["name"].as_str().unwrap();
        let _ = gateway
            .call("DELETE", &format!("/v1/pods/{name}"))
            .send()
            .ok();
        assert_eq!(gateway.pods("f")[0]["state"], "draining");
        running.join().unwrap();
        until("it is gone, too", || gateway.pods("f").is_empty());
    });
    for (body, code) in [
        (json!({"replicas": -1}), "scale_invalid"),
        (json!({"replicas": 1.5}), "scale_invalid"),
        (json!({"replicas": 1_000_000}), "scale_invalid"),
        (json!({"replicas": 1, "runtim": "edge"}), "scale_invalid"),
        (json!([]), "scale_invalid"),
        (json!({"replicas": 1, "runtime": "cpu"}), "unknown_runtime"),
        (json!({"replicas": 1, "runtime": ""}), "unknown_runtime"),
    ] {
        let _ = scale(body).problem(400, code);
    }
    let missing = |method: &str, path: &str| {
        gateway
            .call(method, path)
            .body("application/json", "{\"replicas\":1}")
            .send()
    };
    let _ = missing("POST", "/v1/functions/ghost/scale").problem(404, "unknown_function");
    let _ = missing("GET", "/v1/functions/f/scale").problem(405, "method_not_allowed");
    let _ = missing("DELETE", "/v1/pods/ghost").problem(404, "unknown_pod");
    let _ = missing("POST", "/v1/pods/ghost").problem(405, "method_not_allowed");
    // The next deployment forgets it.
    let _ = scale(json!({"replicas": 2})).ok();
    gateway.until_idle("f", 2);
    gateway.deploy(&strict(
        "f",
        json!({"env": {"A": "b"}, "standby": {"edge": {"idle": "200ms"}}}),
    ));
    until("none is kept", || gateway.pods("f").is_empty());
}

/// Callers who go on until they are told to stop; each answer has to be good. How many there were, and
/// the longest.
fn while_callers<R>(
    gateway: &Gateway,
    path: &str,
    work: impl FnOnce() -> R,
) -> (R, usize, Duration) {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let callers: Vec<_> = (0..6)
            .map(|caller| {
                let done = &done;
                scope.spawn(move || {
                    let (mut count, mut longest) = (0, Duration::ZERO);
                    while !done.load(Ordering::SeqCst) {
                        let body = format!("{caller}-{count}");
                        let begun = Instant::now();
                        let call = gateway.call("POST", path).body("text/plain", body.clone());
                        let answer = call.send();
                        assert_eq!((answer.status, answer.text()), (200, body));
                        longest = longest.max(begun.elapsed());
                        count += 1;
                    }
                    (count, longest)
                })
            })
            .collect();
        let result = work();
        done.store(true, Ordering::SeqCst);
        let all = callers.into_iter().map(|one| one.join().unwrap());
        let (counts, times): (Vec<usize>, Vec<Duration>) = all.unzip();
        (
            result,
            counts.iter().sum(),
            times.into_iter().max().unwrap(),
        )
    })
}

#[test]
fn a_new_version_takes_over_when_it_is_up_and_nobody_notices() {
    let gateway = Gateway::start();
    let version = |n: usize| {
        strict(
            "f",
            json!({"env": {"N": n.to_string(), "START_DELAY": "1000"}, "standby": {"edge": {"min": 1, "max": 3}}}),
        )
    };
    gateway.deploy(&version(0));
    gateway.until_idle("f", 1);
    // Nobody waits for the second that a new pod takes to start.
    let (_, count, longest) = while_callers(&gateway, "/function/f?delay=3", || {
        for n in 1..4 {
            let before = gateway.json("/v1/functions/f")["status"]["version"].clone();
            let deployed = gateway.deploy(&version(n));
            let status = &deployed["status"];
            assert_ne!(status["version"], before);
            assert!(status["ready"].as_u64() >= Some(1), "{status}");
        }
    });
    println!("{count} requests, the longest {longest:?}");
    assert!(longest < Duration::from_millis(900), "{longest:?}");
    let last = gateway.json("/v1/functions/f")["status"]["version"].clone();
    until("the pods of former versions are gone", || {
        let pods = gateway.pods("f");
        pods.iter().all(|pod| pod["version"] == last) && gateway.processes().len() == pods.len()
    });
    // What ran long on the former version was not cut off.
    std::thread::scope(|scope| {
        let running = scope.spawn(|| at_once(&gateway, 1, 1, "/function/f?delay=3000"));
        gateway.until_state("f", "busy");
        gateway.deploy(&version(4));
        gateway.until_state("f", "draining");
        running.join().unwrap();
    });
    // Labels alone change no pod.
    let pods = gateway.until_idle("f", 1);
    let mut labelled = version(4);
    labelled["metadata"]["labels"] = json!({"a": "b"});
    let deployed = gateway.deploy(&labelled);
    assert_eq!(deployed["metadata"]["labels"]["a"], "b");
    assert_eq!(gateway.until_idle("f", 1)[0]["name"], pods[0]["name"]);
}

#[test]
fn a_version_that_does_not_come_up_is_taken_back_with_its_reason() {
    let mut gateway = Gateway::start();
    let good = strict("f", json!({"standby": {"edge": 1}}));
    gateway.deploy(&good);
    let before = gateway.until_idle("f", 1).remove(0);
    let bad = [
        (
            json!({"command": ["sh", "-c", "echo the disk is on fire >&2; exit 7"], "standby": {"edge": 1}}),
            "the disk is on fire",
        ),
        (
            json!({"command": ["sleep", "60"], "readyTimeout": "500ms", "standby": {"edge": 1}}),
            "500ms",
        ),
        (
            json!({"warmup": {"path": "/first"}, "env": {"FAIL_FIRST": "1"}, "standby": {"edge": 1}}),
            "503",
        ),
    ];
    for (spec, reason) in bad {
        let ((), _, _) = while_callers(&gateway, "/function/f", || {
            let detail = gateway
                .post_function(&strict("f", spec))
                .problem(422, "rollout_failed");
            assert!(
                detail.contains(reason) && detail.contains("stays in force"),
                "{detail}"
            );
        });
        let function = gateway.json("/v1/functions/f");
        assert_eq!(function["status"]["version"], before["version"]);
        let rollout = &function["status"]["rollout"];
        assert_eq!(rollout["state"], "failed");
        assert!(
            rollout["reason"].as_str().unwrap().contains(reason),
            "{rollout}"
        );
        until("nothing of it is left", || gateway.processes().len() == 1);
        assert_eq!(gateway.until_idle("f", 1)[0]["name"], before["name"]);
    }
    // Not even a new life of the gateway knows it any more.
    gateway = gateway.reborn(&Launch::default());
    gateway.until_idle("f", 1);
    assert_eq!(
        gateway.json("/v1/functions/f")["status"]["version"],
        before["version"]
    );
    assert!(gateway.lives());
}

#[test]
fn of_two_deployments_of_one_name_the_later_stands() {
    let gateway = Gateway::start();
    let version = |n: usize| {
        strict(
            "f",
            json!({"env": {"N": n.to_string(), "START_DELAY": "300"}, "standby": {"edge": 1}}),
        )
    };
    gateway.deploy(&version(0));
    gateway.until_idle("f", 1);
    let (answers, _, _) = while_callers(&gateway, "/function/f", || {
        std::thread::scope(|scope| {
            let all: Vec<_> = (1..9)
                .map(|n| {
                    let object = version(n % 4 + 1);
                    let gateway = &gateway;
                    scope.spawn(move || (n % 4 + 1, gateway.post_function(&object)))
                })
                .collect();
            all.into_iter()
                .map(|one| one.join().unwrap())
                .collect::<Vec<_>>()
        })
    });
    let mut good = Vec::new();
    for (n, answer) in answers {
        match answer.status {
            200 => good.push(n.to_string()),
            _ => {
                let _ = answer.problem(409, "deployment_superseded");
            }
        }
    }
    let stands = gateway.json("/v1/functions/f")["spec"]["env"]["N"].clone();
    assert!(good.iter().any(|n| stands == **n), "{stands}: {good:?}");
    until("one pod is left", || gateway.processes().len() == 1);
    // One that hangs is superseded by its mend, and by its removal.
    for end in ["mend", "remove"] {
        std::thread::scope(|scope| {
            let hangs = strict(
                "f",
                json!({"command": ["sleep", "60"], "standby": {"edge": 1}, "env": {"E": end}}),
            );
            let gateway = &gateway;
            let hanging = scope.spawn(move || gateway.post_function(&hangs));
            until("it is on its way", || {
                gateway.json("/v1/functions/f")["status"]["rollout"]["state"] == "rolling"
            });
            if end == "mend" {
                gateway.deploy(&version(7));
            } else {
                assert_eq!(gateway.call("DELETE", "/v1/functions/f").send().status, 204);
            }
            let _ = hanging
                .join()
                .unwrap()
                .problem(409, "deployment_superseded");
        });
    }
    until("nothing is left", || gateway.processes().is_empty());
    let _ = gateway.get("/function/f").problem(404, "unknown_function");
}

#[test]
fn standbys_are_held_to_their_memory() {
    // Forked pods hold next to nothing of their own.
    let plain = QUICK.replace("[sites.edge]", "[sites.edge]\nzygote = false");
    let limited = |limit: &str| {
        let config = format!("{plain}\n[standbys]\nmemory = \"{limit}\"\n");
        Launch::default().config(&config).start()
    };
    let one = {
        let gateway = limited("1 GiB");
        gateway.deploy(&echo(
            "one",
            json!({"runtimes": ["edge"], "standby": {"edge": 1}}),
        ));
        let _ = gateway.get("/function/one").ok();
        until_some("its memory is measured", || {
            gateway.pods("one")[0]["memory_bytes"].as_u64()
        })
    };
    println!("an idle echo holds {one} bytes");
    // Room for one of them, and not for two, though these share the pages of their program.
    let gateway = limited(&format!("{} B", one * 6 / 5));
    for name in ["a", "b", "c"] {
        gateway.deploy(&echo(
            name,
            json!({"runtimes": ["edge"], "standby": {"edge": {"max": 2}}}),
        ));
        let _ = gateway.get(&format!("/function/{name}")).ok();
        std::thread::sleep(Duration::from_millis(700));
    }
    let idle = |name: &str| {
        gateway
            .pods(name)
            .iter()
            .filter(|pod| pod["state"] == "idle")
            .count()
    };
    until("the last one used is kept, the first is not", || {
        idle("c") == 1 && idle("a") == 0
    });
    let memory = gateway.until_idle("c", 1)[0]["memory_bytes"].as_u64();
    assert!(
        memory > Some(500_000) && memory < Some(one * 3 / 2),
        "{memory:?}"
    );
    // What is ended serves again when it is called.
    let answer = gateway.get("/function/a").ok();
    assert_eq!(answer.header("x-stoic-start"), "cold");
    // Standbys of the min go last, and are said to be missing.
    for name in ["m1", "m2", "m3", "m4"] {
        gateway.deploy(&echo(
            name,
            json!({"runtimes": ["edge"], "standby": {"edge": 1}}),
        ));
    }
    until("some of them are missing, and some are not", || {
        let all = gateway.json("/v1/pods");
        let of_state = |state: &str| {
            let all = all.as_array().unwrap().iter();
            all.filter(|pod| pod["state"] == state).count()
        };
        of_state("withheld") >= 1 && of_state("idle") >= 1 && idle("a") == 0
    });
    let all = gateway.json("/v1/pods");
    let missing = all
        .as_array()
        .unwrap()
        .iter()
        .find(|pod| pod["state"] == "withheld")
        .unwrap();
    let note = missing["note"].as_str().unwrap();
    assert!(
        note.contains("min") && note.contains("the limit is"),
        "{note}"
    );
    assert!(
        gateway
            .log()
            .contains("standby of the function's min is ended")
    );
    let name = missing["function"].as_str().unwrap();
    let _ = gateway.get(&format!("/function/{name}")).ok();
}
