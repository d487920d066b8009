//! The chart and the plain manifests: they say the same, and a real API server takes them. Skipped, with a line
//! that says so, where there is no `helm` (`make test-cluster` builds one) or no cluster.

#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use stoic_tests::{Engine, Namespace, deploy, until, until_some};

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

/// An object of no namespace that a test makes: one that fails leaves none behind, which would keep other
/// namespaces from going.
struct Cleared<'a>(&'a Namespace, &'static str);

impl Drop for Cleared<'_> {
    fn drop(&mut self) {
        let Self(namespace, name) = self;
        let there = namespace.try_kubectl(&["get", "apiservice", name, "-o", "json"]);
        if there.is_ok_and(|found| found.contains(&namespace.name)) {
            let _ = namespace.try_kubectl(&["delete", "apiservice", name]);
        }
    }
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
            "kubeless.enabled=true,kubeless.command=true,tls.secretName=tls,store.bucket=b,store.endpoint=https://s3.example.org,store.existingSecret=s3",
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

#[test]
fn it_is_installed_upgraded_and_uninstalled() {
    let Some(namespace) = Namespace::make() else {
        return;
    };
    let Some(helm) = helm() else { return };
    let Some(engine) = Engine::find() else { return };
    let Some(registry) = Engine::registry() else {
        return;
    };
    let tag = std::process::id().to_string();
    let image = engine.gateway(&format!("{registry}/stoic-test-gateway:{tag}"));
    engine.docker(&["push", "-q", &image]);
    let images =
        format!("image.registry={registry},image.repository=stoic-test-gateway,image.tag={tag}");
    let chart = chart();
    let put = |more: &str| {
        let made = [
            "upgrade",
            "--install",
            "stoic",
            &chart,
            "--wait",
            "--timeout",
            "60s",
        ];
        let values = format!("{images},persistence.enabled=false{more}");
        let mut arguments = made.to_vec();
        arguments.extend(["--namespace", &namespace.name, "--set", &values]);
        run(&helm, &arguments)
    };
    put("");
    let token = || {
        namespace.kubectl(&[
            "get",
            "secret",
            "stoic-admin",
            "-o",
            "jsonpath={.data.token}",
        ])
    };
    let before = token();
    assert!(!before.is_empty());
    // It takes functions from the cluster. None of its pods is waited for: there are clusters for tests whose
    // pods do not reach one another.
    let spec = json!({"image": image, "standby": {}});
    namespace.apply(&json!({
        "apiVersion": "stoic.dev/v1", "kind": "Function", "metadata": {"name": "hi"}, "spec": spec,
    }));
    namespace.wait(
        "functions.stoic.dev",
        "hi",
        "Ready",
        Duration::from_secs(20),
    );

    let account = format!("system:serviceaccount:{}:stoic", namespace.name);
    let may = |verb: &str, what: &str, at: &str| {
        let asked = [
            "auth",
            "can-i",
            verb,
            what,
            "--as",
            &account,
            "--namespace",
            at,
        ];
        namespace
            .try_kubectl(&asked)
            .is_ok_and(|said| said == "yes")
    };
    assert!(may("create", "pods", &namespace.name));
    assert!(!may("get", "secrets", &namespace.name));
    assert!(!may("list", "secrets", &namespace.name));
    assert!(!may("create", "pods", "default"));
    assert!(!may("list", "functions.stoic.dev", "default"));
    // The same for real, asked with the account's rights.
    let tried = |words: &[&str]| namespace.try_kubectl(&[words, &["--as", &account]].concat());
    assert!(tried(&["get", "pods"]).is_ok());
    for words in [
        &["get", "secret", "stoic-admin"][..],
        &["get", "secrets"],
        &["get", "pods", "--namespace", "default"],
        &["create", "configmap", "left", "--namespace", "default"],
        &["delete", "pod", "not-there", "--namespace", "default"],
    ] {
        let said = tried(words).expect_err("it may not");
        assert!(said.contains("orbidden"), "{words:?}: {said}");
    }
    // What only functions of kubeless want.
    let theirs = [
        ("patch", "pods"),
        ("create", "services"),
        ("create", "deployments.apps"),
        ("delete", "replicasets.apps"),
    ];
    for (verb, what) in theirs {
        assert!(!may(verb, what, &namespace.name), "{verb} {what}");
    }
    put(",kubeless.enabled=true");
    for (verb, what) in theirs {
        assert!(may(verb, what, &namespace.name), "{verb} {what}");
    }
    assert!(!may("get", "secrets", &namespace.name));

    // What the `kubeless` command asks before an update, of a version that clusters have not had since 1.22.
    let version = "/apis/apiextensions.k8s.io/v1beta1";
    let definition = format!("{version}/customresourcedefinitions/functions.kubeless.io");
    let ask = |path: &str| namespace.try_kubectl(&["get", "--raw", path]);
    assert!(ask(&definition).is_err());
    let _cleared = Cleared(&namespace, "v1beta1.apiextensions.k8s.io");
    put(",kubeless.enabled=true,kubeless.command=true");
    let told = until_some("the API server passes it on", || ask(&definition).ok());
    let told: Value = serde_json::from_str(&told).unwrap();
    let annotations = &told["metadata"]["annotations"];
    assert_eq!(annotations["kubeless.io/namespace"], namespace.name);
    let name = annotations["kubeless.io/config"].as_str().unwrap();
    let runtimes = namespace.get("configmap", name)["data"]["runtime-images"].to_string();
    assert!(runtimes.contains("- ID: python"), "{runtimes}");
    let other = ask(&format!("{version}/customresourcedefinitions/pods.none"));
    assert!(other.unwrap_err().contains("v1beta1"));
    // The certificate is kept, or every upgrade would lock the API server out for a while.
    let authority = || {
        let service = namespace.get("apiservice", "v1beta1.apiextensions.k8s.io");
        service["spec"]["caBundle"].as_str().unwrap().to_owned()
    };
    let before_upgrade = authority();
    put(",kubeless.enabled=true,kubeless.command=true,runtimes.edge.threads=3");
    assert_eq!(authority(), before_upgrade);
    until("the next pod answers", || ask(&definition).is_ok());

    put(",runtimes.edge.threads=2");
    assert_eq!(token(), before, "the token is kept");
    assert!(ask(version).is_err(), "nobody answers for it any more");
    let config = namespace.kubectl(&["get", "configmap", "stoic", "-o", "yaml"]);
    assert!(config.contains("threads = 2"), "{config}");
    namespace.kubectl(&["delete", "functions.stoic.dev", "hi", "--timeout=20s"]);
    run(
        &helm,
        &[
            "uninstall",
            "stoic",
            "--wait",
            "--namespace",
            &namespace.name,
        ],
    );
    until("nothing of it is left", || {
        let left = namespace.kubectl(&[
            "get",
            "pods,deployments,services,secrets,roles",
            "--selector",
            "app.kubernetes.io/instance=stoic",
            "-o",
            "name",
        ]);
        left.is_empty()
    });
}
