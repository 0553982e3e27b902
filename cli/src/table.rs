//! Tables for people: columns as wide as their content, numbers aligned to the right.

use std::fmt::Write;

/// A table under construction.
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these column headings.
    pub fn new<'a>(headings: impl IntoIterator<Item = &'a str>) -> Self {
        Self {
            rows: vec![headings.into_iter().map(str::to_owned).collect()],
        }
    }

    /// Appends a row, of a cell for each heading.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// The text, one line per row.
    pub fn text(&self) -> String {
        let columns = self.rows[0].len();
        let width = |c: usize| {
            let cells = self.rows.iter().filter_map(|r| r.get(c));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        // A column counts as numbers if its first row starts with a digit and holds no `:` or `x`.
        let numeric = |c: usize| {
            let first = self.rows.get(1).and_then(|r| r[c].chars().next());
            first.is_some_and(|c| c.is_ascii_digit()) && !self.rows[1][c].contains([':', 'x'])
        };
        let right: Vec<bool> = (0..columns).map(numeric).collect();
        let mut text = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for ((cell, &width), &right) in row.iter().zip(&widths).zip(&right) {
                let _ = if right {
                    write!(line, "{cell:>width$}  ")
                } else {
                    write!(line, "{cell:<width$}  ")
                };
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

/// `share` as a percentage.
pub fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stand_right_and_names_left() {
        let mut table = Table::new(["name", "bytes"]);
        table.row(["a".into(), "5".into()]);
        table.row(["longer".into(), "12345".into()]);
        assert_eq!(
            table.text(),
            "name    bytes\na           5\nlonger  12345\n"
        );
    }
}
