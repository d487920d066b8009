//! What another gateway asks for before it is a cloud of this one: a token, a certificate, a version of the
//! protocol, and what a function needs there.

#![allow(clippy::unwrap_used)]

use serde_json::json;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::Command;
use stoic_tests::campus::{Campus, call_now, runtime, serves_from_the_cloud, token};
use stoic_tests::{Authority, Launch, binary, echo, texts, until, until_some, zip_of};

#[test]
fn a_token_that_is_wrong_or_may_not_deploy_is_named_with_the_way_out() {
    let campus = Campus::default();
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
    let campus = Campus::default();
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
    let campus = Campus::default();
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
