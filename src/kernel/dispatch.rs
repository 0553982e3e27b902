//! One shader launch as a plain value: printable, comparable, made without a device.

use crate::{
    caps::Caps,
    error::{Error, Result},
};
use std::{borrow::Cow, fmt, fmt::Write};

/// A `const` line put before the fragments.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Const {
    /// `const NAME: u32 = …u;`
    U32(u32),
    /// `const NAME: f32 = …f;`; must be finite.
    F32(f32),
    /// `const NAME: bool = …;`
    Bool(bool),
}

impl fmt::Display for Const {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::U32(v) => write!(f, "{v}u"),
            Self::F32(v) => write!(f, "{v:?}f"),
            Self::Bool(v) => write!(f, "{v}"),
        }
    }
}

/// Words between uniform blocks: offsets that are multiples of 256 bytes suit every device.
pub const PARAM_WORDS: usize = 64;

/// What a binding is bound to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// The n-th tensor given with the dispatch.
    Tensor(usize),
    /// The n-th part of the weight given with the dispatch.
    Part(usize),
    /// The plan's scratch buffer, which lives from one dispatch of a step to the next.
    Scratch,
    /// The last block of the parameters, at a multiple of [`PARAM_WORDS`], as a uniform block of its own: where a
    /// plan has cut a launch, it says which of the workgroups these are.
    Piece,
}

/// A binding of group 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Operand {
    /// The WGSL variable's name.
    pub name: &'static str,
    /// Its `@binding`; 0 is the parameter block.
    pub binding: u32,
    /// What is bound.
    pub role: Role,
    /// Whether the shader declares it `read_write`.
    pub write: bool,
}

impl Operand {
    /// A binding that the shader reads.
    pub const fn read(name: &'static str, binding: u32, role: Role) -> Self {
        Self {
            name,
            binding,
            role,
            write: false,
        }
    }

    /// A binding that the shader declares `read_write`.
    pub const fn write(name: &'static str, binding: u32, role: Role) -> Self {
        Self {
            write: true,
            ..Self::read(name, binding, role)
        }
    }
}

/// One launch: WGSL text, bindings, parameters and grid.
///
/// The text is `enable` lines, then `const` lines, then the fragments in order;
/// the entry point is `main`. WGSL's module scope has no order, so a fragment
/// may use what a later one defines.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Dispatch {
    /// Names the launch in errors, timings and debuggers.
    pub name: String,
    /// WGSL extensions, as in `enable f16;`.
    pub enables: Vec<&'static str>,
    /// Values known when the pipeline is made.
    pub consts: Vec<(&'static str, Const)>,
    /// WGSL text.
    pub fragments: Vec<Cow<'static, str>>,
    /// The uniform block at binding 0, in words.
    pub params: Vec<u32>,
    /// Storage bindings.
    pub operands: Vec<Operand>,
    /// Invocations of a workgroup.
    pub invocations: u32,
    /// Bytes of workgroup memory.
    pub workgroup_bytes: u32,
    /// Whether subgroup functions are used.
    pub subgroups: bool,
    /// Whether 64-bit integers are used.
    pub int64: bool,
    /// Scratch bytes needed.
    pub scratch_bytes: u64,
    /// Workgroups.
    pub grid: [u32; 3],
}

impl Dispatch {
    /// The whole WGSL module.
    pub fn wgsl(&self) -> String {
        let mut text = String::new();
        for enable in &self.enables {
            let _ = writeln!(text, "enable {enable};");
        }
        for (name, value) in &self.consts {
            let kind = match value {
                Const::U32(_) => "u32",
                Const::F32(_) => "f32",
                Const::Bool(_) => "bool",
            };
            let _ = writeln!(text, "const {name}: {kind} = {value};");
        }
        for fragment in &self.fragments {
            text.push_str(fragment);
            text.push('\n');
        }
        text
    }

    /// The same launch with operand `name` declared `read_write`, as wgpu requires where another operand in the
    /// same buffer is written. `None` where no fragment declares it as `var<storage, read> name:` or
    /// `var<storage, read_write> name:`.
    #[must_use]
    pub fn writable(&self, name: &str) -> Option<Self> {
        let read = format!("var<storage, read> {name}:");
        let write = format!("var<storage, read_write> {name}:");
        let declaring = |text: &str| self.fragments.iter().position(|f| f.contains(text));
        let mut same = self.clone();
        if let Some(i) = declaring(&read) {
            same.fragments[i] = same.fragments[i].replace(&read, &write).into();
        } else {
            declaring(&write)?;
        }
        for operand in same.operands.iter_mut().filter(|o| o.name == name) {
            operand.write = true;
        }
        Some(same)
    }

    /// Checks the launch against a device's limits.
    ///
    /// # Errors
    /// [`Error::MissingFeature`] or [`Error::Limit`] with the first that fails.
    pub fn fits(&self, caps: &Caps) -> Result<()> {
        for (used, present, feature) in [
            (self.subgroups, caps.subgroups.is_some(), "SUBGROUP"),
            (self.int64, caps.int64, "SHADER_INT64"),
            (
                self.enables.contains(&"wgpu_cooperative_matrix"),
                caps.cooperative.is_some(),
                "EXPERIMENTAL_COOPERATIVE_MATRIX",
            ),
        ] {
            if used && !present {
                return Err(Error::MissingFeature {
                    feature,
                    needed_by: self.name.clone(),
                });
            }
        }
        let largest_side = self.grid.into_iter().max().unwrap_or(0);
        for (what, value, limit) in [
            (
                "storage bindings",
                self.operands
                    .iter()
                    .filter(|o| o.role != Role::Piece)
                    .count() as u64,
                caps.max_storage_buffers.into(),
            ),
            (
                "invocations of a workgroup",
                self.invocations.into(),
                caps.max_invocations.into(),
            ),
            (
                "bytes of workgroup memory",
                self.workgroup_bytes.into(),
                caps.max_workgroup_bytes.into(),
            ),
            (
                "workgroups along one dimension",
                largest_side.into(),
                caps.max_workgroups.into(),
            ),
            (
                "bytes of scratch",
                self.scratch_bytes,
                caps.max_storage_bytes(),
            ),
        ] {
            if value > limit {
                return Err(Error::Limit { what, value, limit });
            }
        }
        Ok(())
    }
}
