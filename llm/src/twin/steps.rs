//! What a layer does between its products: each step computes in f64 and gives f32.

use crate::config::Activation;

/// Divides each vector of `weight.len()` elements by its root mean square and multiplies by
/// `weight`.
pub(super) fn rms_norm(x: &[f32], weight: &[f32], eps: f32) -> Vec<f32> {
    let mut y = x.to_vec();
    rms_norm_in_place(&mut y, weight, eps);
    y
}

/// [`rms_norm`] in place.
pub(super) fn rms_norm_in_place(x: &mut [f32], weight: &[f32], eps: f32) {
    for x in x.chunks_exact_mut(weight.len()) {
        let squares: f64 = x.iter().map(|&x| f64::from(x).powi(2)).sum();
        let scale = 1.0 / (squares / x.len() as f64 + f64::from(eps)).sqrt();
        for (x, &w) in x.iter_mut().zip(weight) {
            *x = (f64::from(*x) * scale * f64::from(w)) as f32;
        }
    }
}

/// Rotates the pairs `(i, i + head_dim / 2)` of every head. `x` is `[tokens, heads · head_dim]`, `table`
/// is `[tokens, head_dim / 2, 2]`: cosine and sine.
pub(super) fn rope(x: &mut [f32], table: &[f32], heads: usize, head_dim: usize) {
    let tokens = x.chunks_exact_mut(heads * head_dim);
    for (token, turns) in tokens.zip(table.chunks_exact(head_dim)) {
        for head in token.chunks_exact_mut(head_dim) {
            let (first, second) = head.split_at_mut(head_dim / 2);
            for ((a, b), turn) in first.iter_mut().zip(second).zip(turns.chunks_exact(2)) {
                let (cos, sin) = (f64::from(turn[0]), f64::from(turn[1]));
                let (x, y) = (f64::from(*a), f64::from(*b));
                *a = (x * cos - y * sin) as f32;
                *b = (y * cos + x * sin) as f32;
            }
        }
    }
}

/// `act(gate) ⊙ up`.
pub(super) fn gated(gate: &[f32], up: &[f32], activation: Activation) -> Vec<f32> {
    gate.iter()
        .zip(up)
        .map(|(&gate, &up)| (activation.of(f64::from(gate)) * f64::from(up)) as f32)
        .collect()
}

/// `x += y`.
pub(super) fn add(x: &mut [f32], y: &[f32]) {
    for (x, y) in x.iter_mut().zip(y) {
        *x += y;
    }
}
