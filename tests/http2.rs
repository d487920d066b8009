//! The front speaks HTTP/2 to those who do so without asking (h2c): to any function, and gRPC to pods
//! that speak it.

#![allow(clippy::unwrap_used)]

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http2::SendRequest;
use hyper::{HeaderMap, Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use std::io::Read;
use std::net::Shutdown;
use stoic_tests::{Gateway, Launch, any_http, raw, until};

/// Runs a client of HTTP/2 against the gateway.
fn with_client<F: Future>(
    gateway: &Gateway,
    work: impl FnOnce(SendRequest<Full<Bytes>>) -> F,
) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let stream = tokio::net::TcpStream::connect(gateway.address)
            .await
            .unwrap();
        let (sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
                .await
                .unwrap();
        tokio::spawn(connection);
        work(sender).await
    })
}

async fn ask(
    sender: &mut SendRequest<Full<Bytes>>,
    request: http::request::Builder,
    body: &'static [u8],
) -> (Response<()>, Bytes, HeaderMap) {
    let request = request.body(Full::new(Bytes::from_static(body))).unwrap();
    let (head, body) = sender.send_request(request).await.unwrap().into_parts();
    let all = body.collect().await.unwrap();
    let trailers = all.trailers().cloned().unwrap_or_default();
    (Response::from_parts(head, ()), all.to_bytes(), trailers)
}

#[test]
fn functions_are_called_in_http2_many_at_a_time() {
    let launch = Launch::default().tables("[http]\norigins = [\"http://example.org\"]\n");
    let gateway = launch.start();
    gateway.deploy(&any_http("any", json!({"concurrency": 16})));
    gateway.until_idle("any", 1);
    with_client(&gateway, |mut sender| async move {
        let request = Request::post("http://example.org/function/any/a%2Fb/../c?x=1")
            .header("cookie", "a=1")
            .header("cookie", "b=2");
        let (head, body, _) = ask(&mut sender, request, b"hi").await;
        assert_eq!(head.status(), 200);
        assert_eq!(head.headers()["x-stoic-start"], "warm");
        let seen: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(seen["line"], "POST /a%2Fb/../c?x=1 HTTP/1.1");
        assert_eq!(seen["body"], "hi");
        let headers = seen["headers"].as_array().unwrap();
        for pair in [
            ["host", "example.org"],
            ["x-forwarded-host", "example.org"],
            ["cookie", "a=1; b=2"],
        ] {
            assert!(headers.contains(&json!(pair)), "{pair:?}: {seen}");
        }
        // Names are looked at here, too.
        let rebound = Request::get("http://evil.example/function/any/x");
        assert_eq!(ask(&mut sender, rebound, b"").await.0.status(), 403);
        // Trailers of a pod of HTTP/1.1 arrive.
        let request =
            Request::get("http://localhost/function/any/trailers").header("te", "trailers");
        let (_, body, trailers) = ask(&mut sender, request, b"").await;
        assert_eq!(
            (&body[..], &trailers["x-sum"]),
            (&b"some"[..], &"42".parse().unwrap())
        );
        // One that waits holds up no other on the same connection.
        let silent = Request::get("http://localhost/function/any/silent")
            .body(Full::default())
            .unwrap();
        let waiting = tokio::spawn(sender.send_request(silent));
        for n in 0..50 {
            let request = Request::get(format!("http://localhost/function/any/{n}"));
            assert_eq!(ask(&mut sender, request, b"").await.0.status(), 200);
        }
        let (head, body, _) = ask(
            &mut sender,
            Request::get("http://localhost/function/none"),
            b"",
        )
        .await;
        assert_eq!(head.status(), 404);
        assert!(String::from_utf8_lossy(&body).contains("unknown_function"));
        // Who resets a stream has left.
        waiting.abort();
        let _ = waiting.await;
    });
    gateway.until_idle("any", 1);
}

#[test]
fn grpc_reaches_a_pod_that_speaks_http2_and_is_refused_clearly_by_one_that_does_not() {
    let gateway = Gateway::start();
    gateway.deploy(&any_http(
        "grpc",
        json!({"env": {"SPEAKS": "h2c"}, "concurrency": 16}),
    ));
    gateway.deploy(&any_http("plain", json!({"runtimes": ["edge"]})));
    gateway.until_idle("grpc", 1);
    let pod = gateway.until_idle("plain", 1).remove(0);
    with_client(&gateway, |mut sender| async move {
        let call = |name: &str| {
            Request::post(format!(
                "http://localhost/function/{name}/camera.Traps/Label"
            ))
            .header("content-type", "application/grpc+proto")
            .header("te", "trailers")
        };
        for _ in 0..3 {
            let (head, body, trailers) = ask(&mut sender, call("grpc"), b"\0\0\0\0\x02hi").await;
            assert_eq!(
                (head.status().as_u16(), &body[..]),
                (200, &b"\0\0\0\0\x02hi"[..])
            );
            assert_eq!(head.headers()["x-version"], "HTTP/2.0");
            assert_eq!(head.headers()["x-te"], "trailers");
            assert_eq!(trailers["grpc-status"], "0");
            assert_eq!(trailers["grpc-message"], "/camera.Traps/Label");
        }
        let (head, body, _) = ask(&mut sender, call("plain"), b"\0\0\0\0\x02hi").await;
        assert_eq!(head.status(), 502);
        let problem: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(problem["code"], "pod_http2_failed");
        assert!(
            problem["detail"].as_str().unwrap().contains("h2c"),
            "{problem}"
        );
    });
    // That was no fault of the pod's.
    assert_eq!(gateway.until_idle("plain", 1)[0]["name"], pod["name"]);
}

#[test]
fn http2_that_is_none_or_idle_is_let_go() {
    let mut gateway = Launch::default()
        .keys("[http]\nhead_timeout = \"300ms\"\n")
        .start();
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    for (what, rest) in [
        ("nothing more", &b""[..]),
        ("no frames", &b"GET / HTTP/1.1\r\n\r\n"[..]),
        (
            "a head without an end",
            &b"\0\0\0\x04\0\0\0\0\0\0\0\x10\x01\0\0\0\0\x01\x82"[..],
        ),
    ] {
        let mut stream = raw(gateway.address, &[preface, rest].concat());
        let mut all = Vec::new();
        // Closed by the gateway, in time; a reset is a close, too.
        let _ = stream.read_to_end(&mut all);
        assert!(!all.starts_with(b"HTTP/1.1 2"), "{what}: {all:?}");
    }
    // A part of the preface is no HTTP/2 yet.
    let stream = raw(gateway.address, b"PRI * HT");
    stream.shutdown(Shutdown::Write).unwrap();
    let mut all = String::new();
    let _ = { stream }.read_to_string(&mut all);
    assert!(!all.starts_with("HTTP/1.1 2"), "{all}");
    until("it still answers", || gateway.get("/healthz").status == 200);
    assert!(gateway.lives() && !gateway.panicked());
}
