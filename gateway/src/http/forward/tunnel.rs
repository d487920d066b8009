//! Upgrades: once caller and pod have agreed on another protocol, bytes pass both ways, and the pod's
//! place is held, until one of them closes.

use super::held::Held;
use crate::link::join;
use http::header::{self, HeaderValue};
use http::{HeaderMap, Request, Version};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tracing::debug;

/// What a caller asks for.
#[derive(Debug)]
pub(super) struct Upgrade {
    /// The protocol, as `Upgrade` names it.
    protocol: HeaderValue,
    caller: OnUpgrade,
}

impl Upgrade {
    /// The upgrade that a request asks for, if it does. `h2c` is not passed on: to speak HTTP/2 with a pod
    /// past the gateway is not to be had, and whoever asks for it may be answered in HTTP/1.1.
    pub(super) fn of(request: &mut Request<Incoming>) -> Option<Self> {
        let protocol = request.headers().get(header::UPGRADE)?;
        if request.version() != Version::HTTP_11 || !connection_names_it(request.headers()) {
            return None;
        }
        let names = protocol.to_str().ok()?.split(',');
        if names
            .map(str::trim)
            .any(|name| name.eq_ignore_ascii_case("h2c"))
        {
            return None;
        }
        let protocol = protocol.clone();
        let caller = hyper::upgrade::on(request);
        Some(Self { protocol, caller })
    }

    /// Asks the pod for it.
    pub(super) fn ask(&self, headers: &mut HeaderMap) {
        put(headers, self.protocol.clone());
    }

    /// Passes bytes both ways when both sides have changed over, until one closes.
    pub(super) async fn run(self, pod: OnUpgrade, held: Box<Held>) {
        match tokio::try_join!(self.caller, pod) {
            Ok((caller, pod)) => join(TokioIo::new(caller), TokioIo::new(pod)).await,
            Err(error) => debug!("upgrade: {error}"),
        }
        held.finish();
    }
}

/// Writes the headers of an upgrade, which those of one connection are else removed with.
pub(super) fn put(headers: &mut HeaderMap, protocol: HeaderValue) {
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, protocol);
}

fn connection_names_it(headers: &HeaderMap) -> bool {
    let values = headers.get_all(header::CONNECTION).iter();
    let mut names = values.flat_map(|value| value.to_str().unwrap_or_default().split(','));
    names.any(|name| name.trim().eq_ignore_ascii_case("upgrade"))
}
