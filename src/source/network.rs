//! One capture per interface: what the mirror port shows, as coalesced presences.

pub mod filter;
pub mod frame;
