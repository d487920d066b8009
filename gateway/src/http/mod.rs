//! The front: HTTP in, answers out. Admits or refuses, then hands over to the requester.
//!
//! Each front thread has its own event loop, its own accepted connections and its own connections to
//! pods, so that a warm request is served without leaving its thread. Batches, deployments and
//! everything slow run on the gateway's own async runtime.

mod answer;
mod arriving;
mod body;
mod caller;
mod calls;
mod connection;
mod forward;
mod functions;
mod invoke;
mod logs;
mod openapi;
mod openfaas;
mod routes;
mod secrets;
mod server;
mod views;

pub use body::Body;
pub use openapi::OPENAPI;
pub use secrets::SecretView;
pub use server::Front;
pub use views::{
    FunctionStatus, FunctionView, GatewayInfo, ModelsView, PredictView, RuntimeFunction,
    RuntimeView,
};
