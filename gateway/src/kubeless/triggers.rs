//! Triggers: which function they are for, and what has to be done about them.

use serde_json::Value;

/// The function of a trigger, and what has to be done by hand, in one line; none for what is no trigger of
/// kubeless'.
#[must_use]
pub fn trigger(object: &Value) -> Option<(String, String)> {
    let spec = &object["spec"];
    let text = |key: &str| spec[key].as_str().filter(|text| !text.is_empty());
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    let function = text("function-name").unwrap_or(name).to_owned();
    let left = match object["kind"].as_str()? {
        "HTTPTrigger" => {
            let host = text("host-name").unwrap_or("any host");
            let path = text("path").unwrap_or_default().trim_start_matches('/');
            let mut line = format!(
                "httptrigger {name} ({host}, path /{path}): the function is at /function/{function} of the gateway; point an Ingress there"
            );
            for (key, what) in [
                ("tls", "TLS"),
                ("basic-auth-secret", "basic authentication"),
                ("cors-enable", "CORS"),
            ] {
                if spec[key].as_bool() == Some(true) || text(key).is_some() {
                    line = format!("{line}; its {what} is the Ingress' matter, too");
                }
            }
            line
        }
        "CronJobTrigger" => format!(
            "cronjobtrigger {name} ({}): nothing here calls by the clock; a CronJob that posts to /function/{function} does",
            text("schedule").unwrap_or("no schedule")
        ),
        kind @ ("KafkaTrigger" | "NATSTrigger" | "KinesisTrigger") => format!(
            "{} {name}: there are no topics here; a consumer that posts to /async-function/{function} does as much",
            kind.to_ascii_lowercase()
        ),
        _ => return None,
    };
    Some((function, left))
}
