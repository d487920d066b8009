//! The status of a pod, read into what a site has to know of it. Pure: words of Kubernetes in, ours out.

use super::labels;
use crate::sites::StartError;
use k8s_openapi::api::core::v1::{ContainerStateTerminated, ContainerStatus, Pod, PodStatus};
use std::net::IpAddr;

/// Words of a pull that may go well at the next try: the registry, or the way to it, has trouble.
const PASSING: [&str; 12] = [
    "connection refused",
    "connection reset",
    "i/o timeout",
    "timed out",
    "deadline exceeded",
    "no such host",
    "EOF",
    "toomanyrequests",
    "429 Too Many Requests",
    "Server Error",
    "Bad Gateway",
    "Unavailable",
];

/// What was last seen of a pod.
#[derive(Debug, Clone, Default)]
pub(super) struct Seen {
    /// A node was found.
    pub(super) scheduled: bool,
    /// Why the scheduler finds none, in its words.
    pub(super) no_room: Option<String>,
    /// Its address.
    pub(super) ip: Option<IpAddr>,
    /// Its container runs.
    pub(super) running: bool,
    /// What the container waits for, in words.
    pub(super) waits: Option<String>,
    /// Why it will not start.
    pub(super) stuck: Option<StartError>,
    /// How it ended.
    pub(super) ended: Option<Ended>,
    /// Somebody deletes it.
    pub(super) leaving: bool,
    /// Digest of its image.
    pub(super) digest: Option<String>,
}

/// How a pod ended.
#[derive(Debug, Clone)]
pub(super) struct Ended {
    /// In words.
    pub(super) how: String,
    /// Whether it was never let in by its node, which has no room for it.
    pub(super) no_room: bool,
    /// The last that it wrote, where the node kept it.
    pub(super) words: Option<String>,
}

impl Seen {
    /// Reads the status of a pod whose limit of memory is this.
    pub(super) fn of(pod: &Pod, memory: Option<u64>) -> Self {
        let leaving = pod.metadata.deletion_timestamp.is_some();
        let Some(status) = &pod.status else {
            return Self {
                leaving,
                ..Self::default()
            };
        };
        let conditions = status.conditions.as_deref().unwrap_or_default();
        let scheduled = conditions.iter().find(|c| c.type_ == "PodScheduled");
        // Clusters may add containers of their own; ours is called as its function.
        let labels = pod.metadata.labels.as_ref();
        let ours = labels.and_then(|labels| labels.get(labels::FUNCTION));
        let image = pod.spec.as_ref().and_then(|spec| {
            let container = spec.containers.iter().find(|c| Some(&c.name) == ours)?;
            container.image.as_deref()
        });
        let container = status
            .container_statuses
            .iter()
            .flatten()
            .find(|container| Some(&container.name) == ours);
        let state = container.and_then(|container| container.state.as_ref());
        let waiting = state.and_then(|state| state.waiting.as_ref());
        let reason = waiting.and_then(|waiting| waiting.reason.as_deref());
        let message = waiting.and_then(|waiting| waiting.message.as_deref());
        Self {
            scheduled: scheduled.is_some_and(|c| c.status == "True"),
            no_room: scheduled
                .filter(|c| c.status == "False")
                .filter(|c| c.reason.as_deref() == Some("Unschedulable"))
                .map(|c| c.message.clone().unwrap_or_default()),
            ip: status.pod_ip.as_deref().and_then(|ip| ip.parse().ok()),
            running: state.is_some_and(|state| state.running.is_some()),
            waits: reason.map(|reason| with(reason, message)),
            stuck: reason.and_then(|reason| stuck(reason, message, image.unwrap_or("?"))),
            ended: ended(status, container, memory),
            leaving,
            digest: container.and_then(digest),
        }
    }
}

/// `Reason: message`.
fn with(reason: &str, message: Option<&str>) -> String {
    match message.map(str::trim).filter(|message| !message.is_empty()) {
        Some(message) => format!("{reason}: {message}"),
        None => reason.to_owned(),
    }
}

/// Why a container that waits for this reason will not start, if so.
fn stuck(reason: &str, message: Option<&str>, image: &str) -> Option<StartError> {
    let said = with(reason, message);
    match reason {
        "ErrImagePull" | "ImagePullBackOff" | "RegistryUnavailable" | "ImageInspectError" => {
            let text = format!("image {image} cannot be pulled: {said}");
            let passes = message.is_none_or(|m| PASSING.iter().any(|word| m.contains(word)));
            Some(match passes {
                true => StartError::Image(text),
                false => StartError::ImageAbsent(text),
            })
        }
        "InvalidImageName" | "ErrImageNeverPull" => Some(StartError::ImageAbsent(format!(
            "image {image} cannot be used: {said}"
        ))),
        "CreateContainerConfigError"
            if said.contains("unAsNonRoot") || said.contains("non-root") =>
        {
            Some(StartError::Refused(format!(
                "the pod may not run as root, and its image does: give image {image} a numeric USER, or set run_as_user (or run_as_non_root = false) in the site's kubernetes table; {said}"
            )))
        }
        "CreateContainerConfigError" => Some(StartError::Refused(format!(
            "the container cannot be made: {said}"
        ))),
        "CreateContainerError" | "RunContainerError" => Some(StartError::Exited(format!(
            "the container cannot be started: {said}"
        ))),
        _ => None,
    }
}

fn ended(
    status: &PodStatus,
    container: Option<&ContainerStatus>,
    memory: Option<u64>,
) -> Option<Ended> {
    let terminated = container
        .and_then(|container| container.state.as_ref())
        .and_then(|state| state.terminated.as_ref());
    let over = matches!(status.phase.as_deref(), Some("Failed" | "Succeeded"));
    if terminated.is_none() && !over {
        return None;
    }
    let words = terminated.and_then(|terminated| terminated.message.clone());
    let reason = status.reason.as_deref().filter(|reason| !reason.is_empty());
    // What its node says of the pod says more than how its container took it.
    if let Some(reason) = reason {
        // Refused by the node: what it asks for was given to another meanwhile.
        let no_room = reason.starts_with("OutOf") || reason == "UnexpectedAdmissionError";
        let how = match reason {
            "Evicted" => with("evicted by its node", status.message.as_deref()),
            other => with(other, status.message.as_deref()),
        };
        return Some(Ended {
            how,
            no_room: no_room && terminated.is_none(),
            words,
        });
    }
    let how = match terminated {
        Some(terminated) => how(terminated, memory),
        None => with("it ended", status.message.as_deref()),
    };
    Some(Ended {
        how,
        no_room: false,
        words,
    })
}

/// How the end of a pod is told that the kernel ended for want of memory.
pub(super) const OUT_OF_MEMORY: &str = "killed: out of memory";

fn how(terminated: &ContainerStateTerminated, memory: Option<u64>) -> String {
    let code = terminated.exit_code;
    match terminated.reason.as_deref() {
        Some("OOMKilled") => {
            let limit = memory.map_or_else(String::new, |bytes| {
                format!(" (its limit is {})", bytesize::ByteSize(bytes))
            });
            format!("{OUT_OF_MEMORY}{limit}")
        }
        Some("StartError" | "ContainerCannotRun") => with(
            "the container cannot be started",
            terminated.message.as_deref(),
        ),
        _ => match code {
            129..=192 => format!("killed by signal {}", code - 128),
            _ => format!("exit status {code}"),
        },
    }
}

/// The digest in `docker-pullable://localhost:5000/a@sha256:...`, or in an image's bare id.
fn digest(container: &ContainerStatus) -> Option<String> {
    let id = container.image_id.as_str();
    let digest = id.rsplit_once('@').map_or(id, |(_, digest)| digest);
    digest.starts_with("sha256:").then(|| digest.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn seen(status: Value) -> Seen {
        let pod = json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "p", "labels": {"stoic.dev/function": "f"}},
            "spec": {"containers": [{"name": "f", "image": "r/a:1"}]},
            "status": status,
        });
        Seen::of(&serde_json::from_value(pod).expect("a pod"), Some(64 << 20))
    }

    fn container(state: Value) -> Value {
        json!([{
            "name": "f", "image": "r/a:1", "imageID": "r/a@sha256:00", "ready": false,
            "restartCount": 0, "state": state,
        }])
    }

    #[test]
    fn a_pod_that_comes_up_is_followed() {
        let scheduled = json!([{"type": "PodScheduled", "status": "True"}]);
        let pending = seen(json!({"phase": "Pending", "conditions": scheduled}));
        assert!(pending.scheduled && !pending.running && pending.ended.is_none());
        let up = seen(json!({
            "phase": "Running", "conditions": scheduled, "podIP": "10.244.0.9",
            "containerStatuses": container(json!({"running": {}})),
        }));
        assert!(up.running && up.stuck.is_none());
        assert_eq!(up.ip, Some(IpAddr::from([10, 244, 0, 9])));
        assert_eq!(up.digest.as_deref(), Some("sha256:00"));
        assert!(seen(json!({})).ended.is_none());
    }

    #[test]
    fn want_of_room_is_told_in_the_schedulers_words() {
        let conditions = json!([{
            "type": "PodScheduled", "status": "False", "reason": "Unschedulable",
            "message": "0/1 nodes are available: 1 Insufficient nvidia.com/gpu.",
        }]);
        let seen_ = seen(json!({"phase": "Pending", "conditions": conditions}));
        assert!(seen_.no_room.expect("no room").contains("nvidia.com/gpu"));
        let late = seen(json!({"phase": "Failed", "reason": "OutOfcpu", "message": "no"}));
        assert!(late.ended.expect("ended").no_room);
    }

    #[test]
    fn why_a_container_does_not_start_is_told_apart() {
        let waiting = |reason: &str, message: &str| {
            let state = json!({"waiting": {"reason": reason, "message": message}});
            let status = json!({"phase": "Pending", "containerStatuses": container(state)});
            seen(status).stuck
        };
        assert!(waiting("ContainerCreating", "").is_none());
        let absent = waiting(
            "ErrImagePull",
            "rpc error: code = NotFound: r/a:1: not found",
        );
        let absent = absent.expect("stuck");
        assert!(matches!(absent, StartError::ImageAbsent(_)));
        assert!(absent.to_string().contains("r/a:1"), "{absent}");
        let away = waiting(
            "ImagePullBackOff",
            "dial tcp 10.0.0.1:5000: connect: connection refused",
        );
        assert!(matches!(away, Some(StartError::Image(_))));
        let root = waiting(
            "CreateContainerConfigError",
            "container has runAsNonRoot and image will run as root",
        );
        let said = root.expect("stuck").to_string();
        assert!(said.contains("run_as_user"), "{said}");
    }

    #[test]
    fn deaths_are_told_by_their_cause() {
        let died = |state: Value| {
            let status = json!({"phase": "Failed", "containerStatuses": container(state)});
            seen(status).ended.expect("ended").how
        };
        assert_eq!(
            died(json!({"terminated": {"exitCode": 7, "reason": "Error"}})),
            "exit status 7"
        );
        assert_eq!(
            died(json!({"terminated": {"exitCode": 137, "reason": "Error"}})),
            "killed by signal 9"
        );
        let memory = died(json!({"terminated": {"exitCode": 137, "reason": "OOMKilled"}}));
        assert!(
            memory.starts_with("killed: out of memory (its limit is 64"),
            "{memory}"
        );
        let evicted =
            seen(json!({"phase": "Failed", "reason": "Evicted", "message": "low on memory"}));
        let how = evicted.ended.expect("ended").how;
        assert_eq!(how, "evicted by its node: low on memory");
    }
}
