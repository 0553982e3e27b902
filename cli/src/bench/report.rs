//! The four ways of printing rows.

use super::{Op, record::Change, row::Row};
use crate::{device::Adapter, error::Result, out};
use serde::Serialize;
use std::{
    fmt::Write as _,
    io::{self, Write as _},
};

/// The value of `-o`.
#[derive(Clone, Copy, PartialEq, clap::ValueEnum)]
pub enum Style {
    /// A table for people
    Md,
    /// Numbers for spreadsheets
    Csv,
    /// One object, printed at the end
    Json,
    /// The header, then one object per line, each as soon as it is known
    Jsonl,
}

/// Version of the JSON; changes when a name or the meaning of a number does.
pub const SCHEMA: u32 = 1;

/// What is printed above the rows.
#[derive(Serialize)]
pub struct Header {
    pub tool: &'static str,
    pub version: &'static str,
    pub schema: u32,
    #[serde(skip)]
    pub op: Op,
    pub adapter: Adapter,
    pub copy_gb_per_s: f64,
    pub copy_method: String,
    pub host_read_gb_per_s: Option<f64>,
    /// Peak rate of multiplications and additions in f32.
    pub peak_gflop_per_s: f64,
    /// Bytes touched between two uses of a cold weight.
    pub cold_bytes: u64,
    pub rounds: usize,
}

#[derive(Serialize)]
struct Whole<'a> {
    #[serde(flatten)]
    header: &'a Header,
    rows: &'a [Row],
}

/// Prints rows as they come.
pub struct Report {
    style: Style,
    header: Header,
    rows: Vec<Row>,
}

/// Headings and widths of the table.
const COLUMNS: [(&str, usize); 16] = [
    ("rows x cols", 13),
    ("batch", 5),
    ("format", 9),
    ("candidate", 38),
    ("median µs", 9),
    ("p10", 9),
    ("p90", 9),
    ("GB/s", 7),
    ("% copy", 6),
    ("% floor", 7),
    ("GFLOP/s", 8),
    ("as dense", 8),
    ("x dense", 7),
    ("err/bound", 9),
    ("cache", 5),
    ("timer", 9),
];

impl Report {
    /// Prints what comes before the rows.
    pub fn begin(style: Style, header: Header) -> Result<Self> {
        match style {
            Style::Json => {}
            Style::Jsonl => out::json_line(&header)?,
            Style::Csv => out::write(&(CSV.join(",") + "\n"))?,
            Style::Md => out::write(&heading(&header))?,
        }
        let rows = vec![];
        Ok(Self {
            style,
            header,
            rows,
        })
    }

    /// Prints or keeps a row.
    pub fn row(&mut self, row: Row) -> Result<()> {
        match self.style {
            Style::Json => {}
            Style::Jsonl => out::json_line(&row)?,
            Style::Csv => out::write(&csv(&row))?,
            Style::Md => out::write(&line(&row))?,
        }
        self.rows.push(row);
        Ok(())
    }

    /// Whether a candidate whose name contains `part` was among the rows.
    pub fn has(&self, part: &str) -> bool {
        let named = |row: &Row| row.candidate.as_ref().is_some_and(|c| c.contains(part));
        self.rows.iter().any(named)
    }

    /// Whether a row has a time.
    pub fn has_times(&self) -> bool {
        self.rows.iter().any(|row| row.median_us.is_some())
    }

    /// The rows so far.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// Prints how products compare with a record: below the table, or to stderr for other styles.
    pub fn changes(&self, changes: &[Change]) -> Result<()> {
        let mut text = String::from("\nAgainst the baseline, by the fastest candidates:\n\n");
        for change in changes {
            let Change {
                product,
                before,
                now,
            } = change;
            let percent = 100.0 * change.slower();
            let _ = writeln!(
                text,
                "- {product}: {now:.1} µs, was {before:.1}: {percent:+.1} %"
            );
        }
        match self.style {
            Style::Md => out::write(&text),
            // stdout stays machine-readable; a closed stderr does not matter.
            Style::Csv | Style::Json | Style::Jsonl => {
                let _ = io::stderr().write_all(text.as_bytes());
                Ok(())
            }
        }
    }

    /// Prints what comes after the rows; returns how many of them were wrong.
    pub fn end(self) -> Result<usize> {
        if self.style == Style::Json {
            out::json(&Whole {
                header: &self.header,
                rows: &self.rows,
            })?;
        }
        if self.style == Style::Md {
            let reason = |row: &Row| {
                let reason = row.reason.as_deref()?;
                let candidate = row.candidate.as_deref().unwrap_or("no candidate");
                let Row {
                    format,
                    rows,
                    cols,
                    batch,
                    ..
                } = row;
                Some(format!(
                    "\nn/a: {format} {rows}x{cols} batch {batch}, {candidate}: {reason}\n"
                ))
            };
            // Rows that differ in their share of active channels alone have the same reason.
            let mut reasons: Vec<String> = self.rows.iter().filter_map(reason).collect();
            reasons.dedup();
            if !reasons.is_empty() {
                out::write(&reasons.concat())?;
            }
        }
        Ok(self.rows.iter().filter(|r| r.wrong).count())
    }
}

fn heading(header: &Header) -> String {
    let Header {
        version,
        adapter,
        copy_gb_per_s,
        copy_method,
        host_read_gb_per_s,
        peak_gflop_per_s,
        op,
        ..
    } = header;
    let mut text = format!(
        "lacuna {version}: {adapter}\n\ncopy {copy_gb_per_s:.2} GB/s read and written ({copy_method})\n"
    );
    if let Some(read) = host_read_gb_per_s {
        let _ = writeln!(text, "\nplain read loop on every core {read:.2} GB/s");
    }
    let _ = writeln!(text, "\nmultiply-adds {peak_gflop_per_s:.0} GFLOP/s in f32");
    text += "\nThe fastest dense candidate is marked *; x dense is against it.\n";
    text += match op {
        Op::Linear => "\n",
        Op::Masked | Op::InputSparse => {
            "Here that is the whole product in the same format. The search for what is active is \
             timed with what skips the rest.\n\n"
        }
    };
    let cells: Vec<String> = COLUMNS
        .iter()
        .map(|(name, w)| format!("{name:<w$}"))
        .collect();
    let rules: Vec<String> = COLUMNS.iter().map(|(_, w)| "-".repeat(*w)).collect();
    text + &format!("| {} |\n| {} |\n", cells.join(" | "), rules.join(" | "))
}

/// `value` with about four digits.
fn number(value: Option<f64>) -> String {
    match value {
        None => "n/a".into(),
        Some(v) if v >= 100.0 => format!("{v:.0}"),
        Some(v) if v >= 10.0 => format!("{v:.1}"),
        Some(v) if v >= 0.01 => format!("{v:.2}"),
        Some(v) => format!("{v:.4}"),
    }
}

fn line(row: &Row) -> String {
    let mark = if row.baseline { " *" } else { "" };
    let cells = [
        match &row.tensor {
            None => format!("{} x {}", row.rows, row.cols),
            Some(name) => format!(
                "{}, {} x {}",
                lacuna_io::printable(name),
                row.rows,
                row.cols
            ),
        },
        row.batch.to_string(),
        match row.active {
            None => row.format.clone(),
            Some(share) => format!("{} {:.0} %", row.format, 100.0 * share),
        },
        row.candidate
            .as_ref()
            .map_or("n/a".into(), |c| format!("{c}{mark}")),
        number(row.median_us),
        number(row.p10_us),
        number(row.p90_us),
        number(row.gb_per_s),
        number(row.percent_of_copy),
        number(row.percent_of_floor),
        number(row.gflop_per_s),
        number(row.gflop_per_s_dense),
        number(row.x_dense),
        number(row.error_over_bound),
        row.cache.into(),
        row.timer.into(),
    ];
    let cells = cells
        .iter()
        .zip(COLUMNS)
        .map(|(cell, (_, w))| format!("{cell:<w$}"));
    format!("| {} |\n", cells.collect::<Vec<_>>().join(" | "))
}

const CSV: [&str; 23] = [
    "op",
    "tensor",
    "format",
    "rows",
    "cols",
    "batch",
    "cache",
    "active",
    "candidate",
    "baseline",
    "median_us",
    "p10_us",
    "p90_us",
    "gb_per_s",
    "copy_gb_per_s",
    "percent_of_copy",
    "percent_of_floor",
    "gflop_per_s",
    "gflop_per_s_dense",
    "x_dense",
    "error_over_bound",
    "timer",
    "reason",
];

fn csv(row: &Row) -> String {
    let value = serde_json::to_value(row).unwrap_or_default();
    let cell = |name: &&str| match &value[*name] {
        // Names and reasons may contain commas and quotes.
        serde_json::Value::String(s) => format!("\"{}\"", s.replace('"', "\"\"")),
        serde_json::Value::Null => String::new(),
        other => other.to_string(),
    };
    CSV.iter().map(cell).collect::<Vec<_>>().join(",") + "\n"
}
