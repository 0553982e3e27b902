//! `cargo xtask tables`: makes the README's tables of measurements from records.
//!
//! A comment says what a table contains; the table stands between it and the end comment:
//!
//! ```text
//! <!-- record benches/record/ADAPTER/DAY.md
//! 4096x4096 1: f32 2:4x8
//! 4096x11008 1 masked: f32 w4g128
//! -->
//! <!-- end -->
//! ```
//!
//! Each line names a product, a batch and formats, of each of which the table has the fastest candidate.
//! After the batch may come the value of `bench --op`; such lines become a table by active shares.

use std::{collections::BTreeMap, fs, path::Path};

use crate::{
    error::{Error, Result},
    table::figure,
    workspace::Workspace,
};

const BEGIN: &str = "<!-- record ";
const END: &str = "<!-- end -->";

pub fn run() -> Result<()> {
    let workspace = Workspace::find()?;
    let path = workspace.root.join("README.md");
    let text = fs::read_to_string(&path).map_err(Error::at(&path))?;
    let new = renewed(&text, &workspace.root)?;
    if new == text {
        println!("{} is as its records are", path.display());
        return Ok(());
    }
    fs::write(&path, new).map_err(Error::at(&path))?;
    println!("written to {}", path.display());
    Ok(())
}

/// `text` with its tables made anew from the records, whose paths are relative to `root`.
fn renewed(text: &str, root: &Path) -> Result<String> {
    let mut new = String::new();
    let mut rest = text;
    while let Some(begin) = rest.find(BEGIN) {
        let malformed = || Error::new(format!("no {END} after {BEGIN}… -->"));
        let head_end = begin + rest[begin..].find("-->\n").ok_or_else(malformed)?;
        let end = head_end + rest[head_end..].find(END).ok_or_else(malformed)?;
        let head = &rest[begin + BEGIN.len()..head_end];
        let (record, lines) = head.split_once('\n').ok_or_else(malformed)?;
        let path = root.join(record.trim());
        let record = fs::read_to_string(&path).map_err(Error::at(&path))?;
        let table = table(&Record::read(&record), lines).map_err(Error::at(&path))?;
        new.push_str(&rest[..head_end]);
        new.push_str("-->\n\n");
        new.push_str(&table);
        new.push('\n');
        rest = &rest[end..];
    }
    Ok(new + rest)
}

/// One line of a table that `lacuna bench` printed.
struct Row<'a> {
    /// The value of `--op`; empty for `linear`.
    op: &'a str,
    shape: &'a str,
    batch: &'a str,
    /// The format, with the active share if there is one.
    format: &'a str,
    micros: f64,
    gb_per_s: &'a str,
    of_copy: &'a str,
    x_dense: &'a str,
}

impl<'a> Row<'a> {
    /// Reads a line of a table, whose columns are found by name, as later records have more of them.
    fn read(op: &'a str, heads: &[&str], cells: &[&'a str]) -> Option<Self> {
        let cell = |head| {
            let at = heads.iter().position(|&h| h == head)?;
            cells.get(at).copied()
        };
        Some(Self {
            op,
            shape: cell("rows x cols")?,
            batch: cell("batch")?,
            format: cell("format")?,
            micros: cell("median µs")?.parse().ok()?,
            gb_per_s: cell("GB/s")?,
            of_copy: cell("% copy")?,
            x_dense: cell("x dense")?,
        })
    }
}

struct Record<'a> {
    rows: Vec<Row<'a>>,
    /// Microseconds of cuBLAS by shape, format and batch, if the record has them.
    cublas: BTreeMap<[&'a str; 3], &'a str>,
}

impl<'a> Record<'a> {
    fn read(text: &'a str) -> Self {
        let mut record = Self {
            rows: vec![],
            cublas: BTreeMap::new(),
        };
        let mut op = "";
        let mut heads: Vec<&str> = vec![];
        for line in text.lines() {
            if let Some(command) = line.strip_prefix("## ") {
                let named = command.split_once("--op ").map(|(_, op)| op);
                op = named.map_or("", |op| op.split([' ', '`', ',']).next().unwrap_or(""));
            }
            let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
            match cells[..] {
                ["rows x cols", ..] => heads.clone_from(&cells),
                [product, micros, _] if product.contains(", batch ") => {
                    let words: Vec<&str> = product.split(", ").collect();
                    if let [shape, format, batch] = words[..] {
                        let batch = batch.trim_start_matches("batch ");
                        record.cublas.insert([shape, format, batch], micros);
                    }
                }
                _ => record.rows.extend(Row::read(op, &heads, &cells)),
            }
        }
        record
    }

    /// The fastest candidate of a product. Records do not always write out the type f32.
    fn fastest(&self, line: &Line, format: &str) -> Result<&Row<'a>> {
        let long = format!("{format}@f32");
        let is = |row: &&Row| {
            (row.op, row.shape, row.batch) == (line.op, &line.shape, line.batch)
                && (row.format == format || row.format == long)
        };
        let rows = self.rows.iter().filter(is);
        rows.min_by(|a, b| a.micros.total_cmp(&b.micros))
            .ok_or_else(|| {
                let Line { shape, batch, .. } = line;
                Error::new(format!("no row for {shape} {batch} {format}"))
            })
    }
}

/// One line of a comment: products of one shape and batch.
struct Line<'a> {
    shape: String,
    batch: &'a str,
    op: &'a str,
    formats: Vec<&'a str>,
}

impl<'a> Line<'a> {
    fn parse(text: &'a str) -> Result<Self> {
        let malformed = || {
            let form = "ROWSxCOLS BATCH [OP]: FORMAT…";
            Error::new(format!("a table takes {form}, not {text:?}"))
        };
        let (product, formats) = text.split_once(':').ok_or_else(malformed)?;
        let words: Vec<&str> = product.split_whitespace().collect();
        let (shape, batch, op) = match words[..] {
            [shape, batch] => (shape, batch, ""),
            [shape, batch, op] => (shape, batch, op),
            _ => return Err(malformed()),
        };
        Ok(Self {
            shape: shape.replace('x', " x "),
            batch,
            op,
            formats: formats.split_whitespace().collect(),
        })
    }

    fn shape(&self) -> String {
        self.shape.replace('x', "×")
    }
}

fn table(record: &Record, lines: &str) -> Result<String> {
    let lines = lines.lines().map(str::trim).filter(|l| !l.is_empty());
    let lines: Vec<Line> = lines.map(Line::parse).collect::<Result<_>>()?;
    let rows = if lines.iter().all(|line| line.op.is_empty()) {
        products(record, &lines)?
    } else {
        shares(record, &lines)?
    };
    let text = |cells: &Vec<String>| format!("| {} |\n", cells.join(" | "));
    let rule = format!("|{}\n", "---|".repeat(rows[0].len()));
    Ok(text(&rows[0]) + &rule + &rows[1..].iter().map(text).collect::<String>())
}

/// The rows of a table of times, rates and ratios.
fn products(record: &Record, lines: &[Line]) -> Result<Vec<Vec<String>>> {
    let mut found = vec![];
    for line in lines {
        for format in &line.formats {
            found.push((line, format, record.fastest(line, format)?));
        }
    }
    let slow = found.iter().any(|(_, _, row)| row.micros >= 1000.0);
    let cublas = !record.cublas.is_empty();
    let (time, rate) = if slow {
        ("ms", "GB/s")
    } else {
        ("µs", "% of copy")
    };
    let mut head = vec![
        "product",
        "batch",
        "format",
        time,
        rate,
        "× our fastest dense",
    ];
    head.extend(cublas.then_some("cuBLAS µs"));
    let mut rows = vec![head.into_iter().map(String::from).collect()];
    for (line, format, row) in found {
        let scale = if slow { 1000.0 } else { 1.0 };
        let rate = if slow { row.gb_per_s } else { row.of_copy };
        // Products of many vectors are bound by arithmetic, so their memory rate says nothing.
        let few = line.batch.parse::<usize>().is_ok_and(|batch| batch < 16);
        let mut cells = vec![
            line.shape(),
            line.batch.into(),
            format!("`{format}`"),
            figure(row.micros / scale),
            if few { rate.into() } else { "–".into() },
            row.x_dense.into(),
        ];
        if cublas {
            let key = [line.shape.as_str(), format, line.batch];
            cells.push(record.cublas.get(&key).copied().unwrap_or_default().into());
        }
        rows.push(cells);
    }
    Ok(rows)
}

/// The rows of a table of products that skip, against the whole product, by active share.
fn shares(record: &Record, lines: &[Line]) -> Result<Vec<Vec<String>>> {
    let (line, format) = match lines {
        [line, ..] if !line.formats.is_empty() => (line, line.formats[0]),
        _ => return Err(Error::new("a table needs formats")),
    };
    let of = |row: &Row| Some(row.format.strip_prefix(format)?.trim().to_owned());
    let shares = record.rows.iter().filter(|row| row.op == line.op);
    let mut shares: Vec<String> = shares.filter_map(of).filter(|s| s.ends_with('%')).collect();
    let number = |share: &String| share.trim_end_matches([' ', '%']).parse::<u32>().ok();
    shares.sort_by_key(number);
    shares.dedup();
    let mut head = vec![
        format!("product, batch {}", line.batch),
        "what is active".into(),
        "format".into(),
    ];
    head.extend(shares.iter().map(|share| format!("{share} active")));
    let mut rows = vec![head];
    for line in lines {
        for format in &line.formats {
            let mut cells = vec![
                line.shape(),
                format!("`--op {}`", line.op),
                format!("`{format}`"),
            ];
            for share in &shares {
                let row = record.fastest(line, &format!("{format} {share}"))?;
                cells.push(row.x_dense.into());
            }
            rows.push(cells);
        }
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::{Record, renewed, table};
    use crate::workspace::Workspace;
    use std::fs;

    const RECORD: &str = "\
## `bench --format f32,2:4`

| rows x cols | batch | format | candidate | median µs | p10 | p90 | GB/s | % copy | GFLOP/s | as dense | x dense | err/bound |
| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |
| 8 x 16 | 1 | f32 | a * | 2500 | 1 | 2 | 20.1 | 50.0 | 1 | 1 | 1.00 | 0 |
| 8 x 16 | 1 | 2:4@f32 | b | 1900 | 1 | 2 | 11.0 | 30.0 | 1 | 1 | 1.31 | 0 |
| 8 x 16 | 1 | 2:4@f32 | c | 1250 | 1 | 2 | 15.0 | 40.0 | 1 | 1 | 2.00 | 0 |
## `bench --op masked --active 10,50`
| 8 x 16 | 1 | f32 50 % | a | 1 | 1 | 2 | 20.1 | 50.0 | 1 | 1 | 1.75 | 0 |
| 8 x 16 | 1 | f32 10 % | a | 1 | 1 | 2 | 20.1 | 50.0 | 1 | 1 | 6.00 | 0 |
";

    #[test]
    fn a_table_has_the_fastest_candidate_of_each_format() {
        let table = |lines| table(&Record::read(RECORD), lines);
        let made = |lines| table(lines).expect("a table");
        assert_eq!(
            made("8x16 1: f32 2:4\n"),
            "\
| product | batch | format | ms | GB/s | × our fastest dense |
|---|---|---|---|---|---|
| 8 × 16 | 1 | `f32` | 2.50 | 20.1 | 1.00 |
| 8 × 16 | 1 | `2:4` | 1.25 | 15.0 | 2.00 |
"
        );
        assert_eq!(
            made("8x16 1 masked: f32"),
            "\
| product, batch 1 | what is active | format | 10 % active | 50 % active |
|---|---|---|---|---|
| 8 × 16 | `--op masked` | `f32` | 6.00 | 1.75 |
"
        );
        assert!(table("8x16 1: f16").is_err());
        assert!(table("8x16: f32").is_err());
    }

    #[test]
    fn the_readme_says_what_the_records_say() {
        let root = Workspace::find().expect("a workspace").root;
        let text = fs::read_to_string(root.join("README.md")).expect("a text");
        let new = renewed(&text, &root).expect("records");
        assert!(new == text, "run `cargo xtask tables`");
    }
}
