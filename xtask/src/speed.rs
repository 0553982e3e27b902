//! How fast the products are, by `lacuna bench`.

use serde_json::Value;

use crate::{
    checks::Checks,
    error::{Error, Result},
    lacuna::Lacuna,
    setup,
};

/// One run of the bench: which products, in which formats.
struct Run {
    shapes: &'static [&'static str],
    batch: &'static str,
    formats: &'static [&'static str],
}

const RUNS: [Run; 2] = [
    // One vector at a time, as in decoding: reading weights takes the time.
    Run {
        shapes: &["4096x4096", "11008x4096"],
        batch: "1",
        formats: &["f32", "2:4@f32", "2:4x8@f32", "1:8@f32", "f16", "2:4@f16"],
    },
    // Many at once, as in prefill: arithmetic takes the time.
    Run {
        shapes: &["2048x2048"],
        batch: "128",
        formats: &["f32", "2:4x16@f32", "1:8x16@f32"],
    },
];

/// How often each product is timed: enough for a steady median, few enough for a demo.
const ROUNDS: &str = "15";

pub struct Speed {
    /// The adapter in a line, as the bench names it.
    pub adapter: String,
    /// Whether it is a software adapter, whose memory is the host's.
    pub on_processor: bool,
    pub copy_gb_per_s: Option<f64>,
    pub host_read_gb_per_s: Option<f64>,
    pub rows: Vec<Row>,
}

/// One product in one format; what could not be measured is absent.
pub struct Row {
    pub format: String,
    pub rows: u64,
    pub cols: u64,
    pub batch: u64,
    pub median_us: Option<f64>,
    pub bytes: Option<f64>,
    pub gb_per_s: Option<f64>,
    pub percent_of_copy: Option<f64>,
    /// Work of the dense product per second.
    pub gflop_per_s_dense: Option<f64>,
    pub x_dense: Option<f64>,
    pub error_over_bound: Option<f64>,
}

pub fn run(lacuna: &Lacuna, checks: &mut Checks) -> Result<Speed> {
    let mut speed: Option<Speed> = None;
    for run in RUNS {
        let (json, right) = lacuna.bench(&[
            "--shape",
            &run.shapes.join(","),
            "--batch",
            run.batch,
            "--format",
            &run.formats.join(","),
            "--rounds",
            ROUNDS,
        ])?;
        checks.that(right, || "the bench found a product that is wrong".into());
        let rows = run.rows(&json, checks)?;
        // The first run's bandwidth stands for both.
        match &mut speed {
            Some(speed) => speed.rows.extend(rows),
            None => speed = Some(Speed::new(&json, rows)),
        }
    }
    speed.ok_or_else(|| Error::new("nothing was timed"))
}

impl Run {
    /// The fastest row of each product and format, in the order asked for. The bench also
    /// lists other dense kernels that it tried, and what could not run.
    fn rows(&self, json: &Value, checks: &mut Checks) -> Result<Vec<Row>> {
        let rows = json["rows"].as_array();
        let rows = rows.ok_or_else(|| Error::new("the bench printed no rows"))?;
        let mut fastest = Vec::new();
        for (shape, format) in self
            .shapes
            .iter()
            .flat_map(|shape| self.formats.iter().map(move |format| (shape, format)))
        {
            let own = rows.iter().filter(|row| {
                row["format"] == *format && format!("{}x{}", row["rows"], row["cols"]) == *shape
            });
            let time = |row: &&Value| row["median_us"].as_f64().unwrap_or(f64::INFINITY);
            let row = own
                .min_by(|a, b| time(a).total_cmp(&time(b)))
                .and_then(Row::read);
            let right = row
                .as_ref()
                .and_then(|row| row.error_over_bound)
                .is_some_and(|error| error <= 1.0);
            checks.that(right, || {
                format!(
                    "{shape} in {format}, batch {}: not timed, not checked or wrong",
                    self.batch
                )
            });
            fastest.extend(row);
        }
        Ok(fastest)
    }
}

impl Row {
    fn read(row: &Value) -> Option<Self> {
        Some(Self {
            format: row["format"].as_str()?.into(),
            rows: row["rows"].as_u64()?,
            cols: row["cols"].as_u64()?,
            batch: row["batch"].as_u64()?,
            median_us: row["median_us"].as_f64(),
            bytes: row["bytes"].as_f64(),
            gb_per_s: row["gb_per_s"].as_f64(),
            percent_of_copy: row["percent_of_copy"].as_f64(),
            gflop_per_s_dense: row["gflop_per_s_dense"].as_f64(),
            x_dense: row["x_dense"].as_f64(),
            error_over_bound: row["error_over_bound"].as_f64(),
        })
    }

    pub fn product(&self) -> String {
        match self.batch {
            1 => format!("{} x {} weights times 1 vector", self.rows, self.cols),
            batch => format!(
                "{} x {} weights times {batch} vectors",
                self.rows, self.cols
            ),
        }
    }
}

impl Speed {
    fn new(json: &Value, rows: Vec<Row>) -> Self {
        let adapter = &json["adapter"];
        let kind = adapter["type"].as_str().unwrap_or_default().to_lowercase();
        Self {
            adapter: setup::describe(adapter),
            on_processor: kind == "cpu",
            copy_gb_per_s: json["copy_gb_per_s"].as_f64(),
            host_read_gb_per_s: json["host_read_gb_per_s"].as_f64(),
            rows,
        }
    }
}

#[cfg(test)]
pub mod tests {
    use super::{Checks, Run, Speed};
    use serde_json::{Value, json};

    /// A bench's answer: two dense kernels, a sparse one, and a failure.
    fn answer() -> Value {
        let row = |format: &str, us: f64, x: f64| {
            json!({
                "op": "linear", "format": format, "rows": 64, "cols": 32, "batch": 1,
                "median_us": us, "bytes": null, "gb_per_s": 1e4 / us, "percent_of_copy": 80.0,
                "gflop_per_s_dense": 6e4 / us, "x_dense": x, "error_over_bound": 0.5,
            })
        };
        let mut failure = row("1:8@f32", 1.0, 1.0);
        failure["median_us"] = Value::Null;
        failure["error_over_bound"] = Value::Null;
        json!({
            "adapter": {"name": "sample", "backend": "vulkan", "type": "Cpu"},
            "copy_gb_per_s": 12.0, "host_read_gb_per_s": null,
            "rows": [failure, row("f32", 6000.0, 1.0), row("f32", 7000.0, 0.9), row("2:4@f32", 4000.0, 1.5)],
        })
    }

    fn read(formats: &'static [&'static str]) -> (Speed, Checks) {
        let (run, mut checks) = (
            Run {
                shapes: &["64x32"],
                batch: "1",
                formats,
            },
            Checks::default(),
        );
        let rows = run.rows(&answer(), &mut checks).expect("rows");
        (Speed::new(&answer(), rows), checks)
    }

    pub fn sample() -> Speed {
        read(&["f32", "2:4@f32"]).0
    }

    #[test]
    fn the_fastest_row_of_each_format_counts() {
        let (speed, checks) = read(&["2:4@f32", "f32"]);
        assert!(checks.failures().is_empty() && speed.on_processor);
        let times: Vec<Option<f64>> = speed.rows.iter().map(|row| row.median_us).collect();
        assert_eq!(times, [Some(4000.0), Some(6000.0)]);
    }

    #[test]
    fn what_is_missing_or_unchecked_fails() {
        let (speed, checks) = read(&["f32", "1:8@f32", "f16"]);
        assert_eq!(checks.failures().len(), 2);
        assert_eq!(speed.rows.len(), 2);
    }
}
