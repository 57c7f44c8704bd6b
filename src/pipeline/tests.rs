//! The whole pipeline on a database, with clocks that the test controls.

mod adopt;
mod against_model;
mod clock_steps;
mod constant_work;
mod coverage;
mod edits;
mod gateway;
mod hub;
mod late;
mod many;
mod model;
mod model_edits;
mod order;
mod passes;
mod played;
mod scenario;
mod set_aside;
mod went_back;
