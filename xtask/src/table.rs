//! A table that is shown on the terminal and in the report.

use std::fmt::Write;

pub struct Table {
    pub title: String,
    pub head: Vec<String>,
    pub rows: Vec<Vec<String>>,
    /// How to read it, a sentence or two for each entry.
    pub notes: Vec<String>,
}

impl Table {
    pub fn new(title: impl Into<String>, head: &[&str]) -> Self {
        let head = head.iter().map(ToString::to_string).collect();
        Self {
            title: title.into(),
            head,
            rows: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// The table as text. The first column holds words, aligned to the left; the others hold figures,
    /// aligned to the right.
    pub fn to_text(&self) -> String {
        let lines = || std::iter::once(&self.head).chain(&self.rows);
        let width = |column: usize| {
            let cells = lines().filter_map(|line| line.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.head.len()).map(width).collect();
        let mut text = format!("\n{}\n\n", self.title);
        for (number, line) in lines().enumerate() {
            let cells = line
                .iter()
                .zip(&widths)
                .enumerate()
                .map(|(column, (cell, &width))| {
                    if column == 0 {
                        format!("{cell:<width$}")
                    } else {
                        format!("{cell:>width$}")
                    }
                });
            let cells: Vec<String> = cells.collect();
            let _ = writeln!(text, "  {}", cells.join("   ").trim_end());
            if number == 0 {
                let rules: Vec<String> = widths.iter().map(|&width| "-".repeat(width)).collect();
                let _ = writeln!(text, "  {}", rules.join("   "));
            }
        }
        for note in &self.notes {
            let _ = write!(text, "\n{}", wrap(note, 88));
        }
        text
    }

    /// The table as in a record, without the title and the notes.
    pub fn to_markdown(&self) -> String {
        let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
        let rule = vec!["---".to_owned(); self.head.len()];
        let rows = self.rows.iter().map(|row| line(row));
        line(&self.head) + &line(&rule) + &rows.collect::<String>()
    }

    pub fn to_html(&self) -> String {
        let mut html = format!(
            "<h3>{}</h3>\n<div class=\"wide\"><table>\n<thead><tr>",
            escape(&self.title)
        );
        for cell in &self.head {
            let _ = write!(html, "<th scope=\"col\">{}</th>", escape(cell));
        }
        html.push_str("</tr></thead>\n<tbody>\n");
        for row in &self.rows {
            html.push_str("<tr>");
            for (column, cell) in row.iter().enumerate() {
                let cell = escape(cell);
                let _ = match column {
                    0 => write!(html, "<th scope=\"row\">{cell}</th>"),
                    _ => write!(html, "<td>{cell}</td>"),
                };
            }
            html.push_str("</tr>\n");
        }
        html.push_str("</tbody>\n</table></div>\n");
        for note in &self.notes {
            let _ = writeln!(html, "<p class=\"note\">{}</p>", escape(note));
        }
        html
    }
}

/// Escapes `text` for HTML.
pub fn escape(text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    text.replace('>', "&gt;").replace('"', "&quot;")
}

/// Breaks a note at spaces into lines of at most `width` characters, all but the first indented.
pub fn wrap(text: &str, width: usize) -> String {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let last = lines.len() - 1;
        if !lines[last].is_empty() && lines[last].chars().count() + 1 + word.chars().count() > width
        {
            lines.push(word.into());
        } else {
            if !lines[last].is_empty() {
                lines[last].push(' ');
            }
            lines[last].push_str(word);
        }
    }
    format!("  {}\n", lines.join("\n    "))
}

/// Three significant digits, without an exponent: 0.0123, 1.23, 12.3, 123, 12345.
pub fn figure(value: f64) -> String {
    let magnitude = if value == 0.0 {
        0.0
    } else {
        value.abs().log10().floor()
    };
    let decimals = (2.0 - magnitude).clamp(0.0, 6.0) as usize;
    format!("{value:.decimals$}")
}

/// `figure`, or "n/a" for a value that could not be measured.
pub fn figure_or_none(value: Option<f64>) -> String {
    value.map_or_else(|| "n/a".into(), figure)
}

pub fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

#[cfg(test)]
mod tests {
    use super::{Table, figure, wrap};

    #[test]
    fn text_is_aligned() {
        let mut table = Table::new("T", &["name", "figure"]);
        table.rows = vec![
            vec!["a".into(), "1".into()],
            vec!["longer".into(), "22".into()],
        ];
        let expected =
            "\nT\n\n  name     figure\n  ------   ------\n  a             1\n  longer       22\n";
        assert_eq!(table.to_text(), expected);
        table.rows[0][0] = "<&>".into();
        assert!(table.to_html().contains("&lt;&amp;&gt;"));
    }

    #[test]
    fn figures_have_three_digits() {
        let shown = [0.0, 0.01234, 1.234, 12.34, 123.4, 12345.0].map(figure);
        assert_eq!(shown, ["0.00", "0.0123", "1.23", "12.3", "123", "12345"]);
    }

    #[test]
    fn wrapping_loses_no_word() {
        assert_eq!(wrap("one two three", 7), "  one two\n    three\n");
        assert_eq!(wrap("incomprehensible", 4), "  incomprehensible\n");
    }
}
