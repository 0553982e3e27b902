//! `gemm_coop`: any batch by cooperative matrices, the tensor cores of a GPU, with x in f16.
//!
//! [`Config`]: a workgroup computes `rows` x `batch` of y and stages `words` slots of each row at a
//! time. Variants name how many matrices of y a subgroup holds, down and across. A device has
//! matrices of 16 x 16 or 8 x 8; the shader is the same.

use super::{
    Config, Const, Dispatch, Kernel, PartLayout, Problem, fragment, layout,
    packet::{self, Load, gcd},
    problem::{self, unfit},
    shader,
};
use crate::{
    caps::Caps,
    error::{Error, Result},
    format::Precision,
};
use std::fmt::Write as _;

/// Variants, named by the matrices of y that a subgroup holds, and tiles of y, (rows, batch), in matrices.
const TILES: [(&str, u32, u32); 6] = [
    ("4x2", 8, 8),
    ("4x2", 8, 4),
    ("2x4", 8, 8),
    ("2x2", 8, 8),
    ("2x2", 4, 4),
    ("1x1", 2, 1),
];

/// Slots that are staged at a time.
const DEPTHS: [u32; 2] = [64, 32];

pub struct GemmCoop;

impl Kernel for GemmCoop {
    fn name(&self) -> &'static str {
        "gemm_coop"
    }

    fn takes(&self, precision: Precision) -> bool {
        precision == Precision::F16
    }

    fn configs(&self, _problem: &Problem, caps: &Caps) -> Vec<Config> {
        let (Some(size), Some(lanes)) = (caps.cooperative, caps.fixed_subgroup()) else {
            // A candidate whose refusal says what is missing.
            return vec![config(TILES[0], DEPTHS[0], 16, 32)];
        };
        let tiles = TILES.into_iter();
        tiles
            .flat_map(|tile| DEPTHS.map(|depth| config(tile, depth, size, lanes)))
            .collect()
    }

    fn lower(
        &self,
        problem: &Problem,
        config: &Config,
        parts: &[PartLayout],
        caps: &Caps,
    ) -> Result<Vec<Dispatch>> {
        let missing = |feature| Error::MissingFeature {
            feature,
            needed_by: format!("gemm_coop/{config}"),
        };
        let size = caps.cooperative;
        let size = size.ok_or_else(|| missing("EXPERIMENTAL_COOPERATIVE_MATRIX"))?;
        let lanes = caps
            .fixed_subgroup()
            .ok_or_else(|| missing("SUBGROUP of one size"))?;
        let shape = Shape::new(problem, config, size)?;
        if config.workgroup != shape.subgroups * lanes {
            let workgroup = config.workgroup as usize;
            return Err(unfit(
                "workgroup",
                workgroup,
                "a subgroup for each share of the tile",
            ));
        }
        let sparse = problem.format.pattern().is_some();
        let wide = problem.format.quant().is_none();
        let mut fragments = problem.fragments(caps.class);
        fragments.push(fragment!("y_words"));
        fragments.push(if problem.cols % 4 == 0 {
            fragment!("x_quads")
        } else {
            fragment!("x_scalars")
        });
        fragments.push(if sparse {
            fragment!("coop_nm")
        } else {
            fragment!("coop_dense")
        });
        fragments.push(match size {
            8 => fragment!("coop_8"),
            _ => fragment!("coop_16"),
        });
        let load = if wide { Load::Quads } else { Load::Words };
        let (mut consts, decoding) = packet::decoded(problem, shape.span, load);
        fragments.extend(decoding);
        if sparse && wide {
            fragments.push(fragment!("index_words"));
        }
        fragments.extend([
            fragment!("tile_weights"),
            shader!("gemm_coop"),
            shape.matrices().into(),
        ]);
        consts.extend(problem.consts());
        let numbers = [
            ("WORKGROUP", config.workgroup),
            ("TILE_ROWS", config.rows),
            ("TILE_BATCH", config.batch),
            ("TILE_SLOTS", config.words),
            ("MR", shape.down),
            ("MB", shape.across),
            ("SETS", config.rows / shape.set_rows),
            ("SET_ROWS", shape.set_rows),
        ];
        consts.extend(numbers.map(|(name, value)| (name, Const::U32(value))));
        let across = problem.batch.div_ceil(config.batch as usize) as u64;
        let dispatches = parts.iter().enumerate().map(|(i, part)| Dispatch {
            enables: vec!["f16", "wgpu_cooperative_matrix"],
            consts: consts.clone(),
            fragments: fragments.clone(),
            params: problem.params(part, 0, 0),
            operands: problem.operands(problem::X, i, !wide || sparse, wide),
            workgroup_bytes: shape.bytes(config),
            subgroups: true,
            ..problem.launch(self, config, config.tiles(part) * across, caps)
        });
        Ok(dispatches.collect())
    }
}

fn config(
    (variant, down, across): (&'static str, u32, u32),
    words: u32,
    size: u32,
    lanes: u32,
) -> Config {
    let (mr, mb) = matrices(variant).unwrap_or((1, 1));
    Config {
        variant,
        workgroup: down / mr * (across / mb) * lanes,
        rows: down * size,
        batch: across * size,
        words,
    }
}

/// Matrices of a subgroup, down and across.
fn matrices(variant: &str) -> Option<(u32, u32)> {
    let (down, across) = variant.split_once('x')?;
    Some((down.parse().ok()?, across.parse().ok()?))
}

/// What a configuration makes of a problem.
struct Shape {
    /// Rows and columns of a matrix.
    size: u32,
    /// Matrices of a subgroup.
    down: u32,
    across: u32,
    subgroups: u32,
    /// Rows of the tile that meet the same x.
    set_rows: u32,
    /// Values of a packet.
    span: usize,
}

impl Shape {
    /// # Errors
    /// Where a matrix would cross the border of an index set, or tiles and steps are not whole matrices.
    fn new(problem: &Problem, config: &Config, size: u32) -> Result<Self> {
        let (down, across) = matrices(config.variant)
            .ok_or_else(|| unfit("matrices of a subgroup", 0, "ROWSxBATCH"))?;
        let (rows, batch) = (down * size, across * size);
        if config.rows % rows != 0 || config.batch % batch != 0 {
            return Err(unfit(
                "rows of a tile",
                config.rows as usize,
                "whole matrices",
            ));
        }
        let v = layout::sharing(problem.format) as u32;
        let set_rows = match problem.format.pattern() {
            None => config.rows,
            Some(_) if v % size == 0 && (config.rows % v == 0 || v % config.rows == 0) => {
                v.min(config.rows)
            }
            Some(_) => {
                let needed = "rows that share columns to be whole matrices and parts of tiles";
                return Err(unfit("V", v as usize, needed));
            }
        };
        let span = match problem.format.quant() {
            Some(_) => gcd(config.words as usize, packet::CODES),
            None => problem.values_in(4),
        };
        if config.words % size != 0 || config.words as usize % span != 0 {
            return Err(unfit(
                "slots of a step",
                config.words as usize,
                "whole matrices",
            ));
        }
        Ok(Self {
            size,
            down,
            across,
            subgroups: config.rows / rows * (config.batch / batch),
            set_rows,
            span,
        })
    }

    /// WGSL that declares the matrices of a subgroup, and writes out for each what is done with all. Each has a
    /// variable of its own because drivers leave arrays of them in memory: on an H100 products took four times as
    /// long.
    fn matrices(&self) -> String {
        let (down, across) = (self.down, self.across);
        let (mut sums, mut multiply, mut leave) = (String::new(), String::new(), String::new());
        // Rows that meet the same x load it once.
        let shared = down.min(self.set_rows / self.size);
        for r in 0..down {
            if r % shared == 0 {
                for b in 0..across {
                    let at = format!("inputs_at(down, {r}u, across, {b}u, k)");
                    let load = format!("coopLoad<Inputs>(&x_tile[{at}], STRIDE / STAGED)");
                    let _ = writeln!(multiply, "    let x{r}_{b} = {load};");
                }
            }
            let load =
                format!("coopLoadT<Weights>(&w_tile[weights_at(down, {r}u, k)], STRIDE / STAGED)");
            let _ = writeln!(multiply, "    let w{r} = {load};");
            for b in 0..across {
                let (sum, x) = (
                    format!("sums{r}_{b}"),
                    format!("x{}_{b}", r / shared * shared),
                );
                let _ = writeln!(sums, "var<private> {sum}: Sums;");
                let _ = writeln!(multiply, "    {sum} = coopMultiplyAdd(w{r}, {x}, {sum});");
                let _ = write!(
                    leave,
                    "    workgroupBarrier();\n    \
                     coopStoreT({sum}, &y_tile[subgroup * SIZE * SIZE], SIZE);\n    \
                     workgroupBarrier();\n    \
                     put_sums(row0 + {r}u * SIZE, vector0 + {b}u * SIZE, subgroup, own);\n"
                );
            }
        }
        format!(
            "{sums}\n\
             fn multiply(down: u32, across: u32, k: u32) {{\n{multiply}}}\n\n\
             fn leave(row0: u32, vector0: u32, subgroup: u32, own: u32) {{\n{leave}}}\n"
        )
    }

    /// Bytes of workgroup memory.
    fn bytes(&self, config: &Config) -> u32 {
        let sets = config.rows / self.set_rows;
        let staged = (config.rows + sets * config.batch) * (config.words + 8);
        2 * staged + 4 * self.subgroups * self.size * self.size
    }
}
