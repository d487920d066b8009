//! Containers that misbehave, and an engine that goes away: every fault is told by its name, and nothing
//! is left behind. Skipped, with a line that says so, where no Docker engine answers.

#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};
use std::io::copy;
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use stoic_tests::{Engine, Gateway, Launch, binary, echo, until};
use tempfile::TempDir;

const DOCKER: &str = r#"
[deployment]
attempts = 2
backoff = "10ms"
grace = "500ms"
[inquisitor]
enabled = false
[sites.edge]
backend = "docker"
[runtimes.edge]
site = "edge"
"#;

fn odd(name: &str, image: &str, mode: &str, more: Value) -> Value {
    let mut spec = json!({"health": "/", "args": [mode], "readyTimeout": "1500ms"});
    spec.as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    let mut object = echo(name, spec);
    let spec = object["spec"].as_object_mut().unwrap();
    spec.remove("command");
    spec.insert("image".to_owned(), image.into());
    object
}

fn start(engine: &Engine) -> Gateway {
    engine.owns(Launch::default().config(DOCKER).start())
}

#[test]
fn sites_are_chosen_on_the_command_line_and_an_engine_that_is_absent_is_said() {
    let up = |arguments: &[&str]| {
        let mut command = Command::new(binary("stoic"));
        let output = command
            .args(["up", "--print-config"])
            .args(arguments)
            .env_remove("STOIC_CONFIG")
            .output()
            .unwrap();
        let text = [output.stdout, output.stderr].map(|b| String::from_utf8(b).unwrap());
        (output.status.code(), text.concat())
    };
    let (code, text) = up(&["--site", "edge=docker", "--site", "cloud=process"]);
    assert_eq!(
        (code, text.matches("backend = \"docker\"").count()),
        (Some(0), 1),
        "{text}"
    );
    let (code, text) = up(&["--site", "nowhere=docker"]);
    assert!(code == Some(2) && text.contains("cloud, edge"), "{text}");
    let (code, text) = up(&["--site", "edge=podman"]);
    assert!(
        code == Some(2) && text.contains("process, docker"),
        "{text}"
    );

    let absent = "[sites.edge]\nbackend = \"docker\"\n[sites.edge.docker]\nhost = \"unix:///nowhere/engine.sock\"\n[runtimes.edge]\nsite = \"edge\"\n";
    let exit = Launch::default().config(absent).fail();
    assert_eq!(exit.code, Some(1), "{}", exit.errors);
    let said = exit.errors.lines().last().unwrap_or_default();
    assert!(
        said.contains("site edge") && said.contains("unix:///nowhere/engine.sock"),
        "{said}"
    );
    let misplaced = "[sites.edge]\n[sites.edge.docker]\n[runtimes.edge]\nsite = \"edge\"\n";
    let exit = Launch::default().config(misplaced).fail();
    assert_eq!(exit.code, Some(2), "{}", exit.errors);
    assert!(exit.errors.contains("sites.edge.docker"), "{}", exit.errors);
}

#[test]
fn containers_that_never_serve_are_told_by_what_they_did() {
    let Some(engine) = Engine::find() else { return };
    let image = engine.odd("stoic-test-never:1", "one");
    let gateway = start(&engine);
    for (mode, words) in [
        ("exits", ["exit status 7", "its last line was"]),
        ("silent", ["did not answer 200", "odd server, mode silent"]),
        ("hangs", ["did not answer 200", "odd server, mode hangs"]),
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
        until("its containers are gone", || {
            engine.containers(gateway.id()).is_empty()
        });
    }
    let mut no_program = odd("none", &image, "good", json!({}));
    no_program["spec"]["image"] = "stoic-test-absent-everywhere:1".into();
    no_program["spec"]["pull"] = "never".into();
    let said = gateway
        .post_function(&no_program)
        .problem(400, "image_unavailable");
    assert!(said.contains("never"), "{said}");
    no_program["spec"]["image"] = "../../containers".into();
    gateway
        .post_function(&no_program)
        .problem(400, "pod_refused");
}

#[test]
fn a_container_that_listens_late_serves_all_who_wait() {
    let Some(engine) = Engine::find() else { return };
    let image = engine.odd("stoic-test-late:1", "one");
    let gateway = start(&engine);
    gateway.deploy(&odd("late", &image, "late", json!({"readyTimeout": "20s"})));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                assert_eq!(gateway.get("/function/late").ok().text(), "version one");
            });
        }
    });
    assert_eq!(engine.containers(gateway.id()).len(), 1);
}

#[test]
fn a_death_for_want_of_memory_is_named_and_the_next_call_gets_a_new_pod() {
    let Some(engine) = Engine::find() else { return };
    let image = engine.odd("stoic-test-memory:1", "one");
    let gateway = start(&engine);
    let limits = json!({"resources": {"memory": "48Mi"}, "standby": {"edge": 1}});
    gateway.deploy(&odd("eat", &image, "good", limits));
    gateway.until_idle("eat", 1);
    let answer = gateway.get("/function/eat/eat");
    assert!(answer.status >= 500, "{} {}", answer.status, answer.text());
    until("the log names it", || {
        gateway.log().contains("out of memory")
    });
    assert_eq!(gateway.get("/function/eat/").ok().text(), "version one");
    assert!(
        answer.text().contains("out of memory"),
        "the answer names it: {}",
        answer.text()
    );
}

#[test]
fn an_answer_that_breaks_off_breaks_off_for_the_caller_and_the_pod_serves_on() {
    let Some(engine) = Engine::find() else { return };
    let image = engine.odd("stoic-test-closes:1", "one");
    let gateway = start(&engine);
    gateway.deploy(&odd("hi", &image, "good", json!({"standby": {"edge": 1}})));
    gateway.until_idle("hi", 1);
    let broken = gateway.call("GET", "/function/hi/closes").try_send();
    assert!(broken.is_err() || broken.unwrap().status >= 500);
    assert_eq!(gateway.get("/function/hi/").ok().text(), "version one");
}

#[test]
fn a_container_that_ignores_sigterm_is_killed_after_the_grace() {
    let Some(engine) = Engine::find() else { return };
    let image = engine.odd("stoic-test-stubborn:1", "one");
    let gateway = start(&engine);
    gateway.deploy(&odd(
        "hi",
        &image,
        "stubborn",
        json!({"standby": {"edge": 1}}),
    ));
    gateway.until_idle("hi", 1);
    let begun = Instant::now();
    let _ = gateway.call("DELETE", "/v1/functions/hi").send().ok();
    until("it is gone", || engine.containers(gateway.id()).is_empty());
    assert!(
        begun.elapsed() >= Duration::from_millis(400),
        "it had its grace"
    );
}

/// A socket in front of the engine's, which a test can take away. The engine itself is left alone: others
/// use it.
struct Relay {
    path: PathBuf,
    _folder: TempDir,
    open: Arc<Mutex<Vec<UnixStream>>>,
}

impl Relay {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let relay = Self {
            path: folder.path().join("engine.sock"),
            _folder: folder,
            open: Arc::default(),
        };
        relay.up();
        relay
    }

    fn engine() -> PathBuf {
        let host = std::env::var("DOCKER_HOST").unwrap_or_default();
        let socket = host
            .strip_prefix("unix://")
            .unwrap_or("/var/run/docker.sock");
        Path::new(socket).to_path_buf()
    }

    fn up(&self) {
        let listener = UnixListener::bind(&self.path).unwrap();
        let (open, path) = (Arc::clone(&self.open), self.path.clone());
        std::thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                if !path.exists() {
                    return;
                }
                let Ok(far) = UnixStream::connect(Self::engine()) else {
                    continue;
                };
                let both = [near.try_clone().unwrap(), far.try_clone().unwrap()];
                open.lock().unwrap().extend(both);
                for (mut from, mut to) in [
                    (near.try_clone().unwrap(), far.try_clone().unwrap()),
                    (far, near),
                ] {
                    std::thread::spawn(move || {
                        let _ = copy(&mut from, &mut to);
                        let _ = to.shutdown(Shutdown::Write);
                    });
                }
            }
        });
    }

    fn down(&self) {
        std::fs::remove_file(&self.path).unwrap();
        for stream in self.open.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

#[test]
fn an_engine_that_goes_and_comes_back_under_load_loses_no_warm_pod() {
    let Some(engine) = Engine::find() else { return };
    let image = engine.odd("stoic-test-away:1", "one");
    let relay = Relay::new();
    let config = format!(
        "{DOCKER}\n[sites.edge.docker]\nhost = \"unix://{}\"\n",
        relay.path.display()
    );
    let gateway = engine.owns(Launch::default().config(&config).start());
    gateway.deploy(&odd("hi", &image, "good", json!({"standby": {"edge": 2}})));
    gateway.until_idle("hi", 2);
    let warm = engine.containers(gateway.id());

    relay.down();
    // Warm pods serve without an engine; one that dies meanwhile is noticed when it is back.
    for _ in 0..50 {
        assert_eq!(gateway.get("/function/hi/").ok().text(), "version one");
    }
    until("the log says so", || gateway.log().contains("is away"));
    engine.docker(&["rm", "-f", &warm[0]]);
    relay.up();
    until("the log says so", || gateway.log().contains("is back"));
    until("a new one stands by", || {
        let now = engine.containers(gateway.id());
        now.len() == 2 && !now.contains(&warm[0]) && now.contains(&warm[1])
    });
    gateway.until_idle("hi", 2);
    for _ in 0..20 {
        assert_eq!(gateway.get("/function/hi/").ok().text(), "version one");
    }
}
