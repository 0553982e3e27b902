//! `info`: describes the adapters in one block to paste into a report.

use crate::{
    device::{self, Adapter},
    error::Result,
    out,
};
use lacuna::{
    Gpu,
    format::{Dtype, Format, Precision},
    gpu::{AdapterReport, adapters},
    kernel::{Layout, Problem, Skip, survey},
    wgpu,
};
use serde::Serialize;
use std::collections::BTreeMap;

#[derive(clap::Args)]
pub struct Args {
    /// Also lists the other kernels of each product, and why some cannot run it
    #[arg(long)]
    candidates: bool,
    /// Prints JSON instead of text, with all kernels
    #[arg(long)]
    json: bool,
}

/// The formats and batches that are listed, as examples.
const FORMATS: [&str; 6] = ["f32", "f16", "2:4@f16", "2:4x8@f16", "w4g128", "w4g64s50"];
const BATCHES: [usize; 3] = [1, 8, 64];
const SIDE: usize = 4096;

#[derive(Serialize)]
struct Report {
    tool: &'static str,
    version: &'static str,
    os: String,
    adapters: Vec<Adapter>,
    selected: Option<Selected>,
}

#[derive(Serialize)]
struct Selected {
    index: Option<usize>,
    adapter: Adapter,
    class: String,
    subgroup_size: Option<[u32; 2]>,
    timestamps: bool,
    features: Vec<String>,
    limits: Vec<(&'static str, u64)>,
    /// Number of tuned products, and the file that holds the measurements.
    tuning: String,
    /// Where compiled pipelines are kept between runs.
    pipelines: String,
    products: Vec<Product>,
}

/// Which kernels one product may use.
#[derive(Serialize)]
struct Product {
    problem: String,
    /// Whether the default was chosen by measurement.
    tuned: bool,
    default: Option<String>,
    others: Vec<String>,
    refused: Vec<Refused>,
}

#[derive(Serialize)]
struct Refused {
    candidate: String,
    reason: String,
}

pub fn run(args: &Args, device: &device::Args) -> Result<()> {
    let found = pollster::block_on(adapters());
    let gpu = device::open(device);
    let mut report = Report {
        tool: "lacuna",
        version: env!("CARGO_PKG_VERSION"),
        os: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
        adapters: found.iter().map(|a| (&a.info).into()).collect(),
        selected: None,
    };
    if let Ok(gpu) = &gpu {
        let index = found.iter().position(|a| a.info == gpu.info());
        report.selected = Some(selected(index, gpu, index.map(|i| &found[i]))?);
    }
    let none = matches!(&gpu, Err(e) if e.code() == 3);
    if args.json {
        out::json(&report)?;
    } else {
        out::write(&text(&report, none, args.candidates))?;
    }
    gpu.map(drop)
}

fn selected(index: Option<usize>, gpu: &Gpu, offered: Option<&AdapterReport>) -> Result<Selected> {
    let caps = gpu.caps();
    let features = offered.map_or(gpu.device().features(), |a| a.features);
    let of_interest = wgpu::Features::SUBGROUP
        | wgpu::Features::TIMESTAMP_QUERY
        | wgpu::Features::SHADER_F16
        | wgpu::Features::SHADER_INT64
        | wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX
        | wgpu::Features::PIPELINE_CACHE;
    let names = (features & of_interest)
        .iter_names()
        .map(|(name, _)| name.to_owned());
    let mut products = vec![];
    for format in FORMATS {
        let format: Format = format.parse()?;
        for batch in BATCHES {
            let format = format.or_dtype(Dtype::F32);
            products.push(product(
                &Problem {
                    rows: SIDE,
                    cols: SIDE,
                    batch,
                    format,
                    bias: false,
                    layout: Layout::Rows,
                    skip: Skip::Nothing,
                    precision: Precision::F32,
                },
                gpu,
            )?);
        }
    }
    Ok(Selected {
        index,
        adapter: (&gpu.info()).into(),
        class: format!("{:?}", caps.class),
        subgroup_size: caps.subgroups.map(|s| [s.min, s.max]),
        timestamps: caps.timestamps,
        features: names.collect(),
        limits: vec![
            (
                "storage buffers of a shader",
                caps.max_storage_buffers.into(),
            ),
            ("bytes of a binding", caps.max_binding_bytes),
            ("bytes of a buffer", caps.max_buffer_bytes),
            ("bytes of workgroup memory", caps.max_workgroup_bytes.into()),
            ("invocations of a workgroup", caps.max_invocations.into()),
            ("workgroups along one dimension", caps.max_workgroups.into()),
            (
                "alignment of a storage binding",
                caps.storage_alignment.into(),
            ),
        ],
        tuning: device::tuning::describe(gpu),
        pipelines: device::describe_pipelines(gpu),
        products,
    })
}

fn product(problem: &Problem, gpu: &Gpu) -> Result<Product> {
    let refused = survey(problem, gpu.caps())?.into_iter();
    let refused = refused.filter_map(|(candidate, why)| {
        Some(Refused {
            candidate: candidate.to_string(),
            reason: why.err()?.to_string(),
        })
    });
    let legal = gpu.tuning().candidates(problem, gpu.caps())?;
    let mut legal = legal.iter().map(ToString::to_string);
    Ok(Product {
        problem: problem.to_string(),
        tuned: gpu.tuning().preferred(problem).is_some(),
        default: legal.next(),
        others: legal.collect(),
        refused: refused.collect(),
    })
}

/// `none` of the adapters may be usable; the default of each product may come with all `candidates`.
fn text(report: &Report, none: bool, candidates: bool) -> String {
    let mut lines = vec![
        format!("{} {}, {}", report.tool, report.version, report.os),
        String::new(),
        "adapters".into(),
    ];
    for (i, adapter) in report.adapters.iter().enumerate() {
        lines.push(format!("  {i}: {adapter}"));
    }
    let Some(selected) = &report.selected else {
        if none {
            lines.push("  none can be used".into());
        }
        return lines.join("\n") + "\n";
    };
    let number = selected.index.map_or("?".into(), |i| i.to_string());
    let subgroups = selected
        .subgroup_size
        .map_or("none".into(), |[min, max]| format!("{min} to {max}"));
    lines.extend([
        String::new(),
        format!("selected {number}: {}", selected.adapter.name()),
        format!("  device class: {}", selected.class),
        format!("  features: {}", selected.features.join(", ")),
        format!("  subgroup size: {subgroups}"),
    ]);
    lines.extend(
        selected
            .limits
            .iter()
            .map(|(what, limit)| format!("  {what}: {limit}")),
    );
    lines.extend([
        format!("  tuning: {}", selected.tuning),
        format!("  compiled pipelines: {}", selected.pipelines),
        String::new(),
        if candidates {
            "kernels, the default of each product first".into()
        } else {
            "the kernel of each product (--candidates lists the others)".into()
        },
    ]);
    for p in &selected.products {
        let default = p.default.as_deref().unwrap_or("none");
        let tuned = if p.tuned { " (tuned)" } else { "" };
        lines.push(format!("  {}: {default}{tuned}", p.problem));
        if !candidates {
            continue;
        }
        if !p.others.is_empty() {
            lines.push(format!("    also {}", p.others.join(", ")));
        }
        let mut reasons: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for Refused { candidate, reason } in &p.refused {
            reasons.entry(reason).or_default().push(candidate);
        }
        let refusal =
            |(reason, all): (&str, Vec<&str>)| format!("    not {}: {reason}", all.join(", "));
        lines.extend(reasons.into_iter().map(refusal));
    }
    lines.join("\n") + "\n"
}
