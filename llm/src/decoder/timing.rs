//! Times a token on the device.

use super::{Decoder, Stage};
use crate::error::{Error, Result};
use lacuna::{Plan, gpu::Timestamps, wgpu::CommandEncoder};
use std::time::Duration;

impl Decoder {
    /// Takes the sampled token as [`next_token`](Self::next_token) would, with a timed pass for each
    /// launch. Returns the names and durations of the launches, in order: those of the layers, of the
    /// head, and of the choice of a token.
    ///
    /// # Errors
    /// [`Error::Empty`] where no token was sampled, what [`next_token`](Self::next_token) gives,
    /// and the engine's where the device cannot time passes.
    pub fn profile(&mut self) -> Result<[Vec<(String, Duration)>; 3]> {
        // The step that is timed, not the next.
        let position = self.position;
        let times = self.timed(|plan| plan.steps().len(), Plan::encode_timed)?;
        let names = [self.step.at(position), &self.head, &self.sample].map(Plan::steps);
        let mut of_launches = [vec![], vec![], vec![]];
        for ((launches, names), times) in of_launches.iter_mut().zip(names).zip(times) {
            launches.extend(names.map(|d| d.name.clone()).zip(times));
        }
        Ok(of_launches)
    }

    /// Takes the sampled token as [`next_token`](Self::next_token) would. Returns the times on the device
    /// of the layers, of the head, and of the choice of a token, each as one pass.
    ///
    /// # Errors
    /// Those of [`profile`](Self::profile).
    pub fn spans(&mut self) -> Result<[Duration; 3]> {
        let times = self.timed(|_| 1, Plan::encode_span)?;
        Ok(times.map(|passes| passes.iter().sum()))
    }

    /// Takes the sampled token and returns the times of the passes that `encode` records for each plan.
    fn timed(
        &mut self,
        passes: impl Fn(&Plan) -> usize,
        encode: impl Fn(&Plan, &mut CommandEncoder, &Timestamps) -> lacuna::Result<()>,
    ) -> Result<[Vec<Duration>; 3]> {
        if self.stage != Stage::Sampled {
            return Err(Error::Empty);
        }
        self.check_room()?;
        self.go_back()?;
        let gpu = self.model.gpu();
        let mut times = [vec![], vec![], vec![]];
        for (plan, times) in [self.step.at(self.position), &self.head, &self.sample]
            .into_iter()
            .zip(&mut times)
        {
            let timestamps = gpu.timestamps(passes(plan))?;
            let mut encoder = gpu.encoder();
            encode(plan, &mut encoder, &timestamps)?;
            timestamps.resolve(&mut encoder);
            gpu.submit(encoder)?;
            let spans = timestamps.read_blocking(gpu)?.into_iter();
            times.extend(spans.map(|(begin, end)| end.saturating_sub(begin)));
        }
        self.position += 1;
        self.steps += 1;
        Ok(times)
    }
}
