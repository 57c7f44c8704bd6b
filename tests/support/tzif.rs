//! A file of zone data.
//!
//! Used by the unit tests of the settings too, so it needs nothing else of this folder.

/// A file in the format of RFC 9636: no transitions, one local time type, and all rules in the footer, in the form of
/// tzset(3).
pub(crate) fn zone_file(footer: &str) -> Vec<u8> {
    let part = |version: u8| {
        let mut part = b"TZif".to_vec();
        part.push(version);
        part.extend([0; 15]);
        for count in [0u32, 0, 0, 0, 1, 4] {
            part.extend(count.to_be_bytes());
        }
        // One local time type: UTC.
        part.extend([0, 0, 0, 0, 0, 0]);
        part.extend(b"UTC\0");
        part
    };
    [part(b'2'), part(b'2'), format!("\n{footer}\n").into_bytes()].concat()
}
