//! What the API server answers, with a limit on how long it may take.

use crate::failure::innermost;
use crate::sites::StartError;
use kube::Error;
use std::fmt;
use std::time::Duration;

/// Longest time for one answer, tries again after 429 and 503 included (the client makes them, with a
/// wait that doubles or that the server names).
const LONGEST: Duration = Duration::from_secs(20);
/// Longest text of one that is told.
const LONGEST_TEXT: usize = 400;

/// Why the API server did not do it.
#[derive(Debug)]
pub(super) struct NotDone {
    /// The status that it answered, if it answered.
    pub(super) status: Option<u16>,
    /// In its own words.
    text: String,
}

impl fmt::Display for NotDone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for NotDone {}

impl From<Error> for NotDone {
    fn from(error: Error) -> Self {
        let (status, text) = match &error {
            Error::Api(said) if said.code > 0 => (Some(said.code), said.message.clone()),
            other => (None, innermost(other)),
        };
        Self {
            status,
            text: text.trim().chars().take(LONGEST_TEXT).collect(),
        }
    }
}

impl NotDone {
    /// What it was about is not there (any more).
    pub(super) fn is_absent(&self) -> bool {
        self.status == Some(404)
    }

    /// What that means for a pod that was to be made.
    pub(super) fn into_start_error(self, what: &str) -> StartError {
        let text = &self.text;
        match self.status {
            Some(403) if text.contains("exceeded quota") => StartError::NoRoom(format!(
                "the namespace's quota has no room for the pod: {text}"
            )),
            Some(404) if text.contains("namespaces") => {
                StartError::Engine(format!("{text}; make it with `kubectl create namespace`"))
            }
            Some(401) => {
                StartError::Engine(format!("the cluster does not know the gateway: {text}"))
            }
            // 408, 409 and 429 pass.
            Some(408 | 409 | 429) | None => StartError::Engine(format!("{what}: {text}")),
            Some(400..=499) => StartError::Refused(format!("the cluster refuses {what}: {text}")),
            Some(_) => StartError::Engine(format!("{what}: {text}")),
        }
    }
}

/// The answer, or why there is none.
pub(super) async fn answer<T>(asked: impl Future<Output = Result<T, Error>>) -> Result<T, NotDone> {
    match tokio::time::timeout(LONGEST, asked).await {
        Ok(answered) => answered.map_err(NotDone::from),
        Err(_) => Err(NotDone {
            status: None,
            text: format!(
                "the API server did not answer within {}",
                humantime::format_duration(LONGEST)
            ),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::core::Status;

    fn said(code: u16, message: &str) -> StartError {
        let status = Status::failure(message, "").with_code(code);
        NotDone::from(Error::Api(Box::new(status))).into_start_error("the pod")
    }

    #[test]
    fn what_the_server_says_is_told_apart() {
        let quota = "pods \"x\" is forbidden: exceeded quota: small, requested: pods=1";
        assert!(matches!(said(403, quota), StartError::NoRoom(_)));
        assert!(matches!(
            said(403, "violates PodSecurity"),
            StartError::Refused(_)
        ));
        assert!(matches!(said(422, "invalid"), StartError::Refused(_)));
        assert!(matches!(said(429, "slow down"), StartError::Engine(_)));
        assert!(matches!(said(500, "etcd"), StartError::Engine(_)));
        let gone = said(404, "namespaces \"x\" not found").to_string();
        assert!(gone.contains("kubectl create namespace"), "{gone}");
    }
}
