//! What two gateways say to each other. JSON over the HTTP of either; lines of JSON where it goes on.

use crate::function::{FileSpec, Isolation, Pull, Resources};
use crate::sites::{PodSpec, StartError};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;
use stoic_protocol::env;

/// Versions of this protocol that are spoken here: the lowest and the highest. Fields may be added
/// within a version; what changes the meaning of one makes the next.
pub const PROTOCOLS: (u32, u32) = (1, 1);
/// What a connection that becomes a tunnel is asked to change to.
pub const TUNNEL: &str = "stoic-tunnel";

/// Paths of a peer.
pub mod paths {
    /// `GET`: [`Hello`](super::Hello).
    pub const HELLO: &str = "/v1/peer";
    /// `POST` a [`PodOrder`](super::PodOrder): 204 where such a pod could be started.
    pub const CHECK: &str = "/v1/peer/check";
    /// `POST` a [`PodOrder`](super::PodOrder): lines, as long as the lease lasts.
    pub const LEASES: &str = "/v1/peer/leases";
    /// Followed by a key, encoded: `PUT`, `GET` (ranges), `HEAD`, `DELETE`.
    pub const OBJECTS: &str = "/v1/peer/objects/";
    /// `POST` a [`PresignRequest`](super::PresignRequest).
    pub const PRESIGN: &str = "/v1/peer/presign";
}

/// Who answers there, and what it has.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Hello {
    /// Lowest and highest version of the protocol that it speaks.
    pub protocols: (u32, u32),
    /// Version of the program.
    #[serde(default)]
    pub version: String,
    /// Its identity.
    #[serde(default)]
    pub gateway: String,
    /// Its runtimes, the preferred first.
    #[serde(default)]
    pub runtimes: Vec<RuntimeOffer>,
}

impl Hello {
    /// Whether there is a version that both speak.
    ///
    /// # Errors
    /// Says which ones each speaks, and what to do.
    pub fn agree(&self) -> Result<u32, String> {
        let (low, high) = self.protocols;
        let version = high.min(PROTOCOLS.1);
        if version >= low.max(PROTOCOLS.0) {
            return Ok(version);
        }
        let (older, newer) = match high < PROTOCOLS.0 {
            true => ("that gateway", "this one"),
            false => ("this gateway", "that one"),
        };
        Err(format!(
            "it is stoic {} and speaks versions {low} to {high} of the protocol between gateways, this is stoic {} and speaks {} to {}: bring {older} to the version of {newer}",
            self.version,
            env!("CARGO_PKG_VERSION"),
            PROTOCOLS.0,
            PROTOCOLS.1
        ))
    }
}

/// A runtime that a peer has.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RuntimeOffer {
    /// Its name there.
    pub name: String,
    /// Backend of its site: `process`, `docker`.
    pub backend: String,
    /// Threads a pod computes with.
    pub threads: u32,
    /// `fp32`, `bf16`, `auto`.
    pub precision: String,
    /// GPUs a pod gets.
    pub gpus: u32,
    /// Whether its deployments have an emulated delay.
    #[serde(default)]
    pub emulated: bool,
    /// What a second of one of its pods costs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price: Option<f64>,
}

/// The pod that is wanted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PodOrder {
    /// Version of the protocol that the client has chosen.
    pub protocol: u32,
    /// Runtime, as the peer calls it.
    pub runtime: String,
    /// Function it serves.
    pub function: String,
    /// Version of that function.
    pub version: String,
    /// Container image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Executable and arguments.
    #[serde(default)]
    pub command: Vec<String>,
    /// Arguments of the image's entry point.
    #[serde(default)]
    pub args: Vec<String>,
    /// Port that the image listens on.
    pub port: u16,
    /// When the image is fetched.
    #[serde(default)]
    pub pull: Pull,
    /// Environment, but for what the peer's runtime has.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Names of secrets that the peer has.
    #[serde(default)]
    pub secrets: Vec<String>,
    /// Files that a container finds and can only read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<FileSpec>,
    /// Whether a container gets a root that cannot be written.
    #[serde(default)]
    pub read_only_root: bool,
    /// What it needs of memory and CPU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
    /// What one invocation may leave behind for the next.
    #[serde(default)]
    pub isolation: Isolation,
    /// Path that answers 200 when the pod is ready.
    pub health: String,
    /// Longest time until it is ready, in seconds.
    pub ready_timeout_s: f64,
}

/// What the runtime of a pod says in its environment: each gateway writes its own.
const OF_THE_RUNTIME: [&str; 5] = [
    env::RUNTIME,
    env::THREADS,
    env::PRECISION,
    env::DEVICES,
    env::POD,
];

impl PodOrder {
    /// The order of a pod of this spec on the peer's runtime of this name.
    #[must_use]
    pub fn of(spec: &PodSpec, runtime: &str, protocol: u32) -> Self {
        let mut env = spec.env.clone();
        env.retain(|name, _| !OF_THE_RUNTIME.contains(&name.as_str()));
        Self {
            protocol,
            runtime: runtime.to_owned(),
            function: spec.function.clone(),
            version: spec.version.clone(),
            image: spec.image.clone(),
            command: spec.command.clone(),
            args: spec.args.clone(),
            port: spec.port,
            pull: spec.pull,
            env,
            secrets: spec.secrets.clone(),
            files: spec.files.clone(),
            read_only_root: spec.read_only_root,
            resources: spec.resources.clone(),
            isolation: spec.isolation,
            health: spec.health.clone(),
            ready_timeout_s: spec.ready_timeout.as_secs_f64(),
        }
    }

    /// The pod to start for it here, of this name.
    #[must_use]
    pub fn spec(
        self,
        name: String,
        own_env: impl IntoIterator<Item = (String, String)>,
        gpus: u32,
    ) -> PodSpec {
        let mut env = self.env;
        env.extend(own_env);
        env.insert(env::POD.to_owned(), name.clone());
        let asked = self.resources.as_ref().map_or(0, |r| r.gpu);
        PodSpec {
            name,
            function: self.function,
            version: self.version,
            runtime: self.runtime,
            image: self.image,
            command: self.command,
            args: self.args,
            port: self.port,
            pull: self.pull,
            env,
            secrets: self.secrets,
            files: self.files,
            read_only_root: self.read_only_root,
            resources: self.resources,
            gpus: gpus.max(asked),
            isolation: self.isolation,
            health: self.health,
            ready_timeout: Duration::try_from_secs_f64(self.ready_timeout_s)
                .unwrap_or(Duration::from_secs(600))
                .min(Duration::from_secs(86_400)),
        }
    }
}

/// Why a pod of a peer's did not start.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Trouble {
    /// Stable code, as [`StartError::code`] has it.
    pub code: String,
    /// In words.
    pub detail: String,
}

impl From<&StartError> for Trouble {
    fn from(error: &StartError) -> Self {
        Self {
            code: error.code().to_owned(),
            detail: error.to_string(),
        }
    }
}

impl From<Trouble> for StartError {
    fn from(trouble: Trouble) -> Self {
        match trouble.code.as_str() {
            "pod_refused" => Self::Refused(trouble.detail),
            "image_unavailable" => Self::Image(trouble.detail),
            "pod_exited" => Self::Exited(trouble.detail),
            "pod_never_ready" => Self::NeverReady(trouble.detail),
            // A newer peer may have more.
            _ => Self::Engine(trouble.detail),
        }
    }
}

/// One line of a lease.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Line {
    /// The link and the peer are there.
    Beat,
    /// The pod answers.
    Ready {
        /// Identity of the lease, which opens tunnels to the pod.
        lease: String,
        /// Name of the pod there.
        pod: String,
        /// Seconds of emulated deployment delay that its start had.
        emulated_s: f64,
        /// Where the time of its start went.
        stages: Vec<(String, f64)>,
        /// Version of the model that it had loaded.
        #[serde(default)]
        model: Option<String>,
        /// Digest of its image.
        #[serde(default)]
        digest: Option<String>,
    },
    /// It did not start.
    Failed(Trouble),
    /// It was up, and is gone.
    Exited {
        /// How.
        how: String,
    },
    /// Something that a newer peer says.
    #[serde(other)]
    Unknown,
}

/// A URL that is wanted for a pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PresignRequest {
    /// The object's key.
    pub key: String,
    /// Whether it is to be written, and not read.
    pub write: bool,
    /// Seconds that the URL is good for.
    pub seconds: u64,
}

/// That URL.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PresignReply {
    /// Its query is a secret.
    pub url: String,
}

impl std::fmt::Debug for PresignReply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PresignReply")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello(protocols: (u32, u32)) -> Hello {
        Hello {
            protocols,
            version: "9.9".to_owned(),
            gateway: "g".to_owned(),
            runtimes: Vec::new(),
        }
    }

    #[test]
    fn the_highest_version_that_both_speak_is_taken_and_none_is_said_clearly() {
        assert_eq!(hello((1, 1)).agree(), Ok(1));
        assert_eq!(hello((1, 7)).agree(), Ok(1));
        let newer = hello((2, 7)).agree().expect_err("newer");
        assert!(newer.contains("9.9") && newer.contains("2 to 7"), "{newer}");
        assert!(newer.contains("bring this gateway"), "{newer}");
        let older = hello((0, 0)).agree().expect_err("older");
        assert!(older.contains("bring that gateway"), "{older}");
    }

    #[test]
    fn an_order_carries_the_pod_but_not_what_belongs_to_a_runtime() {
        let text = |all: &[(&str, &str)]| -> BTreeMap<String, String> {
            let all = all.iter();
            all.map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                .collect()
        };
        let spec = PodSpec {
            function: "f".to_owned(),
            command: vec!["x".to_owned()],
            files: vec![FileSpec {
                path: "/a".to_owned(),
                text: None,
                base64: Some("AP8=".to_owned()),
            }],
            env: text(&[
                ("A", "1"),
                (env::THREADS, "9"),
                (env::RUNTIME, "cloud.gpu1"),
            ]),
            ready_timeout: Duration::from_secs(7),
            ..PodSpec::default()
        };
        let order = PodOrder::of(&spec, "gpu1", 1);
        assert_eq!(order.env, text(&[("A", "1")]));
        let json = serde_json::to_string(&order).expect("serialises");
        let order: PodOrder = serde_json::from_str(&json).expect("reads");
        let there = order.spec("p".to_owned(), text(&[(env::THREADS, "2")]), 1);
        assert_eq!((there.gpus, &*there.runtime), (1, "gpu1"));
        assert_eq!(there.files, spec.files);
        assert_eq!(there.ready_timeout, Duration::from_secs(7));
        assert_eq!(
            there.env,
            text(&[("A", "1"), (env::THREADS, "2"), (env::POD, "p")])
        );
    }

    #[test]
    fn trouble_keeps_its_kind_on_its_way() {
        let error = StartError::Image("gone".to_owned());
        assert!(matches!(
            StartError::from(Trouble::from(&error)),
            StartError::Image(_)
        ));
        let newer = Trouble {
            code: "something_new".to_owned(),
            detail: "x".to_owned(),
        };
        assert!(matches!(StartError::from(newer), StartError::Engine(_)));
        let line: Line = serde_json::from_str("{\"type\":\"later\",\"x\":1}").expect("reads");
        assert_eq!(line, Line::Unknown);
    }
}
