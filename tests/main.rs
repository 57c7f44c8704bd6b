//! Tests from outside: real wires, real databases, the binary as a process, and what outsiders read.

mod mqtt;
mod support;
