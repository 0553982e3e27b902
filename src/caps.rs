//! What a device can do, as plain data: every legality check of a kernel is arithmetic on [`Caps`].

/// Whether shaders run on a GPU or are compiled for the processor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DeviceClass {
    /// Wide SIMT hardware: many loads in flight, fast workgroup memory.
    Gpu,
    /// A software adapter: a subgroup is one SIMD register, workgroup memory is ordinary memory.
    Cpu,
}

/// Smallest and largest subgroup a device may run a shader with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Subgroups {
    /// Smallest size.
    pub min: u32,
    /// Largest size.
    pub max: u32,
}

/// Limits and features of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Caps {
    /// Decides which candidates are proposed, and in which order; never whether a proposed one is legal.
    pub class: DeviceClass,
    /// Subgroup sizes, `None` without the feature.
    pub subgroups: Option<Subgroups>,
    /// Threads among which a software adapter shares the workgroups of a launch, in equal runs of neighbours, as
    /// far as this process can tell; 1 on GPUs, which schedule workgroups by themselves.
    pub threads: u32,
    /// Whether the lanes of a software adapter load without a branch each, because the processor has AVX-512; false on
    /// GPUs.
    pub masked_loads: bool,
    /// Whether shaders have 64-bit integers: CPU adapters then load 8 bytes for the price of 4.
    pub int64: bool,
    /// Rows and columns, 8 or 16, of the cooperative matrices that multiply f16 and sum in f32; `None`
    /// where the device has none, or was not asked for them.
    pub cooperative: Option<u32>,
    /// Whether passes can be timed on the device.
    pub timestamps: bool,
    /// Storage buffers a shader may bind.
    pub max_storage_buffers: u32,
    /// Bytes of one binding.
    pub max_binding_bytes: u64,
    /// Bytes of one buffer.
    pub max_buffer_bytes: u64,
    /// Bytes of workgroup memory.
    pub max_workgroup_bytes: u32,
    /// Invocations of a workgroup.
    pub max_invocations: u32,
    /// Workgroups along one dimension of the grid.
    pub max_workgroups: u32,
    /// Alignment of the offset of a storage binding.
    pub storage_alignment: u32,
}

impl Caps {
    /// WebGPU's floor: what every adapter has. A candidate legal here is legal everywhere.
    pub const PORTABLE: Self = Self {
        class: DeviceClass::Gpu,
        subgroups: None,
        threads: 1,
        masked_loads: false,
        int64: false,
        cooperative: None,
        timestamps: false,
        max_storage_buffers: 8,
        max_binding_bytes: 128 << 20,
        max_buffer_bytes: 256 << 20,
        max_workgroup_bytes: 16 << 10,
        max_invocations: 256,
        max_workgroups: 65_535,
        storage_alignment: 256,
    };

    /// Bytes of a storage buffer that is bound whole.
    pub fn max_storage_bytes(&self) -> u64 {
        self.max_binding_bytes.min(self.max_buffer_bytes)
    }

    /// The subgroup size, where every shader runs with the same one.
    pub const fn fixed_subgroup(&self) -> Option<u32> {
        match self.subgroups {
            Some(s) if s.min == s.max => Some(s.min),
            _ => None,
        }
    }
}
