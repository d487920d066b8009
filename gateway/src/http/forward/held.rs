//! What an answer on its way through holds, and what is left of it when it has ended.

use super::connections::{self, Sender};
use crate::gateway::Gateway;
use crate::history::{Measurement, Parts};
use crate::pods::Lease;
use crate::runnable::Deployed;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::time::Instant;

/// What an answer on its way through holds: the pod's place, the connection, and what is to be recorded.
pub struct Held {
    pub(super) sender: Sender,
    pub(super) reach: SocketAddr,
    pub(super) lease: Lease,
    pub(super) gateway: Arc<Gateway>,
    pub(super) deployed: Arc<Deployed>,
    pub(super) runtime: usize,
    pub(super) sent: Instant,
    pub(super) waited: Parts,
    pub(super) record: Option<Box<Measurement>>,
    pub(super) ok: bool,
}

impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Held")
            .field("lease", &self.lease)
            .finish_non_exhaustive()
    }
}

impl Held {
    /// The answer ended: the connection goes back, the invocation is counted.
    pub(in crate::http) fn finish(self) {
        let Self {
            sender,
            reach,
            lease,
            gateway,
            deployed,
            runtime,
            sent,
            waited,
            record,
            ok,
        } = self;
        connections::keep(reach, sender);
        let parts = Parts {
            processing: sent.elapsed().as_secs_f64(),
            ..waited
        };
        match record {
            Some(mut measurement) => {
                measurement.actual = parts;
                gateway.record(&deployed, runtime, &measurement);
            }
            None if ok => {
                if let Some(meters) = deployed.meters(runtime) {
                    meters.count(lease.start, &parts);
                }
            }
            None => {}
        }
    }
}
