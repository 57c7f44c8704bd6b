//! The whole pipeline on a database, with clocks that the test holds.

mod adopt;
mod against_model;
mod clock_steps;
mod constant_work;
mod gateway;
mod hearing;
mod hub;
mod late;
mod many;
mod model;
mod order;
mod passes;
mod played;
mod scenario;
