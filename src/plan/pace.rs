//! Running a plan in several submissions: operating systems take a device for hung, and reset it, if it works on
//! one submission for seconds.

use super::{
    Plan,
    launch::{self, Launch, Step},
};
use crate::{
    error::Result,
    kernel::{self, MOST_LAUNCHES},
};
use std::{
    collections::BTreeMap,
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
    /// The pieces of each launch that takes longer than this budget.
    cut: Option<(Duration, BTreeMap<usize, Vec<Launch>>)>,
}

impl Pace {
    /// Forgets pieces, which are bound to what their launches were bound to.
    pub fn unbind(&mut self) {
        self.cut = None;
    }
}

impl Plan {
    /// Runs the plan in submissions that take at most `budget` each, judged by what each launch took in the first
    /// two runs; those submit the launches one by one, and wait.
    ///
    /// From the third run on, launches that take longer are cut between their workgroups. A launch of few
    /// workgroups may still take longer, and so may one whose shader, a host's, does not take its place in the
    /// launch from `group` and `groups` as the engine's do; a warning says so.
    ///
    /// # Errors
    /// Those of [`run`](Self::run), in the first two runs of [`Gpu::wait`](crate::Gpu::wait), in the
    /// third of [`PlanBuilder::build`](crate::PlanBuilder::build).
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
            return Ok(());
        }
        let submissions = self.submissions(&mut pace, budget)?;
        let _turn = self.workspace.turn();
        submissions
            .iter()
            .try_for_each(|launches| self.submit(launches))
    }

    /// What is submitted together.
    fn submissions<'a>(
        &'a self,
        pace: &'a mut Pace,
        budget: Duration,
    ) -> Result<Vec<Vec<&'a Launch>>> {
        let Pace { took, cut, .. } = pace;
        if cut.as_ref().is_none_or(|(cut_for, _)| *cut_for != budget) {
            *cut = None;
        }
        let cut = match cut {
            Some((_, cut)) => cut,
            none => &none.insert((budget, self.cut(took, budget)?)).1,
        };
        let (launches, took): (Vec<_>, Vec<_>) = self
            .launches
            .iter()
            .zip(took)
            .enumerate()
            .flat_map(|(i, (launch, took))| {
                let pieces = cut
                    .get(&i)
                    .map_or(std::slice::from_ref(launch), Vec::as_slice);
                let each = *took / pieces.len() as u32;
                pieces.iter().map(move |piece| (piece, each))
            })
            .unzip();
        let runs = pieces(&took, budget).into_iter();
        Ok(runs.map(|run| launches[run].to_vec()).collect())
    }

    fn submit(&self, launches: &[&Launch]) -> Result<()> {
        let mut encoder = self.gpu.encoder();
        Self::record(&mut encoder, launches.iter().copied(), None);
        self.gpu.submit(encoder)?;
        Ok(())
    }

    /// Runs every launch by itself, and returns what each took.
    fn measure(&self) -> Result<Vec<Duration>> {
        let _turn = self.workspace.turn();
        self.gpu.wait()?;
        let launch = |launch| {
            let begin = Instant::now();
            self.submit(&[launch])?;
            self.gpu.wait()?;
            Ok(begin.elapsed())
        };
        self.launches.iter().map(launch).collect()
    }

    /// The launches that took longer than `budget`, each in pieces that take three quarters of it
    /// if all workgroups take the same.
    fn cut(&self, took: &[Duration], budget: Duration) -> Result<BTreeMap<usize, Vec<Launch>>> {
        let mut cut = BTreeMap::new();
        let mut left = MOST_LAUNCHES;
        for (i, (launch, took)) in self.launches.iter().zip(took).enumerate() {
            if *took <= budget {
                continue;
            }
            let name = &launch.step.dispatch.name;
            let count = (took.as_secs_f64() / (0.75 * budget.as_secs_f64())).ceil();
            // A budget of nothing asks for infinitely many.
            let count = count.min(f64::from(u32::MAX)) as u32;
            let Some(pieces) = kernel::cut(&launch.step.dispatch, count.min(left as u32)) else {
                log::warn!(
                    "{name} takes {took:?} of the {budget:?} of a submission, and cannot be cut"
                );
                continue;
            };
            if pieces.len() < count as usize {
                let most = pieces.len();
                log::warn!(
                    "{name} takes {took:?} of the {budget:?} of a submission, and is cut into {most} pieces of {count}: \
                     it has no more workgroups along its longest side, or a plan no more launches"
                );
            }
            left = left.saturating_sub(pieces.len());
            let Step { tensors, parts, .. } = &launch.step;
            let step = |dispatch| Step::new(dispatch, tensors.clone(), parts.clone());
            let steps = pieces.into_iter().map(step).collect();
            let (_, pieces) = launch::launches(&self.gpu, steps, &self.workspace.scratch)?;
            cut.insert(i, pieces);
        }
        Ok(cut)
    }
}

/// Groups launches into as few runs as possible that take at most `budget` each, or are one launch.
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
    use super::{MEASURED, pieces};
    use crate::{Gpu, PlanBuilder, compress, format::Dense};
    use std::time::{Duration, Instant};

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

    /// The longest of the submissions of a plan of one long launch and some short ones: of each, the
    /// least of `runs` runs, because other programs work on this machine too.
    fn longest(
        gpu: &Gpu,
        budget: impl Fn(Duration) -> Duration,
        runs: usize,
    ) -> (Duration, Duration) {
        let dense = Dense::from_f32(1024, 1024, vec![0.5; 1024 * 1024]).unwrap();
        let weight = compress::compress(&dense, "f32".parse().unwrap()).unwrap();
        let weight = gpu.upload(&weight).unwrap();
        let x = gpu.tensor(512, 1024).unwrap();
        let y = gpu.tensor(512, 1024).unwrap();
        let [first, other] = [(); 2].map(|()| gpu.tensor(1, 1024).unwrap());
        let mut builder = PlanBuilder::new(gpu);
        builder.linear(&weight, &x, None, &y).unwrap();
        for _ in 0..8 {
            builder.linear(&weight, &first, None, &other).unwrap();
        }
        let plan = builder.build().unwrap();
        for _ in 0..MEASURED {
            plan.run_within(Duration::MAX).unwrap();
        }
        let mut pace = plan.pace.lock().unwrap();
        let budget = budget(*pace.took.iter().max().unwrap());
        let submissions = plan.submissions(&mut pace, budget).unwrap();
        assert!(submissions.len() > 1);
        let mut least = vec![Duration::MAX; submissions.len()];
        for _ in 0..runs {
            for (submission, least) in submissions.iter().zip(&mut least) {
                let begin = Instant::now();
                plan.submit(submission).unwrap();
                gpu.wait().unwrap();
                *least = begin.elapsed().min(*least);
            }
        }
        (least.into_iter().max().unwrap(), budget)
    }

    #[test]
    fn a_launch_that_takes_eight_times_the_budget_is_cut_to_it() {
        let Some(gpu) = Gpu::of_tests() else { return };
        let (took, budget) = longest(&gpu, |launch| launch / 8, 5);
        assert!(took <= 2 * budget, "{took:?} of {budget:?}");
    }

    #[test]
    #[ignore = "half a minute of work on a machine with nothing else to do"]
    fn half_a_minute_of_work_never_exceeds_twice_the_budget() {
        let Some(gpu) = Gpu::of_tests() else { return };
        let until = Instant::now() + Duration::from_secs(30);
        while Instant::now() < until {
            // The least of three: what the operating system does in between is not our work.
            let (took, budget) = longest(
                &gpu,
                |launch| (launch / 2).min(Duration::from_millis(50)),
                3,
            );
            assert!(took <= 2 * budget, "{took:?} of {budget:?}");
        }
    }
}
