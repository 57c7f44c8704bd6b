//! PURE. People, credentials, teams, plans and passes as one immutable snapshot.
//!
//! Built from entity documents in the API's shape ([`entity::Entity`]). `directory::import` reads them from files and
//! `store` keeps them.

mod builder;
pub mod catalogue;
mod coworker;
pub mod entity;
pub mod history;
pub mod import;
mod lookup;
mod pin;
pub mod scoped;

pub use builder::{Builder, derived_guid};
pub use coworker::Coworker;
pub use lookup::{Directory, Match};

#[cfg(test)]
mod tests;
