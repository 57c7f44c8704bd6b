//! PURE. Templates: text with `{names}`, filled in from a message.

use crate::mapping::{content::RejectReason, view::View};

/// Text with `{names}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Template(Vec<TemplatePart>);

/// A part of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum TemplatePart {
    Text(String),
    Name(String),
}

impl Template {
    /// Parses a template that may use only these names. The error explains what is wrong.
    pub(super) fn parse(written: &str, names: &[String]) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = written;
        while let Some((text, after)) = rest.split_once('{') {
            let (name, after) =
                after.split_once('}').ok_or_else(|| format!("\"{written}\" has a {{ without its }}"))?;
            if !names.iter().any(|known| known == name) {
                let known = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
                return Err(format!("\"{name}\" is neither a field nor a topic level; known: {known}"));
            }
            if !text.is_empty() {
                parts.push(TemplatePart::Text(text.to_owned()));
            }
            parts.push(TemplatePart::Name(name.to_owned()));
            rest = after;
        }
        if !rest.is_empty() {
            parts.push(TemplatePart::Text(rest.to_owned()));
        }
        if parts.is_empty() { Err("a template cannot be empty".to_owned()) } else { Ok(Self(parts)) }
    }

    /// The rendered text; `None` if one of its names is absent from the message or blank.
    pub(super) fn render(&self, view: &View<'_>) -> Result<Option<String>, RejectReason> {
        let mut rendered = String::new();
        for part in &self.0 {
            match part {
                TemplatePart::Text(text) => rendered.push_str(text),
                TemplatePart::Name(name) => match view.named_text(name)?.filter(|text| !text.is_empty()) {
                    Some(text) => rendered.push_str(&text),
                    None => return Ok(None),
                },
            }
        }
        Ok(Some(rendered))
    }
}
