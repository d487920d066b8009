//! Pods that misbehave, clusters without room, and an API server that goes away: every fault is told by
//! its name, and nothing is left behind. Skipped, with a line that says so, where `KUBECONFIG` and
//! `REGISTRY` name no cluster.

#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};
use std::process::Command;
use std::time::{Duration, Instant};
use stoic_tests::{Cluster, Gateway, Launch, binary, echo, until};

const PLAIN: &str = "[deployment]\nattempts = 2\nbackoff = \"10ms\"\ngrace = \"500ms\"\n";
const UNWATCHED: &str = "[inquisitor]\nenabled = false\n";

fn config(tables: &str) -> String {
    format!("{PLAIN}{UNWATCHED}{tables}\n[runtimes.edge]\nsite = \"edge\"\n")
}

fn start(cluster: &Cluster, more: &str) -> Gateway {
    let config = config(&cluster.site("edge", more));
    Launch::default().config(&config).start()
}

fn odd(name: &str, image: &str, mode: &str, more: Value) -> Value {
    let mut spec = json!({"health": "/", "args": [mode], "readyTimeout": "3s"});
    spec.as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    let mut object = echo(name, spec);
    let spec = object["spec"].as_object_mut().unwrap();
    spec.remove("command");
    spec.insert("image".to_owned(), image.into());
    object
}

#[test]
fn a_cluster_is_named_on_the_command_line_and_one_that_is_absent_is_said() {
    let output = Command::new(binary("stoic"))
        .args(["up", "--print-config", "--site", "cloud=kubernetes"])
        .env_remove("STOIC_CONFIG")
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("backend = \"kubernetes\""), "{text}");
    assert!(
        !text.contains("emulated"),
        "a cluster is as far as it is: {text}"
    );

    let nowhere = tempfile::NamedTempFile::new().unwrap();
    let kubeconfig = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:1"}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "users": [{"name": "u", "user": {"token": "t"}}],
    });
    std::fs::write(nowhere.path(), kubeconfig.to_string()).unwrap();
    let tables = format!(
        "[sites.edge]\nbackend = \"kubernetes\"\n[sites.edge.kubernetes]\nkubeconfig = \"{}\"\n",
        nowhere.path().display()
    );
    let exit = Launch::default().config(&config(&tables)).fail();
    assert_eq!(exit.code, Some(1), "{}", exit.errors);
    let said = exit.errors.lines().last().unwrap_or_default();
    for word in ["site edge", "https://127.0.0.1:1", "KUBECONFIG"] {
        assert!(said.contains(word), "{said}");
    }
    let misplaced = "[sites.edge]\n[sites.edge.kubernetes]\nnamespace = \"x\"\n";
    let exit = Launch::default().config(&config(misplaced)).fail();
    assert_eq!(exit.code, Some(2), "{}", exit.errors);
    assert!(
        exit.errors.contains("sites.edge.kubernetes"),
        "{}",
        exit.errors
    );
}

#[test]
fn an_absent_namespace_is_said_with_the_way_out() {
    let Some(cluster) = Cluster::find() else {
        return;
    };
    let absent = format!("{}-absent", cluster.namespace());
    let site = cluster
        .site("edge", "")
        .replace(cluster.namespace(), &absent);
    let exit = Launch::default().config(&config(&site)).fail();
    assert_eq!(exit.code, Some(1), "{}", exit.errors);
    let way_out = format!("kubectl create namespace {absent}");
    assert!(exit.errors.contains(&way_out), "{}", exit.errors);
}

#[test]
fn an_absent_image_is_named_within_seconds_and_its_pod_is_removed() {
    let Some(cluster) = Cluster::find() else {
        return;
    };
    let gateway = start(&cluster, "");
    let image = cluster.named("stoic-test-absent-everywhere:1");
    gateway.deploy(&odd("no", &image, "good", json!({})));
    let begun = Instant::now();
    let said = gateway
        .get("/function/no")
        .problem(503, "image_unavailable");
    let took = begun.elapsed();
    assert!(
        said.contains(&image) && said.contains("ErrImagePull"),
        "{said}"
    );
    assert!(took < Duration::from_secs(5), "{took:?}");
    until("nothing is left", || cluster.pods(gateway.id()).is_empty());
    let mut bad = odd("bad", "../../pods", "good", json!({}));
    bad["spec"]["image"] = "../../pods".into();
    gateway.post_function(&bad).problem(400, "pod_refused");
}

#[test]
fn pods_that_never_serve_are_told_by_what_they_did() {
    let Some(cluster) = Cluster::find() else {
        return;
    };
    let image = cluster.odd("stoic-test-pod-never:1", "one");
    let gateway = start(&cluster, "");
    for (mode, words) in [
        // Which of the lines that it wrote to two pipes the node has as the last, nobody knows.
        ("exits", ["exit status 7", "its last line was"]),
        ("silent", ["did not answer 200", "odd server, mode silent"]),
        (
            "garbage",
            ["did not answer 200", "odd server, mode garbage"],
        ),
    ] {
        gateway.deploy(&odd(mode, &image, mode, json!({})));
        let said = gateway
            .get(&format!("/function/{mode}"))
            .problem(504, "deployment_timeout");
        for word in words {
            assert!(said.contains(word), "{mode}: {said}");
        }
        until("its pods are gone", || {
            cluster.pods(gateway.id()).is_empty()
        });
    }
}

#[test]
fn an_image_that_runs_as_root_is_refused_with_the_way_out() {
    let Some(cluster) = Cluster::find() else {
        return;
    };
    let image = cluster.rooted("stoic-test-pod-root:1");
    let gateway = start(&cluster, "");
    let rooted = odd(
        "root",
        &image,
        "good",
        json!({"health": "/healthz", "args": []}),
    );
    gateway.deploy(&rooted);
    let said = gateway.get("/function/root").problem(502, "pod_refused");
    assert!(
        said.contains("run_as_user") && said.contains(&image),
        "{said}"
    );
    drop(gateway);
    let gateway = start(&cluster, "run_as_user = 1000");
    gateway.deploy(&rooted);
    let _ = gateway.get("/function/root").ok();
}

#[test]
fn what_the_namespace_does_not_allow_is_refused_at_deployment() {
    let Some(cluster) = Cluster::find() else {
        return;
    };
    let image = cluster.odd("stoic-test-pod-allowed:1", "one");
    // The namespace holds its pods to the restricted standard, and such a site does not.
    let gateway = start(&cluster, "run_as_non_root = false");
    let object = odd("hi", &image, "good", json!({}));
    let said = gateway.post_function(&object).problem(400, "pod_refused");
    assert!(said.contains("PodSecurity"), "{said}");
}

#[test]
fn a_death_for_want_of_memory_is_named_and_the_next_call_gets_a_new_pod() {
    let Some(cluster) = Cluster::find() else {
        return;
    };
    let image = cluster.odd("stoic-test-pod-memory:1", "one");
    let gateway = start(&cluster, "");
    let limits = json!({"resources": {"memory": "48Mi"}, "standby": {"edge": 1}});
    gateway.deploy(&odd("eat", &image, "good", limits));
    gateway.until_idle("eat", 1);
    let answer = gateway.get("/function/eat/eat");
    assert!(answer.status >= 500, "{} {}", answer.status, answer.text());
    until("the log names it", || {
        gateway.log().contains("out of memory")
    });
    assert_eq!(gateway.get("/function/eat/").ok().text(), "version one");
}

#[test]
fn a_request_whose_pod_is_deleted_is_answered_by_another() {
    let Some(cluster) = Cluster::find() else {
        return;
    };
    let image = cluster.odd("stoic-test-pod-deleted:1", "one");
    let gateway = start(&cluster, "");
    gateway.deploy(&odd("hi", &image, "good", json!({"standby": {"edge": 1}})));
    let first = gateway.until_idle("hi", 1)[0].clone();
    let object = cluster.pods(gateway.id())[0].clone();
    std::thread::scope(|scope| {
        let running = scope.spawn(|| gateway.get("/function/hi/slow/4").ok());
        gateway.until_state("hi", "busy");
        let _ = cluster.kubectl(&["delete", "pod", &object, "--grace-period=2", "--wait=false"]);
        let answer = running.join().unwrap();
        assert_eq!(answer.text(), "version one");
        assert_ne!(answer.header("x-stoic-pod"), first["name"]);
    });
    let log = gateway.log();
    assert!(log.contains("deleted by somebody else"), "{log}");
    assert_eq!(gateway.get("/function/hi/").ok().text(), "version one");
}

#[test]
fn a_third_gpu_pod_on_two_gpus_makes_the_runtime_unavailable_until_one_goes() {
    let Some(cluster) = Cluster::find() else {
        return;
    };
    let path = r"jsonpath={.items[*].status.allocatable.nvidia\.com/gpu}";
    let gpus = cluster.kubectl(&["get", "nodes", "--output", path]);
    if gpus != "2" {
        println!("skipped: the cluster has not two GPUs on one node, but `{gpus}`");
        return;
    }
    let image = cluster.odd("stoic-test-pod-gpu:1", "one");
    let watched = format!(
        "{PLAIN}[inquisitor]\nenabled = true\nevery = \"2s\"\n{}\n[runtimes.edge]\nsite = \"edge\"\n\
         [runtimes.gpu1]\nsite = \"cloud\"\ngpus = 1\n[sites.edge]\n",
        cluster.site("cloud", "room_timeout = \"1s\"")
    );
    let gateway = Launch::default().config(&watched).start();
    let standby = json!({"standby": {"gpu1": 1}, "runtimes": ["gpu1"]});
    for name in ["one", "two"] {
        gateway.deploy(&odd(name, &image, "good", standby.clone()));
        gateway.until_idle(name, 1);
    }
    gateway.deploy(&odd("three", &image, "good", json!({"runtimes": ["gpu1"]})));
    let said = gateway.get("/function/three").problem(503, "no_room");
    assert!(said.contains("nvidia.com/gpu"), "{said}");
    let available = || {
        let runtimes = gateway.json("/v1/runtimes");
        let all = runtimes.as_array().unwrap().iter();
        let mut of = all
            .filter(|runtime| runtime["name"] == "gpu1")
            .flat_map(|runtime| runtime["functions"].as_array().unwrap());
        let three = of.find(|of| of["function"] == "three").unwrap();
        three["standing"]["available"].as_bool()
    };
    until("the runtime is unavailable", || available() == Some(false));
    let _ = gateway.call("DELETE", "/v1/functions/one").send().ok();
    until("it is available again", || available() == Some(true));
    // A probe may hold the GPU for a moment more.
    until("it serves", || gateway.get("/function/three").status == 200);
}

#[test]
fn an_api_server_that_goes_and_comes_back_under_load_loses_no_warm_pod() {
    let Some(cluster) = Cluster::find() else {
        return;
    };
    let image = cluster.odd("stoic-test-pod-away:1", "one");
    let (site, relay) = cluster.site_behind_relay("edge", "reach = \"ip\"");
    let gateway = Launch::default().config(&config(&site)).start();
    gateway.deploy(&odd("hi", &image, "good", json!({"standby": {"edge": 2}})));
    gateway.deploy(&odd("cold", &image, "good", json!({})));
    gateway.until_idle("hi", 2);
    let warm = cluster.pods(gateway.id());

    relay.down();
    // Warm pods serve without an API server; one that dies meanwhile is noticed when it is back.
    for _ in 0..50 {
        assert_eq!(gateway.get("/function/hi/").ok().text(), "version one");
    }
    until("the log says so", || gateway.log().contains("is away"));
    let said = gateway
        .get("/function/cold")
        .problem(504, "deployment_timeout");
    assert!(said.contains("the pod"), "{said}");
    let _ = cluster.kubectl(&[
        "delete",
        "pod",
        &warm[0],
        "--grace-period=1",
        "--wait=false",
    ]);
    relay.up();
    until("the log says so", || gateway.log().contains("is back"));
    until("a new one stands by", || {
        let now = cluster.pods(gateway.id());
        now.len() == 2 && !now.contains(&warm[0]) && now.contains(&warm[1])
    });
    gateway.until_idle("hi", 2);
    for _ in 0..20 {
        assert_eq!(gateway.get("/function/hi/").ok().text(), "version one");
    }
    until("what could not be started can be", || {
        gateway.get("/function/cold").status == 200
    });
}
