//! A server process of its own, to kill in the middle of its work and to measure. The process is
//! this test program again, running the one test that is ignored otherwise.

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use stoic_store::{Credentials, Embedded, Store, StoreOptions};

use crate::serving::{BUCKET, noise, options};

const DIRECTORY: &str = "STOIC_STORE_TEST_DIRECTORY";
const ACCESS: &str = "STOIC_STORE_TEST_ACCESS";
const SECRET: &str = "STOIC_STORE_TEST_SECRET";
const READY: &str = "ready at ";

struct Server {
    child: Child,
    endpoint: String,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(test: &str, directory: &Path, credentials: &Credentials) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args([
            test,
            "--exact",
            "--ignored",
            "--nocapture",
            "--test-threads=1",
        ])
        .env(DIRECTORY, directory)
        .env(ACCESS, credentials.access_key())
        .env(SECRET, credentials.secret_key())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

fn start(directory: &Path, credentials: &Credentials) -> Server {
    let mut child = spawn("crash::child_server", directory, credentials);
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let endpoint = lines
        .map_while(Result::ok)
        .find_map(|l| l.split_once(READY).map(|(_, e)| e.to_owned()))
        .unwrap();
    Server { child, endpoint }
}

fn child_options() -> Option<(std::path::PathBuf, Credentials)> {
    let directory = std::env::var_os(DIRECTORY)?;
    let keys = Credentials::new(std::env::var(ACCESS).ok()?, std::env::var(SECRET).ok()?);
    Some((directory.into(), keys))
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "the server process that the other tests start"]
async fn child_server() {
    let Some((directory, credentials)) = child_options() else {
        return;
    };
    let server = Embedded::start(options(&directory, &credentials))
        .await
        .unwrap();
    println!("\n{READY}{}", server.endpoint());
    // Killed, or orphaned by a test that failed.
    tokio::time::sleep(Duration::from_secs(120)).await;
}

/// An object that tells what it must be: the seed and length come first.
fn stamped(seed: u64) -> Bytes {
    let length = match seed % 5 {
        0 => 100,
        1 => 300_000,
        2 => 1_000_000,
        3 => 40_000,
        _ => 9_000_000,
    };
    let mut bytes = noise(length, seed).to_vec();
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    bytes.into()
}

fn seed_of(bytes: &Bytes) -> u64 {
    u64::from_le_bytes(bytes[..8].try_into().unwrap())
}

async fn connect(endpoint: &str, credentials: &Credentials) -> Store {
    Store::connect(StoreOptions::embedded(
        endpoint,
        BUCKET,
        credentials.clone(),
    ))
    .await
    .unwrap()
}

/// Writes until the server is gone, and notes what was acknowledged.
async fn write(store: Store, writer: u64, round: u64, done: Arc<Mutex<HashMap<String, u64>>>) {
    for step in 0.. {
        let seed = (round * 8 + writer) * 1_000_000 + step;
        // One key in three is written again and again.
        let key = match step % 3 {
            0 => format!("hot/{writer}"),
            _ => format!("in/{round}/{writer}/{step}"),
        };
        let body = stamped(seed);
        let put = if step % 2 == 0 {
            store.put_bytes(&key, body, "a/b").await.map(|_| ())
        } else {
            let chunks = stream::iter((0..body.len()).step_by(50_000)).map(move |at| {
                Ok::<_, std::io::Error>(body.slice(at..body.len().min(at + 50_000)))
            });
            store
                .put_stream(&key, chunks, None, "a/b", 1 << 30)
                .await
                .map(|_| ())
        };
        match put {
            Ok(()) => done.lock().unwrap().insert(key, seed),
            Err(_) => return,
        };
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_in_mid_write_it_loses_nothing_acknowledged() {
    let directory = tempfile::tempdir().unwrap();
    let credentials = Credentials::random();
    let acknowledged = Arc::new(Mutex::new(HashMap::new()));
    let mut caught_writing = 0;
    for round in 0..6 {
        let mut server = start(directory.path(), &credentials);
        let store = connect(&server.endpoint, &credentials).await;
        let writers: Vec<_> = (0..6)
            .map(|w| tokio::spawn(write(store.clone(), w, round, Arc::clone(&acknowledged))))
            .collect();
        tokio::time::sleep(Duration::from_millis(300 + 137 * round)).await;
        server.child.kill().unwrap();
        server.child.wait().unwrap();
        for writer in writers {
            writer.abort();
        }
        let temporary = directory.path().join("temporary");
        caught_writing += std::fs::read_dir(&temporary).unwrap().count();

        let server = start(directory.path(), &credentials);
        assert_eq!(std::fs::read_dir(&temporary).unwrap().count(), 0);
        let store = connect(&server.endpoint, &credentials).await;
        let acknowledged = acknowledged.lock().unwrap().clone();
        let listed = store.list("").await.unwrap();
        for key in acknowledged.keys() {
            assert!(listed.iter().any(|o| o.key == *key), "lost {key}");
        }
        for object in &listed {
            let body = store
                .get(&object.key)
                .await
                .unwrap()
                .body
                .collect(1 << 30)
                .await
                .unwrap();
            let seed = seed_of(&body);
            assert!(body == stamped(seed), "{} is not whole", object.key);
            // What came after the acknowledged version may be there, what came before may not.
            if let Some(known) = acknowledged.get(&object.key) {
                assert!(seed >= *known, "{} went back", object.key);
            }
        }
    }
    let kept = acknowledged.lock().unwrap().len();
    println!("{kept} objects acknowledged, {caught_writing} writes cut off");
    assert!(kept > 20 && caught_writing > 0);
}

/// Reads a field of this process's status, in KiB.
fn status_kib(field: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|l| l.starts_with(field)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// `count` chunks of 64 KiB, made as they are asked for.
fn endless(count: usize) -> impl futures_util::Stream<Item = Result<Bytes, std::io::Error>> + Send {
    stream::iter(0..count).map(|i| Ok(noise(65_536, i as u64)))
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "the measured process that another test starts"]
async fn child_memory() {
    let Some((directory, credentials)) = child_options() else {
        return;
    };
    let server = Embedded::start(options(&directory, &credentials))
        .await
        .unwrap();
    let store = connect(&server.endpoint(), &credentials).await;
    let small = endless(1);
    store
        .put_stream("warm", small, None, "a/b", 1 << 30)
        .await
        .unwrap();
    let _ = store
        .get("warm")
        .await
        .unwrap()
        .body
        .collect(1 << 20)
        .await
        .unwrap();
    let count = 610; // 40 MB
    let before = status_kib("VmHWM");
    for key in ["a", "b"] {
        let length = Some(count as u64 * 65_536);
        store
            .put_stream(key, endless(count), length, "a/b", 1 << 30)
            .await
            .unwrap();
        let mut body = store.get(key).await.unwrap().body;
        while let Some(chunk) = body.next().await {
            chunk.unwrap();
        }
    }
    let known = status_kib("VmHWM") - before;
    store
        .put_stream("c", endless(count), None, "a/b", 1 << 30)
        .await
        .unwrap();
    let unknown = status_kib("VmHWM") - before;
    println!("\ngrowth {known} {unknown}");
}

#[test]
fn forty_megabytes_are_never_held_in_memory() {
    let directory = tempfile::tempdir().unwrap();
    let child = spawn(
        "crash::child_memory",
        directory.path(),
        &Credentials::random(),
    );
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = text
        .lines()
        .find_map(|l| l.strip_prefix("growth "))
        .expect("the child measured");
    let growth: Vec<u64> = line.split(' ').map(|n| n.parse().unwrap()).collect();
    println!(
        "peak memory grew by {} KiB streamed, {} KiB with parts",
        growth[0], growth[1]
    );
    // Client and server are in that one process, as they are in the gateway.
    assert!(growth[0] < 16 * 1024, "{growth:?}");
    assert!(growth[1] < 24 * 1024, "{growth:?}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "prints figures; run in release"]
async fn throughput() {
    let serving = crate::serving::serve().await;
    let store = serving.store().await;
    let chunk = noise(65_536, 1);
    let count = 1600;
    let megabytes = (count * 65_536) as f64 / 1e6;
    for known in [true, false] {
        let mut times = Vec::new();
        for _ in 0..7 {
            let chunk = chunk.clone();
            let body = stream::iter(0..count).map(move |_| Ok::<_, std::io::Error>(chunk.clone()));
            let length = known.then_some(count as u64 * 65_536);
            let began = Instant::now();
            store
                .put_stream("k", body, length, "a/b", 1 << 30)
                .await
                .unwrap();
            times.push(began.elapsed().as_secs_f64());
        }
        times.sort_by(f64::total_cmp);
        println!(
            "put, length known {known}: {:.0} MB/s",
            megabytes / times[3]
        );
    }
    let url = store
        .presign_get("k", Duration::from_secs(600))
        .await
        .unwrap();
    let mut times = Vec::new();
    for _ in 0..7 {
        let began = Instant::now();
        let mut body = store.get("k").await.unwrap().body;
        while let Some(chunk) = body.next().await {
            chunk.unwrap();
        }
        times.push(began.elapsed().as_secs_f64());
    }
    times.sort_by(f64::total_cmp);
    println!("get: {:.0} MB/s", megabytes / times[3]);
    let began = Instant::now();
    let answer = crate::serving::raw("GET", &url, &[], b"").await;
    let seconds = began.elapsed().as_secs_f64();
    println!(
        "raw get: {:.0} MB/s",
        answer.body.len() as f64 / 1e6 / seconds
    );
    let mut small = Vec::new();
    for i in 0..200 {
        let began = Instant::now();
        store
            .put_bytes(&format!("s/{i}"), Bytes::from_static(b"x"), "a/b")
            .await
            .unwrap();
        small.push(began.elapsed().as_secs_f64());
    }
    small.sort_by(f64::total_cmp);
    println!("small put: {:.2} ms median", small[100] * 1e3);
}
