//! PURE. `[[door]]`: what a grant at a door means.

use serde::{Deserialize, Serialize};

/// The key of the door that stands for the kiosks: one that people come in and go out by.
pub const KIOSK_DOOR: &str = "api/kiosk";

/// The same for kiosks that ask for the opposite of what is.
pub const KIOSK_TOGGLE: &str = "api/kiosk/toggle";

/// `[[door]]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Door {
    /// `match`: the source's door key; `*` matches any text.
    pub pattern: String,
    /// `name`, for people.
    pub name: String,
    /// `on_in`.
    pub on_in: DoorAction,
    /// `on_out`.
    pub on_out: DoorAction,
}

impl Door {
    /// The first of these doors that matches `key`.
    pub fn of<'a>(doors: &'a [Self], key: &str) -> Option<&'a Self> {
        doors.iter().find(|door| door.matches(key))
    }

    /// Whether the pattern matches a door key. `*` matches any text, including none; everything else matches itself.
    pub fn matches(&self, key: &str) -> bool {
        let mut parts = self.pattern.split('*');
        let Some(mut rest) = parts.next().and_then(|first| key.strip_prefix(first)) else { return false };
        let mut parts: Vec<&str> = parts.collect();
        let Some(last) = parts.pop() else { return rest.is_empty() };
        for part in parts {
            let Some(at) = rest.find(part) else { return false };
            rest = &rest[at + part.len()..];
        }
        rest.ends_with(last)
    }
}

/// What a grant at a door means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum DoorAction {
    /// Opens or refreshes a check-in.
    CheckIn,
    /// Closes it.
    CheckOut,
    /// Opens it if out, closes it if in.
    Toggle,
    /// Refreshes only.
    Activity,
    /// Only writes the log of facts.
    Record,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_door_pattern_fits_with_any_text_for_its_stars() {
        let door = |pattern: &str| Door {
            pattern: pattern.to_owned(),
            name: String::new(),
            on_in: DoorAction::Record,
            on_out: DoorAction::Record,
        };
        for (pattern, key, fits) in [
            ("405419896:4", "405419896:4", true),
            ("405419896:4", "405419896:40", false),
            ("405419896:*", "405419896:4", true),
            ("405419896:*", "405419896:", true),
            ("*:4", "405419896:4", true),
            ("*:4", "405419896:44:4", true),
            ("*a*b*", "xxaxxbxx", true),
            ("*a*b*", "xxbxxaxx", false),
            ("ab*ba", "aba", false),
            ("*", "", true),
            ("", "a", false),
        ] {
            assert_eq!(door(pattern).matches(key), fits, "{pattern} {key}");
        }
    }
}
