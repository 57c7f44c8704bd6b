//! PURE. Formatting shared by the commands: JSON, tables, amounts, durations, passes.

use std::time::Duration;

use serde::Serialize;

use crate::{
    base::{plain::plain, record::CheckinSource},
    directory::catalogue::Currency,
    engine::passes::{PassEnd, PassKind},
};

/// Indented JSON with a line end.
pub(super) fn pretty(value: &impl Serialize) -> String {
    serde_json::to_string_pretty(value).expect("plain data is JSON") + "\n"
}

/// A heading and rows in columns two spaces apart, without trailing spaces. Cells are made [`plain`].
pub(super) fn table<const COLUMNS: usize>(heading: [&str; COLUMNS], rows: Vec<[String; COLUMNS]>) -> String {
    let mut lines = vec![heading.map(str::to_owned)];
    lines.extend(rows.into_iter().map(|row| row.map(|cell| plain(&cell))));
    let widths: [usize; COLUMNS] =
        std::array::from_fn(|column| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0));
    lines.iter().map(|line| padded(line, &widths)).collect()
}

fn padded(line: &[String], widths: &[usize]) -> String {
    let cells: Vec<String> = line.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
    format!("{}\n", cells.join("  ").trim_end())
}

/// A pass with its kind and name.
pub(super) fn pass_name(kind: PassKind, name: &str) -> String {
    let name = plain(name);
    match kind {
        PassKind::Day => format!("the day pass \"{name}\""),
        PassKind::Time => format!("the time pass \"{name}\""),
        PassKind::PayAsYouGo => format!("pay-as-you-go \"{name}\""),
    }
}

/// Why a pass ends, printed after the time.
pub(super) const fn pass_end(why: PassEnd) -> &'static str {
    match why {
        PassEnd::MinutesUsedUp => "when its minutes are used up",
        PassEnd::SlotEnds => "when its hours end",
        PassEnd::Expires => "when it expires",
        PassEnd::LimitReached => "when the hours of the plan are used up",
    }
}

/// Formats an amount in minor units with its currency.
pub(super) fn money(amount: i64, currency: Currency) -> String {
    let (units, parts) = (amount / currency.minor_units(), amount % currency.minor_units());
    let digits = currency.minor_units().ilog10() as usize;
    let parts = if digits > 0 { format!(".{parts:0digits$}") } else { String::new() };
    format!("{units}{parts} {currency}")
}

/// `5 min` or `3 h 05 min`; seconds are truncated.
pub(super) fn span(span: Duration) -> String {
    let minutes = span.as_secs() / 60;
    match minutes {
        0 => "under 1 min".to_owned(),
        1..60 => format!("{minutes} min"),
        _ => format!("{} h {:02} min", minutes / 60, minutes % 60),
    }
}

/// Where a check-in came from.
pub(super) fn by(source: CheckinSource) -> &'static str {
    match source {
        CheckinSource::None => "unknown",
        CheckinSource::Manual => "hand",
        CheckinSource::DoorAccess => "door",
        CheckinSource::NetworkActivity => "network",
        CheckinSource::Tile => "tile",
        CheckinSource::Sensor => "sensor",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_fit_their_widest_cell_and_carry_no_control_characters() {
        let rows = vec![["Zoë\u{1b}[2J".to_owned(), "in".to_owned()], ["Al".to_owned(), String::new()]];
        assert_eq!(table(["NAME", "STATE"], rows), "NAME    STATE\nZoë[2J  in\nAl\n");
    }

    #[test]
    fn spans_are_in_minutes_and_hours() {
        for (seconds, expected) in
            [(0, "under 1 min"), (59, "under 1 min"), (60, "1 min"), (3599, "59 min"), (11_100, "3 h 05 min")]
        {
            assert_eq!(span(Duration::from_secs(seconds)), expected);
        }
    }
}
