//! Reports what was compressed and the error that it caused.

use crate::{error::Result, out, table::Table};
use lacuna_io::printable;
use serde::{Deserialize, Serialize};

/// One compressed weight.
#[derive(Debug, Serialize, Deserialize)]
pub struct Row {
    pub name: String,
    pub from: String,
    pub to: String,
    pub rows: usize,
    pub cols: usize,
    pub bytes_before: u64,
    pub bytes_after: u64,
    /// Counts everything stored, including indices and scales.
    pub bits_per_weight: f64,
    /// ‖W − W'‖ / ‖W‖
    pub relative_error: f64,
    /// ‖(W − W')x‖ / ‖Wx‖ over the inputs x of the statistics, if there are any.
    pub output_error: Option<f64>,
}

/// What was done, in total or for one part.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Report {
    pub weights: Vec<Row>,
    /// Tensors that were copied.
    pub copied: usize,
    pub bytes_before: u64,
    pub bytes_after: u64,
}

impl Report {
    /// Adds a compressed weight.
    pub fn compressed(&mut self, row: Row) {
        self.bytes_before += row.bytes_before;
        self.bytes_after += row.bytes_after;
        self.weights.push(row);
    }

    /// Adds a copied tensor.
    pub fn copied(&mut self, before: u64, after: u64) {
        self.copied += 1;
        self.bytes_before += before;
        self.bytes_after += after;
    }

    /// Adds the report of another part.
    pub fn append(&mut self, mut part: Self) {
        self.weights.append(&mut part.weights);
        self.copied += part.copied;
        self.bytes_before += part.bytes_before;
        self.bytes_after += part.bytes_after;
    }

    pub fn print(&self, json: bool) -> Result<()> {
        if json {
            out::json(self)
        } else {
            out::write(&self.text())
        }
    }

    fn text(&self) -> String {
        let mut table = Table::new([
            "weight",
            "from",
            "to",
            "rows x cols",
            "bytes before",
            "bytes after",
            "bits/weight",
            "relative error",
            "output error",
        ]);
        for row in &self.weights {
            table.row([
                printable(&row.name),
                row.from.clone(),
                row.to.clone(),
                format!("{} x {}", row.rows, row.cols),
                row.bytes_before.to_string(),
                row.bytes_after.to_string(),
                format!("{:.3}", row.bits_per_weight),
                format!("{:.4}", row.relative_error),
                row.output_error
                    .map_or("n/a".into(), |error| format!("{error:.4}")),
            ]);
        }
        format!(
            "{}\n{} weights compressed, {} tensors copied; {} bytes before, {} after\n",
            table.text(),
            self.weights.len(),
            self.copied,
            self.bytes_before,
            self.bytes_after
        )
    }
}
