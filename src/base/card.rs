//! PURE. One card, many spellings: turns a reader's text into forms that can be compared.
//!
//! Nothing is guessed. The `card.steps` of a *source* define how to read its text, and produce one form. A *stored*
//! card does not tell how to read it, so [`spellings_of_card`] returns every reading that its text allows. The two
//! match if the exact texts are equal, or if the source's form is among those of the stored card. A stored text with
//! two readings may thus match the cards of two people: then the directory answers "ambiguous".
//!
//! Forms have prefixes that no card list uses:
//!
//! | form | means |
//! |---|---|
//! | `#85ccc7` | a number, in hexadecimal without leading zeros |
//! | `u:f3c624` | bytes in hexadecimal, each without its leading zero: what old esp-rfid firmware prints |
//! | `BOB-1` | the text in upper case |
//!
//! Never here: who owns a card (`directory`).

use std::{fmt::Write as _, str::FromStr};

use crate::base::sighting::{Credential, CredentialKind};

/// The longest credential text, in characters: twice the 64 hexadecimal digits of a 256-bit token. Longer texts are
/// refused as bad fields.
pub const LONGEST_CREDENTIAL: usize = 128;

/// The longest hexadecimal text compared as a number, in digits. A triple-size UID has 20.
const LONGEST_HEX: usize = 32;

/// One step of `card.steps`, which define how to read a source's text.
///
/// Steps before the first reading step work on the text, later steps on the number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CardStep {
    /// `trim`: removes white space at both ends. This always happens; the step only documents it.
    Trim,
    /// `upper`: turns the text into upper case, to match the upper-case form of [`spellings_of_card`].
    Upper,
    /// `strip:CHARS`: removes these characters everywhere in the text.
    Strip(Vec<char>),
    /// `dec`: reads the text as a decimal number.
    Dec,
    /// `hex`: reads the text as a hexadecimal number. Allows the prefix `0x`, the suffix `h` and the separators `-`,
    /// `:`, `.` and blank.
    Hex,
    /// `dec_bytes`: reads the text as decimal octets, `0-133-204-199`, `[13, 70, 0]`, or a JSON array.
    DecBytes,
    /// `unpadded`: reads hexadecimal octets without leading zeros. The text cannot be decoded, so it is only compared
    /// with a stored card printed in the same way; it is read as `hex` too.
    Unpadded,
    /// `pad_bytes:N`: makes the number N octets wide, for `reverse_bytes`.
    PadBytes(usize),
    /// `reverse_bytes`: reverses the order of the octets.
    ReverseBytes,
    /// `drop_parity:N`: removes the first and the last of N bits, which are parity (`drop_parity` alone: 26).
    DropParity(u32),
    /// `low_bits:N`: keeps only the lowest N bits.
    LowBits(u32),
    /// `w26_fc100000`: turns facility code × 100000 + card number, as UHPPOTE boards print it, into the 24 card bits.
    W26FromFc100000,
    /// `to_w26_fc100000`: turns the 24 card bits into facility code × 100000 + card number.
    W26ToFc100000,
    /// `w26_split`: reads facility code and card number, as in `133,52423` (also with `:` or `-`).
    W26Split,
}

/// The text is not a step.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "\"{0}\" is not a step; the steps are trim, upper, strip:CHARS, dec, hex, dec_bytes, unpadded, pad_bytes:N (1 to 16), \
     reverse_bytes, drop_parity:N (3 to 64), low_bits:N (1 to 64), w26_fc100000, to_w26_fc100000 and w26_split"
)]
pub struct NotAStep(String);

impl FromStr for CardStep {
    type Err = NotAStep;

    fn from_str(text: &str) -> Result<Self, NotAStep> {
        let not_a_step = || NotAStep(text.chars().take(40).collect());
        let (name, argument) = match text.split_once(':') {
            Some((name, argument)) => (name, Some(argument)),
            None => (text, None),
        };
        let number = |from: u32, to: u32| {
            let number = argument.and_then(|text| text.parse().ok()).filter(|n| (from..=to).contains(n));
            number.ok_or_else(not_a_step)
        };
        match (name, argument) {
            ("trim", None) => Ok(Self::Trim),
            ("upper", None) => Ok(Self::Upper),
            ("strip", Some(chars)) if !chars.is_empty() => Ok(Self::Strip(chars.chars().collect())),
            ("dec", None) => Ok(Self::Dec),
            ("hex", None) => Ok(Self::Hex),
            ("dec_bytes", None) => Ok(Self::DecBytes),
            ("unpadded", None) => Ok(Self::Unpadded),
            ("pad_bytes", Some(_)) => Ok(Self::PadBytes(number(1, 16)? as usize)),
            ("reverse_bytes", None) => Ok(Self::ReverseBytes),
            ("drop_parity", None) => Ok(Self::DropParity(26)),
            ("drop_parity", Some(_)) => Ok(Self::DropParity(number(3, 64)?)),
            ("low_bits", Some(_)) => Ok(Self::LowBits(number(1, 64)?)),
            ("w26_fc100000", None) => Ok(Self::W26FromFc100000),
            ("to_w26_fc100000", None) => Ok(Self::W26ToFc100000),
            ("w26_split", None) => Ok(Self::W26Split),
            _ => Err(not_a_step()),
        }
    }
}

/// The number on which the steps work.
#[derive(Clone, Copy)]
struct Bits {
    value: u128,
    /// Its width in octets.
    octets: usize,
}

impl Bits {
    fn of(value: u128) -> Self {
        let used = usize::try_from(u128::BITS - value.leading_zeros()).unwrap_or(128);
        Self { value, octets: used.div_ceil(8).max(1) }
    }

    fn form(self) -> String {
        format!("#{:x}", self.value)
    }
}

/// Builds the credential from a source's text.
///
/// If a step does not fit the text (letters instead of decimal digits), only the exact text can match: no form is
/// better than a wrong one.
pub fn read(kind: CredentialKind, scope: Option<String>, text: &str, steps: &[CardStep]) -> Credential {
    let value = text.trim().to_owned();
    let mut spellings = Vec::new();
    if let Some(forms) = forms_by_steps(&value, steps) {
        for form in forms {
            if form != value && !spellings.contains(&form) {
                spellings.push(form);
            }
        }
    }
    Credential { kind, scope, value, spellings }
}

/// The forms that the steps produce from a text; `None` if a step does not fit it.
fn forms_by_steps(text: &str, steps: &[CardStep]) -> Option<Vec<String>> {
    let mut text = text.to_owned();
    let mut bits: Option<Bits> = None;
    let mut forms = Vec::new();
    for step in steps {
        match step {
            CardStep::Trim => text = String::from(text.trim()),
            CardStep::Upper => text = text.to_uppercase(),
            CardStep::Strip(chars) => text.retain(|c| !chars.contains(&c)),
            CardStep::Dec => bits = Some(Bits::of(decimal(&text)?)),
            CardStep::Hex => bits = Some(hexadecimal(&text)?),
            CardStep::DecBytes => bits = Some(octets(&text)?),
            CardStep::Unpadded => {
                bits = Some(hexadecimal(&text)?);
                forms.push(format!("u:{}", text.to_ascii_lowercase()));
            }
            CardStep::PadBytes(octets) => bits = Some(Bits { octets: *octets, ..number(bits, &text)? }),
            CardStep::ReverseBytes => bits = Some(reversed(number(bits, &text)?)),
            CardStep::DropParity(width) => bits = Some(low_bits(number(bits, &text)?.value >> 1, *width - 2)),
            CardStep::LowBits(width) => bits = Some(low_bits(number(bits, &text)?.value, *width)),
            CardStep::W26FromFc100000 => bits = Some(w26_bits_of_fc100000(number(bits, &text)?.value)?),
            CardStep::W26ToFc100000 => bits = Some(fc100000_of_w26_bits(number(bits, &text)?.value)?),
            CardStep::W26Split => bits = Some(w26_split(&text)?),
        }
    }
    match bits {
        Some(bits) => forms.insert(0, bits.form()),
        None => forms.push(text),
    }
    Some(forms)
}

/// The forms under which a stored card can be found, in addition to its exact text. The directory indexes them.
///
/// They are all plausible readings of the text: hexadecimal (with or without separators, `0x`, `h`), decimal, facility
/// code and card number as printed on EM4100 cards (`133,52423`, or `133:52423` in lists whose separator is a comma),
/// dashed decimal octets, the unpadded form of hexadecimal octets, and the text in upper case. At most six forms,
/// without duplicates.
///
/// Facility code × 100000 + card number is not among the readings, because any eight digits could be read that way. For
/// a card list in this form, the source needs the step `to_w26_fc100000`.
pub fn spellings_of_card(value: &str) -> Vec<String> {
    let text = value.trim();
    if text.is_empty() || text.chars().count() > LONGEST_CREDENTIAL {
        return Vec::new();
    }
    let readings = [hexadecimal(text), decimal(text).map(Bits::of), printed_split(text), dashed_octets(text)];
    let mut forms: Vec<String> = readings.into_iter().flatten().map(Bits::form).collect();
    forms.extend(unpadded(text));
    forms.push(text.to_uppercase());
    let mut seen = Vec::new();
    for form in forms {
        if form != text && !seen.contains(&form) {
            seen.push(form);
        }
    }
    seen
}

/// The input of a numeric step: the number read so far, otherwise the text as a decimal number.
fn number(bits: Option<Bits>, text: &str) -> Option<Bits> {
    bits.or_else(|| decimal(text).map(Bits::of))
}

fn decimal(text: &str) -> Option<u128> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

fn hexadecimal(text: &str) -> Option<Bits> {
    let digits = hex_digits(text)?;
    let value = u128::from_str_radix(&digits, 16).ok()?;
    Some(Bits { value, octets: digits.len().div_ceil(2) })
}

fn hex_digits(text: &str) -> Option<String> {
    let text = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")).unwrap_or(text);
    let text = text.strip_suffix(['h', 'H']).unwrap_or(text);
    let digits: String = text.chars().filter(|c| !matches!(c, '-' | ':' | '.' | ' ')).collect();
    let fits = !digits.is_empty() && digits.len() <= LONGEST_HEX;
    (fits && digits.bytes().all(|byte| byte.is_ascii_hexdigit())).then_some(digits)
}

fn octets(text: &str) -> Option<Bits> {
    let text = text.trim().trim_start_matches('[').trim_end_matches(']');
    let mut bits = Bits { value: 0, octets: 0 };
    for part in text.split(['-', ',', ':']) {
        let octet: u8 = part.trim().parse().ok()?;
        bits = Bits { value: bits.value << 8 | u128::from(octet), octets: bits.octets + 1 };
    }
    (bits.octets <= 16).then_some(bits)
}

/// Dashed decimal octets; `None` if every part has two digits, which is dashed hexadecimal.
fn dashed_octets(text: &str) -> Option<Bits> {
    let dashed = text.contains('-') && text.split('-').any(|part| part.len() != 2);
    dashed.then(|| octets(text)).flatten()
}

/// Facility code and card number with a comma or colon. Two digits after a colon are hexadecimal octets instead.
fn printed_split(text: &str) -> Option<Bits> {
    let printed = text.contains(',') || text.split_once(':').is_some_and(|(_, card)| card.len() > 2);
    printed.then(|| w26_split(text)).flatten()
}

fn w26_split(text: &str) -> Option<Bits> {
    let (facility, card) = text.split_once([',', ':', '-'])?;
    let (facility, card): (u8, u16) = (facility.trim().parse().ok()?, card.trim().parse().ok()?);
    Some(Bits { value: u128::from(facility) << 16 | u128::from(card), octets: 3 })
}

fn w26_bits_of_fc100000(number: u128) -> Option<Bits> {
    let facility = u8::try_from(number / 100_000).ok()?;
    let card = u16::try_from(number % 100_000).ok()?;
    Some(Bits { value: u128::from(facility) << 16 | u128::from(card), octets: 3 })
}

fn fc100000_of_w26_bits(bits: u128) -> Option<Bits> {
    (bits <= 0x00FF_FFFF).then(|| Bits::of((bits >> 16) * 100_000 + (bits & 0xFFFF)))
}

fn low_bits(value: u128, width: u32) -> Bits {
    Bits { value: value & ((1 << width) - 1), octets: (width as usize).div_ceil(8) }
}

fn reversed(bits: Bits) -> Bits {
    let octets = bits.octets.clamp(1, 16);
    let value = bits.value.to_le_bytes().iter().take(octets).fold(0, |value, octet| value << 8 | u128::from(*octet));
    Bits { value, octets }
}

/// Hexadecimal octets printed without leading zeros; `None` if that changes nothing.
fn unpadded(text: &str) -> Option<String> {
    let digits = hex_digits(text)?;
    if digits.len() % 2 != 0 || digits.len() < 4 {
        return None;
    }
    let mut printed = String::from("u:");
    for pair in digits.as_bytes().chunks(2) {
        let octet = pair.iter().fold(0, |value, digit| value << 4 | char::from(*digit).to_digit(16).unwrap_or(0));
        write!(printed, "{octet:x}").expect("writing to a String cannot fail");
    }
    (printed.len() < digits.len() + 2).then_some(printed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn steps(words: &[&str]) -> Vec<CardStep> {
        words.iter().map(|word| word.parse().expect("a step")).collect()
    }

    fn matches(stored: &str, sent: &str, words: &[&str]) -> bool {
        let credential = read(CredentialKind::Card, None, sent, &steps(words));
        let index: Vec<String> = std::iter::once(stored.to_owned()).chain(spellings_of_card(stored)).collect();
        std::iter::once(&credential.value).chain(&credential.spellings).any(|form| index.contains(form))
    }

    /// The spellings of the 24 card bits 85CCC7 and of the UID f30c6204.
    #[test]
    fn every_known_spelling_of_a_card_matches_the_stored_one() {
        let by_source: [(&str, &[&str]); 14] = [
            ("85CCC7", &["hex"]),
            ("85ccc7", &["hex"]),
            ("85CCC7h", &["hex"]),
            ("0085CCC7", &["hex"]),
            ("8768711", &["dec"]),
            ("0008768711", &["dec"]),
            ("133,52423", &["w26_split"]),
            ("13352423", &["w26_fc100000"]),
            ("13094021", &["dec", "reverse_bytes"]),
            ("3352069376", &["dec", "pad_bytes:4", "reverse_bytes"]),
            ("51091854", &["dec", "drop_parity:26"]),
            ("00-85-CC-C7", &["strip:-", "hex"]),
            ("0-133-204-199", &["dec_bytes"]),
            ("[0, 133, 204, 199]", &["dec_bytes"]),
        ];
        for stored in [
            "85CCC7",
            "85ccc7",
            "0085CCC7",
            "8768711",
            "0008768711",
            "133,52423",
            "133:52423",
            "00-85-CC-C7",
            "0-133-204-199",
        ] {
            for (sent, words) in by_source {
                assert!(matches(stored, sent, words), "stored {stored}, sent {sent} with {words:?}");
            }
        }
        for (sent, words) in [("F3-0C-62-04", &["hex"][..]), ("4077675012", &["dec"]), ("f3c624", &["unpadded"])] {
            assert!(matches("f30c6204", sent, words), "{sent}");
        }
        assert!(matches("f30c6204", "73534707", &["dec", "pad_bytes:4", "reverse_bytes"]));
    }

    #[test]
    fn a_list_copied_from_uhppote_boards_matches_bits_when_the_source_says_so() {
        assert!(matches("13352423", "85CCC7", &["hex", "to_w26_fc100000"]));
        assert!(!matches("13352423", "85CCC7", &["hex"]));
    }

    #[test]
    fn without_steps_only_the_exact_text_matches() {
        assert!(matches("85CCC7", "85CCC7", &[]));
        assert!(!matches("85CCC7", "8768711", &[]));
        assert!(!matches("85CCC7", "0085CCC7", &[]));
        assert!(matches("bob-1", "Bob-1", &["upper"]));
    }

    #[test]
    fn a_step_that_does_not_fit_leaves_the_exact_text() {
        for (sent, words) in [
            ("bob", &["dec"][..]),
            ("8165538", &["w26_fc100000"]),
            ("12-345", &["hex", "to_w26_fc100000", "w26_fc100000", "w26_split"]),
        ] {
            let credential = read(CredentialKind::Card, None, sent, &steps(words));
            assert!(credential.spellings.is_empty() || sent == "12-345", "{credential:?} {:?}", credential.spellings);
            assert_eq!(credential.value, sent);
        }
    }

    #[test]
    fn an_unpadded_text_is_never_decoded() {
        assert!(matches("f30c6204", "f3c624", &["unpadded"]));
        assert!(!matches("f30c6204", "f3c624", &["hex"]));
        assert!(matches("f3ec6234", "f3ec6234", &["unpadded"]));
    }

    #[test]
    fn steps_are_checked() {
        for bad in [
            "",
            "decimal",
            "strip",
            "strip:",
            "pad_bytes",
            "pad_bytes:0",
            "pad_bytes:17",
            "low_bits:65",
            "drop_parity:2",
            "dec:1",
        ] {
            assert!(bad.parse::<CardStep>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn reversing_twice_changes_nothing(value: u32) {
            let bits = Bits { value: u128::from(value), octets: 4 };
            prop_assert_eq!(reversed(reversed(bits)).value, bits.value);
        }

        #[test]
        fn facility_form_and_bits_go_both_ways(facility: u8, card: u16) {
            let bits = u128::from(facility) << 16 | u128::from(card);
            let printed = fc100000_of_w26_bits(bits).expect("24 bits").value;
            prop_assert_eq!(w26_bits_of_fc100000(printed).expect("in range").value, bits);
        }

        #[test]
        fn no_text_panics(text in ".{0,200}") {
            prop_assert!(spellings_of_card(&text).len() <= 6);
            for words in [&["hex", "reverse_bytes"][..], &["dec", "low_bits:64"], &["dec_bytes"], &["w26_split", "drop_parity:64"], &["unpadded"]] {
                let _credential = read(CredentialKind::Card, None, &text, &steps(words));
            }
        }
    }
}
