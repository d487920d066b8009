//! A Kubernetes cluster, where `KUBECONFIG` names one and `REGISTRY` a registry that it pulls from: a
//! namespace for a test, cleared away when it ends. What is not the test's is never touched.

use crate::{Engine, until_some};
use serde_json::{Value, json};
use std::io::copy;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use tempfile::TempDir;

/// Namespaces that this process made.
static NAMESPACES: AtomicU32 = AtomicU32::new(0);

/// See the module.
#[derive(Debug)]
pub struct Cluster {
    /// Builds and pushes the images of tests.
    pub engine: Engine,
    registry: String,
    namespace: String,
    folder: TempDir,
}

fn kubectl(arguments: &[&str]) -> Command {
    let mut command = Command::new("kubectl");
    command.args(arguments).stdin(Stdio::null());
    command
}

impl Cluster {
    /// The cluster, with a namespace of the test's own that holds pods to the restricted standard; else
    /// says why the test is skipped.
    #[must_use]
    pub fn find() -> Option<Self> {
        let named = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let (Some(_), Some(registry)) = (named("KUBECONFIG"), named("REGISTRY")) else {
            println!(
                "skipped: no cluster (KUBECONFIG, and REGISTRY with a registry that it pulls from)"
            );
            return None;
        };
        let quiet = |command: &mut Command| {
            command.stdout(Stdio::null()).stderr(Stdio::null());
            command.status().is_ok_and(|status| status.success())
        };
        if !quiet(&mut kubectl(&[
            "get",
            "--raw",
            "/readyz",
            "--request-timeout=10s",
        ])) {
            println!("skipped: no API server answers (`kubectl get --raw /readyz`)");
            return None;
        }
        let engine = Engine::find()?;
        let number = NAMESPACES.fetch_add(1, Ordering::Relaxed);
        let namespace = format!("stoic-test-{}-{number}", std::process::id());
        let cluster = Self {
            engine,
            registry,
            namespace,
            folder: TempDir::new().expect("a temporary folder"),
        };
        let _ = cluster.kubectl(&["create", "namespace", &cluster.namespace]);
        let restricted = "pod-security.kubernetes.io/enforce=restricted";
        let _ = cluster.kubectl(&["label", "namespace", &cluster.namespace, restricted]);
        // The account that pods run as is made a moment later.
        until_some("the namespace's account", || {
            cluster
                .try_kubectl(&["get", "serviceaccount", "default"])
                .ok()
        });
        Some(cluster)
    }

    /// The namespace.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Runs `kubectl` in the namespace and gives what it printed.
    ///
    /// # Panics
    /// It failed.
    #[track_caller]
    pub fn kubectl(&self, arguments: &[&str]) -> String {
        self.try_kubectl(arguments)
            .unwrap_or_else(|error| panic!("kubectl {arguments:?}: {error}"))
    }

    /// Runs `kubectl` in the namespace and gives what it printed.
    ///
    /// # Errors
    /// It failed; says what it said.
    pub fn try_kubectl(&self, arguments: &[&str]) -> Result<String, String> {
        let output = kubectl(&["--namespace", &self.namespace])
            .args(arguments)
            .output()
            .map_err(|e| e.to_string())?;
        match output.status.success() {
            true => Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned()),
            false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        }
    }

    /// The objects of a kind that a gateway made.
    #[must_use]
    pub fn owned(&self, kind: &str, gateway: &str) -> Vec<Value> {
        let selector = format!("app.kubernetes.io/managed-by=stoic,stoic.dev/gateway={gateway}");
        let text = self.kubectl(&["get", kind, "--selector", &selector, "--output", "json"]);
        let list: Value = serde_json::from_str(&text).expect("JSON");
        list["items"].as_array().expect("a list").clone()
    }

    /// Names of the pods of a gateway that nobody deletes yet.
    #[must_use]
    pub fn pods(&self, gateway: &str) -> Vec<String> {
        let all = self.owned("pods", gateway).into_iter();
        let mut names: Vec<String> = all
            .filter(|pod| pod["metadata"]["deletionTimestamp"].is_null())
            .filter_map(|pod| pod["metadata"]["name"].as_str().map(str::to_owned))
            .collect();
        names.sort();
        names
    }

    /// How a gateway is told of the cluster: a site's tables, with these lines for its cluster added.
    #[must_use]
    pub fn site(&self, name: &str, more: &str) -> String {
        let kubeconfig = std::env::var("KUBECONFIG").unwrap_or_default();
        self.site_by(name, Path::new(&kubeconfig), more)
    }

    fn site_by(&self, name: &str, kubeconfig: &Path, more: &str) -> String {
        format!(
            "[sites.{name}]\nbackend = \"kubernetes\"\n[sites.{name}.kubernetes]\n\
             kubeconfig = \"{}\"\nnamespace = \"{}\"\n{more}\n",
            kubeconfig.display(),
            self.namespace
        )
    }

    /// As [`site`](Self::site), through a relay in front of the API server, which a test can take away.
    #[must_use]
    pub fn site_behind_relay(&self, name: &str, more: &str) -> (String, Relay) {
        let text = self.kubectl(&[
            "config",
            "view",
            "--raw",
            "--minify",
            "--flatten",
            "--output",
            "json",
        ]);
        let mut config: Value = serde_json::from_str(&text).expect("JSON");
        let cluster = &mut config["clusters"][0]["cluster"];
        let server = cluster["server"].as_str().expect("a server").to_owned();
        let address = server
            .trim_start_matches("https://")
            .trim_end_matches('/')
            .to_owned();
        let (host, _) = address.rsplit_once(':').unwrap_or((&address, ""));
        let host = host.to_owned();
        let far = match address.contains(':') {
            true => address,
            false => format!("{address}:443"),
        };
        let relay = Relay::new(far);
        cluster["server"] = json!(format!("https://{}", relay.address));
        cluster["tls-server-name"] = json!(host);
        let path = self.folder.path().join("relayed.json");
        std::fs::write(&path, config.to_string()).expect("the temporary folder takes files");
        (self.site_by(name, &path, more), relay)
    }

    fn pushed(&self, image: String) -> String {
        let _ = self.engine.docker(&["push", "-q", &image]);
        image
    }

    /// The name of an image in the registry.
    #[must_use]
    pub fn named(&self, name: &str) -> String {
        format!("{}/{name}", self.registry)
    }

    /// As [`Engine::odd`], in the registry.
    #[must_use]
    pub fn odd(&self, name: &str, version: &str) -> String {
        self.pushed(self.engine.odd(&self.named(name), version))
    }

    /// As [`Engine::echo`], in the registry.
    #[must_use]
    pub fn echo(&self, name: &str) -> String {
        self.pushed(self.engine.echo(&self.named(name)))
    }

    /// An image in the registry that runs as root, as careless ones do.
    #[must_use]
    pub fn rooted(&self, name: &str) -> String {
        self.pushed(self.engine.rooted(&self.named(name)))
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let pods = self.try_kubectl(&["get", "pods", "--output", "wide"]);
            eprintln!(
                "--- pods of {}\n{}",
                self.namespace,
                pods.unwrap_or_default()
            );
        }
        let _ = kubectl(&["delete", "namespace", &self.namespace, "--wait=false"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
    }
}

/// A port in front of another, which a test can take away: whoever connects is turned away, and what is
/// open breaks.
#[derive(Debug)]
pub struct Relay {
    /// Where it listens.
    pub address: SocketAddr,
    up: Arc<AtomicBool>,
    open: Arc<Mutex<Vec<TcpStream>>>,
}

impl Relay {
    fn new(far: String) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let relay = Self {
            address: listener.local_addr().expect("bound"),
            up: Arc::new(AtomicBool::new(true)),
            open: Arc::default(),
        };
        let (up, open) = (Arc::clone(&relay.up), Arc::clone(&relay.open));
        std::thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                if !up.load(Ordering::SeqCst) {
                    continue;
                }
                let Ok(far) = TcpStream::connect(&far) else {
                    continue;
                };
                for stream in [&near, &far] {
                    let _ = stream.set_nodelay(true);
                    let kept = stream.try_clone().expect("descriptors");
                    open.lock().expect("not poisoned").push(kept);
                }
                let again = |stream: &TcpStream| stream.try_clone().expect("descriptors");
                for (mut from, mut to) in [(again(&near), again(&far)), (far, near)] {
                    std::thread::spawn(move || {
                        let _ = copy(&mut from, &mut to);
                        let _ = to.shutdown(Shutdown::Write);
                    });
                }
            }
        });
        relay
    }

    /// Takes it away.
    pub fn down(&self) {
        self.up.store(false, Ordering::SeqCst);
        for stream in self.open.lock().expect("not poisoned").drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Brings it back.
    pub fn up(&self) {
        self.up.store(true, Ordering::SeqCst);
    }
}
