//! The object store as its users meet it: the official client, presigned URLs by raw HTTP, and a
//! server process that is killed in the middle of its work.

mod crash;
mod disk;
mod hostile;
mod operations;
mod serving;
mod store;
