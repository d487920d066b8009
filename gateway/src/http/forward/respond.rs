//! From a pod's answer to the caller's: the headers, the record, and what is held until it ends.

use super::Place;
use super::connections::Sender;
use super::heads::remove_hop_by_hop;
use super::held::Held;
use super::stamp::{Stamp, stamp};
use super::tunnel::{self, Upgrade};
use crate::gateway::Gateway;
use crate::history::{Measurement, Parts};
use crate::http::Body;
use crate::http::caller::Caller;
use crate::http::invoke::Wanted;
use crate::pods::Start;
use crate::requester::emulated;
use crate::scheduler::unix_now;
use http::header::{self, HeaderValue};
use http::{Response, StatusCode, Version};
use http_body::Body as HttpBody;
use hyper::body::Incoming;
use std::sync::Arc;
use tokio::time::Instant;

/// An answer whose head has come.
#[derive(Debug)]
pub(super) struct Answered {
    /// The connection it came on.
    pub(super) sender: Sender,
    /// When the request was sent.
    pub(super) sent: Instant,
    pub(super) answer: Response<Incoming>,
}

impl Answered {
    pub(super) fn status(&self) -> StatusCode {
        self.answer.status()
    }

    /// Makes the caller's answer of it.
    pub(super) fn respond(
        self,
        gateway: &Arc<Gateway>,
        place: Place,
        wanted: &Wanted,
        invocation: HeaderValue,
        caller: &Caller,
        upgrade: Option<Upgrade>,
    ) -> Response<Body> {
        let Place {
            deployed,
            placed,
            lease,
        } = place;
        let info = &gateway.scheduler.runtimes()[placed.runtime];
        let cold = lease.start == Start::Cold;
        let mut waited = Parts::default();
        if cold {
            waited.deployment = lease.waited_s
        } else {
            waited.queueing = lease.waited_s
        }
        let parts = Parts {
            processing: self.sent.elapsed().as_secs_f64(),
            ..waited
        };
        let label = emulated(info.link_emulated, cold && info.deployment_emulated);

        let mut answer = self.answer;
        let upgraded = (answer.status() == StatusCode::SWITCHING_PROTOCOLS)
            .then(|| hyper::upgrade::on(&mut answer));
        let (mut head, incoming) = answer.into_parts();
        let protocol = upgraded
            .as_ref()
            .and_then(|_| head.headers.get(header::UPGRADE).cloned());
        remove_hop_by_hop(&mut head.headers);
        // What the pod speaks is its affair.
        head.version = Version::HTTP_11;
        let ok = !head.status.is_server_error() && head.status != StatusCode::TOO_MANY_REQUESTS;
        stamp(
            &mut head.headers,
            &Stamp {
                invocation,
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
        // How long caller and function talk says nothing of how long the function takes.
        let record = (upgraded.is_none() && deployed.sample_due()).then(|| {
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
            sender: upgraded.is_none().then_some(self.sender),
            reach: lease.pod.reach,
            lease,
            gateway: Arc::clone(gateway),
            deployed,
            runtime: placed.runtime,
            sent: self.sent,
            waited,
            record,
            ok,
            silence: None,
            spoke: false,
        });
        if let (Some(pod), Some(upgrade)) = (upgraded, upgrade) {
            if let Some(protocol) = protocol {
                tunnel::put(&mut head.headers, protocol);
            }
            caller.tunnel(Box::pin(upgrade.run(pod, held)));
            return Response::from_parts(head, Body::empty());
        }
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
}
