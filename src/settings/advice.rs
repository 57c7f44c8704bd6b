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

/// The known word that is most similar to the written one, if one is similar enough.
pub(super) fn nearest<'k>(written: &str, known: impl Iterator<Item = &'k str>) -> Option<&'k str> {
    // Limit the length, to bound the work that a hostile key can cause; no known word is longer.
    let written: String = written.chars().take(60).collect::<String>().to_lowercase();
    known
        .map(|known| {
            let near = strsim::normalized_damerau_levenshtein(&written, &known.to_lowercase());
            // `password` for `password_file`: an incomplete name is a likelier mistake than any misspelling.
            let part = written.len() > 3 && known.starts_with(&written);
            (if part { near.max(0.9) } else { near }, known)
        })
        .filter(|(near, _)| *near > 0.6)
        .max_by(|(left, _), (right, _)| left.total_cmp(right))
        .map(|(_, known)| known)
}
