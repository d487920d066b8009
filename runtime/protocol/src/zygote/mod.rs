//! What a process site and a zygote say to each other: a zygote is a process that has loaded a function
//! on one thread, and forks pods from itself when it is told to.
//!
//! Each message is one packet of JSON on a `SOCK_SEQPACKET` socket, which is the zygote's standard input.
//! The zygote speaks first: [`ZygoteReply::Ready`] or [`ZygoteReply::Unable`]; then each order has one
//! reply. When the socket closes, the zygote ends.

pub mod packets;

use crate::ModelRef;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// ELF section of executables that understand [`env::ZYGOTE`](crate::env::ZYGOTE) and
/// [`env::ISOLATION`](crate::env::ISOLATION): how a site knows it of one without running it.
pub const NOTE_SECTION: &str = ".note.stoic";
/// The note's owner, as ELF writes it.
pub const NOTE_OWNER: [u8; 8] = *b"STOIC\0\0\0";
/// The note's type: how its content is to be understood.
pub const NOTE_TYPE: u32 = 1;
/// Largest packet, in bytes.
pub const PACKET_BYTES: usize = 64 * 1024;

/// What a site tells a zygote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ZygoteOrder {
    /// Fork a pod. Two descriptors come with it: the listening socket that the pod serves, and the file
    /// that takes its output.
    Fork {
        /// Variables that the pod has beside, or instead of, the zygote's.
        env: BTreeMap<String, String>,
    },
    /// Fetch this model and load it beside the work; pods forked from then on have it.
    Model(ModelRef),
}

/// What a zygote answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ZygoteReply {
    /// The function is loaded.
    Ready {
        /// Seconds by stage of the zygote's own start.
        start_s: BTreeMap<String, f64>,
    },
    /// This function cannot be forked: its pods have to be started one by one.
    Unable {
        /// Why.
        reason: String,
    },
    /// A pod runs. It is a child of the process that started the zygote, which waits for it.
    Forked {
        /// Its process.
        pid: u32,
        /// Version of the model that it has loaded.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        model: Option<String>,
    },
    /// An order to load a model was understood; or that model is in force already.
    Accepted,
    /// An order could not be carried out; the zygote goes on.
    Failed {
        /// Why.
        reason: String,
    },
}
