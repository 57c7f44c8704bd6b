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
#[cfg(feature = "demo")]
pub mod demo;
pub mod settings;
pub mod supervisor;
pub mod zone;
pub mod zones;
pub mod clock;
pub mod random;
pub mod mac;
pub mod plain;

pub mod source;
pub mod sighting;
pub mod fact;
pub mod spool;
pub mod lease;

pub mod pipeline;
pub mod directory;
pub mod policy;
pub mod engine;
pub mod record;
pub mod store;
pub mod retention;

pub mod access;
pub mod api;

pub mod capture_file;
pub mod replay;

pub mod health;
pub mod disk;
pub mod metrics;

pub mod docs;
