//! Functions from images, in containers of a real Docker engine. Skipped, with a line that says so, where
//! no engine answers.

#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};
use std::time::Duration;
use stoic_tests::{
    Engine, Gateway, Launch, echo, files, finds_its_files, raw, texts, until, until_some, zip_of,
};

/// Both sites run containers; the cloud is behind an emulated link.
const DOCKER: &str = r#"
[deployment]
attempts = 2
[inquisitor]
enabled = false
[sites.edge]
backend = "docker"
[sites.cloud]
backend = "docker"
[sites.cloud.emulated_link]
bandwidth = "1 Gbit/s"
rtt = "2ms"
"#;

fn launch() -> Launch {
    Launch::default().config(DOCKER)
}

fn image_of(name: &str, image: &str, spec: Value) -> Value {
    let mut object = echo(name, spec);
    let spec = object["spec"].as_object_mut().unwrap();
    spec.remove("command");
    spec.insert("image".to_owned(), image.into());
    object
}

/// The one container of a function's pods.
fn container(engine: &Engine, gateway: &Gateway) -> String {
    let containers = engine.containers(gateway.id());
    assert_eq!(containers.len(), 1, "{containers:?}");
    containers[0].clone()
}

#[test]
fn an_image_serves_and_may_do_nothing_else() {
    let Some(engine) = Engine::find() else { return };
    let image = engine.odd("stoic-test-serves:1", "one");
    let gateway = engine.owns(launch().start());
    gateway.deploy(&image_of(
        "hi",
        &image,
        json!({
            "health": "/", "port": 9090, "runtimes": ["edge"], "standby": {"edge": 1}, "readOnlyRoot": true,
            "resources": {"cpu": 0.5, "memory": "128Mi"},
        }),
    ));
    gateway.until_idle("hi", 1);
    let answer = gateway.get("/function/hi/x").ok();
    assert_eq!(answer.text(), "version one");
    assert_eq!(answer.header("x-stoic-site"), "edge");

    let status = gateway.get("/function/hi/status").ok().text();
    let of = |key: &str| {
        let line = status.lines().find(|line| line.starts_with(key));
        line.unwrap().split_whitespace().nth(1).unwrap().to_owned()
    };
    assert_eq!(of("CapEff"), "0000000000000000");
    assert_eq!(of("CapBnd"), "0000000000000000");
    assert_eq!(of("NoNewPrivs"), "1");
    assert_eq!(of("Uid"), "1000");
    let writes = gateway.get("/function/hi/write").ok().text();
    assert_eq!(writes, "refused written refused", "root, /tmp, secrets");

    let found = engine.inspect(&container(&engine, &gateway));
    let host = &found["HostConfig"];
    assert_eq!(host["Memory"], 128 << 20);
    assert_eq!(host["NanoCpus"], 500_000_000);
    assert_eq!(host["PidsLimit"], 1024);
    assert_eq!(host["Privileged"], false);
    assert_eq!(found["Config"]["Labels"]["dev.stoic.gateway"], gateway.id());
    assert!(!found.to_string().contains("docker.sock"));
}

#[test]
fn batches_reach_the_stores_from_containers_of_both_sites() {
    let Some(engine) = Engine::find() else { return };
    let image = engine.echo("stoic-test-batch:1");
    let gateway = engine.owns(launch().start());
    gateway.deploy(&image_of(
        "batch",
        &image,
        json!({"input": "batch", "divisible": true}),
    ));
    let package = zip_of(&texts(12));
    for (runtime, emulated) in [("edge", ""), ("cpu", "link")] {
        let answer = gateway
            .batch("/function/batch", runtime, &package)
            .send()
            .ok();
        assert_eq!(answer.json()["items"].as_array().unwrap().len(), 12);
        assert_eq!(answer.header("x-stoic-runtime"), runtime);
        assert!(answer.header("x-stoic-emulated").starts_with(emulated));
        assert_eq!(answer.header("x-stoic-start"), "cold");
    }
}

#[test]
fn isolated_invocations_are_forked_inside_the_container() {
    let Some(engine) = Engine::find() else { return };
    let image = engine.echo("stoic-test-isolated:1");
    let gateway = engine.owns(launch().start());
    gateway.deploy(&image_of(
        "alone",
        &image,
        json!({"isolation": "invocation", "runtimes": ["edge"], "standby": {"edge": 1}}),
    ));
    gateway.until_idle("alone", 1);
    let mut pids = std::collections::BTreeSet::new();
    for _ in 0..5 {
        let told = gateway.get("/function/alone?process").ok().json();
        assert_eq!(told["calls"], 1, "nothing is left of the call before");
        pids.insert(told["pid"].as_u64().unwrap());
    }
    assert_eq!(pids.len(), 5, "each had a process of its own");
    let before = container(&engine, &gateway);
    let crashed = gateway.get("/function/alone?die=abort");
    let _ = crashed.problem(500, "function_crashed");
    let _ = gateway.get("/function/alone?process").ok();
    assert_eq!(container(&engine, &gateway), before, "the pod lives on");
}

#[test]
fn standbys_in_containers_are_held_to_the_memory_they_may_have() {
    let Some(engine) = Engine::find() else { return };
    let image = engine.odd("stoic-test-memory:1", "one");
    let config = format!("{DOCKER}\n[standbys]\nmemory = \"1KiB\"\n");
    let gateway = engine.owns(Launch::default().config(&config).start());
    let spec = json!({"health": "/", "runtimes": ["edge"]});
    gateway.deploy(&image_of("hi", &image, spec));
    let _ = gateway.get("/function/hi").ok();
    // It would stay for minutes: the engine says that it holds more.
    until("the idle container is ended", || {
        gateway.pods("hi").is_empty()
    });
}

#[test]
fn a_function_runs_where_it_can_and_is_refused_by_name_where_it_cannot() {
    let Some(engine) = Engine::find() else { return };
    let image = engine.odd("stoic-test-where:1", "one");
    let tables = "[inquisitor]\nenabled = false\n[sites.edge]\nbackend = \"docker\"\n[sites.cloud]\n\
                  [runtimes.edge]\nsite = \"edge\"\n[runtimes.cpu]\nsite = \"cloud\"\n\
                  [runtimes.gpu1]\nsite = \"edge\"\ngpus = 1\n";
    let gateway = engine.owns(Launch::default().config(tables).start());
    let gpus = gateway.post_function(&image_of("g", &image, json!({"health": "/"})));
    if !engine
        .docker(&["info", "--format", "{{json .Runtimes}}"])
        .contains("nvidia")
    {
        let said = gpus.problem(400, "pod_refused");
        assert!(said.contains("gpu1") && said.contains("NVIDIA"), "{said}");
    }
    let refused = gateway.post_function(&image_of(
        "hi",
        &image,
        json!({"health": "/", "runtimes": ["edge", "cpu"]}),
    ));
    let said = refused.problem(400, "runtime_cannot_run");
    assert!(
        said.contains("`cpu`") && said.contains("spec.command"),
        "{said}"
    );
    let refused = gateway.post_function(&echo("e", json!({"runtimes": ["edge"]})));
    let said = refused.problem(400, "runtime_cannot_run");
    assert!(
        said.contains("`edge`") && said.contains("spec.image"),
        "{said}"
    );

    gateway.deploy(&echo("e", json!({})));
    let answer = gateway.get("/function/e").ok();
    assert_eq!(answer.header("x-stoic-site"), "cloud");
}

#[test]
fn secrets_are_files_in_the_container_and_nowhere_else() {
    let Some(engine) = Engine::find() else { return };
    let image = engine.odd("stoic-test-secrets:1", "one");
    let gateway = engine.owns(launch().start());
    let object = image_of(
        "hi",
        &image,
        json!({"health": "/", "runtimes": ["edge"], "standby": {"edge": 1}, "secrets": ["api-key"]}),
    );
    let said = gateway.post_function(&object).problem(400, "pod_refused");
    assert!(said.contains("api-key"), "{said}");
    std::fs::write(gateway.data().join("secrets/api-key"), "very secret").unwrap();
    std::fs::write(gateway.data().join("secrets/other"), "another's").unwrap();
    gateway.deploy(&object);
    gateway.until_idle("hi", 1);
    let read = |name: &str| {
        gateway
            .get(&format!("/function/hi/secret/{name}"))
            .ok()
            .text()
    };
    assert_eq!(read("api-key"), "very secret");
    assert!(read("other").starts_with("cannot read"));
    let found = engine.inspect(&container(&engine, &gateway)).to_string();
    assert!(!found.contains("very secret"));
    assert!(!gateway.log().contains("very secret"));
    assert!(
        !gateway
            .json("/v1/functions/hi")
            .to_string()
            .contains("very secret")
    );
}

#[test]
fn files_of_the_function_are_in_the_container_and_can_only_be_read() {
    let Some(engine) = Engine::find() else { return };
    let image = engine.odd("stoic-test-files:1", "one");
    let gateway = engine.owns(launch().start());

    let files = files();
    let spec = |runtime: &str| {
        json!({
            "health": "/", "runtimes": [runtime], "standby": {runtime: 1}, "files": files,
            "readOnlyRoot": true, "command": ["stoic-echo"],
        })
    };
    gateway.deploy(&image_of("hi", &image, spec("edge")));
    gateway.until_idle("hi", 1);
    finds_its_files(&gateway, "hi");
    // The copies go with the container.
    let laid = || {
        std::fs::read_dir(gateway.data().join("pods/edge"))
            .unwrap()
            .count()
    };
    assert_eq!(laid(), 1);
    let _ = gateway.call("DELETE", "/v1/functions/hi").send().ok();
    until("the container is gone", || {
        engine.containers(gateway.id()).is_empty()
    });
    until("its files are gone", || laid() == 0);

    let mut object = image_of("p", &image, spec("edge"));
    object["spec"]["files"][0]["text"] = "x".repeat(1 << 20).into();
    let said = gateway
        .post_function(&object)
        .problem(400, "function_invalid");
    assert!(said.contains("1048578 bytes"), "{said}");
}

#[test]
fn a_process_has_no_place_for_files() {
    let gateway = Launch::default().start();
    let files = json!([{"path": "/etc/field/notes.txt", "text": "two foxes"}]);
    let refused = gateway.post_function(&echo("p", json!({"files": files})));
    let said = refused.problem(400, "pod_refused");
    assert!(
        said.contains("spec.files") && said.contains("/etc/field"),
        "{said}"
    );
}

#[test]
fn a_moved_tag_is_fetched_before_the_next_start() {
    let Some(engine) = Engine::find() else { return };
    let Some(registry) = Engine::registry() else {
        return;
    };
    let name = format!("{registry}/stoic-test-moved-{}", std::process::id());
    let tag = format!("{name}:1");
    let _ = engine.odd(&tag, "one");
    engine.docker(&["push", "-q", &tag]);
    let keep = format!("{name}:kept");
    engine.docker(&["tag", &tag, &keep]);
    engine.clears_image(&keep);
    let quick = DOCKER.replace(
        "[sites.cloud]\n",
        "[sites.edge.docker]\ncheck_images = \"1ms\"\n[sites.cloud]\n",
    );
    let gateway = engine.owns(Launch::default().config(&quick).start());
    let spec = json!({"health": "/", "runtimes": ["edge"]});
    gateway.deploy(&image_of("hi", &tag, spec));
    assert_eq!(gateway.get("/function/hi").ok().text(), "version one");
    let first = engine.inspect(&container(&engine, &gateway))["Image"].clone();

    // The registry gets a newer one; here the tag stays where it was.
    let _ = engine.odd(&tag, "two");
    engine.docker(&["push", "-q", &tag]);
    engine.docker(&["tag", &keep, &tag]);
    let former = container(&engine, &gateway);
    engine.docker(&["rm", "-f", &former]);
    until("its death is known", || gateway.pods("hi").is_empty());
    assert_eq!(gateway.get("/function/hi").ok().text(), "version two");
    let second = engine.inspect(&container(&engine, &gateway))["Image"].clone();
    assert_ne!(first, second);

    // What is gone from the registry, or never was there, still runs from what is here.
    let absent = image_of("no", &format!("{name}:absent"), json!({"health": "/"}));
    let said = gateway
        .post_function(&absent)
        .problem(400, "image_unavailable");
    assert!(said.contains(":absent"), "{said}");
}

#[test]
fn what_a_pod_writes_is_told_while_it_runs_and_afterwards() {
    let Some(engine) = Engine::find() else { return };
    let image = engine.odd("stoic-test-logs:1", "one");
    let gateway = engine.owns(launch().start());
    gateway.deploy(&image_of(
        "hi",
        &image,
        json!({"health": "/", "runtimes": ["edge"], "standby": {"edge": 1}}),
    ));
    let pod = gateway.until_idle("hi", 1)[0]["name"].clone();
    let pod = pod.as_str().unwrap();
    let _ = gateway.get("/function/hi/say/first").ok();
    until("the line is told", || {
        let text = gateway.get("/v1/functions/hi/logs?tail=1").ok().text();
        text == format!("[{pod}] said first\n")
    });
    let whole = gateway
        .get("/v1/functions/hi/logs?runtime=edge")
        .ok()
        .text();
    assert!(
        whole.starts_with(&format!("[{pod}] odd server, mode good\n")),
        "{whole}"
    );

    let request =
        b"GET /v1/functions/hi/logs?tail=0&follow=true HTTP/1.1\r\nhost: localhost\r\n\r\n";
    let mut follower = raw(gateway.address, request);
    let (told, lines) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        use std::io::{BufRead, BufReader};
        for line in BufReader::new(&mut follower).lines().map_while(Result::ok) {
            let _ = told.send(line);
        }
    });
    std::thread::sleep(Duration::from_millis(300));
    let _ = gateway.get("/function/hi/say/second").ok();
    until_some("the follower is told", || {
        let line = lines.recv_timeout(Duration::from_secs(5)).ok()?;
        line.contains("said second").then_some(())
    });

    gateway
        .get("/v1/functions/hi/logs?tail=x")
        .problem(400, "query_invalid");
    gateway
        .get("/v1/functions/no/logs")
        .problem(404, "unknown_function");
    // A flood costs a bounded log, and the pod serves on.
    let _ = gateway.get("/function/hi/flood").ok();
    assert_eq!(gateway.get("/function/hi").ok().text(), "version one");
    until("the end of the flood is told", || {
        let text = gateway.get("/v1/functions/hi/logs?tail=1").ok().text();
        text.contains("end of flood") || text.contains("said")
    });
}

#[test]
fn two_gateways_share_an_engine_and_leave_nothing_when_they_stop() {
    let Some(engine) = Engine::find() else { return };
    let image = engine.odd("stoic-test-two:1", "one");
    let mut one = engine.owns(launch().start());
    let two = engine.owns(launch().start());
    let spec = json!({"health": "/", "runtimes": ["edge"], "standby": {"edge": 2}});
    for gateway in [&one, &two] {
        gateway.deploy(&image_of("hi", &image, spec.clone()));
        gateway.until_idle("hi", 2);
    }
    let of_two = engine.containers(two.id());
    one.terminate();
    assert_eq!(one.wait().code, Some(0));
    assert_eq!(engine.containers(one.id()), Vec::<String>::new());
    let filter = format!("label=dev.stoic.gateway={}", one.id());
    assert_eq!(
        engine.docker(&["network", "ls", "-q", "--filter", &filter]),
        ""
    );
    assert_eq!(engine.containers(two.id()), of_two);
    assert_eq!(two.get("/function/hi").ok().text(), "version one");
}

#[test]
fn warm_containers_outlive_a_gateway_that_is_killed() {
    let Some(engine) = Engine::find() else { return };
    let image = engine.odd("stoic-test-adopted:1", "one");
    let gateway = engine.owns(launch().start());
    let other = engine.owns(launch().start());
    let spec = json!({"health": "/", "runtimes": ["edge"], "standby": {"edge": 2}});
    for gateway in [&gateway, &other] {
        gateway.deploy(&image_of("hi", &image, spec.clone()));
        gateway.until_idle("hi", 2);
    }
    let sorted = |gateway: &Gateway| {
        let mut all = engine.containers(gateway.id());
        all.sort();
        all
    };
    let (before, others) = (sorted(&gateway), sorted(&other));
    let gateway = gateway.reborn(&launch());
    gateway.until_idle("hi", 2);
    let answer = gateway.get("/function/hi").ok();
    assert_eq!(answer.header("x-stoic-start"), "warm");
    assert_eq!(
        sorted(&gateway),
        before,
        "the same containers, and no other"
    );
    assert_eq!(sorted(&other), others);
}
