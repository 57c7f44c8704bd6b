//! What a reader needs beside the code: the promises, the invariants behind them, what is kept about people, who might
//! attack, the words that leave the program, and how to work on it. Tests hold these pages to the code.

#[doc = include_str!("docs/promises.md")]
pub mod promises {}

#[doc = include_str!("docs/architecture.md")]
pub mod architecture {}

#[doc = include_str!("docs/passes.md")]
pub mod passes {}

#[doc = include_str!("docs/data.md")]
pub mod data {}

#[doc = include_str!("docs/threats.md")]
pub mod threats {}

#[doc = include_str!("docs/reference.md")]
pub mod reference {}

#[doc = include_str!("docs/development.md")]
pub mod development {}
