//! Decides what happens to each tensor, layer by layer.

use super::input::{Input, Tensor, Weight};
use crate::error::{Error, Result};
use lacuna::format::Format;
use lacuna_io::{Output, TensorGlobs, printable};
use lacuna_llm::Recipe;
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    ops::Range,
    str::FromStr,
};

/// A part of the output that is computed and stored on its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// The tensors of a layer.
    Layer(usize),
    /// The tensors of no layer: embeddings, head, last norm.
    Rest,
}

impl Part {
    /// The part of a tensor: the first number among the words of its name is its layer.
    fn of(name: &str) -> Self {
        let number = |word: &str| word.parse().ok().filter(|n: &usize| n.to_string() == word);
        name.split('.')
            .find_map(number)
            .map_or(Self::Rest, Self::Layer)
    }
}

/// The stem of its files' names.
impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Layer(layer) => write!(f, "layer-{layer:05}"),
            Self::Rest => f.write_str("rest"),
        }
    }
}

impl FromStr for Part {
    type Err = ();

    fn from_str(name: &str) -> Result<Self, ()> {
        let part = match name.strip_prefix("layer-") {
            Some(layer) => Self::Layer(layer.parse().map_err(|_| ())?),
            None => Self::Rest,
        };
        (part.to_string() == name).then_some(part).ok_or(())
    }
}

/// The layers `A..B`: from A up to, not including, B.
#[derive(Debug, Clone)]
pub struct Layers(Range<usize>);

impl FromStr for Layers {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = text
            .split_once("..")
            .and_then(|(a, b)| Some(a.parse().ok()?..b.parse().ok()?));
        parsed
            .filter(|layers| !layers.is_empty())
            .map(Self)
            .ok_or_else(|| "layers are A..B, from A up to and without B, as 0..4".into())
    }
}

/// Which format a weight gets.
pub enum Target {
    /// This format, for all selected weights.
    Format(Format),
    /// The format that the recipe gives.
    Recipe(Recipe),
}

impl Target {
    /// Reads `FORMAT` or `@FILE`.
    pub fn parse(text: &str) -> Result<Self> {
        let Some(file) = text.strip_prefix('@') else {
            return Ok(Self::Format(text.parse()?));
        };
        let recipe = Recipe::from_arg(text)?;
        if recipe.to_string().is_empty() {
            let reason = format!("{}: the recipe has no line GLOB = FORMAT", printable(file));
            return Err(Error::Input(reason));
        }
        Ok(Self::Recipe(recipe))
    }

    fn format(&self, module: &str) -> Option<Format> {
        match self {
            Self::Format(format) => Some(*format),
            Self::Recipe(recipe) => recipe.format_for(module),
        }
    }
}

/// Written on one line.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Format(format) => format.fmt(f),
            Self::Recipe(recipe) => {
                let lines = recipe.to_string();
                f.write_str(&lines.lines().collect::<Vec<_>>().join("; "))
            }
        }
    }
}

/// The tensors of one part.
#[derive(Default)]
pub struct Content {
    /// Weights that get a new format, and that format.
    pub compressed: Vec<(Weight, Format)>,
    /// Weights that stay as they are.
    pub kept: Vec<Weight>,
    pub tensors: Vec<Tensor>,
}

impl Content {
    /// The header of the part's file.
    pub fn declare(&self) -> Result<Output> {
        let mut output = Output::new();
        for (weight, format) in &self.compressed {
            output.weight(&weight.name, *format, weight.rows, weight.cols)?;
        }
        for weight in &self.kept {
            output.weight(&weight.name, weight.format, weight.rows, weight.cols)?;
        }
        for tensor in &self.tensors {
            output.tensor(&tensor.name, tensor.dtype, &tensor.shape)?;
        }
        Ok(output)
    }
}

/// The parts of the output.
pub struct Plan {
    pub parts: BTreeMap<Part, Content>,
}

impl Plan {
    /// Decides about every tensor of `input`. Without globs, a recipe alone selects the weights.
    pub fn new(input: &Input, target: &Target, globs: &[String]) -> Result<Self> {
        let weights = input.weights()?;
        let names = weights.iter().map(|weight| weight.name.as_str());
        let selected: BTreeSet<String> = match target {
            Target::Recipe(_) if globs.is_empty() => names.map(str::to_owned).collect(),
            _ => {
                let selected = TensorGlobs::new(globs)?.select(names)?;
                selected.into_iter().map(str::to_owned).collect()
            }
        };
        // `Rest` always exists, as it holds the text entries of the header.
        let mut parts = BTreeMap::from([(Part::Rest, Content::default())]);
        let mut compressed = 0;
        for weight in weights {
            let content = parts.entry(Part::of(&weight.name)).or_default();
            let format = target.format(&weight.module);
            match format.filter(|_| selected.contains(&weight.name)) {
                Some(format) => {
                    let format = format.or_dtype(weight.format.dense_dtype());
                    content.compressed.push((weight, format));
                    compressed += 1;
                }
                None => content.kept.push(weight),
            }
        }
        for tensor in input.tensors()? {
            let content = parts.entry(Part::of(&tensor.name)).or_default();
            content.tensors.push(tensor);
        }
        if compressed == 0 {
            let reason = "the recipe gives no selected weight of the input a format";
            return Err(Error::Usage(reason.into()));
        }
        // Refuses what cannot be written before anything is computed.
        parts
            .values()
            .try_for_each(|content| content.declare().map(drop))?;
        Ok(Self { parts })
    }

    /// All weights that get a new format.
    pub fn compressed(&self) -> impl Iterator<Item = &(Weight, Format)> {
        self.parts.values().flat_map(|content| &content.compressed)
    }

    /// The parts to compute: all, or those of some layers. `Rest` belongs to layer 0, so that it is
    /// computed once however the layers are split.
    pub fn select(&self, layers: Option<&Layers>) -> Result<Vec<Part>> {
        let Some(Layers(range)) = layers else {
            return Ok(self.parts.keys().copied().collect());
        };
        let last = self.parts.keys().rev().find_map(|part| match part {
            Part::Layer(layer) => Some(*layer),
            Part::Rest => None,
        });
        if last.is_none_or(|last| range.end > last + 1) {
            let has = last.map_or("no layers".into(), |last| format!("layers 0..{}", last + 1));
            return Err(Error::Usage(format!(
                "--layers is {}..{}, the input has {has}",
                range.start, range.end
            )));
        }
        let wanted = |part: &&Part| match part {
            Part::Layer(layer) => range.contains(layer),
            Part::Rest => range.contains(&0),
        };
        Ok(self.parts.keys().filter(wanted).copied().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_number_of_a_name_is_its_layer() {
        for (name, part) in [
            ("model.layers.12.mlp.up_proj", Part::Layer(12)),
            ("h.0.attn.1", Part::Layer(0)),
            ("model.norm.weight", Part::Rest),
            ("layers.01.x", Part::Rest),
            ("conv1.weight", Part::Rest),
        ] {
            assert_eq!(Part::of(name), part, "{name}");
        }
        for part in [Part::Layer(0), Part::Layer(123_456), Part::Rest] {
            assert_eq!(part.to_string().parse(), Ok(part));
        }
        for name in ["", "layer-1", "layer-+0001", "Rest", "layer-"] {
            assert_eq!(name.parse::<Part>(), Err(()), "{name}");
        }
    }

    #[test]
    fn layers_are_a_range_that_is_not_empty() {
        assert_eq!("0..4".parse::<Layers>().unwrap().0, 0..4);
        for wrong in ["", "4", "4..4", "5..4", "a..b", "0..", "..3", "0...4"] {
            assert!(wrong.parse::<Layers>().is_err(), "{wrong}");
        }
    }
}
