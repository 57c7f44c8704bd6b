//! Doors: the broker session, and the mapping of what controllers say.
//!
//! [`session`] speaks MQTT and is the only module that names the client library; [`mapping`] and what it uses is pure.

pub mod counters;
pub mod credential;
mod keepsake;
pub mod mapping;
mod patience;
pub mod presets;
pub mod recollection;
pub mod session;
pub mod topic;
mod watch;
pub(crate) mod window;
