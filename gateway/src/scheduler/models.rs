//! The fitted models of one function version, as published to the request path.

use super::RecentAccuracy;
use std::collections::HashMap;
use std::sync::Arc;
use stoic_placement::cooperative::Sharing;
use stoic_placement::{DeploymentModel, ProcessingModel, ResponseCalibrator};

/// Fitted models by runtime index. Immutable; a new fit is a new value.
#[derive(Debug, Clone, Default)]
pub struct FunctionModels {
    /// Processing time by action, then by runtime.
    pub processing: HashMap<String, Vec<ProcessingModel>>,
    /// Deployment time by runtime.
    pub deployment: Vec<DeploymentModel>,
    /// What sharing a batch with a runtime costs, by action, then by runtime.
    pub sharing: HashMap<String, Vec<Sharing>>,
    /// Holds the coverage of the function's response times.
    pub calibrator: ResponseCalibrator,
    /// How well they did lately.
    pub accuracy: Arc<FunctionAccuracy>,
}

/// How well the predictions of one function version did lately, by runtime index.
#[derive(Debug, Clone, Default)]
pub struct FunctionAccuracy {
    /// By action, as the models' keys.
    pub actions: HashMap<String, Vec<ActionAccuracy>>,
    /// Of deployment times.
    pub deployment: Vec<RecentAccuracy>,
}

/// How well the predictions of one action on one runtime did lately.
#[derive(Debug, Clone, Copy, Default)]
pub struct ActionAccuracy {
    /// Of waiting for a busy pod.
    pub queueing: RecentAccuracy,
    /// Of processing times.
    pub processing: RecentAccuracy,
    /// Of whole response times, as they were given out.
    pub response: RecentAccuracy,
}

impl FunctionModels {
    /// Processing time of an action on a runtime, where something is known.
    #[must_use]
    pub fn processing(&self, action: &str, runtime: usize) -> Option<&ProcessingModel> {
        self.processing
            .get(action)?
            .get(runtime)
            .filter(|model| model.points() > 0)
    }

    /// What sharing a batch of an action between the edge and a runtime costs beyond the fluid view.
    #[must_use]
    pub fn sharing(&self, action: &str, runtime: usize) -> Sharing {
        let of = self.sharing.get(action);
        of.and_then(|all| all.get(runtime).copied())
            .unwrap_or_default()
    }
}
