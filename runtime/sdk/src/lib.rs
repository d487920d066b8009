//! The function contract as a library: implement [`Function`], call [`serve`].
//!
//! A pod is one process that serves one function over HTTP. This crate reads the environment, binds,
//! loads the function, answers health, metrics, reports, samples and models, takes requests and
//! batches, fetches the items of a batch ahead of the work, tells the work when its caller has left,
//! and drains on `SIGTERM`. It links no model library and knows none.
//!
//! - [`function`](Function) is what one implements; [`Request`], [`Response`], [`Batch`], [`Merge`]
//!   and [`Call`] are what one meets there.
//! - `server` accepts, routes and drains; `invocation` runs a function and turns what it says into an
//!   answer; `input` and `transfer` move the bytes of batches; `pod_state` counts.
//! - `zygote` loads a function once and forks pods from it; `isolated` forks a child per invocation;
//!   `started` knows what happened before `main`.

mod batch;
mod call;
mod context;
mod exchange;
mod function;
mod input;
mod invocation;
mod isolated;
mod merge;
mod model;
mod pod_state;
mod reply;
mod server;
mod started;
mod transfer;
mod zygote;

pub use batch::{Batch, BatchOutcome, Sample};
pub use call::Call;
pub use context::{Context, Model, Precision};
pub use exchange::{Request, Response};
pub use function::Function;
pub use merge::{Merge, PartResult};
pub use server::serve;

pub use bytes::Bytes;
pub use http;
pub use stoic_package::{Item, ItemError};
pub use stoic_protocol as protocol;
pub use stoic_protocol::{PodReport, Problem};
