//! The description of the HTTP surface, as served at `/openapi.json`. Tests hold it to the routes and to
//! the types of the answers.

/// OpenAPI 3.1.
pub const OPENAPI: &str = include_str!("openapi.json");

#[cfg(test)]
mod tests {
    use super::OPENAPI;
    use crate::function::FunctionObject;
    use crate::gateway::Scaled;
    use crate::history::{AccountRow, Measurement, ModelRecord, Parts, Race};
    use crate::http::openfaas;
    use crate::http::routes::PATHS;
    use crate::http::{
        FunctionStatus, FunctionView, GatewayInfo, PredictView, RuntimeFunction, RuntimeView,
    };
    use crate::pods::{LastDeployment, LastProbe, PodView, Standing};
    use crate::requester::events::Event;
    use crate::runnable::{Bootstrap, Rollout};
    use crate::scheduler::{
        Explanation, LinkView, LoadView, ModeForecast, PartExplanation, RecentAccuracy,
        RunningView, RuntimeEstimate,
    };
    use serde::Serialize;
    use serde_json::Value;
    use std::collections::{BTreeMap, BTreeSet};
    use stoic_placement::{Estimate, Part};
    use stoic_protocol::{Problem, headers};

    fn document() -> Value {
        serde_json::from_str(OPENAPI).expect("openapi.json is JSON")
    }

    /// What a reference inside of the document names.
    fn resolved<'a>(document: &'a Value, value: &'a Value) -> &'a Value {
        match value.get("$ref").and_then(Value::as_str) {
            None => value,
            Some(to) => {
                let pointer = to.strip_prefix('#').expect("a reference inside");
                resolved(document, document.pointer(pointer).expect(to))
            }
        }
    }

    #[test]
    fn every_route_is_described_and_nothing_else_is() {
        let document = document();
        let described = document["paths"].as_object().expect("paths").keys();
        let described: BTreeSet<&str> = described.map(String::as_str).collect();
        let mut routes: BTreeSet<&str> = PATHS.iter().map(|(path, _)| *path).collect();
        routes.extend(openfaas::PATHS.iter().map(|(path, _)| *path));
        routes.extend([
            "/function/{name}",
            "/function/{name}/{path}",
            "/async-function/{name}",
            "/async-function/{name}/{path}",
        ]);
        assert_eq!(described, routes);
    }

    #[test]
    fn every_reference_resolves() {
        fn walk(document: &Value, value: &Value, seen: &mut usize) {
            if value.get("$ref").is_some_and(Value::is_string) {
                resolved(document, value);
                *seen += 1;
            }
            match value {
                Value::Object(fields) => fields.values().for_each(|v| walk(document, v, seen)),
                Value::Array(all) => all.iter().for_each(|v| walk(document, v, seen)),
                _ => {}
            }
        }
        let (document, mut seen) = (document(), 0);
        walk(&document, &document, &mut seen);
        assert!(seen > 50, "{seen} references");
    }

    #[test]
    fn every_header_is_described() {
        let document = document();
        let of = |part: &str| -> BTreeSet<String> {
            let all = document["components"][part].as_object().expect(part);
            let name = |(key, value): (&String, &Value)| {
                let name = value.get("name").and_then(Value::as_str).unwrap_or(key);
                name.to_ascii_lowercase()
            };
            all.iter().map(name).collect()
        };
        let (answered, asked) = (of("headers"), of("parameters"));
        for name in [
            headers::INVOCATION,
            headers::RUNTIME,
            headers::SITE,
            headers::POD,
            headers::START,
            headers::PREDICTED,
            headers::ACTUAL,
            headers::EMULATED,
            headers::MODEL,
            headers::REASON,
            headers::ITEMS,
            headers::MODE,
            headers::ITEMS_BY,
            headers::CLOUD_SAVED,
            headers::CLOUD_LOST,
            "server-timing",
        ] {
            assert!(answered.contains(name), "{name}");
        }
        for name in [
            headers::RUNTIME,
            headers::MODE,
            headers::DEADLINE,
            headers::ITEMS,
            headers::ACTION,
        ] {
            assert!(asked.contains(name), "{name}");
        }
    }

    /// The object has the properties that its schema names, all of them, and so have those inside of it.
    fn conforms(document: &Value, value: &Value, schema: &Value, at: &str) {
        let schema = resolved(document, schema);
        if let Some(properties) = schema.get("properties").and_then(Value::as_object) {
            let keys = |map: &serde_json::Map<String, Value>| -> BTreeSet<String> {
                map.keys().cloned().collect()
            };
            let fields = value.as_object().expect(at);
            assert_eq!(keys(fields), keys(properties), "{at}");
            let required = schema.get("required").and_then(Value::as_array);
            for name in required.into_iter().flatten() {
                assert!(fields.contains_key(name.as_str().expect(at)), "{at}");
            }
            for (key, value) in fields {
                conforms(document, value, &properties[key], &format!("{at}.{key}"));
            }
        }
        if let Some(items) = schema.get("items") {
            for value in value.as_array().expect(at) {
                conforms(document, value, items, &format!("{at}[]"));
            }
        }
        if let Some(constant) = schema.get("const") {
            assert_eq!(value, constant, "{at}");
        }
        if let Some(allowed) = schema.get("enum").and_then(Value::as_array) {
            assert!(allowed.contains(value), "{at}: {value}");
        }
        let types = match schema.get("type") {
            Some(Value::String(one)) => vec![one.as_str()],
            Some(Value::Array(all)) => all.iter().filter_map(Value::as_str).collect(),
            _ => return,
        };
        let is = match value {
            Value::Null => "null",
            Value::Bool(_) => "boolean",
            Value::String(_) => "string",
            Value::Array(_) => "array",
            Value::Object(_) => "object",
            Value::Number(number) if number.is_f64() => "number",
            Value::Number(_) => "integer",
        };
        let fits = types.contains(&is) || (is == "integer" && types.contains(&"number"));
        assert!(fits, "{at} is {is}, not {types:?}");
    }

    #[track_caller]
    fn check(name: &str, value: &impl Serialize) {
        let document = document();
        let schema = &document["components"]["schemas"][name];
        assert!(schema.is_object(), "there is no schema {name}");
        let value = serde_json::to_value(value).expect("serialises");
        conforms(&document, &value, schema, name);
    }

    #[test]
    fn a_token_is_described() {
        let new = crate::auth::NewToken {
            name: text(),
            scopes: crate::auth::Scopes::of(&crate::auth::Scope::ALL),
            lifetime_s: Some(60.0),
            rate: "10/s".parse().ok(),
        };
        check("NewToken", &new);
        let (record, secret) = new.make(1.0).expect("made");
        let mut view = crate::auth::TokenView::of(&record);
        view.token = Some(secret.text().to_owned());
        check("Token", &view);
    }

    fn text() -> String {
        "x".to_owned()
    }

    fn measurement() -> Measurement {
        Measurement {
            mode: "selector".to_owned(),
            predicted: Some(Parts::default()),
            predicted_90: Some((0.5, 1.5)),
            model: Some(text()),
            items_by: BTreeMap::from([(text(), 1)]),
            race: Some(Race::default()),
            ..Measurement::default()
        }
    }

    fn recent() -> RecentAccuracy {
        RecentAccuracy {
            outcomes: 1,
            mae_s: Some(0.5),
            pmae: Some(0.5),
            coverage_90: Some(0.5),
        }
    }

    fn link() -> LinkView {
        LinkView {
            bandwidth_bytes_per_s: 1.5,
            rtt_s: 0.5,
            points: 1,
            transfer_at: Some(0.5),
            probe_at: Some(0.5),
            recent: recent(),
        }
    }

    fn standing() -> Standing {
        Standing {
            available: true,
            watched: true,
            probing: true,
            withheld: Some(text()),
            unavailable_since: Some(0.5),
            reason: Some(text()),
            last_deployment: Some(LastDeployment {
                at: 0.5,
                seconds: 0.5,
                probe: true,
            }),
            last_probe: Some(LastProbe {
                at: 0.5,
                outcome: "ready".to_owned(),
                seconds: Some(0.5),
                reason: Some(text()),
            }),
            probes_today: 1,
            probed_today_s: 0.5,
            next_probe: Some(0.5),
        }
    }

    fn explanation() -> Explanation {
        Explanation {
            standing: standing(),
            load: LoadView {
                places: 1,
                free: 0,
                running: vec![RunningView {
                    predicted_s: 0.5,
                    elapsed_s: 0.5,
                }],
                waiting: vec![0.5],
                deploying_s: Some(0.5),
                may_grow: true,
            },
            link: Some(link()),
            parts: vec![PartExplanation {
                part: "queueing".to_owned(),
                estimator: text(),
                points: 1,
                detail: text(),
                recent_error: Some(0.5),
                recent: recent(),
            }],
            chance: Some(0.5),
            price: Some(0.5),
        }
    }

    #[test]
    fn views_are_as_described() {
        let object = "apiVersion: stoic.dev/v1\nkind: Function\nmetadata: {name: hi, labels: {a: b}, \
            annotations: {c: d}}\nspec: {command: [x], image: i, env: {A: b}, divisible: true, runtimes: [edge], standby: \
            {edge: {min: 1, window: 1m}}, warmup: {method: POST, path: /, body: x, contentType: text/plain}, args: [a], \
            secrets: [s], files: [{path: /a, text: b}], readOnlyRoot: true, eventHeaders: true, replicas: 2, resources: {cpu: 1.5, memory: 64Mi}}";
        let object = FunctionObject::parse(object).expect("valid");
        check("Function", &object);
        let status = FunctionStatus {
            version: text(),
            model: Some(text()),
            ready: 1,
            pods: 1,
            created: 1.5,
            rollout: Some(Rollout {
                state: "failed".to_owned(),
                version: text(),
                reason: text(),
                cause: Some(text()),
                at: 1.5,
            }),
            bootstrap: Bootstrap {
                state: "running".to_owned(),
                done: 1,
                total: 2,
                detail: text(),
            },
        };
        check("FunctionView", &FunctionView { object, status });
        check(
            "Runtime",
            &RuntimeView {
                reason: Some(text()),
                name: text(),
                site: text(),
                backend: text(),
                threads: 1,
                precision: text(),
                gpus: 0,
                bandwidth_bytes_per_s: Some(1.5),
                rtt_s: 0.5,
                emulated: text(),
                price: Some(0.5),
                available: true,
                link: Some(link()),
                functions: vec![RuntimeFunction {
                    function: text(),
                    standing: standing(),
                }],
            },
        );
        let part = Part::ZERO;
        let estimate = RuntimeEstimate {
            runtime: text(),
            site: text(),
            available: true,
            cold: false,
            emulated: text(),
            estimate: Estimate::of(part, part, part, part),
            explanation: Some(Box::new(explanation())),
        };
        check(
            "Prediction",
            &PredictView {
                function: text(),
                action: text(),
                items: 1,
                bytes: 2,
                deadline_s: Some(1.5),
                mode: "auto".to_owned(),
                modes: vec![ModeForecast {
                    mode: "selector".to_owned(),
                    runtimes: vec![text()],
                    expected_s: 0.5,
                    price: 0.5,
                }],
                runtimes: vec![estimate],
                choice: Some(text()),
                reason: text(),
            },
        );
        check(
            "Pod",
            &PodView {
                name: text(),
                function: text(),
                version: text(),
                runtime: text(),
                site: text(),
                state: "idle".to_owned(),
                address: Some(text()),
                pid: Some(1),
                digest: Some(text()),
                model: Some(text()),
                running: 0,
                served: 1,
                probe: false,
                stages: [("exec".to_owned(), 0.5)].into(),
                memory_bytes: Some(1),
                note: Some(text()),
                age_s: 0.5,
                state_age_s: 0.5,
            },
        );
        check(
            "Scaled",
            &Scaled {
                function: text(),
                replicas: 1,
                runtimes: vec![text()],
            },
        );
        check(
            "Model",
            &ModelRecord {
                function: text(),
                version: text(),
                key: text(),
                bytes: 1,
                created: 0.5,
                invocation: text(),
            },
        );
        check(
            "Info",
            &GatewayInfo {
                version: text(),
                pid: 1,
                data: text(),
            },
        );
        check("Measurement", &measurement());
        check("AccountRow", &AccountRow::default());
        let problem = Problem {
            invocation: Some(text()),
            ..Problem::new(404, "unknown_function", "there is none")
        };
        check("Problem", &problem);
    }

    #[test]
    fn events_are_as_described() {
        let all = [
            (
                "EventAccepted",
                Event::Accepted {
                    invocation: text(),
                    items: 1,
                    bytes: 2,
                },
            ),
            (
                "EventPlaced",
                Event::Placed {
                    runtime: text(),
                    site: text(),
                    mode: text(),
                    predicted_s: Some(0.5),
                    predicted_90: Some((0.5, 1.5)),
                    reason: text(),
                },
            ),
            (
                "EventTransfer",
                Event::Transfer {
                    runtime: text(),
                    bytes: 1,
                    emulated: true,
                },
            ),
            (
                "EventWorking",
                Event::Working {
                    runtime: text(),
                    pod: text(),
                    start: "cold".to_owned(),
                },
            ),
            (
                "EventProgress",
                Event::Progress {
                    done: 1,
                    total: 2,
                    elapsed_s: 0.5,
                    stage: Some(text()),
                    by_runtime: BTreeMap::from([(text(), 1)]),
                },
            ),
            (
                "EventResolved",
                Event::Resolved {
                    runtime: text(),
                    both: true,
                    edge_rest_s: Some(0.5),
                    cloud_rest_s: None,
                },
            ),
            ("EventRetry", Event::Retry { reason: text() }),
            (
                "EventResult",
                Event::Result {
                    result: text(),
                    content_type: text(),
                    items: 1,
                    failed_items: 0,
                    measurement: Box::new(measurement()),
                    stages_s: BTreeMap::new(),
                },
            ),
            (
                "EventError",
                Event::Error {
                    problem: Problem {
                        invocation: Some(text()),
                        ..Problem::new(502, "pod_died", "it died")
                    },
                },
            ),
        ];
        for (name, event) in &all {
            check(name, event);
        }
        let document = document();
        let described = document["components"]["schemas"]["Event"]["oneOf"].as_array();
        assert_eq!(described.map(Vec::len), Some(all.len()));
    }
}
