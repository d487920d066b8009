//! From a pod's answer to the caller's: the headers, the record, and what is held until it ends.

use super::connections::Sender;
use super::held::Held;
use super::hops::remove_hop_by_hop;
use super::stamp::{Stamp, stamp};
use crate::gateway::Gateway;
use crate::history::{Measurement, Parts};
use crate::http::Body;
use crate::http::invoke::Wanted;
use crate::pods::Lease;
use crate::requester::emulated;
use crate::runnable::Deployed;
use crate::scheduler::{Placed, unix_now};
use http::Response;
use http_body::Body as HttpBody;
use hyper::body::Incoming;
use std::sync::Arc;
use tokio::time::Instant;

#[expect(
    clippy::too_many_arguments,
    reason = "the pieces of one answer, gathered in its only caller"
)]
pub(super) fn respond(
    gateway: &Arc<Gateway>,
    deployed: &Arc<Deployed>,
    placed: &Placed,
    wanted: &Wanted,
    sender: Sender,
    lease: Lease,
    sent: Instant,
    answer: Response<Incoming>,
) -> Response<Body> {
    let info = &gateway.scheduler.runtimes()[placed.runtime];
    let cold = lease.start == crate::pods::Start::Cold;
    let mut waited = Parts::default();
    if cold {
        waited.deployment = lease.waited_s
    } else {
        waited.queueing = lease.waited_s
    }
    let parts = Parts {
        processing: sent.elapsed().as_secs_f64(),
        ..waited
    };
    let label = emulated(info.link_emulated, cold && info.deployment_emulated);

    let (mut head, incoming) = answer.into_parts();
    remove_hop_by_hop(&mut head.headers);
    let ok = !head.status.is_server_error();
    stamp(
        &mut head.headers,
        &Stamp {
            invocation: &wanted.invocation,
            runtime: &info.name,
            site: &info.site,
            start: lease.start.name(),
            pod: &lease.pod.name,
            predicted: placed.parts().map(|parts| (parts, placed.interval_90())),
            actual: &parts,
            emulated: &label,
            started: if cold { &lease.pod.stages } else { &[] },
        },
    );
    let record = deployed.sample_due().then(|| {
        Box::new(Measurement {
            invocation: wanted.invocation.clone(),
            at: unix_now() - parts.response(),
            function: deployed.function.name().to_owned(),
            version: deployed.function.version.clone(),
            action: wanted.action().to_owned(),
            runtime: info.name.clone(),
            site: info.site.clone(),
            mode: wanted.single_mode().name().to_owned(),
            items: wanted.items.unwrap_or(1),
            bytes: wanted.bytes,
            start: lease.start.name().to_owned(),
            predicted: placed.parts(),
            predicted_90: placed.interval_90(),
            predicted_50: placed.interval_50(),
            outcome: if ok {
                "ok".to_owned()
            } else {
                format!("status_{}", head.status.as_u16())
            },
            emulated: label.clone(),
            ..Measurement::default()
        })
    });
    let held = Box::new(Held {
        sender,
        reach: lease.pod.reach,
        lease,
        gateway: Arc::clone(gateway),
        deployed: Arc::clone(deployed),
        runtime: placed.runtime,
        sent,
        waited,
        record,
        ok,
    });
    if incoming.is_end_stream() {
        held.finish();
        return Response::from_parts(head, Body::empty());
    }
    Response::from_parts(
        head,
        Body::Proxied {
            incoming,
            held: Some(held),
        },
    )
}
