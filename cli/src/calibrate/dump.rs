//! Writes the activations of a layer to a file as they are seen.
//!
//! `layer-NNNNN.safetensors` holds F32 tensors [samples, cols]: `P.input` for each distinct input of
//! products, where P is the first product that takes it, and the values of the feed-forward,
//! `model.layers.N.mlp.gate` (after the activation function) and `….mlp.up`.

use crate::error::Result;
use lacuna_io::{Output, TensorDtype, Writer};
use lacuna_llm::{Config, Gate, Site, blocks::Seen};
use std::path::Path;

/// A file being written.
pub struct Dump {
    writer: Writer,
    layer: usize,
}

impl Dump {
    /// Creates the file for `samples` vectors of layer `layer` in the folder `dir`.
    pub fn create(dir: &Path, config: &Config, layer: usize, samples: u64) -> Result<Self> {
        let (mut output, samples) = (Output::new(), samples as usize);
        let mut tensor = |name: &str, cols| output.tensor(name, TensorDtype::F32, &[samples, cols]);
        for site in Site::ALL {
            tensor(&input(site, layer), config.width(site))?;
        }
        for what in ["gate", "up"] {
            tensor(&of_block(layer, what), config.ffn)?;
        }
        let file = dir.join(format!("layer-{layer:05}.safetensors"));
        Ok(Self {
            writer: output.create(file)?,
            layer,
        })
    }

    pub fn add(&mut self, seen: Seen<'_>) -> Result<()> {
        let mut append = |name: &str, x: &[f32]| {
            let bytes: Vec<u8> = x.iter().flat_map(|v| v.to_le_bytes()).collect();
            self.writer.append(name, &bytes)
        };
        match seen {
            Seen::Input(site, x) => append(&input(site, self.layer), x)?,
            Seen::FeedForward { gate, up } => {
                append(&of_block(self.layer, "gate"), gate)?;
                append(&of_block(self.layer, "up"), up)?;
            }
        }
        Ok(())
    }

    pub fn finish(self) -> Result<()> {
        Ok(self.writer.finish()?)
    }
}

fn input(site: Site, layer: usize) -> String {
    format!("{}.input", site.module(layer))
}

fn of_block(layer: usize, what: &str) -> String {
    format!("{}.{what}", Gate::FeedForward.module(layer))
}
