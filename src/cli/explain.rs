//! `checkind explain`: shows the facts and decisions about a coworker, card or device, in order. Writes nothing.
//!
//! [`load`] reads what the pipeline would read for a late fact, [`explain`] folds it as the pipeline would, and
//! [`text`] and [`json`] print the result. So the output shows what the engine decides, and marks each line for which
//! the log has another decision.

mod model;
mod narrate;
mod read;
mod set_aside;
#[cfg(test)]
mod tests;
mod text;
mod timeline;
mod words;

pub use self::{
    model::{ExplainInput, Explained},
    read::{ExplainError, MAX_DAYS, load, load_set_aside},
    set_aside::{set_aside_json, set_aside_text},
    text::{json, text},
    timeline::explain,
};
