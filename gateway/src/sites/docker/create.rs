//! What a container of a pod is: its limits and what it may not do.

use super::labels;
use super::reference::Reference;
use crate::config::DockerConfig;
use crate::secrets::IN_CONTAINERS;
use crate::sites::PodSpec;
use bollard::models::{
    ContainerCreateBody, DeviceRequest, HealthConfig, HostConfig, HostConfigLogConfig, Mount,
    MountType,
};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// What is kept of a container's output: two files of this size.
const LOG_SIZE: &str = "8m";

/// Where the container stands.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) gateway_id: &'a str,
    pub(super) site: &'a str,
    pub(super) network: &'a str,
    pub(super) config: &'a DockerConfig,
}

/// What was laid out for a pod on this machine.
#[derive(Debug, Default)]
pub(super) struct LaidOut {
    /// The folder of its secrets, where it has any.
    pub(super) secrets: Option<PathBuf>,
    /// Its files, in their order.
    pub(super) files: Vec<PathBuf>,
}

/// The container of a pod. It gets no socket, no capability and no way to more privileges; nothing is
/// mounted but its secrets and files.
pub(super) fn body(
    spec: &PodSpec,
    image: &Reference,
    laid: &LaidOut,
    place: Place<'_>,
) -> ContainerCreateBody {
    let mut env: Vec<String> = spec.env.iter().map(|(k, v)| format!("{k}={v}")).collect();
    let mut add = |key: &str, value: &str| env.push(format!("{key}={value}"));
    add(stoic_protocol::env::PORT, &spec.port.to_string());
    add(stoic_protocol::env::HOST, "0.0.0.0");
    if laid.secrets.is_some() {
        add(stoic_protocol::env::SECRETS, IN_CONTAINERS);
    }
    let mount = |source: &Path, target: &str| Mount {
        target: Some(target.to_owned()),
        source: Some(source.display().to_string()),
        typ: Some(MountType::BIND),
        read_only: Some(true),
        ..Mount::default()
    };
    let secrets = laid.secrets.iter();
    let mut mounts: Vec<Mount> = secrets.map(|path| mount(path, IN_CONTAINERS)).collect();
    // One by one: what the image has beside them stays.
    let files = laid.files.iter().zip(&spec.files);
    mounts.extend(files.map(|(path, file)| mount(path, &file.path)));
    let resources = spec.resources.as_ref();
    let memory = resources
        .and_then(|r| r.memory)
        .and_then(|memory| i64::try_from(memory.as_u64()).ok());
    let logs = [("max-size", LOG_SIZE), ("max-file", "2")]
        .map(|(key, value)| (key.to_owned(), value.to_owned()));
    let tmp = format!(
        "rw,nosuid,nodev,mode=1777,size={}",
        place.config.tmp.as_u64()
    );
    let host = HostConfig {
        network_mode: Some(place.network.to_owned()),
        memory,
        // No swap beyond it.
        memory_swap: memory,
        nano_cpus: resources.and_then(|r| r.cpu).map(|cpu| (cpu * 1e9) as i64),
        pids_limit: Some(i64::from(place.config.pids)),
        cap_drop: Some(vec!["ALL".to_owned()]),
        security_opt: Some(vec!["no-new-privileges".to_owned()]),
        readonly_rootfs: Some(spec.read_only_root),
        tmpfs: spec
            .read_only_root
            .then(|| HashMap::from([("/tmp".to_owned(), tmp)])),
        mounts: (!mounts.is_empty()).then_some(mounts),
        device_requests: (spec.gpus > 0).then(|| {
            vec![DeviceRequest {
                count: Some(i64::from(spec.gpus)),
                capabilities: Some(vec![vec!["gpu".to_owned()]]),
                ..DeviceRequest::default()
            }]
        }),
        log_config: Some(HostConfigLogConfig {
            typ: Some("json-file".to_owned()),
            config: Some(logs.into()),
        }),
        ..HostConfig::default()
    };
    ContainerCreateBody {
        image: Some(image.whole.clone()),
        cmd: (!spec.args.is_empty()).then(|| spec.args.clone()),
        env: Some(env),
        labels: Some(labels::of(place.gateway_id, place.site, spec)),
        // Health is the gateway's to ask for.
        healthcheck: Some(HealthConfig {
            test: Some(vec!["NONE".to_owned()]),
            ..HealthConfig::default()
        }),
        host_config: Some(host),
        ..ContainerCreateBody::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::function::{FileSpec, Resources};
    use bytesize::ByteSize;

    #[test]
    fn a_container_is_held_to_what_its_function_may() {
        let spec = PodSpec {
            name: "p".to_owned(),
            port: 9000,
            gpus: 2,
            read_only_root: true,
            files: vec![FileSpec {
                path: "/kubeless/a.py".to_owned(),
                text: Some(String::new()),
                base64: None,
            }],
            resources: Some(Resources {
                cpu: Some(0.5),
                memory: Some(ByteSize::mib(64)),
                gpu: 2,
            }),
            ..PodSpec::default()
        };
        let image = Reference::parse("a:1").expect("valid");
        let config = DockerConfig::default();
        let place = Place {
            gateway_id: "g",
            site: "edge",
            network: "n",
            config: &config,
        };
        let laid = LaidOut {
            secrets: Some(PathBuf::from("/data/pods/p/secrets")),
            files: vec![PathBuf::from("/data/pods/p/files/0")],
        };
        let body = body(&spec, &image, &laid, place);
        let host = body.host_config.expect("is there");
        assert_eq!(host.memory, Some(64 << 20));
        assert_eq!(host.memory_swap, Some(64 << 20));
        assert_eq!(host.nano_cpus, Some(500_000_000));
        assert_eq!(host.pids_limit, Some(1024));
        assert_eq!(host.cap_drop, Some(vec!["ALL".to_owned()]));
        assert_eq!(host.readonly_rootfs, Some(true));
        assert_eq!(host.privileged, None);
        assert_eq!(host.binds, None);
        let mounts = host.mounts.expect("secrets and a file");
        assert!(mounts.iter().all(|mount| mount.read_only == Some(true)));
        let targets: Vec<_> = mounts.iter().filter_map(|m| m.target.as_deref()).collect();
        assert_eq!(targets, [IN_CONTAINERS, "/kubeless/a.py"]);
        assert_eq!(host.device_requests.expect("GPUs")[0].count, Some(2));
        let env = body.env.expect("is there");
        assert!(env.contains(&"PORT=9000".to_owned()));
        assert!(!env.iter().any(|pair| pair.starts_with("STOIC_GATEWAY_ID")));
        assert_eq!(body.cmd, None);
    }
}
