//! Runs the whole model: a text sample, and the quality, size and speed of each format.

use std::{fs, path::Path};

use serde_json::Value;

use crate::{
    checks::Checks,
    error::{Error, Result},
    lacuna::{Device, Lacuna},
    quality::{FORMATS, megabytes},
    table::{Table, figure},
};

const PROMPT: &str = "KING HENRY V:\n";

/// How much of the held-out text, from its start, is predicted: enough to rank the formats, little
/// enough for a software adapter.
const TEXT_BYTES: usize = 3072;

/// Allowed difference between adapter and reference in bits per byte: far more than rounding explains,
/// and too little to show in the table.
const TOLERANCE: f64 = 5e-4;

pub struct Language {
    pub device: Device,
    /// The prompt and what the model wrote after it.
    pub sample: String,
    pub table: Table,
}

impl Language {
    pub fn title(&self) -> String {
        let place = match self.device {
            Device::Gpu => "on the adapter",
            Device::Cpu => "by the reference on the processor",
        };
        format!("What the model writes after \"{}\", {place}", PROMPT.trim())
    }
}

/// Without an adapter the reference computes everything, and nothing is timed.
pub fn run(
    lacuna: &Lacuna,
    adapter: bool,
    model: &Path,
    folder: &Path,
    checks: &mut Checks,
) -> Result<Language> {
    let device = if adapter { Device::Gpu } else { Device::Cpu };
    let sample = lacuna.generate(model, PROMPT, device)?;
    let text = folder.join("heldout.txt");
    write_start(&model.join("heldout.txt"), &text)?;
    let bits = |format, device| bits_per_byte(&lacuna.eval(model, &text, format, device)?);

    let mut rows = vec![];
    for format in [None].into_iter().chain(FORMATS.map(Some)) {
        let found = bits(format, device)?;
        // Checks one format only, as the reference takes as long as a software adapter.
        if adapter && format == Some(FORMATS[0]) {
            let expected = bits(format, Device::Cpu)?;
            checks.that((found - expected).abs() <= TOLERANCE, || {
                format!(
                    "{} on the adapter: {found:.6} bits per byte, on the reference {expected:.6}",
                    FORMATS[0]
                )
            });
        }
        rows.push((format.unwrap_or("dense"), found));
    }
    let formats: Vec<&str> = rows.iter().map(|&(format, _)| format).collect();
    let times = adapter.then(|| lacuna.bench_model(model, &formats));
    let table = table(&rows, times.transpose()?.as_ref())?;
    Ok(Language {
        device,
        sample,
        table,
    })
}

fn write_start(from: &Path, to: &Path) -> Result<()> {
    let text = fs::read_to_string(from).map_err(Error::at(from))?;
    let start = text.get(..TEXT_BYTES).unwrap_or(&text);
    fs::write(to, start).map_err(Error::at(to))
}

fn bits_per_byte(report: &Value) -> Result<f64> {
    let bits = report["bits_per_byte"].as_f64();
    bits.ok_or_else(|| Error::new("`lacuna eval` gave no bits per byte"))
}

/// `rows` are formats and their bits per byte; `times` is the bench's result for the same formats.
fn table(rows: &[(&str, f64)], times: Option<&Value>) -> Result<Table> {
    let mut head = vec!["format", "bits per byte"];
    let mut notes = vec![format!(
        "Bits per byte: how many bits the model needs for a byte of text it has not seen, here the first \
         {TEXT_BYTES} bytes of assets/shakespeare/heldout.txt, when its linear layers are pruned \
         like this and not trained again. Lower is better, and 8 is knowing nothing. Users train \
         or calibrate after pruning: this is the raw loss."
    )];
    if times.is_some() {
        head.extend(["weights (MB)", "tokens/s", "x dense"]);
        notes.push(
            "Weights: the whole model, the embedding included. Tokens/s: writing one token after \
             another; x dense is the median over rounds, so it need not be the quotient. This \
             model is so small that little of a token's time goes into reading weights: what \
             leaving them out gains is seen in the large products."
                .into(),
        );
    } else {
        notes.push(
            "Computed by the reference on the processor, whose speed says nothing of the engine's."
                .into(),
        );
    }
    let mut table = Table {
        notes,
        ..Table::new("What a format costs the model, and what it buys", &head)
    };
    for (format, bits) in rows {
        let mut row = vec![(*format).into(), format!("{bits:.3}")];
        if let Some(times) = times {
            let times = times["rows"].as_array().into_iter().flatten();
            row.extend(
                times
                    .filter(|row| row["format"] == *format)
                    .find_map(timed)
                    .ok_or_else(|| Error::new(format!("{format} was not timed")))?,
            );
        }
        table.rows.push(row);
    }
    Ok(table)
}

/// The table cells from one row of the bench.
fn timed(row: &Value) -> Option<[String; 3]> {
    Some([
        megabytes(row["weight_bytes"].as_u64()? as usize),
        figure(row["decode_tokens_per_s"].as_f64()?),
        format!("{:.2}", row["x_first"].as_f64()?),
    ])
}

#[cfg(test)]
mod tests {
    use super::{bits_per_byte, table};
    use serde_json::json;

    #[test]
    fn each_format_meets_its_own_times() {
        let times = json!({"rows": [
            {"format": "2:4", "weight_bytes": 3_684_608, "decode_tokens_per_s": 384.0, "x_first": 1.5},
            {"format": "dense", "weight_bytes": 6_429_952, "decode_tokens_per_s": 253.4, "x_first": 1.0},
        ]});
        let rows = [("dense", 2.28376), ("2:4", 2.4019)];
        let timed = table(&rows, Some(&times)).expect("times");
        assert_eq!(timed.rows[0], ["dense", "2.284", "6.43", "253", "1.00"]);
        assert_eq!(timed.rows[1], ["2:4", "2.402", "3.68", "384", "1.50"]);
        assert_eq!(table(&rows, None).expect("bits").rows[1], ["2:4", "2.402"]);
        // A figure that is missing is an error, not an empty cell.
        assert!(table(&[("1:8", 5.0)], Some(&times)).is_err());
        assert!(bits_per_byte(&json!({"bits_per_byte": null})).is_err());
    }
}
