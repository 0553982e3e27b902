//! The checks of a run, in order: candidates of case after case.

use crate::error::Result;
use lacuna::{
    Caps, Error,
    kernel::{self, Candidate, Config},
    reference::Reference,
    verify::{Case, cases},
};
use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
};

/// The quick list checks a configuration where it is first legal, and those that plans choose here
/// also at every third case after it: software adapters compile for most of a run, up to ten
/// seconds a shader.
const EVERY: usize = 3;

/// A product and its truth.
pub struct Known {
    pub case: Case,
    pub truth: Reference,
}

pub struct Checks {
    caps: Caps,
    quick: bool,
    cases: Box<dyn Iterator<Item = Case> + Send>,
    known: Option<Arc<Known>>,
    waiting: VecDeque<Candidate>,
    /// How often a configuration, whatever its batch, was legal so far.
    met: HashMap<(&'static str, Config), usize>,
    /// Cases so far.
    pub count: usize,
}

impl Checks {
    pub fn new(caps: &Caps, quick: bool) -> Self {
        Self {
            caps: *caps,
            quick,
            cases: Box::new(cases(quick)),
            known: None,
            waiting: VecDeque::new(),
            met: HashMap::new(),
            count: 0,
        }
    }

    /// The next check; `skip` hears of candidates that are not legal here.
    pub fn next(
        &mut self,
        mut skip: impl FnMut(Candidate, Error),
    ) -> Result<Option<(Arc<Known>, Candidate)>> {
        loop {
            if let (Some(known), Some(candidate)) = (&self.known, self.waiting.pop_front()) {
                return Ok(Some((known.clone(), candidate)));
            }
            let Some(case) = self.cases.next() else {
                return Ok(None);
            };
            self.count += 1;
            let own = kernel::survey(&case.problem, &self.caps)?;
            let own: HashSet<String> = own.iter().map(|(c, _)| c.to_string()).collect();
            for (candidate, legal) in case.survey(&self.caps)? {
                match legal {
                    Ok(()) if self.wants(&candidate, own.contains(&candidate.to_string())) => {
                        self.waiting.push_back(candidate);
                    }
                    Ok(()) => {}
                    Err(why) => skip(candidate, why),
                }
            }
            let truth = case.reference()?;
            self.known = Some(Arc::new(Known { case, truth }));
        }
    }

    /// Ends the list.
    pub fn stop(&mut self) {
        self.cases = Box::new(std::iter::empty());
        self.waiting.clear();
    }

    fn wants(&mut self, candidate: &Candidate, own: bool) -> bool {
        let config = Config {
            batch: 0,
            ..candidate.config
        };
        let met = self
            .met
            .entry((candidate.kernel.name(), config))
            .or_default();
        *met += 1;
        !self.quick || *met == 1 || own && *met % EVERY == 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lacuna::caps::{DeviceClass, Subgroups};

    /// Kernels and configurations, whatever the batch, and how often each was checked.
    fn checked(caps: &Caps, quick: bool) -> HashMap<(&'static str, Config), usize> {
        let mut checks = Checks::new(caps, quick);
        let mut count = HashMap::new();
        while let Some((_, candidate)) = checks.next(|_, _| {}).unwrap() {
            let config = Config {
                batch: 0,
                ..candidate.config
            };
            *count.entry((candidate.kernel.name(), config)).or_default() += 1;
        }
        count
    }

    #[test]
    fn the_quick_list_leaves_no_legal_configuration_of_its_cases_out() {
        for class in [DeviceClass::Cpu, DeviceClass::Gpu] {
            let caps = Caps {
                class,
                subgroups: Some(Subgroups { min: 8, max: 8 }),
                int64: true,
                max_invocations: 1024,
                ..Caps::PORTABLE
            };
            let mut all = HashSet::new();
            for case in cases(true) {
                for (candidate, legal) in case.survey(&caps).unwrap() {
                    if legal.is_ok() {
                        all.insert((candidate.kernel.name(), candidate.config));
                    }
                }
            }
            let quick = checked(&caps, true);
            for (kernel, config) in all {
                let config = Config { batch: 0, ..config };
                assert!(quick.contains_key(&(kernel, config)), "{kernel}/{config}");
            }
        }
    }
}
