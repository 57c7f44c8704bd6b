//! The pages beside the code. Tests hold them to it: figures, tables and the names of tests in them are checked.

#[doc = include_str!("docs/promises.md")]
pub mod promises {}

#[doc = include_str!("docs/architecture.md")]
pub mod architecture {}

#[doc = include_str!("docs/importing.md")]
pub mod importing {}

#[doc = include_str!("docs/upgrading.md")]
pub mod upgrading {}

#[doc = include_str!("docs/api.md")]
pub mod api {}

#[doc = include_str!("docs/passes.md")]
pub mod passes {}

#[doc = include_str!("docs/data.md")]
pub mod data {}

#[doc = include_str!("docs/threats.md")]
pub mod threats {}

#[doc = include_str!("docs/reference.md")]
pub mod reference {}

#[doc = include_str!("docs/glossary.md")]
pub mod glossary {}

#[doc = include_str!("docs/development.md")]
pub mod development {}
