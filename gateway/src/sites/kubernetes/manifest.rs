//! What a pod is: its limits and what it may not do.

use super::labels;
use crate::config::{ImagePullPolicy, KubernetesConfig};
use crate::function::Pull;
use crate::secrets::IN_CONTAINERS;
use crate::sites::PodSpec;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use std::collections::BTreeMap;

/// Volume with the pod's secrets.
const SECRETS: &str = "secrets";
/// Volume with the pod's files.
const FILES: &str = "files";
/// Volume at `/tmp`.
const TMP: &str = "tmp";

/// Where the pod stands.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) gateway_id: &'a str,
    pub(super) site: &'a str,
    pub(super) namespace: &'a str,
    pub(super) config: &'a KubernetesConfig,
    pub(super) owner: Option<&'a OwnerReference>,
}

/// The object of a pod. It keeps to the restricted pod security standard, gets no token of the API, and
/// nothing is mounted but its secrets, its files and an empty `/tmp` where its root cannot be written.
pub(super) fn pod(name: &str, image: &str, spec: &PodSpec, place: Place<'_>) -> core::Pod {
    let config = place.config;
    let own = config.of_runtime(&spec.runtime);
    let metadata = ObjectMeta {
        name: Some(name.to_owned()),
        namespace: Some(place.namespace.to_owned()),
        labels: Some(labels::of(place.gateway_id, place.site, spec, config)),
        annotations: Some(labels::annotations(spec, config)),
        owner_references: place.owner.map(|owner| vec![owner.clone()]),
        ..ObjectMeta::default()
    };
    let tolerations = own.tolerations.into_iter().map(|t| core::Toleration {
        key: t.key,
        operator: t.operator,
        value: t.value,
        effect: t.effect,
        ..core::Toleration::default()
    });
    let pull_secrets = own.image_pull_secrets.into_iter();
    let pod = core::PodSpec {
        containers: vec![container(image, spec, config, own.image_pull_policy)],
        // A pod that ends is replaced by the pool, which knows what it was for.
        restart_policy: Some("Never".to_owned()),
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        service_account_name: own.service_account,
        image_pull_secrets: Some(
            pull_secrets
                .map(|name| core::LocalObjectReference { name })
                .collect(),
        ),
        node_selector: Some(own.node_selector),
        tolerations: Some(tolerations.collect()),
        runtime_class_name: own.runtime_class,
        priority_class_name: own.priority_class,
        security_context: Some(core::PodSecurityContext {
            run_as_non_root: Some(config.run_as_non_root),
            run_as_user: config.run_as_user,
            seccomp_profile: Some(core::SeccompProfile {
                type_: "RuntimeDefault".to_owned(),
                ..core::SeccompProfile::default()
            }),
            ..core::PodSecurityContext::default()
        }),
        volumes: Some(volumes(name, spec, config)),
        ..core::PodSpec::default()
    };
    core::Pod {
        metadata,
        spec: Some(pod),
        status: None,
    }
}

fn container(
    image: &str,
    spec: &PodSpec,
    config: &KubernetesConfig,
    pull: Option<ImagePullPolicy>,
) -> core::Container {
    let mut env: Vec<core::EnvVar> = Vec::with_capacity(spec.env.len() + 3);
    let mut add = |name: &str, value: &str| {
        env.push(core::EnvVar {
            name: name.to_owned(),
            value: Some(value.to_owned()),
            value_from: None,
        });
    };
    for (name, value) in &spec.env {
        // `$(NAME)` is the function's own text here, and no reference.
        add(name, &value.replace("$(", "$$("));
    }
    add(stoic_protocol::env::PORT, &spec.port.to_string());
    add(stoic_protocol::env::HOST, "0.0.0.0");
    if !spec.secrets.is_empty() {
        add(stoic_protocol::env::SECRETS, IN_CONTAINERS);
    }
    let pull = pull.unwrap_or(match spec.pull {
        Pull::Newer => ImagePullPolicy::Always,
        Pull::Missing => ImagePullPolicy::IfNotPresent,
        Pull::Never => ImagePullPolicy::Never,
    });
    let mut mounts = Vec::new();
    let mut mount = |volume: &str, path: &str, read_only: bool| {
        mounts.push(core::VolumeMount {
            name: volume.to_owned(),
            mount_path: path.to_owned(),
            read_only: Some(read_only),
            ..core::VolumeMount::default()
        });
    };
    if spec.read_only_root {
        mount(TMP, "/tmp", false);
    }
    if !spec.secrets.is_empty() {
        mount(SECRETS, IN_CONTAINERS, true);
    }
    // One by one: what the image has beside them stays.
    for (n, file) in spec.files.iter().enumerate() {
        mounts.push(core::VolumeMount {
            name: FILES.to_owned(),
            mount_path: file.path.clone(),
            sub_path: Some(n.to_string()),
            read_only: Some(true),
            ..core::VolumeMount::default()
        });
    }
    core::Container {
        // As kubeless had it: its `logs` asks for the container of this name.
        name: spec.function.clone(),
        image: Some(image.to_owned()),
        image_pull_policy: Some(pull.name().to_owned()),
        args: (!spec.args.is_empty())
            .then(|| spec.args.iter().map(|a| a.replace("$(", "$$(")).collect()),
        env: Some(env),
        ports: Some(vec![core::ContainerPort {
            container_port: i32::from(spec.port),
            ..core::ContainerPort::default()
        }]),
        resources: Some(resources(spec, config)),
        security_context: Some(core::SecurityContext {
            allow_privilege_escalation: Some(false),
            read_only_root_filesystem: Some(spec.read_only_root),
            capabilities: Some(core::Capabilities {
                drop: Some(vec!["ALL".to_owned()]),
                add: None,
            }),
            ..core::SecurityContext::default()
        }),
        // So that the last line of one that failed is in its status.
        termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
        volume_mounts: Some(mounts),
        ..core::Container::default()
    }
}

/// Limits, which are requests as well: a pod has what it was promised, and its runtime is what was measured.
fn resources(spec: &PodSpec, config: &KubernetesConfig) -> core::ResourceRequirements {
    let mut limits = BTreeMap::new();
    if let Some(resources) = &spec.resources {
        if let Some(cpu) = resources.cpu {
            let milli = (cpu * 1000.0).ceil().max(1.0) as u64;
            limits.insert("cpu".to_owned(), Quantity(format!("{milli}m")));
        }
        if let Some(memory) = resources.memory {
            limits.insert("memory".to_owned(), bytes(memory.as_u64()));
        }
    }
    if spec.gpus > 0 {
        let count = Quantity(spec.gpus.to_string());
        limits.insert(config.gpu_resource.clone(), count);
    }
    core::ResourceRequirements {
        requests: Some(limits.clone()),
        limits: Some(limits),
        ..core::ResourceRequirements::default()
    }
}

/// In whole mebibytes where they are, as people read them.
fn bytes(count: u64) -> Quantity {
    match count % (1 << 20) {
        0 => Quantity(format!("{}Mi", count >> 20)),
        _ => Quantity(count.to_string()),
    }
}

fn volumes(name: &str, spec: &PodSpec, config: &KubernetesConfig) -> Vec<core::Volume> {
    let mut volumes = Vec::new();
    if spec.read_only_root {
        volumes.push(core::Volume {
            name: TMP.to_owned(),
            empty_dir: Some(core::EmptyDirVolumeSource {
                medium: Some("Memory".to_owned()),
                size_limit: Some(bytes(config.tmp.as_u64())),
            }),
            ..core::Volume::default()
        });
    }
    // Both are parts of one Secret, which is made for the pod.
    let mut part = |volume: &str, items: Vec<core::KeyToPath>| {
        if items.is_empty() {
            return;
        }
        volumes.push(core::Volume {
            name: volume.to_owned(),
            secret: Some(core::SecretVolumeSource {
                secret_name: Some(name.to_owned()),
                default_mode: Some(0o444),
                items: Some(items),
                ..core::SecretVolumeSource::default()
            }),
            ..core::Volume::default()
        });
    };
    let item = |key: String, path: String| core::KeyToPath {
        key,
        path,
        mode: None,
    };
    let secrets = spec.secrets.iter();
    part(
        SECRETS,
        secrets
            .map(|name| item(name.clone(), name.clone()))
            .collect(),
    );
    let files = 0..spec.files.len();
    part(
        FILES,
        files.map(|n| item(file_key(n), n.to_string())).collect(),
    );
    volumes
}

/// The key of a file in the pod's Secret. No secret of ours is called so: their names begin with no dot.
pub(super) fn file_key(n: usize) -> String {
    format!(".file-{n}")
}

/// The secrets and files of a pod that was made: they go when it goes.
pub(super) fn secret(made: &core::Pod, files: Vec<(String, Vec<u8>)>) -> core::Secret {
    let name = made.metadata.name.clone().unwrap_or_default();
    let owner = OwnerReference {
        api_version: "v1".to_owned(),
        kind: "Pod".to_owned(),
        name: name.clone(),
        uid: made.metadata.uid.clone().unwrap_or_default(),
        ..OwnerReference::default()
    };
    core::Secret {
        metadata: ObjectMeta {
            name: Some(name),
            namespace: made.metadata.namespace.clone(),
            labels: made.metadata.labels.clone(),
            owner_references: Some(vec![owner]),
            ..ObjectMeta::default()
        },
        immutable: Some(true),
        data: Some(
            files
                .into_iter()
                .map(|(name, bytes)| (name, ByteString(bytes)))
                .collect(),
        ),
        ..core::Secret::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::function::{FileSpec, Resources};
    use bytesize::ByteSize;

    fn made(spec: &PodSpec, config: &KubernetesConfig) -> core::Pod {
        let place = Place {
            gateway_id: "g",
            site: "cloud",
            namespace: "n",
            config,
            owner: None,
        };
        pod("stoic-p-1", "r/a:1", spec, place)
    }

    #[test]
    fn a_pod_keeps_to_the_restricted_standard_and_to_its_limits() {
        let spec = PodSpec {
            name: "p".to_owned(),
            port: 9000,
            gpus: 2,
            read_only_root: true,
            secrets: vec!["key".to_owned()],
            files: vec![FileSpec {
                path: "/kubeless/a.py".to_owned(),
                text: Some("code".to_owned()),
                base64: None,
            }],
            env: BTreeMap::from([("A".to_owned(), "$(PORT)".to_owned())]),
            resources: Some(Resources {
                cpu: Some(0.5),
                memory: Some(ByteSize::mib(64)),
                gpu: 2,
            }),
            ..PodSpec::default()
        };
        let made = made(&spec, &KubernetesConfig::default());
        let pod = serde_json::to_value(&made).expect("JSON")["spec"].clone();
        assert_eq!(pod["automountServiceAccountToken"], false);
        assert_eq!(pod["enableServiceLinks"], false);
        assert_eq!(pod["restartPolicy"], "Never");
        assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
        assert_eq!(
            pod["securityContext"]["seccompProfile"]["type"],
            "RuntimeDefault"
        );
        let container = &pod["containers"][0];
        let security = &container["securityContext"];
        assert_eq!(security["allowPrivilegeEscalation"], false);
        assert_eq!(security["readOnlyRootFilesystem"], true);
        assert_eq!(security["capabilities"]["drop"][0], "ALL");
        assert_eq!(security["privileged"], serde_json::Value::Null);
        let limits = &container["resources"]["limits"];
        assert_eq!(limits["cpu"], "500m");
        assert_eq!(limits["memory"], "64Mi");
        assert_eq!(limits["nvidia.com/gpu"], "2");
        assert_eq!(container["resources"]["requests"], *limits);
        assert_eq!(container["imagePullPolicy"], "Always");
        assert_eq!(container["env"][0]["value"], "$$(PORT)");
        assert_eq!(container["volumeMounts"][1]["mountPath"], IN_CONTAINERS);
        assert_eq!(pod["volumes"][1]["secret"]["secretName"], "stoic-p-1");
        let file = &container["volumeMounts"][2];
        assert_eq!(file["mountPath"], "/kubeless/a.py");
        assert_eq!(file["subPath"], "0");
        assert_eq!(file["readOnly"], true);
        let items = |n: usize| pod["volumes"][n]["secret"]["items"].clone();
        assert_eq!(items(1), serde_json::json!([{"key": "key", "path": "key"}]));
        assert_eq!(
            items(2),
            serde_json::json!([{"key": ".file-0", "path": "0"}])
        );
        let secret = secret(&made, vec![("key".to_owned(), b"very secret".to_vec())]);
        assert_eq!(
            secret.metadata.owner_references.expect("owned")[0].kind,
            "Pod"
        );
    }

    #[test]
    fn nothing_is_asked_for_that_a_function_does_not_ask_for() {
        let made = made(&PodSpec::default(), &KubernetesConfig::default());
        let pod = serde_json::to_value(&made).expect("JSON")["spec"].clone();
        assert!(pod["volumes"].as_array().is_none_or(Vec::is_empty));
        let resources = &pod["containers"][0]["resources"]["limits"];
        assert!(resources.as_object().is_none_or(serde_json::Map::is_empty));
    }
}
