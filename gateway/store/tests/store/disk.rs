//! Disks that are full, read-only, taken or damaged.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use bytes::Bytes;
use stoic_store::{Credentials, Embedded, Store, StoreOptions};

use crate::serving::{BUCKET, noise, options, raw, serve};

/// A small file system of its own, unmounted when dropped.
struct Mounted(tempfile::TempDir);

impl Mounted {
    fn new(settings: &str) -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let mounted = run(&["-t", "tmpfs", "-o", settings, "tmpfs"], directory.path());
        if !mounted {
            println!("skipped: mounting a tmpfs needs root");
        }
        mounted.then_some(Self(directory))
    }

    fn remount(&self, settings: &str) -> bool {
        run(&["-o", &format!("remount,{settings}")], self.0.path())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

fn run(arguments: &[&str], directory: &Path) -> bool {
    let mount = Command::new("mount")
        .args(arguments)
        .arg(directory)
        .output();
    mount.is_ok_and(|m| m.status.success())
}

async fn serve_at(directory: &Path) -> (Embedded, Store) {
    let credentials = Credentials::random();
    let server = Embedded::start(options(directory, &credentials))
        .await
        .unwrap();
    let options = StoreOptions::embedded(server.endpoint(), BUCKET, credentials);
    let store = Store::connect(options).await.unwrap();
    (server, store)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_and_keeps_what_it_had() {
    let Some(disk) = Mounted::new("size=24m") else {
        return;
    };
    let (server, store) = serve_at(disk.0.path()).await;
    let former = noise(8_000_000, 1);
    store.put_bytes("k", former.clone(), "a/b").await.unwrap();
    let big = noise(30_000_000, 2);
    for length in [Some(30_000_000), None] {
        let body = big.clone();
        let chunks = (0..3000)
            .map(move |i| Ok::<_, std::io::Error>(body.slice(i * 10_000..(i + 1) * 10_000)));
        let stream = futures_util::stream::iter(chunks);
        let error = store
            .put_stream("k", stream, length, "a/b", 1 << 30)
            .await
            .unwrap_err();
        assert_eq!(error.kind(), "full", "{error}");
    }
    let url = store
        .presign_put("k", Duration::from_secs(60))
        .await
        .unwrap();
    assert_eq!(raw("PUT", &url, &[], &big).await.status, 507);
    let left = std::fs::read_dir(disk.0.path().join("temporary"))
        .unwrap()
        .count();
    assert_eq!(left, 0);
    let kept = store
        .get("k")
        .await
        .unwrap()
        .body
        .collect(1 << 30)
        .await
        .unwrap();
    assert!(kept == former);
    // With room again it goes on.
    store.delete("k").await.unwrap();
    store
        .put_bytes("k", noise(15_000_000, 3), "a/b")
        .await
        .unwrap();
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_only_disk_still_reads() {
    let Some(disk) = Mounted::new("size=8m") else {
        return;
    };
    let (server, store) = serve_at(disk.0.path()).await;
    store
        .put_bytes("k", Bytes::from_static(b"here"), "a/b")
        .await
        .unwrap();
    assert!(disk.remount("ro"));
    let refused = store
        .put_bytes("k", Bytes::from_static(b"new"), "a/b")
        .await;
    assert_eq!(refused.unwrap_err().kind(), "read-only");
    assert_eq!(store.delete("k").await.unwrap_err().kind(), "read-only");
    let kept = store
        .get("k")
        .await
        .unwrap()
        .body
        .collect(99)
        .await
        .unwrap();
    assert_eq!(kept, "here");
    server.shutdown().await;
    let started = Embedded::start(options(disk.0.path(), &Credentials::random())).await;
    let refused = started.unwrap_err();
    assert_eq!(refused.kind(), "read-only", "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_server_at_a_time() {
    let serving = serve().await;
    let options = options(serving.directory.path(), &Credentials::random());
    let second = Embedded::start(options.clone()).await.unwrap_err();
    assert_eq!(second.kind(), "in-use", "{second}");
    serving.server.shutdown().await;
    Embedded::start(options).await.unwrap().shutdown().await;
    let mut nowhere = self::options(Path::new("/dev/null/x"), &Credentials::random());
    assert_eq!(
        Embedded::start(nowhere.clone()).await.unwrap_err().kind(),
        "other"
    );
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    nowhere.directory = serving.directory.path().join("new");
    nowhere.listen = taken.local_addr().unwrap();
    let error = Embedded::start(nowhere).await.unwrap_err();
    assert!(error.to_string().contains("in use"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_file_is_an_error_and_not_an_object() {
    let serving = serve().await;
    let store = serving.store().await;
    for key in ["good", "cut"] {
        store.put_bytes(key, noise(1000, 1), "a/b").await.unwrap();
    }
    let directory = serving.directory.path().join("buckets").join(BUCKET);
    let url = store
        .presign_get("cut", Duration::from_secs(60))
        .await
        .unwrap();
    let paths: Vec<_> = std::fs::read_dir(&directory)
        .unwrap()
        .map(|e| e.unwrap().path())
        .collect();
    let cut = paths
        .iter()
        .find(|p| String::from_utf8_lossy(&std::fs::read(p).unwrap()).contains("\"cut\""))
        .unwrap();
    let bytes = std::fs::read(cut).unwrap();
    std::fs::write(cut, &bytes[..bytes.len() - 5]).unwrap();
    assert_eq!(raw("GET", &url, &[], b"").await.status, 500);
    std::fs::write(directory.join("stray"), b"stray").unwrap();
    let listed = store.list("").await.unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].key, "good");
    // Stored anew, it is whole again.
    store.put_bytes("cut", noise(1000, 1), "a/b").await.unwrap();
    assert_eq!(raw("GET", &url, &[], b"").await.status, 200);
}
