//! The broker session.

pub mod mapping;
