//! checkind turns what a coworking site's doors and network already report into check-ins.
//!
//! ```text
//!  broker ─▶ source::mqtt ───┐                          one transaction per batch
//!                            ├─▶ sightings ─▶ pipeline: load ─▶ engine (pure) ─▶ store ─▶ commit ─▶ receipts
//!  mirror ─▶ source::network ┘   (bounded)       ▲
//!                                         directory snapshot
//! ```
//!
//! # The path of a card tap
//!
//! 1. [`source::mqtt::session`] receives the message from the broker and holds the right to acknowledge it.
//! 2. [`mapping`] turns topic and payload into [sightings](base::sighting), by rules that are data.
//! 3. [`spool`] writes the message to this machine's disk first, where the database is shared.
//! 4. [`pipeline`] takes all waiting messages as one batch, makes [facts](base::fact) of them, and loads the state of
//!    their people.
//! 5. [`directory`] says whose credential it is, [`policy`] by which settings of that time the fact is judged.
//! 6. [`engine`] decides: [`engine::fold`] turns facts into check-ins, failed check-ins and charges.
//! 7. [`store`] writes facts, person states and records in one transaction. After the commit the receipts are spent,
//!    and the broker gets its acknowledgement.
//! 8. [`api`] serves the record over HTTP, in the platform's [shape](api::shape), to users with a [role](access::Role)
//!    for it.
//!
//! A frame on the mirror port joins at step 4: [`source::network`] captures it, says what it proves, and merges frames
//! into presences, one device at a time.
//!
//! # Around the path
//!
//! - [`base`]: time, identities, and the types that the parts exchange.
//! - [`settings`]: the configuration, checked and merged.
//! - [`metrics`]: every figure that `/metrics` shows.
//! - [`daemon`]: starts the parts, watches over them, and stops them.
//! - [`cli`]: the commands.
//! - `demo` (a feature): a day at a site, with simulated controllers and devices.
//!
//! # The documentation
//!
//! - [`docs::promises`]: what is promised, and what is not.
//! - [`docs::architecture`]: the invariants behind the promises, with the tests that prove them.
//! - [`docs::importing`]: how people, credentials and passes get in.
//! - [`docs::upgrading`]: how to install a newer version, and how to go back.
//! - [`docs::passes`]: who may come in, by which pass, and what it costs.
//! - [`docs::data`]: what is stored about people, and how it is erased.
//! - [`docs::threats`]: who might attack, and what stops them.
//! - [`docs::reference`]: exit codes, reasons, conditions, roles and metrics.
//! - [`docs::glossary`]: the words.
//! - [`docs::development`]: how to build, test and change checkind.

pub mod base;

pub mod settings;
pub mod source;
pub mod mapping;
pub mod spool;

pub mod pipeline;
pub mod directory;
pub mod policy;
pub mod engine;
pub mod store;

pub mod access;
pub mod api;
pub mod metrics;

pub mod daemon;
pub mod cli;
#[cfg(feature = "demo")]
pub mod demo;

pub mod docs;
