//! The object store as its users meet it: the official client, presigned URLs by raw HTTP, and a
//! server process that is killed in the middle of its work.

#![allow(
    clippy::unwrap_used,
    reason = "a test's helpers fail by panicking, like the test"
)]

mod crash;
mod disk;
mod hostile;
mod operations;
mod serving;
mod store;
