//! Decodes a `TopK` sparse autoencoder, `y = Σ_k v_k · D[idx_k, :]`
//! (<https://arxiv.org/abs/2406.04093>): of 16 384 features 64 are active, so the product reads
//! 64 rows of the dictionary instead of all.
//!
//! ```text
//! cargo run --release --example topk_sae
//! ```

use lacuna::{
    Activation, Gpu, PlanBuilder,
    format::{Dense, Dtype, Values},
    reference,
    verify::Random,
};
use std::time::Instant;

const FEATURES: usize = 16_384;
const HIDDEN: usize = 768;
const K: usize = 64;
const RUNS: u32 = 20;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let gpu = Gpu::new_blocking(&lacuna::gpu::Options::default())?;
    let mut random = Random(1);

    // The dictionary by columns: a feature is a column of the decoder's weight [hidden, features].
    let values = Values::round(Dtype::F16, &random.vector(HIDDEN * FEATURES))?;
    let decoder = Dense::new(HIDDEN, FEATURES, values)?.into();
    let bands = gpu.upload_bands(&decoder)?;

    // The encoder's output: K features, everything else zero.
    let mut code = random.vector(FEATURES);
    let mut sorted: Vec<f32> = code.iter().map(|v| v.abs()).collect();
    sorted.sort_by(f32::total_cmp);
    let least = sorted[FEATURES - K];
    for v in code.iter_mut().filter(|v| v.abs() < least) {
        *v = 0.0;
    }

    let x = gpu.tensor_from(1, FEATURES, &code)?;
    let y = gpu.tensor(1, HIDDEN)?;
    let active = gpu.active(1, FEATURES)?;
    let zero = gpu.tensor_from(1, 1, &[0f32])?;
    let mut sparse = PlanBuilder::new(&gpu);
    sparse.threshold(&x, &zero, Activation::None, &active)?;
    sparse.input_sparse(&bands, &active, None, &y)?;
    let sparse = sparse.build()?;
    let mut whole = PlanBuilder::new(&gpu);
    whole.linear(&bands, &x, None, &y)?;
    let whole = whole.build()?;

    let truth = reference::linear(&decoder, &code, 1, None)?;
    for (name, plan) in [("all features", &whole), ("active features", &sparse)] {
        plan.run()?;
        let comparison = truth.compare(&y.read_blocking(&gpu)?)?;
        if !comparison.passes() {
            return Err(format!("{name}: wrong, {comparison:?}").into());
        }
        let begin = Instant::now();
        for _ in 0..RUNS {
            plan.run()?;
        }
        gpu.wait()?;
        println!(
            "{name}: {:.0} µs, error {:.4} of what is allowed",
            1e6 * begin.elapsed().as_secs_f64() / f64::from(RUNS),
            comparison.error_over_bound
        );
    }
    println!("{} features active", active.read_blocking(&gpu)?.len());
    Ok(())
}
