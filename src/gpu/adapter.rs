//! Finding an adapter.

use crate::error::{Error, Result};
use std::time::Duration;

#[cfg(not(target_arch = "wasm32"))]
use std::sync::LazyLock;

/// Which adapter to open.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Selector {
    /// The best one: discrete before integrated before virtual before software.
    /// `WGPU_ADAPTER_NAME` narrows the choice.
    #[default]
    Best,
    /// The n-th of [`adapters`].
    Index(usize),
    /// The only one whose name contains this text, whatever its case.
    Name(String),
}

impl From<&str> for Selector {
    /// A number is an index, anything else part of a name.
    fn from(text: &str) -> Self {
        text.parse()
            .map_or_else(|_| Self::Name(text.to_owned()), Self::Index)
    }
}

/// How to open a [`Gpu`](super::Gpu).
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Which adapter.
    pub adapter: Selector,
    /// Keeps all of wgpu's run-time checks in shaders. `LACUNA_CHECKED=1` does the same.
    pub checked: bool,
    /// Asks for cooperative matrices, an experimental feature of wgpu, where the adapter has them.
    /// Products whose activations may be taken in f16 then run on the tensor cores of a GPU.
    pub cooperative: bool,
    /// How long a blocking call waits for the GPU; `None` is for ever.
    pub timeout: Option<Duration>,
    /// How long one submission of [`Plan::run`](crate::Plan::run) may work, which then is
    /// [`Plan::run_within`](crate::Plan::run_within) with this budget; `None` sets no limit.
    pub max_submission: Option<Duration>,
}

/// An adapter as `info` prints it.
#[derive(Debug, Clone)]
pub struct AdapterReport {
    /// Name, type, driver, backend.
    pub info: wgpu::AdapterInfo,
    /// Features it offers.
    pub features: wgpu::Features,
    /// Limits it offers.
    pub limits: wgpu::Limits,
}

/// What shaders with cooperative matrices need of a device.
pub(super) const COOPERATIVE: wgpu::Features =
    wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX.union(wgpu::Features::SHADER_F16);

/// The size of the largest matrices of WGSL that an adapter lists as multiplied in f16 and summed in f32, if any.
/// The list decides, because wgpu does not refuse sizes that are not on it.
pub(super) fn cooperative(adapter: &wgpu::Adapter) -> Option<u32> {
    use wgpu::CooperativeScalarType::{F16, F32};
    if !adapter.features().contains(COOPERATIVE) {
        return None;
    }
    let listed = adapter.cooperative_matrix_properties();
    let has = |size: &u32| {
        let is = |p: &wgpu::CooperativeMatrixProperties| {
            [p.m_size, p.n_size, p.k_size] == [*size; 3] && (p.ab_type, p.cr_type) == (F16, F32)
        };
        listed.iter().any(is)
    };
    [16, 8].into_iter().find(has)
}

/// The instance of this process. wgpu numbers resources instance by instance, so it would take a buffer of another
/// one's for its own of the same number; devices of one instance it tells apart.
#[cfg(not(target_arch = "wasm32"))]
fn instance() -> wgpu::Instance {
    static INSTANCE: LazyLock<wgpu::Instance> = LazyLock::new(new_instance);
    INSTANCE.clone()
}

#[cfg(target_arch = "wasm32")]
use new_instance as instance;

fn new_instance() -> wgpu::Instance {
    wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle_from_env())
}

/// Adapters in order of preference, which is also the order of [`Selector::Index`].
async fn ranked(instance: &wgpu::Instance) -> Vec<wgpu::Adapter> {
    let backends = wgpu::Backends::from_env().unwrap_or(wgpu::Backends::all());
    let mut adapters = instance.enumerate_adapters(backends).await;
    adapters.retain(|a| {
        a.get_downlevel_capabilities()
            .flags
            .contains(wgpu::DownlevelFlags::COMPUTE_SHADERS)
    });
    adapters.sort_by_key(|a| {
        let info = a.get_info();
        let device = match info.device_type {
            wgpu::DeviceType::DiscreteGpu => 0,
            wgpu::DeviceType::IntegratedGpu => 1,
            wgpu::DeviceType::VirtualGpu => 2,
            wgpu::DeviceType::Other => 3,
            wgpu::DeviceType::Cpu => 4,
        };
        // OpenGL reaches fewer features of the same hardware.
        (device, info.backend == wgpu::Backend::Gl)
    });
    adapters
}

/// The adapters of this machine, best first. Honours `WGPU_BACKEND`.
pub async fn adapters() -> Vec<AdapterReport> {
    let instance = instance();
    let report = |a: wgpu::Adapter| AdapterReport {
        info: a.get_info(),
        features: a.features(),
        limits: a.limits(),
    };
    ranked(&instance).await.into_iter().map(report).collect()
}

/// Opens the selected adapter.
pub(super) async fn select(options: &super::Options) -> Result<wgpu::Adapter> {
    let instance = instance();
    let mut adapters = ranked(&instance).await;
    if adapters.is_empty() {
        return Err(Error::NoAdapter(
            "none found; install a Vulkan driver (Debian, Ubuntu: mesa-vulkan-drivers), \
             or check WGPU_BACKEND"
                .into(),
        ));
    }
    let names: Vec<String> = adapters.iter().map(|a| a.get_info().name).collect();
    let preferred = std::env::var("WGPU_ADAPTER_NAME").ok();
    let chosen = choose(&names, &options.adapter, preferred.as_deref())?;
    Ok(adapters.swap_remove(chosen))
}

/// Which of the adapters `names`, best first, `selector` means; `preferred` is what
/// `WGPU_ADAPTER_NAME` holds.
fn choose(names: &[String], selector: &Selector, preferred: Option<&str>) -> Result<usize> {
    let listed = || -> String {
        let lines = names.iter().enumerate();
        let lines: Vec<_> = lines.map(|(i, n)| format!("{i}: {n}")).collect();
        lines.join(", ")
    };
    let refuse = |why: &str, then: &str| {
        let what = format!("{why} {}{then}", listed());
        Err(Error::NoAdapter(what))
    };
    let named = |part: &str| -> Vec<usize> {
        let part = part.to_lowercase();
        (0..names.len())
            .filter(|&i| names[i].to_lowercase().contains(&part))
            .collect()
    };
    match selector {
        Selector::Best => match preferred {
            None => Ok(0),
            Some(part) => match named(part).first() {
                Some(&first) => Ok(first),
                None => refuse(&format!("WGPU_ADAPTER_NAME={part:?} matches none of"), ""),
            },
        },
        Selector::Index(i) if *i < names.len() => Ok(*i),
        Selector::Index(i) => refuse(&format!("number {i} is not among"), ""),
        Selector::Name(part) => match named(part).as_slice() {
            [one] => Ok(*one),
            [] => refuse(&format!("{part:?} matches none of"), ""),
            _ => refuse(
                &format!("{part:?} matches more than one of"),
                "; give the number",
            ),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::{Selector, choose};

    #[test]
    fn adapters_are_chosen_by_number_or_by_a_name_that_only_one_has() {
        let names = ["Big 5000", "Small 10", "Big 5000", "llvmpipe"].map(String::from);
        let choose = |selector: &str, preferred| match selector {
            "" => choose(&names, &Selector::Best, preferred),
            other => choose(&names, &Selector::from(other), preferred),
        };
        assert_eq!(choose("", None), Ok(0));
        assert_eq!(choose("", Some("LLVM")), Ok(3));
        assert_eq!(choose("small", None), Ok(1));
        // Of two with one name the number tells which.
        assert_eq!(choose("2", None), Ok(2));
        let reason =
            |selector: &str, preferred| choose(selector, preferred).unwrap_err().to_string();
        for (selector, preferred, expected) in [
            ("big", None, "\"big\" matches more than one of 0: Big 5000"),
            ("5", None, "number 5 is not among 0: Big 5000, 1: Small 10"),
            ("medium", None, "\"medium\" matches none of"),
            (
                "",
                Some("nonsense"),
                "WGPU_ADAPTER_NAME=\"nonsense\" matches none of",
            ),
        ] {
            let reason = reason(selector, preferred);
            assert!(reason.contains(expected), "{reason}");
        }
    }
}
