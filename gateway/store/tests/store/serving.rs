//! What the tests stand on: a server over a new directory, clients, and raw HTTP.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::{BehaviorVersion, Region};
use bytes::Bytes;
use stoic_store::{Credentials, Embedded, EmbeddedOptions, Store, StoreOptions};

pub(crate) const BUCKET: &str = "packages";

pub(crate) struct Serving {
    pub(crate) server: Embedded,
    pub(crate) credentials: Credentials,
    pub(crate) directory: tempfile::TempDir,
}

pub(crate) async fn serve() -> Serving {
    serve_with(|_| {}).await
}

pub(crate) async fn serve_with(change: impl FnOnce(&mut EmbeddedOptions)) -> Serving {
    let directory = tempfile::tempdir().unwrap();
    let credentials = Credentials::random();
    let mut options = options(directory.path(), &credentials);
    change(&mut options);
    let server = Embedded::start(options).await.unwrap();
    Serving {
        server,
        credentials,
        directory,
    }
}

pub(crate) fn options(directory: &Path, credentials: &Credentials) -> EmbeddedOptions {
    EmbeddedOptions::new(directory, ([127, 0, 0, 1], 0).into(), credentials.clone())
}

impl Serving {
    pub(crate) async fn store(&self) -> Store {
        self.store_of(BUCKET).await
    }

    pub(crate) async fn store_of(&self, bucket: &str) -> Store {
        let options =
            StoreOptions::embedded(self.server.endpoint(), bucket, self.credentials.clone());
        Store::connect(options).await.unwrap()
    }

    /// The official client, as any other program would use it.
    pub(crate) fn sdk(&self) -> Client {
        let keys = aws_sdk_s3::config::Credentials::new(
            self.credentials.access_key(),
            self.credentials.secret_key(),
            None,
            None,
            "test",
        );
        let config = aws_sdk_s3::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("us-east-1"))
            .credentials_provider(keys)
            .endpoint_url(self.server.endpoint())
            .force_path_style(true)
            .http_client(aws_smithy_http_client::Builder::new().build_http())
            .build();
        Client::from_conf(config)
    }

    /// The number of files under a folder of the store's directory.
    pub(crate) fn files(&self, folder: &str) -> usize {
        std::fs::read_dir(self.directory.path().join(folder))
            .unwrap()
            .count()
    }
}

/// Bytes that look random and are the same every time.
pub(crate) fn noise(length: usize, seed: u64) -> Bytes {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes.into()
}

/// An answer to raw HTTP.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

/// Sends one request to a URL, byte by byte as written, on a connection of its own.
pub(crate) async fn raw(method: &str, url: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
    let (host, target) = split(url);
    let mut request =
        format!("{method} {target} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n");
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    if !headers
        .iter()
        .any(|(n, _)| *n == "content-length" || *n == "transfer-encoding")
    {
        request.push_str(&format!("content-length: {}\r\n", body.len()));
    }
    request.push_str("\r\n");
    let mut bytes = request.into_bytes();
    bytes.extend_from_slice(body);
    let answer = exchange(&host, bytes).await;
    parse(&answer).unwrap_or_else(|| panic!("no HTTP answer to {method}"))
}

/// Sends bytes and reads until the server closes.
pub(crate) async fn exchange(host: &str, bytes: Vec<u8>) -> Vec<u8> {
    let host = host.to_owned();
    tokio::task::spawn_blocking(move || {
        let mut stream = TcpStream::connect(host).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        // The server may refuse and close before it has read everything.
        let _ = stream.write_all(&bytes);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        answer
    })
    .await
    .unwrap()
}

pub(crate) fn split(url: &str) -> (String, String) {
    let rest = url.strip_prefix("http://").unwrap();
    let (host, target) = rest.split_at(rest.find('/').unwrap());
    (host.to_owned(), target.to_owned())
}

fn parse(answer: &[u8]) -> Option<Answer> {
    let end = answer.windows(4).position(|w| w == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&answer[..end]).to_ascii_lowercase();
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some(Answer {
        status,
        head,
        body: answer[end + 4..].to_vec(),
    })
}
