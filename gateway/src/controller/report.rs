//! What the controller writes into the cluster: status by server-side apply, finalizers, events.

use super::connect::{code, said};
use super::deployment;
use super::kind::Kind;
use super::status::{Condition, ResourceStatus};
use k8s_openapi::api::core::v1::{ObjectReference, Service};
use k8s_openapi::jiff::Timestamp;
use kube::api::{DynamicObject, Patch, PatchParams};
use kube::runtime::events::{Event, EventType, Recorder, Reporter as EventReporter};
use kube::{Api, Resource};
use serde_json::json;
use tracing::debug;

/// Who writes, as the cluster notes it.
const MANAGER: &str = "stoic";
/// Longest note of an event, in bytes: the API's limit.
const LONGEST_NOTE: usize = 1000;

/// See the module.
pub(super) struct Reporter {
    client: kube::Client,
    namespace: String,
    events: Recorder,
}

/// What was written last.
#[derive(Debug, Default)]
pub(super) struct Written {
    /// None: whatever the object says.
    pub(super) status: Option<ResourceStatus>,
}

/// Now, as the API writes times.
pub(super) fn now() -> String {
    let seconds = Timestamp::now().as_second();
    Timestamp::from_second(seconds).map_or_else(|_| String::new(), |now| now.to_string())
}

impl Reporter {
    pub(super) fn new(client: kube::Client, namespace: &str, identity: &str) -> Self {
        let reporter = EventReporter {
            controller: "stoic.dev/controller".to_owned(),
            instance: Some(identity.to_owned()),
        };
        Self {
            events: Recorder::new(client.clone(), reporter),
            client,
            namespace: namespace.to_owned(),
        }
    }

    fn api(&self, kind: Kind) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), &self.namespace, &kind.resource())
    }

    /// Writes the next status where it differs from the former; whether anything was written.
    ///
    /// # Errors
    /// The API says no, or is away.
    pub(super) async fn write(
        &self,
        kind: Kind,
        object: &DynamicObject,
        former: &ResourceStatus,
        next: &ResourceStatus,
        written: &mut Written,
    ) -> Result<bool, String> {
        let held = self.hold(kind, object).await?;
        if former == next {
            written.status = Some(next.clone());
            return Ok(held);
        }
        let name = object.metadata.name.as_deref().unwrap_or_default();
        let resource = kind.resource();
        let patch = json!({
            "apiVersion": resource.api_version,
            "kind": resource.kind,
            "metadata": {"name": name},
            "status": next,
        });
        let parameters = PatchParams::apply(MANAGER).force();
        let done = self
            .api(kind)
            .patch_status(name, &parameters, &Patch::Apply(&patch))
            .await;
        match done {
            Ok(_) => {}
            // Gone, as the watch will say; or kubeless' own definition, which knows no status: events do.
            Err(error) if code(&error) == Some(404) => {}
            Err(error) => return Err(said(&error)),
        }
        written.status = Some(next.clone());
        self.tell(kind, object, former, next).await;
        Ok(true)
    }

    /// Has the object stay until its pods are gone; whether that was new.
    async fn hold(&self, kind: Kind, object: &DynamicObject) -> Result<bool, String> {
        let Some(finalizer) = kind.finalizer() else {
            return Ok(false);
        };
        let mut all = object.metadata.finalizers.clone().unwrap_or_default();
        if all.iter().any(|one| one == finalizer) {
            return Ok(false);
        }
        all.push(finalizer.to_owned());
        self.finalizers(kind, object, &all).await?;
        Ok(true)
    }

    /// Lets the cluster delete the object.
    ///
    /// # Errors
    /// The API says no, or is away.
    pub(super) async fn release(&self, kind: Kind, object: &DynamicObject) -> Result<(), String> {
        let Some(finalizer) = kind.finalizer() else {
            return Ok(());
        };
        let mut all = object.metadata.finalizers.clone().unwrap_or_default();
        let before = all.len();
        all.retain(|one| one != finalizer);
        match all.len() == before {
            true => Ok(()),
            false => self.finalizers(kind, object, &all).await,
        }
    }

    async fn finalizers(
        &self,
        kind: Kind,
        object: &DynamicObject,
        all: &[String],
    ) -> Result<(), String> {
        let name = object.metadata.name.as_deref().unwrap_or_default();
        // The version that was seen: whoever changed it meanwhile is not undone, and its event comes.
        let patch = json!({"metadata": {
            "resourceVersion": object.metadata.resource_version,
            "finalizers": all,
        }});
        let parameters = PatchParams::default();
        let done = self
            .api(kind)
            .patch(name, &parameters, &Patch::Merge(&patch))
            .await;
        match done {
            Ok(_) => Ok(()),
            Err(error) if matches!(code(&error), Some(404 | 409)) => Ok(()),
            Err(error) => Err(said(&error)),
        }
    }

    /// Has a Service of the object's name lead to the pods of its function, as kubeless had it: for those
    /// who call `http://NAME:PORT` in the cluster, and for `kubeless function call`. It goes with the object.
    ///
    /// # Errors
    /// The API says no, or is away.
    pub(super) async fn serve(
        &self,
        kind: Kind,
        object: &DynamicObject,
        port: u16,
    ) -> Result<(), String> {
        let metadata = &object.metadata;
        let name = metadata.name.as_deref().unwrap_or_default();
        let resource = kind.resource();
        let api: Api<Service> = Api::namespaced(self.client.clone(), &self.namespace);
        let there = api.get_opt(name).await.map_err(|error| said(&error))?;
        let is_its = |service: &Service| {
            let owners = service.metadata.owner_references.iter().flatten();
            owners
                .map(|owner| Some(&owner.uid))
                .any(|uid| uid == metadata.uid.as_ref())
        };
        if there.is_some_and(|service| !is_its(&service)) {
            return Err(format!("the Service `{name}` is somebody else's"));
        }
        let service = json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {
                "name": name,
                "labels": {"created-by": "kubeless", "function": name},
                "ownerReferences": [{
                    "apiVersion": resource.api_version,
                    "kind": resource.kind,
                    "name": name,
                    "uid": metadata.uid,
                }],
            },
            "spec": {
                "selector": {"stoic.dev/function": name},
                "ports": [{
                    "name": "http-function-port",
                    "protocol": "TCP",
                    "port": port,
                    "targetPort": port,
                }],
            },
        });
        let parameters = PatchParams::apply(MANAGER).force();
        let done = api.patch(name, &parameters, &Patch::Apply(&service)).await;
        done.map(|_| ()).map_err(|error| said(&error))
    }

    /// Has the Deployment of a function's name count its pods; whether it does by now.
    ///
    /// # Errors
    /// The API says no, or is away; or the Deployment is somebody else's.
    pub(super) async fn count(&self, of: deployment::Count<'_>) -> Result<bool, String> {
        deployment::count(&self.client, &self.namespace, of).await
    }

    /// Has nobody count the pods of this function any more.
    ///
    /// # Errors
    /// The API says no, or is away.
    pub(super) async fn uncount(&self, name: &str) -> Result<(), String> {
        deployment::remove(&self.client, &self.namespace, name).await
    }

    /// Tells what has changed between two statuses.
    async fn tell(
        &self,
        kind: Kind,
        object: &DynamicObject,
        former: &ResourceStatus,
        next: &ResourceStatus,
    ) {
        let regarding = object.object_ref(&kind.resource());
        if next.version.is_some() && next.version != former.version {
            let note = format!(
                "version {} is in force",
                next.version.as_deref().unwrap_or_default()
            );
            self.event(&regarding, EventType::Normal, "Deployed", note)
                .await;
        }
        let ready = |status: &ResourceStatus| -> Option<Condition> {
            let mut all = status.conditions.iter();
            all.find(|c| c.kind == "Ready").cloned()
        };
        let (before, Some(now)) = (ready(former), ready(next)) else {
            return;
        };
        let same = before
            .is_some_and(|b| (b.status, b.reason) == (now.status.clone(), now.reason.clone()));
        if same || now.status == "Unknown" {
            return;
        }
        // What is on its way is no failure yet.
        let failed = now.status == "False" && next.error.is_some();
        let severity = if failed {
            EventType::Warning
        } else {
            EventType::Normal
        };
        self.event(&regarding, severity, &now.reason, now.message)
            .await;
    }

    async fn event(&self, about: &ObjectReference, type_: EventType, reason: &str, note: String) {
        let mut end = note.len().min(LONGEST_NOTE);
        while !note.is_char_boundary(end) {
            end -= 1;
        }
        let event = Event {
            type_,
            reason: reason.to_owned(),
            note: Some(note[..end].to_owned()),
            action: "Reconcile".to_owned(),
            secondary: None,
        };
        if let Err(error) = self.events.publish(&event, about).await {
            debug!(reason, "an event was not written: {}", said(&error));
        }
    }
}
