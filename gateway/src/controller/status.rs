//! The status of a resource, from what is known of its function. Pure: knows no cluster and no clock.

use crate::pods::PoolSummary;
use crate::runnable::Deployed;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Longest text of a condition, in characters.
const LONGEST: usize = 2000;

/// `status` of a function.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ResourceStatus {
    /// Generation of the object that the rest is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) observed_generation: Option<i64>,
    /// Version that serves: a digest of the spec.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) version: Option<String>,
    /// Pods there are, ready or on their way.
    pub(crate) replicas: i32,
    /// Pods that take work.
    pub(crate) ready: i32,
    /// Of these, pods that stand by: nothing runs in them.
    pub(crate) standby: i32,
    /// Labels of its pods on Kubernetes, for autoscalers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) selector: Option<String>,
    /// Digest of the image that its pods run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) digest: Option<String>,
    /// What went wrong last, where it is not over.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<String>,
    /// Path at the gateway under which it is invoked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) path: Option<String>,
    /// Ready, ImageAvailable, Warm.
    pub(crate) conditions: Vec<Condition>,
}

/// One of a status' conditions.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Condition {
    /// What it is about.
    #[serde(rename = "type")]
    #[schemars(required)]
    pub(crate) kind: String,
    /// `True`, `False` or `Unknown`.
    pub(crate) status: String,
    /// Why, in one word.
    pub(crate) reason: String,
    /// Why, in a sentence.
    pub(crate) message: String,
    /// Generation of the object that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) observed_generation: Option<i64>,
    /// Since when the status is this.
    #[schemars(schema_with = "time")]
    pub(crate) last_transition_time: String,
}

fn time(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({"type": "string"})
}

/// An error in two forms: its stable code, and a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Trouble {
    pub(crate) code: String,
    pub(crate) text: String,
}

/// What is seen of a function that is deployed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) version: String,
    /// The resource that declares it; none where a client did.
    pub(crate) resource: Option<String>,
    pub(crate) pods: PoolSummary,
    /// Why pods do not start, where they do not.
    pub(crate) trouble: Option<Trouble>,
}

/// How far the object is that was declared last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It is on its way.
    Deploying,
    /// It is in force.
    InForce,
    /// It is not, and this is why. A former one may serve on.
    Failed(Trouble),
}

/// What a status is made of.
#[derive(Debug, Clone)]
pub(crate) struct Facts<'a> {
    pub(crate) generation: i64,
    pub(crate) outcome: &'a Outcome,
    /// The function that serves, if any.
    pub(crate) seen: Option<&'a Seen>,
    pub(crate) name: &'a str,
    /// Whether it is an image.
    pub(crate) image: bool,
    /// What of the object could not be carried over; none for objects of our own.
    pub(crate) left: Option<&'a [String]>,
}

impl Trouble {
    pub(crate) fn new(code: &str, text: impl Into<String>) -> Self {
        Self {
            code: code.to_owned(),
            text: text.into(),
        }
    }
}

impl Seen {
    /// What is seen of a function now.
    pub(crate) fn of(deployed: &Deployed) -> Self {
        let mut sum = PoolSummary::default();
        let mut trouble = None;
        for pool in deployed.pools().iter().flatten() {
            let one = pool.summary();
            sum.pods += one.pods;
            sum.ready += one.ready;
            sum.idle += one.idle;
            sum.wanted += one.wanted;
            sum.digest = sum.digest.or(one.digest);
            if trouble.is_none() && one.ready == 0 {
                trouble = pool.trouble();
            }
        }
        // Where it serves from another runtime, that is no trouble of the function's.
        let trouble = trouble.filter(|_| sum.ready == 0).and_then(|failures| {
            let last = failures.last()?;
            Some(Trouble::new(last.code(), last.to_string()))
        });
        Self {
            version: deployed.function.version.clone(),
            resource: deployed.function.resource().map(str::to_owned),
            pods: sum,
            trouble,
        }
    }
}

/// The status that these facts make, beside the one before: what has not changed keeps its time.
pub(crate) fn status(facts: &Facts<'_>, former: &ResourceStatus, now: &str) -> ResourceStatus {
    let count = |n: usize| i32::try_from(n).unwrap_or(i32::MAX);
    let pods = facts.seen.map(|seen| seen.pods.clone()).unwrap_or_default();
    let trouble = match facts.outcome {
        Outcome::Failed(trouble) => Some(trouble),
        Outcome::Deploying | Outcome::InForce => facts.seen.and_then(|s| s.trouble.as_ref()),
    };
    let mut conditions = vec![ready(facts, &pods, trouble), warm(&pods)];
    if facts.image {
        conditions.insert(1, image(&pods, trouble));
    }
    if let Some(left) = facts.left {
        conditions.push(carried(left));
    }
    for condition in &mut conditions {
        condition.observed_generation = Some(facts.generation);
        condition.message = condition.message.chars().take(LONGEST).collect();
        let before = former.conditions.iter().find(|c| c.kind == condition.kind);
        condition.last_transition_time = match before {
            Some(before) if before.status == condition.status => {
                before.last_transition_time.clone()
            }
            _ => now.to_owned(),
        };
    }
    ResourceStatus {
        observed_generation: Some(facts.generation),
        version: facts.seen.map(|seen| seen.version.clone()),
        replicas: count(pods.pods),
        ready: count(pods.ready),
        standby: count(pods.idle),
        selector: Some(format!("stoic.dev/function={}", facts.name)),
        digest: pods.digest,
        error: trouble.map(|t| t.text.chars().take(LONGEST).collect()),
        path: facts.seen.map(|_| format!("/function/{}", facts.name)),
        conditions,
    }
}

fn condition(kind: &str, status: &str, reason: &str, message: impl Into<String>) -> Condition {
    Condition {
        kind: kind.to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message: message.into(),
        ..Condition::default()
    }
}

fn ready(facts: &Facts<'_>, pods: &PoolSummary, trouble: Option<&Trouble>) -> Condition {
    let of = |status, reason: &str, message: &str| condition("Ready", status, reason, message);
    match facts.outcome {
        Outcome::Failed(trouble) => {
            let serves = facts
                .seen
                .filter(|_| pods.ready > 0)
                .map_or_else(String::new, |seen| {
                    format!("; version {} serves on", seen.version)
                });
            let message = format!("{}{serves}", trouble.text);
            of("False", &word(&trouble.code), &message)
        }
        Outcome::Deploying if facts.seen.is_some() => {
            of("Unknown", "RollingOut", "the new version's pods come up")
        }
        Outcome::Deploying => of("Unknown", "Deploying", "it is being deployed"),
        Outcome::InForce if pods.ready > 0 => of("True", "PodsReady", "a pod takes work"),
        Outcome::InForce => match trouble {
            Some(trouble) => of("False", &word(&trouble.code), &trouble.text),
            None if pods.wanted > 0 => of("False", "PodsStarting", "its first pod is on its way"),
            None => of(
                "True",
                "Idle",
                "no pod is kept ready; the first request starts one",
            ),
        },
    }
}

fn image(pods: &PoolSummary, trouble: Option<&Trouble>) -> Condition {
    let of =
        |status, reason: &str, message: &str| condition("ImageAvailable", status, reason, message);
    match trouble {
        Some(trouble) if trouble.code == "image_unavailable" => {
            of("False", "ImageUnavailable", &trouble.text)
        }
        _ => match &pods.digest {
            Some(digest) => of("True", "Pulled", digest),
            None => of("Unknown", "NotRunYet", "no pod runs it now"),
        },
    }
}

fn warm(pods: &PoolSummary) -> Condition {
    let of = |status, reason: &str, message: &str| condition("Warm", status, reason, message);
    if pods.ready > 0 && pods.ready >= pods.wanted {
        of("True", "PodsReady", "as many pods are ready as are wanted")
    } else if pods.wanted == 0 {
        of("False", "NoneWanted", "no pod is kept ready")
    } else {
        of(
            "False",
            "PodsMissing",
            "fewer pods are ready than are wanted",
        )
    }
}

fn carried(left: &[String]) -> Condition {
    match left {
        [] => condition("CarriedOver", "True", "Whole", "all of it is carried over"),
        left => condition("CarriedOver", "False", "InPart", left.join("; ")),
    }
}

/// `image_unavailable` as Kubernetes has it: `ImageUnavailable`.
fn word(code: &str) -> String {
    let parts = code.split('_');
    let capital = |part: &str| {
        let mut letters = part.chars();
        let first = letters.next().map(|c| c.to_ascii_uppercase());
        first.into_iter().chain(letters).collect::<String>()
    };
    parts.map(capital).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(ready: usize, wanted: usize, trouble: Option<Trouble>) -> Seen {
        Seen {
            version: "abc".to_owned(),
            resource: None,
            pods: PoolSummary {
                pods: wanted.max(ready),
                ready,
                idle: ready,
                wanted,
                digest: (ready > 0).then(|| "sha256:1".to_owned()),
            },
            trouble,
        }
    }

    fn of(outcome: &Outcome, seen: Option<&Seen>) -> ResourceStatus {
        let facts = Facts {
            generation: 3,
            outcome,
            seen,
            name: "hi",
            image: true,
            left: None,
        };
        status(&facts, &ResourceStatus::default(), "t1")
    }

    fn word_of(status: &ResourceStatus, kind: &str) -> (String, String) {
        let found = status.conditions.iter().find(|c| c.kind == kind);
        let found = found.expect("the condition is there");
        assert_eq!(found.observed_generation, Some(3));
        (found.status.clone(), found.reason.clone())
    }

    #[test]
    fn every_state_has_its_conditions() {
        let gone = Trouble::new("image_unavailable", "no such image");
        let failed = Outcome::Failed(gone.clone());
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        for (outcome, seen, ready, image, warm) in [
            (
                Outcome::Deploying,
                None,
                "Unknown Deploying",
                "Unknown NotRunYet",
                "False NoneWanted",
            ),
            (
                Outcome::Deploying,
                Some(seen(1, 1, None)),
                "Unknown RollingOut",
                "True Pulled",
                "True PodsReady",
            ),
            (
                Outcome::InForce,
                Some(seen(1, 1, None)),
                "True PodsReady",
                "True Pulled",
                "True PodsReady",
            ),
            (
                Outcome::InForce,
                Some(seen(1, 2, None)),
                "True PodsReady",
                "True Pulled",
                "False PodsMissing",
            ),
            (
                Outcome::InForce,
                Some(seen(0, 0, None)),
                "True Idle",
                "Unknown NotRunYet",
                "False NoneWanted",
            ),
            (
                Outcome::InForce,
                Some(seen(0, 1, None)),
                "False PodsStarting",
                "Unknown NotRunYet",
                "False PodsMissing",
            ),
            (
                Outcome::InForce,
                Some(seen(0, 1, Some(gone.clone()))),
                "False ImageUnavailable",
                "False ImageUnavailable",
                "False PodsMissing",
            ),
            (
                failed.clone(),
                None,
                "False ImageUnavailable",
                "False ImageUnavailable",
                "False NoneWanted",
            ),
            (
                failed,
                Some(seen(1, 1, None)),
                "False ImageUnavailable",
                "False ImageUnavailable",
                "True PodsReady",
            ),
        ] {
            let status = of(&outcome, seen.as_ref());
            let words = |text: &str| {
                let (a, b) = text.split_once(' ').expect("two words");
                pair(a, b)
            };
            let case = format!("{outcome:?} {seen:?}");
            assert_eq!(word_of(&status, "Ready"), words(ready), "{case}");
            assert_eq!(word_of(&status, "ImageAvailable"), words(image), "{case}");
            assert_eq!(word_of(&status, "Warm"), words(warm), "{case}");
        }
    }

    #[test]
    fn a_condition_keeps_its_time_as_long_as_its_status() {
        let first = of(&Outcome::InForce, Some(&seen(0, 1, None)));
        let facts = |seen| Facts {
            generation: 3,
            outcome: &Outcome::InForce,
            seen: Some(seen),
            name: "hi",
            image: true,
            left: Some(&[]),
        };
        let up = seen(1, 2, None);
        let second = status(&facts(&up), &first, "t2");
        let time = |kind: &str| {
            let found = second.conditions.iter().find(|c| c.kind == kind);
            found.map(|c| c.last_transition_time.clone())
        };
        assert_eq!(time("Ready").as_deref(), Some("t2"));
        assert_eq!(time("Warm").as_deref(), Some("t1"));
        assert_eq!((second.ready, second.replicas), (1, 2));
        assert_eq!(status(&facts(&up), &second, "t3"), second);
    }
}
