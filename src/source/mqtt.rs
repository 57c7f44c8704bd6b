//! Doors: the broker session, with its state, its counters and its watch over the controllers.
//!
//! [`session`] speaks MQTT; only that module refers to the client library.

pub mod counters;
mod pause_budget;
pub mod session;
mod session_file;
pub mod session_state;
mod watch;
pub(crate) mod window;
