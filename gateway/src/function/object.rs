//! The object as it is written, and its validation.

use super::files::{FileSpec, check_files};
use super::{InvalidFunction, amounts, schema};
use crate::config::nearest;
use bytesize::ByteSize;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// `apiVersion` of the object.
pub const API_VERSION: &str = "stoic.dev/v1";

/// Most pods that one function may be asked to keep ready.
pub const MOST_REPLICAS: u32 = 1000;

/// A function as its file declares it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct FunctionObject {
    /// Always `stoic.dev/v1`.
    pub api_version: String,
    /// Always `Function`.
    pub kind: String,
    /// Name and free labels.
    pub metadata: Metadata,
    /// What to run and how.
    pub spec: FunctionSpec,
}

/// Name and free labels of a function.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Metadata {
    /// A DNS label: lower-case letters, digits and `-`, at most 63.
    pub name: String,
    /// Free labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Free annotations.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// What to run and how.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct FunctionSpec {
    /// Container image, for sites that run containers. Process sites use `command`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::image")]
    pub image: Option<String>,
    /// Executable and arguments, for process sites. One of `image` and `command` has to be there; a
    /// function runs at the sites that can run what it has.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// Arguments of the image's entry point, instead of the image's own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// When the image is fetched from its registry.
    #[serde(default)]
    pub pull: Pull,
    /// Port that the image listens on, for sites that run containers; process sites give each pod a
    /// port of its own in `$PORT`.
    #[serde(default = "default_port")]
    #[schemars(range(min = 1))]
    pub port: u16,
    /// What a pod needs, for sites that run containers. On process sites the runtime's threads bound
    /// the compute, and memory is not limited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
    /// Path that answers 200 when the pod is ready. A pod that knows no `/healthz` is asked at
    /// `/_/health` as well.
    #[serde(default = "default_health")]
    #[schemars(regex(pattern = "^/"))]
    pub health: String,
    /// `batch`: the input is a package of items, staged in object storage. `request`: bodies pass
    /// straight through.
    #[serde(default)]
    pub input: Input,
    /// Whether several pods may share one batch: the function works parts of a batch and merges their
    /// results (`Function::merge` of the SDK). Mode `cooperative` needs it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub divisible: bool,
    /// Longest time one invocation may take.
    #[serde(default = "default_timeout", with = "humantime_serde")]
    #[schemars(schema_with = "schema::duration")]
    pub timeout: Duration,
    /// Longest time a pod may take to become ready.
    #[serde(default = "default_ready_timeout", with = "humantime_serde")]
    #[schemars(schema_with = "schema::duration")]
    pub ready_timeout: Duration,
    /// Invocations that one pod works at the same time.
    #[serde(default = "one")]
    #[schemars(range(min = 1))]
    pub concurrency: u32,
    /// Whether requests carry kubeless's `event-id`, `event-type`, `event-time` and `event-namespace`;
    /// absent: where the function is an image, which may have been made for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event_headers: Option<bool>,
    /// Environment of its pods.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Names of secrets that its pods find as files, `/var/openfaas/secrets/NAME` in containers and
    /// `$STOIC_SECRETS/NAME` everywhere.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<String>,
    /// Files that its containers find and can only read, at most 1 MiB together: code, configuration,
    /// nothing secret. For sites that run containers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub files: Vec<FileSpec>,
    /// Whether containers get a root that cannot be written, with an empty `/tmp` in memory.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub read_only_root: bool,
    /// What one invocation may leave behind for the next.
    #[serde(default)]
    pub isolation: Isolation,
    /// A request that each pod answers before it counts as ready, so that whatever it loads at its first
    /// one is in memory. Functions of the SDK need none: they have run once before they are healthy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warmup: Option<Warmup>,
    /// Warm pods by runtime: a number, or `{min, max, idle}`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::standby")]
    pub standby: BTreeMap<String, Standby>,
    /// Pods kept ready on the first runtime that the function may use (with 0: on none), whatever
    /// `standby` says: what `kubectl scale` sets. Changing it makes no new version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 1000))]
    pub replicas: Option<u32>,
    /// Runtimes the function may use; empty: all of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub runtimes: Vec<String>,
    /// The queue in front of the pods of one runtime.
    #[serde(default)]
    pub queue: QueueSpec,
    /// Representative tasks run for a new version (paper, section 3.7).
    #[serde(default)]
    pub bootstrap: BootstrapSpec,
}

/// A pod's first request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Warmup {
    /// Path and query.
    #[serde(default = "root")]
    #[schemars(regex(pattern = "^/"))]
    pub path: String,
    /// Method; absent: `POST` with a body, `GET` without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// Body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// Media type of the body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
}

impl Warmup {
    /// The method, written out.
    #[must_use]
    pub fn method(&self) -> &str {
        match (&self.method, &self.body) {
            (Some(method), _) => method,
            (None, Some(_)) => "POST",
            (None, None) => "GET",
        }
    }

    fn validate(&self) -> Result<(), InvalidFunction> {
        if !self.path.starts_with('/') || self.path.parse::<http::Uri>().is_err() {
            return Err(InvalidFunction(format!(
                "spec.warmup.path: `{}` is no path that starts with `/`",
                self.path
            )));
        }
        if http::Method::from_bytes(self.method().as_bytes()).is_err() {
            return Err(InvalidFunction(format!(
                "spec.warmup.method: `{}` is no method",
                self.method()
            )));
        }
        let typed = self.content_type.as_deref();
        if typed.is_some_and(|typed| http::HeaderValue::from_str(typed).is_err()) {
            return Err(InvalidFunction(
                "spec.warmup.contentType: no value of a header".to_owned(),
            ));
        }
        Ok(())
    }
}

/// What a pod needs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Resources {
    /// CPU cores, as `0.5`, `2` or `500m`.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "amounts::read_cores"
    )]
    #[schemars(schema_with = "schema::cores")]
    pub cpu: Option<f64>,
    /// Memory, as `512Mi` or `1Gi`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::memory")]
    pub memory: Option<ByteSize>,
    /// GPUs.
    #[serde(default)]
    pub gpu: u32,
}

/// When an image is fetched.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Pull {
    /// Before a pod is launched, where the tag has moved or the image is absent.
    #[default]
    Newer,
    /// Only where the image is absent.
    Missing,
    /// Never: it has to be there.
    Never,
}

/// What one invocation may leave behind for the next.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Isolation {
    /// Invocations of a pod share its process.
    #[default]
    Pod,
    /// Each invocation has a process of its own, forked from one that has loaded everything.
    Invocation,
}

/// How the input reaches a pod.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Input {
    /// A package of items, staged in object storage.
    Batch,
    /// The request passes through.
    #[default]
    Request,
}

/// Warm pods of one runtime.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "StandbyForm")]
pub struct Standby {
    /// Pods kept ready when nothing runs.
    pub min: u32,
    /// Most pods at any time.
    pub max: u32,
    /// Pods above `min` go after being idle for this long.
    #[serde(with = "humantime_serde")]
    pub idle: Duration,
    /// As many pods stay as the highest concurrency of this window needed; absent: as long as `idle`.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "humantime_serde"
    )]
    pub window: Option<Duration>,
}

impl Default for Standby {
    fn default() -> Self {
        Self {
            min: 0,
            max: 1,
            idle: DEFAULT_IDLE,
            window: None,
        }
    }
}

const DEFAULT_IDLE: Duration = Duration::from_secs(300);

enum StandbyForm {
    Count(u32),
    Full(StandbyFull),
}

/// By hand, since of an untagged enum serde does not say what is wrong.
impl<'de> Deserialize<'de> for StandbyForm {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Form;

        impl<'de> serde::de::Visitor<'de> for Form {
            type Value = StandbyForm;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a number of standby pods, or `min`, `max`, `idle` and `window`")
            }

            fn visit_u64<E: serde::de::Error>(self, count: u64) -> Result<StandbyForm, E> {
                let unfit = |_| E::invalid_value(serde::de::Unexpected::Unsigned(count), &self);
                u32::try_from(count).map(StandbyForm::Count).map_err(unfit)
            }

            fn visit_i64<E: serde::de::Error>(self, count: i64) -> Result<StandbyForm, E> {
                let unfit = |_| E::invalid_value(serde::de::Unexpected::Signed(count), &self);
                u32::try_from(count).map(StandbyForm::Count).map_err(unfit)
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(
                self,
                map: A,
            ) -> Result<StandbyForm, A::Error> {
                let full = serde::de::value::MapAccessDeserializer::new(map);
                StandbyFull::deserialize(full).map(StandbyForm::Full)
            }
        }

        deserializer.deserialize_any(Form)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StandbyFull {
    #[serde(default)]
    min: u32,
    max: Option<u32>,
    #[serde(default = "default_idle", with = "humantime_serde")]
    idle: Duration,
    #[serde(default, with = "humantime_serde")]
    window: Option<Duration>,
}

impl From<StandbyForm> for Standby {
    fn from(form: StandbyForm) -> Self {
        match form {
            StandbyForm::Count(count) => Self {
                min: count,
                max: count.max(1),
                ..Self::default()
            },
            StandbyForm::Full(full) => Self {
                min: full.min,
                max: full.max.unwrap_or(full.min.max(1)),
                idle: full.idle,
                window: full.window,
            },
        }
    }
}

/// The bounded queue in front of the pods of one runtime.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct QueueSpec {
    /// Most requests that wait; one more is answered 429.
    pub length: u32,
    /// Longest wait for a pod, deployment included; then 503.
    #[serde(with = "humantime_serde")]
    #[schemars(schema_with = "schema::duration")]
    pub wait: Duration,
}

impl Default for QueueSpec {
    fn default() -> Self {
        Self {
            length: 256,
            wait: Duration::from_secs(600),
        }
    }
}

/// Representative tasks for a new version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BootstrapSpec {
    /// Items of each task; as the paper's authors had them, 33 and 10. Empty: no bootstrap.
    #[schemars(inner(range(min = 1, max = 10_000)))]
    pub batches: Vec<u32>,
}

impl Default for BootstrapSpec {
    fn default() -> Self {
        Self {
            batches: vec![33, 10],
        }
    }
}

fn default_port() -> u16 {
    8080
}
fn default_health() -> String {
    crate::link::HEALTH_PATH.to_owned()
}
fn default_timeout() -> Duration {
    Duration::from_secs(600)
}
fn default_ready_timeout() -> Duration {
    Duration::from_secs(120)
}
fn default_idle() -> Duration {
    DEFAULT_IDLE
}
fn one() -> u32 {
    1
}
fn root() -> String {
    "/".to_owned()
}

impl FunctionSpec {
    /// Whether requests carry kubeless's event headers.
    #[must_use]
    pub fn tells_events(&self) -> bool {
        self.event_headers.unwrap_or(self.image.is_some())
    }
}

impl FunctionObject {
    /// Parses a `function.yaml` (or JSON, which is YAML).
    ///
    /// # Errors
    /// One line that names the key and, for a misspelt one, the nearest known key.
    pub fn parse(text: &str) -> Result<Self, InvalidFunction> {
        let object: Self = serde_saphyr::from_str(text)
            .map_err(|e| InvalidFunction(nearest::explain(&e.to_string())))?;
        object.validate()?;
        Ok(object)
    }

    /// Checks what the types cannot.
    ///
    /// # Errors
    /// The first thing that is wrong, with its key.
    pub fn validate(&self) -> Result<(), InvalidFunction> {
        let refuse = |text: String| Err(InvalidFunction(text));
        if self.api_version != API_VERSION {
            return refuse(format!(
                "apiVersion: `{}` is not known; write `{API_VERSION}`",
                self.api_version
            ));
        }
        if self.kind != "Function" {
            return refuse(format!(
                "kind: `{}` is not known; write `Function`",
                self.kind
            ));
        }
        check_name(&self.metadata.name)?;
        let spec = &self.spec;
        if spec.command.first().is_some_and(String::is_empty) {
            return refuse("spec.command: name the executable to run".to_owned());
        }
        if spec.command.is_empty() && spec.image.is_none() {
            return refuse(
                "spec.command: name an executable for process sites, or give spec.image for sites that run containers"
                    .to_owned(),
            );
        }
        if !spec.health.starts_with('/') {
            return refuse(format!(
                "spec.health: `{}` must start with `/`",
                spec.health
            ));
        }
        if let Some(warmup) = &spec.warmup {
            warmup.validate()?;
        }
        if spec
            .replicas
            .is_some_and(|replicas| replicas > MOST_REPLICAS)
        {
            return refuse(format!("spec.replicas: at most {MOST_REPLICAS}"));
        }
        if spec.concurrency == 0 {
            return refuse("spec.concurrency: must be at least 1".to_owned());
        }
        if spec.timeout.is_zero() || spec.ready_timeout.is_zero() {
            return refuse(
                "spec.timeout and spec.readyTimeout must be longer than zero".to_owned(),
            );
        }
        for (runtime, standby) in &spec.standby {
            if standby.max == 0 || standby.max < standby.min {
                return refuse(format!(
                    "spec.standby.{runtime}: max ({}) must be at least 1 and at least min ({})",
                    standby.max, standby.min
                ));
            }
        }
        if let Some(zero) = spec
            .bootstrap
            .batches
            .iter()
            .find(|items| **items == 0 || **items > 10_000)
        {
            return refuse(format!(
                "spec.bootstrap.batches: {zero} items is out of range 1 to 10000"
            ));
        }
        for key in spec.env.keys() {
            if key.is_empty() || key.contains(['=', '\0']) {
                return refuse(format!("spec.env: `{key}` is no name of a variable"));
            }
        }
        check_files(&spec.files)
    }
}

/// Function names are DNS labels, so that every backend can carry them.
///
/// # Errors
/// It is none.
pub fn check_name(name: &str) -> Result<(), InvalidFunction> {
    let good = !name.is_empty()
        && name.len() <= 63
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !name.starts_with('-')
        && !name.ends_with('-');
    if good {
        Ok(())
    } else {
        Err(InvalidFunction(format!(
            "metadata.name: `{name}` is not a DNS label (lower-case letters, digits and `-`, at most 63, no `-` at either end)"
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cores_are_a_number_or_a_quantity_as_kubernetes_writes_it() {
        let of = |cpu: &str| {
            let object = FunctionObject::parse(&GOOD.replace(
                "  command:",
                &format!("  resources: {{cpu: {cpu}}}\n  command:"),
            ))?;
            Ok::<_, InvalidFunction>(object.spec.resources.and_then(|r| r.cpu))
        };
        for (cpu, cores) in [("2", 2.0), ("0.5", 0.5), ("100m", 0.1), ("\"1.5\"", 1.5)] {
            assert_eq!(of(cpu).expect(cpu), Some(cores), "{cpu}");
        }
        for wrong in ["two", "-1", "0", "[1]"] {
            let told = of(wrong).expect_err(wrong).to_string();
            assert!(told.contains("CPU cores"), "{wrong}: {told}");
        }
    }

    const GOOD: &str = "apiVersion: stoic.dev/v1\nkind: Function\nmetadata: {name: hi}\nspec:\n  command: [stoic-echo]\n  standby: {edge: 1, cpu: {min: 0, max: 2, idle: 30s}}\n";

    #[test]
    fn both_forms_of_standby_are_read() {
        let object = FunctionObject::parse(GOOD).expect("valid");
        assert_eq!(object.spec.standby["edge"].min, 1);
        assert_eq!(
            object.spec.standby["cpu"],
            Standby {
                min: 0,
                max: 2,
                idle: Duration::from_secs(30),
                window: None,
            }
        );
        let text = GOOD.replace("idle: 30s", "idle: 30s, window: 2m");
        let object = FunctionObject::parse(&text).expect("valid");
        let window = Some(Duration::from_secs(120));
        assert_eq!(object.spec.standby["cpu"].window, window);
        let text = serde_json::to_string(&object).expect("serialises");
        assert_eq!(FunctionObject::parse(&text).expect("valid"), object);
    }

    #[test]
    fn a_first_request_is_read_or_refused_by_its_key() {
        let with = |warmup: &str| FunctionObject::parse(&format!("{GOOD}  warmup: {warmup}\n"));
        let object = with("{body: '{}', contentType: application/json}").expect("valid");
        let warmup = object.spec.warmup.expect("declared");
        assert_eq!((warmup.path.as_str(), warmup.method()), ("/", "POST"));
        assert_eq!(
            with("{path: /x}")
                .expect("valid")
                .spec
                .warmup
                .map(|w| w.method().to_owned()),
            Some("GET".to_owned())
        );
        for (warmup, key) in [
            ("{path: x}", "spec.warmup.path"),
            ("{path: '/a b'}", "spec.warmup.path"),
            ("{method: 'a b'}", "spec.warmup.method"),
            ("{contentType: \"a\\nb\"}", "spec.warmup.contentType"),
            ("{pth: /}", "path"),
        ] {
            let error = with(warmup).expect_err(warmup).to_string();
            assert!(error.contains(key), "{warmup}: {error}");
        }
    }

    #[test]
    fn a_misspelt_key_names_the_nearest_known_one() {
        let text = GOOD.replace("command", "comand");
        let error = FunctionObject::parse(&text)
            .expect_err("misspelt")
            .to_string();
        assert!(
            error.contains("comand") && error.contains("did you mean `command`"),
            "{error}"
        );
    }

    #[test]
    fn names_that_are_no_dns_labels_are_refused() {
        for name in ["", "Hi", "a_b", "-a", "a-", "a/b", &"x".repeat(64)] {
            let text = GOOD.replace("name: hi", &format!("name: \"{name}\""));
            assert!(FunctionObject::parse(&text).is_err(), "{name}");
        }
    }

    #[test]
    fn the_object_survives_a_round_trip() {
        let object = FunctionObject::parse(GOOD).expect("valid");
        let text = serde_json::to_string(&object).expect("serialises");
        assert_eq!(FunctionObject::parse(&text).expect("valid"), object);
    }
}
