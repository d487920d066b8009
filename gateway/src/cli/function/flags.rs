//! A function by flags, as kubeless' users write it: what `deploy --name` makes and `update` changes.

use crate::cli::client::Client;
use crate::cli::failed::Failed;
use crate::cli::quantity;
use crate::function::{
    BootstrapSpec, FunctionObject, FunctionSpec, Input, Isolation, Pull, Resources, Standby,
    amounts,
};
use crate::http::RuntimeView;
use bytesize::ByteSize;
use clap::{Args, ValueEnum};
use serde_json::json;
use std::time::Duration;

/// Namespaces that are taken for the sake of kubeless' and OpenFaaS' users: there is one.
const NAMESPACES: [&str; 2] = ["default", "openfaas-fn"];

/// Flags that describe a function. Those that are absent say nothing.
#[derive(Debug, Default, Args)]
pub(super) struct Flags {
    /// Container image, for sites that run containers
    #[arg(long, visible_alias = "runtime-image", value_name = "REF")]
    image: Option<String>,
    /// Executable and arguments, for process sites; words that begin with `-` as `--command=-x`
    #[arg(long, value_name = "WORD", num_args = 1..)]
    command: Vec<String>,
    /// Argument of the image's entry point, instead of the image's own; repeatable
    #[arg(long = "arg", value_name = "WORD", allow_hyphen_values = true)]
    args: Vec<String>,
    /// When the image is fetched
    #[arg(long, value_enum, value_name = "WHEN")]
    pull: Option<PullFlag>,
    /// Port that the image listens on [default: 8080]
    #[arg(long, value_name = "PORT")]
    port: Option<u16>,
    /// Path that answers 200 when a pod is ready [default: /healthz, and /_/health where that is not known]
    #[arg(long, value_name = "PATH")]
    health: Option<String>,
    /// Pods kept ready: on the runtimes named with --runtime, else on the first that can run it; or
    /// RUNTIME=N, repeatable
    #[arg(long, visible_alias = "min", value_name = "N", value_parser = standby)]
    standby: Vec<(Option<String>, u32)>,
    /// Most pods, on the same runtimes
    #[arg(long, value_name = "N")]
    max: Option<u32>,
    /// Pods above --standby go after being idle for this long
    #[arg(long, value_name = "TIME", value_parser = quantity::duration)]
    idle: Option<Duration>,
    /// Runtime that it may use; repeatable [default: all that can run it]
    #[arg(long = "runtime", value_name = "RUNTIME", value_delimiter = ',')]
    runtimes: Vec<String>,
    /// GPUs of a pod
    #[arg(long, visible_alias = "gpu", value_name = "N")]
    gpus: Option<u32>,
    /// Memory of a pod: 512Mi, 2g
    #[arg(long, value_name = "SIZE", value_parser = amounts::memory)]
    memory: Option<ByteSize>,
    /// CPU cores of a pod: 2, 0.5, 500m
    #[arg(long, visible_alias = "cpu", value_name = "N", value_parser = amounts::cores)]
    cpus: Option<f64>,
    /// Variable of its pods; repeatable
    #[arg(short, long, value_name = "K=V", value_parser = quantity::pair)]
    env: Vec<(String, String)>,
    /// Label; repeatable
    #[arg(short, long, value_name = "K=V", value_parser = quantity::pair)]
    label: Vec<(String, String)>,
    /// Annotation; repeatable
    #[arg(long, value_name = "K=V", value_parser = quantity::pair)]
    annotation: Vec<(String, String)>,
    /// Secret that its pods find as a file; repeatable
    #[arg(
        long,
        visible_alias = "secrets",
        value_name = "NAME",
        value_delimiter = ','
    )]
    secret: Vec<String>,
    /// Invocations that one pod works at the same time [default: 1]
    #[arg(long, value_name = "N")]
    concurrency: Option<u32>,
    /// How the input reaches a pod [default: request]
    #[arg(long, value_enum, value_name = "KIND")]
    input: Option<InputFlag>,
    /// Whether containers get a root that cannot be written
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    read_only: Option<bool>,
    /// What one invocation may leave behind for the next: `--isolation` gives each a process of its own
    #[arg(long, value_enum, value_name = "KIND", num_args = 0..=1, require_equals = true, default_missing_value = "invocation")]
    isolation: Option<IsolationFlag>,
    /// There is one namespace: `default` and `openfaas-fn` name it
    #[arg(short, long, value_name = "NAME", value_parser = namespace)]
    namespace: Option<String>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum PullFlag {
    Newer,
    Missing,
    Never,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum InputFlag {
    Batch,
    Request,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum IsolationFlag {
    Pod,
    Invocation,
}

fn standby(text: &str) -> Result<(Option<String>, u32), String> {
    let (runtime, count) = match text.split_once('=') {
        Some((runtime, count)) if !runtime.is_empty() => (Some(runtime.to_owned()), count),
        _ => (None, text),
    };
    let count = count
        .parse()
        .map_err(|_| format!("`{text}` is no number of pods; write for example 1 or edge=1"))?;
    Ok((runtime, count))
}

fn namespace(text: &str) -> Result<String, String> {
    match NAMESPACES.contains(&text) {
        true => Ok(text.to_owned()),
        false => Err(format!(
            "there is no namespace `{text}`: there is one, and `default` and `openfaas-fn` name it"
        )),
    }
}

impl Flags {
    /// Whether nothing is said.
    pub(super) fn is_empty(&self) -> bool {
        let Self {
            image,
            command,
            args,
            pull,
            port,
            health,
            standby,
            max,
            idle,
            runtimes,
            gpus,
            memory,
            cpus,
            env,
            label,
            annotation,
            secret,
            concurrency,
            input,
            read_only,
            isolation,
            namespace: _,
        } = self;
        let lists = [command, args, runtimes, secret];
        let pairs = [env, label, annotation];
        lists.iter().all(|list| list.is_empty())
            && pairs.iter().all(|list| list.is_empty())
            && standby.is_empty()
            && image.is_none()
            && health.is_none()
            && pull.is_none()
            && port.is_none()
            && (max, idle, gpus) == (&None, &None, &None)
            && (memory, cpus, concurrency) == (&None, &None, &None)
            && input.is_none()
            && read_only.is_none()
            && isolation.is_none()
    }

    /// A new function of this name.
    pub(super) async fn create(
        &self,
        client: &Client,
        name: &str,
        timeout: Option<Duration>,
    ) -> Result<FunctionObject, Failed> {
        if self.image.is_none() && self.command.is_empty() {
            return Err(Failed::Input(format!(
                "say what `{name}` runs: --image REF for sites that run containers, --command WORD... for process sites"
            )));
        }
        let object = json!({
            "apiVersion": "stoic.dev/v1", "kind": "Function", "metadata": {"name": name}, "spec": {},
        });
        let mut object: FunctionObject =
            serde_json::from_value(object).map_err(|e| Failed::Input(e.to_string()))?;
        // What passes through has no batches to be measured with.
        if !matches!(self.input, Some(InputFlag::Batch)) {
            object.spec.bootstrap = BootstrapSpec {
                batches: Vec::new(),
            };
        }
        self.apply(client, &mut object, timeout).await?;
        Ok(object)
    }

    /// Changes what is said, and nothing else.
    pub(super) async fn apply(
        &self,
        client: &Client,
        object: &mut FunctionObject,
        timeout: Option<Duration>,
    ) -> Result<(), Failed> {
        let metadata = &mut object.metadata;
        metadata.labels.extend(self.label.iter().cloned());
        metadata.annotations.extend(self.annotation.iter().cloned());
        let spec = &mut object.spec;
        if self.image.is_some() {
            spec.image.clone_from(&self.image);
        }
        for (list, said) in [
            (&mut spec.command, &self.command),
            (&mut spec.args, &self.args),
            (&mut spec.runtimes, &self.runtimes),
            (&mut spec.secrets, &self.secret),
        ] {
            if !said.is_empty() {
                list.clone_from(said);
            }
        }
        if let Some(pull) = self.pull {
            spec.pull = match pull {
                PullFlag::Newer => Pull::Newer,
                PullFlag::Missing => Pull::Missing,
                PullFlag::Never => Pull::Never,
            };
        }
        if let Some(input) = self.input {
            spec.input = match input {
                InputFlag::Batch => Input::Batch,
                InputFlag::Request => Input::Request,
            };
        }
        if let Some(isolation) = self.isolation {
            spec.isolation = match isolation {
                IsolationFlag::Pod => Isolation::Pod,
                IsolationFlag::Invocation => Isolation::Invocation,
            };
        }
        spec.port = self.port.unwrap_or(spec.port);
        spec.concurrency = self.concurrency.unwrap_or(spec.concurrency);
        spec.read_only_root = self.read_only.unwrap_or(spec.read_only_root);
        spec.timeout = timeout.unwrap_or(spec.timeout);
        if let Some(health) = &self.health {
            spec.health.clone_from(health);
        }
        spec.env.extend(self.env.iter().cloned());
        self.apply_resources(spec);
        self.apply_standby(client, spec).await
    }

    fn apply_resources(&self, spec: &mut FunctionSpec) {
        if self.gpus.is_none() && self.memory.is_none() && self.cpus.is_none() {
            return;
        }
        let none = Resources {
            cpu: None,
            memory: None,
            gpu: 0,
        };
        let resources = spec.resources.get_or_insert(none);
        resources.gpu = self.gpus.unwrap_or(resources.gpu);
        resources.memory = self.memory.or(resources.memory);
        resources.cpu = self.cpus.or(resources.cpu);
    }

    async fn apply_standby(&self, client: &Client, spec: &mut FunctionSpec) -> Result<(), Failed> {
        let everywhere = self
            .standby
            .iter()
            .rev()
            .find(|(runtime, _)| runtime.is_none());
        let everywhere = everywhere.map(|(_, count)| *count);
        let mut counts: Vec<(String, Option<u32>)> = Vec::new();
        for (runtime, count) in &self.standby {
            if let Some(runtime) = runtime {
                counts.push((runtime.clone(), Some(*count)));
            }
        }
        let bounds = self.max.is_some() || self.idle.is_some();
        if everywhere.is_some() || (bounds && counts.is_empty()) {
            let targets = if !self.runtimes.is_empty() {
                self.runtimes.clone()
            } else if !spec.standby.is_empty() {
                spec.standby.keys().cloned().collect()
            } else {
                vec![first_able(&client.runtimes().await?, spec)?]
            };
            let unsaid: Vec<String> = targets
                .into_iter()
                .filter(|target| counts.iter().all(|(runtime, _)| runtime != target))
                .collect();
            counts.extend(unsaid.into_iter().map(|runtime| (runtime, everywhere)));
        }
        for (runtime, count) in counts {
            let standby = spec.standby.entry(runtime).or_default();
            let Standby { min, max, .. } = *standby;
            standby.min = count.unwrap_or(min);
            // A most that was not said gives way to what is kept ready.
            standby.max = self.max.unwrap_or(max.max(standby.min));
            standby.idle = self.idle.unwrap_or(standby.idle);
        }
        Ok(())
    }
}

/// The first runtime that the function may use and whose site can run what it has.
fn first_able(runtimes: &[RuntimeView], spec: &FunctionSpec) -> Result<String, Failed> {
    let able = |runtime: &&RuntimeView| match runtime.backend.as_str() {
        "process" => !spec.command.is_empty(),
        _ => spec.image.is_some(),
    };
    let allowed =
        |runtime: &&RuntimeView| spec.runtimes.is_empty() || spec.runtimes.contains(&runtime.name);
    let mut all = runtimes.iter().filter(allowed);
    all.find(able).map(|runtime| runtime.name.clone()).ok_or_else(|| {
        Failed::Input(
            "no runtime can run what the function has; `stoic runtimes` shows them, --image is for sites \
             that run containers and --command for process sites"
                .to_owned(),
        )
    })
}
