//! What every part stands on: time, identities, and the words in which the parts talk to each other.
//!
//! Never here: anything that decides, and anything that talks to the outside.

pub mod clock;
pub mod random;
pub mod backoff;
pub mod closed_list;
pub mod plain;
pub mod mac;
pub mod zone;
pub mod record;
pub mod sighting;
pub mod card;
pub mod fact;
pub mod permit;
pub mod health;
pub mod disk;
