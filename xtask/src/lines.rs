//! A plot of lines over logarithmic axes, with the floor that no product can be under.

use std::fmt::Write;

use crate::{
    axis::Axis,
    table::{escape, figure},
};

const WIDTH: f64 = 520.0;
const HEIGHT: f64 = 330.0;
const LEFT: f64 = 50.0;
const RIGHT: f64 = 430.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 286.0;
/// The least vertical distance between two names.
const LINE: f64 = 14.0;

pub struct Plot {
    pub across: &'static str,
    pub up: &'static str,
    pub lines: Vec<Line>,
    /// Points `[x, y]` of the floor; `floor_name` says which bandwidth and rate it assumes.
    pub floor: Vec<[f64; 2]>,
    pub floor_name: String,
}

pub struct Line {
    pub name: String,
    pub points: Vec<[f64; 2]>,
}

impl Plot {
    /// The plot and its key.
    pub fn to_svg(&self) -> String {
        let all = self.lines.iter().flat_map(|line| &line.points);
        let all = all.chain(&self.floor);
        let x = Axis::around(all.clone().map(|p| p[0]), LEFT, RIGHT);
        let y = Axis::around(all.map(|p| p[1]), BOTTOM, TOP);
        let (across, up) = (escape(self.across), escape(self.up));
        let mut svg = format!(
            "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{up} over {across}, both axes \
             logarithmic; the table holds the figures\">\n"
        );
        for tick in x.ticks() {
            let left = x.at(tick);
            let _ = writeln!(
                svg,
                "<line class=\"grid\" x1=\"{left:.1}\" y1=\"{TOP}\" x2=\"{left:.1}\" y2=\"{BOTTOM}\"/>\
                 <text x=\"{left:.1}\" y=\"{}\" text-anchor=\"middle\">{tick}</text>",
                BOTTOM + 15.0
            );
        }
        for tick in y.ticks() {
            let top = y.at(tick);
            let _ = writeln!(
                svg,
                "<line class=\"grid\" x1=\"{LEFT}\" y1=\"{top:.1}\" x2=\"{RIGHT}\" y2=\"{top:.1}\"/>\
                 <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{tick}</text>",
                LEFT - 6.0,
                top + 4.0
            );
        }
        let _ = writeln!(
            svg,
            "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{across}</text>\
             <text transform=\"translate(11 {}) rotate(-90)\" text-anchor=\"middle\">{up}</text>",
            f64::midpoint(LEFT, RIGHT),
            HEIGHT - 8.0,
            f64::midpoint(TOP, BOTTOM)
        );
        let path = |points: &[[f64; 2]]| {
            let points = points.iter();
            let points = points.map(|p| format!("{:.1},{:.1}", x.at(p[0]), y.at(p[1])));
            points.collect::<Vec<_>>().join(" ")
        };
        let _ = writeln!(
            svg,
            "<polyline class=\"line floor\" points=\"{}\"/>",
            path(&self.floor)
        );
        for (number, line) in self.lines.iter().enumerate() {
            let _ = writeln!(
                svg,
                "<g class=\"series s{number}\"><polyline class=\"line\" points=\"{}\"/>",
                path(&line.points)
            );
            for [across, up] in &line.points {
                let _ = writeln!(
                    svg,
                    "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"3\"><title>{}: {} at {}</title></circle>",
                    x.at(*across),
                    y.at(*up),
                    escape(&line.name),
                    figure(*up),
                    figure(*across)
                );
            }
            svg.push_str("</g>\n");
        }
        self.names(&mut svg, &x, &y);
        svg.push_str("</svg>\n");
        let swatch = "<svg class=\"swatch\" viewBox=\"0 0 20 14\" aria-hidden=\"true\">\
                      <line class=\"line floor\" x1=\"1\" y1=\"7\" x2=\"19\" y2=\"7\"/></svg>";
        let floor = escape(&self.floor_name);
        format!("{svg}<ul class=\"key\">\n<li>{swatch}{floor}</li>\n</ul>\n")
    }

    /// Names at the ends of the lines, moved apart where they would overlap.
    fn names(&self, svg: &mut String, x: &Axis, y: &Axis) {
        let ends = self.lines.iter().enumerate();
        let mut ends: Vec<(usize, &str, f64, f64)> = ends
            .filter_map(|(number, line)| {
                let [across, up] = line.points.last()?;
                Some((number, line.name.as_str(), x.at(*across), y.at(*up)))
            })
            .collect();
        ends.sort_by(|a, b| a.3.total_cmp(&b.3));
        let mut lowest = f64::NEG_INFINITY;
        for (number, name, left, top) in ends {
            lowest = (lowest + LINE).max(top);
            let _ = writeln!(
                svg,
                "<text class=\"name s{number}\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
                left + 9.0,
                lowest + 4.0,
                escape(name)
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Line, Plot};

    #[test]
    fn every_line_has_its_points_and_a_name() {
        let plot = Plot {
            across: "columns",
            up: "µs",
            lines: ["f32", "2:4"]
                .map(|name| Line {
                    name: name.into(),
                    points: vec![[1.0, 10.0], [2.0, 20.0]],
                })
                .into(),
            floor: vec![[1.0, 5.0], [2.0, 10.0]],
            floor_name: "f32 at 20 GB/s".into(),
        };
        let svg = plot.to_svg();
        assert_eq!(svg.matches("<polyline").count(), 3);
        assert_eq!(svg.matches("<title>").count(), 4);
        assert!(svg.contains(">2:4</text>") && svg.contains("f32 at 20 GB/s"));
        assert!(!svg.contains("NaN") && !svg.contains("inf"));
    }
}
