//! What was measured on a device: which candidate of a product is the fastest, and up to which
//! active share skipping the rest pays.
//!
//! ```text
//! lacuna tuning 1
//! adapter llvmpipe (LLVM 15.0.6, 256 bits)
//! driver  Mesa 25.0.7
//!
//! f16 4096x4096 batch 1 = gemv/one-pairs-x4-g8-r8-b1-w4
//! f16 4096x4096 batch 1, active rows < 0.91
//! f16 4096x4096 in bands batch 1, active columns < 0.62
//! ```
//!
//! A batch stands for all batches from it up to the next of 1, 2, 5, 9, 17, 65. A line that names a candidate
//! which is not legal, or no longer there, has no effect. `#` begins a comment.

use crate::{
    caps::{Caps, DeviceClass},
    error::{Error, Result},
    format::Dtype,
    kernel::{self, Candidate, Problem, Skip},
};
use std::fmt;

const HEADER: &str = "lacuna tuning 1";

/// Where the classes of batches begin.
pub const BATCHES: [usize; 6] = [1, 2, 5, 9, 17, 65];

/// A table of measurements, by product. The empty one leaves every choice to the engine.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Tuning {
    /// Name of the adapter that was measured.
    pub adapter: String,
    /// Its driver.
    pub driver: String,
    lines: Vec<(Problem, Choice)>,
}

#[derive(Debug, Clone, PartialEq)]
enum Choice {
    Candidate(String),
    BreakEven(f64),
}

impl Tuning {
    /// An empty table of an adapter.
    pub fn new(adapter: impl Into<String>, driver: impl Into<String>) -> Self {
        Self {
            adapter: adapter.into(),
            driver: driver.into(),
            lines: vec![],
        }
    }

    /// How many choices were measured.
    pub fn len(&self) -> usize {
        self.lines.len()
    }

    /// Whether nothing was measured.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Notes the fastest candidate of a product, for all batches of its class.
    pub fn prefer(&mut self, problem: &Problem, candidate: &Candidate) {
        self.set(problem, Choice::Candidate(candidate.to_string()));
    }

    /// Notes up to which share of active rows or columns a product that skips the others is faster than the whole one.
    pub fn pays_below(&mut self, problem: &Problem, share: f64) {
        self.set(problem, Choice::BreakEven(share.clamp(0.0, 1.0)));
    }

    /// Forgets which candidate a product had.
    pub fn forget(&mut self, problem: &Problem) {
        let problem = class(problem);
        let is = |choice: &Choice| matches!(choice, Choice::Candidate(_));
        self.lines.retain(|(p, c)| !(*p == problem && is(c)));
    }

    fn set(&mut self, problem: &Problem, choice: Choice) {
        let problem = class(problem);
        let same = |(p, c): &&mut (Problem, Choice)| {
            *p == problem && std::mem::discriminant(c) == std::mem::discriminant(&choice)
        };
        match self.lines.iter_mut().find(same) {
            Some((_, old)) => *old = choice,
            None => self.lines.push((problem, choice)),
        }
    }

    /// The legal candidates for `problem`: first the one that was measured to be the fastest, then the others,
    /// best guess first.
    ///
    /// # Errors
    /// Those of [`kernel::candidates`].
    pub fn candidates(&self, problem: &Problem, caps: &Caps) -> Result<Vec<Candidate>> {
        let mut legal = kernel::candidates(problem, caps)?;
        if let Some(name) = self.preferred(problem) {
            legal.sort_by_key(|c| c.to_string() != name);
        }
        Ok(legal)
    }

    /// The candidate that was the fastest for such a product, if one was measured.
    pub fn preferred(&self, problem: &Problem) -> Option<&str> {
        let problem = class(problem);
        self.lines.iter().find_map(|(p, choice)| match choice {
            Choice::Candidate(name) if *p == problem => Some(name.as_str()),
            _ => None,
        })
    }

    /// Up to which active share a product that skips is worth it: as measured for the weight of
    /// this format that is nearest in shape, else what holds for devices of `class`.
    pub fn break_even(&self, problem: &Problem, class: DeviceClass) -> f64 {
        let alike = self.lines.iter().filter_map(|(p, choice)| match choice {
            Choice::BreakEven(share)
                if (p.format, p.skip, p.layout)
                    == (problem.format, problem.skip, problem.layout) =>
            {
                Some((distance(p, problem), *share))
            }
            _ => None,
        });
        let nearest = alike.min_by(|(a, _), (b, _)| a.total_cmp(b));
        nearest.map_or_else(|| untuned(problem, class), |(_, share)| share)
    }

    /// Reads a table from its text.
    ///
    /// # Errors
    /// [`Error::Tuning`] with the number of the first line that is wrong.
    pub fn parse(text: &str) -> Result<Self> {
        let mut lines = text.lines().enumerate().map(|(i, line)| (i + 1, line));
        let wrong = |line, reason: &str| Error::Tuning {
            line,
            reason: reason.into(),
        };
        match lines.next() {
            Some((_, line)) if line.trim_end() == HEADER => {}
            _ => return Err(wrong(1, "expected \"lacuna tuning 1\"")),
        }
        let mut tuning = Self::default();
        for (number, line) in lines {
            let whole = line.trim();
            let line = whole.split('#').next().unwrap_or_default().trim();
            let of = |problem: &str| -> Result<Problem> {
                let problem: Problem =
                    problem.trim().parse().map_err(|e: Error| Error::Tuning {
                        line: number,
                        reason: e.to_string(),
                    })?;
                Ok(problem)
            };
            // Devices may have a # in their names.
            if let Some(name) = whole.strip_prefix("adapter ") {
                name.trim().clone_into(&mut tuning.adapter);
            } else if let Some(name) = whole.strip_prefix("driver ") {
                name.trim().clone_into(&mut tuning.driver);
            } else if line.is_empty() {
            } else if let Some((problem, candidate)) = line.split_once(" = ") {
                let choice = Choice::Candidate(candidate.trim().into());
                tuning.set(&of(problem)?, choice);
            } else if let Some((problem, share)) = line.split_once(" < ") {
                let share: f64 = share.trim().parse().unwrap_or(f64::NAN);
                let problem = of(problem)?;
                if !(0.0..=1.0).contains(&share) {
                    return Err(wrong(number, "the share behind < is no number from 0 to 1"));
                }
                if problem.skip == Skip::Nothing {
                    return Err(wrong(number, "a share of a product that skips nothing"));
                }
                tuning.set(&problem, Choice::BreakEven(share));
            } else {
                return Err(wrong(
                    number,
                    "expected PRODUCT = CANDIDATE or PRODUCT < SHARE",
                ));
            }
        }
        Ok(tuning)
    }
}

impl fmt::Display for Tuning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            adapter, driver, ..
        } = self;
        writeln!(f, "{HEADER}\nadapter {adapter}\ndriver {driver}\n")?;
        for (problem, choice) in &self.lines {
            match choice {
                Choice::Candidate(name) => writeln!(f, "{problem} = {name}")?,
                Choice::BreakEven(share) => writeln!(f, "{problem} < {share:.2}")?,
            }
        }
        Ok(())
    }
}

/// The product that stands for all of its class. A bias costs nothing that matters.
fn class(problem: &Problem) -> Problem {
    let mut begins = BATCHES.iter().rev();
    Problem {
        batch: *begins.find(|&&b| b <= problem.batch).unwrap_or(&1),
        bias: false,
        ..*problem
    }
}

fn distance(a: &Problem, b: &Problem) -> f64 {
    let ratio = |a: usize, b: usize| (a.max(1) as f64 / b.max(1) as f64).ln().abs();
    ratio(a.rows, b.rows) + ratio(a.cols, b.cols) + ratio(a.batch, b.batch)
}

/// The break-even share where nobody measured, by lines through what llvmpipe and an H100 took for products of 1
/// to 90 MB. A product that skips takes `extra` for the search and more launches, and `slope` times what the
/// whole product takes if all is active.
fn untuned(problem: &Problem, class: DeviceClass) -> f64 {
    let quant = problem.format.quant();
    let size = problem.format.dtype().map_or(4, Dtype::size);
    let (bits, codes) = quant.map_or((8 * size as u32, false), |q| (q.bits(), true));
    let bytes = problem.rows as f64 * problem.cols as f64 * f64::from(bits) / 8.0;
    // Microseconds of a launch, and bytes of the weight in one microsecond.
    let (launch, speed) = match (class, codes) {
        (DeviceClass::Cpu, false) => (40.0, 19e3),
        (DeviceClass::Cpu, true) => (40.0, 7e3),
        (DeviceClass::Gpu, false) => (2.0, 2.6e6),
        (DeviceClass::Gpu, true) => (2.0, 1.5e6),
    };
    let (extra, slope) = match (class, problem.skip) {
        (_, Skip::Nothing) => return 1.0,
        (DeviceClass::Cpu, Skip::Rows) => (80.0, 1.03),
        // Codes in bands are decoded with fewer loads than codes in rows.
        (DeviceClass::Cpu, Skip::Cols) => (100.0, if codes { 1.1 } else { 1.25 }),
        (DeviceClass::Gpu, Skip::Rows) => (10.0, 1.0),
        (DeviceClass::Gpu, Skip::Cols) => (15.0, 1.0),
    };
    let whole = launch + bytes / speed;
    ((1.0 - extra / whole) / slope).clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{format::Precision, kernel::Layout};

    fn problem(batch: usize) -> Problem {
        Problem {
            rows: 64,
            cols: 96,
            batch,
            format: "2:4x8@f16".parse().unwrap(),
            bias: false,
            layout: Layout::Rows,
            skip: Skip::Nothing,
            precision: Precision::F32,
        }
    }

    fn columns(rows: usize) -> Problem {
        Problem {
            rows,
            format: "w4g128".parse().unwrap(),
            layout: Layout::Bands,
            skip: Skip::Cols,
            ..problem(1)
        }
    }

    const TEXT: &str = "lacuna tuning 1\nadapter an adapter #2\ndriver its driver 1.2\n\n\
        2:4x8@f16 64x96 batch 5 = gemv/x-g1-r2-b3-w4\n\
        w4g128 64x96 in bands batch 1, active columns < 0.25\n\
        w4g128 4096x96 in bands batch 1, active columns < 0.75\n";

    #[test]
    fn a_table_is_its_text() {
        let tuning = Tuning::parse(TEXT).unwrap();
        assert_eq!(tuning.to_string(), TEXT);
        assert_eq!(tuning.adapter, "an adapter #2");
        assert_eq!(tuning.driver, "its driver 1.2");
        let commented = TEXT
            .replace("batch 5", "batch 7")
            .replace("\n\n", "\n# why\n");
        assert_eq!(Tuning::parse(&commented).unwrap(), tuning);
    }

    #[test]
    fn a_choice_serves_the_batches_of_its_class() {
        let tuning = Tuning::parse(TEXT).unwrap();
        for (batch, found) in [(4, false), (5, true), (8, true), (9, false)] {
            assert_eq!(
                tuning.preferred(&problem(batch)).is_some(),
                found,
                "{batch}"
            );
        }
        let biased = Problem {
            bias: true,
            ..problem(6)
        };
        assert_eq!(tuning.preferred(&biased), Some("gemv/x-g1-r2-b3-w4"));
    }

    #[test]
    fn where_nobody_measured_small_products_skip_less() {
        let share = |side, skip, class| {
            let problem = Problem {
                rows: side,
                cols: side,
                skip,
                format: "f16".parse().unwrap(),
                ..problem(1)
            };
            Tuning::default().break_even(&problem, class)
        };
        for class in [DeviceClass::Cpu, DeviceClass::Gpu] {
            for skip in [Skip::Rows, Skip::Cols] {
                let shares = [256, 1024, 4096, 16_384].map(|side| share(side, skip, class));
                assert!(shares.is_sorted(), "{shares:?}");
                assert!(
                    shares[0] < 1e-9 && (0.7..1.0).contains(&shares[3]),
                    "{shares:?}"
                );
            }
        }
    }

    #[test]
    fn the_nearest_shape_says_where_skipping_pays() {
        let tuning = Tuning::parse(TEXT).unwrap();
        let share = |rows| tuning.break_even(&columns(rows), DeviceClass::Gpu);
        for (rows, measured) in [(32, 0.25), (64, 0.25), (10_000, 0.75)] {
            assert!((share(rows) - measured).abs() < 1e-9, "{rows}");
        }
        let other = Problem {
            format: "w8g128".parse().unwrap(),
            ..columns(64)
        };
        let [tuned, untuned] =
            [&tuning, &Tuning::default()].map(|t| t.break_even(&other, DeviceClass::Gpu));
        assert!(
            (tuned - untuned).abs() < 1e-9,
            "another format says nothing"
        );
    }

    #[test]
    fn what_is_no_line_is_named_by_its_number() {
        for (line, text) in [
            (1, ""),
            (1, "lacuna tuning 2\n"),
            (2, "lacuna tuning 1\nnonsense"),
            (3, "lacuna tuning 1\n\nf16 4x4 batch = x"),
            (2, "lacuna tuning 1\nf16 4x4 batch 1 < 0.5"),
            (2, "lacuna tuning 1\nf16 4x4 batch 1, active rows < 1.5"),
            (2, "lacuna tuning 1\nf16 4x4 batch 1, active rows < NaN"),
            (2, "lacuna tuning 1\nf17 4x4 batch 1 = gemv/x"),
            (
                2,
                "lacuna tuning 1\nf16 4x99999999999999999999 batch 1 = gemv/x",
            ),
        ] {
            let Err(Error::Tuning { line: at, .. }) = Tuning::parse(text) else {
                panic!("{text:?} was taken");
            };
            assert_eq!(at, line, "{text:?}");
        }
    }
}
