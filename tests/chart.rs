//! The chart and the plain manifests: they say the same, and a real API server takes them. Skipped, with a line
//! that says so, where there is no `helm` (`make test-cluster` builds one) or no cluster.

#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::Command;
use stoic_tests::{Namespace, deploy};

/// The oldest Kubernetes that the chart is for: a helm that was built from its module knows of none itself.
const KUBERNETES: &str = "1.29.0";

/// A `helm` in `$HELM`, in the path, or in the cache; else says why the test is skipped.
fn helm() -> Option<PathBuf> {
    let named = std::env::var_os("HELM").filter(|v| !v.is_empty());
    let cache = std::env::var_os("XDG_CACHE_HOME").map_or_else(
        || PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cache"),
        PathBuf::from,
    );
    let cached = std::fs::read_dir(cache.join("stoic")).into_iter().flatten();
    let cached = cached
        .flatten()
        .map(|entry| entry.path().join("helm"))
        .find(|path| path.is_file());
    let works = |path: &PathBuf| {
        let output = Command::new(path).arg("version").output();
        output.is_ok_and(|output| output.status.success())
    };
    let mut all = [
        named.map(PathBuf::from),
        Some(PathBuf::from("helm")),
        cached,
    ]
    .into_iter()
    .flatten();
    let found = all.find(works);
    if found.is_none() {
        println!("skipped: no helm (HELM, PATH, or `tests/helm.sh` to build one)");
    }
    found
}

fn run(helm: &Path, arguments: &[&str]) -> String {
    let output = Command::new(helm).args(arguments).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "helm {arguments:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

fn chart() -> String {
    deploy().join("helm/stoic").to_str().unwrap().to_owned()
}

/// The manifests without comments and blank lines.
fn plain(text: &str) -> String {
    let lines = text.lines().map(str::trim_end);
    let lines = lines.filter(|line| !line.is_empty() && !line.trim_start().starts_with('#'));
    lines.map(|line| format!("{line}\n")).collect()
}

#[test]
fn the_chart_is_good_and_the_plain_manifests_are_what_it_makes() {
    let Some(helm) = helm() else { return };
    let linted = run(&helm, &["lint", "--strict", &chart()]);
    assert!(linted.contains("0 chart(s) failed"), "{linted}");
    let made = run(
        &helm,
        &[
            "template",
            "stoic",
            &chart(),
            "--kube-version",
            KUBERNETES,
            "--namespace",
            "stoic",
            "--set",
            "auth.existingSecret=stoic-admin",
        ],
    );
    let checked_in = std::fs::read_to_string(deploy().join("kubernetes/gateway.yaml")).unwrap();
    assert_eq!(
        plain(&checked_in),
        plain(&made),
        "write it anew: tests/chart.sh"
    );
    let more = Command::new(&helm)
        .args(["template", "stoic", &chart(), "--set", "replicas=2"])
        .args(["--kube-version", KUBERNETES])
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&more.stderr);
    assert!(
        !more.status.success() && errors.contains("data folder"),
        "{errors}"
    );
}

#[test]
fn a_cluster_takes_every_form_of_the_chart() {
    let Some(namespace) = Namespace::make() else {
        return;
    };
    let Some(helm) = helm() else { return };
    for values in [
        vec![],
        vec!["replicas=2,persistence.enabled=false"],
        vec![
            "kubeless.enabled=true,tls.secretName=tls,store.bucket=b,store.endpoint=https://s3.example.org,store.existingSecret=s3",
        ],
        vec![
            "service.type=NodePort,networkPolicy.enabled=false,podDisruptionBudget.enabled=false,serviceAccount.create=false",
        ],
        vec![
            "runtimes.gpu1.gpus=1,runtimes.gpu1.order=1,image.pullSecrets={a},nodeSelector.disk=ssd",
        ],
    ] {
        let chart = chart();
        let mut arguments = vec!["template", "t", &chart, "--namespace", &namespace.name];
        arguments.extend(["--kube-version", KUBERNETES]);
        for value in &values {
            arguments.extend(["--set", value]);
        }
        let made = run(&helm, &arguments);
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), made).unwrap();
        let file = file.path().to_str().unwrap();
        let taken = namespace.kubectl(&["apply", "--dry-run=server", "-f", file]);
        assert!(taken.contains("deployment.apps"), "{values:?}: {taken}");
    }
    let folder = deploy().join("kubernetes");
    let built = namespace.kubectl(&["kustomize", folder.to_str().unwrap()]);
    assert!(built.contains("kind: CustomResourceDefinition"));
}
