//! How many pods are kept ready, and the end of one: what brings a function to a known state before a measurement.

use super::{Client, encoded};
use crate::cli::failed::Failed;
use bytes::Bytes;
use http::{HeaderValue, Method, header};
use serde_json::{Value, json};

impl Client {
    /// Keeps so many pods of a function ready on a runtime, until it is deployed anew; 0 ends the idle ones.
    pub(in crate::cli) async fn hold(
        &self,
        function: &str,
        runtime: &str,
        replicas: u32,
    ) -> Result<(), Failed> {
        let path = format!("/v1/functions/{}/scale", encoded(function));
        let text = json!({"replicas": replicas, "runtime": runtime}).to_string();
        let mut request = self.request(Method::POST, &path, Bytes::from(text).into())?;
        let kind = HeaderValue::from_static("application/json");
        request.headers_mut().insert(header::CONTENT_TYPE, kind);
        self.accepted(request).await.map(drop)
    }

    /// Ends a pod, in order.
    pub(in crate::cli) async fn end_pod(&self, pod: &str) -> Result<(), Failed> {
        let path = format!("/v1/pods/{}", encoded(pod));
        let request = self.request(Method::DELETE, &path, Bytes::new().into())?;
        self.accepted(request).await.map(drop)
    }

    /// The pods as they are listed, with whatever a newer gateway says of them.
    pub(in crate::cli) async fn listed_pods(&self) -> Result<Vec<Value>, Failed> {
        self.get("/v1/pods").await
    }
}
