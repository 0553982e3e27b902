//! Tensors of 16 bits an element in products, which take and give f32: x is widened in front, y narrowed behind,
//! in memory of the plan's own.

use super::{builder::PlanBuilder, launch::Step};
use crate::{error::Result, format::Dtype, gpu::Tensor, kernel::convert};

/// f32 copies of tensors of 16 bits an element, one for each use and shape: successive products use the same.
#[derive(Debug, Default)]
pub(super) struct Wide {
    x: Vec<Room>,
    y: Vec<Room>,
}

/// f32 for vectors of one shape.
#[derive(Debug, Clone)]
struct Room {
    /// Whole quads, which conversions move.
    quads: Tensor,
    /// The vectors, which products see.
    vectors: Tensor,
}

impl PlanBuilder {
    /// `x` as f32: itself, or what a launch in front makes of it.
    pub(super) fn widened(&mut self, x: &Tensor) -> Result<Tensor> {
        if x.dtype() == Dtype::F32 {
            return Ok(x.clone());
        }
        let room = self.room(|wide| &mut wide.x, x)?;
        let elements = x.batch() * x.len();
        let dispatch = convert::widen(x.dtype(), elements, self.gpu.caps());
        let tensors = vec![x.clone(), room.quads];
        self.step(Step::preparing(dispatch, tensors))?;
        Ok(room.vectors)
    }

    /// Where a product leaves its sums: in `y` itself, or where [`narrowed`](Self::narrowed) finds them.
    pub(super) fn sums_of(&mut self, y: &Tensor) -> Result<Tensor> {
        if y.dtype() == Dtype::F32 {
            return Ok(y.clone());
        }
        Ok(self.room(|wide| &mut wide.y, y)?.vectors)
    }

    /// Rounds a product's sums to `y`, unless they are there already.
    pub(super) fn narrowed(&mut self, y: &Tensor) -> Result<()> {
        if y.dtype() != Dtype::F32 {
            let sums = self.room(|wide| &mut wide.y, y)?;
            let elements = y.batch() * y.len();
            let dispatch = convert::narrow(y.dtype(), elements, self.gpu.caps());
            self.step(Step::new(dispatch, vec![sums.quads, y.clone()], vec![]))?;
        }
        Ok(())
    }

    fn room(&mut self, of: fn(&mut Wide) -> &mut Vec<Room>, shape: &Tensor) -> Result<Room> {
        let (batch, len) = (shape.batch(), shape.len());
        let fits = |room: &&Room| (room.vectors.batch(), room.vectors.len()) == (batch, len);
        if let Some(room) = of(&mut self.wide).iter().find(fits) {
            return Ok(room.clone());
        }
        let quads = self.gpu.tensor(1, convert::wide_len(batch * len))?;
        let vectors = quads.view(&self.gpu, 0, batch, len)?;
        let room = Room { quads, vectors };
        of(&mut self.wide).push(room.clone());
        Ok(room)
    }
}
