//! Cooperative mode: one batch is worked from both ends. The edge works from
//! the front, cloud pods from the back, until they meet; it may so end sooner
//! than on any single place, which the paper's MIN-LAT oracle is bound to.
//!
//! | room | what |
//! |---|---|
//! | [`Division`] | who works which items now: chunks, staging, the tail, failures |
//! | [`Course`], [`predict()`], [`finish()`] | how long it will take, and the least it can take |
//! | [`Sharing`] | what it took beyond that, learned |
//!
//! ```
//! use stoic_placement::cooperative::{Division, End, Side};
//!
//! let edge = Side { end: End::Front, seconds_per_item: 1.0, ..Side::default() };
//! let cloud = Side { end: End::Back, seconds_per_item: 0.25, ..Side::default() };
//! let mut division = Division::new(100, vec![edge, cloud]);
//! let first = division.claim(0, 0.0).unwrap();
//! let last = division.claim(1, 0.0).unwrap();
//! assert_eq!((first.start, last.end), (0, 100));
//! assert!(last.len() > first.len());
//! division.done(0, first, 10.0);
//! division.failed(1, last, 12.0);
//! assert!(!division.complete());
//! ```

mod division;
mod fluid;
mod ranges;
mod sharing;

pub use division::{Division, End, Side};
pub use fluid::{Course, finish, predict, worked_by};
pub use sharing::{Sharing, SharingHistory};
