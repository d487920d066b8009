//! What lasts: functions, published models and measurements, in SQLite (WAL) on the gateway's disk.
//!
//! One thread owns the connection. Writes that acknowledge something are answered when they are on
//! disk; measurements are gathered and written together, off the request path.

mod catalog;
mod queries;
mod records;
mod rows;
mod schema;
mod tokens;
mod worker;

pub use records::{
    AccountRow, DeploymentRecord, FunctionRecord, LinkProbe, Measurement, ModelRecord, Parts, Race,
    ScaleRecord, TransferRecord,
};
pub use worker::{History, HistoryError};
