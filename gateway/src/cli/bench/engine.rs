//! A container engine by its own HTTP, without a client library: the floor that a gateway on it is held against.

use crate::cli::failed::Failed;
use bytes::Bytes;
use http::{Method, Request, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

/// Where an engine is when nothing says otherwise.
const SOCKET: &str = "/var/run/docker.sock";
/// Longest time for one of its answers.
const ANSWER: Duration = Duration::from_secs(60);
/// Largest answer.
const LIMIT: usize = 16 << 20;
/// Marks the containers of a bench.
const LABEL: &str = "stoic.bench";

/// See the module.
#[derive(Debug, Clone)]
pub(super) enum Engine {
    /// Over a socket of this machine.
    Unix(PathBuf),
    /// Over TCP.
    Tcp(String),
}

impl Engine {
    /// The engine that `DOCKER_HOST` names, else that of this machine. `None` where none is.
    pub(super) fn find() -> Option<Self> {
        match std::env::var("DOCKER_HOST").ok().filter(|v| !v.is_empty()) {
            Some(host) => {
                if let Some(path) = host.strip_prefix("unix://") {
                    return Some(Self::Unix(path.into()));
                }
                host.strip_prefix("tcp://")
                    .or_else(|| host.strip_prefix("http://"))
                    .map(|address| Self::Tcp(address.trim_end_matches('/').to_owned()))
            }
            None => Some(Self::Unix(SOCKET.into())).filter(|_| PathBuf::from(SOCKET).exists()),
        }
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Result<(u16, Value), Failed> {
        let asked = async {
            match self {
                Self::Unix(socket) => {
                    let stream = UnixStream::connect(socket)
                        .await
                        .map_err(|e| Failed::io(socket.display(), &e))?;
                    exchange(stream, "localhost", method, path, body).await
                }
                Self::Tcp(address) => {
                    let stream = TcpStream::connect(address)
                        .await
                        .map_err(|e| Failed::io(address, &e))?;
                    exchange(stream, address, method, path, body).await
                }
            }
        };
        tokio::time::timeout(ANSWER, asked)
            .await
            .unwrap_or_else(|_| {
                Err(Failed::Machine(format!(
                    "the container engine did not answer {path} within {} s",
                    ANSWER.as_secs()
                )))
            })
    }

    async fn done(&self, method: Method, path: &str, body: Option<Value>) -> Result<Value, Failed> {
        let (status, value) = self.ask(method, path, body).await?;
        if (200..400).contains(&status) {
            return Ok(value);
        }
        let said = value["message"].as_str().unwrap_or("no reason given");
        Err(Failed::Machine(format!(
            "the container engine answered {status} to {path}: {said}"
        )))
    }

    /// Version, API and storage driver in one line.
    pub(super) async fn version(&self) -> Result<String, Failed> {
        let version = self.done(Method::GET, "/version", None).await?;
        let info = self.done(Method::GET, "/info", None).await?;
        let text = |value: &Value| value.as_str().unwrap_or("?").to_owned();
        Ok(format!(
            "{} {}, API {}, {}, cgroup v{}",
            version["Platform"]["Name"]
                .as_str()
                .filter(|name| !name.is_empty())
                .unwrap_or("engine"),
            text(&version["Version"]),
            text(&version["ApiVersion"]),
            text(&info["Driver"]),
            info["CgroupVersion"].as_str().unwrap_or("1"),
        ))
    }

    /// Whether an image is there.
    pub(super) async fn has(&self, image: &str) -> Result<bool, Failed> {
        let path = format!("/images/{image}/json");
        Ok(self.ask(Method::GET, &path, None).await?.0 == 200)
    }

    /// Makes a container with this name, environment and arguments; default network, no limits.
    pub(super) async fn create(&self, name: &str, container: &Container) -> Result<(), Failed> {
        let env: Vec<String> = container
            .env
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        let mut body = json!({
            "Image": container.image,
            "Env": env,
            "Labels": {LABEL: std::process::id().to_string()},
        });
        if !container.args.is_empty() {
            body["Cmd"] = json!(container.args);
        }
        let path = format!("/containers/create?name={name}");
        self.done(Method::POST, &path, Some(body)).await.map(drop)
    }

    /// Starts it.
    pub(super) async fn start(&self, name: &str) -> Result<(), Failed> {
        let path = format!("/containers/{name}/start");
        self.done(Method::POST, &path, None).await.map(drop)
    }

    /// Its address on the engine's network.
    pub(super) async fn address(&self, name: &str) -> Result<String, Failed> {
        let path = format!("/containers/{name}/json");
        let about = self.done(Method::GET, &path, None).await?;
        let network = &about["NetworkSettings"];
        let first = network["IPAddress"].as_str().filter(|ip| !ip.is_empty());
        let other = || {
            let mut all = network["Networks"].as_object()?.values();
            all.find_map(|one| one["IPAddress"].as_str().filter(|ip| !ip.is_empty()))
        };
        first.or_else(other).map(str::to_owned).ok_or_else(|| {
            Failed::Machine(format!(
                "container {name} has no address: {}",
                about["State"]["Error"].as_str().unwrap_or_default()
            ))
        })
    }

    /// Ends and removes it, running or not; absent is good as well.
    pub(super) async fn remove(&self, name: &str) -> Result<(), Failed> {
        let path = format!("/containers/{name}?force=true&v=true");
        let (status, _) = self.ask(Method::DELETE, &path, None).await?;
        if status == 404 || status == 409 || (200..300).contains(&status) {
            return Ok(());
        }
        Err(Failed::Machine(format!(
            "the container engine answered {status} to the removal of {name}"
        )))
    }
}

/// What a container is made of.
#[derive(Debug, Clone)]
pub(super) struct Container {
    /// Its image.
    pub(super) image: String,
    /// Its environment.
    pub(super) env: Vec<(String, String)>,
    /// Arguments instead of the image's.
    pub(super) args: Vec<String>,
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    host: &str,
    method: Method,
    path: &str,
    body: Option<Value>,
) -> Result<(u16, Value), Failed> {
    let broke = |error: &dyn std::fmt::Display| {
        Failed::Machine(format!(
            "the connection to the container engine broke: {error}"
        ))
    };
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|e| broke(&e))?;
    let connection = tokio::spawn(connection);
    let text = body.map(|body| body.to_string()).unwrap_or_default();
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, host)
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from(text)))
        .map_err(|e| Failed::Machine(format!("`{path}` is no path of an engine: {e}")))?;
    let answer = sender.send_request(request).await.map_err(|e| broke(&e))?;
    let status = answer.status().as_u16();
    let body = Limited::new(answer.into_body(), LIMIT)
        .collect()
        .await
        .map_err(|e| broke(&e))?
        .to_bytes();
    connection.abort();
    Ok((status, serde_json::from_slice(&body).unwrap_or(Value::Null)))
}
