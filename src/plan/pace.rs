//! A plan in several submissions: operating systems take a device that works on one for seconds
//! for hung, and reset it.

use super::Plan;
use crate::error::Result;
use std::{
    ops::Range,
    sync::PoisonError,
    time::{Duration, Instant},
};

/// Runs that are measured: in the first one drivers may still compile.
const MEASURED: usize = 2;

/// What launches took when each was a submission by itself.
#[derive(Default)]
pub(super) struct Pace {
    runs: usize,
    took: Vec<Duration>,
}

impl Plan {
    /// Runs the plan in submissions that take `budget` at most, by what each launch took in the
    /// first two runs, which submit them one by one and wait.
    ///
    /// Launches are not cut: one that takes longer is a submission by itself, and a warning says
    /// so. Fewer vectors then help.
    ///
    /// # Errors
    /// Those of [`run`](Self::run), and in the first two runs of [`Gpu::wait`](crate::Gpu::wait).
    pub fn run_within(&self, budget: Duration) -> Result<()> {
        self.gpu.alive()?;
        let mut pace = self.pace.lock().unwrap_or_else(PoisonError::into_inner);
        if pace.runs < MEASURED {
            let took = self.measure()?;
            if pace.runs == 0 {
                pace.took = took;
            } else {
                let both = pace.took.iter_mut().zip(took);
                both.for_each(|(least, again)| *least = again.min(*least));
            }
            pace.runs += 1;
            if pace.runs == MEASURED {
                self.warn(&pace.took, budget);
            }
            return Ok(());
        }
        for piece in pieces(&pace.took, budget) {
            self.submit(piece)?;
        }
        Ok(())
    }

    fn submit(&self, launches: Range<usize>) -> Result<()> {
        let mut encoder = self.gpu.encoder();
        self.record(&mut encoder, launches, None);
        self.gpu.submit(encoder)
    }

    /// Runs every launch by itself, and returns what each took.
    fn measure(&self) -> Result<Vec<Duration>> {
        self.gpu.wait()?;
        let launch = |i| {
            let begin = Instant::now();
            self.submit(i..i + 1)?;
            self.gpu.wait()?;
            Ok(begin.elapsed())
        };
        (0..self.launches.len()).map(launch).collect()
    }

    fn warn(&self, took: &[Duration], budget: Duration) {
        let slowest = self.steps().zip(took).max_by_key(|(_, took)| **took);
        if let Some((step, took)) = slowest
            && *took > budget
        {
            log::warn!(
                "{} takes {took:?}, longer than the {budget:?} that a submission may",
                step.name
            );
        }
    }
}

/// Cuts launches into as few runs as take `budget` each, or are one launch.
fn pieces(took: &[Duration], budget: Duration) -> Vec<Range<usize>> {
    let mut pieces: Vec<Range<usize>> = vec![];
    let mut sum = Duration::ZERO;
    for (i, &launch) in took.iter().enumerate() {
        match pieces.last_mut() {
            Some(piece) if sum + launch <= budget => {
                piece.end = i + 1;
                sum += launch;
            }
            _ => {
                pieces.push(i..i + 1);
                sum = launch;
            }
        }
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::pieces;
    use std::time::Duration;

    #[test]
    fn submissions_keep_to_the_budget_where_launches_do() {
        let ms = Duration::from_millis;
        let cut = |took: &[u64], budget| {
            let took: Vec<_> = took.iter().map(|&t| ms(t)).collect();
            let pieces = pieces(&took, ms(budget));
            pieces.into_iter().map(|p| p.len()).collect::<Vec<_>>()
        };
        assert_eq!(cut(&[], 50), Vec::<usize>::new());
        assert_eq!(cut(&[10, 20, 20, 1, 49, 2], 50), [3, 2, 1]);
        assert_eq!(cut(&[10, 90, 10, 40], 50), [1, 1, 2]);
        assert_eq!(cut(&[0, 0, 0], 0), [3]);
        // Half a minute of work.
        let pieces = cut(&vec![7; 4286], 50);
        assert!(pieces.iter().all(|&launches| 7 * launches <= 50));
        assert_eq!(pieces.iter().sum::<usize>(), 4286);
    }
}
