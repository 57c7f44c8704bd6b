//! PURE. Text in columns, for people.

use crate::base::plain::plain;

/// A heading and rows in columns two spaces apart, no space at the end of a line. Cells are [`plain`].
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

#[cfg(test)]
mod tests {
    use super::table;

    #[test]
    fn columns_fit_their_widest_cell_and_carry_no_control_characters() {
        let rows = vec![["Zoë\u{1b}[2J".to_owned(), "in".to_owned()], ["Al".to_owned(), String::new()]];
        assert_eq!(table(["NAME", "STATE"], rows), "NAME    STATE\nZoë[2J  in\nAl\n");
    }
}
