//! A real pod process, requests to it over plain sockets, and a small store with ranges to fetch from.
#![allow(dead_code, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used)]

pub(crate) mod store;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Longest that anything here may take.
const LIMIT: Duration = Duration::from_secs(20);

/// A pod; its process ends with this.
pub(crate) struct Pod {
    child: Child,
    pub(crate) address: SocketAddr,
    log: Arc<Mutex<String>>,
}

impl Drop for Pod {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Pod {
    /// Starts a program and waits until it is ready.
    pub(crate) fn start(program: impl AsRef<Path>, env: &[(&str, &str)]) -> Self {
        let pod = Self::start_only(program, env);
        pod.until("ready", || pod.get("/healthz").status == 200);
        pod
    }

    /// Starts a program and waits until it listens, on a port that the system chose.
    pub(crate) fn start_only(program: impl AsRef<Path>, env: &[(&str, &str)]) -> Self {
        let mut child = command(program, env).spawn().unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let lines = follow(&mut child, Arc::clone(&log));
        let address = loop {
            let line = lines.recv_timeout(LIMIT).unwrap();
            if let Some(at) = line.find("address=") {
                break line[at + 8..].trim().parse().unwrap();
            }
        };
        Self {
            child,
            address,
            log,
        }
    }

    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Waits for something to become true, in steps of a millisecond.
    pub(crate) fn until(&self, what: &str, mut holds: impl FnMut() -> bool) {
        let began = Instant::now();
        while !holds() {
            assert!(began.elapsed() < LIMIT, "not {what}: {}", self.log());
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream
    }

    /// Sends bytes on a connection of their own and reads one answer.
    pub(crate) fn raw(&self, bytes: &[u8]) -> Option<Answer> {
        let mut stream = self.connect();
        // The pod may have closed already.
        let _ = stream.write_all(bytes);
        Answer::read(&mut BufReader::new(stream))
    }

    pub(crate) fn send(&self, verb: &str, path: &str, headers: &str, body: &[u8]) -> Answer {
        self.raw(&request(verb, path, headers, body)).unwrap()
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.send("GET", path, "", b"")
    }

    pub(crate) fn batch(&self, accept: &str, body: &str) -> Answer {
        self.raw(&batch_request(accept, body)).unwrap()
    }

    /// A value of `/metrics`.
    pub(crate) fn metric(&self, name: &str) -> f64 {
        let text = self.get("/metrics").text();
        let line = text
            .lines()
            .find(|line| line.split(' ').next() == Some(name));
        line.unwrap().rsplit(' ').next().unwrap().parse().unwrap()
    }

    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        // The shell's own: a plain Debian has no `kill` of its own.
        let kill = format!("kill {name} {pid}");
        let sent = Command::new("sh").args(["-c", &kill]).status().unwrap();
        assert!(sent.success());
    }

    pub(crate) fn wait(&mut self) -> ExitStatus {
        wait(&mut self.child)
    }

    pub(crate) fn lives(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }
}

fn command(program: impl AsRef<Path>, env: &[(&str, &str)]) -> Command {
    let mut command = Command::new(program.as_ref());
    command
        .env_clear()
        .env("PORT", "0")
        .env("STOIC_HOST", "127.0.0.1")
        .envs(env.iter().copied())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    command
}

fn follow(child: &mut Child, log: Arc<Mutex<String>>) -> Receiver<String> {
    let (sender, lines) = channel();
    let stderr = child.stderr.take().unwrap();
    std::thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            log.lock().unwrap().push_str(&format!("{line}\n"));
            let _ = sender.send(line);
        }
    });
    lines
}

fn wait(child: &mut Child) -> ExitStatus {
    let began = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        assert!(began.elapsed() < LIMIT, "the pod did not end");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Runs a program that is to end by itself: its status and log.
pub(crate) fn run_to_end(program: impl AsRef<Path>, env: &[(&str, &str)]) -> (ExitStatus, String) {
    let mut child = command(program, env).spawn().unwrap();
    let mut stderr = child.stderr.take().unwrap();
    let status = wait(&mut child);
    let mut log = String::new();
    stderr.read_to_string(&mut log).unwrap();
    (status, log)
}

pub(crate) fn request(verb: &str, path: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let mut bytes = format!(
        "{verb} {path} HTTP/1.1\r\nhost: pod\r\ncontent-length: {}\r\n{headers}\r\n",
        body.len()
    )
    .into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

pub(crate) fn batch_request(accept: &str, body: &str) -> Vec<u8> {
    let headers = format!("content-type: application/vnd.stoic.batch+json\r\naccept: {accept}\r\n");
    request("POST", "/", &headers, body.as_bytes())
}

/// An answer, read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// Reads a head; the body is left.
    pub(crate) fn read_head(stream: &mut impl BufRead) -> Option<Self> {
        let mut head = String::new();
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line).ok()? == 0 {
                return None;
            }
            if line == "\r\n" {
                break;
            }
            head.push_str(&line);
        }
        Some(Self {
            status: head.split(' ').nth(1)?.parse().ok()?,
            head: head.to_ascii_lowercase(),
            body: Vec::new(),
        })
    }

    /// Reads a whole answer; none where the connection closed before its end.
    pub(crate) fn read(stream: &mut impl BufRead) -> Option<Self> {
        let mut answer = Self::read_head(stream)?;
        if answer.head.contains("transfer-encoding: chunked") {
            while let Some(chunk) = read_chunk(stream)? {
                answer.body.extend_from_slice(&chunk);
            }
        } else if let Some(length) = answer.header("content-length") {
            answer.body = vec![0; length.parse().ok()?];
            stream.read_exact(&mut answer.body).ok()?;
        }
        Some(answer)
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// The lines of a stream, each parsed.
    pub(crate) fn lines(&self) -> Vec<serde_json::Value> {
        let lines = self.text();
        lines
            .lines()
            .map(|l| serde_json::from_str(l).unwrap())
            .collect()
    }

    pub(crate) fn code(&self) -> String {
        assert!(self.head.contains("application/problem+json"), "{self:?}");
        self.json()["code"].as_str().unwrap().to_owned()
    }
}

/// One chunk of a chunked body; `Some(None)` at its end, `None` where the connection broke.
pub(crate) fn read_chunk(stream: &mut impl BufRead) -> Option<Option<Vec<u8>>> {
    let mut size = String::new();
    stream.read_line(&mut size).ok()?;
    let size = usize::from_str_radix(size.trim(), 16).ok()?;
    let mut chunk = vec![0; size + 2];
    stream.read_exact(&mut chunk).ok()?;
    chunk.truncate(size);
    Some((size > 0).then_some(chunk))
}
