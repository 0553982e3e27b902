//! What compression does to real trained weights, and whether products with them are right.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::{
    checks::Checks,
    error::{Error, Result},
    lacuna::{Device, Lacuna},
    pattern::Pattern,
    product::{Product, inputs},
    safetensors::{Matrix, Safetensors, write_matrix},
    table::{Table, figure, percent},
};

/// From half the weights kept to one in sixteen; x8 lets eight rows share a choice.
pub const FORMATS: [&str; 5] = ["2:4", "2:4x8", "1:4", "1:8", "1:16"];

/// The layers whose products are checked: a square, a tall and a wide one.
const LAYERS: [&str; 3] = ["q_proj", "up_proj", "down_proj"];

/// An odd batch, which no tile size divides.
const BATCH: usize = 5;

pub struct Quality {
    pub weights: Table,
    pub products: Table,
}

/// Compresses the model in every format, into `folder`, and checks what comes out.
/// Without an adapter, the reference alone computes the products.
pub fn run(
    lacuna: &Lacuna,
    adapter: bool,
    assets: &Path,
    folder: &Path,
    checks: &mut Checks,
) -> Result<Quality> {
    let model = assets.join("model.safetensors");
    let dense = Safetensors::read(&model)?;
    fs::create_dir_all(folder).map_err(Error::at(folder))?;
    let mut quality = Quality {
        weights: weights_table(),
        products: products_table(adapter),
    };
    for format in FORMATS {
        let run = Run {
            lacuna,
            adapter,
            dense: &dense,
            format,
            folder,
        };
        let compressed = run.compress(&model, checks)?;
        if quality.weights.rows.is_empty() {
            quality.weights.rows.push(compressed.dense_row());
        }
        quality.weights.rows.push(compressed.row(format));
        quality
            .products
            .rows
            .push(run.products(&compressed, checks)?);
    }
    Ok(quality)
}

struct Run<'a> {
    lacuna: &'a Lacuna,
    adapter: bool,
    dense: &'a Safetensors,
    format: &'a str,
    folder: &'a Path,
}

/// One compressed model, with the figures for its rows of the tables.
struct Compressed {
    file: PathBuf,
    modules: Vec<String>,
    /// The compressed weights, unpacked to dense ones.
    unpacked: Safetensors,
    bytes_before: usize,
    bytes_after: usize,
    weight_error: f64,
}

impl Run<'_> {
    fn path(&self, stem: &str) -> PathBuf {
        // `:` is not allowed in file names everywhere.
        self.folder.join(format!(
            "{stem}-{}.safetensors",
            self.format.replace(':', "of")
        ))
    }

    fn compress(&self, model: &Path, checks: &mut Checks) -> Result<Compressed> {
        let (file, dense_file) = (self.path("model"), self.path("unpacked"));
        self.lacuna.compress(model, &file, self.format)?;
        self.lacuna.unpack(&file, &dense_file)?;
        let (packed, unpacked) = (Safetensors::read(&file)?, Safetensors::read(&dense_file)?);
        // The file is large, and `lacuna unpack` can write it again at any time.
        fs::remove_file(&dense_file).map_err(Error::at(&dense_file))?;
        let modules = packed.modules();
        if modules.is_empty() {
            return Err(Error::new(format!(
                "{}: no weight was compressed",
                file.display()
            )));
        }
        let pattern = Pattern::parse(self.format)
            .ok_or_else(|| Error::new(format!("{} is no pattern", self.format)))?;
        let (mut before, mut after, mut lost, mut all) = (0, 0, 0.0, 0.0);
        for module in &modules {
            let weight = format!("{module}.weight");
            let (original, pruned) = (self.dense.matrix(&weight)?, unpacked.matrix(&weight)?);
            let fault = pattern.fault(&original, &pruned);
            checks.that(fault.is_none(), || {
                format!("{} {module}: {}", self.format, fault.unwrap_or_default())
            });
            before += self.dense.size(&weight).unwrap_or(0);
            after += ["values", "indices"]
                .iter()
                .filter_map(|section| packed.size(&format!("{module}.{section}")))
                .sum::<usize>();
            all += squares(original.values.iter().copied());
            lost += squares(
                original
                    .values
                    .iter()
                    .zip(&pruned.values)
                    .map(|(w, p)| w - p),
            );
        }
        let weight_error = (lost / all).sqrt();
        Ok(Compressed {
            file,
            modules,
            unpacked,
            bytes_before: before,
            bytes_after: after,
            weight_error,
        })
    }

    /// Multiplies a few layers with pseudo-random inputs. Checks the reference against plain sums over
    /// the unpacked weights, and the adapter against the reference.
    fn products(&self, compressed: &Compressed, checks: &mut Checks) -> Result<Vec<String>> {
        let (mut outputs, mut worst_reference, mut worst_adapter) = (0, 0_f64, 0_f64);
        for layer in LAYERS {
            let module = compressed
                .modules
                .iter()
                .rfind(|module| module.ends_with(layer));
            let module = module.ok_or_else(|| {
                Error::new(format!(
                    "{}: no layer named {layer}",
                    compressed.file.display()
                ))
            })?;
            let weight = compressed.unpacked.matrix(&format!("{module}.weight"))?;
            let x = inputs(BATCH, weight.cols);
            let x_file = self.folder.join(format!("x-{}.safetensors", weight.cols));
            write_matrix(&x_file, "x", &x)?;
            let multiply = |device| -> Result<Matrix> {
                let y = self.folder.join("y.safetensors");
                self.lacuna
                    .matmul(&compressed.file, module, &x_file, &y, device)?;
                Safetensors::read(&y)?.matrix("y")
            };
            let expected = Product::of(&weight, &x);
            let reference = multiply(Device::Cpu)?;
            outputs += reference.values.len();
            let error = expected.worst(&reference);
            checks.that(error <= 1.0, || {
                format!(
                    "{} {module} on the reference: error {error:.3} of the allowed",
                    self.format
                )
            });
            worst_reference = worst_reference.max(error);
            if self.adapter {
                let error = expected.around(&reference).worst(&multiply(Device::Gpu)?);
                checks.that(error <= 1.0, || {
                    format!(
                        "{} {module} on the adapter: error {error:.3} of the allowed",
                        self.format
                    )
                });
                worst_adapter = worst_adapter.max(error);
            }
        }
        let mut row = vec![
            self.format.into(),
            LAYERS.len().to_string(),
            outputs.to_string(),
        ];
        row.push(figure(worst_reference));
        row.extend(self.adapter.then(|| figure(worst_adapter)));
        Ok(row)
    }
}

impl Compressed {
    fn row(&self, format: &str) -> Vec<String> {
        let kept = Pattern::parse(format).map_or(1.0, |p| p.kept as f64 / p.window as f64);
        vec![
            format.into(),
            // Shares are powers of two, so all digits are shown, as in 6.25.
            format!("{} %", 100.0 * kept),
            megabytes(self.bytes_after),
            format!(
                "{:.2} x",
                self.bytes_before as f64 / self.bytes_after as f64
            ),
            percent(self.weight_error),
        ]
    }

    fn dense_row(&self) -> Vec<String> {
        let bytes = megabytes(self.bytes_before);
        ["bf16 (as trained)", "100 %", &bytes, "1.00 x", "0.0 %"]
            .map(String::from)
            .into()
    }
}

fn weights_table() -> Table {
    let head = [
        "format",
        "weights kept",
        "size (MB)",
        "smaller by",
        "weight error",
    ];
    let notes = vec![
        "A format N:M keeps the N largest of every M neighbouring weights in a row and forgets the \
         others; with x8, eight rows share one choice, which costs accuracy and buys speed. Size: \
         the linear layers, positions of the kept weights included. Weight error: what is lost, as \
         a share of the weights' own size (root of summed squares); lower is better."
            .to_string(),
    ];
    Table {
        notes,
        ..Table::new("What compression does to a trained model", &head)
    }
}

fn products_table(adapter: bool) -> Table {
    let mut head = vec!["format", "layers", "outputs", "reference: error / allowed"];
    head.extend(adapter.then_some("adapter: error / allowed"));
    let mut note = "Each layer is multiplied with five made-up input vectors. The reference (plain loops on the \
                    processor) is held against separate double-precision sums over the unpacked weights"
        .to_string();
    note += if adapter {
        ", and the adapter against the reference. "
    } else {
        ". "
    };
    note += "Allowed is what single-precision rounding can explain; up to 1 is right.";
    Table {
        notes: vec![note],
        ..Table::new("Are the products right?", &head)
    }
}

fn squares(values: impl Iterator<Item = f32>) -> f64 {
    values
        .map(|value| f64::from(value) * f64::from(value))
        .sum()
}

pub fn megabytes(bytes: usize) -> String {
    format!("{:.2}", bytes as f64 / 1e6)
}
