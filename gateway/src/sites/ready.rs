//! When a pod is ready: its health path answers 200.

use super::{PodSpec, StartError};
use crate::link;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::sync::watch;

/// Returns when the health path answers 200. Tries again at once after a refused connection, with a
/// wait that grows from 1 to 20 ms: no grid is visible in deployment times. `last_words` is asked for
/// the last line that a pod wrote which was not ready in time.
///
/// # Errors
/// The pod exited, or was not ready in time.
pub(super) async fn await_ready<F>(
    address: SocketAddr,
    spec: &PodSpec,
    mut exited: watch::Receiver<Option<String>>,
    last_words: impl FnOnce() -> F,
) -> Result<(), StartError>
where
    F: Future<Output = Option<String>>,
{
    let ready = async {
        let mut pause = Duration::from_millis(1);
        while !link::healthy(address, &spec.health).await {
            tokio::time::sleep(pause).await;
            pause = (pause * 3 / 2).min(Duration::from_millis(20));
        }
    };
    let exit = async {
        let how = exited.wait_for(Option::is_some).await.ok();
        how.and_then(|how| how.clone()).unwrap_or_default()
    };
    tokio::select! {
        () = ready => Ok(()),
        how = exit => {
            Err(StartError::Exited(format!("the pod exited before it was ready: {how}")))
        }
        () = tokio::time::sleep(spec.ready_timeout) => {
            let last = last_words().await;
            Err(StartError::NeverReady(format!(
                "the pod did not answer 200 at {} on port {} within {}{}",
                spec.health,
                address.port(),
                humantime::format_duration(spec.ready_timeout),
                last.map_or_else(String::new, |line| format!("; its last line was: {line}")),
            )))
        }
    }
}
