//! Tests from outside: real wires, real databases, the binary as a process, and what outsiders read.

mod packaging;
mod tidy;
mod capture;
mod frames;
mod api;
mod settings;
mod mqtt;
mod support;
