//! Functions from images as resources of a real Kubernetes cluster, with a site of containers beside it.
//! Skipped, with a line that says so, where there is no cluster, no engine or no registry.

#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use stoic_tests::{Call, Engine, Launch, Namespace, until};

const KIND: &str = "functions.stoic.dev";

fn launch(namespace: &Namespace) -> Launch {
    let name = &namespace.name;
    Launch::default().config(&format!(
        "[inquisitor]\nenabled = false\n[deployment]\nattempts = 2\n\
         [controller]\nenabled = true\nnamespace = \"{name}\"\n\
         [sites.edge]\nbackend = \"docker\"\n[runtimes.edge]\nsite = \"edge\"\n"
    ))
}

fn function(name: &str, image: &str) -> Value {
    json!({
        "apiVersion": "stoic.dev/v1",
        "kind": "Function",
        "metadata": {"name": name},
        "spec": {"image": image, "health": "/", "port": 9090, "standby": {"edge": 1}},
    })
}

#[test]
fn a_new_image_takes_over_without_a_failed_request_and_an_absent_one_is_told_at_once() {
    let Some(namespace) = Namespace::make() else {
        return;
    };
    let Some(engine) = Engine::find() else { return };
    let Some(registry) = Engine::registry() else {
        return;
    };
    let name = format!("{registry}/stoic-test-resource-{}", std::process::id());
    let tagged = |tag: &str| {
        let image = engine.odd(&format!("{name}:{tag}"), tag);
        engine.docker(&["push", "-q", &image]);
        image
    };
    let (first, second) = (tagged("one"), tagged("two"));
    let gateway = engine.owns(launch(&namespace).start());
    let url = format!("http://{}/function/roll/x", gateway.address);
    namespace.apply(&function("roll", &first));
    namespace.wait(KIND, "roll", "Ready", Duration::from_secs(20));
    namespace.wait(KIND, "roll", "ImageAvailable", Duration::from_secs(20));
    assert_eq!(gateway.get("/function/roll/x").ok().text(), "version one");
    let digest = |namespace: &Namespace| {
        let object = namespace.get(KIND, "roll");
        object["status"]["digest"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    let before = digest(&namespace);
    assert!(before.starts_with("sha256:"), "{before}");

    let (done, failed, served) = (
        AtomicBool::new(false),
        AtomicUsize::new(0),
        AtomicUsize::new(0),
    );
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    match Call::new("GET", &url).try_send() {
                        Ok(answer) if answer.status == 200 => {
                            served.fetch_add(1, Ordering::Relaxed);
                        }
                        _ => {
                            failed.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                }
            });
        }
        namespace.apply(&function("roll", &second));
        until("the second is in force", || {
            let answer = Call::new("GET", &url).try_send();
            answer.is_ok_and(|answer| answer.text() == "version two")
        });
        until("the status has its digest", || digest(&namespace) != before);
        done.store(true, Ordering::Relaxed);
    });
    assert_eq!(failed.load(Ordering::Relaxed), 0);
    assert!(served.load(Ordering::Relaxed) > 10);

    // One that is not there: named within five seconds, and the version before serves on.
    let absent = format!("{name}:absent");
    namespace.apply(&function("roll", &absent));
    let begun = Instant::now();
    until("the status names the image", || {
        namespace
            .condition(KIND, "roll", "ImageAvailable")
            .is_some_and(|[status, reason, message]| {
                status == "False" && reason == "ImageUnavailable" && message.contains(&absent)
            })
    });
    let took = begun.elapsed();
    println!("an absent image was in the status after {took:?}");
    assert!(took < Duration::from_secs(5), "{took:?}");
    let [ready, reason, message] = namespace.condition(KIND, "roll", "Ready").unwrap();
    assert_eq!(
        (ready.as_str(), reason.as_str()),
        ("False", "ImageUnavailable")
    );
    assert!(message.contains("serves on"), "{message}");
    assert_eq!(gateway.get("/function/roll/x").ok().text(), "version two");
    let events = namespace.kubectl(&["get", "events", "--field-selector", "type=Warning"]);
    assert!(events.contains("ImageUnavailable"), "{events}");

    // Once it is there, it is found without anybody applying anything.
    let third = tagged("absent");
    assert_eq!(third, absent);
    until("it is in force", || {
        gateway.get("/function/roll/x").text() == "version absent"
    });
    namespace.wait(KIND, "roll", "ImageAvailable", Duration::from_secs(20));
    namespace.kubectl(&["delete", KIND, "roll", "--timeout=20s"]);
    assert!(engine.containers(gateway.id()).is_empty());
}
