//! The harness of the end-to-end tests: real binaries, started on free ports with folders of their own,
//! ended when a test ends, however it ends.
//!
//! The tests lie beside this crate's `Cargo.toml`, one file per promise. They speak HTTP to a gateway
//! as any client does, and look at `/proc`, the data folder and the database as an operator may; they
//! know no code of the gateway.

#![allow(
    clippy::missing_panics_doc,
    reason = "a harness fails by panicking: that is how a test learns of it"
)]

mod binaries;
pub mod campus;
mod cluster;
mod engine;
mod exchange;
mod functions;
mod gateway;
mod namespace;
mod packages;
mod processes;
mod relay;
mod tls;
mod wait;

pub use binaries::{binary, folders, optional_binary, shared_data};
pub use cluster::{Cluster, Relay};
pub use engine::Engine;
pub use exchange::{Answer, Call, Lines, raw, raw_head};
pub use functions::{any_http, echo, files, finds_its_files};
pub use gateway::{Exit, Gateway, Launch, QUICK};
pub use namespace::{Namespace, deploy};
pub use packages::{damaged, encrypted, tar_of, texts, zip_of};
pub use processes::{alive, marked};
pub use relay::Link;
pub use tls::{Authority, Identity, Secured, over_tls};
pub use wait::{until, until_some};
