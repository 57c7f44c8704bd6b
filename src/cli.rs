//! The command line.

mod table;
pub mod user;
pub mod who;
