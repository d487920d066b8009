//! The schema of a function's spec, from its Rust types, in the form that Kubernetes takes: structural,
//! with every part written out where it stands. Knows no cluster.

use super::FunctionSpec;
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Map, Value, json};

/// A length of time as it is written, `90s` or `1h 30m`; what the words mean is checked by the gateway.
const DURATION: &str = r"^[0-9]+ ?[a-zA-Z]+( ?[0-9]+ ?[a-zA-Z]+)*$";
/// A reference of an image: registry, path, tag, digest.
const IMAGE: &str = r"^([A-Za-z0-9][A-Za-z0-9.-]*(:[0-9]+)?/)?[a-z0-9]+([._-]+[a-z0-9]+)*(/[a-z0-9]+([._-]+[a-z0-9]+)*)*(:[A-Za-z0-9_][A-Za-z0-9._-]{0,127})?(@sha256:[0-9a-f]{64})?$";

/// The structural schema of `spec`.
#[must_use]
pub fn spec() -> Value {
    structural::<FunctionSpec>()
}

/// The structural schema of a type: what Kubernetes' API server accepts of a JSON schema.
#[must_use]
pub fn structural<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::openapi3().with(|settings| {
        settings.inline_subschemas = true;
        settings.meta_schema = None;
    });
    let mut schema = settings
        .into_generator()
        .into_root_schema_for::<T>()
        .to_value();
    clean(&mut schema);
    schema
}

/// Takes out what a structural schema may not have.
fn clean(schema: &mut Value) {
    match schema {
        Value::Array(all) => all.iter_mut().for_each(clean),
        Value::Object(object) => {
            for (key, value) in object.iter_mut() {
                // The keys of `properties` are names, not words of the schema.
                match (key.as_str(), value) {
                    ("properties", Value::Object(named)) => named.values_mut().for_each(clean),
                    ("enum" | "required" | "default", _) => {}
                    (_, value) => clean(value),
                }
            }
            tidy(object);
        }
        _ => {}
    }
}

fn tidy(object: &mut Map<String, Value>) {
    optional(object);
    // `default` would be written into every object; absent and null are one to us; `false` is what
    // Kubernetes does with unknown keys anyway, and not allowed beside properties.
    for key in ["title", "default", "nullable", "$schema"] {
        object.remove(key);
    }
    if object.get("additionalProperties") == Some(&json!(false)) {
        object.remove("additionalProperties");
    }
    // Only these formats are known to the API server.
    let known = |format: &str| matches!(format, "int32" | "int64" | "double" | "float");
    let format = object.get("format").and_then(Value::as_str);
    if format.is_some_and(|format| !known(format)) {
        object.remove("format");
    }
    if let Some(Value::String(text)) = object.get_mut("description") {
        *text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    }
    words(object);
}

/// Something or null: the something.
fn optional(object: &mut Map<String, Value>) {
    let is_null = |one: &Value| one["enum"] == json!([null]) || one["type"] == json!("null");
    let Some(Value::Array(all)) = object.get("anyOf") else {
        return;
    };
    let some: Vec<&Value> = all.iter().filter(|one| !is_null(one)).collect();
    let [Value::Object(only)] = some.as_slice() else {
        return;
    };
    let only = only.clone();
    object.remove("anyOf");
    for (key, value) in only {
        // The field's own description stands before that of its type.
        object.entry(key).or_insert(value);
    }
}

/// An enumeration whose words are described each: one list of words, the descriptions put into one.
fn words(object: &mut Map<String, Value>) {
    let Some(Value::Array(all)) = object.get("oneOf") else {
        return;
    };
    let word = |one: &Value| {
        let word = one.get("enum")?.as_array()?.first()?.clone();
        let said = one.get("description").and_then(Value::as_str);
        Some((word, said.unwrap_or_default().to_owned()))
    };
    let Some(all) = all.iter().map(word).collect::<Option<Vec<_>>>() else {
        return;
    };
    object.remove("oneOf");
    let said: Vec<String> = all
        .iter()
        .map(|(word, said)| format!("{}: {said}", word.as_str().unwrap_or_default()))
        .collect();
    let own = object.get("description").and_then(Value::as_str);
    let description = format!("{} {}", own.unwrap_or_default(), said.join(" "));
    object.insert("description".to_owned(), description.trim().into());
    object.insert("type".to_owned(), "string".into());
    let words: Vec<Value> = all.into_iter().map(|(word, _)| word).collect();
    object.insert("enum".to_owned(), Value::Array(words));
}

pub(super) fn duration(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "pattern": DURATION, "maxLength": 64})
}

pub(super) fn memory(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"x-kubernetes-int-or-string": true})
}

/// A number or a text: a structural schema has no word for both, so the value is read where the object is.
pub(super) fn cores(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"x-kubernetes-preserve-unknown-fields": true})
}

pub(super) fn image(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string",
        "maxLength": 512,
        "x-kubernetes-validations": [{
            "rule": format!("self.matches('{IMAGE}')"),
            "message": "is no reference of an image; write for example localhost:5000/name:tag",
        }],
    })
}

/// A number of pods, or the whole of it. No structural schema says "a number or an object", so that the
/// value has no type here: a number is checked as one, the parts of an object by themselves, and the rest by
/// the gateway, which says so in the status.
pub(super) fn standby(_: &mut SchemaGenerator) -> Schema {
    let time = |what: &str| json!({"type": "string", "pattern": DURATION, "maxLength": 64, "description": what});
    json_schema!({
        "type": "object",
        "maxProperties": 64,
        "additionalProperties": {
            "x-kubernetes-preserve-unknown-fields": true,
            "description": "A number of pods that are kept ready, or an object.",
            "minimum": 0,
            "maximum": 1000,
            "properties": {
                "min": {"type": "integer", "minimum": 0, "maximum": 1000, "description": "Pods kept ready when nothing runs."},
                "max": {"type": "integer", "minimum": 1, "description": "Most pods at any time; absent: as many as min, and at least 1."},
                "idle": time("Pods above min go after being idle for this long (5m)."),
                "window": time("As many pods stay as the highest concurrency of this window needed; absent: as long as idle."),
            },
        },
    })
}
