//! `stoic migrate kubeless`.

use crate::cli::failed::Failed;
use crate::cli::output::{complain, say};
use crate::config::ControllerConfig;
use crate::controller::{self, connect, said};
use crate::kubeless::{self, Carried, NotCarried};
use clap::Args;
use kube::api::{ApiResource, DynamicObject, ListParams, Patch, PatchParams};
use kube::core::GroupVersionKind;
use kube::{Api, Client};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// Who applies, as the cluster notes it.
const MANAGER: &str = "stoic-migrate";
/// Kinds of triggers, with their plurals.
const TRIGGERS: [(&str, &str); 2] = [
    ("HTTPTrigger", "httptriggers"),
    ("CronJobTrigger", "cronjobtriggers"),
];

/// Options of `stoic migrate kubeless`.
#[derive(Debug, Args)]
#[command(
    long_about = "Carry functions of kubeless (kubeless.io/v1beta1) over to functions.stoic.dev.\n\n\
        Without FILE, they are read from the cluster of KUBECONFIG. The functions are applied to that \
        cluster, or with --dry-run printed. On standard error stands, for each, what did not carry over, \
        and what its triggers need. The objects of kubeless are left as they are.",
    after_help = "Examples:\n  \
        stoic migrate kubeless --dry-run > functions.yaml\n  \
        stoic migrate kubeless --namespace cameras\n  \
        kubectl get functions.kubeless.io -o yaml | stoic migrate kubeless --dry-run -"
)]
pub(in crate::cli) struct Kubeless {
    /// Files with objects of kubeless (YAML or JSON, several documents, lists); `-` is standard input
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Print the functions instead of applying them
    #[arg(long)]
    dry_run: bool,
    /// Namespace to read from and to apply to [default: that of the kubeconfig's context]
    #[arg(short, long, value_name = "NAME")]
    namespace: Option<String>,
    /// Context of the kubeconfig [default: the current one]
    #[arg(long, value_name = "NAME")]
    context: Option<String>,
}

/// What was read: functions, and lines about triggers by function.
#[derive(Debug, Default)]
struct Found {
    functions: Vec<Value>,
    triggers: BTreeMap<String, Vec<String>>,
}

impl Kubeless {
    pub(super) async fn run(self) -> Result<(), Failed> {
        let cluster = match self.files.is_empty() || !self.dry_run {
            true => Some(self.cluster().await?),
            false => None,
        };
        let mut found = Found::default();
        match (&cluster, self.files.as_slice()) {
            (Some((client, namespace)), []) => found.read_cluster(client, namespace).await?,
            (_, files) => {
                for file in files {
                    found.read(&text_of(file).await?, &file.display().to_string())?;
                }
            }
        }
        if found.functions.is_empty() {
            return Err(Failed::Input(
                "there are no functions of kubeless (kubeless.io/v1beta1) there".to_owned(),
            ));
        }
        let carried: Vec<(String, Result<Carried, NotCarried>)> = found
            .functions
            .iter()
            .map(|object| (name_of(object), kubeless::function(object)))
            .collect();
        let good: Vec<&Carried> = carried
            .iter()
            .filter_map(|(_, one)| one.as_ref().ok())
            .collect();
        match &cluster {
            Some((client, namespace)) if !self.dry_run => {
                for one in &good {
                    apply(client, namespace, one).await?;
                }
            }
            _ => say(&documents(&good)?)?,
        }
        complain(&report(&carried, &found.triggers, self.dry_run));
        let refused = carried.len() - good.len();
        if refused > 0 {
            let text = format!("{refused} of {} were not carried over", carried.len());
            return Err(Failed::Machine(text));
        }
        Ok(())
    }

    async fn cluster(&self) -> Result<(Client, String), Failed> {
        let config = ControllerConfig {
            namespace: self.namespace.clone(),
            context: self.context.clone(),
            ..ControllerConfig::default()
        };
        connect(&config).await.map_err(|error| {
            let text = error.to_string();
            Failed::Machine(text.replace("leave the controller off", "name files and --dry-run"))
        })
    }
}

impl Found {
    async fn read_cluster(&mut self, client: &Client, namespace: &str) -> Result<(), Failed> {
        let list = async |resource: &ApiResource| {
            let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, resource);
            api.list(&ListParams::default()).await
        };
        let functions = kubeless::resource("Function", "functions");
        let listed = list(&functions).await.map_err(|error| match &error {
            kube::Error::Api(status) if status.code == 404 => Failed::Input(
                "the cluster has no functions of kubeless: its definition, functions.kubeless.io, is not there; \
                 name files to read objects from those"
                    .to_owned(),
            ),
            _ => Failed::Machine(format!("functions.kubeless.io: {}", said(&error))),
        })?;
        for object in listed {
            self.take(value_of(object, &functions)?);
        }
        for (kind, plural) in TRIGGERS {
            let resource = kubeless::resource(kind, plural);
            // A cluster need not know them.
            let Ok(listed) = list(&resource).await else {
                continue;
            };
            for object in listed {
                self.take(value_of(object, &resource)?);
            }
        }
        Ok(())
    }

    fn read(&mut self, text: &str, file: &str) -> Result<(), Failed> {
        let documents: Vec<Value> = serde_saphyr::from_multiple(text).map_err(|error| {
            let text = error.to_string();
            let line = text.lines().next().unwrap_or_default().to_owned();
            Failed::Input(format!("{file}: no YAML: {line}"))
        })?;
        for document in documents {
            self.take(document);
        }
        Ok(())
    }

    /// Takes a function or a trigger; lists are taken apart, and what is neither is left alone.
    fn take(&mut self, object: Value) {
        if let Some(items) = object["items"].as_array() {
            for item in items {
                self.take(item.clone());
            }
            return;
        }
        let version = object["apiVersion"].as_str().unwrap_or_default();
        if !version.starts_with("kubeless.io/") {
            return;
        }
        if object["kind"] == "Function" {
            self.functions.push(object);
        } else if let Some((function, line)) = kubeless::trigger(&object) {
            self.triggers.entry(function).or_default().push(line);
        }
    }
}

/// Lists give their items without kind and version.
fn value_of(object: DynamicObject, resource: &ApiResource) -> Result<Value, Failed> {
    let mut value = serde_json::to_value(object)
        .map_err(|error| Failed::Machine(format!("an object of the cluster: {error}")))?;
    value["apiVersion"] = resource.api_version.clone().into();
    value["kind"] = resource.kind.clone().into();
    Ok(value)
}

async fn text_of(file: &Path) -> Result<String, Failed> {
    let name = file.display().to_string();
    let read = match name.as_str() {
        "-" => tokio::task::spawn_blocking(|| std::io::read_to_string(std::io::stdin()))
            .await
            .map_err(|error| Failed::Machine(error.to_string()))?,
        _ => tokio::fs::read_to_string(file).await,
    };
    read.map_err(|error| Failed::Input(format!("{name}: {error}")))
}

fn name_of(object: &Value) -> String {
    let name = object["metadata"]["name"].as_str();
    name.unwrap_or("(no name)").to_owned()
}

fn documents(all: &[&Carried]) -> Result<String, Failed> {
    let written: Result<Vec<String>, _> = all
        .iter()
        .map(|one| controller::yaml(&one.document))
        .collect();
    let written = written.map_err(|error| Failed::Machine(error.to_string()))?;
    Ok(written.join("---\n"))
}

async fn apply(client: &Client, namespace: &str, one: &Carried) -> Result<(), Failed> {
    let kind = GroupVersionKind::gvk(controller::GROUP, controller::VERSION, "Function");
    let resource = ApiResource::from_gvk_with_plural(&kind, controller::PLURAL);
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &resource);
    let name = &one.object.metadata.name;
    let parameters = PatchParams::apply(MANAGER).force();
    let patch = Patch::Apply(&one.document);
    let applied = api.patch(name, &parameters, &patch).await;
    applied
        .map(|_| ())
        .map_err(|error| Failed::Machine(format!("{name} cannot be applied: {}", said(&error))))
}

/// What became of each, and what is left to do.
fn report(
    carried: &[(String, Result<Carried, NotCarried>)],
    triggers: &BTreeMap<String, Vec<String>>,
    dry_run: bool,
) -> String {
    let mut text = String::new();
    for (name, one) in carried {
        let (word, left): (&str, &[String]) = match one {
            Ok(one) if dry_run => ("carried over", &one.left),
            Ok(one) => ("applied", &one.left),
            Err(_) => ("NOT carried over", &[]),
        };
        let _ = writeln!(text, "{name}: {word}");
        if let Err(error) = one {
            let _ = writeln!(text, "  - {error}");
        }
        let of_triggers = triggers.get(name).map(Vec::as_slice).unwrap_or_default();
        for line in left.iter().chain(of_triggers) {
            let _ = writeln!(text, "  - {line}");
        }
    }
    for (function, lines) in triggers {
        if !carried.iter().any(|(name, _)| name == function) {
            let _ = writeln!(text, "{function}: there is no such function");
            for line in lines {
                let _ = writeln!(text, "  - {line}");
            }
        }
    }
    text
}
