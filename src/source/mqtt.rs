//! The broker session.

pub mod credential;
pub mod mapping;
