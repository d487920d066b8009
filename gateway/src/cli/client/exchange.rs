//! A whole exchange and how long it took, whatever its status: what a bench measures.

use super::{Client, whole};
use crate::cli::failed::Failed;
use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use std::time::Instant;

/// A request that can be sent many times.
#[derive(Debug, Clone)]
pub(in crate::cli) struct Exchange {
    /// Its method.
    pub(in crate::cli) method: Method,
    /// Path and query.
    pub(in crate::cli) path: String,
    /// Its headers.
    pub(in crate::cli) headers: HeaderMap,
    /// Its body.
    pub(in crate::cli) body: Bytes,
}

/// What came back.
#[derive(Debug)]
pub(in crate::cli) struct Exchanged {
    /// Its status.
    pub(in crate::cli) status: StatusCode,
    /// Its headers.
    pub(in crate::cli) headers: HeaderMap,
    /// All of its body.
    pub(in crate::cli) body: Bytes,
    /// Seconds from before the first byte was sent to the last byte of the answer.
    pub(in crate::cli) seconds: f64,
}

impl Exchange {
    /// A request without a body.
    pub(in crate::cli) fn get(path: &str) -> Self {
        Self {
            method: Method::GET,
            path: path.to_owned(),
            headers: HeaderMap::new(),
            body: Bytes::new(),
        }
    }
}

impl Client {
    /// Sends it and reads the whole answer.
    pub(in crate::cli) async fn exchange(&self, exchange: &Exchange) -> Result<Exchanged, Failed> {
        let body = exchange.body.clone();
        let mut request = self.request(exchange.method.clone(), &exchange.path, body.into())?;
        request.headers_mut().extend(exchange.headers.clone());
        let begun = Instant::now();
        let answer = self.send(request).await?;
        let (status, headers) = (answer.status(), answer.headers().clone());
        let body = whole(answer).await?;
        Ok(Exchanged {
            status,
            headers,
            body,
            seconds: begun.elapsed().as_secs_f64(),
        })
    }
}
