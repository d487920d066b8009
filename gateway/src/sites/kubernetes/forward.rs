//! Pods that this machine cannot reach: a port on loopback whose connections the API server carries.

use k8s_openapi::api::core::v1::Pod;
use kube::api::Api;
use std::net::{Ipv4Addr, SocketAddr};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::task::AbortOnDropHandle;
use tracing::debug;

/// A port for one pod. Dropped, it is closed, and so are its connections.
#[derive(Debug)]
pub(super) struct Forward {
    /// Where it listens.
    pub(super) address: SocketAddr,
    _task: AbortOnDropHandle<()>,
}

/// Listens for a pod.
///
/// # Errors
/// There is no free port.
pub(super) async fn open(pods: Api<Pod>, name: String, port: u16) -> std::io::Result<Forward> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    let task = tokio::spawn(async move {
        // Ended with this task.
        let mut open = JoinSet::new();
        loop {
            tokio::select! {
                accepted = listener.accept() => {
                    // Without descriptors there is nothing to do but to try again a little later.
                    let Ok((near, _)) = accepted else {
                        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                        continue;
                    };
                    let (pods, name) = (pods.clone(), name.clone());
                    open.spawn(async move {
                        if let Err(error) = carry(&pods, &name, port, near).await {
                            debug!(pod = %name, "a connection through the API server broke: {error}");
                        }
                    });
                }
                Some(_) = open.join_next() => {}
            }
        }
    });
    Ok(Forward {
        address,
        _task: AbortOnDropHandle::new(task),
    })
}

/// Carries one connection until either side has closed it. What the API server carries knows no
/// half-closed connection, and a caller that leaves is to be seen by the pod.
async fn carry(pods: &Api<Pod>, name: &str, port: u16, near: TcpStream) -> anyhow::Result<()> {
    near.set_nodelay(true)?;
    let mut forwarder = pods.portforward(name, &[port]).await?;
    let far = forwarder
        .take_stream(port)
        .ok_or_else(|| anyhow::anyhow!("no stream for port {port}"))?;
    let (mut near_read, mut near_write) = near.into_split();
    let (mut far_read, mut far_write) = tokio::io::split(far);
    let carried = tokio::select! {
        sent = tokio::io::copy(&mut near_read, &mut far_write) => sent.map(drop),
        got = async {
            let got = tokio::io::copy(&mut far_read, &mut near_write).await;
            let _ = near_write.shutdown().await;
            got
        } => got.map(drop),
    };
    forwarder.abort();
    Ok(carried?)
}
