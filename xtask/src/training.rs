//! What the asset model's own training log says: how well it predicts text it has not
//! seen, whole and after pruning.

use std::{collections::BTreeMap, fs, path::Path};

#[derive(Default)]
pub struct Training {
    /// Bits per byte of held-out text with the stored weights.
    pub held_out: Option<f64>,
    /// The same with the linear layers pruned, by format (`2:4x8`).
    pub pruned: BTreeMap<String, f64>,
}

impl Training {
    /// An absent or unreadable log gives no figures: the demo does without them.
    pub fn read(path: &Path) -> Self {
        Self::parse(&fs::read_to_string(path).unwrap_or_default())
    }

    fn parse(log: &str) -> Self {
        let mut training = Self::default();
        for line in log.lines() {
            if line.starts_with("heldout.txt, stored") {
                let figure = line
                    .split(": ")
                    .nth(1)
                    .and_then(|rest| rest.split(' ').next());
                training.held_out = figure.and_then(|figure| figure.parse().ok());
            }
            // `2:4 | 8 | 50.00% | 2.1234`: kept of, rows sharing, density, bits per byte.
            let cells: Vec<&str> = line.split('|').map(str::trim).collect();
            let [kept, rows, _, bits] = cells[..] else {
                continue;
            };
            if let (Ok(rows), Ok(bits)) = (rows.parse::<usize>(), bits.parse()) {
                let format = if rows == 1 {
                    kept.into()
                } else {
                    format!("{kept}x{rows}")
                };
                training.pruned.insert(format, bits);
            }
        }
        training
    }
}

#[cfg(test)]
mod tests {
    use super::Training;

    #[test]
    fn figures_are_found() {
        let log = "\
step  2000  held-out 1.9990 bits per byte (heldout.txt)
heldout.txt, stored bf16 weights: 1.9876 bits per byte
magnitude pruning of every linear layer inside the blocks, no retraining, heldout.txt:
  kept of | rows sharing | density | bits per byte
    dense |            - | 100.00% | 1.9876
      2:4 |            1 |  50.00% | 2.3456
      2:4 |            8 |  50.00% | 2.5678
";
        let training = Training::parse(log);
        assert_eq!(training.held_out, Some(1.9876));
        assert_eq!(training.pruned.len(), 2);
        assert_eq!(training.pruned["2:4x8"].to_string(), "2.5678");
        assert!(Training::parse("").held_out.is_none());
    }
}
