//! Functions from images, in pods of a real Kubernetes cluster. Skipped, with a line that says so, where
//! `KUBECONFIG` and `REGISTRY` name none.

#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};
use std::time::Duration;
use stoic_tests::{
    Cluster, Gateway, Launch, echo, files, finds_its_files, raw, texts, until, until_some, zip_of,
};

/// The one site is a cluster.
fn launch(cluster: &Cluster, more: &str) -> Launch {
    let config = format!(
        "[deployment]\nattempts = 2\ngrace = \"2s\"\n[inquisitor]\nenabled = false\n{}\n[runtimes.edge]\nsite = \"edge\"\n",
        cluster.site("edge", more)
    );
    Launch::default().config(&config)
}

fn image_of(name: &str, image: &str, spec: Value) -> Value {
    let mut object = echo(name, spec);
    let spec = object["spec"].as_object_mut().unwrap();
    spec.remove("command");
    spec.insert("image".to_owned(), image.into());
    object
}

/// The one pod of a gateway, as the cluster has it.
fn only(cluster: &Cluster, gateway: &Gateway) -> Value {
    let pods = cluster.owned("pods", gateway.id());
    assert_eq!(pods.len(), 1, "{pods:?}");
    pods[0].clone()
}

#[test]
fn an_image_serves_in_a_pod_that_may_do_nothing_else() {
    let Some(cluster) = Cluster::find() else {
        return;
    };
    let image = cluster.odd("stoic-test-pod:1", "one");
    let more = "labels = { team = \"field\" }\n[sites.edge.kubernetes.runtimes.edge]\nnode_selector = { \"kubernetes.io/os\" = \"linux\" }\n";
    let gateway = launch(&cluster, more).start();
    gateway.deploy(&image_of(
        "hi",
        &image,
        json!({
            "health": "/", "port": 9090, "standby": {"edge": 1}, "readOnlyRoot": true,
            "resources": {"cpu": 0.5, "memory": "128Mi"},
        }),
    ));
    gateway.until_idle("hi", 1);
    let answer = gateway.get("/function/hi/x").ok();
    assert_eq!(answer.text(), "version one");
    assert_eq!(answer.header("x-stoic-start"), "warm");
    assert!(!answer.header("x-stoic-site").is_empty());

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
    assert_eq!(gateway.get("/function/hi/token").ok().text(), "none");

    let pod = only(&cluster, &gateway);
    let (labels, spec) = (&pod["metadata"]["labels"], &pod["spec"]);
    assert_eq!(labels["stoic.dev/function"], "hi");
    assert_eq!(labels["stoic.dev/runtime"], "edge");
    assert_eq!(labels["team"], "field");
    assert_eq!(spec["nodeSelector"]["kubernetes.io/os"], "linux");
    assert_eq!(spec["automountServiceAccountToken"], false);
    assert_eq!(spec["enableServiceLinks"], false);
    let limits = &spec["containers"][0]["resources"]["limits"];
    assert_eq!(limits["memory"], "128Mi");
    assert_eq!(limits["cpu"], "500m");

    let listed = gateway.pods("hi")[0].clone();
    let name = pod["metadata"]["name"].as_str().unwrap();
    let of = format!("stoic-{}-", listed["name"].as_str().unwrap());
    assert!(name.starts_with(&of), "{name}: {listed}");
    for stage in ["create", "schedule", "start", "listen"] {
        assert!(
            listed["stages"][stage].as_f64().is_some(),
            "{stage}: {listed}"
        );
    }
    assert!(
        listed["digest"].as_str().unwrap().starts_with("sha256:"),
        "{listed}"
    );
}

#[test]
fn files_of_the_function_are_in_the_pod_and_can_only_be_read() {
    let Some(cluster) = Cluster::find() else {
        return;
    };
    let image = cluster.odd("stoic-test-pod-files:1", "one");
    let gateway = launch(&cluster, "").start();
    std::fs::write(gateway.data().join("secrets/api-key"), "very secret").unwrap();

    let files = files();
    let spec = json!({
        "health": "/", "standby": {"edge": 1}, "files": files, "readOnlyRoot": true,
        "secrets": ["api-key"],
    });
    gateway.deploy(&image_of("hi", &image, spec));
    gateway.until_idle("hi", 1);
    finds_its_files(&gateway, "hi");
    // One Secret holds both, and each is only where it belongs.
    let secret = gateway.get("/function/hi/secret/api-key").ok().text();
    assert_eq!(secret, "very secret");
    let other = gateway.get("/function/hi/secret/.file-0").ok().text();
    assert!(other.starts_with("cannot read"), "{other}");
    assert_eq!(cluster.owned("secrets", gateway.id()).len(), 1);
}

#[test]
fn batches_reach_the_store_from_pods_and_a_cold_start_is_told() {
    let Some(cluster) = Cluster::find() else {
        return;
    };
    let image = cluster.echo("stoic-test-pod-batch:1");
    let gateway = launch(&cluster, "").start();
    gateway.deploy(&image_of("batch", &image, json!({"input": "batch"})));
    let package = zip_of(&texts(12));
    let send = || {
        gateway
            .batch("/function/batch", "edge", &package)
            .send()
            .ok()
    };
    let answer = send();
    assert_eq!(answer.json()["items"].as_array().unwrap().len(), 12);
    assert_eq!(answer.header("x-stoic-start"), "cold");
    assert_eq!(send().header("x-stoic-start"), "warm");
    let stages = gateway.pods("batch")[0]["stages"].clone();
    assert!(stages["load"].as_f64().is_some(), "{stages}");
}

#[test]
fn secrets_are_files_in_the_pod_and_go_with_it() {
    let Some(cluster) = Cluster::find() else {
        return;
    };
    let image = cluster.odd("stoic-test-pod-secrets:1", "one");
    let gateway = launch(&cluster, "").start();
    let object = image_of(
        "hi",
        &image,
        json!({"health": "/", "standby": {"edge": 1}, "secrets": ["api-key"]}),
    );
    let said = gateway.post_function(&object).problem(400, "pod_refused");
    assert!(said.contains("api-key"), "{said}");
    std::fs::write(gateway.data().join("secrets/api-key"), "very secret").unwrap();
    std::fs::write(gateway.data().join("secrets/other"), "another's").unwrap();
    gateway.deploy(&object);
    gateway.until_idle("hi", 1);
    let read = |name: &str| {
        let path = format!("/function/hi/secret/{name}");
        gateway.get(&path).ok().text()
    };
    assert_eq!(read("api-key"), "very secret");
    assert!(read("other").starts_with("cannot read"));
    let pod = only(&cluster, &gateway);
    assert!(!pod.to_string().contains("very secret"));
    assert!(!gateway.log().contains("very secret"));
    let secrets = cluster.owned("secrets", gateway.id());
    assert_eq!(secrets.len(), 1);
    let owner = &secrets[0]["metadata"]["ownerReferences"][0];
    assert_eq!(owner["uid"], pod["metadata"]["uid"]);
    let _ = gateway.call("DELETE", "/v1/functions/hi").send().ok();
    until("the pod and its secrets are gone", || {
        let kinds = ["pods", "secrets"].iter();
        kinds
            .map(|kind| cluster.owned(kind, gateway.id()).len())
            .sum::<usize>()
            == 0
    });
}

#[test]
fn what_a_pod_writes_is_told_while_it_runs_and_afterwards() {
    let Some(cluster) = Cluster::find() else {
        return;
    };
    let image = cluster.odd("stoic-test-pod-logs:1", "one");
    let gateway = launch(&cluster, "").start();
    let spec = json!({"health": "/", "standby": {"edge": 1}});
    gateway.deploy(&image_of("hi", &image, spec));
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
    let first = format!("[{pod}] odd server, mode good\n");
    assert!(whole.starts_with(&first), "{whole}");

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
    std::thread::sleep(Duration::from_millis(500));
    let _ = gateway.get("/function/hi/say/second").ok();
    until_some("the follower is told", || {
        let line = lines.recv_timeout(Duration::from_secs(5)).ok()?;
        line.contains("said second").then_some(())
    });
}

#[test]
fn pods_come_and_go_with_the_scale_and_with_the_function() {
    let Some(cluster) = Cluster::find() else {
        return;
    };
    let image = cluster.odd("stoic-test-pod-scale:1", "one");
    let gateway = launch(&cluster, "").start();
    gateway.deploy(&image_of(
        "hi",
        &image,
        json!({"health": "/", "standby": {"edge": {"min": 0, "max": 3}}}),
    ));
    assert_eq!(
        gateway.get("/function/hi").ok().header("x-stoic-start"),
        "cold"
    );
    let scale = |replicas: u32| {
        let body = json!({"replicas": replicas}).to_string();
        let scaled = gateway.call("POST", "/v1/functions/hi/scale");
        let _ = scaled.body("application/json", body).send().ok();
    };
    scale(3);
    gateway.until_idle("hi", 3);
    assert_eq!(cluster.pods(gateway.id()).len(), 3);
    scale(1);
    until("two are gone", || cluster.pods(gateway.id()).len() == 1);
    let _ = gateway.call("DELETE", "/v1/functions/hi").send().ok();
    until("all are gone", || {
        cluster.owned("pods", gateway.id()).is_empty()
    });
    gateway.get("/function/hi").problem(404, "unknown_function");
}

#[test]
fn two_gateways_share_a_namespace_and_leave_nothing_when_they_stop() {
    let Some(cluster) = Cluster::find() else {
        return;
    };
    let image = cluster.odd("stoic-test-pod-two:1", "one");
    let mut one = launch(&cluster, "").start();
    let two = launch(&cluster, "").start();
    let spec = json!({"health": "/", "standby": {"edge": 2}});
    for gateway in [&one, &two] {
        gateway.deploy(&image_of("hi", &image, spec.clone()));
        gateway.until_idle("hi", 2);
    }
    let of_two = cluster.pods(two.id());
    one.terminate();
    assert_eq!(one.wait().code, Some(0));
    assert_eq!(cluster.pods(one.id()), Vec::<String>::new());
    assert_eq!(cluster.pods(two.id()), of_two);
    assert_eq!(two.get("/function/hi").ok().text(), "version one");
}

#[test]
fn warm_pods_outlive_a_gateway_that_is_killed() {
    let Some(cluster) = Cluster::find() else {
        return;
    };
    let image = cluster.odd("stoic-test-pod-adopted:1", "one");
    let gateway = launch(&cluster, "").start();
    let spec = json!({"health": "/", "standby": {"edge": 2}});
    gateway.deploy(&image_of("hi", &image, spec));
    gateway.until_idle("hi", 2);
    let before = cluster.pods(gateway.id());
    let gateway = gateway.reborn(&launch(&cluster, ""));
    gateway.until_idle("hi", 2);
    let answer = gateway.get("/function/hi").ok();
    assert_eq!(answer.header("x-stoic-start"), "warm");
    assert_eq!(
        cluster.pods(gateway.id()),
        before,
        "the same pods, and no other"
    );
    // Their deaths are told to the new life.
    let _ = cluster.kubectl(&[
        "delete",
        "pod",
        &before[0],
        "--grace-period=1",
        "--wait=false",
    ]);
    until("another stands in its place", || {
        let now = cluster.pods(gateway.id());
        now.len() == 2 && !now.contains(&before[0]) && now.contains(&before[1])
    });
    gateway.until_idle("hi", 2);
}

#[test]
fn pods_out_of_reach_are_reached_through_the_api_server() {
    let Some(cluster) = Cluster::find() else {
        return;
    };
    let image = cluster.odd("stoic-test-pod-forward:1", "one");
    let forward = "reach = \"port-forward\"";
    let gateway = launch(&cluster, forward).start();
    let spec = json!({"health": "/", "standby": {"edge": 1}});
    gateway.deploy(&image_of("hi", &image, spec));
    let pod = gateway.until_idle("hi", 1)[0].clone();
    let address = pod["address"].as_str().unwrap();
    assert!(address.starts_with("127.0.0.1:"), "{pod}");
    for _ in 0..5 {
        assert_eq!(gateway.get("/function/hi/x").ok().text(), "version one");
    }
    let gateway = gateway.reborn(&launch(&cluster, forward));
    gateway.until_idle("hi", 1);
    let answer = gateway.get("/function/hi").ok();
    assert_eq!(answer.header("x-stoic-start"), "warm");
    assert_eq!(answer.text(), "version one");
}
