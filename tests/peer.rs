//! Another gateway as the cloud of this one, over TLS with a token: its runtimes become candidates, every
//! mode runs over it, and when the link breaks or it is killed, each item is in the result once.

#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};
use stoic_tests::{
    Authority, Call, Gateway, Identity, Launch, Lines, Link, any_http, binary, echo, texts, until,
    until_some, zip_of,
};
use tempfile::TempDir;

const ZIP: &str = "application/zip";

/// A gateway that asks for tokens, over TLS, and a link to it.
struct Campus {
    gateway: Option<Gateway>,
    link: Link,
    authority: Authority,
    launch: Launch,
    identity: Identity,
    folder: TempDir,
    token: PathBuf,
}

fn token(folder: &TempDir, name: &str, scope: &str) -> PathBuf {
    let file = folder.path().join(format!("{name}.token"));
    let output = Command::new(binary("stoic"))
        .args([
            "token", "create", "--name", name, "--scope", scope, "--data",
        ])
        .arg(folder.path().join("data"))
        .arg("--out")
        .arg(&file)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    file
}

impl Campus {
    fn new() -> Self {
        Self::with(|launch| launch)
    }

    fn with(change: impl Fn(Launch) -> Launch) -> Self {
        let authority = Authority::default();
        let identity = authority.identity("campus");
        let folder = TempDir::new().unwrap();
        let token = token(&folder, "shed", "invoke,deploy");
        let launch = Launch::default()
            .tables(&identity.table(None))
            .data(&folder.path().join("data"));
        let launch = change(launch);
        let gateway = launch.start();
        Self {
            link: Link::to(gateway.address),
            gateway: Some(gateway),
            authority,
            launch,
            identity,
            folder,
            token,
        }
    }

    fn gateway(&self) -> &Gateway {
        self.gateway.as_ref().unwrap()
    }

    /// The configuration of an edge box that has it as its cloud.
    fn table(&self, more: &str) -> String {
        format!(
            "[sites.edge]\n[sites.cloud]\nbackend = \"gateway\"\n[sites.cloud.gateway]\n\
             url = \"https://localhost:{}\"\nca = \"{}\"\ntoken_file = \"{}\"\n{more}",
            self.link.address.port(),
            self.authority.file().display(),
            self.token.display()
        )
    }

    fn edge(&self) -> Gateway {
        Launch::default().config(&self.table("")).start()
    }

    /// The pods that others use there, asked with the token of whoever does.
    fn leases(&self) -> Vec<Value> {
        let token = std::fs::read_to_string(&self.token).unwrap();
        let url = format!("https://localhost:{}", self.gateway().address.port());
        let request = format!(
            "GET /v1/peer/leases HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\nx-stoic-token: {}\r\n\r\n",
            token.trim()
        );
        let answer = stoic_tests::over_tls(
            self.gateway().address,
            &self.authority.file(),
            None,
            &[],
            request.as_bytes(),
        )
        .unwrap_or_else(|error| panic!("{url}: {error}"));
        let body = answer.text.split("\r\n\r\n").nth(1).unwrap();
        serde_json::from_str(body).unwrap_or_else(|e| panic!("{e}: {}", answer.text))
    }

    fn kill(&mut self) {
        self.gateway = None;
    }
}

fn deploy(edge: &Gateway, name: &str, spec: Value) {
    let mut all = json!({
        "input": "batch", "divisible": true,
        "standby": {"edge": {"min": 1, "max": 2}, "cloud.cpu": {"min": 1, "max": 2}},
        "runtimes": ["edge", "cloud.cpu"],
    });
    all.as_object_mut()
        .unwrap()
        .extend(spec.as_object().unwrap().clone());
    edge.deploy(&echo(name, all));
}

/// A batch that is sent there comes back whole.
fn serves_from_the_cloud(edge: &Gateway) {
    deploy(edge, "batch", json!({}));
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

fn runtime(edge: &Gateway, name: &str) -> Value {
    let all = edge.json("/v1/runtimes");
    let all = all.as_array().unwrap().iter();
    let mut found = all.filter(|runtime| runtime["name"] == name).cloned();
    found
        .next_back()
        .unwrap_or_else(|| panic!("no runtime {name}"))
}

fn call(edge: &Gateway, path: &str, mode: &str, zip: &[u8]) -> Call {
    let call = edge.call("POST", path).header("x-stoic-mode", mode);
    call.body(ZIP, zip)
}

fn names(result: &Value) -> Vec<String> {
    let items = result["items"].as_array().expect("a list of items");
    let name = |item: &Value| item["name"].as_str().unwrap().to_owned();
    items.iter().map(name).collect()
}

/// Checks that the result holds every item once, in order.
#[track_caller]
fn whole(result: &Value, items: usize) {
    let expected: Vec<String> = texts(items).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names(result), expected);
}

/// Reads on until the runtime says that it has done some of its items.
fn until_works(lines: &mut Lines, runtime: &str) {
    loop {
        let progress = lines.event("progress");
        if progress["by_runtime"][runtime].as_u64() > Some(0) {
            return;
        }
    }
}

#[test]
fn the_runtimes_of_another_gateway_serve_as_those_here_do() {
    let campus = Campus::new();
    let edge = campus.edge();
    let cpu = runtime(&edge, "cloud.cpu");
    assert_eq!(
        (&cpu["site"], &cpu["backend"]),
        (&json!("cloud"), &json!("gateway"))
    );
    assert_eq!(cpu["available"], true);
    assert_eq!(runtime(&edge, "cloud.edge")["threads"], 1);
    deploy(&edge, "batch", json!({}));
    edge.until_idle("batch", 2);
    let leases = campus.leases();
    assert_eq!(leases.len(), 1, "{leases:?}");
    assert_eq!(
        (&leases[0]["who"], &leases[0]["runtime"]),
        (&json!("shed"), &json!("cpu"))
    );

    // The batch travels to the store there, its pod fetches it from there, the result comes home.
    let zip = zip_of(&texts(20));
    let answer = edge.batch("/function/batch", "cloud.cpu", &zip).send().ok();
    whole(&answer.json(), 20);
    assert_eq!(answer.header("x-stoic-runtime"), "cloud.cpu");
    assert_eq!(answer.header("x-stoic-start"), "warm");
    assert!(
        answer.header("server-timing").contains("transfer"),
        "{:?}",
        answer.headers
    );
    let there = campus.gateway().stored("peers/passing/shed/packages/");
    assert_eq!(there.len(), 1, "{there:?}");
    let measured = edge.json("/v1/measurements?runtime=cloud.cpu");
    assert!(
        measured[0]["actual"]["transfer"].as_f64() > Some(0.0),
        "{measured}"
    );

    // A cold pod there is deployed, and its deployment measured by stage.
    let _ = edge
        .call("POST", "/v1/functions/batch/scale")
        .body(
            "application/json",
            json!({"replicas": 0, "runtime": "cloud.cpu"}).to_string(),
        )
        .send()
        .ok();
    until("the lease is given back", || campus.leases().is_empty());
    let cold = edge.batch("/function/batch", "cloud.cpu", &zip).send().ok();
    assert_eq!(cold.header("x-stoic-start"), "cold");
    whole(&cold.json(), 20);
    let pods = edge.pods("batch");
    let pod = pods
        .iter()
        .find(|pod| pod["runtime"] == "cloud.cpu")
        .unwrap();
    assert!(pod["stages"]["link"].as_f64() > Some(0.0), "{pod}");

    // The link was measured on the way.
    until("the link is known", || {
        runtime(&edge, "cloud.cpu")["link"]["transfer_at"].is_number()
    });
    // Every lease ends with the gateway that had it.
    drop(edge);
    until("nothing is left over", || {
        campus.leases().is_empty() && campus.gateway().processes().len() <= 1
    });
    assert!(!campus.gateway().panicked());
}

#[test]
fn requests_streams_and_upgrades_pass_through_to_pods_there() {
    let campus = Campus::new();
    let edge = campus.edge();
    let spec = json!({"runtimes": ["cloud.cpu"], "standby": {"cloud.cpu": 1}});
    edge.deploy(&any_http("plain", spec));
    edge.until_idle("plain", 1);
    let answer = edge
        .call("POST", "/function/plain/some/path?x=1")
        .body("text/plain", "hello")
        .send()
        .ok();
    assert!(
        answer.text().contains("/some/path?x=1"),
        "{}",
        answer.text()
    );
    assert_eq!(answer.header("x-stoic-site"), "cloud");
    // An answer that goes on arrives as it is made.
    let mut events = edge.get_open("/function/plain/events");
    assert_eq!(events.next_line(), "data: first\n");
    let _ = edge.call("POST", "/function/plain/release").send().ok();
    events.next_line();
    assert_eq!(events.next_line(), "data: second\n");
    // Many at a time, each with its own answer.
    std::thread::scope(|scope| {
        for n in 0..8 {
            let edge = &edge;
            scope.spawn(move || {
                for m in 0..10 {
                    let path = format!("/function/plain/{n}-{m}");
                    let answer = edge.call("POST", &path).body("text/plain", "x").send();
                    assert!(answer.ok().text().contains(&format!("/{n}-{m}")));
                }
            });
        }
    });
}

#[test]
fn every_mode_runs_over_another_gateway() {
    let campus = Campus::new();
    let edge = campus.edge();
    deploy(&edge, "batch", json!({}));
    edge.until_idle("batch", 2);
    let zip = zip_of(&texts(60));
    let path = "/function/batch?delay=10ms";
    let alone = edge.call("POST", path).on("edge").body(ZIP, zip.clone());
    let alone = alone.send().ok().body;
    for mode in ["selector", "hedged", "duplicator", "cooperative", "auto"] {
        let answer = call(&edge, path, mode, &zip).send().ok();
        assert_eq!(answer.body, alone, "{mode}");
        whole(&answer.json(), 60);
        if mode == "cooperative" {
            assert_eq!(answer.header("x-stoic-runtime"), "edge+cloud.cpu");
            let by = answer.header("x-stoic-items-by");
            assert!(by.contains("cloud.cpu="), "{by}");
        }
    }
    // The cloud is far quicker: the selector learns it, and sends there.
    for runtime in ["edge", "cloud.cpu"] {
        let delay = if runtime == "edge" { 30 } else { 1 };
        for items in [5, 10, 20] {
            let path = format!("/function/batch?delay={delay}ms");
            let _ = edge
                .batch(&path, runtime, &zip_of(&texts(items)))
                .send()
                .ok();
        }
    }
    let answer = call(&edge, "/function/batch?delay=1ms", "selector", &zip)
        .send()
        .ok();
    assert_eq!(answer.header("x-stoic-runtime"), "cloud.cpu");
    assert!(answer.headers.contains_key("x-stoic-predicted"));
}

#[test]
fn a_caller_who_leaves_ends_the_work_there() {
    let campus = Campus::new();
    let edge = campus.edge();
    deploy(&edge, "batch", json!({}));
    edge.until_idle("batch", 2);
    let zip = zip_of(&texts(200));
    let mut lines = edge
        .batch("/function/batch?delay=100ms", "cloud.cpu", &zip)
        .header("accept", "application/x-ndjson")
        .open();
    lines.event("progress");
    drop(lines);
    // It would have taken twenty seconds.
    let begun = Instant::now();
    edge.until_idle("batch", 2);
    let answer = edge
        .batch("/function/batch", "cloud.cpu", &zip_of(&texts(1)))
        .send()
        .ok();
    whole(&answer.json(), 1);
    assert!(
        begun.elapsed() < Duration::from_secs(8),
        "{:?}",
        begun.elapsed()
    );
}

#[test]
fn a_link_that_is_cut_in_mid_batch_loses_nothing_and_comes_back() {
    let campus = Campus::new();
    let edge = campus.edge();
    deploy(&edge, "batch", json!({}));
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

/// Sends a batch by the selector; where it ran.
fn call_now(edge: &Gateway, zip: &[u8]) -> String {
    let answer = call(edge, "/function/batch", "selector", zip).send().ok();
    answer.header("x-stoic-runtime").to_owned()
}

#[test]
fn a_gateway_that_is_killed_in_mid_batch_is_replaced_by_the_edge_and_used_again_when_it_is_back() {
    let mut campus = Campus::new();
    let edge = campus.edge();
    deploy(&edge, "batch", json!({}));
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
    let campus = Campus::new();
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
    deploy(&edge, "batch", json!({}));
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

#[test]
fn a_token_that_is_wrong_or_may_not_deploy_is_named_with_the_way_out() {
    let campus = Campus::new();
    let explicit = "[runtimes.edge]\nsite = \"edge\"\n[runtimes.far]\nsite = \"cloud\"\norder = 1\npeer_runtime = \"cpu\"\n";
    let folder = &campus.folder;
    let invoke = token(folder, "weak", "invoke");
    let wrong = folder.path().join("wrong.token");
    std::fs::write(&wrong, "stoic_wrong\n").unwrap();
    let table = |token: &PathBuf| {
        let own = campus.token.display().to_string();
        campus
            .table(explicit)
            .replace(&own, &token.display().to_string())
    };
    until("the gateway knows the second token", || {
        let edge = Launch::default().config(&table(&invoke)).start();
        runtime(&edge, "far")["available"] == true
    });
    let spec = json!({"input": "batch", "runtimes": ["edge", "far"]});
    let edge = Launch::default().config(&table(&invoke)).start();
    let refused = edge.post_function(&echo("batch", spec.clone()));
    assert!(
        refused.text().contains("scope deploy"),
        "{}",
        refused.text()
    );

    let edge = Launch::default().config(&table(&wrong)).start();
    let far = runtime(&edge, "far");
    let reason = far["reason"].as_str().unwrap_or_default();
    assert_eq!(far["available"], false);
    assert!(reason.contains("token_unknown"), "{far}");
    edge.deploy(&echo("batch", spec));
    assert_eq!(call_now(&edge, &zip_of(&texts(3))), "edge");
    let pinned = edge
        .batch("/function/batch", "far", &zip_of(&texts(1)))
        .send();
    assert!(pinned.text().contains("token_unknown"), "{}", pinned.text());
    let secret = std::fs::read_to_string(&campus.token).unwrap();
    for gateway in [&edge, campus.gateway()] {
        assert!(!gateway.log().contains(secret.trim()) && !gateway.log().contains("stoic_wrong"));
    }
}

#[test]
fn what_a_function_needs_there_is_checked_when_it_is_deployed_here() {
    let campus = Campus::new();
    let edge = campus.edge();
    let spec = json!({"command": ["/nowhere/program"], "runtimes": ["cloud.cpu"]});
    let refused = edge.post_function(&echo("absent", spec));
    let detail = refused.problem(400, "pod_refused");
    assert!(
        detail.contains("https://localhost") && detail.contains("/nowhere/program"),
        "{detail}"
    );
    let spec = json!({"secrets": ["key"], "runtimes": ["cloud.cpu"]});
    let refused = edge.post_function(&echo("secret", spec));
    assert!(refused.problem(400, "pod_refused").contains("key"));
    assert!(campus.leases().is_empty());
}

/// Answers every request with this JSON, as a gateway of another version might.
fn says(json: &'static str) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut head = [0; 4096];
            let _ = stream.read(&mut head);
            let answer = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{json}",
                json.len()
            );
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    port
}

#[test]
fn a_gateway_of_another_version_is_named_as_that() {
    for (hello, word) in [
        (
            r#"{"protocols": [2, 3], "version": "7.0.0", "runtimes": [{"name": "cpu", "backend": "process", "threads": 2, "precision": "auto", "gpus": 0, "new": []}]}"#,
            "bring this gateway",
        ),
        (
            r#"{"protocols": [0, 0], "version": "0.0.9", "runtimes": [{"name": "cpu", "backend": "process", "threads": 2, "precision": "auto", "gpus": 0}]}"#,
            "bring that gateway",
        ),
    ] {
        let port = says(hello);
        let config = format!(
            "[sites.edge]\n[sites.cloud]\nbackend = \"gateway\"\ngateway = {{ url = \"http://127.0.0.1:{port}\" }}\n"
        );
        let edge = Launch::default().config(&config).start();
        let cpu = runtime(&edge, "cloud.cpu");
        let reason = cpu["reason"].as_str().unwrap_or_default();
        assert!(cpu["available"] == false && reason.contains(word), "{cpu}");
        let output = Command::new(binary("stoic"))
            .args(["runtimes", "--gateway", &format!("http://{}", edge.address)])
            .output()
            .unwrap();
        assert!(
            String::from_utf8_lossy(&output.stdout).contains(word),
            "{output:?}"
        );
        edge.deploy(&echo("batch", json!({"input": "batch"})));
        assert_eq!(call_now(&edge, &zip_of(&texts(3))), "edge");
        let pinned = edge
            .batch("/function/batch", "cloud.cpu", &zip_of(&texts(1)))
            .send();
        assert!(pinned.text().contains(word), "{}", pinned.text());
    }
}

#[test]
fn it_is_joined_from_the_command_line_with_a_certificate_of_its_own() {
    let campus = Campus::with(|launch| launch);
    // The same, asked for a certificate as well.
    let authority = Authority::default();
    let strict = Launch::default()
        .tables(&campus.identity.table(Some(&authority.file())))
        .start();
    let client = authority.identity("shed");
    let config = format!(
        "[sites.edge]\n[sites.cloud]\nbackend = \"gateway\"\n[sites.cloud.gateway]\nurl = \"https://localhost:{}\"\nca = \"{}\"\nclient_cert = \"{}\"\nclient_key = \"{}\"\n",
        strict.address.port(),
        campus.authority.file().display(),
        client.cert.display(),
        client.key.display()
    );
    let edge = Launch::default().config(&config).start();
    serves_from_the_cloud(&edge);
    drop(edge);

    let (ca, token) = (campus.authority.file(), &campus.token);
    let site = format!(
        "cloud=gateway:https://localhost:{}",
        campus.link.address.port()
    );
    let edge = Launch::default()
        .config("")
        .arguments(&[
            "--site",
            &site,
            "--token-file",
            token.to_str().unwrap(),
            "--ca",
            ca.to_str().unwrap(),
        ])
        .start();
    until_some("its runtime", || {
        let cpu = runtime(&edge, "cloud.cpu");
        (cpu["available"] == true && cpu["emulated"] != "link").then_some(())
    });
    serves_from_the_cloud(&edge);
}
