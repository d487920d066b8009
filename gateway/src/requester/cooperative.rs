//! Mode `cooperative`: one batch, worked from both ends. The edge works from the front at once, while a
//! cloud pod is deployed and the items that it will work travel there; then the cloud works from the
//! back, until the two meet. Who works what is decided by [`stoic_placement::cooperative::Division`];
//! here are the pods, the links and the clock.
//!
//! One lease a side is held for the whole batch. A side whose pod dies gets another once; one that
//! cannot be helped is given up, and the other ends the batch. The results of the parts are put together
//! by the function itself, in a pod.

mod chunk;
mod ending;
mod happenings;
mod merge;
mod parts;
mod progress;
mod sides;
mod transfers;
mod work;

pub(super) use work::run;
