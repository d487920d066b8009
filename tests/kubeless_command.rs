//! What the `kubeless` command asks of a cluster, request by request as its last commit sends them, with
//! nothing but a gateway of ours in its place. Skipped, with a line that says so, where `KUBECONFIG` and
//! `REGISTRY` name no cluster and no registry.

#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use stoic_tests::{Call, Engine, Launch, Namespace, binary, until, until_some};

const THEIRS: &str = "functions.kubeless.io";
/// Code of a function: the image of this test runs Perl, as those of kubeless ran Python.
const CODE: &str = "sub greet { return \"hello $_[0]\"; }\n1;\n";

/// The API server, as the command reaches it: `kubectl proxy` brings the credentials.
struct Api {
    child: Child,
    address: String,
}

impl Api {
    fn open() -> Self {
        let mut child = Command::new("kubectl")
            .args([
                "proxy",
                "--port=0",
                "--reject-paths=^$",
                "--disable-filter=true",
            ])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut said = BufReader::new(child.stdout.take().unwrap());
        said.read_line(&mut line).unwrap();
        let address = line.trim().rsplit(' ').next().unwrap().to_owned();
        Self { child, address }
    }

    fn call(&self, method: &str, path: &str) -> Call {
        Call::new(method, &format!("http://{}{path}", self.address))
    }

    fn get(&self, path: &str) -> Value {
        self.call("GET", path).send().ok().json()
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What `kubeless function deploy hi --runtime-image IMAGE --from-file greet.pl --handler greet.greet` sends.
fn deployed(namespace: &str, image: &str) -> Value {
    let labels = json!({"created-by": "kubeless", "function": "hi"});
    let none = json!({"creationTimestamp": null});
    let container =
        json!({"name": "", "image": image, "resources": {}, "imagePullPolicy": "Always"});
    json!({
        "kind": "Function",
        "apiVersion": "kubeless.io/v1beta1",
        "metadata": {
            "name": "hi", "namespace": namespace, "creationTimestamp": null, "labels": labels,
        },
        "spec": {
            "handler": "greet.greet",
            "function": CODE,
            "function-content-type": "text",
            "checksum": "sha256:99dd2886bf72619588b016341d933af7357a5b6dadee27050ee96e03e744eb44",
            "runtime": "",
            "timeout": "180",
            "deps": "",
            "deployment": {
                "metadata": none,
                "spec": {
                    "selector": null,
                    "template": {"metadata": none, "spec": {"containers": [container]}},
                    "strategy": {},
                },
                "status": {},
            },
            "service": {
                "ports": [{
                    "name": "http-function-port", "protocol": "TCP", "port": 8080,
                    "targetPort": 8080,
                }],
                "selector": labels,
                "type": "ClusterIP",
            },
            "horizontalPodAutoscaler": {
                "metadata": none,
                "spec": {"scaleTargetRef": {"kind": "", "name": ""}, "maxReplicas": 0},
                "status": {
                    "currentReplicas": 0, "desiredReplicas": 0, "currentMetrics": null,
                    "conditions": null,
                },
            },
        },
    })
}

/// An image that runs the code it finds at `/kubeless`, where there is a registry for it.
fn image(engine: &Engine, of: &str) -> Option<String> {
    let registry = Engine::registry()?;
    let name = format!(
        "{registry}/stoic-test-kubeless-{of}-{}:1",
        std::process::id()
    );
    let image = engine.odd_as(&name, "one", "kubeless");
    engine.docker(&["push", "-q", &image]);
    Some(image)
}

/// What `ls` shows: ready pods and pods, as the Deployment of the function's name counts them.
fn counted(namespace: &Namespace) -> Option<(u64, u64)> {
    let found = namespace.try_kubectl(&["get", "deployment", "hi", "-o", "json"]);
    let deployment: Value = serde_json::from_str(&found.ok()?).unwrap();
    let of = |key: &str| deployment["status"][key].as_u64();
    Some((of("readyReplicas").unwrap_or(0), of("replicas")?))
}

/// A gateway whose one site is the cluster, and who is asked of nothing but through the cluster's API.
fn launch(namespace: &Namespace) -> Launch {
    let (name, kubeconfig) = (&namespace.name, std::env::var("KUBECONFIG").unwrap());
    Launch::default().config(&format!(
        "[inquisitor]\nenabled = false\n[deployment]\ngrace = \"2s\"\n\
         [controller]\nenabled = true\nkubeless = true\nnamespace = \"{name}\"\n\
         [sites.edge]\nbackend = \"kubernetes\"\n[sites.edge.kubernetes]\n\
         kubeconfig = \"{kubeconfig}\"\nnamespace = \"{name}\"\n[runtimes.edge]\nsite = \"edge\"\n"
    ))
}

#[test]
fn a_function_is_deployed_called_read_changed_and_deleted() {
    let Some(namespace) = Namespace::make() else {
        return;
    };
    let Some(engine) = Engine::find() else { return };
    let Some(image) = image(&engine, "walk") else {
        return;
    };
    let _gateway = launch(&namespace).start();
    let api = Api::open();
    let core = format!("/api/v1/namespaces/{}", namespace.name);
    let functions = format!(
        "/apis/kubeless.io/v1beta1/namespaces/{}/functions",
        namespace.name
    );

    // deploy
    let sent = deployed(&namespace.name, &image);
    let made = api.call("POST", &functions);
    let made = made.body("application/json", sent.to_string()).send();
    assert_eq!(made.status, 201, "{}", made.text());
    namespace.wait(THEIRS, "hi", "Ready", Duration::from_secs(30));
    let [_, _, told] = namespace.condition(THEIRS, "hi", "CarriedOver").unwrap();
    assert!(told.contains("its file is called greet"), "{told}");

    // call: the Service of its name, and its first port by name.
    let service = until_some("its Service is there", || {
        let answer = api.call("GET", &format!("{core}/services/hi")).send();
        (answer.status == 200).then(|| answer.json())
    });
    assert_eq!(service["spec"]["ports"][0]["name"], "http-function-port");
    let service = format!(
        "/namespaces/{}/services/hi:http-function-port/proxy",
        namespace.name
    );
    let proxy = format!("/api/v1{service}");
    let call = |body: &str| {
        // So it comes out where the command appends a slash: the path of the Service twice.
        let call = api.call("POST", &format!("{proxy}{service}"));
        let call = call.header("event-type", "application/x-www-form-urlencoded");
        let call = call.header("event-namespace", "cli.kubeless.io");
        call.body("application/x-www-form-urlencoded", body).send()
    };
    until("its Service leads to its pod", || call("you").status == 200);
    assert_eq!(call("you").text(), "hello you");
    // Without data: a redirection, which the command follows.
    let answer = api.call("GET", &proxy).send();
    let next = answer.header("location").to_owned();
    assert_eq!((answer.status, next.as_str()), (301, &*format!("{proxy}/")));
    assert_eq!(api.call("GET", &next).send().text(), "hello ");

    // logs: pods by a label, the first whose containers are ready, the container by the function's name.
    let logs = || {
        let path = format!("{core}/pods?labelSelector=function%3Dhi");
        let pods = api.get(&path)["items"].as_array().unwrap().clone();
        let ready = pods.into_iter().find(|pod| {
            let all = pod["status"]["containerStatuses"].as_array();
            all.is_none_or(|all| all.iter().all(|one| one["ready"] == true))
        })?;
        let pod = ready["metadata"]["name"].as_str()?;
        let log = api.call("GET", &format!("{core}/pods/{pod}/log?container=hi"));
        Some(log.send().ok().text())
    };
    let log = until_some("it has a pod", logs);
    assert!(log.contains("odd server, mode kubeless"), "{log}");

    // ls: READY as the Deployment of its name counts it.
    until("it is 1/1 READY", || counted(&namespace) == Some((1, 1)));

    // describe, ls
    let described = api.get(&format!("{functions}/hi"));
    assert_eq!(described["spec"]["function"], CODE);
    let listed = api.get(&functions);
    assert_eq!(listed["items"].as_array().unwrap().len(), 1);

    // update: the whole of it as a merge patch.
    let mut next = described;
    next["spec"]["function"] = CODE.replace("hello", "good day,").into();
    next["spec"]["checksum"] = "".into();
    next["metadata"] = json!({
        "name": "hi", "namespace": namespace.name, "creationTimestamp": null,
        "labels": {"created-by": "kubeless", "function": "hi"},
    });
    next["status"] = Value::Null;
    let patch = api.call("PATCH", &format!("{functions}/hi"));
    let patch = patch
        .body("application/merge-patch+json", next.to_string())
        .send();
    assert_eq!(patch.status, 200, "{}", patch.text());
    until("the new code answers", || {
        call("you").text() == "good day, you"
    });

    until("it is 1/1 READY again", || {
        counted(&namespace) == Some((1, 1))
    });

    // delete
    let delete = api.call("DELETE", &format!("{functions}/hi"));
    let options = r#"{"kind":"DeleteOptions","apiVersion":"kubeless.io/v1beta1"}"#;
    assert_eq!(delete.body("application/json", options).send().status, 200);
    until("its pods and its Service are gone", || {
        let kinds = "pods,services";
        namespace
            .kubectl(&["get", kinds, "-l", "function=hi", "-o", "name"])
            .is_empty()
    });
    until("nobody counts its pods", || {
        let kinds = "deployments,replicasets";
        namespace.kubectl(&["get", kinds, "-o", "name"]).is_empty()
    });
}

#[test]
fn pods_are_counted_and_never_ended_by_who_counts_them() {
    let Some(namespace) = Namespace::make() else {
        return;
    };
    let Some(engine) = Engine::find() else { return };
    let Some(image) = image(&engine, "count") else {
        return;
    };
    let gateway = launch(&namespace).start();
    let mut object = deployed(&namespace.name, &image);
    object["spec"]["deployment"]["spec"]["replicas"] = 2.into();
    namespace.apply(&object);
    until("it is 2/2 READY", || counted(&namespace) == Some((2, 2)));
    let pods = || {
        let shown = ["get", "pods", "-l", "function=hi", "-o", "name"];
        let names = namespace.kubectl(&shown);
        let mut names: Vec<String> = names.lines().map(str::to_owned).collect();
        names.sort();
        names
    };
    let before = pods();
    assert_eq!(before.len(), 2);

    // One is gone: another comes, and is counted in its place. The other is left alone.
    namespace.kubectl(&["delete", &before[0], "--wait=true"]);
    until("it is 2/2 READY again", || {
        pods().len() == 2 && counted(&namespace) == Some((2, 2))
    });
    assert!(pods().contains(&before[1]));

    // Carried over, nobody counts its pods any more, and they serve on.
    let before = pods();
    let output = Command::new(binary("stoic"))
        .args(["migrate", "kubeless", "--namespace", &namespace.name])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    until("nobody counts its pods", || counted(&namespace).is_none());
    until("its ReplicaSet is gone", || {
        namespace
            .kubectl(&["get", "replicasets", "-o", "name"])
            .is_empty()
    });
    namespace.kubectl(&["delete", THEIRS, "hi"]);
    assert_eq!(gateway.get("/function/hi").ok().text(), "hello ");
    assert_eq!(pods(), before);
}

#[test]
fn a_deployment_of_somebody_elses_is_left_alone() {
    let Some(namespace) = Namespace::make() else {
        return;
    };
    let Some(engine) = Engine::find() else { return };
    let Some(image) = image(&engine, "other") else {
        return;
    };
    // As kubeless' own controller left it.
    namespace.apply(&json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "hi", "labels": {"created-by": "kubeless", "function": "hi"}},
        "spec": {
            "replicas": 0,
            "selector": {"matchLabels": {"created-by": "kubeless", "function": "hi"}},
            "template": {
                "metadata": {"labels": {"created-by": "kubeless", "function": "hi"}},
                "spec": {"containers": [{"name": "hi", "image": image}]},
            },
        },
    }));
    let before = namespace.get("deployment", "hi")["spec"].clone();
    let gateway = launch(&namespace).start();
    namespace.apply(&deployed(&namespace.name, &image));
    namespace.wait(THEIRS, "hi", "Ready", Duration::from_secs(30));
    until("it is said", || gateway.log().contains("somebody else's"));
    assert_eq!(namespace.get("deployment", "hi")["spec"], before);
    namespace.kubectl(&["delete", THEIRS, "hi"]);
    until("its pods are gone", || {
        let shown = ["get", "pods", "-l", "function=hi", "-o", "name"];
        namespace.kubectl(&shown).is_empty()
    });
    assert_eq!(namespace.get("deployment", "hi")["spec"], before);

    // It goes in the end, and the name is free.
    namespace.apply(&deployed(&namespace.name, &image));
    namespace.wait(THEIRS, "hi", "Ready", Duration::from_secs(30));
    namespace.kubectl(&["delete", "deployment", "hi"]);
    until("the name is taken", || counted(&namespace).is_some());
}

#[test]
fn who_counts_goes_with_an_object_that_went_while_nobody_watched() {
    let Some(namespace) = Namespace::make() else {
        return;
    };
    let Some(engine) = Engine::find() else { return };
    let Some(image) = image(&engine, "gone") else {
        return;
    };
    let launch = launch(&namespace);
    let gateway = launch.start();
    namespace.apply(&deployed(&namespace.name, &image));
    until("it is 1/1 READY", || counted(&namespace) == Some((1, 1)));
    gateway.freeze();
    namespace.kubectl(&["delete", THEIRS, "hi"]);
    let _gateway = gateway.reborn(&launch);
    until("its pods and who counted them are gone", || {
        let kinds = "pods,deployments,replicasets";
        namespace.kubectl(&["get", kinds, "-o", "name"]).is_empty()
    });
}
