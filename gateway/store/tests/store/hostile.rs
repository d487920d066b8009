//! What a hostile or broken client may send: keys that try to leave their bucket, URLs that were
//! not meant for it, and bytes that are not HTTP.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use aws_sdk_s3::primitives::ByteStream;
use bytes::Bytes;

use crate::serving::{BUCKET, exchange, noise, raw, serve, serve_with, split};

const MINUTE: Duration = Duration::from_secs(60);

fn files(path: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(path).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            found.extend(files(&entry.path()));
        } else {
            found.push(entry.path());
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn no_key_leaves_its_bucket() {
    let serving = serve().await;
    let store = serving.store().await;
    let other = serving.store_of("other").await;
    other
        .put_bytes("x", Bytes::from_static(b"theirs"), "a/b")
        .await
        .unwrap();
    let longest = "é".repeat(512);
    let keys: BTreeSet<&str> = [
        "../other/x",
        "../../buckets/other/x",
        "../../../../../../../tmp/stoic-escaped",
        "/abs",
        "//abs",
        "/",
        ".",
        "..",
        "...",
        "a",
        "a/b",
        "a/b/",
        "a//b",
        "a/./b",
        "a/../b",
        "%2e%2e%2fother%2fx",
        "%2e%2e/other/x",
        "%252e%252e%252fx",
        "%00",
        "..\\other\\x",
        "lock",
        "?prefix=x",
        "a?b=c&d#e",
        "a+b c",
        "ü/\u{1f98a}",
        "<&\">'",
        &longest,
    ]
    .into();
    for key in &keys {
        let body = Bytes::from(format!("of {key}"));
        store.put_bytes(key, body, "a/b").await.unwrap();
    }
    let listed: Vec<_> = store
        .list("")
        .await
        .unwrap()
        .into_iter()
        .map(|o| o.key)
        .collect();
    assert_eq!(listed, keys.iter().copied().collect::<Vec<_>>());
    for key in &keys {
        let got = store
            .get(key)
            .await
            .unwrap()
            .body
            .collect(9999)
            .await
            .unwrap();
        assert_eq!(got, format!("of {key}"));
        // The same presigned, by raw HTTP: read, write, read.
        let url = store.presign_get(key, MINUTE).await.unwrap();
        assert_eq!(
            raw("GET", &url, &[], b"").await.body,
            format!("of {key}").as_bytes()
        );
        let put = store.presign_put(key, MINUTE).await.unwrap();
        assert_eq!(raw("PUT", &put, &[], b"again").await.status, 200, "{key}");
        assert_eq!(raw("GET", &url, &[], b"").await.body, b"again");
    }
    // Every file is where it belongs, and the other bucket is as it was.
    let root = serving.directory.path();
    assert_eq!(files(&root.join("buckets").join(BUCKET)).len(), keys.len());
    assert_eq!(files(root).len(), keys.len() + 2, "{:?}", files(root));
    assert!(!Path::new("/tmp/stoic-escaped").exists());
    let theirs = other
        .get("x")
        .await
        .unwrap()
        .body
        .collect(99)
        .await
        .unwrap();
    assert_eq!(theirs, "theirs");
    assert_eq!(other.list("").await.unwrap().len(), 1);
    for key in &keys {
        store.delete(key).await.unwrap();
    }
    assert!(store.list("").await.unwrap().is_empty());
    assert_eq!(other.list("").await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn impossible_keys_are_refused() {
    let serving = serve().await;
    let store = serving.store().await;
    let long = "k".repeat(1025);
    for key in ["a\0b", "line\nbreak", "\u{7f}", "\u{1}", "\u{fffe}", &long] {
        let put = store.put_bytes(key, Bytes::from_static(b"x"), "a/b").await;
        assert!(put.is_err(), "{key:?}");
        let url = store.presign_put(key, MINUTE).await.unwrap();
        let status = raw("PUT", &url, &[], b"x").await.status;
        assert_eq!(status, 400, "{key:?}");
    }
    assert!(store.list("").await.unwrap().is_empty());
    assert_eq!(serving.files("temporary"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn presigned_urls_open_one_door() {
    let serving = serve().await;
    let store = serving.store().await;
    let other = serving.store_of("other").await;
    for store in [&store, &other] {
        store
            .put_bytes("x", Bytes::from_static(b"secret"), "a/b")
            .await
            .unwrap();
    }
    let get = store.presign_get("x", MINUTE).await.unwrap();
    let put = store.presign_put("x", MINUTE).await.unwrap();
    let answer = raw("GET", &get, &[], b"").await;
    assert_eq!(
        (answer.status, answer.body.as_slice()),
        (200, b"secret".as_slice())
    );
    let part = raw("GET", &get, &[("range", "bytes=1-2")], b"").await;
    assert_eq!((part.status, part.body.as_slice()), (206, b"ec".as_slice()));
    assert!(
        part.head.contains("content-range: bytes 1-2/6"),
        "{}",
        part.head
    );

    let (plain, _) = get.split_once('?').unwrap();
    let refused = [
        ("GET", plain.to_owned()),
        ("PUT", plain.to_owned()),
        ("DELETE", plain.to_owned()),
        ("GET", format!("{plain}?list-type=2")),
        ("PUT", get.clone()),
        ("DELETE", get.clone()),
        ("POST", get.clone()),
        ("GET", put.clone()),
        ("DELETE", put.clone()),
        ("GET", get.replace("/packages/x", "/packages/y")),
        ("GET", get.replace("/packages/x", "/other/x")),
        ("GET", get.replace("/packages/x", "/packages/../other/x")),
        (
            "GET",
            get.replace("/packages/x", "/packages/%2e%2e/other/x"),
        ),
        ("GET", get.replace("/packages/x", "//packages/x")),
        ("GET", get.replace("/packages/x", "/packages")),
        ("GET", get.replace("X-Amz-Expires=60", "X-Amz-Expires=6000")),
        ("GET", format!("{get}&response-content-type=text/html")),
        ("GET", format!("{get}&X-Amz-Expires=6000")),
        ("PUT", format!("{put}&uploads")),
        ("GET", get.replace("X-Amz-Signature=", "X-Amz-Signature=0")),
        ("GET", get.replace("AWS4-HMAC-SHA256", "AWS4-HMAC-SHA1")),
    ];
    for (method, url) in refused {
        let body: &[u8] = if method == "PUT" { b"overwritten" } else { b"" };
        let status = raw(method, &url, &[], body).await.status;
        // An algorithm it does not know is "not implemented".
        let refused = (400..500).contains(&status) || status == 501;
        assert!(refused, "{method} {url}: {status}");
    }
    let short = store
        .presign_get("x", Duration::from_secs(1))
        .await
        .unwrap();
    let short_put = store
        .presign_put("x", Duration::from_secs(1))
        .await
        .unwrap();
    assert_eq!(raw("GET", &short, &[], b"").await.status, 200);
    tokio::time::sleep(Duration::from_millis(2300)).await;
    assert_eq!(raw("GET", &short, &[], b"").await.status, 403);
    assert_eq!(raw("PUT", &short_put, &[], b"late").await.status, 403);
    for store in [&store, &other] {
        let kept = store
            .get("x")
            .await
            .unwrap()
            .body
            .collect(99)
            .await
            .unwrap();
        assert_eq!(kept, "secret");
        assert_eq!(store.list("").await.unwrap().len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signed_length_holds() {
    let serving = serve().await;
    let store = serving.store().await;
    let signing = aws_sdk_s3::presigning::PresigningConfig::expires_in(MINUTE).unwrap();
    let request = serving
        .sdk()
        .put_object()
        .bucket(BUCKET)
        .key("k")
        .content_length(5)
        .presigned(signing)
        .await
        .unwrap();
    let url = request.uri();
    assert_eq!(raw("PUT", url, &[], b"more than five").await.status, 403);
    assert!(store.list("").await.unwrap().is_empty());
    assert_eq!(raw("PUT", url, &[], b"fives").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_breaks_off_or_stops_is_never_visible() {
    let serving = serve_with(|o| o.idle = Duration::from_millis(400)).await;
    let store = serving.store().await;
    store
        .put_bytes("k", Bytes::from_static(b"former"), "a/b")
        .await
        .unwrap();
    let url = store.presign_put("k", MINUTE).await.unwrap();
    let (host, target) = split(&url);
    let head = format!("PUT {target} HTTP/1.1\r\nhost: {host}\r\ncontent-length: 1000000\r\n\r\n");
    for sent in [0, 1, 300_000, 999_999] {
        let mut bytes = head.clone().into_bytes();
        bytes.extend_from_slice(&noise(sent, 1));
        // Closed early.
        let mut stream = std::net::TcpStream::connect(&host).unwrap();
        std::io::Write::write_all(&mut stream, &bytes).unwrap();
        drop(stream);
        // Held open, and silent.
        let answer = exchange(&host, bytes).await;
        assert!(
            answer.starts_with(b"HTTP/1.1 400"),
            "{}",
            String::from_utf8_lossy(&answer)
        );
        assert!(String::from_utf8_lossy(&answer).contains("RequestTimeout"));
    }
    let kept = store
        .get("k")
        .await
        .unwrap()
        .body
        .collect(99)
        .await
        .unwrap();
    assert_eq!(kept, "former");
    assert_eq!(serving.files("temporary"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_ends_its_own_connection_only() {
    let serving = serve().await;
    let store = serving.store().await;
    store
        .put_bytes("k", Bytes::from_static(b"kept"), "a/b")
        .await
        .unwrap();
    let get = store.presign_get("k", MINUTE).await.unwrap();
    let put = store.presign_put("k2", MINUTE).await.unwrap();
    let (host, get_target) = split(&get);
    let (_, put_target) = split(&put);
    let good_get =
        format!("GET {get_target} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
    let chunked = format!(
        "PUT {put_target} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\
         transfer-encoding: chunked\r\n\r\nzz\r\nnot a chunk\r\n"
    );
    let mut attempts: Vec<Vec<u8>> = vec![
        vec![],
        vec![0; 1000],
        vec![0xff; 100_000],
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
        b"GET\r\n\r\n".to_vec(),
        b"GET / HTTP/9.9\r\n\r\n".to_vec(),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        b"GET /%zz/%ff%fe HTTP/1.1\r\nconnection: close\r\n\r\n".to_vec(),
        b"GET /packages/%00 HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".to_vec(),
        b"OPTIONS * HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".to_vec(),
        b"PUT /packages/k HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n".to_vec(),
        b"PUT /packages/k HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999999999999999\r\n\r\n".to_vec(),
        b"PUT /packages/k HTTP/1.1\r\nhost: x\r\nauthorization: AWS4-HMAC-SHA256 Credential=,,\r\nconnection: close\r\ncontent-length: 0\r\n\r\n".to_vec(),
        b"POST /packages?delete HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 9\r\n\r\n<Delete><".to_vec(),
        format!("GET /{} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n", "a".repeat(70_000)).into(),
        format!("GET / HTTP/1.1\r\n{}\r\n", "x: y\r\n".repeat(5000)).into(),
        chunked.into(),
    ];
    // Every way of bending a good request a little, the same at every run.
    let random = noise(3 * 400, 42);
    for step in random.chunks_exact(3) {
        let mut bent = good_get.clone().into_bytes();
        let at = (usize::from(step[0]) << 8 | usize::from(step[1])) % bent.len();
        bent[at] = step[2];
        attempts.push(bent);
    }
    for attempt in attempts {
        let host = host.clone();
        tokio::task::spawn_blocking(move || {
            use std::io::{Read, Write};
            let mut stream = std::net::TcpStream::connect(host).unwrap();
            let _ = stream.write_all(&attempt);
            let _ = stream.shutdown(std::net::Shutdown::Write);
            let mut answer = Vec::new();
            let _ = stream.set_read_timeout(Some(Duration::from_secs(5)));
            let _ = stream.read_to_end(&mut answer);
            let text = String::from_utf8_lossy(&answer);
            assert!(
                !text.contains("HTTP/1.1 5") || text.contains("501"),
                "{text}"
            );
        })
        .await
        .unwrap();
    }
    // Signed nonsense gets past the door, and no further.
    for headers in [
        [
            ("x-amz-content-sha256", "STREAMING-UNSIGNED-PAYLOAD-TRAILER"),
            ("content-encoding", "aws-chunked"),
        ],
        [
            ("x-amz-content-sha256", "nonsense"),
            ("content-md5", "nonsense"),
        ],
        [
            ("x-amz-checksum-crc32", "nonsense"),
            ("x-amz-trailer", "x-amz-checksum-sha256"),
        ],
        [
            ("x-amz-decoded-content-length", "-5"),
            ("content-type", "\u{e9}"),
        ],
    ] {
        raw(
            "PUT",
            &put,
            &headers,
            b"5;chunk-signature=x\r\nhello\r\n0\r\n\r\n",
        )
        .await;
    }
    let s3 = serving.sdk();
    let huge = s3
        .put_object()
        .bucket(BUCKET)
        .key("m")
        .metadata("n", "x".repeat(3000));
    assert!(
        huge.body(ByteStream::from_static(b"x"))
            .send()
            .await
            .is_err()
    );
    assert_eq!(raw("GET", &get, &[], b"").await.body, b"kept");
    assert_eq!(store.list("k").await.unwrap()[0].key, "k");
}
