//! `cargo xtask sweep`: times products over sizes, batches, sparsities and active shares, and plots lines.

use std::{collections::BTreeMap, fmt::Write, fs};

use serde_json::Value;

use crate::{
    date,
    error::{Error, Result},
    lacuna::Lacuna,
    lines::{Line, Plot},
    record::{Adapter, commit},
    report::page,
    setup,
    table::{Table, escape, figure},
    workspace::Workspace,
};

/// A point is a cliff if it is this many times what its neighbours on both sides suggest.
const CLIFF: f64 = 1.3;

/// Products that differ in one thing.
struct Sweep {
    title: &'static str,
    across: &'static str,
    up: &'static str,
    arguments: &'static str,
    /// The line of a row of `bench`, its place along the axis, and the microseconds to plot; `None`
    /// leaves the row out.
    place: fn(&Value) -> Option<(String, f64, f64)>,
    /// Selects the formats of whose floors the lowest is drawn.
    floor: fn(&str) -> bool,
    note: &'static str,
}

const SWEEPS: [Sweep; 5] = [
    Sweep {
        title: "Size: square weights, one vector",
        across: "columns",
        up: "µs",
        arguments: "--shape 512x512,768x768,1024x1024,1536x1536,2048x2048,3072x3072,4096x4096,6144x6144 \
                    --format f32,f16,2:4x8,1:8,w4g128,w4g64s50",
        place: |row| Some((format(row)?, number(row, "cols")?, micros(row)?)),
        floor: |format| format == "f32",
        note: "The floor is that of the f32 weight. Small products are bound by what a launch costs.",
    },
    Sweep {
        title: "Batch: 2048 x 2048",
        across: "vectors",
        up: "µs a vector",
        arguments: "--shape 2048x2048 --batch 1,2,4,6,8,12,16,24,32,64,128,256,512,1024 \
                    --format f32,f16,2:4x16,1:8x16,w4g128",
        place: |row| {
            let batch = number(row, "batch")?;
            Some((format(row)?, batch, micros(row)? / batch))
        },
        floor: |format| format == "f32",
        note: "The floor is that of the f32 weight: reading it once, and from some vectors on arithmetic.",
    },
    Sweep {
        title: "Zeros: 4096 x 4096 in f32, one vector",
        across: "columns for each kept one",
        up: "µs",
        arguments: "--shape 4096x4096 \
                    --format f32,3:4,2:4,1:4,1:8,1:16,1:32,3:4x8,2:4x8,1:4x8,1:8x8,1:16x8,1:32x8",
        place: |row| {
            let format = format(row)?;
            let line = if format.contains("x8") {
                "N:Mx8"
            } else {
                "N:M"
            };
            let (n, m) = match format.split_once(':') {
                Some((n, m)) => (n.parse().ok()?, m.split('x').next()?.parse().ok()?),
                None => (1.0, 1.0),
            };
            Some((line.into(), m / n, micros(row)?))
        },
        floor: |_| true,
        note: "The leftmost point is dense. The floor is that of all that is stored.",
    },
    Sweep {
        title: "Active rows: 4096 x 11008, one vector",
        across: "% of rows active",
        up: "µs",
        arguments: "--op masked --shape 4096x11008 --active 3,10,20,30,40,50,60,70,80,90,100 --format f32,w4g128",
        place: active,
        floor: |format| format == "f32",
        note: "The floor is that of the f32 rows that are active.",
    },
    Sweep {
        title: "Active columns: 4096 x 11008, one vector",
        across: "% of columns active",
        up: "µs",
        arguments: "--op input_sparse --shape 4096x11008 --active 3,10,20,30,40,50,60,70,80,90,100 --format f32,w4g128",
        place: active,
        floor: |format| format == "f32",
        note: "The floor is that of the f32 columns that are active.",
    },
];

fn number(row: &Value, key: &str) -> Option<f64> {
    row[key].as_f64()
}

fn micros(row: &Value) -> Option<f64> {
    number(row, "median_us")
}

/// The format without its type if that is f32.
fn format(row: &Value) -> Option<String> {
    Some(row["format"].as_str()?.trim_end_matches("@f32").into())
}

fn active(row: &Value) -> Option<(String, f64, f64)> {
    Some((format(row)?, 100.0 * number(row, "active")?, micros(row)?))
}

/// A sweep that was measured.
struct Measured {
    lines: Vec<Line>,
    floor: Vec<[f64; 2]>,
    gb_per_s: f64,
    gflop_per_s: f64,
}

impl Sweep {
    fn run(&self, lacuna: &Lacuna) -> Result<Measured> {
        let arguments: Vec<&str> = self.arguments.split_whitespace().collect();
        let (json, right) = lacuna.bench(&[&arguments[..], &["--rounds", "9"]].concat())?;
        if !right {
            return Err(Error::new(format!("{}: a product is wrong", self.title)));
        }
        self.read(&json)
    }

    fn read(&self, json: &Value) -> Result<Measured> {
        let rows = json["rows"].as_array().map_or(&[][..], Vec::as_slice);
        // Keeps the fastest of several candidates, as the bench also lists other dense ones that it tried.
        let mut points: BTreeMap<String, BTreeMap<u64, [f64; 2]>> = BTreeMap::new();
        let mut order = vec![];
        // The lowest floor at a place.
        let mut floor: BTreeMap<u64, [f64; 2]> = BTreeMap::new();
        for row in rows {
            let Some((line, across, up)) = (self.place)(row) else {
                continue;
            };
            if !order.contains(&line) {
                order.push(line.clone());
            }
            let key = across.to_bits();
            let point = points.entry(line).or_default().entry(key);
            let point = point.or_insert([across, up]);
            point[1] = point[1].min(up);
            let counts = row["format"].as_str().is_some_and(self.floor);
            if let (true, Some(us)) = (counts, number(row, "floor_us")) {
                let us = us * up / micros(row).unwrap_or(up);
                let least = floor.entry(key).or_insert([across, us]);
                least[1] = least[1].min(us);
            }
        }
        let read = json["host_read_gb_per_s"].as_f64();
        let copy = json["copy_gb_per_s"].as_f64();
        let peak = json["peak_gflop_per_s"].as_f64();
        let [Some(gb_per_s), Some(gflop_per_s)] = [read.or(copy), peak] else {
            return Err(Error::new(
                "the bench measured no bandwidth or no arithmetic",
            ));
        };
        let take = |name: String| Line {
            points: points
                .remove(&name)
                .unwrap_or_default()
                .into_values()
                .collect(),
            name,
        };
        Ok(Measured {
            lines: order.into_iter().map(take).collect(),
            floor: floor.into_values().collect(),
            gb_per_s,
            gflop_per_s,
        })
    }

    fn plot(&self, measured: Measured) -> Plot {
        Plot {
            across: self.across,
            up: self.up,
            lines: measured.lines,
            floor: measured.floor,
            floor_name: format!(
                "floor: bytes at {} GB/s, operations at {} GFLOP/s",
                figure(measured.gb_per_s),
                figure(measured.gflop_per_s)
            ),
        }
    }

    fn table(&self, measured: &Measured) -> Table {
        let mut places: Vec<f64> = measured.floor.iter().map(|p| p[0]).collect();
        places.extend(measured.lines.iter().flat_map(|l| &l.points).map(|p| p[0]));
        places.sort_by(f64::total_cmp);
        places.dedup();
        let names = measured.lines.iter().map(|line| line.name.as_str());
        let head: Vec<&str> = [self.across]
            .into_iter()
            .chain(names)
            .chain(["floor"])
            .collect();
        let mut table = Table::new(format!("{}, {}", self.title, self.up), &head);
        let at = |points: &[[f64; 2]], place: f64| {
            let found = points.iter().find(|p| p[0].to_bits() == place.to_bits());
            found.map_or_else(|| "–".into(), |p| figure(p[1]))
        };
        for place in places {
            let mut cells = vec![place_text(place)];
            cells.extend(measured.lines.iter().map(|line| at(&line.points, place)));
            cells.push(at(&measured.floor, place));
            table.rows.push(cells);
        }
        table
    }
}

fn place_text(place: f64) -> String {
    if place.fract() == 0.0 {
        format!("{place}")
    } else {
        figure(place)
    }
}

/// Points that take [`CLIFF`] times as long as a straight line in the plot between their neighbours
/// suggests.
fn cliffs(line: &Line) -> impl Iterator<Item = ([f64; 2], f64)> {
    line.points.windows(3).filter_map(|points| {
        let [before, here, after] = points else {
            return None;
        };
        let share = (here[0] / before[0]).ln() / (after[0] / before[0]).ln();
        let expected = before[1] * (after[1] / before[1]).powf(share);
        let times = here[1] / expected;
        (times > CLIFF).then_some((*here, times))
    })
}

pub fn run(may_install: bool) -> Result<()> {
    let workspace = Workspace::find()?;
    let lacuna = setup::lacuna(&workspace, may_install)?;
    let adapter = Adapter::of(&lacuna)?;
    let date = date::now();
    let title = format!("{}, sweeps: {}", &date[..10], adapter.name());
    let about = adapter.about("cargo xtask sweep", &commit(&workspace));
    let mut text = format!("# {title}\n\n{about}\n");
    let mut html = format!(
        "<h1>{}</h1>\n<p>{}</p>\n",
        escape(&title),
        escape(&about.replace('`', ""))
    );
    for sweep in &SWEEPS {
        let measured = sweep.run(&lacuna)?;
        let table = sweep.table(&measured);
        let mut found = String::new();
        for line in &measured.lines {
            for (point, times) in cliffs(line) {
                let _ = writeln!(
                    found,
                    "- {} at {}: {times:.1} times what its neighbours suggest",
                    line.name,
                    place_text(point[0])
                );
            }
        }
        if found.is_empty() {
            found = format!("No point is more than {CLIFF} times what its neighbours suggest.\n");
        }
        let _ = write!(
            text,
            "\n## {}\n\n`bench {}`. {}\n\n{}\n{found}",
            sweep.title,
            sweep
                .arguments
                .split_whitespace()
                .collect::<Vec<_>>()
                .join(" "),
            sweep.note,
            table.to_markdown()
        );
        print!("{}\n{found}", table.to_text());
        let _ = write!(
            html,
            "<h2>{}</h2>\n<p>{}</p>\n<figure>\n{}</figure>\n{}<pre>{}</pre>\n",
            escape(sweep.title),
            escape(sweep.note),
            sweep.plot(measured).to_svg(),
            table.to_html(),
            escape(&found)
        );
    }
    let record = adapter.file(&workspace, &format!("{}-sweep", &date[..10]));
    let page_path = workspace.target.join("lacuna-sweep.html");
    for (path, contents) in [(&record, text), (&page_path, page("Lacuna sweeps", &html))] {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(Error::at(folder))?;
        }
        fs::write(path, contents).map_err(Error::at(path))?;
        println!("written to {}", path.display());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{SWEEPS, cliffs};
    use crate::lines::Line;
    use serde_json::json;

    #[test]
    fn a_cliff_is_a_point_above_its_neighbours() {
        let line = |ups: [f64; 4]| Line {
            name: "f32".into(),
            points: [1.0, 2.0, 4.0, 8.0]
                .into_iter()
                .zip(ups)
                .map(|(x, y)| [x, y])
                .collect(),
        };
        assert_eq!(cliffs(&line([1.0, 2.0, 4.0, 8.0])).count(), 0);
        assert_eq!(cliffs(&line([8.0, 4.0, 2.0, 1.0])).count(), 0);
        let found: Vec<_> = cliffs(&line([1.0, 2.0, 16.0, 8.0])).collect();
        assert_eq!(found, [([4.0, 16.0], 4.0)]);
    }

    #[test]
    fn rows_become_lines_with_a_floor_under_them() {
        let row = |format: &str, batch: u32, us: f64| json!({"format": format, "batch": batch, "cols": 8, "median_us": us, "floor_us": 2.0});
        let answer = json!({
            "adapter": {"type": "Cpu"}, "copy_gb_per_s": 9.0, "host_read_gb_per_s": 2.0, "peak_gflop_per_s": 50.0,
            "rows": [row("f32", 1, 8.0), row("f32", 1, 6.0), row("2:4x16@f32", 2, 10.0)],
        });
        let measured = SWEEPS[1].read(&answer).expect("lines");
        let lines: Vec<_> = measured
            .lines
            .iter()
            .map(|l| (l.name.as_str(), &l.points[..]))
            .collect();
        assert_eq!(
            lines,
            [("f32", &[[1.0, 6.0]][..]), ("2:4x16", &[[2.0, 5.0]][..])]
        );
        assert_eq!(measured.floor, [[1.0, 2.0]]);
        let table = SWEEPS[1].table(&measured).to_markdown();
        assert!(table.contains("| 2 | – | 5.00 | – |"), "{table}");
    }
}
