//! STOIC's gateway: an HTTP front that routes invocations to warm standby pods at the edge or in the
//! cloud, wherever they are predicted to finish first.
//!
//! The way of an invocation: [`http`] admits it, [`scheduler`] estimates and chooses, [`requester`]
//! stages, sends and records, [`pods`] gives it a pod at a [`sites`] site, [`storage`] holds its package
//! and result, [`history`] remembers, [`calls`] keeps what was asked for
//! without waiting, [`inquisitor`] measures in the background what nobody asks for, [`controller`] takes functions from a Kubernetes
//! cluster. [`serve`] starts and stops all of it. Links no libtorch.

pub mod auth;
pub mod calls;
pub mod cli;
pub mod clock;
pub mod config;
pub mod controller;
pub mod failure;
pub mod function;
pub mod gateway;
mod hex;
pub mod history;
pub mod http;
pub mod inquisitor;
pub mod kubeless;
pub mod link;
pub mod metrics;
pub mod mode;
pub mod peer;
pub mod pod_logs;
pub mod pods;
pub mod requester;
pub mod runnable;
pub mod scheduler;
pub mod secrets;
pub mod serve;
pub mod sites;
pub mod storage;
pub mod tls;
