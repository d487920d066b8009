//! The kinds of resources that are functions, and how each is read.

use super::definition::{GROUP, PLURAL, VERSION};
use super::status::Trouble;
use crate::config::{ControllerConfig, nearest};
use crate::function::{API_VERSION, FunctionObject, FunctionSpec, Metadata, RESOURCE};
use crate::kubeless;
use kube::api::{ApiResource, DynamicObject};
use kube::core::GroupVersionKind;
use std::collections::BTreeMap;

/// Annotations that are the business of others.
const NOT_OURS: [&str; 1] = ["kubectl.kubernetes.io/last-applied-configuration"];

/// A kind of resources that are functions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    /// `functions.stoic.dev`.
    Stoic,
    /// `functions.kubeless.io`, in so far as they name an image.
    Kubeless,
}

/// An object as a function of ours.
#[derive(Debug)]
pub(super) struct Read {
    pub(super) object: FunctionObject,
    /// What of it could not be carried over; none for objects of our own.
    pub(super) left: Option<Vec<String>>,
}

/// Every kind.
pub(super) fn all() -> [Kind; 2] {
    [Kind::Stoic, Kind::Kubeless]
}

impl Kind {
    /// Its name: plural and group.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Stoic => "functions.stoic.dev",
            Self::Kubeless => "functions.kubeless.io",
        }
    }

    /// Whether it is watched.
    pub(super) fn watched(self, config: &ControllerConfig) -> bool {
        match self {
            Self::Stoic => config.enabled,
            Self::Kubeless => config.enabled && config.kubeless,
        }
    }

    /// Where it is in the API.
    pub(super) fn resource(self) -> ApiResource {
        match self {
            Self::Stoic => {
                let kind = GroupVersionKind::gvk(GROUP, VERSION, "Function");
                ApiResource::from_gvk_with_plural(&kind, PLURAL)
            }
            Self::Kubeless => kubeless::resource("Function", "functions"),
        }
    }

    /// What keeps an object in the cluster until its pods are gone.
    pub(super) fn finalizer(self) -> Option<&'static str> {
        match self {
            Self::Stoic => Some("stoic.dev/pods"),
            // Its own command would wait for us where we are gone.
            Self::Kubeless => None,
        }
    }

    /// Whether a Service of its name leads to its pods.
    pub(super) fn has_service(self) -> bool {
        match self {
            Self::Stoic => false,
            Self::Kubeless => true,
        }
    }

    /// Whose annotation a function bears that is made of this object.
    pub(super) fn annotation(self, namespace: &str, name: &str) -> String {
        format!("{}/{namespace}/{name}", self.name())
    }

    /// Reads an object.
    pub(super) fn read(self, object: &DynamicObject, namespace: &str) -> Result<Read, Trouble> {
        let mut read = match self {
            Self::Stoic => read_own(object)?,
            Self::Kubeless => read_kubeless(object)?,
        };
        let annotation = self.annotation(namespace, &read.object.metadata.name);
        let annotations = &mut read.object.metadata.annotations;
        annotations.insert(RESOURCE.to_owned(), annotation);
        read.object
            .validate()
            .map_err(|error| Trouble::new("function_invalid", error.to_string()))?;
        Ok(read)
    }
}

fn read_own(object: &DynamicObject) -> Result<Read, Trouble> {
    let invalid = |text: String| Trouble::new("function_invalid", text);
    let spec = object
        .data
        .get("spec")
        .ok_or_else(|| invalid("spec: there is none".to_owned()))?;
    let spec: FunctionSpec = serde_json::from_value(spec.clone())
        .map_err(|error| invalid(format!("spec: {}", nearest::explain(&error.to_string()))))?;
    Ok(Read {
        object: FunctionObject {
            api_version: API_VERSION.to_owned(),
            kind: "Function".to_owned(),
            metadata: metadata(object),
            spec,
        },
        left: None,
    })
}

fn read_kubeless(object: &DynamicObject) -> Result<Read, Trouble> {
    let invalid = |text: String| Trouble::new("not_carried_over", text);
    let whole = serde_json::to_value(object).map_err(|error| invalid(error.to_string()))?;
    let carried = kubeless::function(&whole).map_err(|error| invalid(error.to_string()))?;
    let mut taken = carried.object;
    taken.metadata = metadata(object);
    Ok(Read {
        object: taken,
        left: Some(carried.left),
    })
}

/// Name, labels and annotations, without those that are of the cluster's tools.
pub(super) fn metadata(object: &DynamicObject) -> Metadata {
    let given = &object.metadata;
    let mut annotations: BTreeMap<String, String> = given.annotations.clone().unwrap_or_default();
    annotations.retain(|key, _| !NOT_OURS.contains(&key.as_str()) && key != RESOURCE);
    Metadata {
        name: given.name.clone().unwrap_or_default(),
        labels: given.labels.clone().unwrap_or_default(),
        annotations,
    }
}
