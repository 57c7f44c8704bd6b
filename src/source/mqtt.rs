//! Doors: the broker session, and what it remembers, counts and notices about the controllers.
//!
//! [`session`] speaks MQTT; only it and its files name the client library.

pub mod counters;
mod pause_budget;
pub mod session;
mod session_file;
pub mod session_state;
mod watch;
pub(crate) mod window;
