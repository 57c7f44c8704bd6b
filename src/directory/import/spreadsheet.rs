//! PURE. Undoes what spreadsheets do to card numbers if that is certain, and refuses them if it is not.
//!
//! | cell | becomes |
//! |---|---|
//! | `="0012345678"`, `'0012345678` | `0012345678`: these keep a text a text |
//! | `8165538.0`, `1.234567890E+09` | `8165538`, `1234567890`: every digit is there |
//! | `1.23457E+09`, `12345678901234567.0` | a fault: digits are lost |
//! | `8,165,538`, `81,65,538`, `8.165.538`, `8 165 538` | a fault: several cards or one? |

use std::{borrow::Cow, sync::LazyLock};

use regex::Regex;

use crate::base::plain::is_unruly;

/// The most digits of a number that a spreadsheet keeps: it calculates with 64-bit floating point (IEEE 754 binary64).
const DIGITS_KEPT: usize = 15;

/// A number in scientific notation. Without a point after the first digits or a sign after the `E` it is a hexadecimal
/// card: `12E4`.
static SCIENTIFIC: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"^([0-9]{1,3})(?:[.,]([0-9]+)[Ee]\+?|[Ee]\+)([0-9]{1,3})$"));
static WHOLE: LazyLock<Regex> = LazyLock::new(|| pattern(r"^([0-9]+)[.,]0+$"));
static THOUSANDS: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r"^[0-9]{1,3}(?:(?:,[0-9]{3})+|(?:,[0-9]{2})+,[0-9]{3}|(?:\.[0-9]{3})+|(?:['\x{2019}][0-9]{3})+|(?:[ \x{a0}\x{2009}\x{202f}][0-9]{3})+)$",
    )
});

fn pattern(text: &str) -> Regex {
    Regex::new(text).expect("a pattern of ours")
}

/// A cell without the wrapper that keeps a text a text: `="…"`.
pub(super) fn cell(text: &str) -> &str {
    let text = text.trim();
    let inner = text.strip_prefix("=\"").and_then(|inner| inner.strip_suffix('"'));
    inner.filter(|inner| !inner.contains('"')).map_or(text, str::trim)
}

/// The same for a cell that contains no prose. An apostrophe in front is how a spreadsheet marks a text, and invisible
/// marks are copied along with an address from a window.
pub(super) fn code(text: &str) -> Cow<'_, str> {
    let text = cell(text);
    let text = text.strip_prefix('\'').map_or(text, str::trim_start);
    let unseen = |c: char| is_unruly(c) || matches!(c, '\u{200b}'..='\u{200d}' | '\u{2060}' | '\u{feff}');
    if text.contains(unseen) { Cow::Owned(text.replace(unseen, "").trim().to_owned()) } else { Cow::Borrowed(text) }
}

/// The values of a cell with several codes, separated by a comma or any of `separators`.
pub(super) fn codes(text: &str, separators: &[char]) -> Vec<String> {
    let between = |c: char| c == ',' || separators.contains(&c);
    cell(text).split(between).map(code).filter(|value| !value.is_empty()).map(Cow::into_owned).collect()
}

/// The values of a cell with card numbers or PINs, or what is wrong with it.
pub(super) fn numbers(text: &str, separators: &[char]) -> Result<Vec<String>, &'static str> {
    // Nearly every card is like this, and the patterns are slow.
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return Ok(vec![text.to_owned()]);
    }
    let mut values = Vec::new();
    // A comma may be part of a number here, so only split where it cannot be.
    for part in cell(text).split(separators).flat_map(|part| part.split(", ")).map(code) {
        // In JSON a comma separates several values if they have the same length.
        let several = !separators.contains(&';') && part.find(',') == Some(3);
        if THOUSANDS.is_match(&part) && !several {
            return Err(ONE_OR_SEVERAL);
        }
        if SCIENTIFIC.is_match(&part) || WHOLE.is_match(&part) {
            values.push(whole(&part)?.into_owned());
            continue;
        }
        for value in part.split(',').map(code).filter(|value| !value.is_empty()) {
            values.push(whole(&value)?.into_owned());
        }
    }
    Ok(values)
}

/// A number in JSON, as written there.
pub(super) fn number(text: &str) -> Result<String, &'static str> {
    let whole = whole(text)?;
    if whole.bytes().all(|byte| byte.is_ascii_digit()) { Ok(whole.into_owned()) } else { Err(LOST) }
}

const LOST: &str =
    "a number that lost digits in a spreadsheet; format the column as text, enter the number again and export again";
const ONE_OR_SEVERAL: &str = "either one number with thousands separators or several cards; format the column as text and write \", \" between cards";

/// The digits of a number, which must be whole.
fn whole(text: &str) -> Result<Cow<'_, str>, &'static str> {
    let significant = |digits: &str| digits.trim_start_matches('0').len();
    if let Some(found) = WHOLE.captures(text).and_then(|found| found.get(1)) {
        return if significant(found.as_str()) <= DIGITS_KEPT { Ok(Cow::Borrowed(found.as_str())) } else { Err(LOST) };
    }
    let Some(found) = SCIENTIFIC.captures(text) else { return Ok(Cow::Borrowed(text)) };
    let group = |at| found.get(at).map_or("", |group| group.as_str());
    let (first, behind) = (group(1), group(2));
    let exponent: usize = group(3).parse().map_err(|_| LOST)?;
    // If fewer digits are written than the number has before the point, the rest was rounded away.
    let (integer, fraction) = behind.split_at_checked(exponent).ok_or(LOST)?;
    if exponent >= DIGITS_KEPT || exponent == 0 || fraction.bytes().any(|byte| byte != b'0') {
        return Err(LOST);
    }
    Ok(Cow::Owned(format!("{first}{integer}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_of_spreadsheets_become_their_cards_or_faults() {
        for (written, expected) in [
            ("8165538", &["8165538"][..]),
            ("0012345678", &["0012345678"]),
            ("=\"0012345678\"", &["0012345678"]),
            ("=\"1, 2\"", &["1", "2"]),
            ("'0012", &["0012"]),
            ("'0012, '0013;=\"14\"", &["0012", "0013", "14"]),
            ("\u{200e}3C22\u{202c} ", &["3C22"]),
            ("8165538.0", &["8165538"]),
            ("8165538.00;99.0", &["8165538", "99"]),
            ("1.234567890E+09", &["1234567890"]),
            ("1,234567890E+09", &["1234567890"]),
            ("1.50E1", &["15"]),
            // Cards that look a little like numbers.
            ("12E4", &["12E4"]),
            ("1E5", &["1E5"]),
            ("1e234567", &["1e234567"]),
            ("133:52423", &["133:52423"]),
            ("133.52423", &["133.52423"]),
            ("12 34 AB", &["12 34 AB"]),
            ("1,22", &["1", "22"]),
            ("=\"0012\";=\"0013\"", &["0012", "0013"]),
            ("8165538,0", &["8165538"]),
            ("1,0", &["1"]),
            ("101, 102", &["101", "102"]),
            ("101;102", &["101", "102"]),
            ("101\n102", &["101", "102"]),
            ("8165538,101", &["8165538", "101"]),
            ("", &[]),
            (" , ;", &[]),
        ] {
            let read = numbers(written, &[';', '\n']);
            assert_eq!(read.as_deref().expect(written), expected, "{written}");
        }
        // In JSON a comma separates several values.
        assert_eq!(numbers("123,456", &['\n']).as_deref(), Ok(&["123".to_owned(), "456".to_owned()][..]));
        assert_eq!(numbers("8,165,538", &['\n']), Err(ONE_OR_SEVERAL));
        for (written, fault) in [
            ("1.23457E+09", LOST),
            ("1,23457E+09", LOST),
            ("1E+09", LOST),
            ("1.23457e9", LOST),
            ("77;1.23457E+09", LOST),
            ("1.2345678901234567E+16", LOST),
            ("1.5E+00", LOST),
            ("12345678901234567.0", LOST),
            ("12E+3", LOST),
            ("81,65,538", ONE_OR_SEVERAL),
            ("8,165,538", ONE_OR_SEVERAL),
            ("77;8,165,538", ONE_OR_SEVERAL),
            ("8,165,538, 9,165,538", ONE_OR_SEVERAL),
            ("8.165.538", ONE_OR_SEVERAL),
            ("8 165 538", ONE_OR_SEVERAL),
            ("8\u{202f}165\u{a0}538", ONE_OR_SEVERAL),
            ("8'165'538", ONE_OR_SEVERAL),
            ("101,102", ONE_OR_SEVERAL),
        ] {
            assert_eq!(numbers(written, &[';', '\n']), Err(fault), "{written}");
        }
    }

    #[test]
    fn a_number_of_json_is_a_whole_one() {
        for (written, expected) in
            [("77", "77"), ("77.0", "77"), ("1.5e1", "15"), ("12345678901234567890123", "12345678901234567890123")]
        {
            assert_eq!(number(written).as_deref(), Ok(expected), "{written}");
        }
        for written in ["1.23457E+09", "1e3", "77.5", "-1", "1E-2"] {
            assert_eq!(number(written), Err(LOST), "{written}");
        }
    }
}
