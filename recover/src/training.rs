//! The training loop of both stages: steps, checks on the held-out windows, and the best parameters kept.

use crate::{
    adam::schedule,
    error::{Error, Result},
    job::{Listener, Options, Progress, Training},
    trainable::Rates,
};
use std::ops::ControlFlow;

/// What is trained.
pub(crate) trait Trainee {
    /// What is kept of the best check.
    type Parameters;

    /// Takes step number `done` and returns the loss before it.
    fn step(&mut self, done: usize, rates: &Rates) -> Result<f64>;

    /// The loss on the held-out windows.
    fn judge(&self) -> Result<f64>;

    fn parameters(&self) -> Self::Parameters;

    /// Stores the state of the run, if the stage can resume from it.
    fn store(&self, _run: &Run<Self::Parameters>) -> Result<()> {
        Ok(())
    }
}

/// How far a training has come.
#[derive(Debug)]
pub(crate) struct Run<P> {
    /// Steps done.
    pub done: usize,
    /// The loss on the held-out windows before the first step.
    pub start: f64,
    /// The least such loss so far.
    pub best: f64,
    /// The parameters that had it.
    pub parameters: P,
}

impl<P> Run<P> {
    /// A run before its first step.
    pub fn new<T: Trainee<Parameters = P>>(trainee: &T) -> Result<Self> {
        let start = trainee.judge()?;
        Ok(Self {
            done: 0,
            start,
            best: start,
            parameters: trainee.parameters(),
        })
    }

    /// Trains up to the last step and returns the best parameters. `block` is for reports.
    pub fn finish<T: Trainee<Parameters = P>>(
        mut self,
        trainee: &mut T,
        training: &Training,
        options: &Options,
        block: Option<(usize, usize)>,
        listener: &mut Listener,
    ) -> Result<P> {
        while self.done < training.steps {
            let share = schedule(self.done, training.steps);
            let loss = trainee.step(self.done, &training.rates.times(share))?;
            self.done += 1;
            if self.done % options.check == 0 || self.done == training.steps {
                let judged = trainee.judge()?;
                // False for NaN, which is never the best.
                if judged < self.best {
                    (self.best, self.parameters) = (judged, trainee.parameters());
                }
                trainee.store(&self)?;
            }
            let heard = listener(&Progress {
                block,
                steps: (self.done, training.steps),
                loss,
                start: self.start,
                best: self.best,
            });
            if let ControlFlow::Break(()) = heard {
                return Err(Error::Cancelled);
            }
        }
        Ok(self.parameters)
    }
}
