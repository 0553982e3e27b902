//! Workgroup grids.

use crate::caps::Caps;

/// Spreads `total` workgroups over x and y so that neither exceeds `limit`.
///
/// The kernel recovers the number as `x + y · num_workgroups.x` and returns
/// where it is not below its own total: the last row of a fold may be partly idle.
pub fn fold(total: u64, limit: u32) -> [u32; 3] {
    let x = total.min(u64::from(limit));
    let y = if x == 0 { 0 } else { total.div_ceil(x) };
    // Even out the rows so that a fold idles less than one workgroup per row.
    let x = if y == 0 { 0 } else { total.div_ceil(y) };
    [x as u32, u32::try_from(y).unwrap_or(u32::MAX), 1]
}

/// First vector, vectors of a turn and turns of each launch: as many whole turns as a grid takes,
/// then what is left.
pub(super) fn launches(vectors: usize, batch: u32, caps: &Caps) -> Vec<(usize, usize, u32)> {
    let turn = batch as usize;
    let whole = vectors / turn;
    let most = caps.max_workgroups as usize;
    let full = (0..whole).step_by(most);
    let mut launches: Vec<_> = full
        .map(|first| (first * turn, turn, most.min(whole - first) as u32))
        .collect();
    if vectors % turn > 0 {
        launches.push((whole * turn, vectors % turn, 1));
    }
    launches
}

#[cfg(test)]
mod tests {
    use super::fold;

    #[test]
    fn a_folded_grid_covers_every_workgroup_and_little_more() {
        for total in [
            0,
            1,
            7,
            65_534,
            65_535,
            65_536,
            65_537,
            131_071,
            1 << 24,
            (1 << 24) + 1,
        ] {
            let [x, y, z] = fold(total, 65_535);
            let covered = u64::from(x) * u64::from(y) * u64::from(z);
            assert!(x <= 65_535 && y <= 65_535);
            assert!(
                covered >= total && covered - total < u64::from(y.max(1)),
                "{total}: {x} x {y}"
            );
        }
    }
}
