//! What an answer on its way through holds, and what is left of it when it has ended.

use super::connections::{self, Sender};
use crate::gateway::Gateway;
use crate::history::{Measurement, Parts};
use crate::pods::Lease;
use crate::runnable::Deployed;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Context;
use tokio::time::{Instant, Sleep};
use tracing::debug;

/// The pod's place, the connection, and what is to be recorded.
pub struct Held {
    /// The connection, where it may be used again.
    pub(super) sender: Option<Sender>,
    pub(super) reach: SocketAddr,
    pub(super) lease: Lease,
    pub(super) gateway: Arc<Gateway>,
    pub(super) deployed: Arc<Deployed>,
    pub(super) runtime: usize,
    pub(super) sent: Instant,
    pub(super) waited: Parts,
    pub(super) record: Option<Box<Measurement>>,
    pub(super) ok: bool,
    /// When the pod is given up that is silent in the middle of its answer.
    pub(super) silence: Option<Pin<Box<Sleep>>>,
    /// Whether something came since that was set.
    pub(super) spoke: bool,
}

impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Held")
            .field("lease", &self.lease)
            .finish_non_exhaustive()
    }
}

impl Held {
    /// A piece of the answer came.
    pub(in crate::http) fn heard(&mut self) {
        self.spoke = true;
    }

    /// Nothing is there now: whether the pod has been silent for longer than an invocation may take.
    pub(in crate::http) fn silent(&mut self, cx: &mut Context<'_>) -> bool {
        let patience = self.deployed.function.object.spec.timeout;
        let silence = self
            .silence
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
        if std::mem::take(&mut self.spoke) {
            silence.as_mut().reset(Instant::now() + patience);
        }
        let silent = silence.as_mut().poll(cx).is_ready();
        if silent {
            let name = self.deployed.function.name();
            debug!(function = %name, pod = %self.lease.pod.name, "the pod fell silent in its answer");
            self.gateway.metrics.failed(name, "invocation_timeout");
        }
        silent
    }

    /// The answer ended: the connection goes back, the invocation is counted.
    pub(in crate::http) fn finish(self) {
        let now = Instant::now();
        if let Some(sender) = self.sender {
            connections::keep(self.reach, sender, now);
        }
        let parts = Parts {
            processing: (now - self.sent).as_secs_f64(),
            ..self.waited
        };
        match self.record {
            Some(mut measurement) => {
                measurement.actual = parts;
                self.gateway
                    .record(&self.deployed, self.runtime, &measurement);
            }
            None if self.ok => {
                if let Some(meters) = self.deployed.meters(self.runtime) {
                    meters.count(self.lease.start, &parts);
                }
            }
            None => {}
        }
    }
}
