//! A function as OpenFaaS' clients declare it, made into ours.

use super::check_namespace;
use crate::failure::Failure;
use crate::function::{
    BootstrapSpec, FunctionObject, FunctionSpec, Input, Resources, Standby, amounts,
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::BTreeMap;
use std::time::Duration;

/// Label: pods kept ready.
const SCALE_MIN: &str = "com.openfaas.scale.min";
/// Label: most pods.
const SCALE_MAX: &str = "com.openfaas.scale.max";
/// Label: whether idle functions lose their last pod.
const SCALE_ZERO: &str = "com.openfaas.scale.zero";
/// Label: after which idle time they do.
const ZERO_AFTER: &str = "com.openfaas.scale.zero-duration";
/// Annotation: path that answers 200 when a pod is ready.
const HEALTH_PATH: &str = "com.openfaas.health.http.path";
/// Annotation: executable and arguments, for process sites, with blanks between.
const COMMAND: &str = "stoic.dev/command";
/// Annotation: `batch` or `request`.
const INPUT: &str = "stoic.dev/input";
/// Annotation: port that the image listens on.
const PORT: &str = "stoic.dev/port";
/// Variable that the watchdog starts its process from.
const PROCESS: &str = "fprocess";

/// Most pods where nothing is said: as OpenFaaS has it.
const DEFAULT_MAX: u32 = 5;
/// Invocations of a pod at a time where `max_inflight` says nothing: OpenFaaS' watchdog sets no bound,
/// and ours has to have one, by which pods are added.
const DEFAULT_CONCURRENCY: u32 = 32;

/// What `POST` and `PUT /system/functions` carry. Fields that are not known are passed over, as
/// OpenFaaS' own gateway does.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct FunctionDeployment {
    pub(super) service: String,
    image: String,
    namespace: Option<String>,
    env_process: Option<String>,
    env_vars: Option<BTreeMap<String, String>>,
    constraints: Option<Vec<String>>,
    secrets: Option<Vec<String>>,
    labels: Option<BTreeMap<String, String>>,
    annotations: Option<BTreeMap<String, String>>,
    limits: Option<FunctionResources>,
    requests: Option<FunctionResources>,
    read_only_root_filesystem: bool,
}

/// Memory, CPU and GPUs of a pod.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct FunctionResources {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) memory: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) cpu: String,
    #[serde(rename = "nvidia.com/gpu", skip_serializing_if = "String::is_empty")]
    pub(super) nvidia: String,
    #[serde(rename = "amd.com/gpu", skip_serializing)]
    amd: String,
    #[serde(rename = "intel.com/gpu", skip_serializing)]
    intel: String,
}

impl FunctionDeployment {
    /// Ours. `first_able` names the first runtime that can run what a spec has.
    pub(super) fn object(
        self,
        first_able: impl Fn(&FunctionSpec) -> Option<String>,
    ) -> Result<FunctionObject, Failure> {
        check_namespace(self.namespace.as_deref())?;
        let (labels, annotations) = (
            self.labels.unwrap_or_default(),
            self.annotations.unwrap_or_default(),
        );
        let mut object: FunctionObject = serde_json::from_value(json!({
            "apiVersion": "stoic.dev/v1", "kind": "Function",
            "metadata": {"name": self.service}, "spec": {},
        }))
        .map_err(|e| invalid("service", &e.to_string()))?;
        let spec = &mut object.spec;
        spec.command = annotations.get(COMMAND).map_or_else(Vec::new, |command| {
            command.split_whitespace().map(str::to_owned).collect()
        });
        spec.image = Some(self.image).filter(|image| !image.is_empty());
        if spec.image.is_none() && spec.command.is_empty() {
            let detail = format!("name an image, or an executable in the annotation {COMMAND}");
            return Err(invalid("image", &detail));
        }
        spec.env = self.env_vars.unwrap_or_default();
        if let Some(process) = self.env_process.filter(|process| !process.is_empty()) {
            spec.env.insert(PROCESS.to_owned(), process);
        }
        spec.secrets = self.secrets.unwrap_or_default();
        spec.read_only_root = self.read_only_root_filesystem;
        spec.input = match annotations.get(INPUT).map(String::as_str) {
            None | Some("request") => Input::Request,
            Some("batch") => Input::Batch,
            Some(other) => {
                let detail = format!("`{other}` is not known; write `batch` or `request`");
                return Err(invalid(INPUT, &detail));
            }
        };
        if spec.input == Input::Request {
            spec.bootstrap = BootstrapSpec {
                batches: Vec::new(),
            };
        }
        spec.concurrency = concurrency(spec)?;
        if let Some(port) = number(&annotations, PORT)? {
            spec.port = port;
        }
        spec.health = match annotations.get(HEALTH_PATH) {
            Some(path) => path.clone(),
            // Images for OpenFaaS have to answer there; what process sites run is the SDK's.
            None if spec.command.is_empty() => "/_/health".to_owned(),
            None => std::mem::take(&mut spec.health),
        };
        // OpenFaaS' requests are what a scheduler sets aside: ours knows only what a pod may take.
        let resources = self.limits.or(self.requests);
        spec.resources = resources.map(FunctionResources::ours).transpose()?;
        spec.runtimes = runtimes(self.constraints.unwrap_or_default())?;
        if let Some(runtime) = first_able(spec) {
            spec.standby.insert(runtime, standby(&labels)?);
        }
        object.metadata.labels = labels;
        object.metadata.annotations = annotations;
        Ok(object)
    }
}

impl FunctionResources {
    fn ours(self) -> Result<Resources, Failure> {
        if !self.amd.is_empty() || !self.intel.is_empty() {
            let detail = "only `nvidia.com/gpu` is known of GPUs";
            return Err(invalid("limits", detail));
        }
        let said = |text: String| Some(text).filter(|text| !text.is_empty());
        let memory = said(self.memory).map(|text| amounts::memory(&text));
        let cpu = said(self.cpu).map(|text| amounts::cores(&text));
        let gpu = said(self.nvidia).map(|text| {
            let wrong = |_| format!("`{text}` is no number of GPUs");
            text.parse().map_err(wrong)
        });
        Ok(Resources {
            memory: memory
                .transpose()
                .map_err(|e| invalid("limits.memory", &e))?,
            cpu: cpu.transpose().map_err(|e| invalid("limits.cpu", &e))?,
            gpu: gpu
                .transpose()
                .map_err(|e: String| invalid("limits.nvidia.com/gpu", &e))?
                .unwrap_or(0),
        })
    }

    /// OpenFaaS' words for ours.
    pub(super) fn of(resources: &Resources) -> Self {
        Self {
            memory: resources
                .memory
                .map_or_else(String::new, |memory| memory.as_u64().to_string()),
            cpu: resources
                .cpu
                .map_or_else(String::new, |cpu| cpu.to_string()),
            nvidia: match resources.gpu {
                0 => String::new(),
                count => count.to_string(),
            },
            ..Self::default()
        }
    }
}

/// Splits the watchdog's process off the variables.
pub(super) fn without_process(
    env: &BTreeMap<String, String>,
) -> (Option<String>, BTreeMap<String, String>) {
    let mut env = env.clone();
    (env.remove(PROCESS), env)
}

fn standby(labels: &BTreeMap<String, String>) -> Result<Standby, Failure> {
    let zero = match labels.get(SCALE_ZERO).map(|text| text.trim()) {
        None | Some("false") => false,
        Some("true") => true,
        Some(other) => {
            let detail = format!("`{other}` is neither `true` nor `false`");
            return Err(invalid(SCALE_ZERO, &detail));
        }
    };
    let asked: Option<u32> = number(labels, SCALE_MIN)?;
    let min = if zero { 0 } else { asked.unwrap_or(1) };
    let max = number(labels, SCALE_MAX)?.unwrap_or(DEFAULT_MAX.max(min));
    let idle = match labels.get(ZERO_AFTER) {
        None => Standby::default().idle,
        Some(text) => duration(ZERO_AFTER, text)?,
    };
    if max == 0 || max < min {
        let detail = format!("{max} must be at least 1 and at least {SCALE_MIN}, {min}");
        return Err(invalid(SCALE_MAX, &detail));
    }
    Ok(Standby {
        min,
        max,
        idle,
        ..Standby::default()
    })
}

fn concurrency(spec: &FunctionSpec) -> Result<u32, Failure> {
    if spec.input == Input::Batch {
        return Ok(spec.concurrency);
    }
    let asked = number(&spec.env, "max_inflight")?;
    Ok(asked
        .filter(|asked| *asked > 0)
        .unwrap_or(DEFAULT_CONCURRENCY))
}

/// `runtime=NAME`, or `runtime == NAME` as OpenFaaS' users write it.
fn runtimes(constraints: Vec<String>) -> Result<Vec<String>, Failure> {
    let runtime = |constraint: String| {
        let (key, value) = constraint.split_once('=').unwrap_or((&constraint, ""));
        let value = value.trim_start_matches('=').trim();
        match key.trim() {
            "runtime" | "stoic.dev/runtime" if !value.is_empty() => Ok(value.to_owned()),
            _ => {
                let detail = format!("`{constraint}` is not known; write `runtime=NAME`");
                Err(invalid("constraints", &detail))
            }
        }
    };
    constraints.into_iter().map(runtime).collect()
}

fn number<N: std::str::FromStr>(
    all: &BTreeMap<String, String>,
    key: &str,
) -> Result<Option<N>, Failure> {
    let parse = |text: &String| {
        let wrong = |_| invalid(key, &format!("`{text}` is no number that can stand here"));
        text.trim().parse().map_err(wrong)
    };
    all.get(key).map(parse).transpose()
}

fn duration(key: &str, text: &str) -> Result<Duration, Failure> {
    humantime::parse_duration(text.trim())
        .ok()
        .filter(|duration| !duration.is_zero())
        .ok_or_else(|| invalid(key, &format!("`{text}` is no length of time such as 15m")))
}

fn invalid(key: &str, detail: &str) -> Failure {
    Failure::new(400, "function_invalid", format!("{key}: {detail}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytesize::ByteSize;

    fn object(body: serde_json::Value) -> Result<FunctionObject, Failure> {
        let deployment: FunctionDeployment = serde_json::from_value(body).expect("a deployment");
        deployment.object(|_| Some("edge".to_owned()))
    }

    #[test]
    fn what_faas_cli_sends_becomes_a_function() {
        let object = object(json!({
            "service": "hi", "image": "localhost:5000/hi:1", "namespace": "openfaas-fn",
            "envProcess": "cat", "envVars": {"A": "b", "max_inflight": "4"}, "constraints": ["runtime == edge"],
            "secrets": ["token"], "labels": {"com.openfaas.scale.min": "2", "com.openfaas.scale.max": "7"},
            "annotations": null, "limits": {"memory": "128Mi", "cpu": "250m", "nvidia.com/gpu": "1"},
            "readOnlyRootFilesystem": true, "registryAuth": "passed over",
        }))
        .expect("valid");
        object.validate().expect("valid");
        let spec = &object.spec;
        assert_eq!(spec.image.as_deref(), Some("localhost:5000/hi:1"));
        assert_eq!(
            (spec.env["fprocess"].as_str(), spec.concurrency),
            ("cat", 4)
        );
        assert_eq!(spec.runtimes, ["edge"]);
        let idle = Standby::default().idle;
        assert_eq!(
            spec.standby["edge"],
            Standby {
                min: 2,
                max: 7,
                idle,
                ..Standby::default()
            }
        );
        let resources = spec.resources.as_ref().expect("limits");
        assert_eq!(
            (resources.memory, resources.gpu),
            (Some(ByteSize(128 << 20)), 1)
        );
        assert_eq!(resources.cpu, Some(0.25));
        assert!(spec.read_only_root && spec.secrets == ["token"]);
        assert_eq!((spec.health.as_str(), spec.port), ("/_/health", 8080));
    }

    #[test]
    fn one_pod_is_kept_unless_it_may_go() {
        let min = |labels: serde_json::Value| {
            let object = object(json!({"service": "hi", "image": "i", "labels": labels}));
            object.expect("valid").spec.standby["edge"].min
        };
        assert_eq!(min(json!({})), 1);
        assert_eq!(min(json!({"com.openfaas.scale.zero": "true"})), 0);
        assert_eq!(min(json!({"com.openfaas.scale.min": "9"})), 9);
    }

    #[test]
    fn what_cannot_be_is_refused_by_its_key() {
        for (body, key) in [
            (json!({"service": "hi"}), "image"),
            (
                json!({"service": "hi", "image": "i", "labels": {SCALE_MIN: "many"}}),
                SCALE_MIN,
            ),
            (
                json!({"service": "hi", "image": "i", "labels": {SCALE_MAX: "0"}}),
                SCALE_MAX,
            ),
            (
                json!({"service": "hi", "image": "i", "labels": {SCALE_ZERO: "maybe"}}),
                SCALE_ZERO,
            ),
            (
                json!({"service": "hi", "image": "i", "limits": {"memory": "much"}}),
                "limits.memory",
            ),
            (
                json!({"service": "hi", "image": "i", "limits": {"amd.com/gpu": "1"}}),
                "limits",
            ),
            (
                json!({"service": "hi", "image": "i", "constraints": ["node=7"]}),
                "constraints",
            ),
            (
                json!({"service": "hi", "image": "i", "namespace": "other"}),
                "namespace",
            ),
        ] {
            let refused = object(body.clone()).expect_err(&body.to_string());
            let detail = refused.problem.detail.clone();
            let detail = detail.unwrap_or_default();
            assert!(detail.contains(key), "{detail}");
        }
    }
}
