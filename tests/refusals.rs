//! What is wrong with a request is said by a status, a stable code and a way out, before any work.

#![allow(clippy::unwrap_used)]

use serde_json::json;
use std::io::Write;
use stoic_tests::{Call, Gateway, Launch, echo, raw, raw_head, tar_of, texts, until, zip_of};

fn gateway(launch: &Launch) -> Gateway {
    let gateway = launch.start();
    gateway.deploy(&echo("echo", json!({"concurrency": 8})));
    gateway.deploy(&echo("batch", json!({"input": "batch"})));
    gateway
}

#[test]
fn wrong_paths_methods_names_headers_and_parameters() {
    let gateway = gateway(&Launch::default());
    let echo = || {
        gateway
            .call("POST", "/function/echo")
            .body("text/plain", "hi")
    };
    let zip = zip_of(&texts(2));
    let batch = |path: &str, media: &str| gateway.call("POST", path).body(media, zip.clone());
    let form = "application/x-www-form-urlencoded";
    let get = |path: &str| gateway.call("GET", path);
    let many: String = (0..70).map(|n| format!("k{n}=1&")).collect();
    // What is asked, status, code, a word that the detail must hold.
    let cases: Vec<(Call, u16, &str, &str)> = vec![
        (get("/nothing/here"), 404, "unknown_path", "/openapi.json"),
        (get("/v1/function"), 404, "unknown_path", "/v1/function"),
        (get("/function/none"), 404, "unknown_function", "none"),
        (get("/function/"), 404, "unknown_function", ""),
        (get("/v1/functions/none"), 404, "unknown_function", "none"),
        (
            get("/v1/functions/none/predict"),
            404,
            "unknown_function",
            "none",
        ),
        (
            gateway.call("DELETE", "/v1/functions/none"),
            404,
            "unknown_function",
            "none",
        ),
        (echo().on("gpu9"), 400, "unknown_runtime", "gpu9"),
        (
            batch("/function/batch", "application/zip").on("gpu9"),
            400,
            "unknown_runtime",
            "gpu9",
        ),
        (
            echo().header("x-stoic-mode", "selecter"),
            400,
            "unknown_mode",
            "selector",
        ),
        (
            echo().header("x-stoic-mode", "duplicator"),
            400,
            "mode_impossible",
            "duplicator",
        ),
        (
            echo().header("x-stoic-mode", "pinned"),
            400,
            "runtime_missing",
            "x-stoic-runtime",
        ),
        (
            echo().header("x-stoic-mode", "selector").on("edge"),
            400,
            "mode_conflict",
            "x-stoic-runtime",
        ),
        (
            echo().header("x-stoic-items", "many"),
            400,
            "header_invalid",
            "many",
        ),
        (
            echo().header("x-stoic-items", "-3"),
            400,
            "header_invalid",
            "-3",
        ),
        (
            echo().header("x-stoic-items", "0"),
            400,
            "header_invalid",
            "x-stoic-items",
        ),
        (
            echo().header("x-stoic-items", "1e99"),
            400,
            "header_invalid",
            "1e99",
        ),
        (
            echo().header("x-stoic-items", "99999999999999999999"),
            400,
            "header_invalid",
            "number",
        ),
        (
            echo().header("x-stoic-action", "Train Now"),
            400,
            "header_invalid",
            "x-stoic-action",
        ),
        (
            echo().header("x-stoic-runtime", ""),
            400,
            "header_invalid",
            "x-stoic-runtime",
        ),
        (
            batch("/function/batch", ""),
            415,
            "unsupported_media_type",
            "application/zip",
        ),
        (
            batch("/function/batch", form),
            415,
            "unsupported_media_type",
            "application/zip",
        ),
        (
            batch(&format!("/function/batch?{many}"), "application/zip"),
            400,
            "query_invalid",
            "64",
        ),
        (get("/function/batch"), 405, "method_not_allowed", "POST"),
        (
            gateway.call("PUT", "/v1/pods").body("", "x"),
            405,
            "method_not_allowed",
            "GET",
        ),
        (
            gateway.call("PATCH", "/v1/functions").body("", "x"),
            405,
            "method_not_allowed",
            "POST",
        ),
        (
            gateway.call("POST", "/v1/functions/echo").body("", "x"),
            405,
            "method_not_allowed",
            "PUT",
        ),
        (
            get("/v1/functions/echo/predict?items=lots"),
            400,
            "query_invalid",
            "lots",
        ),
        (
            get("/v1/functions/echo/predict?bytes=-1"),
            400,
            "query_invalid",
            "bytes",
        ),
        (
            get("/v1/functions/echo/predict?itmes=3"),
            400,
            "query_invalid",
            "items",
        ),
        (
            get("/v1/measurements?limit=x"),
            400,
            "query_invalid",
            "limit",
        ),
        (
            get("/v1/invocations/..%2f..%2fstoic.db/result"),
            404,
            "unknown_result",
            "expire",
        ),
    ];
    for (call, status, code, word) in cases {
        let shown = format!("{call:?}").chars().take(300).collect::<String>();
        let answer = call.send();
        assert_eq!(answer.json()["code"], code, "{shown}: {}", answer.text());
        let detail = answer.problem(status, code);
        assert!(detail.contains(word), "{shown}: {detail}");
    }
    // Nothing of it reached a pod.
    assert!(gateway.pods("batch").is_empty() && gateway.stored("packages").is_empty());
}

#[test]
fn a_body_over_the_limit_is_refused_however_it_comes() {
    let gateway = gateway(&Launch::default().keys("body_limit = \"1 MiB\""));
    for path in ["/function/echo", "/function/batch"] {
        // Its length is said, and its sender asks first: refused before any of it is sent.
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: image/jpeg\r\n\
             expect: 100-continue\r\ncontent-length: 1048577\r\n\r\n"
        );
        let (head, body) = raw_head(&mut raw(gateway.address, head.as_bytes()));
        assert!(head.starts_with("http/1.1 413"), "{path}: {head}");
        assert!(
            String::from_utf8_lossy(&body).contains("body_too_large"),
            "{path}"
        );

        // One who just sends it hears of it, too.
        let large = vec![b'x'; (1 << 20) + 1];
        let answer = gateway.call("POST", path).body("image/jpeg", large).send();
        let detail = answer.problem(413, "body_too_large");
        assert!(detail.contains("1.0 MiB"), "{detail}");

        // Its length is unsaid: refused when it has become too long.
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: image/jpeg\r\ntransfer-encoding: chunked\r\n\r\n"
        );
        let mut stream = raw(gateway.address, head.as_bytes());
        let mut chunk = b"10000\r\n".to_vec();
        chunk.extend_from_slice(&[b'x'; 0x10000]);
        chunk.extend_from_slice(b"\r\n");
        for _ in 0..17 {
            // The gateway may stop reading at any time now.
            if stream.write_all(&chunk).is_err() {
                break;
            }
        }
        let (head, body) = raw_head(&mut stream);
        assert!(head.starts_with("http/1.1 413"), "{path} in chunks: {head}");
        assert!(
            String::from_utf8_lossy(&body).contains("body_too_large"),
            "{path} in chunks"
        );
    }
    // Of the refused ones nothing is left.
    assert!(gateway.stored("").is_empty() && gateway.unfinished().is_empty());

    // What just fits is taken, with its length or without.
    let fits = tar_of(&[("fits", vec![b'x'; (1 << 20) - 1536])]);
    assert_eq!(fits.len(), 1 << 20);
    for path in ["/function/echo", "/function/batch"] {
        let call = || {
            gateway
                .call("POST", path)
                .body("application/x-tar", fits.clone())
        };
        let _ = call().send().ok();
        let _ = call().chunked().send().ok();
    }
}

#[test]
fn a_caller_who_breaks_off_leaves_nothing_behind() {
    let gateway = gateway(&Launch::default());
    let head = "POST /function/batch HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/zip\r\ncontent-length: 100000\r\n\r\n";
    let mut stream = raw(gateway.address, head.as_bytes());
    stream.write_all(&[b'x'; 50_000]).unwrap();
    drop(stream);
    until("the half that came is gone", || {
        gateway.stored("").is_empty() && gateway.unfinished().is_empty()
    });
    let zip = zip_of(&texts(2));
    let _ = gateway.batch("/function/batch", "edge", &zip).send().ok();
}
