//! Integration tests: real wires, real databases, the binary as a process, and the files and pages that others read.

mod packaging;
mod unit;
mod account;
mod upgrade;
mod reading;
mod maintain;
mod tidy;
mod admit;
mod explain;
mod backup;
mod capture;
mod clock;
mod frames;
mod api;
mod settings;
mod mqtt;
mod events;
#[cfg(feature = "demo")]
mod demo;
mod lifecycle;
mod import;
mod faults;
mod spool;
mod connections;
mod session;
mod lease;
mod network;
mod hubs;
mod zones;
mod support;
