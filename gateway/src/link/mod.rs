//! Links to sites: the emulated one, and the plain HTTP that travels over any of them.
//!
//! May not know functions or predictions. The bandwidth of the moment is estimated in
//! `stoic-placement`, from the transfers that the requester saw.

mod emulated;
mod pipe;
mod probe;
mod store_probe;

pub use emulated::{EmulatedLink, Relay};
pub use pipe::join;
pub use probe::{HEALTH_PATH, OPENFAAS_HEALTH_PATH, exchange, health, healthy};
pub use store_probe::{Measured, PREFIX as PROBES, probe_store};
