//! How kept values are stored: as they are, or as codes on grids.

use crate::error::{Error, Result};
use half::{bf16, f16};
use lacuna::{
    compress::{Grid, Quantizer},
    format::{Columns, Dense, Dtype, Format, Gqs, Matrix, Nm, Pattern, Quantized},
};
use std::ops::Range;

/// How the values of a format are stored.
#[derive(Debug)]
pub(crate) struct Storage {
    format: Format,
    dtype: Dtype,
    quantizer: Option<Quantizer>,
    stride: usize,
}

/// What one row keeps.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    /// The columns kept, in ascending order.
    pub(crate) columns: Vec<u32>,
    /// The stored value of each of them.
    pub(crate) values: Vec<f32>,
    /// A grid for every [`Storage::stride`] values; none if values are stored as they are.
    pub(crate) grids: Vec<Grid>,
}

impl Storage {
    /// The storage of `dense` in `format`.
    pub(crate) fn new(format: Format, dense: &Dense) -> Self {
        let cols = dense.cols();
        let quant = format.quant();
        let group = quant.map_or(cols, |q| q.group_cols(cols));
        Self {
            format,
            dtype: format.dtype().unwrap_or_else(|| dense.values().dtype()),
            quantizer: quant.map(|quant| Quantizer::new(quant, dense)),
            stride: format.pattern().map_or(group, |p| p.slots(group)).max(1),
        }
    }

    /// Whether values become codes.
    pub(crate) const fn coded(&self) -> bool {
        self.quantizer.is_some()
    }

    /// How many kept values of a row share a grid.
    pub(crate) fn stride(&self) -> usize {
        self.stride
    }

    /// How many columns of a row share a grid, kept or not.
    pub(crate) fn group(&self, cols: usize) -> usize {
        self.format
            .quant()
            .map_or(cols, |q| q.group_cols(cols))
            .max(1)
    }

    /// The grid for `values`, if they become codes. `importances` are the costs of their squared
    /// errors.
    pub(crate) fn grid(&self, values: &[f32], importances: Option<&[f32]>) -> Option<Grid> {
        let quantizer = self.quantizer.as_ref()?;
        Some(quantizer.grid(values, importances))
    }

    /// The value that is stored for `value`. If it is too large for the type it stays as it is, so
    /// that [`pack`](Self::pack) can report it.
    pub(crate) fn round(&self, grid: Option<&Grid>, value: f64) -> f32 {
        let value = value as f32;
        let rounded = match (grid, self.dtype) {
            (Some(grid), _) => grid.value(grid.code(value)),
            (None, Dtype::F32) => value,
            (None, Dtype::F16) => f16::from_f32(value).to_f32(),
            (None, Dtype::Bf16) => bf16::from_f32(value).to_f32(),
        };
        if rounded.is_finite() { rounded } else { value }
    }

    /// A row of `values` in `columns`, on the grids that cost least by `E[x²]`, if that is known.
    pub(crate) fn row(
        &self,
        columns: Vec<u32>,
        values: Vec<f32>,
        mean_square: Option<&[f32]>,
    ) -> Row {
        let of_columns = |all: &[f32]| columns.iter().map(|&c| all[c as usize]).collect();
        let costs: Option<Vec<f32>> = mean_square.map(of_columns);
        let grid = |(index, values): (usize, &[f32])| {
            let first = index * self.stride;
            let costs = costs.as_ref().map(|all| &all[first..first + values.len()]);
            self.grid(values, costs)
        };
        Row {
            grids: { values.chunks(self.stride) }
                .enumerate()
                .filter_map(grid)
                .collect(),
            columns,
            values,
        }
    }

    /// Packs rows into a weight with `cols` columns.
    pub(crate) fn pack(self, cols: usize, rows: &[Row]) -> Result<Matrix> {
        match self.format {
            Format::Nm { pattern, .. } => {
                let mut values = vec![0.0; rows.len() * cols];
                for (row, to) in rows.iter().zip(values.chunks_mut(cols.max(1))) {
                    for (&col, &value) in row.columns.iter().zip(&row.values) {
                        to[col as usize] = value;
                    }
                }
                let dense = Dense::from_f32(rows.len(), cols, values)?.to_dtype(self.dtype)?;
                Ok(Nm::keep(&dense, columns(pattern, cols, rows)?)?.into())
            }
            Format::Quantized { pattern, .. } => {
                let columns = pattern.map(|p| columns(p, cols, rows)).transpose()?;
                let slots = pattern.map_or(cols, |p| p.slots(cols));
                let stride = self.stride;
                let codes = self.codes(rows, |first| stride.min(slots - first))?;
                Ok(Quantized::new(rows.len(), cols, columns, codes)?.into())
            }
            Format::Gqs { pruning, .. } => {
                let group = self.stride;
                let (mut offsets, mut indices) = (vec![0], vec![]);
                for row in rows {
                    indices.extend(row.columns.chunks(group).map(|c| c[0] / group as u32));
                    offsets.push(indices.len() as u32);
                }
                let codes = self.codes(rows, |_| group)?;
                Ok(Gqs::from_parts(rows.len(), cols, pruning, offsets, indices, codes)?.into())
            }
            format => Err(Error::Format { format }),
        }
    }

    /// The codes of `rows`. A group that begins at position `first` of its row gets `len(first)`
    /// codes.
    fn codes(self, rows: &[Row], len: impl Fn(usize) -> usize) -> Result<lacuna::format::Codes> {
        let format = self.format;
        let mut quantizer = self.quantizer.ok_or(Error::Format { format })?;
        for row in rows {
            let groups = row.values.chunks(self.stride).zip(&row.grids);
            for (index, (values, &grid)) in groups.enumerate() {
                quantizer.push(grid, values, len(index * self.stride));
            }
        }
        Ok(quantizer.finish()?)
    }
}

/// The columns that `rows` keep, as n of every m.
pub(crate) fn columns(pattern: Pattern, cols: usize, rows: &[Row]) -> Result<Columns> {
    let add = |set: Range<usize>, window: Range<usize>, scores: &mut [f64]| {
        let columns = &rows[set.start].columns;
        let from = columns.partition_point(|&c| (c as usize) < window.start);
        let here = columns[from..].iter().map(|&c| c as usize);
        for col in here.take_while(|c| window.contains(c)) {
            scores[col - window.start] = 1.0;
        }
    };
    Ok(Columns::select(pattern, rows.len(), cols, add)?)
}
