//! Timings as tables, worded for newcomers.

use crate::{
    pattern::Pattern,
    speed::{Row, Speed},
    table::{Table, figure_or_none},
};

impl Row {
    /// The format without `@f32`, which is the default.
    pub fn short_format(&self) -> &str {
        self.format.strip_suffix("@f32").unwrap_or(&self.format)
    }

    fn cells(&self) -> Vec<String> {
        let times = self
            .x_dense
            .map_or_else(|| "n/a".into(), |x| format!("{x:.2} x"));
        let percent = self
            .percent_of_copy
            .map_or_else(|| "n/a".into(), |p| format!("{p:.0} %"));
        vec![
            format!("{} ({})", self.short_format(), words(&self.format)),
            figure_or_none(self.median_us.map(|us| us / 1e3)),
            times,
            figure_or_none(self.bytes.map(|bytes| bytes / 1e6)),
            figure_or_none(self.gb_per_s),
            percent,
            figure_or_none(self.gflop_per_s_dense),
            figure_or_none(self.error_over_bound),
        ]
    }
}

impl Speed {
    /// One table per product.
    pub fn tables(&self) -> Vec<Table> {
        let mut tables: Vec<Table> = Vec::new();
        for row in &self.rows {
            let title = row.product();
            if tables.last().is_none_or(|table| table.title != title) {
                tables.push(Table::new(
                    title,
                    &[
                        "format",
                        "time (ms)",
                        "x dense",
                        "read (MB)",
                        "GB/s",
                        "% of copy",
                        "GFLOP/s",
                        "error / allowed",
                    ],
                ));
            }
            let last = tables.len() - 1;
            tables[last].rows.push(row.cells());
        }
        tables
    }

    /// How to read the tables, and the limits of the machine.
    pub fn notes(&self) -> Vec<String> {
        let mut notes: Vec<String> = [
            "x dense: how many times as fast as the same product with no weight left out, by our own \
             best kernel for the same number type in the same run; above 1 is a gain.",
            "Read: the bytes that a product must fetch. One vector at a time, fewer bytes are what \
             makes it faster; many vectors at once, less arithmetic.",
            "% of copy: GB/s against the adapter's own copying. Near 100 % nothing is wasted.",
            "GFLOP/s: billions of multiplications and additions per second, the skipped ones counted \
             as done.",
            "Error / allowed: every product is checked before it is timed; up to 1 is right.",
            "Times are medians of repeated runs, with weights that come from memory, not from a cache.",
        ]
        .map(String::from)
        .into();
        if self.on_processor {
            notes.push(
                "This is a software adapter: the kernels run on the processor, and the figures \
                 say how the formats compare, not how fast a graphics card is."
                    .into(),
            );
        }
        notes
    }

    /// The machine's memory bandwidths in words.
    pub fn bandwidth(&self) -> String {
        let copy = self
            .copy_gb_per_s
            .map(|gb| format!("the adapter copies {gb:.1} GB/s"));
        let host = self
            .host_read_gb_per_s
            .map(|gb| format!("the processor reads {gb:.1} GB/s"));
        let parts: Vec<String> = copy.into_iter().chain(host).collect();
        if parts.is_empty() {
            "not measured".into()
        } else {
            parts.join(", ")
        }
    }
}

/// A format in plain words, without the number type, which its name shows.
fn words(format: &str) -> String {
    match Pattern::parse(format) {
        None => "all weights".into(),
        Some(Pattern {
            kept,
            window,
            rows: 1,
        }) => format!("{kept} of {window} kept"),
        Some(Pattern { kept, window, rows }) => {
            format!("{kept} of {window} kept, {rows} rows alike")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::words;
    use crate::speed::tests::sample;

    #[test]
    fn what_was_not_measured_is_not_zero() {
        let speed = sample();
        assert_eq!(speed.bandwidth(), "the adapter copies 12.0 GB/s");
        let tables = speed.tables();
        assert_eq!(tables.len(), 1);
        assert_eq!(tables[0].rows[1][2..4], ["1.50 x", "n/a"]);
    }

    #[test]
    fn formats_in_words() {
        assert_eq!(words("f16"), "all weights");
        assert_eq!(words("2:4@f16"), "2 of 4 kept");
        assert_eq!(words("1:8x16@f32"), "1 of 8 kept, 16 rows alike");
    }
}
