//! Websockets, and any other protocol that a caller and a pod agree on, pass both ways; the pod's place
//! is theirs until one of them closes.

#![allow(clippy::unwrap_used)]

use serde_json::json;
use std::io::{Read, Write};
use std::net::TcpStream;
use stoic_tests::{Gateway, any_http, raw, raw_head, until};
use tungstenite::{Message, WebSocket};

fn gateway() -> Gateway {
    let gateway = Gateway::start();
    gateway.deploy(&any_http(
        "any",
        json!({"runtimes": ["edge"], "concurrency": 1}),
    ));
    gateway.until_idle("any", 1);
    gateway
}

fn open(
    gateway: &Gateway,
) -> (
    WebSocket<TcpStream>,
    tungstenite::handshake::client::Response,
) {
    let stream = TcpStream::connect(gateway.address).unwrap();
    let address = format!("ws://{}/function/any/ws?x=1", gateway.address);
    tungstenite::client(address, stream).unwrap()
}

#[test]
fn a_websocket_passes_both_ways_and_holds_the_pod() {
    let gateway = gateway();
    let (mut socket, head) = open(&gateway);
    assert_eq!(head.headers()["x-stoic-runtime"], "edge");
    assert_eq!(head.headers()["x-stoic-start"], "warm");
    let large = vec![7_u8; 1_000_000];
    for message in [Message::text("hello"), Message::binary(large)] {
        socket.send(message.clone()).unwrap();
        assert_eq!(socket.read().unwrap(), message);
    }
    assert_eq!(gateway.pods("any")[0]["state"], "busy");
    socket.close(None).unwrap();
    while socket.read().is_ok() {}
    drop(socket);
    gateway.until_idle("any", 1);
    let _ = gateway.get("/function/any/x").ok();
}

#[test]
fn whoever_closes_a_websocket_frees_the_pod() {
    let gateway = gateway();
    let pod = gateway.until_idle("any", 1).remove(0);
    // The caller, without a word.
    let (mut socket, _) = open(&gateway);
    socket.send(Message::text("hello")).unwrap();
    assert_eq!(socket.read().unwrap(), Message::text("hello"));
    drop(socket);
    gateway.until_idle("any", 1);
    // The pod.
    let (mut socket, _) = open(&gateway);
    socket.send(Message::text("leave")).unwrap();
    assert!(socket.read().is_err(), "the pod has left");
    gateway.until_idle("any", 1);
    // The pod's process.
    let (mut socket, _) = open(&gateway);
    gateway.kill_pod(u32::try_from(pod["pid"].as_u64().unwrap()).unwrap());
    assert!(socket.read().is_err(), "the pod is dead");
    until("a new pod is up", || {
        let pods = gateway.pods("any");
        pods.len() == 1 && pods[0]["state"] == "idle" && pods[0]["name"] != pod["name"]
    });
    let (mut socket, _) = open(&gateway);
    socket.send(Message::text("again")).unwrap();
    assert_eq!(socket.read().unwrap(), Message::text("again"));
}

#[test]
fn any_other_protocol_passes_too() {
    let gateway = gateway();
    let mut stream = raw(
        gateway.address,
        b"GET /function/any/protocol HTTP/1.1\r\nhost: localhost\r\nconnection: keep-alive, Upgrade\r\nupgrade: stoic-test\r\n\r\nearly ",
    );
    let (head, _) = raw_head(&mut stream);
    assert!(head.starts_with("http/1.1 101"), "{head}");
    assert!(
        head.contains("upgrade: stoic-test") && head.contains("connection: upgrade"),
        "{head}"
    );
    // What was sent before the answer is not lost.
    let mut heard = [0; 6];
    stream.read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"EARLY ");
    stream.write_all(b"late\0\xff").unwrap();
    stream.read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"LATE\0\xff");
    stream.write_all(b"bye").unwrap();
    assert_eq!(stream.read(&mut heard).unwrap(), 0, "the pod closed");
    gateway.until_idle("any", 1);
}

#[test]
fn an_upgrade_that_the_pod_declines_is_an_answer_like_any() {
    let gateway = gateway();
    let ask = |path: &str, protocol: &str| {
        let request = format!(
            "GET /function/{path} HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade, http2-settings\r\nupgrade: {protocol}\r\nhttp2-settings: AAMAAABk\r\n\r\n"
        );
        let (head, body) = raw_head(&mut raw(gateway.address, request.as_bytes()));
        (head, String::from_utf8(body).unwrap())
    };
    let (head, body) = ask("any/x", "something");
    assert!(
        head.starts_with("http/1.1 200") && body.contains(r#"["upgrade","something"]"#),
        "{head}{body}"
    );
    // HTTP/2 past the gateway is not offered to the pod: who asks for it is answered in HTTP/1.1.
    let (head, body) = ask("any/x", "h2c");
    assert!(
        head.starts_with("http/1.1 200") && !body.contains("upgrade"),
        "{head}{body}"
    );
    assert!(!body.contains("http2-settings"), "{body}");
    let (head, _) = ask("none", "websocket");
    assert!(head.starts_with("http/1.1 404"), "{head}");
    gateway.until_idle("any", 1);
}
