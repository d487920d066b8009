//! A namespace of a real Kubernetes cluster, where this machine reaches one: made for a test, and removed
//! with everything in it when the test ends.

use serde_json::Value;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Definitions of resources, as they are checked in.
const DEFINITIONS: [&str; 2] = ["crd.yaml", "kubeless-crds.yaml"];
/// Finalizers of those who may be gone when a namespace is removed.
const KINDS: [&str; 1] = ["functions.stoic.dev"];

static NEXT: AtomicU32 = AtomicU32::new(0);

/// See the module. Made first in a test, so that it goes last.
#[derive(Debug)]
pub struct Namespace {
    /// Its name.
    pub name: String,
}

impl Namespace {
    /// A new namespace of the cluster of `$KUBECONFIG`, which knows our resources; none, with a line that
    /// says why, where no cluster answers.
    ///
    /// # Panics
    /// The cluster answers, and refuses.
    #[must_use]
    pub fn make() -> Option<Self> {
        if std::env::var_os("KUBECONFIG").is_none_or(|value| value.is_empty()) {
            println!("skipped: no Kubernetes cluster (KUBECONFIG)");
            return None;
        }
        if kubectl(&["get", "--raw", "/readyz"], None).is_err() {
            println!("skipped: the Kubernetes cluster of KUBECONFIG does not answer");
            return None;
        }
        for file in DEFINITIONS {
            let file = deploy().join("kubernetes").join(file);
            let file = file.to_str().expect("a UTF-8 path");
            must(
                &["apply", "--server-side", "--force-conflicts", "-f", file],
                None,
            );
            must(
                &[
                    "wait",
                    "--for=condition=Established",
                    "--timeout=20s",
                    "-f",
                    file,
                ],
                None,
            );
        }
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("stoic-test-{}-{number}", std::process::id());
        must(&["create", "namespace", &name], None);
        Some(Self { name })
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
        kubectl(&self.own(arguments), None)
    }

    /// Applies an object.
    ///
    /// # Panics
    /// It is refused.
    #[track_caller]
    pub fn apply(&self, object: &Value) {
        self.try_apply(object)
            .unwrap_or_else(|error| panic!("refused: {error}\n{object}"));
    }

    /// Applies an object.
    ///
    /// # Errors
    /// It is refused; says what `kubectl` said.
    pub fn try_apply(&self, object: &Value) -> Result<String, String> {
        kubectl(&self.own(&["apply", "-f", "-"]), Some(&object.to_string()))
    }

    /// An object as the cluster has it.
    ///
    /// # Panics
    /// It is not there.
    #[track_caller]
    pub fn get(&self, kind: &str, name: &str) -> Value {
        let text = self.kubectl(&["get", kind, name, "-o", "json"]);
        serde_json::from_str(&text).expect("JSON")
    }

    /// Status, reason and message of a condition of an object.
    #[must_use]
    pub fn condition(&self, kind: &str, name: &str, condition: &str) -> Option<[String; 3]> {
        let object = self.get(kind, name);
        let conditions = object["status"]["conditions"].as_array()?;
        let found = conditions.iter().find(|c| c["type"] == condition)?;
        let text = |key: &str| found[key].as_str().unwrap_or_default().to_owned();
        Some([text("status"), text("reason"), text("message")])
    }

    /// Waits until an object has a condition.
    ///
    /// # Panics
    /// It has not in time; shows what it has.
    #[track_caller]
    pub fn wait(&self, kind: &str, name: &str, condition: &str, within: Duration) {
        let object = format!("{kind}/{name}");
        let waits = format!("--for=condition={condition}");
        let timeout = format!("--timeout={}s", within.as_secs());
        if let Err(error) = self.try_kubectl(&["wait", &object, &waits, &timeout]) {
            let has = self.kubectl(&["get", kind, name, "-o", "yaml"]);
            panic!("{error}\n{has}");
        }
    }

    fn own<'a>(&'a self, arguments: &[&'a str]) -> Vec<&'a str> {
        let mut all = vec!["--namespace", self.name.as_str()];
        all.extend(arguments);
        all
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // Whoever would take our finalizers away is gone.
        for kind in KINDS {
            let Ok(all) = self.try_kubectl(&["get", kind, "-o", "name"]) else {
                continue;
            };
            for object in all.lines() {
                let patch = r#"{"metadata":{"finalizers":null}}"#;
                let _ = self.try_kubectl(&["patch", object, "--type=merge", "-p", patch]);
            }
        }
        let _ = kubectl(&["delete", "namespace", &self.name, "--wait=false"], None);
    }
}

/// The project's `deploy` folder.
#[must_use]
pub fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy")
}

/// Runs `kubectl`, again for a while where the API server is busy with what was just defined.
#[track_caller]
fn must(arguments: &[&str], input: Option<&str>) -> String {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        match kubectl(arguments, input) {
            Ok(text) => return text,
            Err(_) if Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(300));
            }
            Err(error) => panic!("kubectl {arguments:?}: {error}"),
        }
    }
}

/// Runs `kubectl` and gives what it printed.
fn kubectl(arguments: &[&str], input: Option<&str>) -> Result<String, String> {
    let mut command = Command::new("kubectl");
    let mut child = command
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("kubectl: {error}"))?;
    if let (Some(mut stdin), Some(input)) = (child.stdin.take(), input) {
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().map_err(|e| e.to_string())?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned()),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}
