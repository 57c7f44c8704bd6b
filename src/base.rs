//! The foundation of every part: time, identities, and the types that the parts exchange.
//!
//! | module | holds |
//! |---|---|
//! | [`clock`] | wall time and boot time, and the only reader of both |
//! | [`zone`] | a time zone: a name with its rules |
//! | [`random`] | the only source of randomness |
//! | [`backoff`] | the pauses between attempts |
//! | [`bounded_table`] | a map with a limit |
//! | [`plain`] | text that is safe to print |
//! | `machine` | which hosts are this machine |
//! | `tls_words` | what an operator has to change when TLS fails |
//! | [`mac`] | MAC addresses |
//! | [`card`] | the spellings of a card number |
//! | [`sighting`] | what a door controller or a capture reports |
//! | [`fact`] | the entries of the log, and their encoding |
//! | [`record`] | check-ins and failed check-ins, and their ids |
//! | [`listing`] | by which fields lists of records are filtered and sorted |
//! | [`permit`] | the right to do what only the holder of the lease may do |
//! | [`minute_count`] | counting within a minute |
//! | [`log_budget`] | at most some lines a minute of each kind in the log |
//! | [`health`] | conditions: what is wrong, since when, what to do |
//! | [`turns`] | whether each part of the daemon still turns |
//! | [`disk`] | free disk space, and replacing a small file |
//!
//! Never here: decisions, and communication with other machines.

pub mod backoff;
pub mod bounded_table;
pub mod card;
pub mod clock;
pub(crate) mod closed_list;
pub mod disk;
pub mod fact;
pub mod health;
pub mod listing;
pub mod log_budget;
pub mod mac;
pub(crate) mod machine;
pub mod minute_count;
pub mod permit;
pub mod plain;
pub mod random;
pub mod record;
pub mod sighting;
pub(crate) mod tls_words;
pub mod turns;
pub mod version;
pub mod zone;
