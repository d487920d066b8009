//! The gateway's side: streams in, streams out, transfers, presigned URLs, expiry.

use std::io::{Read, Seek, SeekFrom};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use stoic_store::{Credentials, Store, StoreError, StoreOptions};

use crate::serving::{noise, raw, serve, serve_with};

type Chunk = Result<Bytes, std::io::Error>;

fn chunks(body: &Bytes, size: usize) -> impl futures_util::Stream<Item = Chunk> + Send + 'static {
    let body = body.clone();
    let count = body.len().div_ceil(size);
    stream::iter((0..count).map(move |i| Ok(body.slice(i * size..body.len().min((i + 1) * size)))))
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_of_known_and_unknown_length_arrive_whole() {
    let serving = serve().await;
    let store = serving.store().await;
    // Around a part's 8 MiB, and over several parts.
    let part = 8 << 20;
    for length in [
        0,
        1,
        100_000,
        part - 1,
        part,
        part + 1,
        2 * part,
        20_000_000,
    ] {
        let body = noise(length, 5);
        for known in [Some(length as u64), None] {
            let stream = chunks(&body, 70_000);
            let stored = store
                .put_stream("in/x.zip", stream, known, "application/zip", 1 << 30)
                .await
                .unwrap();
            assert_eq!(stored.bytes, length as u64);
            let head = store.head("in/x.zip").await.unwrap().unwrap();
            assert_eq!(head.bytes, length as u64);
            assert_eq!(head.content_type, "application/zip");
            let object = store.get("in/x.zip").await.unwrap();
            assert_eq!(object.bytes, length as u64);
            assert!(
                object.body.collect(1 << 30).await.unwrap() == body,
                "{length}"
            );
        }
    }
    assert_eq!(serving.files("temporary"), 0);
    assert_eq!(store.head("absent").await.unwrap(), None);
    assert_eq!(store.get("absent").await.unwrap_err().kind(), "not-found");
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_and_too_large_bodies_leave_nothing() {
    let serving = serve().await;
    let store = serving.store().await;
    let body = noise(20_000_000, 5);
    let put = |stream, length, limit| store.put_stream("k", stream, length, "a/b", limit);
    for length in [Some(20_000_000), None] {
        let error = put(chunks(&body, 9999).boxed(), length, 19_999_999)
            .await
            .unwrap_err();
        assert!(
            matches!(error, StoreError::TooLarge { limit: 19_999_999 }),
            "{error}"
        );
    }
    for length in [Some(30_000_000), Some(10_000_000), None] {
        let broken = chunks(&body, 9999)
            .chain(stream::iter([Err(std::io::Error::other(
                "the camera went to sleep",
            ))]))
            .boxed();
        let error = put(broken, length, 1 << 30).await.unwrap_err();
        assert_eq!(error.kind(), "broken-body", "{error}");
        if length != Some(10_000_000) {
            assert!(
                error.to_string().contains("the camera went to sleep"),
                "{error}"
            );
        }
    }
    let short = put(chunks(&body, 9999).boxed(), Some(20_000_001), 1 << 30).await;
    assert!(
        short
            .unwrap_err()
            .to_string()
            .contains("ended after 20000000 of the 20000001")
    );
    // A caller that goes away in the middle of a multipart upload.
    let endless = chunks(&body, 9999).chain(stream::pending()).boxed();
    let left = tokio::time::timeout(Duration::from_secs(2), put(endless, None, 1 << 30)).await;
    assert!(left.is_err());
    for _ in 0..100 {
        if serving.files("temporary") == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(serving.files("temporary"), 0);
    assert!(store.list("").await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_has_a_limit_of_its_own() {
    let serving = serve_with(|o| o.max_object_bytes = 10_000_000).await;
    let store = serving.store().await;
    let body = noise(20_000_000, 5);
    for length in [Some(20_000_000), None] {
        let put = store.put_stream("k", chunks(&body, 65_536), length, "a/b", 1 << 30);
        let error = put.await.unwrap_err();
        assert_eq!(error.kind(), "too-large", "{error}");
    }
    let url = store
        .presign_put("k", Duration::from_secs(60))
        .await
        .unwrap();
    assert_eq!(raw("PUT", &url, &[], &body).await.status, 400);
    assert!(store.list("").await.unwrap().is_empty());
    assert_eq!(serving.files("temporary"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn ranges_and_the_blocking_reader() {
    let serving = serve().await;
    let store = serving.store().await;
    let body = noise(1_000_000, 8);
    store.put_bytes("k", body.clone(), "a/b").await.unwrap();
    assert_eq!(store.get_range("k", 0, 10).await.unwrap(), body[..10]);
    assert_eq!(
        store.get_range("k", 999_990, 100).await.unwrap(),
        body[999_990..]
    );
    assert!(store.get_range("k", 1_000_000, 5).await.unwrap().is_empty());
    assert!(store.get_range("k", 5, 0).await.unwrap().is_empty());
    let none = store.get_range("none", 0, 1).await.unwrap_err();
    assert_eq!(none.kind(), "not-found");

    let mut reader = store.reader("k", 1_000_000);
    tokio::task::spawn_blocking(move || {
        let mut all = Vec::new();
        reader.read_to_end(&mut all).unwrap();
        assert!(all == body);
        reader.seek(SeekFrom::End(-22)).unwrap();
        let mut tail = [0; 22];
        reader.read_exact(&mut tail).unwrap();
        assert_eq!(tail, body[999_978..]);
        assert!(reader.seek(SeekFrom::Current(-2_000_000)).is_err());
        reader.seek(SeekFrom::Start(2_000_000)).unwrap();
        assert_eq!(reader.read(&mut tail).unwrap(), 0);
        let mut middle = vec![0; 400_000];
        assert_eq!(reader.read_at(300_000, &mut middle).unwrap(), 400_000);
        assert!(middle == body[300_000..700_000]);
        assert_eq!(reader.read_at(999_999, &mut middle).unwrap(), 1);
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_between_stores_in_the_open() {
    let (edge, cloud) = (serve().await, serve().await);
    let (from, to) = (edge.store().await, cloud.store().await);
    let body = noise(12_345_678, 4);
    from.put_bytes("p/x", body.clone(), "application/zip")
        .await
        .unwrap();
    let seen = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&seen);
    let progress: stoic_store::Progress =
        Arc::new(move |bytes| counter.store(bytes, Ordering::Relaxed));
    let moved = from.copy_to("p/x", &to, Some(progress)).await.unwrap();
    assert_eq!(moved.bytes, 12_345_678);
    assert!(moved.seconds > 0.0);
    assert_eq!(seen.load(Ordering::Relaxed), 12_345_678);
    let object = to.get("p/x").await.unwrap();
    assert_eq!(object.content_type, "application/zip");
    assert!(object.body.collect(1 << 30).await.unwrap() == body);
    let none = from.copy_to("none", &to, None).await.unwrap_err();
    assert_eq!(none.kind(), "not-found");
    cloud.server.shutdown().await;
    let gone = from.copy_to("p/x", &to, None).await.unwrap_err();
    assert_eq!(gone.kind(), "unreachable", "{gone}");
}

#[tokio::test(flavor = "multi_thread")]
async fn expiry_takes_the_old_and_leaves_the_rest() {
    let serving = serve().await;
    let store = serving.store().await;
    for key in ["results/1", "results/2", "models/1"] {
        store
            .put_bytes(key, Bytes::from_static(b"x"), "a/b")
            .await
            .unwrap();
    }
    let hour = Duration::from_secs(3600);
    assert_eq!(store.expire("results/", hour).await.unwrap(), 0);
    tokio::time::sleep(Duration::from_millis(1100)).await;
    store
        .put_bytes("results/3", Bytes::from_static(b"y"), "a/b")
        .await
        .unwrap();
    assert_eq!(
        store
            .expire("results/", Duration::from_secs(1))
            .await
            .unwrap(),
        2
    );
    let left: Vec<_> = store
        .list("")
        .await
        .unwrap()
        .into_iter()
        .map(|o| o.key)
        .collect();
    assert_eq!(left, ["models/1", "results/3"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn presigned_urls_name_the_address_of_the_pods() {
    let serving = serve().await;
    let mut options = StoreOptions::embedded(
        serving.server.endpoint(),
        "packages",
        serving.credentials.clone(),
    );
    options.presign_endpoint = Some("http://relay.internal:9999".into());
    let store = Store::connect(options).await.unwrap();
    let url = store
        .presign_get("a b/ü", Duration::from_secs(9))
        .await
        .unwrap();
    assert!(
        url.starts_with("http://relay.internal:9999/packages/a%20b/%C3%BC?"),
        "{url}"
    );
    // The signature holds for that host and passes through a relay that keeps it.
    store
        .put_bytes("a b/ü", Bytes::from_static(b"hi"), "a/b")
        .await
        .unwrap();
    let direct = url.replace("http://relay.internal:9999", &serving.server.endpoint());
    assert_eq!(raw("GET", &direct, &[], b"").await.status, 403);
    let (_, target) = crate::serving::split(&direct);
    let request =
        format!("GET {target} HTTP/1.1\r\nhost: relay.internal:9999\r\nconnection: close\r\n\r\n");
    let address = serving.server.address().to_string();
    let answer = crate::serving::exchange(&address, request.into_bytes()).await;
    assert!(answer.starts_with(b"HTTP/1.1 200"));
    assert!(answer.ends_with(b"hi"));
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_keys_and_dead_endpoints_are_told_apart() {
    let serving = serve().await;
    let connect = |endpoint: String, credentials: Credentials| {
        Store::connect(StoreOptions::embedded(endpoint, "packages", credentials))
    };
    let denied = connect(serving.server.endpoint(), Credentials::random()).await;
    assert_eq!(denied.unwrap_err().kind(), "denied");
    let dead = connect("http://127.0.0.1:9".into(), Credentials::random()).await;
    let dead = dead.unwrap_err();
    assert_eq!(dead.kind(), "unreachable");
    assert!(dead.to_string().contains("refused"), "{dead}");
    let odd = connect("ftp://x".into(), Credentials::random()).await;
    assert_eq!(odd.unwrap_err().kind(), "other");
}

/// The embedded server behind TLS, as any outside store is.
async fn behind_tls(to: std::net::SocketAddr) -> (std::net::SocketAddr, Vec<u8>) {
    use tokio_rustls::rustls::{ServerConfig, crypto::ring, pki_types::PrivateKeyDer};
    let rcgen::CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                // A client that does not trust the certificate leaves here.
                let Ok(mut stream) = acceptor.accept(stream).await else {
                    return;
                };
                let mut server = tokio::net::TcpStream::connect(to).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut stream, &mut server).await;
            });
        }
    });
    (address, cert.pem().into_bytes())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outside_store_is_reached_by_https() {
    let serving = serve().await;
    let (address, certificate) = behind_tls(serving.server.address()).await;
    let endpoint = format!("https://localhost:{}", address.port());
    let mut options = StoreOptions::embedded(endpoint, "packages", serving.credentials.clone());
    let untrusted = Store::connect(options.clone()).await.unwrap_err();
    assert_eq!(untrusted.kind(), "unreachable", "{untrusted}");
    assert!(untrusted.to_string().contains("certificate"), "{untrusted}");

    options.ca_pem = Some(certificate);
    let body = noise(12_000_000, 6);
    for checksums in [true, false] {
        options.checksums = checksums;
        let store = Store::connect(options.clone()).await.unwrap();
        for length in [Some(12_000_000), None] {
            let stream = chunks(&body, 100_000);
            store
                .put_stream("k", stream, length, "a/b", 1 << 30)
                .await
                .unwrap();
            let got = store
                .get("k")
                .await
                .unwrap()
                .body
                .collect(1 << 30)
                .await
                .unwrap();
            assert!(got == body);
        }
        let url = store
            .presign_get("k", Duration::from_secs(9))
            .await
            .unwrap();
        assert!(url.starts_with("https://localhost"), "{url}");
    }
}
