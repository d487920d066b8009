//! The `stoic-runtime` binary as a pod: serves TorchScript made here by tracing, and answers whatever
//! comes in.

#![allow(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

use std::io::{Cursor, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use stoic_runtime::tch::{CModule, Device, Kind, Tensor};

/// A classifier of four classes over images of any size: the sum of red, green, blue, and of all.
fn script(folder: &Path) -> std::path::PathBuf {
    let path = folder.join("colours.pt");
    let input = Tensor::zeros([1, 3, 32, 32], (Kind::Float, Device::Cpu));
    let mut net = |inputs: &[Tensor]| {
        let means = inputs[0].mean_dim([2i64, 3].as_slice(), false, Kind::Float);
        let all = means.mean_dim([1i64].as_slice(), true, Kind::Float);
        vec![Tensor::cat(&[means, all], 1)]
    };
    CModule::create_by_tracing("Colours", "forward", &[input], &mut net)
        .unwrap()
        .save(&path)
        .unwrap();
    let settings = r#"{"size": [32, 32], "mean": [0, 0, 0], "scale": [0.1, 0.1, 0.1], "top": 2,
                       "classes": ["red", "green", "blue", "grey"]}"#;
    std::fs::write(folder.join("colours.json"), settings).unwrap();
    path
}

struct Pod {
    child: Child,
    port: u16,
}

impl Drop for Pod {
    fn drop(&mut self) {
        // Gone already is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn command(model: &Path, port: u16) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stoic-runtime"));
    command
        .arg(model)
        // Found by the rpath of the build, as for a user.
        .env_remove("LD_LIBRARY_PATH")
        .env("PORT", port.to_string())
        .env("STOIC_HOST", "127.0.0.1")
        .env("STOIC_THREADS", "2")
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    command
}

impl Pod {
    fn start(model: &Path) -> Self {
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let child = command(model, port)
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let pod = Self { child, port };
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            if TcpStream::connect(("127.0.0.1", port)).is_ok()
                && pod.send("GET", "/healthz", "", b"").0 == 200
            {
                return pod;
            }
            assert!(Instant::now() < deadline, "the pod is not ready after 60 s");
            std::thread::sleep(Duration::from_millis(30));
        }
    }

    fn send(&self, verb: &str, path: &str, content_type: &str, body: &[u8]) -> (u16, String) {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        let head = format!(
            "{verb} {path} HTTP/1.1\r\nhost: pod\r\nconnection: close\r\ncontent-type: {content_type}\r\n\
             content-length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        // The pod may answer and close before it has read all of a body it refuses.
        let _ = stream.write_all(body);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let status = answer
            .split(' ')
            .nth(1)
            .and_then(|s| s.parse().ok())
            .unwrap_or(0);
        let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        (status, body.to_owned())
    }
}

fn png(colour: [u8; 3]) -> Vec<u8> {
    let picture = image::RgbImage::from_pixel(64, 48, image::Rgb(colour));
    let mut bytes = Cursor::new(Vec::new());
    picture
        .write_to(&mut bytes, image::ImageFormat::Png)
        .unwrap();
    bytes.into_inner()
}

fn zip(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let options =
        zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    for (name, bytes) in files {
        writer.start_file(*name, options).unwrap();
        writer.write_all(bytes).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

#[test]
fn serves_torchscript_and_lives_through_anything() {
    let folder = tempfile::tempdir().unwrap();
    let pod = Pod::start(&script(folder.path()));

    let (status, body) = pod.send("POST", "/", "image/png", &png([200, 10, 10]));
    assert_eq!(status, 200, "{body}");
    let answer: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(answer["items"][0]["classes"][0]["label"], "red");
    assert_eq!(answer["items"][0]["classes"].as_array().unwrap().len(), 2);

    let (green, blue) = (png([0, 250, 9]), png([5, 5, 220]));
    let package = zip(&[
        ("a.png", &green),
        ("broken.png", &green[..40]),
        ("b.png", &blue),
        ("notes.txt", b"no image"),
    ]);
    let (status, body) = pod.send("POST", "/", "application/zip", &package);
    assert_eq!(status, 200, "{body}");
    let answer: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(answer["items"][0]["classes"][0]["label"], "green");
    assert_eq!(answer["items"][1]["error"]["code"], "item_corrupt");
    assert_eq!(answer["items"][2]["classes"][0]["label"], "blue");
    assert!(answer["items"][3]["error"]["code"].is_string());

    let numbers = br#"{"shape": [1, 3, 1, 2], "data": [1, 3, 10, 10, 0, 0]}"#;
    let (status, body) = pod.send("POST", "/", "application/json", numbers);
    assert_eq!(status, 200, "{body}");
    let answer: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(
        answer["outputs"][0]["data"],
        serde_json::json!([2.0, 10.0, 0.0, 4.0])
    );
    let raw: Vec<u8> = [1f32; 12].iter().flat_map(|v| v.to_le_bytes()).collect();
    let (status, body) = pod.send("POST", "/?shape=1,3,2,2", "application/octet-stream", &raw);
    assert_eq!(status, 200, "{body}");

    // Noise from a fixed generator, under every type: an answer each time, never the end of the pod.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for round in 0..60usize {
        let noise: Vec<u8> = (0..round * 37)
            .map(|_| {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                (state >> 33) as u8
            })
            .collect();
        let types = [
            "application/json",
            "application/octet-stream",
            "image/png",
            "application/zip",
            "image/jpeg",
            "text/plain",
        ];
        let path = [
            "/",
            "/?shape=1,3,2,2",
            "/?shape=-1",
            "/?shape=4611686018427387904,4",
        ][round % 4];
        let (status, body) = pod.send("POST", path, types[round % 6], &noise);
        // A broken image alone is an item with an error; all else is refused.
        assert!(matches!(status, 200 | 400 | 413 | 415), "{status} {body}");
    }
    for bad in [
        &br#"{"shape": [2, 2], "data": [1, 2, 3, 4]}"#[..],
        br#"{"shape": [1, 3, 9], "data": [1]}"#,
        br#"{"shape": [], "data": []}"#,
        br#"{"shape": [1e30], "data": []}"#,
    ] {
        let (status, body) = pod.send("POST", "/", "application/json", bad);
        assert_eq!(status, 400, "{body}");
        assert!(body.contains("\"code\""), "{body}");
    }
    assert_eq!(pod.send("GET", "/healthz", "", b"").0, 200);
    let (_, report) = pod.send("GET", "/_stoic/report", "", b"");
    assert!(
        report.contains("\"cpu\"") && report.contains("fp32"),
        "{report}"
    );
    let (_, metrics) = pod.send("GET", "/metrics", "", b"");
    assert!(
        metrics.contains("stoic_pod_compute{device=\"cpu\""),
        "{metrics}"
    );
}

#[test]
fn a_bad_model_ends_the_start_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bad.pt");
    let truncated = std::fs::read(script(folder.path())).unwrap();
    for bytes in [
        &b""[..],
        b"PK\x03\x04 no zip",
        b"not a model at all",
        &truncated[..truncated.len() / 2],
    ] {
        std::fs::write(&file, bytes).unwrap();
        let output = command(&file, 0).stdout(Stdio::piped()).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned()
            + &String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.contains("bad.pt"), "{text}");
    }
}
