//! PURE. Suggests the known word that was probably meant by an unknown one.

/// `did you mean X?`, or all known words if none is similar.
pub(super) fn did_you_mean<'k>(
    written: &str,
    known: impl Iterator<Item = &'k str> + Clone,
    spell: impl Fn(&'k str) -> String,
) -> String {
    match nearest(written, known.clone()) {
        Some(near) => format!("did you mean {}?", spell(near)),
        None => format!("known: {}", known.map(spell).collect::<Vec<_>>().join(", ")),
    }
}

/// The similarity that a known word must exceed, from 0 to 1, to be suggested.
const SIMILAR: f64 = 0.6;

/// The known word that is most similar to the written one, if one is similar enough.
pub(super) fn nearest<'k>(written: &str, known: impl Iterator<Item = &'k str>) -> Option<&'k str> {
    // Limit the length, to bound the work that a hostile key can cause; no known word is longer.
    let written: String = written.chars().take(60).collect::<String>().to_lowercase();
    let characters = CharacterCount::of(&written);
    known
        .filter_map(|known| {
            let lower = known.to_lowercase();
            // `password` for `password_file`: an incomplete name is a likelier mistake than any misspelling.
            let part = if written.len() > 3 && known.starts_with(&written) { 0.9 } else { 0.0 };
            // There are hundreds of time zones, and most have other letters.
            let may_be_similar = characters.most_similar(&CharacterCount::of(&lower)) > SIMILAR;
            let near =
                if may_be_similar { strsim::normalized_damerau_levenshtein(&written, &lower) } else { 0.0 }.max(part);
            (near > SIMILAR).then_some((near, known))
        })
        .max_by(|(left, _), (right, _)| left.total_cmp(right))
        .map(|(_, known)| known)
}

/// How often each character is in a word, in classes of characters.
struct CharacterCount([u8; 64]);

impl CharacterCount {
    fn of(word: &str) -> Self {
        let mut counts = [0u8; 64];
        for character in word.chars() {
            let count = &mut counts[character as usize % 64];
            *count = count.saturating_add(1);
        }
        Self(counts)
    }

    /// No similarity of the two words is larger: each character that they do not share has to be changed.
    fn most_similar(&self, other: &Self) -> f64 {
        let all = |counts: &Self| counts.0.iter().map(|count| u32::from(*count)).sum::<u32>();
        let shared: u32 = self.0.iter().zip(other.0).map(|(one, other)| u32::from(*one.min(&other))).sum();
        f64::from(shared) / f64::from(all(self).max(all(other)).max(1))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn words_are_no_more_similar_than_their_characters(one in "[a-d_é]{0,12}", other in "[a-d_é]{0,12}") {
            let bound = CharacterCount::of(&one).most_similar(&CharacterCount::of(&other));
            prop_assert!(one == other || strsim::normalized_damerau_levenshtein(&one, &other) <= bound + 1e-9);
        }
    }
}
