//! `stoic up`.

use super::BAD_INPUT;
use crate::config::{BackendKind, Config};
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
    /// How pods run at a site: `process`, `docker` or `kubernetes`; may be given for several sites
    #[arg(long = "site", value_name = "SITE=BACKEND", value_parser = site_backend)]
    sites: Vec<(String, BackendKind)>,
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
        for (name, backend) in self.sites {
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
            site.backend = backend;
        }
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

/// `edge=docker`.
fn site_backend(text: &str) -> Result<(String, BackendKind), String> {
    let (site, backend) = text
        .split_once('=')
        .ok_or("write SITE=BACKEND, as in `edge=docker`")?;
    let backend = match backend {
        "process" => BackendKind::Process,
        "docker" => BackendKind::Docker,
        "kubernetes" => BackendKind::Kubernetes,
        _ => {
            return Err(format!(
                "`{backend}` is not one of process, docker, kubernetes"
            ));
        }
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
