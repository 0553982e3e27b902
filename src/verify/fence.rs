//! Vectors between fences, which show that something was written beside them.

use crate::{
    error::{Error, Result},
    gpu::{Gpu, Tensor},
    kernel::Candidate,
};

/// Elements of a fence: what the strictest device aligns bindings to.
const FENCE: usize = 64;
/// What a fence is made of: a NaN that no arithmetic makes.
const POST: f32 = f32::from_bits(0x7fed_face);

pub(super) struct Fenced {
    /// Fence, vectors, fence.
    all: Tensor,
    pub(super) tensor: Tensor,
}

impl Fenced {
    /// Vectors `[batch, len]` of `data`.
    pub(super) fn new(gpu: &Gpu, batch: usize, len: usize, data: &[f32]) -> Result<Self> {
        let fence = [POST; FENCE];
        let all = [&fence, data, &fence].concat();
        let all = gpu.tensor_from(1, all.len(), &all)?;
        let tensor = all.view(gpu, FENCE, batch, len)?;
        Ok(Self { all, tensor })
    }

    /// The vectors, if the fences are as they were: `candidate` was to write between them.
    pub(super) fn read_blocking(&self, gpu: &Gpu, candidate: Candidate) -> Result<Vec<f32>> {
        let mut all: Vec<f32> = self.all.read_blocking(gpu)?;
        let behind = all.split_off(all.len() - FENCE);
        let vectors = all.split_off(FENCE);
        let broken = |fence: &[f32]| fence.iter().position(|v| v.to_bits() != POST.to_bits());
        let place = match (broken(&all), broken(&behind)) {
            (None, None) => return Ok(vectors),
            (Some(i), _) => format!("{} before the first", FENCE - i),
            (None, Some(i)) => format!("{} behind the last", i + 1),
        };
        Err(Error::Kernel {
            kernel: candidate.to_string(),
            message: format!("an element of y was written {place}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{FENCE, Fenced};
    use crate::{Gpu, kernel, verify::Case};

    #[test]
    fn a_broken_fence_is_told_by_its_place() {
        let Some(gpu) = Gpu::of_tests() else { return };
        let case = Case::new(1, 1, 1, "f32".parse().expect("a format"), false);
        let candidate = kernel::candidates(&case.problem, gpu.caps()).expect("one")[0];
        let vectors: Vec<f32> = (0u8..6).map(f32::from).collect();
        let fenced = Fenced::new(&gpu, 2, 3, &vectors).expect("room");
        let read = || fenced.read_blocking(&gpu, candidate);
        assert_eq!(read(), Ok(vectors.clone()));
        for (at, place) in [
            (FENCE - 1, "1 before the first"),
            (0, "64 before the first"),
            (FENCE + 6, "1 behind the last"),
            (FENCE + 6 + 63, "64 behind the last"),
        ] {
            let mut all: Vec<f32> = fenced.all.read_blocking(&gpu).expect("a device");
            let whole = all.clone();
            all[at] = 0.0;
            fenced.all.write(&gpu, &all).expect("a device");
            let told = read().expect_err("it is broken").to_string();
            assert!(told.contains(place), "{told}");
            fenced.all.write(&gpu, &whole).expect("a device");
        }
        assert_eq!(read(), Ok(vectors));
    }
}
