//! The roofline plot: work per byte of each product, and its speed.
//!
//! Work is that of the dense product, so leaving weights out moves a point to the right (fewer bytes
//! for the same product), and higher is always faster. Memory bandwidth is a slope that points can
//! reach but hardly cross.

use std::fmt::Write;

use crate::{
    axis::Axis,
    speed::{Row, Speed},
    table::{escape, figure},
};

const WIDTH: f64 = 520.0;
const HEIGHT: f64 = 360.0;
const LEFT: f64 = 44.0;
const RIGHT: f64 = 440.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 316.0;
/// The least vertical distance between two labels.
const LINE: f64 = 14.0;

/// A product that could be measured.
struct Point<'a> {
    row: &'a Row,
    flop_per_byte: f64,
    gflop_per_s: f64,
}

impl<'a> Point<'a> {
    fn of(row: &'a Row) -> Option<Self> {
        let (gflop_per_s, gb_per_s) = (row.gflop_per_s_dense?, row.gb_per_s?);
        let drawable = gflop_per_s > 0.0 && gb_per_s > 0.0;
        drawable.then_some(Self {
            row,
            flop_per_byte: gflop_per_s / gb_per_s,
            gflop_per_s,
        })
    }
}

/// The plot and its key; `None` if nothing was measured.
pub fn draw(speed: &Speed) -> Option<String> {
    let points: Vec<Point> = speed.rows.iter().filter_map(Point::of).collect();
    if points.is_empty() {
        return None;
    }
    let x = Axis::around(points.iter().map(|point| point.flop_per_byte), LEFT, RIGHT);
    let y = Axis::around(points.iter().map(|point| point.gflop_per_s), BOTTOM, TOP);
    let mut svg = format!(
        "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"Roofline plot: speed over work per byte, \
         both axes logarithmic; the tables above hold the figures\">\n"
    );
    axes(&mut svg, &x, &y);
    let mut key = String::new();
    for (name, class, roof) in roofs(speed) {
        slope(&mut svg, &x, &y, roof, class);
        let swatch =
            format!("<line class=\"roof {class}\" x1=\"1\" y1=\"11\" x2=\"19\" y2=\"3\"/>");
        let _ = writeln!(
            key,
            "<li>{}{name}: {} GB/s</li>",
            swatch_svg(&swatch),
            figure(roof)
        );
    }
    let mut products: Vec<String> = points.iter().map(|point| point.row.product()).collect();
    products.dedup();
    for (number, product) in products.iter().enumerate() {
        let own: Vec<&Point> = points
            .iter()
            .filter(|point| point.row.product() == *product)
            .collect();
        for point in &own {
            let (left, top) = (x.at(point.flop_per_byte), y.at(point.gflop_per_s));
            let title = format!("{} in {}", product, point.row.short_format());
            let title = format!(
                "{title}: {} GFLOP/s, {} FLOP per byte",
                figure(point.gflop_per_s),
                figure(point.flop_per_byte)
            );
            let class = if point.row.format.contains(':') {
                "sparse"
            } else {
                "dense"
            };
            let _ = writeln!(
                svg,
                "<g class=\"{class}\"><title>{}</title>{}</g>",
                escape(&title),
                marker(number, left, top)
            );
        }
        // Products with the same batch lie on top of one another, so only the last is labelled.
        let next = products.get(number + 1);
        let batch = own[0].row.batch;
        if !next.is_some_and(|next| {
            points
                .iter()
                .any(|p| p.row.product() == *next && p.row.batch == batch)
        }) {
            labels(&mut svg, &own, &x, &y);
        }
        let swatch = format!("<g class=\"plain\">{}</g>", marker(number, 10.0, 7.0));
        let _ = writeln!(key, "<li>{}{}</li>", swatch_svg(&swatch), escape(product));
    }
    svg.push_str("</svg>\n");
    for (class, words) in [("dense", "all weights"), ("sparse", "weights left out")] {
        let swatch = format!("<g class=\"{class}\">{}</g>", marker(0, 10.0, 7.0));
        let _ = writeln!(key, "<li>{}{words}</li>", swatch_svg(&swatch));
    }
    Some(format!("{svg}<ul class=\"key\">\n{key}</ul>\n"))
}

/// Memory bandwidths worth drawing; the processor's own only for a software adapter.
fn roofs(speed: &Speed) -> Vec<(&'static str, &'static str, f64)> {
    let copy = speed
        .copy_gb_per_s
        .map(|roof| ("copying on the adapter", "copy", roof));
    let read = speed.host_read_gb_per_s.filter(|_| speed.on_processor);
    let read = read.map(|roof| ("reading by the processor", "read", roof));
    copy.into_iter().chain(read).collect()
}

fn axes(svg: &mut String, x: &Axis, y: &Axis) {
    for tick in x.ticks() {
        let left = x.at(tick);
        let _ = writeln!(
            svg,
            "<line class=\"grid\" x1=\"{left:.1}\" y1=\"{TOP}\" x2=\"{left:.1}\" y2=\"{BOTTOM}\"/>"
        );
        let _ = writeln!(
            svg,
            "<text x=\"{left:.1}\" y=\"{}\" text-anchor=\"middle\">{tick}</text>",
            BOTTOM + 15.0
        );
    }
    for tick in y.ticks() {
        let top = y.at(tick);
        let _ = writeln!(
            svg,
            "<line class=\"grid\" x1=\"{LEFT}\" y1=\"{top:.1}\" x2=\"{RIGHT}\" y2=\"{top:.1}\"/>"
        );
        let _ = writeln!(
            svg,
            "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{tick}</text>",
            LEFT - 6.0,
            top + 4.0
        );
    }
    let middle = f64::midpoint(LEFT, RIGHT);
    let _ = writeln!(
        svg,
        "<text x=\"{middle}\" y=\"{}\" text-anchor=\"middle\">FLOP of the whole product for each byte read</text>",
        HEIGHT - 10.0
    );
    let centre = f64::midpoint(TOP, BOTTOM);
    let _ = writeln!(
        svg,
        "<text transform=\"translate(11 {centre}) rotate(-90)\" text-anchor=\"middle\">GFLOP/s</text>"
    );
}

/// The line `speed = roof · work per byte`, as much of it as lies within the plot.
fn slope(svg: &mut String, x: &Axis, y: &Axis, roof: f64, class: &str) {
    let (from, to) = (x.low.max(y.low / roof), x.high.min(y.high / roof));
    if from < to {
        let (x1, y1, x2, y2) = (x.at(from), y.at(from * roof), x.at(to), y.at(to * roof));
        let _ = writeln!(
            svg,
            "<line class=\"roof {class}\" x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\"/>"
        );
    }
}

/// Names to the right of the points, moved apart where they would overlap.
fn labels(svg: &mut String, points: &[&Point], x: &Axis, y: &Axis) {
    let mut places: Vec<(f64, f64, &str)> = points
        .iter()
        .map(|point| {
            (
                x.at(point.flop_per_byte),
                y.at(point.gflop_per_s),
                point.row.short_format(),
            )
        })
        .collect();
    places.sort_by(|a, b| a.1.total_cmp(&b.1));
    let mut tops: Vec<f64> = places.iter().map(|place| place.1).collect();
    for upper in 1..tops.len() {
        tops[upper] = tops[upper].max(tops[upper - 1] + LINE);
    }
    // Labels that would fall below the axis are pushed up again.
    let mut lowest = BOTTOM - 4.0;
    for top in tops.iter_mut().rev() {
        *top = top.min(lowest);
        lowest = *top - LINE;
    }
    for ((left, point, name), top) in places.iter().zip(&tops) {
        let start = left + 14.0;
        let _ = writeln!(
            svg,
            "<line class=\"leader\" x1=\"{:.1}\" y1=\"{point:.1}\" x2=\"{:.1}\" y2=\"{top:.1}\"/>",
            left + 6.0,
            start - 2.0
        );
        let _ = writeln!(
            svg,
            "<text class=\"name\" x=\"{start:.1}\" y=\"{:.1}\">{}</text>",
            top + 4.0,
            escape(name)
        );
    }
}

/// A circle, a square, a triangle: one shape for each product.
fn marker(product: usize, x: f64, y: f64) -> String {
    match product % 3 {
        0 => format!("<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4.5\"/>"),
        1 => format!(
            "<rect x=\"{:.1}\" y=\"{:.1}\" width=\"8\" height=\"8\"/>",
            x - 4.0,
            y - 4.0
        ),
        _ => format!("<path d=\"M{x:.1} {:.1}l5 9h-10z\"/>", y - 5.0),
    }
}

fn swatch_svg(content: &str) -> String {
    format!("<svg class=\"swatch\" viewBox=\"0 0 20 14\" aria-hidden=\"true\">{content}</svg>")
}

#[cfg(test)]
mod tests {
    use super::draw;
    use crate::speed::tests::sample;

    #[test]
    fn every_product_has_a_point_and_a_name() {
        let mut speed = sample();
        let svg = draw(&speed).expect("a plot");
        assert_eq!(svg.matches("<title>").count(), 2);
        assert!(svg.contains(">2:4</text>") && svg.contains("12.0 GB/s") && !svg.contains("NaN"));
        speed.rows.clear();
        assert!(draw(&speed).is_none());
    }
}
