//! The way to the cluster.

use crate::config::ControllerConfig;
use crate::failure::innermost;
use kube::config::KubeConfigOptions;
use kube::{Client, Config};
use std::time::Duration;

/// Longest wait for the API server to take a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A client of the cluster, and the namespace that is meant. Asks the cluster nothing yet.
///
/// # Errors
/// There is no kubeconfig that names a cluster, and this is no pod of one.
pub(crate) async fn connect(config: &ControllerConfig) -> anyhow::Result<(Client, String)> {
    let found = match &config.context {
        Some(context) => {
            let options = KubeConfigOptions {
                context: Some(context.clone()),
                ..KubeConfigOptions::default()
            };
            Config::from_kubeconfig(&options)
                .await
                .map_err(|error| error.to_string())
        }
        None => Config::infer().await.map_err(|error| error.to_string()),
    };
    let mut cluster = found.map_err(|error| {
        anyhow::anyhow!(
            "no Kubernetes cluster: {}; set KUBECONFIG, or leave the controller off",
            error.split_whitespace().collect::<Vec<_>>().join(" ")
        )
    })?;
    cluster.connect_timeout = Some(CONNECT_TIMEOUT);
    let namespace = config
        .namespace
        .clone()
        .unwrap_or_else(|| cluster.default_namespace.clone());
    let client = Client::try_from(cluster)
        .map_err(|error| anyhow::anyhow!("no Kubernetes cluster: {}", innermost(&error)))?;
    Ok((client, namespace))
}

/// What an error of the API says, in one line.
pub(crate) fn said(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        _ => innermost(error),
    }
}

/// The status of an answer that was none, as HTTP has it.
pub(crate) fn code(error: &kube::Error) -> Option<u16> {
    match error {
        kube::Error::Api(status) => Some(status.code),
        _ => None,
    }
}
