//! A Docker engine, where this machine has one: images built for a test, and everything that the
//! test's gateways made there, cleared away when it ends. What is not theirs is never touched.

use crate::{Gateway, binary};
use serde_json::Value;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard};
use tempfile::TempDir;

/// The base of images that are built for tests.
const BASE: &str = "debian:bookworm-slim";

/// See the module. Made first in a test, so that it goes last.
#[derive(Debug, Default)]
pub struct Engine {
    gateways: Mutex<Vec<String>>,
    images: Mutex<Vec<String>>,
}

impl Engine {
    /// The engine, if one answers and has the base of test images; else says why the test is skipped.
    #[must_use]
    pub fn find() -> Option<Self> {
        let answers = |arguments: &[&str]| {
            let mut command = Command::new("docker");
            command
                .args(arguments)
                .stdout(Stdio::null())
                .stderr(Stdio::null());
            command.status().is_ok_and(|status| status.success())
        };
        if !answers(&["version"]) {
            println!("skipped: no Docker engine answers (`docker version`)");
            return None;
        }
        if !answers(&["image", "inspect", BASE]) && !answers(&["pull", "-q", BASE]) {
            println!("skipped: the Docker engine has no {BASE}");
            return None;
        }
        Some(Self::default())
    }

    /// A registry that the engine pushes to: `$REGISTRY`, else `localhost:5000` where one answers.
    #[must_use]
    pub fn registry() -> Option<String> {
        let named = std::env::var("REGISTRY").ok().filter(|v| !v.is_empty());
        let usual = || {
            let answer = crate::Call::new("GET", "http://localhost:5000/v2/").try_send();
            answer
                .is_ok_and(|answer| answer.status == 200)
                .then(|| "localhost:5000".to_owned())
        };
        let found = named.or_else(usual);
        if found.is_none() {
            println!("skipped: no registry (REGISTRY, or localhost:5000)");
        }
        found
    }

    /// Runs `docker` and gives what it printed.
    ///
    /// # Panics
    /// It failed.
    #[track_caller]
    pub fn docker(&self, arguments: &[&str]) -> String {
        self.try_docker(arguments)
            .unwrap_or_else(|error| panic!("docker {arguments:?}: {error}"))
    }

    /// Runs `docker` and gives what it printed.
    ///
    /// # Errors
    /// It failed; says what it said.
    pub fn try_docker(&self, arguments: &[&str]) -> Result<String, String> {
        let mut command = Command::new("docker");
        let output = command
            .args(arguments)
            .env("DOCKER_BUILDKIT", "0")
            .output()
            .map_err(|e| e.to_string())?;
        match output.status.success() {
            true => Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned()),
            false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        }
    }

    /// Clears away what this gateway makes.
    #[must_use]
    pub fn owns(&self, gateway: Gateway) -> Gateway {
        let id = gateway.id().to_owned();
        self.gateways.lock().expect("not poisoned").push(id);
        gateway
    }

    /// Names of the containers of a gateway, in any state.
    #[must_use]
    pub fn containers(&self, gateway: &str) -> Vec<String> {
        let filter = format!("label=dev.stoic.gateway={gateway}");
        let format = "{{.Names}}";
        let listed = self.docker(&["ps", "-a", "--filter", &filter, "--format", format]);
        listed.lines().map(str::to_owned).collect()
    }

    /// What the engine knows of a container, image or network.
    #[must_use]
    pub fn inspect(&self, name: &str) -> Value {
        let text = self.docker(&["inspect", name]);
        let all: Value = serde_json::from_str(&text).expect("JSON");
        all[0].clone()
    }

    /// An image that runs `stoic-echo` as a user without rights.
    #[must_use]
    pub fn echo(&self, name: &str) -> String {
        let folder = TempDir::new().expect("a temporary folder");
        std::fs::copy(binary("stoic-echo"), folder.path().join("stoic-echo")).expect("copied");
        let recipe = format!(
            "FROM {BASE}\nCOPY stoic-echo /\nUSER 1000:1000\nENTRYPOINT [\"/stoic-echo\"]\n"
        );
        self.build(name, folder.path(), &recipe)
    }

    /// An image that runs a server of its own making, which misbehaves as its argument says; see
    /// `src/odd.pl`. `version` is what it answers of itself.
    #[must_use]
    pub fn odd(&self, name: &str, version: &str) -> String {
        self.odd_as(name, version, "good")
    }

    /// As [`odd`](Self::odd), with the argument that is its own.
    #[must_use]
    pub fn odd_as(&self, name: &str, version: &str, mode: &str) -> String {
        let folder = TempDir::new().expect("a temporary folder");
        std::fs::write(folder.path().join("odd.pl"), include_str!("odd.pl")).expect("written");
        let recipe = format!(
            "FROM {BASE}\nCOPY odd.pl /\nENV ODD_VERSION={version}\nUSER 1000:1000\n\
             ENTRYPOINT [\"perl\", \"/odd.pl\"]\nCMD [\"{mode}\"]\n"
        );
        self.build(name, folder.path(), &recipe)
    }

    /// An image of the gateway, by the project's own recipe; stripped, since debug builds are large.
    #[must_use]
    pub fn gateway(&self, name: &str) -> String {
        let folder = TempDir::new().expect("a temporary folder");
        let stripped = Command::new("strip")
            .arg("-o")
            .args([folder.path().join("stoic"), binary("stoic")])
            .status();
        assert!(stripped.is_ok_and(|status| status.success()), "strip");
        let recipe = include_str!("../../images/gateway/Dockerfile");
        self.build(name, folder.path(), recipe)
    }

    /// An image that runs `stoic-echo` as root.
    #[must_use]
    pub fn rooted(&self, name: &str) -> String {
        let folder = TempDir::new().expect("a temporary folder");
        std::fs::copy(binary("stoic-echo"), folder.path().join("stoic-echo")).expect("copied");
        let recipe = format!("FROM {BASE}\nCOPY stoic-echo /\nENTRYPOINT [\"/stoic-echo\"]\n");
        self.build(name, folder.path(), &recipe)
    }

    fn build(&self, name: &str, folder: &Path, recipe: &str) -> String {
        std::fs::write(folder.join("Dockerfile"), recipe).expect("written");
        let folder = folder.to_str().expect("a UTF-8 path");
        {
            let _turn = turn();
            self.docker(&["build", "-q", "-t", name, folder]);
        }
        self.images
            .lock()
            .expect("not poisoned")
            .push(name.to_owned());
        name.to_owned()
    }

    /// Has an image removed at the end that something else makes.
    pub fn clears_image(&self, name: &str) {
        self.images
            .lock()
            .expect("not poisoned")
            .push(name.to_owned());
    }
}

/// Held while an image is built or removed: the engine's classic builder fails where layers that it counts on go
/// meanwhile, with another test's image of the same content.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

impl Drop for Engine {
    fn drop(&mut self) {
        let take = |list: &Mutex<Vec<String>>| {
            std::mem::take(
                &mut *list
                    .lock()
                    .unwrap_or_else(std::sync::PoisonError::into_inner),
            )
        };
        for gateway in take(&self.gateways) {
            let filter = format!("label=dev.stoic.gateway={gateway}");
            for (list, remove) in [
                (
                    ["ps", "-aq", "--filter", &*filter].as_slice(),
                    ["rm", "-fv"].as_slice(),
                ),
                (
                    &["network", "ls", "-q", "--filter", &filter],
                    &["network", "rm"],
                ),
            ] {
                let Ok(found) = self.try_docker(list) else {
                    continue;
                };
                for one in found.lines() {
                    let mut arguments = remove.to_vec();
                    arguments.push(one);
                    let _ = self.try_docker(&arguments);
                }
            }
        }
        let _turn = turn();
        for image in take(&self.images) {
            let _ = self.try_docker(&["rmi", &image]);
        }
    }
}
