//! The fitted models of one function version, as published to the request path.

use std::collections::HashMap;
use stoic_placement::{DeploymentModel, ProcessingModel};

/// Fitted models by runtime index. Immutable; a new fit is a new value.
#[derive(Debug, Clone, Default)]
pub struct FunctionModels {
    /// Processing time by action, then by runtime.
    pub processing: HashMap<String, Vec<ProcessingModel>>,
    /// Deployment time by runtime.
    pub deployment: Vec<DeploymentModel>,
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
}
