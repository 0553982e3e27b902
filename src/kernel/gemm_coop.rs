//! `gemm_coop`: any batch by cooperative matrices, the tensor cores of a GPU, with x in f16.
//!
//! [`Config`]: a workgroup computes `rows` x `batch` of y and stages `words` numbers of each row at a
//! time. Variants name how many matrices of y a subgroup holds, down and across, and for N:M weights what is
//! staged: `filled`, their columns with the zeros put back, or the slots alone, with an x gathered for each index
//! set. A device has matrices of 16 x 16 or 8 x 8; the shader is the same.

use super::{
    Config, Const, Dispatch, Kernel, PartLayout, Problem, even, fragment, layout,
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

/// The same for N:M weights whose zeros are put back.
const FILLED: [(&str, u32, u32); 4] = [
    ("4x2-filled", 8, 8),
    ("2x4-filled", 8, 8),
    ("2x2-filled", 4, 4),
    ("1x1-filled", 2, 1),
];

/// Numbers of a row that are staged at a time.
const DEPTHS: [u32; 2] = [64, 32];

pub struct GemmCoop;

impl Kernel for GemmCoop {
    fn name(&self) -> &'static str {
        "gemm_coop"
    }

    fn takes(&self, precision: Precision) -> bool {
        precision == Precision::F16
    }

    fn configs(&self, problem: &Problem, caps: &Caps) -> Vec<Config> {
        let (Some(size), Some(lanes)) = (caps.cooperative, caps.fixed_subgroup()) else {
            // A candidate whose refusal says what is missing.
            return vec![config(TILES[0], DEPTHS[0], 16, 32)];
        };
        let mut tiles = TILES.to_vec();
        if let Some(pattern) = problem.format.pattern() {
            // Products of 2:4 that gather x took an H100 four times as long as dense ones: zeros are the lesser evil where
            // more than one column in eight is kept.
            let dense = 8 * pattern.n() > pattern.m();
            let at = if dense { 0 } else { tiles.len() };
            tiles.splice(at..at, FILLED);
        }
        let tiles = tiles.into_iter();
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
        if !Precision::F16.serves(problem.format) {
            let needed = "4 for weights of f32 and for ragged rows";
            return Err(unfit("bytes of a number of x", 2, needed));
        }
        let missing = |feature| Error::MissingFeature {
            feature,
            needed_by: format!("gemm_coop/{config}"),
        };
        let size = caps.cooperative;
        let size = size.ok_or_else(|| missing("EXPERIMENTAL_COOPERATIVE_MATRIX"))?;
        let lanes = caps
            .fixed_subgroup()
            .ok_or_else(|| missing("SUBGROUP of one size"))?;
        if even::balanced(problem.format).is_some() {
            even::check(parts)?;
        }
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
        let wide = shape.load == Load::Quads;
        let mut fragments = problem.fragments(caps.class);
        fragments.push(fragment!("y_words"));
        fragments.push(if problem.cols % 4 == 0 {
            fragment!("x_quads")
        } else {
            fragment!("x_scalars")
        });
        fragments.extend(match (sparse, shape.filled) {
            (true, true) => [fragment!("coop_dense"), fragment!("coop_filled")],
            (true, false) => [fragment!("coop_gather"), fragment!("coop_stored")],
            (false, _) => [fragment!("coop_dense"), fragment!("coop_stored")],
        });
        fragments.push(if shape.kept {
            fragment!("coop_kept")
        } else {
            fragment!("coop_all")
        });
        fragments.push(match size {
            8 => fragment!("coop_8"),
            _ => fragment!("coop_16"),
        });
        let (mut consts, decoding) = packet::decoded(problem, shape.span, shape.load);
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
            ("DEPTH", config.words),
            ("TILE_SLOTS", shape.slots),
            ("MR", shape.down),
            ("MB", shape.across),
            ("SETS", config.rows / shape.set_rows),
            ("SET_ROWS", shape.set_rows),
        ];
        consts.extend(numbers.map(|(name, value)| (name, Const::U32(value))));
        if shape.kept {
            consts.push(("MARKED", Const::Bool(!shape.filled)));
        }
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
    let variant = variant.strip_suffix("-filled").unwrap_or(variant);
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
    /// Whether an N:M weight is staged with its zeros.
    filled: bool,
    /// Whether some of what is staged is not kept.
    kept: bool,
    /// Stored weights of a row and step.
    slots: u32,
    /// Values of a packet, and how it is loaded.
    span: usize,
    load: Load,
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
        let depth = config.words as usize;
        if config.words % size != 0 {
            return Err(unfit("numbers of a step", depth, "whole matrices"));
        }
        let v = layout::sharing(problem.format) as u32;
        let filled = problem.format.pattern().is_some() && config.variant.ends_with("-filled");
        let (set_rows, slots, unit) = match problem.format.pattern() {
            None => (config.rows, depth, 4),
            Some(pattern) if filled => {
                let (n, m) = (pattern.n(), pattern.m());
                if m % 4 != 0 || depth % m != 0 {
                    return Err(unfit("M", m, "a multiple of 4 that divides a step"));
                }
                // A packet is whole windows and whole index words.
                (config.rows, depth / m * n, n * 4 / gcd(n, 4))
            }
            Some(_) if v % size == 0 && (config.rows % v == 0 || v % config.rows == 0) => {
                (v.min(config.rows), depth, 4)
            }
            Some(_) => {
                let needed = "rows that share columns to be whole matrices and parts of tiles";
                return Err(unfit("V", v as usize, needed));
            }
        };
        let (span, load) = if problem.format.quant().is_some() {
            (gcd(slots, packet::CODES), Load::Words)
        } else {
            let quads = problem.values_in(4);
            let wide = quads * unit / gcd(quads, unit);
            if slots % wide == 0 {
                (wide, Load::Quads)
            } else {
                (unit, Load::Words)
            }
        };
        if slots % span != 0 || span % unit != 0 {
            return Err(unfit("slots of a step", slots, "whole packets"));
        }
        Ok(Self {
            size,
            down,
            across,
            subgroups: config.rows / rows * (config.batch / batch),
            set_rows,
            filled,
            kept: filled || even::balanced(problem.format).is_some(),
            slots: slots as u32,
            span,
            load,
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
        2 * staged + 4 * self.subgroups * self.size * self.size + 4 * u32::from(self.kept)
    }
}
