//! The weights of a file: which there are, and what is known of each before it is read.

use crate::{
    container::{DENSE_SUFFIX, Declared, declared},
    error::{Error, Result, quoted},
    file::{Reading, WeightFile},
    layout::{self, Layout, Look, Quantization, Refusal, View},
    sections::{SUFFIXES, Section},
    tensor::weight_dtype,
};
use lacuna::format::Format;
use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

/// A weight of a file.
#[derive(Debug, Clone)]
pub struct Module {
    name: String,
    layout: Layout,
    tensors: Vec<String>,
    pub(crate) declared: Declared,
    bytes: u64,
    evidence: Vec<String>,
    warnings: Vec<String>,
}

impl Module {
    /// Its prefix `P`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How the file stores it.
    pub const fn layout(&self) -> Layout {
        self.layout
    }

    /// The format in which it is read, with the type of its values unless they are codes.
    pub const fn format(&self) -> Format {
        self.declared.format
    }

    /// How it is stored, for reports: `bf16`, `2:4@f16`, `GPTQ w4g128`.
    pub fn stored(&self) -> String {
        match self.layout {
            Layout::Tensor | Layout::Container => self.format().to_string(),
            layout => format!("{layout} {}", self.format()),
        }
    }

    /// Output features.
    pub const fn rows(&self) -> usize {
        self.declared.rows
    }

    /// Input features.
    pub const fn cols(&self) -> usize {
        self.declared.cols
    }

    /// The factor of all scales of its codes; 1 if it has no codes.
    pub const fn factor(&self) -> f32 {
        self.declared.factor
    }

    /// Bytes of all its tensors in the file.
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether it is a plain tensor `P.weight`.
    pub const fn is_dense(&self) -> bool {
        matches!(self.layout, Layout::Tensor)
    }

    /// Names of its tensors.
    pub fn tensors(&self) -> Vec<String> {
        self.tensors.clone()
    }

    /// For a weight in another program's layout: how the layout was recognised, and what follows.
    pub fn evidence(&self) -> &[String] {
        &self.evidence
    }

    /// What may be wrong with it, though it can be read.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }
}

/// A weight in a layout of another program that cannot be read.
#[derive(Debug, Clone)]
pub struct Refused {
    name: String,
    layout: Layout,
    reason: Refusal,
}

impl Refused {
    /// Its prefix `P`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The layout that it seems to be in.
    pub const fn layout(&self) -> Layout {
        self.layout
    }

    /// Why it cannot be read.
    pub const fn reason(&self) -> &Refusal {
        &self.reason
    }

    pub(crate) fn error(&self, file: &Path) -> Error {
        Error::Layout {
            file: file.to_owned(),
            module: self.name.clone(),
            layout: self.layout,
            reason: Box::new(self.reason.clone()),
        }
    }
}

impl WeightFile {
    pub(crate) fn find_modules(&mut self, reading: Reading) -> Result<()> {
        let containers = declared(self.path(), &self.metadata)?;
        let mut modules = BTreeMap::new();
        for (name, declared) in containers {
            let sections = self.check_sections(&name, declared)?;
            let dense = format!("{name}{DENSE_SUFFIX}");
            if self.tensors.contains_key(&dense) {
                let reason = format!(
                    "it is declared {} but {} is here too",
                    declared.format,
                    quoted(&dense)
                );
                return Err(Error::Module {
                    file: self.path().to_owned(),
                    module: name,
                    reason,
                });
            }
            let module = Self::stored_here(name, Layout::Container, declared, &sections);
            modules.insert(module.name.clone(), module);
        }
        let owned: BTreeSet<String> = modules.values().flat_map(Module::tensors).collect();
        self.find_dense(&mut modules);
        self.find_layouts(&mut modules, &owned, reading)?;
        self.modules = modules;
        Ok(())
    }

    fn stored_here(
        name: String,
        layout: Layout,
        declared: Declared,
        sections: &[Section],
    ) -> Module {
        let tensor = |section: &Section| format!("{name}{}", section.suffix);
        Module {
            layout,
            tensors: sections.iter().map(tensor).collect(),
            declared,
            bytes: declared.bytes().unwrap_or_default(),
            name,
            evidence: vec![],
            warnings: vec![],
        }
    }

    fn find_dense(&self, modules: &mut BTreeMap<String, Module>) {
        for (tensor, stored) in &self.tensors {
            let name = tensor
                .strip_suffix(DENSE_SUFFIX)
                .filter(|name| !name.is_empty());
            let (Some(name), Some(dtype), &[rows, cols]) =
                (name, weight_dtype(stored.dtype), stored.shape.as_slice())
            else {
                continue;
            };
            if let Ok(declared) = Declared::new(Format::Dense(dtype), rows, cols) {
                let sections = declared.sections().unwrap_or_default();
                let module = Self::stored_here(name.into(), Layout::Tensor, declared, &sections);
                modules.insert(name.into(), module);
            }
        }
    }

    /// Finds weights in the layouts of other programs.
    fn find_layouts(
        &mut self,
        modules: &mut BTreeMap<String, Module>,
        owned: &BTreeSet<String>,
        reading: Reading,
    ) -> Result<()> {
        let found = layout::find(self, owned);
        if found.is_empty() {
            return Ok(());
        }
        *self.quantization = Quantization::read(self.folder())?;
        let views: Vec<View> = found
            .iter()
            .map(|(name, (layout, _))| self.view(name, *layout))
            .collect();
        let convention = layout::convention(reading.gptq_zeros, &self.quantization, &views)?;
        self.convention = convention;
        for (name, (layout, tensors)) in found {
            let dense = modules.remove(&name);
            let readable = !matches!(layout, Layout::Other(_));
            let looked = match dense.filter(|_| readable) {
                Some(other) => Err(Refusal::Twice {
                    first: other.tensors.first().cloned().unwrap_or_default(),
                    second: tensors.first().cloned().unwrap_or_default(),
                }),
                None => match layout::look(&self.view(&name, layout)) {
                    Ok(look) => Ok(look),
                    Err(Error::Layout { reason, .. }) => Err(*reason),
                    Err(other) => return Err(other),
                },
            };
            match looked {
                Ok(look) => {
                    let module = self.looked_at(name, layout, tensors, look);
                    modules.insert(module.name.clone(), module);
                }
                Err(reason) => {
                    let refused = Refused {
                        name: name.clone(),
                        layout,
                        reason,
                    };
                    self.refused.insert(name, refused);
                }
            }
        }
        Ok(())
    }

    fn looked_at(&self, name: String, layout: Layout, tensors: Vec<String>, look: Look) -> Module {
        let stored = tensors.iter().filter_map(|tensor| self.tensors.get(tensor));
        let bytes = stored.map(|stored| stored.range.end - stored.range.start);
        Module {
            name,
            layout,
            bytes: bytes.sum(),
            tensors,
            declared: Declared {
                format: look.format,
                rows: look.rows,
                cols: look.cols,
                factor: look.factor,
            },
            evidence: look.evidence,
            warnings: look.warnings,
        }
    }

    pub(crate) fn view<'a>(&'a self, module: &'a str, layout: Layout) -> View<'a> {
        View {
            file: self,
            module,
            layout,
            config: &self.quantization,
            convention: &self.convention,
        }
    }

    /// The folder that its files are in.
    fn folder(&self) -> &Path {
        if self.path().is_dir() {
            return self.path();
        }
        match self.path().parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        }
    }

    fn check_sections(&self, module: &str, declared: Declared) -> Result<Vec<Section>> {
        let sections = declared.sections().map_err(|reason| Error::Module {
            file: self.path().to_owned(),
            module: module.to_owned(),
            reason,
        })?;
        self.check_no_others(module, declared, &sections)?;
        for section in &sections {
            let tensor = format!("{module}{}", section.suffix);
            let stored = self.stored(&tensor)?;
            let (what, got, expected) = if stored.dtype != section.dtype {
                ("type", stored.dtype.to_string(), section.dtype.to_string())
            } else if stored.shape != section.shape {
                (
                    "shape",
                    format!("{:?}", stored.shape),
                    format!("{:?}", section.shape),
                )
            } else {
                continue;
            };
            return Err(Error::Tensor {
                file: self.file_of(stored),
                tensor,
                what,
                got,
                expected,
            });
        }
        Ok(sections)
    }

    /// Refuses sections that a quantised weight must not have, such as zeros of a symmetric one: a
    /// reader that used them would get other values.
    fn check_no_others(&self, module: &str, declared: Declared, known: &[Section]) -> Result<()> {
        if declared.format.quant().is_none() {
            return Ok(());
        }
        let mut others = SUFFIXES
            .iter()
            .filter(|suffix| known.iter().all(|section| section.suffix != **suffix))
            .map(|suffix| format!("{module}{suffix}"));
        match others.find(|tensor| self.tensors.contains_key(tensor)) {
            None => Ok(()),
            Some(tensor) => Err(Error::Module {
                file: self.path().to_owned(),
                module: module.to_owned(),
                reason: format!(
                    "its format {} has no section {}, which is here",
                    declared.format,
                    quoted(&tensor)
                ),
            }),
        }
    }
}
