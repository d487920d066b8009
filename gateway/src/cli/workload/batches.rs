//! Batches to send to a gateway: packages of items drawn from a pool.

use crate::cli::call::{Carried, Progress, carry};
use crate::cli::client::{Call, Client, Payload};
use crate::cli::demo::packages::{Pool, scenes};
use crate::cli::failed::Failed;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;
use tempfile::{NamedTempFile, TempDir};

/// Scenes painted at most; larger batches hold some of them again.
const PAINTED: u32 = 200;

/// Where batches come from.
#[derive(Debug)]
pub(in crate::cli) struct Batches {
    pool: Pool,
    scratch: TempDir,
}

impl Batches {
    /// Draws from this package, or else from scenes that are painted now, enough for batches of `most` items.
    pub(in crate::cli) async fn open(
        data: Option<&Path>,
        most: u32,
        seed: u64,
        progress: &Progress,
    ) -> Result<Self, Failed> {
        let scratch = tempfile::tempdir().map_err(|e| Failed::io("a temporary folder", &e))?;
        let pool = match data {
            Some(path) => Pool::open(path).map_err(|failed| Failed::Input(failed.to_string()))?,
            None => {
                let path = scratch.path().join("pool.zip");
                Pool::open(&scenes(&path, most.min(PAINTED), seed, false, progress).await?)?
            }
        };
        if pool.is_empty() {
            return Err(Failed::Input("--data: the package is empty".to_owned()));
        }
        Ok(Self { pool, scratch })
    }

    /// A package of so many items; it is gone when it is dropped.
    pub(in crate::cli) fn package(&self, items: u32, seed: u64) -> Result<NamedTempFile, Failed> {
        let file = NamedTempFile::new_in(self.scratch.path())
            .map_err(|e| Failed::io("a temporary file", &e))?;
        self.pool.sample(items as usize, seed, file.path())?;
        Ok(file)
    }
}

/// A call of a function with a package, placed by the gateway unless a runtime or a mode is named.
pub(in crate::cli) fn call(function: &str, runtime: Option<&str>, mode: Option<&str>) -> Call {
    let mut call = Call::new(
        function,
        stoic_protocol::ZIP_MEDIA_TYPE,
        Payload::Whole(None),
    );
    call.runtime = runtime.map(str::to_owned);
    call.mode = mode.map(str::to_owned);
    call
}

/// Sends a package and follows it.
pub(in crate::cli) async fn send(
    client: &Client,
    package: &Path,
    call: Call,
    progress: &Progress,
) -> Result<Carried, Failed> {
    let cannot = |e: std::io::Error| Failed::io(package.display(), &e);
    let file = tokio::fs::File::open(package).await.map_err(cannot)?;
    let length = file.metadata().await.map_err(cannot)?.len();
    let sent = Arc::new(AtomicU64::new(0));
    let body = Payload::stream(file, Some(length), &sent);
    carry(client, Call { body, ..call }, &sent, Some(length), progress).await
}

/// Waits until a version has run its representative tasks; a function that has none needs no wait.
pub(in crate::cli) async fn bootstrapped(
    client: &Client,
    function: &str,
    progress: &Progress,
) -> Result<(), Failed> {
    loop {
        let bootstrap = client.function(function).await?.status.bootstrap;
        match bootstrap.state.as_str() {
            "done" | "none" => return Ok(()),
            "failed" => {
                return Err(Failed::Machine(format!(
                    "the bootstrap failed: {}",
                    bootstrap.detail
                )));
            }
            _ => {
                progress.phase(&format!(
                    "bootstrap: {} of {} tasks; {}",
                    bootstrap.done, bootstrap.total, bootstrap.detail
                ));
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}
