//! The definition of the resource: `functions.stoic.dev`, from the types that `function.yaml` is read with.

use super::status::ResourceStatus;
use crate::function::schema;
use serde_json::{Value, json};

/// The group of our resources.
pub const GROUP: &str = "stoic.dev";
/// The version that is served and stored.
pub const VERSION: &str = "v1";
/// The plural, as it stands in URLs.
pub const PLURAL: &str = "functions";

/// The definition of `functions.stoic.dev`.
#[must_use]
pub fn definition() -> Value {
    let mut spec = schema::spec();
    spec["description"] = "What to run and how.".into();
    spec["x-kubernetes-validations"] = json!([
        {
            "rule": "has(self.image) || (has(self.command) && size(self.command) > 0 && self.command[0] != '')",
            "message": "spec.image or spec.command has to say what to run",
        },
        {
            "rule": "!has(self.timeout) || !self.timeout.matches('^0+ ?[a-z]+$')",
            "message": "spec.timeout must be longer than zero",
        },
        {
            "rule": "!has(self.readyTimeout) || !self.readyTimeout.matches('^0+ ?[a-z]+$')",
            "message": "spec.readyTimeout must be longer than zero",
        },
    ]);
    let mut status = schema::structural::<ResourceStatus>();
    status["description"] = "What became of it.".into();
    let conditions = &mut status["properties"]["conditions"];
    conditions["x-kubernetes-list-type"] = "map".into();
    conditions["x-kubernetes-list-map-keys"] = json!(["type"]);
    conditions["items"]["required"] = json!(["type", "status"]);
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{PLURAL}.{GROUP}")},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": "Function",
                "listKind": "FunctionList",
                "plural": PLURAL,
                "singular": "function",
                "shortNames": ["fn"],
                "categories": ["stoic"],
            },
            "versions": [{
                "name": VERSION,
                "served": true,
                "storage": true,
                "schema": {"openAPIV3Schema": {
                    "type": "object",
                    "description": "A function: an image or an executable that serves HTTP, kept warm where it is wanted.",
                    "required": ["spec"],
                    "properties": {
                        "apiVersion": {"type": "string"},
                        "kind": {"type": "string"},
                        "metadata": {"type": "object"},
                        "spec": spec,
                        "status": status,
                    },
                    "x-kubernetes-validations": [{
                        "rule": "self.metadata.name.size() <= 63 && self.metadata.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')",
                        "message": "metadata.name: a function is named by a DNS label: lower-case letters, digits and `-`, at most 63",
                    }],
                }},
                "subresources": {
                    "status": {},
                    "scale": {
                        "specReplicasPath": ".spec.replicas",
                        "statusReplicasPath": ".status.replicas",
                        "labelSelectorPath": ".status.selector",
                    },
                },
                "additionalPrinterColumns": columns(),
            }],
        },
    })
}

fn columns() -> Value {
    let column = |name: &str, kind: &str, path: &str, wide: bool| json!({"name": name, "type": kind, "jsonPath": path, "priority": i32::from(wide)});
    let condition = |part: &str| format!(".status.conditions[?(@.type==\"Ready\")].{part}");
    json!([
        column("Ready", "integer", ".status.ready", false),
        column("Standby", "integer", ".status.standby", false),
        column("Image", "string", ".spec.image", false),
        column("Status", "string", &condition("reason"), false),
        column("Age", "date", ".metadata.creationTimestamp", false),
        column("Version", "string", ".status.version", true),
        column("Digest", "string", ".status.digest", true),
        column("Message", "string", &condition("message"), true),
    ])
}

/// A definition as a YAML document.
///
/// # Errors
/// It cannot be written as YAML.
pub fn yaml(definition: &Value) -> anyhow::Result<String> {
    Ok(serde_saphyr::to_string(definition)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::function::FunctionObject;
    use std::collections::BTreeSet;

    /// The names of all properties of a schema, with their paths.
    fn keys(schema: &Value, path: &str, found: &mut BTreeSet<String>) {
        if let Some(properties) = schema["properties"].as_object() {
            for (name, schema) in properties {
                let path = format!("{path}.{name}");
                keys(schema, &path, found);
                found.insert(path);
            }
        }
    }

    /// An object in which every key of a spec is given.
    const WHOLE: &str = r#"
apiVersion: stoic.dev/v1
kind: Function
metadata: {name: whole}
spec:
  image: localhost:5000/whole:1
  command: [whole]
  args: [--fast]
  pull: missing
  port: 9090
  resources: {cpu: 0.5, memory: 512Mi, gpu: 1}
  health: /ready
  input: batch
  divisible: true
  timeout: 1m
  readyTimeout: 2m
  concurrency: 2
  eventHeaders: true
  env: {A: b}
  secrets: [s]
  files: [{path: /a, text: b}]
  readOnlyRoot: true
  isolation: invocation
  warmup: {path: /x, method: POST, body: y, contentType: text/plain}
  standby: {edge: {min: 1, max: 2, idle: 1m, window: 2m}}
  replicas: 3
  runtimes: [edge]
  queue: {length: 5, wait: 1m}
  bootstrap: {batches: [3]}
"#;

    #[test]
    fn the_schema_has_every_key_of_a_function_and_no_other() {
        let object = FunctionObject::parse(WHOLE).expect("valid");
        let object = serde_json::to_value(&object).expect("serialises");
        let mut written = BTreeSet::new();
        fn walk(value: &Value, path: &str, found: &mut BTreeSet<String>) {
            let Some(object) = value.as_object() else {
                return;
            };
            for (key, value) in object {
                let path = format!("{path}.{key}");
                // Maps of the user's: their keys are no keys of ours.
                if !["spec.env", "spec.standby"].contains(&path.as_str()) {
                    walk(value, &path, found);
                }
                found.insert(path);
            }
        }
        walk(&object["spec"], "spec", &mut written);
        let mut known = BTreeSet::new();
        let schema = schema::spec();
        keys(&schema, "spec", &mut known);
        assert_eq!(known, written);
        let mut standby = BTreeSet::new();
        let value = &schema["properties"]["standby"]["additionalProperties"];
        keys(value, "", &mut standby);
        let given = object["spec"]["standby"]["edge"]
            .as_object()
            .expect("in full");
        let given: BTreeSet<String> = given.keys().map(|key| format!(".{key}")).collect();
        assert_eq!(standby, given);
        // And every key that serde knows is given above: it names those it expects.
        let error = FunctionObject::parse(&WHOLE.replace("port: 9090", "prt: 9090"))
            .expect_err("misspelt")
            .to_string();
        let expected = error.split_once("expected").expect("names the keys").1;
        let named: BTreeSet<&str> = expected
            .split(|c: char| !c.is_ascii_alphanumeric())
            .filter(|word| known.contains(&format!("spec.{word}")))
            .collect();
        let first_level = known.iter().filter(|k| k.matches('.').count() == 1);
        assert_eq!(named.len(), first_level.count(), "{error}");
    }

    #[test]
    fn the_schema_is_structural() {
        fn check(schema: &Value, path: &str) {
            let object = schema
                .as_object()
                .unwrap_or_else(|| panic!("{path}: no schema"));
            let typed = object.get("type").is_some_and(Value::is_string)
                || object.contains_key("x-kubernetes-int-or-string")
                || object.contains_key("x-kubernetes-preserve-unknown-fields");
            assert!(typed, "{path}: {schema}");
            for word in [
                "$ref", "oneOf", "anyOf", "allOf", "const", "default", "nullable", "format",
            ] {
                let fine = word == "format"
                    && ["int32", "int64", "double"].contains(&schema[word].as_str().unwrap_or(""));
                assert!(
                    fine || !object.contains_key(word),
                    "{path} has {word}: {schema}"
                );
            }
            if let Some(properties) = schema["properties"].as_object() {
                for (name, inner) in properties {
                    check(inner, &format!("{path}.{name}"));
                }
            }
            for inner in ["items", "additionalProperties"] {
                if let Some(inner) = object.get(inner) {
                    check(inner, &format!("{path}[]"));
                }
            }
        }
        let definition = definition();
        let schema = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
        check(schema, "");
    }

    #[test]
    fn the_definitions_that_are_checked_in_are_these() {
        let checked_in = include_str!("../../../deploy/kubernetes/crd.yaml");
        let now = yaml(&definition()).expect("YAML");
        assert_eq!(
            checked_in, now,
            "write it anew: stoic crd > deploy/kubernetes/crd.yaml"
        );
        let chart = include_str!("../../../deploy/helm/stoic/crds/functions.stoic.dev.yaml");
        assert_eq!(
            chart, now,
            "write it anew: stoic crd > deploy/helm/stoic/crds/functions.stoic.dev.yaml"
        );
    }
}
