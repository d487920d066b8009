//! `stoic up`.

use super::BAD_INPUT;
use crate::config::{BackendKind, Config, GatewayConfig};
use crate::serve::{self, StartFailure};
use clap::Args;
use std::io::IsTerminal;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use tracing_subscriber::EnvFilter;

/// Options of `stoic up`.
#[derive(Debug, Args)]
pub(super) struct Up {
    /// Configuration file (TOML); without one the embedded default stands
    #[arg(long, env = "STOIC_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Address to listen on [default: 127.0.0.1:8080]
    #[arg(long, env = "STOIC_LISTEN", value_name = "ADDR")]
    listen: Option<SocketAddr>,
    /// Folder of everything that lasts [default: ~/.local/share/stoic]
    #[arg(long, env = "STOIC_DATA", value_name = "DIR")]
    data: Option<PathBuf>,
    /// How pods run at a site: `process`, `docker`, `kubernetes`, or `gateway:URL` for those of another gateway; may
    /// be given for several sites
    #[arg(long = "site", value_name = "SITE=BACKEND", value_parser = site_backend)]
    sites: Vec<(String, Choice)>,
    /// File with the token that the gateways of --site ask for
    #[arg(long, env = "STOIC_TOKEN_FILE", value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// PEM file with the authority of their certificates, instead of the system's
    #[arg(long, env = "STOIC_CA", value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Listen beyond this machine although there is no token: whoever reaches the gateway may do everything
    #[arg(long)]
    insecure: bool,
    /// Take functions from the Kubernetes cluster of KUBECONFIG, or from the one that this runs in
    #[arg(long)]
    controller: bool,
    /// Log as JSON lines instead of text
    #[arg(long)]
    log_json: bool,
    /// Print the configuration in force and exit
    #[arg(long)]
    print_config: bool,
}

impl Up {
    pub(super) fn run(self) -> ExitCode {
        let refused = |text: String, code: u8| {
            eprintln!("stoic: {text}");
            ExitCode::from(code)
        };
        let mut config = match self
            .config
            .as_deref()
            .map_or_else(|| Ok(Config::default()), Config::load)
        {
            Ok(config) => config,
            Err(error) => return refused(error.to_string(), BAD_INPUT),
        };
        if let Some(listen) = self.listen {
            config.listen = listen;
        }
        if let Some(data) = self.data {
            config.data = data;
        }
        config.controller.enabled |= self.controller;
        config.auth.open |= self.insecure;
        for (name, choice) in self.sites {
            let backend = match choice {
                Choice::Backend(backend) => backend,
                Choice::Gateway(url) => {
                    let gateway = GatewayConfig {
                        url,
                        token_file: self.token_file.clone(),
                        ca: self.ca.clone(),
                        ..GatewayConfig::default()
                    };
                    config.sites.entry(name).or_default().stand_for(gateway);
                    continue;
                }
            };
            let Some(site) = config.sites.get_mut(&name) else {
                let known: Vec<&str> = config.sites.keys().map(String::as_str).collect();
                let text = format!(
                    "--site: there is no site `{name}`; there are: {}",
                    known.join(", ")
                );
                return refused(text, BAD_INPUT);
            };
            if backend != BackendKind::Docker {
                site.docker = None;
            }
            if backend != BackendKind::Kubernetes {
                site.kubernetes = None;
            } else if self.config.is_none() {
                // A cluster is as far away as it is, and takes as long as it takes.
                site.emulated_link = None;
                site.emulated_deployment = None;
            }
            site.gateway = None;
            site.backend = backend;
        }
        config.leave_runtimes_to_gateways();
        if self.print_config {
            return match toml::to_string_pretty(&config) {
                Ok(text) => {
                    print!("{text}");
                    ExitCode::SUCCESS
                }
                Err(error) => refused(error.to_string(), 1),
            };
        }
        init_logs(self.log_json);
        match serve::run(config) {
            Ok(()) => ExitCode::SUCCESS,
            Err(StartFailure::Config(error)) => refused(error.to_string(), BAD_INPUT),
            Err(error @ StartFailure::Machine(_)) => refused(error.to_string(), 1),
        }
    }
}

/// What is to run a site's pods.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Choice {
    Backend(BackendKind),
    /// The gateway at this URL.
    Gateway(String),
}

/// `edge=docker`, `cloud=gateway:https://campus.example:8443`.
fn site_backend(text: &str) -> Result<(String, Choice), String> {
    let (site, backend) = text
        .split_once('=')
        .ok_or("write SITE=BACKEND, as in `edge=docker`")?;
    let backend = match backend {
        "process" => Choice::Backend(BackendKind::Process),
        "docker" => Choice::Backend(BackendKind::Docker),
        "kubernetes" => Choice::Backend(BackendKind::Kubernetes),
        "gateway" => {
            return Err("write gateway:URL, as in `cloud=gateway:https://HOST:8443`".into());
        }
        _ => match backend.strip_prefix("gateway:") {
            Some(url) => Choice::Gateway(url.to_owned()),
            None => {
                return Err(format!(
                    "`{backend}` is not one of process, docker, kubernetes, gateway:URL"
                ));
            }
        },
    };
    Ok((site.to_owned(), backend))
}

/// Logs go to standard error; `STOIC_LOG` sets the level, as in `STOIC_LOG=debug`.
fn init_logs(json: bool) {
    let filter = EnvFilter::try_from_env("STOIC_LOG")
        .unwrap_or_else(|_| EnvFilter::new("info,s3s=error,aws=error"));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .with_target(false);
    if json {
        builder.json().init();
    } else {
        builder.init();
    }
}
