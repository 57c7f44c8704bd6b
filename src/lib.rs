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
pub mod daemon;

pub mod settings;
pub mod mapping;
pub mod source;
pub mod spool;

pub mod pipeline;
pub mod directory;
pub mod policy;
pub mod engine;
pub mod store;

pub mod access;
pub mod api;
pub mod metrics;

pub mod base;
pub mod docs;
