//! A gateway's HTTP as an asynchronous client: what every command is built on. Knows no terminal.

mod access;
mod address;
mod call;
mod exchange;
mod payload;
mod scale;
mod tokens;

pub(super) use access::Access;
pub(super) use address::Address;
pub(super) use call::{Call, Unwaited};
pub(super) use exchange::{Exchange, Exchanged};
pub(super) use payload::Payload;

use super::failed::Failed;
use crate::calls::{CallView, CallsPage};
use crate::failure::innermost;
use crate::function::FunctionObject;
use crate::history::{AccountRow, Measurement, ModelRecord};
use crate::http::{FunctionView, GatewayInfo, PredictView, RuntimeView, SecretView};
use crate::pods::PodView;
use bytes::Bytes;
use clap::Args;
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{self, Error};
use hyper_util::rt::TokioExecutor;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::time::Duration;
use stoic_protocol::Problem;

/// Longest time to connect.
const CONNECT: Duration = Duration::from_secs(10);
/// Longest time for everything that is no call.
const ANSWER: Duration = Duration::from_secs(60);
/// Largest answer that is no result.
const ANSWER_LIMIT: usize = 256 << 20;

/// The option that names a gateway.
#[derive(Debug, Clone, Args)]
pub(super) struct Gateway {
    /// URL of the gateway to talk to
    #[arg(
        long = "gateway",
        env = "STOIC_GATEWAY",
        value_name = "URL",
        default_value = "http://127.0.0.1:8080"
    )]
    pub(super) address: Address,
    #[command(flatten)]
    pub(super) access: Access,
}

impl Gateway {
    /// One that needs neither a token nor a certificate, as those of a command's own.
    pub(super) fn at(address: Address) -> Self {
        Self {
            address,
            access: Access::default(),
        }
    }
}

/// See the module.
#[derive(Debug, Clone)]
pub(super) struct Client {
    address: Address,
    transport: Transport,
    /// What each request shows.
    authorization: Option<HeaderValue>,
}

#[derive(Debug, Clone)]
enum Transport {
    Plain(legacy::Client<HttpConnector, Payload>),
    Tls(legacy::Client<HttpsConnector<HttpConnector>, Payload>),
}

impl Client {
    /// A client of this gateway; nothing is connected yet.
    pub(super) fn new(gateway: &Gateway) -> Result<Self, Failed> {
        let address = gateway.address.clone();
        let mut tcp = HttpConnector::new();
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(CONNECT));
        tcp.enforce_http(false);
        let builder = legacy::Client::builder(TokioExecutor::new());
        // Reading the system's certificates takes longer than most commands: only where needed.
        let transport = if address.secure() {
            let tls = HttpsConnectorBuilder::new()
                .with_tls_config(gateway.access.tls()?)
                .https_only()
                .enable_http1()
                .wrap_connector(tcp);
            Transport::Tls(builder.build(tls))
        } else {
            Transport::Plain(builder.build(tcp))
        };
        Ok(Self {
            address,
            transport,
            authorization: gateway.access.authorization()?,
        })
    }

    /// `GET /v1/info`.
    pub(super) async fn info(&self) -> Result<GatewayInfo, Failed> {
        self.get("/v1/info").await
    }

    /// Every function.
    pub(super) async fn functions(&self) -> Result<Vec<FunctionView>, Failed> {
        self.get("/v1/functions").await
    }

    /// One function.
    pub(super) async fn function(&self, name: &str) -> Result<FunctionView, Failed> {
        self.get(&format!("/v1/functions/{}", encoded(name))).await
    }

    /// Deploys the text of a `function.yaml`; also tells whether the function is new.
    pub(super) async fn deploy(&self, text: String) -> Result<(FunctionView, bool), Failed> {
        let mut request = self.request(Method::POST, "/v1/functions", Bytes::from(text).into())?;
        let yaml = HeaderValue::from_static("application/yaml");
        request.headers_mut().insert(header::CONTENT_TYPE, yaml);
        let answer = self.accepted(request).await?;
        let created = answer.status() == StatusCode::CREATED;
        Ok((read(answer).await?, created))
    }

    /// Puts a function in place of the one of its name.
    pub(super) async fn put(&self, object: &FunctionObject) -> Result<FunctionView, Failed> {
        let path = format!("/v1/functions/{}", encoded(&object.metadata.name));
        read(self.send_json(Method::PUT, &path, object).await?).await
    }

    /// Keeps so many pods of a function ready; what the gateway made of it.
    pub(super) async fn scale(
        &self,
        name: &str,
        replicas: u32,
        runtime: Option<&str>,
    ) -> Result<serde_json::Value, Failed> {
        let path = format!("/v1/functions/{}/scale", encoded(name));
        let mut scale = serde_json::json!({ "replicas": replicas });
        if let Some(runtime) = runtime {
            scale["runtime"] = runtime.into();
        }
        read(self.send_json(Method::POST, &path, &scale).await?).await
    }

    async fn send_json(
        &self,
        method: Method,
        path: &str,
        value: &impl Serialize,
    ) -> Result<Response<Incoming>, Failed> {
        let text = serde_json::to_vec(value)
            .map_err(|e| Failed::Input(format!("cannot write the request: {e}")))?;
        let mut request = self.request(method, path, Bytes::from(text).into())?;
        let json = HeaderValue::from_static("application/json");
        request.headers_mut().insert(header::CONTENT_TYPE, json);
        self.accepted(request).await
    }

    /// The names of the secrets.
    pub(super) async fn secrets(&self) -> Result<Vec<SecretView>, Failed> {
        self.get("/v1/secrets").await
    }

    /// Keeps a secret; one of the same name is in the way unless it is to be replaced.
    pub(super) async fn put_secret(
        &self,
        name: &str,
        bytes: Vec<u8>,
        replace: bool,
    ) -> Result<SecretView, Failed> {
        let question = if replace { "" } else { "?replace=false" };
        let path = format!("/v1/secrets/{}{question}", encoded(name));
        let request = self.request(Method::PUT, &path, Bytes::from(bytes).into())?;
        read(self.accepted(request).await?).await
    }

    /// Forgets a secret.
    pub(super) async fn remove_secret(&self, name: &str) -> Result<(), Failed> {
        let path = format!("/v1/secrets/{}", encoded(name));
        self.accepted(self.request(Method::DELETE, &path, Payload::Whole(None))?)
            .await
            .map(drop)
    }

    /// Removes a function and its pods.
    pub(super) async fn delete(&self, name: &str) -> Result<(), Failed> {
        let path = format!("/v1/functions/{}", encoded(name));
        self.accepted(self.request(Method::DELETE, &path, Payload::Whole(None))?)
            .await
            .map(drop)
    }

    /// What a batch would take on each runtime.
    pub(super) async fn predict(
        &self,
        name: &str,
        items: u64,
        bytes: u64,
        action: Option<&str>,
    ) -> Result<PredictView, Failed> {
        let mut question = vec![("items", items.to_string()), ("bytes", bytes.to_string())];
        question.extend(action.map(|action| ("action", action.to_owned())));
        self.ask_prediction(name, &question).await
    }

    /// The same, by the parameters of the query.
    pub(super) async fn ask_prediction(
        &self,
        name: &str,
        question: &[(&str, String)],
    ) -> Result<PredictView, Failed> {
        let mut query = form_urlencoded::Serializer::new(String::new());
        let query = query.extend_pairs(question).finish();
        self.get(&format!("/v1/functions/{}/predict?{query}", encoded(name)))
            .await
    }

    /// Published models of a function.
    pub(super) async fn models(&self, name: &str) -> Result<Vec<ModelRecord>, Failed> {
        self.get(&format!("/v1/functions/{}/models", encoded(name)))
            .await
    }

    /// Copies what pods of a function write to `to`, as it comes, until it ends.
    pub(super) async fn copy_logs(
        &self,
        name: &str,
        question: &[(&str, String)],
        to: &mut impl std::io::Write,
    ) -> Result<(), Failed> {
        let mut query = form_urlencoded::Serializer::new(String::new());
        let query = query.extend_pairs(question).finish();
        let path = format!("/v1/functions/{}/logs?{query}", encoded(name));
        let request = self.request(Method::GET, &path, Payload::Whole(None))?;
        let mut body = self.accepted(request).await?.into_body();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|e| Failed::Machine(format!("the answer broke off: {e}")))?;
            if let Ok(piece) = frame.into_data()
                && to.write_all(&piece).and_then(|()| to.flush()).is_err()
            {
                return Err(Failed::OutputClosed);
            }
        }
        Ok(())
    }

    /// Every runtime.
    pub(super) async fn runtimes(&self) -> Result<Vec<RuntimeView>, Failed> {
        self.get("/v1/runtimes").await
    }

    /// Every pod.
    pub(super) async fn pods(&self) -> Result<Vec<PodView>, Failed> {
        self.get("/v1/pods").await
    }

    /// The newest measurements, the newest first.
    pub(super) async fn measurements(
        &self,
        function: Option<&str>,
        runtime: Option<&str>,
        limit: u32,
    ) -> Result<Vec<Measurement>, Failed> {
        let mut query = form_urlencoded::Serializer::new(String::new());
        for (key, value) in [("function", function), ("runtime", runtime)] {
            if let Some(value) = value {
                query.append_pair(key, value);
            }
        }
        query.append_pair("limit", &limit.to_string());
        self.get(&format!("/v1/measurements?{}", query.finish()))
            .await
    }

    /// What races between edge and cloud saved and cost.
    pub(super) async fn account(&self) -> Result<Vec<AccountRow>, Failed> {
        self.get("/v1/account").await
    }

    /// Asynchronous calls, the newest first.
    pub(super) async fn calls(
        &self,
        function: Option<&str>,
        state: Option<&str>,
        limit: u32,
    ) -> Result<CallsPage, Failed> {
        let mut query = form_urlencoded::Serializer::new(String::new());
        for (key, value) in [("function", function), ("state", state)] {
            if let Some(value) = value {
                query.append_pair(key, value);
            }
        }
        query.append_pair("limit", &limit.to_string());
        self.get(&format!("/v1/calls?{}", query.finish())).await
    }

    /// One asynchronous call.
    pub(super) async fn one_call(&self, id: &str) -> Result<CallView, Failed> {
        self.get(&format!("/v1/calls/{}", encoded(id))).await
    }

    /// Cancels an asynchronous call.
    pub(super) async fn cancel_call(&self, id: &str) -> Result<CallView, Failed> {
        let path = format!("/v1/calls/{}", encoded(id));
        let request = self.request(Method::DELETE, &path, Payload::Whole(None))?;
        read(self.accepted(request).await?).await
    }

    /// Runs an asynchronous call again.
    pub(super) async fn retry_call(&self, id: &str) -> Result<CallView, Failed> {
        let path = format!("/v1/calls/{}/retry", encoded(id));
        let request = self.request(Method::POST, &path, Payload::Whole(None))?;
        read(self.accepted(request).await?).await
    }

    /// The result of an asynchronous call, as it comes.
    pub(super) async fn call_result(&self, id: &str) -> Result<Response<Incoming>, Failed> {
        let path = format!("/v1/calls/{}/result", encoded(id));
        self.accepted(self.request(Method::GET, &path, Payload::Whole(None))?)
            .await
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failed> {
        let request = self.request(Method::GET, path, Payload::Whole(None))?;
        let answer = async { read(self.accepted(request).await?).await };
        tokio::time::timeout(ANSWER, answer)
            .await
            .unwrap_or_else(|_| {
                Err(Failed::Machine(format!(
                    "{} did not answer within {} s",
                    self.address,
                    ANSWER.as_secs()
                )))
            })
    }

    fn uri(&self, path: &str) -> Result<Uri, Failed> {
        self.address
            .join(path)
            .map_err(|e| Failed::Input(format!("`{path}` is no path: {e}")))
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        body: Payload,
    ) -> Result<Request<Payload>, Failed> {
        let mut request = Request::new(body);
        *request.method_mut() = method;
        *request.uri_mut() = self.uri(path)?;
        Ok(request)
    }

    /// Sends a request; an answer that is no success is a failure.
    async fn accepted(&self, request: Request<Payload>) -> Result<Response<Incoming>, Failed> {
        let answer = self.send(request).await?;
        if answer.status().is_success() {
            return Ok(answer);
        }
        Err(refusal(answer).await)
    }

    async fn send(&self, mut request: Request<Payload>) -> Result<Response<Incoming>, Failed> {
        if let Some(value) = &self.authorization {
            let headers = request.headers_mut();
            headers.insert(stoic_protocol::headers::TOKEN, value.clone());
        }
        let answered = match &self.transport {
            Transport::Plain(client) => client.request(request).await,
            Transport::Tls(client) => client.request(request).await,
        };
        answered.map_err(|error| self.explain(&error))
    }

    fn explain(&self, error: &Error) -> Failed {
        let cause = innermost(error);
        if error.is_connect() {
            Failed::Unreachable {
                gateway: self.address.to_string(),
                cause,
            }
        } else {
            Failed::Machine(format!(
                "the connection to {} broke off: {cause}",
                self.address
            ))
        }
    }
}

/// A segment of a path.
fn encoded(text: &str) -> String {
    const PLAIN: percent_encoding::AsciiSet =
        NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.');
    utf8_percent_encode(text, &PLAIN).to_string()
}

/// What an answer that is no success says.
pub(super) async fn refusal(answer: Response<Incoming>) -> Failed {
    let status = answer.status();
    let retry_after_s = answer
        .headers()
        .get(header::RETRY_AFTER)
        .and_then(|value| value.to_str().ok()?.parse().ok());
    let body = match whole(answer).await {
        Ok(body) => body,
        Err(failed) => return failed,
    };
    match serde_json::from_slice::<Problem>(&body) {
        Ok(problem) => Failed::Problem {
            problem: Box::new(problem),
            retry_after_s,
        },
        Err(_) => Failed::Answer {
            status: status.as_u16(),
            text: format!(
                "what answers there is no STOIC gateway: it said {status}: {}",
                String::from_utf8_lossy(&body[..body.len().min(200)]).trim()
            ),
        },
    }
}

async fn whole(answer: Response<Incoming>) -> Result<Bytes, Failed> {
    match Limited::new(answer.into_body(), ANSWER_LIMIT)
        .collect()
        .await
    {
        Ok(body) => Ok(body.to_bytes()),
        Err(e) => Err(Failed::Machine(format!("the answer broke off: {e}"))),
    }
}

async fn read<T: DeserializeOwned>(answer: Response<Incoming>) -> Result<T, Failed> {
    let body = whole(answer).await?;
    serde_json::from_slice(&body).map_err(|e| {
        Failed::Machine(format!(
            "what answers there is no STOIC gateway of this version: {e}"
        ))
    })
}
