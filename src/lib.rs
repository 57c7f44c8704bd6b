//! checkind turns what a coworking site's doors and network already say into check-ins.
//!
//! A card tap or a frame travels through the modules in the order in which they are declared here:
//!
//! ```text
//!  broker ─▶ source::mqtt ───┐                          one transaction per batch
//!                            ├─▶ sightings ─▶ pipeline: load ─▶ engine (pure) ─▶ store ─▶ commit ─▶ receipts
//!  mirror ─▶ source::network ┘   (bounded)       ▲
//!                                         directory snapshot
//! ```

pub mod cli;
pub mod clock;
pub mod mac;
pub mod random;
pub mod settings;

pub mod sighting;
pub mod source;

pub mod health;
pub mod record;
pub mod store;

pub mod access;
pub mod api;
pub mod metrics;
