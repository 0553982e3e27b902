//! Counts checks. A failure is shown at once and repeated at the end.

#[derive(Default)]
pub struct Checks {
    passed: usize,
    failures: Vec<String>,
}

impl Checks {
    /// Records a check; `otherwise` gives the message of a failure.
    pub fn that(&mut self, holds: bool, otherwise: impl FnOnce() -> String) {
        if holds {
            self.passed += 1;
            return;
        }
        let failure = otherwise();
        eprintln!("CHECK FAILED: {failure}");
        self.failures.push(failure);
    }

    pub fn failures(&self) -> &[String] {
        &self.failures
    }

    pub fn verdict(&self) -> String {
        let (failed, all) = (self.failures.len(), self.passed + self.failures.len());
        if failed == 0 {
            format!("all {all} checks passed")
        } else {
            format!("{failed} of {all} checks FAILED")
        }
    }
}
