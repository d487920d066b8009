//! Places where pods run. One trait for every backend; the pool above knows only that.
//!
//! May not know pools, HTTP or predictions: a site starts, stops and lists what it is told.

mod delays;
mod docker;
mod gateway;
mod kubernetes;
mod log_file;
mod logs;
mod memory;
mod orphans;
mod pod;
mod process;
mod ready;
mod reference;

pub use delays::DelayTrace;
pub use docker::{DockerOptions, DockerSite};
pub use gateway::{GatewaySite, There};
pub use kubernetes::{KubernetesOptions, KubernetesSite};
pub use logs::{LogAsk, LogStream};
pub use pod::{AdoptedPod, Adoption, PodSpec, StartError, StartedPod};
pub use process::{ProcessSite, zygote_log_name};

use crate::function::FunctionSpec;
use crate::secrets::Secrets;
use std::collections::HashMap;
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr};
use std::pin::Pin;
use std::time::Duration;
use stoic_protocol::ModelRef;

/// A future of a site's trait.
pub type SiteFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A place where pods run.
pub trait Site: Send + Sync + std::fmt::Debug {
    /// Name of its backend, as configurations write it: `process`, `docker`, `kubernetes`, `gateway`.
    fn backend(&self) -> &'static str;

    /// Whether the function has what pods here are made of.
    ///
    /// # Errors
    /// The key of the function's spec that it lacks: `command`, `image`.
    fn can_run(&self, spec: &FunctionSpec) -> Result<(), &'static str>;

    /// Why nothing can be started here at the moment, where the site knows: it is left out of placement.
    fn trouble(&self) -> Option<String> {
        None
    }

    /// Returns when [`trouble`](Self::trouble) that there is now has ended; never, where there is none.
    fn mended(&self) -> SiteFuture<'_, ()> {
        Box::pin(std::future::pending())
    }

    /// The address of this machine at which pods here reach it: where the site's embedded store listens.
    fn host(&self) -> IpAddr {
        Ipv4Addr::LOCALHOST.into()
    }

    /// Whether its pods compute on this machine, which then is not to start too many at a time.
    fn here(&self) -> bool {
        true
    }

    /// Lets go of what has not been used for a while and can be had again: images that the gateway
    /// fetched and that are none of these.
    fn collect<'a>(&'a self, _used_images: &'a [String]) -> SiteFuture<'a, ()> {
        Box::pin(async {})
    }

    /// Checks, at deployment, that such a pod could be started here: its executable or image is there,
    /// its secrets exist, there are GPUs where it wants some.
    ///
    /// # Errors
    /// Says what is missing.
    fn check<'a>(&'a self, spec: &'a PodSpec) -> SiteFuture<'a, Result<(), StartError>>;

    /// Starts a pod and returns when it is ready. Dropping the future ends the pod.
    fn start(&self, spec: PodSpec) -> SiteFuture<'_, Result<StartedPod, StartError>>;

    /// Tells a pod to finish (`SIGTERM`) and ends it when the grace has passed.
    fn stop(&self, id: &str, grace: Duration) -> SiteFuture<'_, ()>;

    /// A pod has taken this model into use: what the site keeps to start further ones from may take it,
    /// too. Returns when it was told.
    fn took_model<'a>(&'a self, id: &'a str, model: ModelRef) -> SiteFuture<'a, ()> {
        let _ = (id, model);
        Box::pin(std::future::ready(()))
    }

    /// This version of a function is no more: what the site keeps to start its pods from can go.
    fn retire(&self, function: &str, version: &str) {
        let _ = (function, version);
    }

    /// Called once, before anything is started: finds the pods of an earlier life of this gateway.
    /// Those that can serve on are given, the others are ended. Never touches what is not this
    /// gateway's.
    fn adopt(&self) -> SiteFuture<'_, Adoption>;

    /// The gateway ends in order, and another life of it follows where the site knows so: pods that can be adopted
    /// are left as they are from now on, not ended.
    fn leave(&self) {}

    /// Ends every pod of this gateway that is left here; says how many there were.
    fn remove_orphans(&self) -> SiteFuture<'_, usize>;

    /// Bytes of memory that each of these pods holds: its own, and its share of what it has in common
    /// with others. Pods of which the site knows nothing are left out.
    fn memory<'a>(&'a self, _ids: &'a [String]) -> SiteFuture<'a, HashMap<String, u64>> {
        Box::pin(async { HashMap::new() })
    }

    /// What the pod of this name wrote; none where the site knows no such pod.
    ///
    /// # Errors
    /// The engine or the disk says no.
    fn logs<'a>(
        &'a self,
        pod: &'a str,
        ask: LogAsk,
    ) -> SiteFuture<'a, std::io::Result<Option<LogStream>>>;
}

/// Refuses a pod whose secrets are not there.
fn check_secrets(secrets: &Secrets, spec: &PodSpec) -> Result<(), StartError> {
    match secrets.missing(&spec.secrets) {
        None => Ok(()),
        Some(name) => Err(StartError::Refused(format!(
            "spec.secrets: there is no secret `{name}`"
        ))),
    }
}

/// The last line of a text that says anything, cut to 300 characters.
fn last_line_of(text: &str) -> Option<String> {
    let line = text.lines().rev().find(|line| !line.trim().is_empty())?;
    Some(line.trim().chars().take(300).collect())
}

/// NVIDIA GPUs on this machine, by their device files: the gateway itself links no CUDA.
#[must_use]
pub fn gpus_present() -> u32 {
    let count = (0..16)
        .take_while(|n| std::path::Path::new(&format!("/dev/nvidia{n}")).exists())
        .count();
    u32::try_from(count).unwrap_or(0)
}
