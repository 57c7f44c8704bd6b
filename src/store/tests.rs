//! The contract: the same suite runs on a SQLite file and on a real PostgreSQL, and executes every statement.

mod access;
mod connections;
mod directory;
mod examples;
mod facts;
mod false_commits;
mod fresh;
mod lists;
mod marks;
mod opening;
mod people;
mod plans;
mod policies;
mod records;
mod retention;
mod schema;
mod visits;
mod writers;
#[path = "../../tests/support/pooler.rs"]
mod pooler;

pub(crate) use fresh::{Fresh, contract};
