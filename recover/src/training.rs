//! The loop of both stages: steps, looks at the windows that are held out, the best kept.

use crate::{
    adam::schedule,
    error::{Error, Result},
    job::{Listener, Options, Progress, Training},
    trainable::Rates,
};
use std::ops::ControlFlow;

/// What is trained.
pub(crate) trait Trainee {
    /// What is kept where it is the best.
    type Parameters;

    /// Step number `done`; the loss before it.
    fn step(&mut self, done: usize, rates: &Rates) -> Result<f64>;

    /// The loss on the windows that are held out.
    fn judge(&self) -> Result<f64>;

    fn parameters(&self) -> Self::Parameters;

    /// Stores how far it is, where it can.
    fn store(&self, _run: &Run<Self::Parameters>) -> Result<()> {
        Ok(())
    }
}

/// How far a training is.
#[derive(Debug)]
pub(crate) struct Run<P> {
    /// Steps done.
    pub done: usize,
    /// The loss on the held-out windows before the first.
    pub start: f64,
    /// The least one since.
    pub best: f64,
    /// The parameters that had it.
    pub parameters: P,
}

impl<P> Run<P> {
    /// Before the first step.
    pub fn new<T: Trainee<Parameters = P>>(trainee: &T) -> Result<Self> {
        let start = trainee.judge()?;
        Ok(Self {
            done: 0,
            start,
            best: start,
            parameters: trainee.parameters(),
        })
    }

    /// Goes on to the last step; the parameters that were the best. `block` is for reports.
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
                // Not where it is no number.
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
