//! A record of another run, to compare with: what `-o json` or `-o jsonl` printed then.
//!
//! Times are compared product by product, the fastest candidate then with the fastest one now,
//! and only where adapter, driver, cache and timer are the same.

use super::{report, row::Row};
use crate::{
    device::Adapter,
    error::{Error, Result},
};
use serde::Deserialize;
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// Median times in µs of the products of a run.
pub struct Record {
    file: PathBuf,
    fastest: BTreeMap<String, f64>,
}

/// What a record must begin with.
#[derive(Deserialize)]
struct Header {
    schema: Option<u32>,
    adapter: Option<Adapter>,
}

/// A record in one object.
#[derive(Deserialize)]
struct Whole {
    #[serde(flatten)]
    header: Header,
    rows: Vec<Timed>,
}

/// The fields of a row that say what was timed and how long it took.
#[derive(Deserialize)]
struct Timed {
    op: String,
    #[serde(default)]
    tensor: Option<String>,
    format: String,
    rows: usize,
    cols: usize,
    batch: usize,
    cache: String,
    #[serde(default)]
    active: Option<f64>,
    timer: String,
    median_us: Option<f64>,
}

impl Timed {
    fn of(row: &Row) -> Self {
        Self {
            op: row.op.into(),
            tensor: row.tensor.clone(),
            format: row.format.clone(),
            rows: row.rows,
            cols: row.cols,
            batch: row.batch,
            cache: row.cache.into(),
            active: row.active,
            timer: row.timer.into(),
            median_us: row.median_us,
        }
    }

    /// A key that is equal for the same product timed in the same way.
    fn product(&self) -> String {
        let tensor = self.tensor.as_deref().map(lacuna_io::printable);
        let tensor = tensor.map_or(String::new(), |name| format!(", {name}"));
        let active = self.active.map(|share| format!(", {:.0} %", 100.0 * share));
        format!(
            "{} {} {}x{} batch {}{tensor}{}, {}, {}",
            self.op,
            self.format,
            self.rows,
            self.cols,
            self.batch,
            active.unwrap_or_default(),
            self.cache,
            self.timer
        )
    }
}

/// A product now and in the record.
pub struct Change {
    /// What was timed.
    pub product: String,
    /// Its median in the record, in µs.
    pub before: f64,
    /// Its median now, in µs.
    pub now: f64,
}

impl Change {
    /// The share by which it takes longer now; negative if it is faster.
    pub fn slower(&self) -> f64 {
        self.now / self.before - 1.0
    }
}

impl Record {
    /// Reads the record at `path`, which must be of `adapter`.
    pub fn open(path: &Path, adapter: &Adapter) -> Result<Self> {
        let refuse = |reason: String| {
            let file = lacuna_io::printable(&path.display().to_string());
            Error::Input(format!("{file}: {reason}"))
        };
        let text = fs::read_to_string(path).map_err(|e| refuse(e.to_string()))?;
        let (header, rows) =
            parse(&text).map_err(|e| refuse(format!("no record of a bench: {e}")))?;
        if header.schema != Some(report::SCHEMA) {
            let found = header.schema.map_or("none".into(), |s| s.to_string());
            let expected = report::SCHEMA;
            return Err(refuse(format!(
                "its schema is {found}, expected {expected}"
            )));
        }
        match header.adapter {
            Some(other) if other == *adapter => {}
            Some(other) => {
                return Err(refuse(format!(
                    "it is of another adapter, {other}; this one is {adapter}"
                )));
            }
            None => return Err(refuse("it names no adapter".into())),
        }
        Ok(Self {
            file: path.into(),
            fastest: fastest(rows.into_iter()),
        })
    }

    /// Compares the products of `rows` that the record has too.
    pub fn compare(&self, rows: &[Row]) -> Result<Vec<Change>> {
        let changes: Vec<_> = fastest(rows.iter().map(Timed::of))
            .into_iter()
            .filter_map(|(product, now)| {
                let before = *self.fastest.get(&product)?;
                Some(Change {
                    product,
                    before,
                    now,
                })
            })
            .collect();
        if changes.is_empty() {
            let file = lacuna_io::printable(&self.file.display().to_string());
            return Err(Error::Input(format!(
                "{file}: it has none of the products that were timed"
            )));
        }
        Ok(changes)
    }
}

/// Header and rows of a record in either style.
fn parse(text: &str) -> serde_json::Result<(Header, Vec<Timed>)> {
    if let Ok(whole) = serde_json::from_str::<Whole>(text) {
        return Ok((whole.header, whole.rows));
    }
    let mut lines = text.lines();
    let header = serde_json::from_str(lines.next().unwrap_or_default())?;
    let rows = lines.map(serde_json::from_str).collect::<Result<_, _>>()?;
    Ok((header, rows))
}

fn fastest(rows: impl Iterator<Item = Timed>) -> BTreeMap<String, f64> {
    let mut fastest = BTreeMap::new();
    for row in rows {
        let Some(median) = row.median_us.filter(|&m| m > 0.0) else {
            continue;
        };
        let least = fastest.entry(row.product()).or_insert(median);
        *least = median.min(*least);
    }
    fastest
}

/// `5%` or `0.05`.
pub fn share(text: &str) -> Result<f64, String> {
    let (number, unit) = match text.strip_suffix('%') {
        Some(number) => (number, 0.01),
        None => (text, 1.0),
    };
    // A bare 1 could be 1 % or 100 %.
    let end = if unit < 1.0 { f64::MAX } else { 1.0 };
    match number.trim().parse::<f64>() {
        Ok(n) if (0.0..end).contains(&n) => Ok(n * unit),
        _ => Err("it must be a share such as 5%, or 0.05, below 1".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADAPTER: &str =
        r#""adapter":{"name":"a","driver":"d","driver_info":"1","backend":"vulkan","type":"Cpu"}"#;

    fn adapter() -> Adapter {
        let whole = format!("{{{ADAPTER}}}");
        let header: Header = serde_json::from_str(&whole).expect("a header");
        header.adapter.expect("an adapter")
    }

    fn row(median_us: f64, batch: usize) -> Row {
        Row {
            op: "linear",
            format: "f16".into(),
            rows: 8,
            cols: 4,
            batch,
            cache: "cold",
            timer: "wall",
            median_us: Some(median_us),
            ..Row::default()
        }
    }

    fn open(text: &str) -> Result<Record> {
        let file = tempfile::NamedTempFile::new().expect("a file");
        fs::write(file.path(), text).expect("written");
        Record::open(file.path(), &adapter())
    }

    fn lines(rows: &[Row]) -> String {
        let header = format!("{{\"schema\":{},{ADAPTER}}}\n", report::SCHEMA);
        let line = |row: &Row| serde_json::to_string(row).expect("JSON") + "\n";
        rows.iter().map(line).fold(header, |all, line| all + &line)
    }

    #[test]
    fn the_fastest_candidates_of_a_product_are_compared() {
        let record = open(&lines(&[row(30.0, 1), row(20.0, 1), row(9.0, 2)])).expect("a record");
        let changes = record
            .compare(&[row(25.0, 1), row(40.0, 1), row(1.0, 3)])
            .expect("one in common");
        assert_eq!(changes.len(), 1);
        assert!((changes[0].slower() - 0.25).abs() < 1e-12);
        assert!(changes[0].product.contains("f16 8x4 batch 1"));
        let none = record.compare(&[row(1.0, 3)]).map(|c| c.len());
        assert!(matches!(none, Err(Error::Input(_))));
        // Times of another timer are not comparable.
        let stamped = Row {
            timer: "timestamp",
            ..row(20.0, 1)
        };
        assert!(record.compare(&[stamped]).is_err());
    }

    #[test]
    fn records_of_other_adapters_and_schemas_are_refused() {
        let sound = lines(&[row(30.0, 1)]);
        assert!(open(&sound).is_ok());
        for (from, to, words) in [
            (
                "\"driver_info\":\"1\"",
                "\"driver_info\":\"2\"",
                "another adapter",
            ),
            (
                "\"schema\":1",
                "\"schema\":9",
                "its schema is 9, expected 1",
            ),
            ("\"schema\":1,", "", "its schema is none"),
            ("\"adapter\"", "\"other\"", "it names no adapter"),
            ("\"batch\":1", "\"batch\":-1", "no record of a bench"),
        ] {
            let broken = sound.replacen(from, to, 1);
            assert_ne!(broken, sound);
            let refused = open(&broken).map(|_| ()).expect_err(to).to_string();
            assert!(refused.contains(words), "{refused}");
        }
        assert!(open("").is_err() && open("| a table |").is_err());
    }

    #[test]
    fn shares_are_percents_or_numbers() {
        assert_eq!(share("5%"), Ok(0.05));
        assert_eq!(share("0.5"), Ok(0.5));
        for wrong in ["", "%", "-1%", "inf", "NaN", "five", "5", "1"] {
            assert!(share(wrong).is_err(), "{wrong}");
        }
    }
}
