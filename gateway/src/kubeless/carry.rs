//! One function of kubeless', carried over.

use super::code;
use crate::function::{API_VERSION, FunctionObject, amounts};
use serde_json::{Map, Value, json};

/// Seconds that an invocation may take where the object does not say, as kubeless has it.
const TIMEOUT: &str = "180";
/// Invocations that a pod works at once: kubeless' pods set no limit themselves.
const CONCURRENCY: u32 = 64;
/// Labels that only kubeless' own tools mind.
const LABELS: [&str; 2] = ["created-by", "function"];

/// A function of kubeless' as one of ours.
#[derive(Debug, Clone, PartialEq)]
pub struct Carried {
    /// The function.
    pub object: FunctionObject,
    /// The same as it is written: with nothing that is not said.
    pub document: Value,
    /// What could not be carried over, a line for each thing.
    pub left: Vec<String>,
}

/// Why a function cannot be carried over at all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotCarried(pub String);

/// Carries one function over.
///
/// # Errors
/// It names no image, or what it says is no function of ours.
pub fn function(object: &Value) -> Result<Carried, NotCarried> {
    let spec = &object["spec"];
    let template = &spec["deployment"]["spec"]["template"]["spec"];
    let container = &template["containers"][0];
    let mut left = Vec::new();
    let image = text(container, "image").ok_or_else(|| no_image(spec))?;
    let port = port(spec, &mut left);
    let mut ours = Map::new();
    ours.insert("image".to_owned(), image.into());
    match text(container, "imagePullPolicy") {
        Some("IfNotPresent") => drop(ours.insert("pull".to_owned(), "missing".into())),
        Some("Never") => drop(ours.insert("pull".to_owned(), "never".into())),
        _ => {}
    }
    let args = strings(&container["args"]);
    if !args.is_empty() {
        ours.insert("args".to_owned(), json!(args));
    }
    if port != 8080 {
        ours.insert("port".to_owned(), port.into());
    }
    if let Some(path) = text(&container["livenessProbe"]["httpGet"], "path") {
        ours.insert("health".to_owned(), path.into());
    }
    let timeout = text(spec, "timeout").unwrap_or(TIMEOUT);
    match timeout.parse::<u32>() {
        Ok(seconds) if seconds > 0 => {
            ours.insert("timeout".to_owned(), format!("{seconds}s").into());
        }
        _ => left.push(format!("timeout `{timeout}` is no number of seconds")),
    }
    ours.insert("concurrency".to_owned(), CONCURRENCY.into());
    ours.insert("eventHeaders".to_owned(), true.into());
    // kubeless called no function by itself, and code that answers any path takes a task for a request.
    ours.insert("bootstrap".to_owned(), json!({"batches": []}));
    let env = env(spec, container, port, &mut left);
    ours.insert("env".to_owned(), Value::Object(env));
    if let Some(file) = code::file(spec, &mut left) {
        ours.insert("files".to_owned(), json!([file]));
    }
    if let Some(resources) = resources(container, &mut left) {
        ours.insert("resources".to_owned(), resources);
    }
    ours.insert("replicas".to_owned(), replicas(spec, &mut left).into());
    rest(spec, template, container, &mut left);

    let metadata = metadata(object);
    let document = json!({
        "apiVersion": API_VERSION,
        "kind": "Function",
        "metadata": metadata,
        "spec": ours,
    });
    let wrong = |text: String| NotCarried(format!("what it says is no function here: {text}"));
    let object: FunctionObject =
        serde_json::from_value(document.clone()).map_err(|error| wrong(error.to_string()))?;
    object
        .validate()
        .map_err(|error| wrong(error.to_string()))?;
    Ok(Carried {
        object,
        document,
        left,
    })
}

fn no_image(spec: &Value) -> NotCarried {
    let runtime = text(spec, "runtime").unwrap_or("none");
    NotCarried(format!(
        "it names no image: code of runtime `{runtime}` would need kubeless' build step; build an image that holds it, and name that in spec.deployment.spec.template.spec.containers[0].image (kubeless function update --runtime-image)"
    ))
}

pub(super) fn text<'a>(value: &'a Value, key: &str) -> Option<&'a str> {
    value[key].as_str().filter(|text| !text.is_empty())
}

fn strings(value: &Value) -> Vec<&str> {
    let all = value.as_array().map(Vec::as_slice).unwrap_or_default();
    all.iter().filter_map(Value::as_str).collect()
}

fn metadata(object: &Value) -> Value {
    let given = &object["metadata"];
    let mut ours = Map::new();
    ours.insert("name".to_owned(), given["name"].clone());
    let mut labels = given["labels"].as_object().cloned().unwrap_or_default();
    labels.retain(|key, _| !LABELS.contains(&key.as_str()));
    if !labels.is_empty() {
        ours.insert("labels".to_owned(), Value::Object(labels));
    }
    Value::Object(ours)
}

fn port(spec: &Value, left: &mut Vec<String>) -> u16 {
    let first = &spec["service"]["ports"][0];
    let number = |key: &str| first[key].as_u64().and_then(|n| u16::try_from(n).ok());
    let target = number("targetPort").filter(|port| *port > 0);
    if let Some(name) = first["targetPort"].as_str() {
        left.push(format!(
            "service port by name (`{name}`): a number is needed"
        ));
    }
    target.or_else(|| number("port")).unwrap_or(8080)
}

/// The environment that kubeless gave, and that of the object.
fn env(spec: &Value, container: &Value, port: u16, left: &mut Vec<String>) -> Map<String, Value> {
    let mut all = Map::new();
    let given = container["env"].as_array().map(Vec::as_slice);
    for variable in given.unwrap_or_default() {
        let Some(name) = text(variable, "name") else {
            continue;
        };
        if variable.get("valueFrom").is_some_and(|v| !v.is_null()) {
            left.push(format!(
                "env {name}: its value comes from elsewhere in the cluster"
            ));
            continue;
        }
        let value = variable["value"].as_str().unwrap_or_default();
        all.insert(name.to_owned(), value.into());
    }
    let mut add = |name: &str, value: &str| {
        all.insert(name.to_owned(), value.into());
    };
    if let (Some((module, function)), Some(_)) = (code::handler(spec), text(spec, "function")) {
        add("FUNC_HANDLER", function);
        add("MOD_NAME", module);
        add("FUNC_TIMEOUT", text(spec, "timeout").unwrap_or(TIMEOUT));
        add("FUNC_RUNTIME", text(spec, "runtime").unwrap_or_default());
        let memory = &container["resources"]["limits"]["memory"];
        add("FUNC_MEMORY_LIMIT", memory.as_str().unwrap_or("0"));
    }
    add("FUNC_PORT", &port.to_string());
    for (name, value) in code::env(spec) {
        add(name, &value);
    }
    all
}

fn resources(container: &Value, left: &mut Vec<String>) -> Option<Value> {
    let amount = |name: &str| {
        let of = |which: &str| match &container["resources"][which][name] {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        };
        // `kubeless` writes 0 for what it was not told.
        of("limits")
            .or_else(|| of("requests"))
            .filter(|text| text != "0")
    };
    let mut ours = Map::new();
    if let Some(cpu) = amount("cpu") {
        match amounts::cores(&cpu) {
            Ok(cores) => drop(ours.insert("cpu".to_owned(), json!(cores))),
            Err(error) => left.push(format!("resources.cpu: {error}")),
        }
    }
    if let Some(memory) = amount("memory") {
        match amounts::memory(&memory) {
            // As it is written: amounts are not all written as they are read.
            Ok(_) => drop(ours.insert("memory".to_owned(), memory.into())),
            Err(error) => left.push(format!("resources.memory: {error}")),
        }
    }
    if let Some(gpus) = amount("nvidia.com/gpu") {
        match gpus.parse::<u32>() {
            Ok(gpus) => drop(ours.insert("gpu".to_owned(), gpus.into())),
            Err(_) => left.push(format!("resources nvidia.com/gpu: `{gpus}` is no number")),
        }
    }
    (!ours.is_empty()).then_some(Value::Object(ours))
}

/// Pods that are always there: kubeless had at least one.
fn replicas(spec: &Value, left: &mut Vec<String>) -> u32 {
    let number = |value: &Value| value.as_u64().and_then(|n| u32::try_from(n).ok());
    let scaler = &spec["horizontalPodAutoscaler"]["spec"];
    if let Some(most) = number(&scaler["maxReplicas"]).filter(|most| *most > 0) {
        left.push(format!(
            "horizontalPodAutoscaler: pods come by the work that waits, not by its metrics; for as many as {most}, give spec.standby with a max"
        ));
    }
    let asked =
        number(&scaler["minReplicas"]).or_else(|| number(&spec["deployment"]["spec"]["replicas"]));
    asked.unwrap_or(1).max(1)
}

/// What has no counterpart.
fn rest(spec: &Value, template: &Value, container: &Value, left: &mut Vec<String>) {
    let mut say = |line: String| left.push(line);
    if let Some(line) = code::deps(spec) {
        say(line);
    }
    if !strings(&container["command"]).is_empty() {
        say("container command: the image's own entry point runs".to_owned());
    }
    let containers = template["containers"].as_array().map_or(0, Vec::len);
    if containers > 1 {
        say(format!("{} more containers: a pod has one", containers - 1));
    }
    let volumes = template["volumes"].as_array().map(Vec::as_slice);
    for volume in volumes.unwrap_or_default() {
        match text(&volume["secret"], "secretName") {
            Some(secret) => say(format!(
                "secret {secret}: keep its values with `stoic secret create`, name them in spec.secrets; pods find them under /var/openfaas/secrets"
            )),
            None => say(format!(
                "volume {}: nothing but secrets is mounted",
                text(volume, "name").unwrap_or("without a name")
            )),
        }
    }
    for (key, what) in [
        ("initContainers", "init containers: a pod has none"),
        (
            "nodeSelector",
            "node selector: belongs to the runtime, in the gateway's configuration",
        ),
        (
            "tolerations",
            "tolerations: belong to the runtime, in the gateway's configuration",
        ),
        ("affinity", "affinity: pods have none"),
        (
            "serviceAccountName",
            "service account: belongs to the site, in the gateway's configuration",
        ),
        (
            "imagePullSecrets",
            "image pull secrets: belong to the site, in the gateway's configuration",
        ),
    ] {
        let given = &template[key];
        let empty = match given {
            Value::Array(all) => all.is_empty(),
            Value::Object(all) => all.is_empty(),
            Value::String(text) => text.is_empty(),
            _ => true,
        };
        if !empty {
            say(what.to_owned());
        }
    }
    if text(&spec["service"], "type").is_some_and(|kind| kind != "ClusterIP") {
        say("service type: the gateway's own Service is what callers reach".to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::function::{LARGEST_FILES, Pull};

    fn object(spec: Value) -> Value {
        json!({
            "apiVersion": "kubeless.io/v1beta1",
            "kind": "Function",
            "metadata": {"name": "hi", "labels": {"created-by": "kubeless", "function": "hi", "team": "a"}},
            "spec": spec,
        })
    }

    fn with_container(container: Value, more: Value) -> Value {
        let mut spec =
            json!({"deployment": {"spec": {"template": {"spec": {"containers": [container]}}}}});
        if let (Some(spec), Value::Object(more)) = (spec.as_object_mut(), more) {
            spec.extend(more);
        }
        object(spec)
    }

    #[test]
    fn an_image_is_carried_over_with_what_kubeless_gave_it() {
        let carried = function(&with_container(
            json!({
                "image": "localhost:5000/hi:1",
                "imagePullPolicy": "IfNotPresent",
                "env": [{"name": "A", "value": "b"}],
                "resources": {"limits": {"cpu": "500m", "memory": "128Mi"}, "requests": {"cpu": "0"}},
            }),
            json!({
                "handler": "mod.fun", "function": "def fun(): pass", "runtime": "python3.8", "timeout": "30",
                "service": {"ports": [{"name": "http-function-port", "port": 9090, "targetPort": 9090}]},
            }),
        ));
        let carried = carried.expect("it names an image");
        let spec = &carried.object.spec;
        assert_eq!(spec.image.as_deref(), Some("localhost:5000/hi:1"));
        assert_eq!(spec.pull, Pull::Missing);
        assert!(spec.bootstrap.batches.is_empty());
        assert_eq!(
            (spec.port, spec.timeout.as_secs(), spec.replicas),
            (9090, 30, Some(1))
        );
        let env = |key: &str| spec.env.get(key).map(String::as_str);
        assert_eq!(env("A"), Some("b"));
        assert_eq!(env("FUNC_HANDLER"), Some("fun"));
        assert_eq!(env("MOD_NAME"), Some("mod"));
        assert_eq!(env("FUNC_TIMEOUT"), Some("30"));
        assert_eq!(env("FUNC_RUNTIME"), Some("python3.8"));
        assert_eq!(env("FUNC_MEMORY_LIMIT"), Some("128Mi"));
        assert_eq!(env("FUNC_PORT"), Some("9090"));
        let resources = spec.resources.as_ref().expect("given");
        assert_eq!(resources.cpu, Some(0.5));
        assert_eq!(resources.memory.map(|m| m.as_u64()), Some(128 << 20));
        assert_eq!(carried.object.metadata.labels.len(), 1);
        assert_eq!(carried.left, Vec::<String>::new());
        assert_eq!(env("KUBELESS_INSTALL_VOLUME"), Some("/kubeless"));
        let file = &spec.files[0];
        assert_eq!(file.path, "/kubeless/mod.py");
        assert_eq!(file.text.as_deref(), Some("def fun(): pass"));
        let text = serde_json::to_string(&carried.document).expect("serialises");
        assert_eq!(FunctionObject::parse(&text).expect("valid"), carried.object);
    }

    #[test]
    fn what_names_no_image_is_refused_and_says_why() {
        let inline = object(json!({"handler": "a.b", "function": "x", "runtime": "go1.13"}));
        let error = function(&inline).expect_err("no image").to_string();
        assert!(
            error.contains("go1.13") && error.contains("image"),
            "{error}"
        );
        let bad = with_container(json!({"image": "x"}), json!({}));
        let mut long = bad.clone();
        long["metadata"]["name"] = "x".repeat(64).into();
        let error = function(&long).expect_err("too long").to_string();
        assert!(error.contains("DNS label"), "{error}");
        let mut large = bad.clone();
        large["spec"]["handler"] = "a.b".into();
        large["spec"]["function"] = "x".repeat(LARGEST_FILES + 1).into();
        let error = function(&large).expect_err("too large").to_string();
        assert!(error.contains("the most is 1048576"), "{error}");
    }

    #[test]
    fn everything_without_a_counterpart_is_told() {
        let mut whole = with_container(
            json!({"image": "x", "command": ["y"], "env": [{"name": "S", "valueFrom": {"secretKeyRef": {}}}]}),
            json!({
                "deps": "numpy", "timeout": "soon",
                "service": {"type": "NodePort", "ports": [{"targetPort": "web"}]},
                "horizontalPodAutoscaler": {"spec": {"minReplicas": 2, "maxReplicas": 5}},
            }),
        );
        let template = &mut whole["spec"]["deployment"]["spec"]["template"]["spec"];
        template["volumes"] =
            json!([{"name": "s", "secret": {"secretName": "key"}}, {"name": "d", "emptyDir": {}}]);
        template["nodeSelector"] = json!({"disk": "ssd"});
        let carried = function(&whole).expect("it names an image");
        for word in [
            "deps",
            "command",
            "env S",
            "timeout `soon`",
            "service type",
            "`web`",
            "secret key",
            "volume d",
            "node selector",
            "horizontalPodAutoscaler",
        ] {
            let told = carried
                .left
                .iter()
                .filter(|line| line.contains(word))
                .count();
            assert_eq!(told, 1, "{word}: {:?}", carried.left);
        }
        assert_eq!(carried.object.spec.replicas, Some(2));
    }
}
