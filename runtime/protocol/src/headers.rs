//! Names of the HTTP headers, in lower case as HTTP/1.1 libraries want them.

/// What all of ours begin with.
pub const PREFIX: &str = "x-stoic-";

/// Request: pin a runtime; with modes `hedged`, `duplicator` and `cooperative`, the cloud runtime to
/// use. Response: the runtime that did the work; `edge+gpu1` where two shared it.
pub const RUNTIME: &str = "x-stoic-runtime";
/// Request: placement mode: `pinned`, `selector`, `hedged`, `duplicator`, `cooperative` or `auto`.
/// Response: the mode that was used; of `auto`, the one it chose.
pub const MODE: &str = "x-stoic-mode";
/// Request: number of items in the body, where the client knows it.
pub const ITEMS: &str = "x-stoic-items";
/// Request: what to do with the input: `infer` (default) or another action of the function, `train`.
pub const ACTION: &str = "x-stoic-action";
/// Response: `cold` (no ready pod existed when the invocation arrived) or `warm`. A cold answer's
/// `Server-Timing` says where the time of the pod's start went: `start-NAME;dur=MS` for each
/// [`stage`](crate::stages). One with `start-fork` was forked from a zygote that stood ready.
pub const START: &str = "x-stoic-start";
/// Response: site of the runtime that did the work.
pub const SITE: &str = "x-stoic-site";
/// Response: name of the pod that did the work.
pub const POD: &str = "x-stoic-pod";
/// Both ways, gateway and pod: identity of the invocation.
pub const INVOCATION: &str = "x-stoic-invocation";
/// Response: predicted parts of the response time in seconds:
/// `queue=0;transfer=4.52;deployment=0;processing=2.31;response=6.83;low90=6.2;high90=7.4`.
pub const PREDICTED: &str = "x-stoic-predicted";
/// Response: actual parts in the same form, without the interval.
pub const ACTUAL: &str = "x-stoic-actual";
/// Response: what was emulated on the way: `link`, `deployment`, or both, comma-separated.
pub const EMULATED: &str = "x-stoic-emulated";
/// Response: version of the model that served the invocation.
pub const MODEL: &str = "x-stoic-model";
/// Response: why the runtime was chosen, in one line.
pub const REASON: &str = "x-stoic-reason";
/// Request: time from the arrival by which the answer is wanted, such as `30s`.
pub const DEADLINE: &str = "x-stoic-deadline";
/// Response: items done by each runtime where more than one had a part: `edge=120;gpu1=80`.
pub const ITEMS_BY: &str = "x-stoic-items-by";
/// Response: seconds of cloud time given back because the edge did the work (paper, table 5).
pub const CLOUD_SAVED: &str = "x-stoic-cloud-saved";
/// Response: seconds of cloud time spent for nothing (paper, table 5).
pub const CLOUD_LOST: &str = "x-stoic-cloud-lost";
/// Answer of a pod to its health check: seconds by stage of its start, `exec=0.012;load=0.31`, the names
/// being those of [`stages`](crate::stages).
pub const START_STAGES: &str = "x-stoic-start-stages";

/// Request: the token that a gateway asks for, where `Authorization` belongs to the function. Goes no
/// further than the gateway.
pub const TOKEN: &str = "x-stoic-token";
