//! What the site told the pod in its environment, parsed once and as a whole before anything starts.

use std::path::PathBuf;
use std::str::FromStr;
use stoic_protocol::{Problem, env};

/// Body limit where nothing else is said: 64 MiB.
const BODY_LIMIT: usize = 64 << 20;

/// Everything a function may want to know while it loads.
#[derive(Debug, Clone)]
pub struct Context {
    /// Port to listen on (`PORT`, default 8080; 0 for any free one).
    pub port: u16,
    /// Address to bind (`STOIC_HOST`, default `0.0.0.0`).
    pub host: std::net::IpAddr,
    /// Name of the pod (`STOIC_POD`, default `pod`).
    pub pod: String,
    /// Name of the function (`STOIC_FUNCTION`, default empty).
    pub function: String,
    /// Name of the runtime (`STOIC_RUNTIME`, default empty).
    pub runtime: String,
    /// Threads to compute with (`STOIC_THREADS`, default: all that the process may run on).
    pub threads: usize,
    /// Precision to compute in (`STOIC_PRECISION`, default `auto`).
    pub precision: Precision,
    /// Devices, one worker each (`STOIC_DEVICES`, default `cpu`): `cpu`, `cuda:0`, ...
    pub devices: Vec<String>,
    /// CPU workers, which divide the threads (`STOIC_WORKERS`, default 1).
    pub workers: usize,
    /// A published model to start with (`STOIC_MODEL`, `STOIC_MODEL_VERSION`), a local file by the
    /// time `load` sees it.
    pub model: Option<Model>,
    /// Folder for temporary files (`STOIC_SCRATCH`, default: the system's).
    pub scratch: PathBuf,
    /// Largest body taken, in bytes (`STOIC_BODY_LIMIT`).
    pub body_limit: usize,
    /// Invocations at once (`STOIC_CONCURRENCY`, default 64).
    pub concurrency: usize,
    /// Seconds that running invocations get after `SIGTERM` (`STOIC_DRAIN_S`, default 600).
    pub drain_s: u64,
    /// Whether each invocation runs in a fresh child of the pod (`STOIC_ISOLATION`, default `pod`: no).
    pub isolated: bool,
    /// Whether the function is loaded to be forked: `load` computes on its own thread alone, leaves no
    /// thread running, and opens no device. [`Function::forked`](crate::Function::forked) follows, in
    /// the pod, with this false.
    pub alone: bool,
    /// Arguments of the command line, without the program.
    pub args: Vec<String>,
}

/// A published model as a local file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Model {
    /// Version, such as `v3`; the file's name where none was given.
    pub version: String,
    /// The file. Where it was downloaded, it is removed once `load` has returned.
    pub path: PathBuf,
}

/// Precision of the computation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Precision {
    /// bf16 where the device computes it natively, else fp32.
    #[default]
    Auto,
    /// 32-bit floats.
    Fp32,
    /// bfloat16.
    Bf16,
}

impl FromStr for Precision {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "fp32" => Ok(Self::Fp32),
            "bf16" => Ok(Self::Bf16),
            _ => Err("use auto, fp32 or bf16".to_owned()),
        }
    }
}

/// What one invocation may leave behind for the next.
#[derive(PartialEq)]
enum Isolation {
    Pod,
    Invocation,
}

impl FromStr for Isolation {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "pod" => Ok(Self::Pod),
            "invocation" => Ok(Self::Invocation),
            _ => Err("use pod or invocation".to_owned()),
        }
    }
}

fn parse<T: FromStr>(
    get: &impl Fn(&str) -> Option<String>,
    name: &str,
    default: T,
) -> Result<T, Problem>
where
    T::Err: std::fmt::Display,
{
    match get(name).filter(|value| !value.is_empty()) {
        None => Ok(default),
        Some(value) => value.trim().parse().map_err(|error| {
            Problem::new(
                500,
                "environment_invalid",
                format!("{name}={value:?} cannot be used: {error}"),
            )
        }),
    }
}

impl Context {
    /// Reads the process's environment and arguments.
    ///
    /// # Errors
    /// `environment_invalid`, naming the variable.
    pub fn from_env() -> Result<Self, Problem> {
        Self::parse(
            |name| std::env::var(name).ok(),
            std::env::args_os()
                .skip(1)
                .map(|arg| arg.to_string_lossy().into_owned())
                .collect(),
        )
    }

    /// Reads variables by name from anything, for tests and tools.
    ///
    /// # Errors
    /// `environment_invalid`, naming the variable.
    pub fn parse(get: impl Fn(&str) -> Option<String>, args: Vec<String>) -> Result<Self, Problem> {
        let text = |name: &str, default: &str| get(name).unwrap_or_else(|| default.to_owned());
        let all = std::thread::available_parallelism().map_or(1, usize::from);
        let model = get(env::MODEL)
            .filter(|m| !m.is_empty())
            .map(|place| Model {
                version: get(env::MODEL_VERSION).unwrap_or_else(|| file_name(&place).to_owned()),
                path: PathBuf::from(place),
            });
        Ok(Self {
            port: parse(&get, env::PORT, 8080)?,
            host: parse(&get, env::HOST, std::net::Ipv4Addr::UNSPECIFIED.into())?,
            pod: text(env::POD, "pod"),
            function: text(env::FUNCTION, ""),
            runtime: text(env::RUNTIME, ""),
            threads: parse(&get, env::THREADS, all)?.max(1),
            precision: parse(&get, env::PRECISION, Precision::Auto)?,
            devices: devices(&text(env::DEVICES, "cpu")),
            workers: parse(&get, env::WORKERS, 1usize)?.max(1),
            model,
            scratch: get("STOIC_SCRATCH").map_or_else(std::env::temp_dir, PathBuf::from),
            body_limit: parse(&get, "STOIC_BODY_LIMIT", BODY_LIMIT)?,
            concurrency: parse(&get, "STOIC_CONCURRENCY", 64usize)?.max(1),
            drain_s: parse(&get, "STOIC_DRAIN_S", 600)?,
            isolated: parse(&get, env::ISOLATION, Isolation::Pod)? == Isolation::Invocation,
            alone: false,
            args,
        })
    }
}

fn devices(text: &str) -> Vec<String> {
    let named: Vec<String> = text
        .split(',')
        .map(str::trim)
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect();
    if named.is_empty() {
        vec!["cpu".to_owned()]
    } else {
        named
    }
}

/// The last part of a path or URL, without its query.
pub(crate) fn file_name(place: &str) -> &str {
    let path = place.split(['?', '#']).next().unwrap_or_default();
    path.rsplit('/').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(pairs: &[(&str, &str)]) -> Result<Context, Problem> {
        let pairs: Vec<(String, String)> = pairs
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect();
        Context::parse(
            |name| {
                pairs
                    .iter()
                    .find(|(k, _)| k == name)
                    .map(|(_, v)| v.clone())
            },
            Vec::new(),
        )
    }

    #[test]
    fn an_empty_environment_has_defaults() {
        let context = from(&[]).unwrap();
        assert_eq!(context.port, 8080);
        assert_eq!(context.devices, ["cpu"]);
        assert_eq!(context.precision, Precision::Auto);
        assert!(context.threads >= 1 && context.model.is_none());
    }

    #[test]
    fn values_are_parsed_and_wrong_ones_name_their_variable() {
        let context = from(&[
            ("STOIC_DEVICES", "cuda:0, cuda:1"),
            (
                "STOIC_MODEL",
                "http://s/models/wild.safetensors?X-Amz-Signature=1",
            ),
        ])
        .unwrap();
        assert_eq!(context.devices, ["cuda:0", "cuda:1"]);
        assert_eq!(context.model.unwrap().version, "wild.safetensors");
        for (name, value) in [
            ("PORT", "70000"),
            ("STOIC_THREADS", "two"),
            ("STOIC_PRECISION", "fp8"),
            ("STOIC_ISOLATION", "none"),
        ] {
            let problem = from(&[(name, value)]).unwrap_err();
            assert_eq!(problem.code, "environment_invalid");
            assert!(problem.detail.unwrap().contains(name));
        }
    }
}
