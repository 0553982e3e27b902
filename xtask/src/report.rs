//! The demo's result as one self-contained HTML file.

use std::fmt::Write;

use crate::{
    checks::Checks, language::Language, quality::Quality, roofline, speed::Speed, table::escape,
};

const STYLE: &str = include_str!("report.css");

/// A self-contained HTML page.
pub fn page(title: &str, body: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n{body}</body>\n</html>\n",
        escape(title)
    )
}

pub struct Report<'a> {
    pub quality: &'a Quality,
    pub language: &'a Language,
    /// The timings, or why there are none.
    pub speed: std::result::Result<&'a Speed, &'a str>,
    pub checks: &'a Checks,
    pub date: String,
}

impl Report<'_> {
    pub fn to_html(&self) -> String {
        let mut html = String::new();
        self.summary(&mut html);
        self.quality(&mut html);
        self.language(&mut html);
        self.speed(&mut html);
        page("Lacuna demo", &html)
    }

    fn summary(&self, html: &mut String) {
        let bad = if self.checks.failures().is_empty() {
            ""
        } else {
            " bad"
        };
        let _ = write!(
            html,
            "<h1>Lacuna on this machine</h1>\n\
             <p>Lacuna multiplies with neural-network weights that are mostly not there. This report compresses a small \
             language model that was really trained, checks every product, writes text with the model, and times large \
             products.</p>\n\
             <p class=\"verdict{bad}\">{}</p>\n",
            escape(&capitalised(&self.checks.verdict()))
        );
        if !bad.is_empty() {
            html.push_str("<ul class=\"failures\">\n");
            for failure in self.checks.failures() {
                let _ = writeln!(html, "<li>{}</li>", escape(failure));
            }
            html.push_str("</ul>\n");
        }
        let (adapter, memory) = match self.speed {
            Ok(speed) => (speed.adapter.clone(), speed.bandwidth()),
            Err(_) => (
                "none: computed by the reference on the processor".into(),
                "not measured".into(),
            ),
        };
        let date = format!("{} UTC", self.date);
        let facts = [
            ("Adapter", adapter.as_str()),
            ("Memory", &memory),
            (
                "System",
                &format!("{}, {}", std::env::consts::OS, std::env::consts::ARCH),
            ),
            ("Version", env!("CARGO_PKG_VERSION")),
            ("Date", &date),
            ("Command", "cargo xtask demo"),
        ];
        html.push_str("<dl>\n");
        for (name, fact) in facts {
            let _ = writeln!(html, "<dt>{name}</dt><dd>{}</dd>", escape(fact));
        }
        html.push_str("</dl>\n");
    }

    fn quality(&self, html: &mut String) {
        html.push_str("<h2>Quality</h2>\n");
        html.push_str(&self.quality.weights.to_html());
        html.push_str(&self.quality.products.to_html());
    }

    fn language(&self, html: &mut String) {
        let language = self.language;
        let _ = write!(
            html,
            "<h2>The language model</h2>\n<h3>{}</h3>\n<pre>{}</pre>\n",
            escape(&language.title()),
            escape(&language.sample)
        );
        html.push_str(&language.table.to_html());
    }

    fn speed(&self, html: &mut String) {
        html.push_str("<h2>Speed</h2>\n");
        let speed = match self.speed {
            Ok(speed) => speed,
            Err(reason) => {
                let _ = writeln!(html, "<p class=\"advice\">{}</p>", escape(reason));
                return;
            }
        };
        for note in speed.notes() {
            let _ = writeln!(html, "<p class=\"note\">{}</p>", escape(&note));
        }
        for table in speed.tables() {
            html.push_str(&table.to_html());
        }
        if let Some(plot) = roofline::draw(speed) {
            let _ = write!(
                html,
                "<h2>Roofline</h2>\n<p>Each point is a product from the tables. Leaving weights out moves it to the right: \
                 the same product from fewer bytes. Higher is faster. The sloped line is what memory can deliver: points \
                 near it waste nothing, and points far below it at the right are limited by arithmetic.</p>\n\
                 <figure>\n{plot}</figure>\n"
            );
        }
        let _ = writeln!(
            html,
            "<p class=\"note\">To repeat or extend it: <code>cargo run --release -- bench --help</code></p>"
        );
    }
}

fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| {
        first.to_uppercase().chain(letters).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::{Checks, Language, Quality, Report};
    use crate::{lacuna::Device, speed::tests::sample, table::Table};

    #[test]
    fn the_report_stands_alone_and_shows_failures() {
        let table = || Table::new("t", &["a"]);
        let quality = Quality {
            weights: table(),
            products: table(),
        };
        let language = Language {
            device: Device::Cpu,
            sample: "Exit <pursued>".into(),
            table: table(),
        };
        let (speed, mut checks) = (sample(), Checks::default());
        checks.that(false, || "2 < 1".into());
        let report = Report {
            quality: &quality,
            language: &language,
            speed: Ok(&speed),
            checks: &checks,
            date: "today".into(),
        };
        let html = report.to_html();
        assert!(html.contains("1 of 1 checks FAILED") && html.contains("2 &lt; 1"));
        assert!(html.contains("<pre>Exit &lt;pursued&gt;</pre>"));
        assert!(!html.contains("http") && !html.contains("src="));
        let fallback = Report {
            speed: Err("no adapter"),
            ..report
        }
        .to_html();
        assert!(fallback.contains("no adapter") && !fallback.contains("<figure>"));
    }
}
