//! The checks of a run, in order: the candidates of each case in turn.

use super::{Case, cases, cases_of};
use crate::{
    caps::{Caps, DeviceClass},
    error::{Error, Result},
    format::Format,
    kernel::{self, Candidate, Config},
    reference::Reference,
};
use std::{
    collections::{BTreeSet, HashSet, VecDeque},
    sync::Arc,
};

/// Which checks are wanted. The default is all of them.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Leaves out the large and unusual shapes, and most repetitions of a candidate. Each case is checked with the
    /// candidate that plans take on this device, every third also with the one that they take on the other class of
    /// devices; any other configuration once with one vector and once with several. Compiling takes most of a run on
    /// software adapters, up to twenty seconds a shader.
    pub quick: bool,
    /// Names of kernels; empty for all.
    pub kernels: Vec<String>,
    /// Formats, with every value type where one names none; empty for those of the table.
    pub formats: Vec<Format>,
    /// Only candidates whose invocations share workgroup memory: those that a detector of races judges.
    pub sharing: bool,
}

/// A product and its truth.
#[derive(Debug)]
pub struct Known {
    /// The product.
    pub case: Case,
    /// What it must be.
    pub truth: Reference,
}

/// The checks that are left: cases, and the candidates of each that are legal on a device.
pub struct Checks {
    caps: Caps,
    filter: Filter,
    cases: Box<dyn Iterator<Item = Case> + Send>,
    known: Option<Arc<Known>>,
    waiting: VecDeque<Candidate>,
    /// Configurations that were legal so far, with one vector and with several.
    met: HashSet<(&'static str, Config, bool)>,
    /// Cases so far.
    pub count: usize,
}

impl Checks {
    /// All checks that pass `filter`, for a device with `caps`.
    ///
    /// # Errors
    /// Those of [`cases_of`], for formats that the table does not have.
    pub fn new(caps: &Caps, filter: Filter) -> Result<Self> {
        let wanted: Vec<String> = filter.formats.iter().map(ToString::to_string).collect();
        let mut others: Box<dyn Iterator<Item = Case> + Send> = Box::new(std::iter::empty());
        if !wanted.is_empty() {
            let names = cases(filter.quick).map(|case| case.problem.format.to_string());
            let formats: BTreeSet<String> = names.collect();
            for (&format, name) in filter.formats.iter().zip(&wanted) {
                if !formats.iter().any(|f| is_of(f, name)) {
                    others = Box::new(others.chain(cases_of(format, filter.quick)?));
                }
            }
        }
        let cases = cases(filter.quick).filter(move |case| {
            let format = case.problem.format.to_string();
            wanted.is_empty() || wanted.iter().any(|w| is_of(&format, w))
        });
        Ok(Self {
            caps: *caps,
            filter,
            cases: Box::new(cases.chain(others)),
            known: None,
            waiting: VecDeque::new(),
            met: HashSet::new(),
            count: 0,
        })
    }

    /// The next check; `skip` is called for candidates that are not legal on this device.
    ///
    /// # Errors
    /// Where a weight cannot be laid out on the device.
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
            let taken = self.taken(&case)?;
            for (candidate, legal) in case.survey(&self.caps)? {
                let name = candidate.kernel.name();
                if !self.filter.kernels.is_empty() && !self.filter.kernels.iter().any(|k| k == name)
                {
                    continue;
                }
                if legal.is_ok() && self.filter.sharing && !shares(&case, candidate, &self.caps) {
                    continue;
                }
                match legal {
                    Ok(()) if self.wants(&case, candidate, taken.contains(&Some(candidate))) => {
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

    /// What plans take for a case on this device and, if it is the turn of that, on the other class.
    fn taken(&self, case: &Case) -> Result<[Option<Candidate>; 2]> {
        let first = |class| {
            let caps = Caps { class, ..self.caps };
            let mut all = kernel::survey(&case.problem, &caps)?.into_iter();
            Ok(all.find(|(_, legal)| legal.is_ok()).map(|(c, _)| c))
        };
        let other = match self.caps.class {
            DeviceClass::Cpu => DeviceClass::Gpu,
            DeviceClass::Gpu => DeviceClass::Cpu,
        };
        let is_turn = self.count % 3 == 1;
        let other = if is_turn { first(other)? } else { None };
        Ok([first(self.caps.class)?, other])
    }

    fn wants(&mut self, case: &Case, candidate: Candidate, taken: bool) -> bool {
        let is_new = self.met.insert(configuration(case, candidate));
        is_new || taken || !self.filter.quick
    }
}

/// What a candidate is, and whether for several vectors, but not for how many.
fn configuration(case: &Case, candidate: Candidate) -> (&'static str, Config, bool) {
    let config = Config {
        batch: 0,
        ..candidate.config
    };
    (candidate.kernel.name(), config, case.problem.batch > 1)
}

/// Whether invocations of a candidate share workgroup memory, in the layout of either class of devices.
fn shares(case: &Case, candidate: Candidate, caps: &Caps) -> bool {
    [DeviceClass::Cpu, DeviceClass::Gpu].iter().any(|&class| {
        let caps = Caps { class, ..*caps };
        let parts = case.problem.parts(&caps);
        let launches = parts.and_then(|parts| candidate.lower(&case.problem, &parts, &caps));
        launches.is_ok_and(|all| all.iter().any(|launch| launch.workgroup_bytes > 0))
    })
}

/// Whether a format matches `wanted`, which may leave out the type of the values.
fn is_of(format: &str, wanted: &str) -> bool {
    format == wanted || format.split('@').next() == Some(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::caps::Subgroups;

    fn filter(quick: bool) -> Filter {
        Filter {
            quick,
            ..Filter::default()
        }
    }

    #[test]
    fn the_list_is_cut_to_kernels_that_it_has_and_to_any_formats() {
        // 7:9 is in no table.
        let wanted = Filter {
            kernels: ["gemv", "gemm_tiled"].map(String::from).into(),
            formats: ["2:4", "f32", "7:9@f16"].map(|f| f.parse().unwrap()).into(),
            ..filter(true)
        };
        let mut checks = Checks::new(&Caps::PORTABLE, wanted).unwrap();
        let mut seen = HashSet::new();
        while let Some((known, candidate)) = checks.next(|_, _| {}).unwrap() {
            let format = known.case.problem.format.to_string();
            seen.insert((candidate.kernel.name(), format));
        }
        let of = |kernel, format: &str| (kernel, format.to_owned());
        let expected =
            ["gemv", "gemm_tiled"].map(|k| ["f32", "2:4@f32", "7:9@f16"].map(|f| of(k, f)));
        assert_eq!(seen, expected.concat().into_iter().collect());
    }

    #[test]
    fn the_list_can_be_cut_to_what_shares_workgroup_memory() {
        let caps = Caps::PORTABLE;
        let mut all = HashSet::new();
        for case in cases(true) {
            for (candidate, legal) in case.survey(&caps).unwrap() {
                if legal.is_ok() && shares(&case, candidate, &caps) {
                    all.insert(configuration(&case, candidate));
                }
            }
        }
        let sharing = Filter {
            sharing: true,
            ..filter(true)
        };
        let mut checks = Checks::new(&caps, sharing).unwrap();
        let mut kept = HashSet::new();
        while let Some((known, candidate)) = checks.next(|_, _| {}).unwrap() {
            assert!(shares(&known.case, candidate, &caps));
            kept.insert(configuration(&known.case, candidate));
        }
        assert_eq!(kept, all);
    }

    #[test]
    fn the_quick_list_leaves_out_no_configuration_and_nothing_that_a_plan_takes() {
        for class in [DeviceClass::Cpu, DeviceClass::Gpu] {
            let caps = Caps {
                class,
                subgroups: Some(Subgroups { min: 8, max: 8 }),
                int64: true,
                max_invocations: 1024,
                ..Caps::PORTABLE
            };
            let (mut legal, mut taken) = (HashSet::new(), HashSet::new());
            for case in cases(true) {
                for (candidate, refused) in case.survey(&caps).unwrap() {
                    if refused.is_ok() {
                        legal.insert(configuration(&case, candidate));
                    }
                }
                if let Ok(own) = kernel::candidates(&case.problem, &caps) {
                    taken.insert(format!("{} {}", case.problem, own[0]));
                }
            }
            let (mut checked, mut products) = (HashSet::new(), HashSet::new());
            let mut checks = Checks::new(&caps, filter(true)).unwrap();
            while let Some((known, candidate)) = checks.next(|_, _| {}).unwrap() {
                checked.insert(configuration(&known.case, candidate));
                products.insert(format!("{} {candidate}", known.case.problem));
            }
            assert_eq!(checked, legal);
            assert!(products.is_superset(&taken), "{class:?}");
        }
    }
}
