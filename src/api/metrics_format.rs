//! PURE. Which format of the metrics a client asks for.

use crate::metrics::TextFormat;

/// The format for these values of `Accept` (RFC 9110 12.5.1): OpenMetrics only for a client that names it and likes it
/// at least as much as plain text. Anything else, also a client that accepts neither, gets the plain text format.
pub(super) fn format<'a>(accept: impl IntoIterator<Item = &'a str>) -> TextFormat {
    let (mut open, mut plain, mut any_text, mut anything) = (None, None, None, None);
    for range in accept.into_iter().flat_map(|value| value.split(',')) {
        let mut parts = range.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default().to_ascii_lowercase();
        let (mut version, mut weight) = (None, 1000);
        for (key, value) in parts.filter_map(|part| part.split_once('=')) {
            match key.trim().to_ascii_lowercase().as_str() {
                "version" => version = Some(value.trim().trim_matches('"')),
                "q" => weight = thousandths(value.trim()),
                _ => {}
            }
        }
        let weight_of = match name.as_str() {
            "application/openmetrics-text" if version.is_none_or(|version| version == "1.0.0") => &mut open,
            "text/plain" if version.is_none_or(|version| version == "0.0.4") => &mut plain,
            "text/*" => &mut any_text,
            "*/*" => &mut anything,
            _ => continue,
        };
        *weight_of = (*weight_of).max(Some(weight));
    }
    let plain = plain.or(any_text).or(anything).unwrap_or(0);
    match open {
        Some(open) if open > 0 && open >= plain => TextFormat::OpenMetrics,
        Some(_) | None => TextFormat::Plain,
    }
}

/// A weight (`1`, `0.5`) in thousandths; one that cannot be read counts as zero.
fn thousandths(text: &str) -> u32 {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = format!("{fraction:0<3}");
    match (whole, digits.len(), digits.parse()) {
        ("1", 3, Ok(0)) => 1000,
        ("0", 3, Ok(thousandths)) => thousandths,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn openmetrics_is_for_those_who_ask_for_it() {
        use TextFormat::{OpenMetrics, Plain};
        for (accept, expected) in [
            (&[][..], Plain),
            (&["*/*"], Plain),
            (&["text/plain"], Plain),
            (&["text/html,application/xhtml+xml,*/*;q=0.8"], Plain),
            (&["application/json"], Plain),
            (&["application/openmetrics-text"], OpenMetrics),
            (&["Application/OpenMetrics-Text; Version=1.0.0; charset=utf-8"], OpenMetrics),
            (&["application/openmetrics-text;version=2.0.0"], Plain),
            (&["application/openmetrics-text;q=0"], Plain),
            (&["application/openmetrics-text;q=0.5,text/plain;q=0.7"], Plain),
            (&["application/openmetrics-text;q=0.5,text/plain;q=0.5"], OpenMetrics),
            (&["application/openmetrics-text;q=0.5", "text/plain"], Plain),
            (&["application/openmetrics-text;q=0.5,*/*;q=0.6"], Plain),
            (&["application/openmetrics-text;q=0.5,*/*;q=0.6,text/plain;q=0.1"], OpenMetrics),
            (&["application/openmetrics-text;q=broken"], Plain),
            // What Prometheus 2.42 and 3.0 send.
            (
                &["application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,\
                   text/plain;version=0.0.4;q=0.5,*/*;q=0.1"],
                OpenMetrics,
            ),
            (
                &["application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
                   application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,\
                   text/plain;version=0.0.4;q=0.3,*/*;q=0.2"],
                OpenMetrics,
            ),
        ] {
            assert_eq!(format(accept.iter().copied()), expected, "{accept:?}");
        }
    }

    #[test]
    fn weights_have_up_to_three_decimals() {
        for (text, expected) in
            [("1", 1000), ("1.000", 1000), ("0", 0), ("0.5", 500), ("0.125", 125), ("1.5", 0), ("-1", 0), ("0.1234", 0)]
        {
            assert_eq!(thousandths(text), expected, "{text}");
        }
    }
}
