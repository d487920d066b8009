//! What a browser carries: pages of other origins, and names that were made to lead here, get nothing of a
//! gateway on loopback that needs no token; its own pages, and those of configured origins, work.

#![allow(clippy::unwrap_used)]

use serde_json::json;
use std::net::TcpStream;
use stoic_tests::{Answer, Gateway, Launch, any_http, echo, raw, raw_head, until};
use tungstenite::HandshakeError;
use tungstenite::client::IntoClientRequest;

fn ask(gateway: &Gateway, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
    let mut call = gateway.call(method, path);
    for (name, value) in headers {
        call = call.header(name, value);
    }
    match method {
        "POST" | "PUT" => call.body("text/plain", "hi").send(),
        _ => call.send(),
    }
}

#[test]
fn a_page_of_another_origin_gets_nothing_and_the_gateways_own_works() {
    let gateway = Gateway::start();
    gateway.deploy(&echo("echo", json!({"standby": {"edge": 1}})));
    let port = gateway.address.port();
    let own = format!("http://{}", gateway.address);
    let named = format!("http://localhost:{port}");
    let paths = [
        ("GET", "/"),
        ("GET", "/v1/functions"),
        ("GET", "/function/echo"),
        ("POST", "/function/echo"),
        ("POST", "/async-function/echo"),
    ];
    for origin in ["http://evil.example", "http://localhost:1", "null"] {
        for (method, path) in paths {
            let detail =
                ask(&gateway, method, path, &[("origin", origin)]).problem(403, "origin_refused");
            assert!(detail.contains(origin) && detail.contains("[http] origins"));
        }
        ask(
            &gateway,
            "DELETE",
            "/v1/functions/echo",
            &[("origin", origin)],
        )
        .problem(403, "origin_refused");
        ask(&gateway, "OPTIONS", "/v1/functions", &[("origin", origin)])
            .problem(403, "origin_refused");
    }
    // What an image or a form elsewhere leads to.
    let image = [
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-mode", "no-cors"),
    ];
    ask(&gateway, "GET", "/function/echo", &image).problem(403, "origin_refused");
    for (method, path) in paths {
        for headers in [
            &[("origin", own.as_str())][..],
            &[("origin", named.as_str())],
            &[("sec-fetch-site", "same-origin")],
            &[],
        ] {
            let _ = ask(&gateway, method, path, headers).ok();
        }
    }
    // It is still there, and what was tried is noted.
    let _ = gateway.get("/v1/functions/echo").ok();
    let refused = std::fs::read_to_string(gateway.data().join("audit-refused.log")).unwrap();
    assert_eq!(refused.lines().count(), 3, "{refused}");
    assert!(refused.contains("\"what\":\"DELETE /v1/functions/echo\""));
}

#[test]
fn a_name_that_leads_to_loopback_is_answered_only_where_a_token_is_needed() {
    let gateway = Gateway::start();
    gateway.deploy(&echo("echo", json!({})));
    let head = |gateway: &Gateway, more: &str| {
        let request = format!("GET /function/echo HTTP/1.1\r\n{more}connection: close\r\n\r\n");
        raw_head(&mut raw(gateway.address, request.as_bytes()))
    };
    let port = gateway.address.port();
    // A browser sends these together for a page of such a name.
    let rebound = format!("host: evil.example:{port}\r\norigin: http://evil.example:{port}\r\n");
    for more in [rebound.as_str(), "host: evil.example\r\n"] {
        let (head, body) = head(&gateway, more);
        let body = String::from_utf8(body).unwrap();
        assert!(head.starts_with("http/1.1 403"), "{head}");
        assert!(body.contains("host_refused") && body.contains("evil.example"));
    }
    for more in [
        "host: localhost\r\n",
        "host: stoic.localhost:80\r\n",
        "host: 192.0.2.7:8080\r\n",
        "host: [::1]\r\n",
    ] {
        let (head, _) = head(&gateway, more);
        assert!(head.starts_with("http/1.1 200"), "{more}: {head}");
    }
    let _ = gateway.create_token("", &json!({"name": "root", "scopes": ["admin"]}));
    let (answer, _) = head(&gateway, "host: evil.example\r\n");
    assert!(answer.starts_with("http/1.1 401"), "{answer}");

    let listed = Launch::default().tables("[http]\norigins = [\"http://edge.lan\"]\n");
    let listed = listed.start();
    listed.deploy(&echo("echo", json!({})));
    let (answer, _) = head(&listed, "host: edge.lan:8080\r\n");
    assert!(answer.starts_with("http/1.1 200"), "{answer}");
    // Beyond loopback names are anybody's to give.
    let open = Launch::default().listen_on("0.0.0.0:0");
    let open = open.arguments(&["--insecure"]).start();
    let request = b"GET /healthz HTTP/1.1\r\nhost: any.example\r\n\r\n";
    let address = ([127, 0, 0, 1], open.address.port()).into();
    assert!(
        raw_head(&mut raw(address, request))
            .0
            .starts_with("http/1.1 200")
    );
}

#[test]
fn a_websocket_is_opened_from_a_page_that_may() {
    let launch = Launch::default().tables("[http]\norigins = [\"https://lab.example\"]\n");
    let gateway = launch.start();
    gateway.deploy(&any_http("any", json!({"runtimes": ["edge"]})));
    gateway.until_idle("any", 1);
    let open = |origin: &str| {
        let url = format!("ws://{}/function/any/ws", gateway.address);
        let mut request = url.into_client_request().unwrap();
        let origin = origin.parse().unwrap();
        request.headers_mut().insert("origin", origin);
        let stream = TcpStream::connect(gateway.address).unwrap();
        match tungstenite::client(request, stream) {
            Ok((_, head)) => head.status().as_u16(),
            Err(HandshakeError::Failure(tungstenite::Error::Http(head))) => head.status().as_u16(),
            Err(other) => panic!("{other}"),
        }
    };
    assert_eq!(open(&format!("http://{}", gateway.address)), 101);
    assert_eq!(open("https://lab.example"), 101);
    assert_eq!(open("https://evil.example"), 403);
}

#[test]
fn a_token_does_not_make_a_page_of_others_welcome_and_a_call_from_a_page_runs() {
    let gateway = Gateway::start();
    gateway.deploy(&any_http("any", json!({})));
    let admin = gateway.create_token("", &json!({"name": "root", "scopes": ["admin"]}));
    let send = |path: &str, origin: &str| {
        let request = format!(
            "POST {path} HTTP/1.1\r\nhost: gw.example\r\norigin: {origin}\r\nx-stoic-token: {admin}\r\ncontent-length: 2\r\n\r\nhi"
        );
        raw_head(&mut raw(gateway.address, request.as_bytes())).0
    };
    let foreign = send("/function/any/x", "http://evil.example");
    assert!(foreign.starts_with("http/1.1 403"), "{foreign}");
    // The gateway runs it later by another name of its own, with what the page sent.
    let accepted = send("/async-function/any/x", "http://gw.example");
    let id = accepted
        .lines()
        .find_map(|line| line.strip_prefix("x-call-id: "));
    let path = format!("/v1/calls/{}", id.unwrap());
    until("the call has succeeded", || {
        let call = gateway.call("GET", &path).header("x-stoic-token", &admin);
        call.send().ok().json()["state"] == "succeeded"
    });
}

#[test]
fn what_is_no_origin_is_refused_by_name() {
    for (wrong, word) in [("lab.example", "lab.example"), ("null", "null")] {
        let text = format!("[http]\norigins = [\"{wrong}\"]\n");
        let refused = Launch::default().tables(&text).fail();
        assert_eq!(refused.code, Some(2), "{}", refused.errors);
        assert!(refused.errors.contains(word) && refused.errors.contains("is no origin"));
    }
}
