//! Images: fetched where they are absent or their tag has moved, and what is known of them.

use super::connect::{said, status};
use super::pulled::Pulled;
use super::reference::Reference;
use crate::function::Pull;
use crate::sites::StartError;
use bollard::Docker;
use bollard::auth::DockerCredentials;
use bollard::errors::Error;
use bollard::query_parameters::CreateImageOptionsBuilder;
use futures_util::future::{BoxFuture, FutureExt, Shared};
use futures_util::{StreamExt, TryStreamExt};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tracing::{info, warn};

/// Longest question to a registry about a tag.
const ASK_TIMEOUT: Duration = Duration::from_secs(20);

/// What is known of the newest image of a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Newest {
    /// It has this id at the engine.
    Is(Arc<str>),
    /// What is there has to do: it was not asked for, was built here, or its registry does not answer.
    Whatever,
}

type Asked = Shared<BoxFuture<'static, Newest>>;
type Fetched = Shared<BoxFuture<'static, Result<(), Arc<str>>>>;

/// See the module.
#[derive(Debug, Clone)]
pub(super) struct Images {
    docker: Docker,
    every: Duration,
    pub(super) pulled: Arc<Pulled>,
    asked: Arc<Mutex<HashMap<String, (Instant, Asked)>>>,
    fetched: Arc<Mutex<HashMap<String, Fetched>>>,
    /// Digest by id.
    digests: Arc<Mutex<HashMap<String, Arc<str>>>>,
}

impl Images {
    pub(super) fn new(docker: Docker, every: Duration, pulled: Pulled) -> Self {
        Self {
            docker,
            every,
            pulled: Arc::new(pulled),
            asked: Arc::default(),
            fetched: Arc::default(),
            digests: Arc::default(),
        }
    }

    /// Begins to find out which image is the newest of this name, and fetches it if its tag has moved.
    /// One question serves all who ask within a few seconds.
    pub(super) fn newest(&self, reference: &Reference, pull: Pull) -> Asked {
        if pull != Pull::Newer || reference.pinned {
            return std::future::ready(Newest::Whatever).boxed().shared();
        }
        let mut asked = self.asked.lock();
        if let Some((at, known)) = asked.get(&reference.whole)
            && (at.elapsed() < self.every || known.peek().is_none())
        {
            return known.clone();
        }
        let (images, of) = (self.clone(), reference.clone());
        let ask = async move {
            match images.ask(&of).await {
                Ok(newest) => newest,
                Err(why) => {
                    warn!(image = %of.whole, "cannot tell whether its tag has moved; what is here is used: {why}");
                    Newest::Whatever
                }
            }
        };
        let ask = ask.boxed().shared();
        asked.insert(reference.whole.clone(), (Instant::now(), ask.clone()));
        // Goes on when those who asked have left.
        tokio::spawn(ask.clone());
        ask
    }

    async fn ask(&self, reference: &Reference) -> Result<Newest, String> {
        let Some(local) = self.local(reference).await.map_err(|e| said(&e))? else {
            // Whoever starts a pod of it fetches it.
            return Ok(Newest::Whatever);
        };
        if reference.digests(&local.digests).next().is_none() {
            // Built here, and in no registry: an image of the same name elsewhere is another.
            return Ok(Newest::Whatever);
        }
        let newest = self.in_registry(reference).await?;
        if reference.digests(&local.digests).any(|d| d == newest) {
            return Ok(Newest::Is(local.id.into()));
        }
        info!(image = %reference.whole, digest = %newest, "its tag has moved; fetching it");
        self.fetch(reference).await.map_err(|e| e.to_string())?;
        match self.local(reference).await.map_err(|e| said(&e))? {
            Some(local) => Ok(Newest::Is(local.id.into())),
            None => Ok(Newest::Whatever),
        }
    }

    /// The digest that the registry has for this name.
    async fn in_registry(&self, reference: &Reference) -> Result<String, String> {
        let ask = self
            .docker
            .inspect_registry_image(&reference.whole, credentials(reference));
        let answer = tokio::time::timeout(ASK_TIMEOUT, ask)
            .await
            .map_err(|_| "its registry does not answer".to_owned())?
            .map_err(|e| said(&e))?;
        answer
            .descriptor
            .digest
            .ok_or_else(|| "its registry gave no digest".to_owned())
    }

    /// Refuses an image that is neither here nor to be had; begins to fetch one that is to be had.
    pub(super) async fn check(&self, reference: &Reference, pull: Pull) -> Result<(), StartError> {
        if self.local(reference).await.map_err(engine_error)?.is_some() {
            drop(self.newest(reference, pull));
            return Ok(());
        }
        if pull == Pull::Never {
            return Err(absent_and_unwanted(reference));
        }
        match self.in_registry(reference).await {
            Ok(_) => {
                drop(self.fetching(reference));
                Ok(())
            }
            Err(why) => Err(not_to_be_had(reference, &why)),
        }
    }

    /// Fetches an image that is absent.
    pub(super) async fn fetch_absent(
        &self,
        reference: &Reference,
        pull: Pull,
    ) -> Result<(), StartError> {
        if pull == Pull::Never {
            return Err(absent_and_unwanted(reference));
        }
        let fetched = self.fetch(reference).await;
        fetched.map_err(|why| not_to_be_had(reference, &why))
    }

    async fn fetch(&self, reference: &Reference) -> Result<(), Arc<str>> {
        self.fetching(reference).await
    }

    /// Begins to fetch an image; one fetch at a time serves all who want it.
    fn fetching(&self, reference: &Reference) -> Fetched {
        let mut fetched = self.fetched.lock();
        if let Some(known) = fetched.get(&reference.whole)
            && known.peek().is_none()
        {
            return known.clone();
        }
        let (images, of) = (self.clone(), reference.clone());
        let fetch = async move {
            let begun = Instant::now();
            let options = CreateImageOptionsBuilder::new()
                .from_image(&of.whole)
                .build();
            let mut progress = images
                .docker
                .create_image(Some(options), None, credentials(&of))
                .boxed();
            while progress
                .try_next()
                .await
                .map_err(|e| Arc::from(said(&e)))?
                .is_some()
            {}
            if let Ok(Some(local)) = images.local(&of).await {
                images.pulled.note(&local.id, &of.whole);
                info!(image = %of.whole, digest = %local.digest(&of), seconds = begun.elapsed().as_secs_f64(), "image fetched");
            }
            Ok(())
        };
        let fetch = fetch.boxed().shared();
        fetched.insert(reference.whole.clone(), fetch.clone());
        tokio::spawn(fetch.clone());
        fetch
    }

    async fn local(&self, reference: &Reference) -> Result<Option<Local>, Error> {
        match self.docker.inspect_image(&reference.whole).await {
            Ok(found) => Ok(Some(Local {
                id: found.id.unwrap_or_default(),
                digests: found.repo_digests.unwrap_or_default(),
            })),
            Err(error) if status(&error) == Some(404) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The digest under which the registry of this name has the image of this id; for one that is in
    /// none, the id itself.
    pub(super) async fn digest(&self, reference: &Reference, id: &str) -> String {
        if let Some(known) = self.digests.lock().get(id) {
            return known.to_string();
        }
        let Ok(found) = self.docker.inspect_image(id).await else {
            return id.to_owned();
        };
        let local = Local {
            id: id.to_owned(),
            digests: found.repo_digests.unwrap_or_default(),
        };
        let digest = local.digest(reference);
        self.digests
            .lock()
            .insert(id.to_owned(), digest.as_str().into());
        digest
    }
}

/// An image at the engine.
#[derive(Debug)]
struct Local {
    id: String,
    /// `repository@sha256:...`, one for each registry it is known to be in.
    digests: Vec<String>,
}

impl Local {
    fn digest(&self, reference: &Reference) -> String {
        let first = reference.digests(&self.digests).next();
        first.unwrap_or(&self.id).to_owned()
    }
}

fn absent_and_unwanted(reference: &Reference) -> StartError {
    StartError::Image(format!(
        "the image {} is not at the engine, and spec.pull says `never`",
        reference.whole
    ))
}

fn not_to_be_had(reference: &Reference, why: &str) -> StartError {
    StartError::Image(format!(
        "the image {} is not at the engine and cannot be fetched: {why}",
        reference.whole
    ))
}

/// An error of the engine's that says nothing of the pod.
pub(super) fn engine_error(error: Error) -> StartError {
    StartError::Engine(format!("the Docker engine: {}", said(&error)))
}

/// What `docker login` stored for the image's registry, where it stored it in its file.
fn credentials(reference: &Reference) -> Option<DockerCredentials> {
    let folder = std::env::var_os("DOCKER_CONFIG")
        .map(std::path::PathBuf::from)
        .or_else(|| Some(std::path::PathBuf::from(std::env::var_os("HOME")?).join(".docker")))?;
    let text = std::fs::read_to_string(folder.join("config.json")).ok()?;
    let config: serde_json::Value = serde_json::from_str(&text).ok()?;
    let registry = reference.registry.as_deref();
    let key = registry.unwrap_or("https://index.docker.io/v1/");
    let entry = config.get("auths")?.get(key)?;
    let text = |key: &str| Some(entry.get(key)?.as_str()?.to_owned());
    let decoded = text("auth").and_then(|auth| {
        use base64::Engine;
        let bytes = base64::engine::general_purpose::STANDARD
            .decode(auth)
            .ok()?;
        let (user, password) = String::from_utf8(bytes).ok().and_then(|pair| {
            let (user, password) = pair.split_once(':')?;
            Some((user.to_owned(), password.to_owned()))
        })?;
        Some((user, password))
    });
    let (username, password) = decoded.unzip();
    Some(DockerCredentials {
        username,
        password,
        identitytoken: text("identitytoken"),
        serveraddress: Some(key.to_owned()),
        ..DockerCredentials::default()
    })
}
