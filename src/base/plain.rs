//! PURE. Makes text from outside safe to print: removes characters that move the cursor or change the reading
//! direction.
//!
//! Records keep texts as they arrived; only printed text is cleaned.

/// Whether this character changes how the text around it is shown: control characters, line and paragraph separators,
/// and the bidirectional controls (Unicode Standard Annex 9, section 2), which can make one name look like another.
pub fn is_unruly(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The text without such characters.
pub fn plain(text: &str) -> String {
    text.replace(is_unruly, "")
}

#[cfg(test)]
mod tests {
    use super::plain;

    #[test]
    fn a_printed_name_moves_no_cursor_and_reverses_no_text() {
        for (text, expected) in [
            ("Zoë\u{1b}[2J\u{7}\r\n", "Zoë[2J"),
            ("Ada \u{202e}nimda\u{202c}\u{2066}\u{2069}\u{200f}\u{61c}", "Ada nimda"),
            ("one\u{2028}line\u{2029}", "oneline"),
            ("שרה و سارة 👩\u{200d}💻", "שרה و سارة 👩\u{200d}💻"),
        ] {
            assert_eq!(plain(text), expected);
        }
    }
}
