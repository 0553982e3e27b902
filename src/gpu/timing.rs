//! Timing on the device.

use super::{Gpu, read};
use crate::error::{Error, Result};
use std::time::Duration;

/// Timestamps at the boundaries of passes: query `2i` begins pass `i`, `2i + 1` ends it.
#[derive(Debug)]
pub struct Timestamps {
    queries: wgpu::QuerySet,
    resolved: wgpu::Buffer,
    passes: u32,
}

impl Gpu {
    /// Room for the times of `passes` passes.
    ///
    /// # Errors
    /// [`Error::MissingFeature`] where the device cannot time passes, [`Error::Limit`] past
    /// the 4096 queries of a set.
    pub fn timestamps(&self, passes: usize) -> Result<Timestamps> {
        if !self.caps().timestamps {
            return Err(Error::MissingFeature {
                feature: "TIMESTAMP_QUERY",
                needed_by: "timing on the device".into(),
            });
        }
        let limit = u64::from(wgpu::QUERY_SET_MAX_QUERIES / 2);
        if passes as u64 > limit {
            return Err(Error::Limit {
                what: "timed passes",
                value: passes as u64,
                limit,
            });
        }
        let passes = passes.max(1) as u32;
        let usage = wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC;
        let resolved = self.buffer("timestamps", u64::from(passes) * 16, usage, None)?;
        let queries = self.scoped("timestamps", u64::from(passes) * 16, || {
            self.device().create_query_set(&wgpu::QuerySetDescriptor {
                label: Some("timestamps"),
                ty: wgpu::QueryType::Timestamp,
                count: passes * 2,
            })
        })?;
        Ok(Timestamps {
            queries,
            resolved,
            passes,
        })
    }
}

impl Timestamps {
    /// Passes that can be timed.
    pub const fn passes(&self) -> usize {
        self.passes as usize
    }

    /// What pass `pass` must be begun with.
    pub(crate) fn writes(&self, pass: usize) -> wgpu::ComputePassTimestampWrites<'_> {
        wgpu::ComputePassTimestampWrites {
            query_set: &self.queries,
            beginning_of_pass_write_index: Some(2 * pass as u32),
            end_of_pass_write_index: Some(2 * pass as u32 + 1),
        }
    }

    /// Records the copy out of the query set; call it after the last timed pass.
    pub fn resolve(&self, encoder: &mut wgpu::CommandEncoder) {
        encoder.resolve_query_set(&self.queries, 0..self.passes * 2, &self.resolved, 0);
    }

    /// Begin and end of each pass, counted from the first one's begin, after the work was submitted.
    ///
    /// # Errors
    /// [`Error::Gpu`] where the device's clock ran backwards, [`Error::DeviceLost`], [`Error::Timeout`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn read_blocking(&self, gpu: &Gpu) -> Result<Vec<(Duration, Duration)>> {
        let bytes = u64::from(self.passes) * 16;
        let (staging, mapped) = read::start(gpu, &self.resolved, 0, bytes)?;
        gpu.wait()?;
        let ticks: Vec<u64> = read::finish_read(gpu, &staging, &pollster::block_on(mapped), bytes)?;
        passes(&ticks, f64::from(gpu.queue().get_timestamp_period()))
    }
}

/// Begin and end of each pass from its ticks of `period` nanoseconds.
fn passes(ticks: &[u64], period: f64) -> Result<Vec<(Duration, Duration)>> {
    let at = |tick: u64| {
        tick.checked_sub(ticks[0])
            .map(|t| Duration::from_nanos((t as f64 * period) as u64))
    };
    let pass = |pair: &[u64]| {
        at(pair[0])
            .zip(at(pair[1]))
            .filter(|(begin, end)| begin <= end)
    };
    let passes = ticks.chunks_exact(2).map(pass).collect::<Option<_>>();
    passes.ok_or(Error::Gpu {
        what: "timestamps",
        message: "the device's clock ran backwards".into(),
    })
}

#[cfg(test)]
mod tests {
    use super::passes;
    use std::time::Duration;

    #[test]
    fn clocks_that_stand_still_or_run_backwards_are_known() {
        let of = |begin, end| (Duration::from_nanos(begin), Duration::from_nanos(end));
        assert_eq!(passes(&[0; 4], 1.0), Ok(vec![of(0, 0); 2]));
        // Steps of 65.5 µs.
        assert_eq!(
            passes(&[7, 8, 8, 8], 65_536.0),
            Ok(vec![of(0, 65_536), of(65_536, 65_536)])
        );
        for backwards in [[5, 4, 6, 7], [5, 6, 7, 6], [5, 6, 4, 7]] {
            let refused = passes(&backwards, 1.0).unwrap_err().to_string();
            assert!(refused.contains("backwards"), "{refused}");
        }
    }
}
