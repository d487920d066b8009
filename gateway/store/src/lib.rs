//! Object storage of the gateway: packages, results and models, one bucket per site.
//!
//! There is one code path: the official S3 client ([`Store`]). By default it talks to an S3
//! server in the gateway's own process ([`Embedded`]); with a configured endpoint it talks to any
//! other. Pods hold no credentials: they get presigned URLs.
//!
//! This crate knows objects, keys and bytes. It knows neither functions nor sites nor placement.

mod client;
mod credentials;
mod elsewhere;
mod embedded;
mod error;
mod put;
mod reader;
mod transfer;

pub use bytes::Bytes;
pub use client::{Head, Listed, Object, ObjectBody, Store, StoreOptions};
pub use credentials::Credentials;
pub use elsewhere::{Found, Objects, ObjectsFuture, Pieces};
pub use embedded::{Embedded, EmbeddedOptions};
pub use error::StoreError;
pub use put::Stored;
pub use reader::Reader;
pub use transfer::{Progress, Transferred};
