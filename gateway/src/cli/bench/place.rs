//! Where the bench runs: a gateway that answers, or one of its own, and the functions on it.

use super::options::{ByFunction, ColdWarm};
use super::target::Target;
use crate::cli::client::{Address, Client, Exchange, Gateway};
use crate::cli::demo::{self, child::Child};
use crate::cli::failed::Failed;
use crate::config::Config;
use crate::function::{FunctionObject, FunctionSpec};
use crate::http::{FunctionView, RuntimeView};
use std::path::Path;
use std::time::Duration;
use tempfile::TempDir;

/// Where a gateway is when none is named.
const DEFAULT: &str = "http://127.0.0.1:8080";
/// Pods of a function that is deployed for the run do not go by themselves.
const IDLE: Duration = Duration::from_secs(24 * 3600);
/// Functions that a gateway of the bench's own knows.
const KNOWN: [(&str, &str); 2] = [
    (
        "echo",
        include_str!("../../../../functions/echo/function.yaml"),
    ),
    ("wildlife", demo::FUNCTION),
];

/// See the module.
#[derive(Debug)]
pub(super) struct Place {
    /// A client of the gateway.
    pub(super) client: Client,
    /// Where it is.
    pub(super) address: Address,
    /// Its version.
    pub(super) version: String,
    /// Its process, where it is on this machine.
    pub(super) pid: Option<u32>,
    /// The gateway of the bench's own, with its folder.
    own: Option<(Child, TempDir)>,
}

impl Place {
    /// Finds a gateway or starts one.
    pub(super) async fn open(options: &ColdWarm) -> Result<Self, Failed> {
        if options.own {
            return Self::start(options).await;
        }
        let address = match &options.gateway {
            Some(address) => address.clone(),
            None => DEFAULT.parse().map_err(Failed::Input)?,
        };
        let gateway = Gateway {
            address,
            access: options.access.clone(),
        };
        match Self::at(gateway, None).await {
            Err(Failed::Unreachable { .. }) if options.gateway.is_none() => {
                Self::start(options).await
            }
            opened => opened,
        }
    }

    async fn at(gateway: Gateway, own: Option<(Child, TempDir)>) -> Result<Self, Failed> {
        let client = Client::new(&gateway)?;
        let address = gateway.address;
        let info = client.info().await?;
        let here = |host: &str| host == "localhost" || host == "[::1]" || host.starts_with("127.");
        Ok(Self {
            pid: Some(info.pid).filter(|_| here(address.host())),
            client,
            address,
            version: info.version,
            own,
        })
    }

    async fn start(options: &ColdWarm) -> Result<Self, Failed> {
        let text = configuration(options)?;
        let folder = tempfile::tempdir().map_err(|e| Failed::io("a temporary folder", &e))?;
        let log = folder.path().join("gateway.log");
        let child = match Child::start(folder.path(), &log, &text).await {
            Ok(child) => child,
            Err(failed) => {
                let said = std::fs::read_to_string(&log).unwrap_or_default();
                let last = said.lines().last().unwrap_or_default();
                return Err(Failed::Machine(format!("{failed}: {last}")));
            }
        };
        let gateway = Gateway::at(child.address.clone());
        Self::at(gateway, Some((child, folder))).await
    }

    /// Whether the gateway is the bench's own.
    pub(super) fn own(&self) -> bool {
        self.own.is_some()
    }

    /// In words.
    pub(super) fn sentence(&self) -> String {
        if self.own() {
            "A gateway of the bench's own on a temporary folder, with a site per backend, nothing emulated and no probes; \
             it is gone now."
                .to_owned()
        } else {
            format!("The running gateway at {}.", self.address)
        }
    }

    /// Ends the gateway, where it is the bench's own.
    pub(super) async fn close(self) {
        if let Some((child, _folder)) = self.own {
            child.stop().await;
        }
    }

    /// The functions on the backends, deployed where they have to be; what could not be measured is noted.
    pub(super) async fn targets(
        &self,
        options: &ColdWarm,
        deployed: &mut Vec<String>,
        notes: &mut Vec<String>,
    ) -> Result<Vec<Target>, Failed> {
        let mut objects = Vec::new();
        for given in &options.functions {
            objects.push(self.object(given).await?);
        }
        let names: Vec<String> = objects
            .iter()
            .map(|(object, _)| object.metadata.name.clone())
            .collect();
        if let Some(name) = names
            .iter()
            .find(|name| names.iter().filter(|other| other == name).count() > 1)
        {
            return Err(Failed::Input(format!("--function: {name} is given twice")));
        }
        let by_function = options.by_function(&names)?;
        let runtimes = self.client.runtimes().await?;
        let places = chosen(options, &runtimes)?;
        let mut targets = Vec::new();
        for (mut object, new) in objects {
            let name = object.metadata.name.clone();
            if let Some(image) = by_function.images.get(&name) {
                if !new {
                    return Err(Failed::Input(format!(
                        "--image {name}=...: {name} is deployed already, and stays as it is"
                    )));
                }
                object.spec.image = Some(image.clone());
            }
            let mut at = Vec::new();
            for (backend, runtime) in &places {
                match why_not(&object.spec, backend, &runtime.name) {
                    Some(why) => notes.push(format!("{name} is not measured on {backend}: {why}.")),
                    None => at.push((backend, *runtime)),
                }
            }
            if at.is_empty() {
                return Err(Failed::Input(format!(
                    "{name} cannot be measured: {}",
                    notes.last().map_or("", String::as_str)
                )));
            }
            let view = if new {
                let names = at.iter().map(|(_, runtime)| runtime.name.clone());
                fit(&mut object.spec, names.collect(), options.max_pods);
                let text = serde_json::to_string(&object)
                    .map_err(|e| Failed::Machine(format!("cannot write {name}: {e}")))?;
                let (view, _) = self.client.deploy(text).await?;
                deployed.push(name.clone());
                view
            } else {
                self.client.function(&name).await?
            };
            for (backend, runtime) in at {
                targets.push(target(&view, backend, runtime, &by_function)?);
            }
        }
        Ok(targets)
    }

    /// A function by its name or file, and whether it has to be deployed.
    async fn object(&self, given: &str) -> Result<(FunctionObject, bool), Failed> {
        let is_file = given.contains('/')
            || Path::new(given).extension().is_some_and(|extension| {
                ["yaml", "yml", "json"]
                    .iter()
                    .any(|known| extension == *known)
            });
        if !is_file {
            return match self.client.function(given).await {
                Ok(view) => Ok((view.object, false)),
                Err(failed) if !self.own() => Err(failed),
                Err(_) => match KNOWN.iter().find(|(name, _)| *name == given) {
                    Some((_, text)) => parse(given, text).map(|object| (object, true)),
                    None => Err(Failed::Input(format!(
                        "there is no gateway with a function `{given}`: start one, name it with --gateway, or give the \
                         function's file instead of its name (the bench's own gateway knows echo and wildlife)"
                    ))),
                },
            };
        }
        let text = std::fs::read_to_string(given)
            .map_err(|e| Failed::Input(format!("cannot read {given}: {e}")))?;
        let object = parse(given, &text)?;
        let name = &object.metadata.name;
        if self.client.function(name).await.is_ok() {
            return Err(Failed::Input(format!(
                "{given}: `{name}` is deployed already; measure it by its name, or give the file another one"
            )));
        }
        Ok((object, true))
    }
}

fn parse(given: &str, text: &str) -> Result<FunctionObject, Failed> {
    FunctionObject::parse(text).map_err(|e| Failed::Input(format!("{given}: {e}")))
}

/// The configuration of a gateway of the bench's own.
fn configuration(options: &ColdWarm) -> Result<String, Failed> {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let mut text = "[inquisitor]\nenabled = false\n[link]\nprobe = false\n".to_owned();
    for backend in &options.backends {
        let runtime = options.runtime(backend).unwrap_or(backend);
        text += &format!(
            "[sites.{backend}]\nbackend = \"{backend}\"\n\
             [runtimes.{runtime}]\nsite = \"{backend}\"\nthreads = {cores}\nprecision = \"fp32\"\n"
        );
    }
    // Refused here, the reason is one line; the child would write it into its log.
    Config::parse(&text)
        .map_err(|e| Failed::Input(format!("the bench's own gateway cannot be as asked: {e}")))?;
    Ok(text)
}

/// A runtime for each backend.
fn chosen<'a>(
    options: &ColdWarm,
    runtimes: &'a [RuntimeView],
) -> Result<Vec<(String, &'a RuntimeView)>, Failed> {
    let mut chosen = Vec::new();
    for backend in &options.backends {
        let mut of = runtimes
            .iter()
            .filter(|runtime| runtime.backend == *backend);
        let found = match options.runtime(backend) {
            Some(name) => of.find(|runtime| runtime.name == name),
            None => of
                .clone()
                .find(|runtime| runtime.emulated.is_empty())
                .or_else(|| of.next()),
        };
        let Some(runtime) = found else {
            let known: Vec<String> = runtimes
                .iter()
                .map(|runtime| format!("{} ({})", runtime.name, runtime.backend))
                .collect();
            return Err(Failed::Input(format!(
                "--backend {backend}: this gateway has no {} there; its runtimes: {}",
                match options.runtime(backend) {
                    Some(name) => format!("runtime `{name}`"),
                    None => "runtime".to_owned(),
                },
                known.join(", ")
            )));
        };
        chosen.push((backend.clone(), runtime));
    }
    Ok(chosen)
}

/// Why a function cannot be measured on a backend, if so.
fn why_not(spec: &FunctionSpec, backend: &str, runtime: &str) -> Option<String> {
    if !spec.runtimes.is_empty() && !spec.runtimes.iter().any(|allowed| allowed == runtime) {
        return Some(format!(
            "it may not use runtime {runtime} (spec.runtimes: {})",
            spec.runtimes.join(", ")
        ));
    }
    match backend {
        "process" if spec.command.is_empty() => Some("it has no command".to_owned()),
        "docker" | "kubernetes" if spec.image.is_none() => {
            Some("it has no image (name one with --image)".to_owned())
        }
        _ => None,
    }
}

/// Makes a function fit for the run: on these runtimes, no standbys but those that are asked for, no tasks of its own.
fn fit(spec: &mut FunctionSpec, runtimes: Vec<String>, max_pods: Option<u32>) {
    let files = spec.standby.values().map(|standby| standby.max).max();
    // What else a file says of its standbys stays.
    let mut standby = spec.standby.values().next().copied().unwrap_or_default();
    standby.min = 0;
    standby.max = max_pods.or(files).unwrap_or(1);
    standby.idle = IDLE;
    spec.standby = runtimes
        .iter()
        .map(|runtime| (runtime.clone(), standby))
        .collect();
    spec.runtimes = runtimes;
    spec.bootstrap.batches.clear();
}

fn target(
    view: &FunctionView,
    backend: &str,
    runtime: &RuntimeView,
    by_function: &ByFunction,
) -> Result<Target, Failed> {
    let name = &view.object.metadata.name;
    let body = match by_function.data.get(name) {
        Some(path) => Some(
            std::fs::read(path)
                .map_err(|e| Failed::Input(format!("cannot read {}: {e}", path.display())))?,
        ),
        None => None,
    };
    let kind = by_function.data.get(name).map(|path| {
        mime_guess::from_path(path)
            .first_or_octet_stream()
            .to_string()
    });
    Ok(Target {
        function: name.clone(),
        backend: backend.to_owned(),
        runtime: runtime.name.clone(),
        site: runtime.site.clone(),
        emulated: runtime.emulated.clone(),
        standby: view
            .object
            .spec
            .standby
            .get(&runtime.name)
            .copied()
            .unwrap_or_default(),
        trained: view.status.model.is_some(),
        path: by_function.paths.get(name).cloned().unwrap_or_default(),
        data: body.zip(kind).map(|(body, kind)| (body.into(), kind)),
        outer: Exchange::get(""),
        inner: Exchange::get("/"),
        forks: false,
        spec: view.object.spec.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(text: &str) -> FunctionSpec {
        let text = format!(
            "apiVersion: stoic.dev/v1\nkind: Function\nmetadata: {{name: hi}}\nspec: {text}\n"
        );
        FunctionObject::parse(&text).expect("valid").spec
    }

    #[test]
    fn a_function_is_measured_where_it_can_run() {
        let both = spec("{image: i, command: [c], runtimes: [edge]}");
        assert_eq!(why_not(&both, "process", "edge"), None);
        assert!(
            why_not(&both, "docker", "cpu")
                .expect("not allowed")
                .contains("spec.runtimes")
        );
        let image = spec("{image: i}");
        assert!(
            why_not(&image, "process", "edge")
                .expect("no command")
                .contains("no command")
        );
        assert_eq!(why_not(&image, "docker", "edge"), None);
        assert!(why_not(&spec("{command: [c]}"), "docker", "x").is_some());
    }

    #[test]
    fn a_function_that_is_deployed_for_the_run_starts_nothing_by_itself() {
        let mut spec = spec("{command: [c], standby: {edge: {min: 2, max: 5}}}");
        fit(&mut spec, vec!["process".to_owned()], None);
        let standby = spec.standby["process"];
        assert_eq!((standby.min, standby.max, spec.standby.len()), (0, 5, 1));
        assert!(spec.bootstrap.batches.is_empty());
        fit(&mut spec, vec!["process".to_owned()], Some(16));
        assert_eq!(spec.standby["process"].max, 16);
    }

    #[test]
    fn the_functions_that_are_known_are_valid() {
        for (name, text) in KNOWN {
            assert_eq!(parse(name, text).expect("valid").metadata.name, name);
        }
    }
}
