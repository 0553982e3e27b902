//! What plans take on the device, and share.

use crate::{error::Result, gpu::Gpu};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Scratch memory that several plans share; they must not run at the same time.
///
/// Commands of one queue run one after the other, so plans of one [`Gpu`] may share one. A plan that runs in several
/// submissions keeps others that share its workspace from running in between, but not command buffers that
/// the host submits: where [`Options::max_submission`](crate::gpu::Options::max_submission) is set or
/// `Plan::run_within` is called, those must come from the same thread.
#[derive(Debug, Clone)]
pub struct Workspace {
    pub(super) scratch: wgpu::Buffer,
    turn: Arc<Mutex<()>>,
}

impl Workspace {
    /// Allocates `bytes`, the largest [`Memory::scratch`] of the plans that will share it.
    ///
    /// # Errors
    /// [`Error::Limit`](crate::Error::Limit), [`Error::OutOfMemory`](crate::Error::OutOfMemory).
    pub fn new(gpu: &Gpu, bytes: u64) -> Result<Self> {
        Ok(Self {
            scratch: gpu.buffer("workspace", bytes, wgpu::BufferUsages::STORAGE, None)?,
            turn: Arc::default(),
        })
    }

    /// Held by the plan that is being submitted.
    pub(super) fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Bytes on the device that a plan uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// Weights that its steps read, each counted once.
    pub weights: u64,
    /// Tensors that its steps read or write, each counted once.
    pub tensors: u64,
    /// Scratch, in the plan's own buffer or in the workspace.
    pub scratch: u64,
    /// Parameters.
    pub params: u64,
}
