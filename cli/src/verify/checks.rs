//! The checks of a run, in order: the candidates of each case in turn.

use super::Args;
use crate::error::{Error as Failure, Result};
use lacuna::{
    Caps, Error,
    caps::DeviceClass,
    kernel::{self, Candidate, Config, KERNELS},
    reference::Reference,
    verify::{Case, cases, cases_of},
};
use std::{
    collections::{BTreeSet, HashMap, HashSet, VecDeque},
    sync::Arc,
};

/// The quick list checks a configuration only at the first case where it is legal, and one that plans
/// choose on this device also at every third such case after it. Compiling takes most of a run on
/// software adapters, up to ten seconds per shader.
const EVERY: usize = 3;

/// A product and its truth.
pub struct Known {
    pub case: Case,
    pub truth: Reference,
}

pub struct Checks {
    caps: Caps,
    quick: bool,
    /// Names of the kernels to check; empty for all.
    kernels: Vec<String>,
    /// Whether to leave out what shares no workgroup memory.
    sharing: bool,
    cases: Box<dyn Iterator<Item = Case> + Send>,
    known: Option<Arc<Known>>,
    waiting: VecDeque<Candidate>,
    /// How often a configuration, whatever its batch, was legal so far.
    met: HashMap<(&'static str, Config), usize>,
    /// Cases so far.
    pub count: usize,
}

impl Checks {
    /// # Errors
    /// If `args` name an unknown kernel.
    pub fn new(caps: &Caps, args: &Args) -> Result<Self> {
        let kernels = KERNELS.iter().map(|k| k.name().to_owned());
        let kernels: Vec<String> = kernels.collect();
        if let Some(name) = args.kernel.iter().find(|&name| !kernels.contains(name)) {
            let known = kernels.join(", ");
            return Err(Failure::Usage(format!(
                "no kernel is called {name:?}: there are {known}"
            )));
        }
        let wanted: Vec<String> = args.format.iter().map(ToString::to_string).collect();
        let mut others: Box<dyn Iterator<Item = Case> + Send> = Box::new(std::iter::empty());
        if !wanted.is_empty() {
            let names = cases(args.quick).map(|case| case.problem.format.to_string());
            let formats: BTreeSet<String> = names.collect();
            for (&format, name) in args.format.iter().zip(&wanted) {
                if !formats.iter().any(|f| is_of(f, name)) {
                    others = Box::new(others.chain(cases_of(format, args.quick)?));
                }
            }
        }
        let cases = cases(args.quick).filter(move |case| {
            let format = case.problem.format.to_string();
            wanted.is_empty() || wanted.iter().any(|w| is_of(&format, w))
        });
        Ok(Self {
            caps: *caps,
            quick: args.quick,
            kernels: args.kernel.clone(),
            sharing: args.sharing,
            cases: Box::new(cases.chain(others)),
            known: None,
            waiting: VecDeque::new(),
            met: HashMap::new(),
            count: 0,
        })
    }

    /// The next check; `skip` is called for candidates that are not legal on this device.
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
                let name = candidate.kernel.name();
                if !self.kernels.is_empty() && !self.kernels.iter().any(|k| k == name) {
                    continue;
                }
                if legal.is_ok() && self.sharing && !shares(&case, candidate, &self.caps) {
                    continue;
                }
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
    use lacuna::caps::Subgroups;

    fn args(quick: bool) -> Args {
        Args {
            quick,
            kernel: vec![],
            format: vec![],
            sharing: false,
            json: false,
        }
    }

    #[test]
    fn the_list_is_cut_to_kernels_that_it_has_and_to_any_formats() {
        let args = |kernel: &str, format: &str| Args {
            kernel: kernel
                .split(',')
                .filter(|k| !k.is_empty())
                .map(String::from)
                .collect(),
            format: format.split(',').map(|f| f.parse().unwrap()).collect(),
            ..args(true)
        };
        // 7:9 is in no table.
        let wanted = args("gemv,gemm_tiled", "2:4,f32,7:9@f16");
        let mut checks = Checks::new(&Caps::PORTABLE, &wanted).unwrap();
        let mut seen = HashSet::new();
        while let Some((known, candidate)) = checks.next(|_, _| {}).unwrap() {
            let format = known.case.problem.format.to_string();
            seen.insert((candidate.kernel.name(), format));
        }
        let of = |kernel, format: &str| (kernel, format.to_owned());
        let expected =
            ["gemv", "gemm_tiled"].map(|k| ["f32", "2:4@f32", "7:9@f16"].map(|f| of(k, f)));
        assert_eq!(seen, expected.concat().into_iter().collect());
        assert!(matches!(
            Checks::new(&Caps::PORTABLE, &args("gemx", "f32")),
            Err(Failure::Usage(_))
        ));
    }

    #[test]
    fn the_list_can_be_cut_to_what_shares_workgroup_memory() {
        let caps = Caps::PORTABLE;
        let name = |c: Candidate| {
            (
                c.kernel.name(),
                Config {
                    batch: 0,
                    ..c.config
                },
            )
        };
        let mut all = HashSet::new();
        for case in cases(true) {
            for (candidate, legal) in case.survey(&caps).unwrap() {
                if legal.is_ok() && shares(&case, candidate, &caps) {
                    all.insert(name(candidate));
                }
            }
        }
        let sharing = Args {
            sharing: true,
            ..args(true)
        };
        let mut checks = Checks::new(&caps, &sharing).unwrap();
        let mut kept = HashSet::new();
        while let Some((known, candidate)) = checks.next(|_, _| {}).unwrap() {
            assert!(shares(&known.case, candidate, &caps));
            kept.insert(name(candidate));
        }
        assert_eq!(kept, all);
    }

    /// How often each kernel and configuration, whatever its batch, was checked.
    fn checked(caps: &Caps, quick: bool) -> HashMap<(&'static str, Config), usize> {
        let mut checks = Checks::new(caps, &args(quick)).unwrap();
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
