//! One gateway as a site of another: what they say to each other, and both ends of it.
//!
//! The gateway that sends work is the *client*; the one whose pods it uses is its *peer*. A pod of the
//! peer's is used under a lease, which is one open answer: when it ends, however it ends, the pod is
//! ended too, so that nothing is left over when the link breaks. Bytes reach the pod through tunnels,
//! so that everything above sees an address like any other. `serving` is the peer's end; `client`,
//! `objects` and `tunnel` are the client's, on which [`crate::sites::GatewaySite`] stands.

mod client;
mod joining;
mod objects;
mod protocol;
mod serving;
mod tunnel;

pub use client::{Peer, PeerError, PeerOptions};
pub use joining::join_peers;
pub use objects::PeerObjects;
pub use protocol::{
    Hello, Line, PROTOCOLS, PodOrder, PresignReply, PresignRequest, RuntimeOffer, TUNNEL, Trouble,
    paths,
};
pub use serving::{LeaseView, Leased, Leases, check, lease, offers};
pub use tunnel::{Entrance, join};
