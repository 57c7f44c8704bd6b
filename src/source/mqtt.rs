//! Doors: the broker session, and the mapping of what controllers say.
//!
//! [`session`] speaks MQTT and is the only module that names the client library.

pub mod counters;
mod pause_budget;
pub mod session;
mod session_file;
pub mod session_state;
mod watch;
pub(crate) mod window;
