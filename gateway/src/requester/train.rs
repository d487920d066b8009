//! What an action that makes a model needs: a version, a place, and the publication to every site
//! (paper, section 4.1: the model is stored in the object stores of both edge and cloud).

use super::batch::BatchJob;
use crate::failure::Failure;
use crate::function::PublishedModel;
use crate::gateway::Gateway;
use crate::history::ModelRecord;
use crate::scheduler::unix_now;
use crate::storage::model_key;
use std::sync::Arc;
use tokio::sync::OwnedMutexGuard;
use tracing::{info, warn};

/// A version that is being made. Versions of one function are made one after the other.
#[derive(Debug)]
pub(super) struct Training {
    model: PublishedModel,
    _turn: OwnedMutexGuard<()>,
}

/// Waits for the function's turn and gives the next version.
pub(super) async fn reserve(gateway: &Arc<Gateway>, job: &BatchJob) -> Result<Training, Failure> {
    let name = job.deployed.function.name();
    let turn = gateway.training_turn(name).lock_owned().await;
    let version = format!("v{}", gateway.history.next_model(name).await?);
    let key = model_key(name, &version, &job.invocation);
    Ok(Training {
        model: PublishedModel { version, key },
        _turn: turn,
    })
}

impl Training {
    pub(super) fn version(&self) -> &str {
        &self.model.version
    }

    pub(super) fn key(&self) -> &str {
        &self.model.key
    }

    /// Copies the model to the other stores, records it, and has every pod load it.
    pub(super) async fn publish(
        self,
        gateway: &Arc<Gateway>,
        job: &BatchJob,
        site: &str,
        made: &str,
    ) -> Result<(), Failure> {
        let made_here = gateway.stores.site(site)?;
        let Some(head) = made_here
            .head(&self.model.key)
            .await?
            .filter(|_| made == self.model.version)
        else {
            // The action made no model after all.
            return Ok(());
        };
        for (other, store) in gateway.stores.all() {
            if other == site {
                continue;
            }
            let copied = made_here.copy_to(&self.model.key, store, None).await;
            match copied {
                Ok(_) => {}
                // Another gateway gets it when a pod there asks for it.
                Err(error) if gateway.is_gateway(other) => {
                    warn!(site = other, "the model is not there yet: {error}");
                }
                Err(error) => return Err(error.into()),
            }
        }
        let function = job.deployed.function.name();
        let record = ModelRecord {
            function: function.to_owned(),
            version: self.model.version.clone(),
            key: self.model.key.clone(),
            bytes: head.bytes,
            created: unix_now(),
            invocation: job.invocation.clone(),
        };
        gateway.history.publish_model(record).await?;
        info!(function, version = %self.model.version, bytes = head.bytes, "model published");
        // The function may have been deployed anew meanwhile: the newest gets the model.
        let current = gateway.functions.get(function);
        let current = current.unwrap_or_else(|| Arc::clone(&job.deployed));
        current.publish(&self.model);
        gateway.bootstrap(&current);
        Ok(())
    }
}
