//! Which channels are active, on the device.

use super::{Gpu, ReadBack, Tensor, check_dtype};
use crate::{
    error::{Error, Result},
    format::Dtype,
    kernel::compact,
};

/// Channels that products compute or read, filled on the device by
/// [`PlanBuilder::threshold`](crate::PlanBuilder::threshold); nothing is read back in between.
///
/// Cheap to clone: clones name the same memory.
#[derive(Debug, Clone)]
pub struct Active {
    pub(crate) kept: Tensor,
    pub(crate) list: Tensor,
}

impl Gpu {
    /// Room for `channels` channels of `batch` vectors.
    ///
    /// # Errors
    /// Those of [`Gpu::tensor`].
    pub fn active(&self, batch: usize, channels: usize) -> Result<Active> {
        let kept = self.tensor(batch, channels)?;
        Active::new(kept, self.tensor(1, compact::list_words(channels))?)
    }
}

impl Active {
    /// The same in tensors of the host's, which may lie in a buffer of its own: `kept` is `[batch, channels]`, `list`
    /// has [`list_words`](compact::list_words) elements, zeros until the first search.
    ///
    /// # Errors
    /// [`Error::Dtype`] for other elements than f32, [`Error::Shape`] for a list of another length.
    pub fn new(kept: Tensor, list: Tensor) -> Result<Self> {
        check_dtype("what is kept", kept.dtype(), Dtype::F32)?;
        check_dtype("a list of channels", list.dtype(), Dtype::F32)?;
        let (words, channels) = (list.batch() * list.len(), kept.len());
        Error::expect("words of a list", words, compact::list_words(channels))?;
        Ok(Self { kept, list })
    }

    /// What active channels hold, `[batch, channels]`; exactly zero where a vector does not keep one, by which
    /// some kernels find the active channels instead of by the list.
    pub const fn kept(&self) -> &Tensor {
        &self.kept
    }

    /// Channels that any vector keeps, ascending, in words:
    /// `| before[⌈channels / 16⌉ + 1] | tally[3] | padding to 4 words | channels |`, where
    /// `before[i]` is how many there are below channel `16 · i` and the last is their number. What
    /// follows the active channels is of no use.
    pub const fn list(&self) -> &Tensor {
        &self.list
    }

    /// Number of vectors.
    pub const fn batch(&self) -> usize {
        self.kept.batch()
    }

    /// Number of channels, active or not.
    pub const fn channels(&self) -> usize {
        self.kept.len()
    }

    /// The active channels, read back; for tests and reports.
    ///
    /// # Errors
    /// Those of [`ReadBack::new`]; [`Error::Shape`] for a list that was never filled.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn read_blocking(&self, gpu: &Gpu) -> Result<Vec<u32>> {
        let words = self.words(gpu)?;
        let head = compact::list_head(self.channels());
        let count = words[self.channels().div_ceil(16)] as usize;
        let found = words[head..].get(..count);
        found.map(<[u32]>::to_vec).ok_or(Error::Shape {
            what: "active channels",
            got: count,
            expected: self.channels(),
        })
    }

    /// How many channels were listed in all, and in how many searches, since the start or the
    /// last [`clear_tally`](Self::clear_tally).
    ///
    /// # Errors
    /// Those of [`ReadBack::new`], [`Error::DeviceLost`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn tally_blocking(&self, gpu: &Gpu) -> Result<(u64, u64)> {
        let words = self.words(gpu)?;
        let at = self.channels().div_ceil(16) + 1;
        let [low, high, searches] = [0, 1, 2].map(|i| u64::from(words[at + i]));
        Ok((high << 32 | low, searches))
    }

    /// Starts the tally again, and empties the list.
    ///
    /// # Errors
    /// [`Error::DeviceLost`].
    pub fn clear_tally(&self, gpu: &Gpu) -> Result<()> {
        self.list.write(gpu, &vec![0u32; self.list.len()])
    }

    #[cfg(not(target_arch = "wasm32"))]
    fn words(&self, gpu: &Gpu) -> Result<Vec<u32>> {
        let list = ReadBack::new(gpu, &self.list)?;
        let mut encoder = gpu.encoder();
        list.encode(&mut encoder);
        gpu.submit(encoder)?;
        list.read_blocking(gpu)
    }
}
