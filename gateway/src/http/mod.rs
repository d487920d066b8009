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
mod gate;
mod invoke;
mod logs;
mod lookout;
mod openapi;
mod openfaas;
mod origin;
mod peer;
mod routes;
mod secrets;
mod server;
mod tokens;
mod views;
mod wire;

pub use body::Body;
pub use openapi::OPENAPI;
pub use secrets::SecretView;
pub use server::{Door, Front};
pub use views::{
    FunctionStatus, FunctionView, GatewayInfo, ModelsView, PredictView, RuntimeFunction,
    RuntimeView,
};
