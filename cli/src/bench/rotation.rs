//! How many copies of each weight are needed for every use of a copy to find it cold in cache.
//!
//! Subjects run round by round, one sample each. A sample runs `per_sample` products on
//! neighbouring copies; the next sample continues with the copies after these. Between two uses of
//! a copy the device touches all other copies of its weight and whatever samples of other weights
//! in between touch.

/// A sample aims to last at least this long.
pub const LEAST_SECONDS: f64 = 0.002;
/// Most products that this takes in one sample.
const MOST_PER_SAMPLE: usize = 256;
/// Most copies of one weight: with more, uploading takes longer than timing.
const MOST_COPIES: usize = 2048;
/// Copies of a weight so small that even [`MOST_COPIES`] would not make it cold.
const HOPELESS_COPIES: usize = 256;

/// A weight in the run.
pub struct Need {
    /// Bytes of one copy on the device.
    pub bytes: u64,
    /// Subjects that use it.
    pub subjects: usize,
    /// Seconds that a product of its fastest subject takes.
    pub seconds: f64,
}

/// How a weight is rotated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rotation {
    /// Copies on the device.
    pub copies: usize,
    /// Products of one sample.
    pub per_sample: usize,
    /// Whether enough other bytes are touched between two uses of a copy.
    pub cold: bool,
}

impl Rotation {
    /// Number of samples until the first copy is used again.
    pub fn turns(&self) -> usize {
        (self.copies / self.per_sample).max(1)
    }
}

/// One copy of each weight, used again and again.
pub fn hot(needs: &[Need]) -> Vec<Rotation> {
    let rotation = |need: &Need| Rotation {
        copies: 1,
        per_sample: per_sample(need),
        cold: false,
    };
    needs.iter().map(rotation).collect()
}

/// Rotations that touch `target` bytes between two uses of a copy, as far as `budget`
/// bytes of copies allow.
pub fn cold(needs: &[Need], target: u64, budget: u64) -> Vec<Rotation> {
    // Alone, one weight needs this many copies.
    let alone = |need: &Need| 1 + target.div_ceil(need.bytes) as usize;
    let mut all: Vec<Rotation> = needs
        .iter()
        .map(|need| Rotation {
            copies: alone(need),
            per_sample: per_sample(need),
            cold: false,
        })
        .collect();
    let helps: Vec<u64> = (0..needs.len()).map(|i| help(needs, &all, i)).collect();
    for ((rotation, need), help) in all.iter_mut().zip(needs).zip(helps) {
        let products = rotation.per_sample;
        if products < rotation.copies {
            let turns =
                (target + need.bytes).div_ceil(products as u64 * need.bytes + help) as usize;
            let most = if products * turns > MOST_COPIES {
                HOPELESS_COPIES
            } else {
                MOST_COPIES
            };
            rotation.copies = products * turns.min(most / products).max(1);
        }
        rotation.fit();
    }
    loop {
        let bytes = |i: usize| needs[i].bytes.saturating_mul(all[i].copies as u64);
        if (0..needs.len()).map(bytes).fold(0, u64::saturating_add) <= budget {
            break;
        }
        let shrinkable = (0..needs.len()).filter(|&i| all[i].copies > 1);
        let Some(largest) = shrinkable.max_by_key(|&i| bytes(i)) else {
            break;
        };
        let rotation = &mut all[largest];
        rotation.copies -= if rotation.turns() > 1 {
            rotation.per_sample
        } else {
            1
        };
        rotation.fit();
    }
    for i in 0..needs.len() {
        let (rotation, bytes) = (all[i], needs[i].bytes);
        let own = (rotation.copies as u64 - 1) * bytes;
        let cycled = rotation.per_sample > rotation.copies;
        let others = if cycled {
            0
        } else {
            rotation.turns() as u64 * help(needs, &all, i)
        };
        all[i].cold = own + others >= target;
    }
    all
}

impl Rotation {
    /// Reduces the rotation to the copies that fitted into memory.
    pub fn shrink_to(&mut self, copies: usize) {
        self.copies = copies;
        if self.turns() > 1 {
            self.copies -= copies % self.per_sample;
        }
        self.fit();
        self.cold = false;
    }

    /// If a sample has more products than there are copies, makes it use each copy equally often.
    fn fit(&mut self) {
        if self.per_sample > self.copies {
            self.per_sample = self.per_sample.next_multiple_of(self.copies);
        }
    }
}

fn per_sample(need: &Need) -> usize {
    let wanted = (LEAST_SECONDS / need.seconds).ceil() as usize;
    wanted.clamp(1, MOST_PER_SAMPLE)
}

/// Bytes that samples of other weights touch between two samples of weight `i`: 0 if several
/// subjects share `i`, as their samples may follow each other directly.
fn help(needs: &[Need], all: &[Rotation], i: usize) -> u64 {
    if needs[i].subjects > 1 {
        return 0;
    }
    let others = (0..needs.len()).filter(|&j| j != i);
    let touched = |j: usize| all[j].per_sample.min(all[j].copies) as u64 * needs[j].bytes;
    others.map(touched).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn need(mib: u64, subjects: usize, seconds: f64) -> Need {
        Need {
            bytes: mib << 20,
            subjects,
            seconds,
        }
    }

    #[test]
    fn a_weight_alone_is_copied_until_the_target_lies_between() {
        let [one] = cold(&[need(64, 1, 0.01)], 256 << 20, u64::MAX)[..] else {
            panic!("one rotation")
        };
        assert_eq!((one.copies, one.per_sample, one.cold), (5, 1, true));
    }

    #[test]
    fn other_weights_of_the_round_count() {
        let all = cold(
            &[need(64, 1, 0.01), need(256, 1, 0.01)],
            256 << 20,
            u64::MAX,
        );
        assert_eq!(all[0].copies, 1);
        assert!(all.iter().all(|r| r.cold));
    }

    #[test]
    fn short_products_share_a_sample_and_never_cycle_early() {
        let all = cold(&[need(8, 2, 1e-5)], 256 << 20, u64::MAX);
        assert_eq!(
            (all[0].copies, all[0].per_sample, all[0].cold),
            (33, 231, true)
        );
    }

    #[test]
    fn a_small_budget_is_kept_and_reported() {
        let all = cold(&[need(64, 2, 0.01), need(64, 2, 0.01)], 1 << 30, 256 << 20);
        assert_eq!(all.iter().map(|r| r.copies).sum::<usize>(), 4);
        assert!(all.iter().all(|r| !r.cold));
    }
}
