//! `checkind explain`: the facts and decisions about a coworker, card or device, in order. Nothing is written.
//!
//! [`load`] reads what the pipeline would read if something had come late. [`explain`] folds it as the pipeline would.
//! `text` and `json` say what came of it. So what is shown is what the engine decides; where the log says
//! otherwise, the line says so.

mod model;
mod narrate;
mod read;
#[cfg(test)]
mod tests;
mod text;
mod timeline;
mod words;

pub use self::{
    model::{ExplainInput, Explained},
    read::{ExplainError, MOST_DAYS, load},
    text::{json, text},
    timeline::explain,
};
