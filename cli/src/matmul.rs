//! `matmul`: one product of a weight in a file, on the device or by the reference.

use crate::{
    device::{self, Where},
    error::{Error, Result},
    interrupt, weights,
};
use lacuna::{
    Gpu, PlanBuilder,
    format::{Dense, Matrix},
    reference,
};
use lacuna_io::{F32Tensor, RawTensor, WeightFile, save};
use std::path::PathBuf;

#[derive(clap::Args)]
pub struct Args {
    /// A .safetensors file, a shard index, or a folder with either
    weights: PathBuf,
    /// Module name P: the weight is P.weight or a compressed P, with P.bias if there is one; P.weight
    /// means P
    #[arg(long, value_name = "P")]
    tensor: String,
    /// A .safetensors file with a tensor x [batch, cols]
    #[arg(long)]
    input: PathBuf,
    /// The file to write, with a tensor y [batch, rows]
    #[arg(short, long)]
    output: PathBuf,
    #[command(flatten)]
    reading: weights::Args,
    /// Where to compute; cpu is the reference, slow and exact
    #[arg(long, value_enum, default_value_t = Where::Auto)]
    device: Where,
}

/// A product to be computed.
struct Product {
    weight: Matrix,
    bias: Option<Vec<f32>>,
    x: Vec<f32>,
    batch: usize,
}

pub fn run(args: &Args, device: &device::Args) -> Result<()> {
    crate::out::is_file(&args.output, [&args.weights, &args.input])?;
    let file = args.reading.any_file(&args.weights)?;
    let (weight, bias) = load(&file, &args.tensor)?;
    let input = WeightFile::open(&args.input)?;
    let F32Tensor { shape, values: x } = input.f32_tensor("x")?;
    let (rows, cols) = (weight.rows(), weight.cols());
    let batch = match *shape {
        [batch, got] if got == cols => batch,
        _ => {
            let file = args.input.display();
            let reason =
                format!("{file}: tensor \"x\": shape is {shape:?}, expected [batch, {cols}]");
            return Err(Error::Input(reason));
        }
    };
    let product = Product {
        weight,
        bias,
        x,
        batch,
    };
    let y = match args.device {
        Where::Cpu => product.on_cpu()?,
        Where::Gpu => product.on_gpu(&device::open(device)?)?,
        Where::Auto => match device::open(device).and_then(|gpu| product.on_gpu(&gpu)) {
            // There is no adapter, or it is too small.
            Err(e) if e.code() == 3 => {
                log::warn!("computing on the CPU: {e}");
                product.on_cpu()?
            }
            other => other?,
        },
    };
    interrupt::defer();
    interrupt::check()?;
    save(
        &args.output,
        [("y", RawTensor::from_f32(&[batch, rows], &y))],
    )?;
    Ok(())
}

/// The weight and its bias. Empty matrices, which files may hold, need no format.
fn load(file: &WeightFile, name: &str) -> Result<(Matrix, Option<Vec<f32>>)> {
    let module = match name.strip_suffix(".weight") {
        Some(module) if file.modules().all(|m| m.name() != name) => module,
        _ => name,
    };
    let name = format!("{module}.weight");
    if let Some(tensor) = file.tensor(&name)
        && let &[rows, cols] = tensor.shape
        && (rows == 0 || cols == 0)
    {
        let values = file.f32_tensor(&name)?.values;
        let bias = format!("{module}.bias");
        let bias = file.tensor(&bias).map(|_| file.f32_tensor(&bias));
        let bias = bias.transpose()?.map(|b| b.values);
        return Ok((Dense::from_f32(rows, cols, values)?.into(), bias));
    }
    Ok((file.weight(module)?, file.bias(module)?))
}

impl Product {
    fn on_cpu(&self) -> Result<Vec<f32>> {
        let truth = reference::linear(&self.weight, &self.x, self.batch, self.bias.as_deref())?;
        Ok(truth.y.iter().map(|&y| y as f32).collect())
    }

    fn on_gpu(&self, gpu: &Gpu) -> Result<Vec<f32>> {
        let (rows, cols) = (self.weight.rows(), self.weight.cols());
        let weight = gpu.upload(&self.weight)?;
        let bias = self.bias.as_ref().map(|b| gpu.tensor_from(1, rows, b));
        let bias = bias.transpose()?;
        // Runs as many vectors at a time as one binding holds.
        let vector_bytes = 4 * rows.max(cols).max(1) as u64;
        let most = (gpu.caps().max_binding_bytes / vector_bytes).max(1) as usize;
        let mut y = Vec::with_capacity(self.batch * rows);
        for first in (0..self.batch).step_by(most) {
            let batch = most.min(self.batch - first);
            let x = gpu.tensor_from(batch, cols, &self.x[first * cols..(first + batch) * cols])?;
            let out = gpu.tensor(batch, rows)?;
            let mut builder = PlanBuilder::new(gpu);
            builder.linear(&weight, &x, bias.as_ref(), &out)?;
            builder.build()?.run()?;
            y.extend(out.read_blocking(gpu)?);
        }
        Ok(y)
    }
}
