//! The broker session.

pub mod credential;
pub mod mapping;
pub mod presets;
pub mod topic;
