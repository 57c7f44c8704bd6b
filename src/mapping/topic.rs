//! PURE. Topic patterns: MQTT filters with named levels (`site/{door}/scan`).

use std::str::FromStr;

/// The longest topic pattern, in bytes. The protocol's limit is 65,535; no controller needs even this much.
pub const LONGEST_PATTERN: usize = 512;

/// A topic filter that names its levels.
///
/// `+` matches any one level; `{name}` does as well, and names its text; `#` at the end matches the rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicPattern {
    levels: Vec<Level>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Level {
    Exactly(String),
    Any,
    Named(String),
    Rest,
}

/// The text is not a topic pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadTopic {
    /// Empty, or more than [`LONGEST_PATTERN`] bytes.
    #[error("a topic must have 1 to {LONGEST_PATTERN} bytes")]
    Length,
    /// `+`, `#`, `{` or `}` inside a level, or `#` before the end.
    #[error("+, # and {{name}} must be whole levels, and # must be the last")]
    Wildcard,
    /// An empty or unusable name.
    #[error("a name in braces may have only letters, digits, - and _")]
    Name,
    /// `$share/…`.
    #[error(
        "a shared subscription does not keep a door's messages in order; give each gateway its own client id instead"
    )]
    Shared,
}

impl FromStr for TopicPattern {
    type Err = BadTopic;

    fn from_str(text: &str) -> Result<Self, BadTopic> {
        if text.is_empty() || text.len() > LONGEST_PATTERN || text.contains('\0') {
            return Err(BadTopic::Length);
        }
        if text.starts_with("$share/") {
            return Err(BadTopic::Shared);
        }
        let levels = text.split('/').map(level).collect::<Result<Vec<_>, _>>()?;
        match levels.iter().position(|level| *level == Level::Rest) {
            Some(at) if at + 1 != levels.len() => Err(BadTopic::Wildcard),
            Some(_) | None => Ok(Self { levels }),
        }
    }
}

fn level(text: &str) -> Result<Level, BadTopic> {
    match text {
        "+" => return Ok(Level::Any),
        "#" => return Ok(Level::Rest),
        _ => {}
    }
    if let Some(name) = text.strip_prefix('{').and_then(|text| text.strip_suffix('}')) {
        return if is_name(name) { Ok(Level::Named(name.to_owned())) } else { Err(BadTopic::Name) };
    }
    if text.contains(['+', '#', '{', '}']) { Err(BadTopic::Wildcard) } else { Ok(Level::Exactly(text.to_owned())) }
}

/// Whether this can be the name of a level or a field.
pub fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

impl TopicPattern {
    /// The filter to subscribe to, with `+` for each name.
    pub fn filter(&self) -> String {
        let levels = self.levels.iter().map(|level| match level {
            Level::Exactly(text) => text.as_str(),
            Level::Any | Level::Named(_) => "+",
            Level::Rest => "#",
        });
        levels.collect::<Vec<_>>().join("/")
    }

    /// The names of its levels, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.levels.iter().filter_map(|level| match level {
            Level::Named(name) => Some(name.as_str()),
            Level::Exactly(_) | Level::Any | Level::Rest => None,
        })
    }

    /// The named levels of a topic, if this pattern matches it.
    ///
    /// As in the protocol (MQTT 5, 4.7): `#` also matches the level before it, and a wildcard in the first level does
    /// not match topics that begin with `$`.
    pub fn matches<'a>(&'a self, topic: &'a str) -> Option<Vec<(&'a str, &'a str)>> {
        if topic.starts_with('$') && !matches!(self.levels.first(), Some(Level::Exactly(_))) {
            return None;
        }
        let mut named = Vec::new();
        let mut levels = self.levels.iter();
        let mut parts = topic.split('/');
        loop {
            match (levels.next(), parts.next()) {
                (Some(Level::Rest), _) | (None, None) => return Some(named),
                (Some(Level::Exactly(want)), Some(part)) if want == part => {}
                (Some(Level::Any), Some(_)) => {}
                (Some(Level::Named(name)), Some(part)) => named.push((name.as_str(), part)),
                (Some(Level::Exactly(_) | Level::Any | Level::Named(_)) | None, _) => return None,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pattern(text: &str) -> TopicPattern {
        text.parse().expect("a pattern")
    }

    #[test]
    fn patterns_match_topics_as_the_protocol_says() {
        let table = [
            ("a/b", "a/b", true),
            ("a/b", "a/b/c", false),
            ("a/b/c", "a/b", false),
            ("a/+", "a/b", true),
            ("a/+", "a", false),
            ("a/+", "a/", true),
            ("a/#", "a/b/c", true),
            ("a/#", "a", true),
            ("#", "a/b", true),
            ("#", "$SYS/broker", false),
            ("+/broker", "$SYS/broker", false),
            ("$SYS/#", "$SYS/broker", true),
            ("site/{door}/scan", "site/front/scan", true),
            ("site/{door}/scan", "site/front/sync", false),
        ];
        for (text, topic, covered) in table {
            assert_eq!(pattern(text).matches(topic).is_some(), covered, "{text} and {topic}");
        }
    }

    #[test]
    fn named_levels_are_returned_and_subscribed_as_wildcards() {
        let pattern = pattern("site/{door}/+/{what}");
        assert_eq!(pattern.filter(), "site/+/+/+");
        assert_eq!(pattern.matches("site/front/x/scan"), Some(vec![("door", "front"), ("what", "scan")]));
        assert_eq!(pattern.names().collect::<Vec<_>>(), ["door", "what"]);
    }

    #[test]
    fn what_a_broker_would_refuse_is_refused_here() {
        for (text, want) in [
            ("", BadTopic::Length),
            ("a/b+", BadTopic::Wildcard),
            ("a/#/b", BadTopic::Wildcard),
            ("a/{}", BadTopic::Name),
            ("a/{x y}", BadTopic::Name),
            ("a/x{y}", BadTopic::Wildcard),
            ("$share/g/a", BadTopic::Shared),
        ] {
            assert_eq!(text.parse::<TopicPattern>(), Err(want), "{text}");
        }
        assert_eq!("x".repeat(LONGEST_PATTERN + 1).parse::<TopicPattern>(), Err(BadTopic::Length));
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "[a-c/+#{}$]{0,12}", topic in "[a-c/$]{0,12}") {
            if let Ok(pattern) = text.parse::<TopicPattern>() {
                let _covered = pattern.matches(&topic);
            }
        }
    }
}
