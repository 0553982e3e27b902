//! Says which weight is compressed to which format.

use crate::{
    error::{Error, Result},
    small,
};
use lacuna::{
    compress::compress,
    format::{Dense, Format, Matrix},
};
use lacuna_io::TensorGlobs;
use std::{fmt, path::Path};

/// What stands in a recipe in place of a format, to leave a weight as the file has it.
const AS_STORED: &str = "dense";
/// The glob of every linear product inside the blocks.
const BLOCKS: &str = "model.layers.*";
/// The most bytes of a recipe that are read.
const MAX_RECIPE: u64 = 1 << 20;

/// Formats by globs on module names. The last line that matches a name wins.
///
/// ```
/// use lacuna_llm::Recipe;
/// let recipe = Recipe::parse(
///     "model.layers.* = 2:4       # all of the blocks
///      *.down_proj    = dense     # but not these
///      model.layers.0.* = 4:8@f16",
/// )?;
/// assert_eq!(recipe.format_for("model.layers.1.mlp.up_proj"), Some("2:4".parse()?));
/// assert_eq!(recipe.format_for("model.layers.1.mlp.down_proj"), None);
/// assert_eq!(recipe.format_for("lm_head"), None);
/// # Ok::<(), lacuna_llm::Error>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct Recipe {
    lines: Vec<Line>,
}

#[derive(Debug, Clone)]
struct Line {
    glob: String,
    matcher: TensorGlobs,
    format: Option<Format>,
}

impl Recipe {
    /// Reads lines `GLOB = FORMAT` or `GLOB = dense`; `#` starts a comment. Weights that no line matches
    /// stay as they are.
    ///
    /// # Errors
    /// [`Error::RecipeSyntax`].
    pub fn parse(text: &str) -> Result<Self> {
        let mut lines = Vec::new();
        for (i, text) in text.lines().enumerate() {
            let line = text.split('#').next().unwrap_or_default().trim();
            if line.is_empty() {
                continue;
            }
            lines.push(Line::parse(line).map_err(|reason| Error::RecipeSyntax {
                line: i + 1,
                text: text.trim().into(),
                reason,
            })?);
        }
        Ok(Self { lines })
    }

    /// One format for every linear product inside the blocks; embedding and head stay as they are.
    ///
    /// # Panics
    /// Never: the glob is a constant.
    pub fn uniform(format: Format) -> Self {
        Self::of_blocks(Some(format))
    }

    fn of_blocks(format: Option<Format>) -> Self {
        let matcher = TensorGlobs::new([BLOCKS]).expect("a valid glob");
        let glob = BLOCKS.to_owned();
        Self {
            lines: vec![Line {
                glob,
                matcher,
                format,
            }],
        }
    }

    /// Reads a command-line argument: a format for all blocks, `dense`, or `@FILE` for a recipe in a file.
    ///
    /// # Errors
    /// [`Error::Engine`] for a text that is no format, [`Error::Choice`] for `@` alone; [`Error::Read`], [`Error::File`] and
    /// [`Error::RecipeSyntax`] for a file.
    pub fn from_arg(arg: &str) -> Result<Self> {
        match arg.strip_prefix('@') {
            Some("") => Err(Error::Choice {
                what: "format",
                value: arg.into(),
                supported: "a format, dense, or @FILE with the name of a recipe's file".into(),
            }),
            Some(file) => Self::read(Path::new(file)),
            None if arg == AS_STORED => Ok(Self::of_blocks(None)),
            None => Ok(Self::uniform(arg.parse()?)),
        }
    }

    fn read(file: &Path) -> Result<Self> {
        let text = small::read_text(file, MAX_RECIPE)?;
        Self::parse(&text.ok_or_else(|| small::missing(file))?)
    }

    /// The format for a module; `None` leaves it as the file has it.
    pub fn format_for(&self, module: &str) -> Option<Format> {
        let line = self.lines.iter().rev().find(|l| l.matcher.matches(module));
        line.and_then(|line| line.format)
    }

    /// The globs that match none of `modules`, as a misspelt one does.
    pub fn unmatched<'a>(&'a self, modules: &'a [String]) -> impl Iterator<Item = &'a str> {
        let idle = |line: &&Line| !modules.iter().any(|module| line.matcher.matches(module));
        self.lines.iter().filter(idle).map(|line| &*line.glob)
    }

    /// `matrix` in the format for `module`, pruned by magnitude if that format is sparse.
    ///
    /// # Errors
    /// [`Error::F16Overflow`] and [`Error::Module`], which name the module.
    pub fn compress(&self, module: &str, matrix: Matrix) -> Result<Matrix> {
        let cols = matrix.cols().max(1);
        apply(matrix, self.format_for(module)).map_err(|e| match e {
            Error::Engine(lacuna::Error::Overflow {
                index,
                value,
                dtype: lacuna::format::Dtype::F16,
                ..
            }) => Error::F16Overflow {
                module: module.into(),
                row: index / cols,
                col: index % cols,
                value,
            },
            Error::Engine(reason) => Error::Module {
                module: module.into(),
                reason,
            },
            other => other,
        })
    }
}

/// `matrix` in `format`, or as it is for `None`.
///
/// A weight that is compressed already, in another format, is first decoded to the dense weight that it
/// stands for.
///
/// # Errors
/// [`Error::Engine`]: a value that does not fit the format's type, or is not finite.
pub fn apply(matrix: Matrix, format: Option<Format>) -> Result<Matrix> {
    let own = matrix.format();
    let Some(format) = format.map(|f| f.or_dtype(own.dense_dtype())) else {
        return Ok(matrix);
    };
    if format == own {
        return Ok(matrix);
    }
    let dense: Dense = match matrix {
        Matrix::Dense(dense) => dense,
        sparse => sparse.to_dense(),
    };
    Ok(compress(&dense, format)?)
}

impl Line {
    fn parse(line: &str) -> Result<Self, String> {
        let (glob, format) = line
            .split_once('=')
            .ok_or("a line is GLOB = FORMAT or GLOB = dense")?;
        let (glob, format) = (glob.trim(), format.trim());
        if glob.is_empty() || glob.starts_with('!') {
            return Err("a glob is not empty and does not begin with !".into());
        }
        let format = match format {
            AS_STORED => None,
            format => Some(format.parse().map_err(|e: lacuna::Error| e.to_string())?),
        };
        Ok(Self {
            glob: glob.into(),
            matcher: TensorGlobs::new([glob]).map_err(|e| e.to_string())?,
            format,
        })
    }
}

/// One line for each rule, as [`Recipe::parse`] reads it.
impl fmt::Display for Recipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Line { glob, format, .. } in &self.lines {
            match format {
                Some(format) => writeln!(f, "{glob} = {format}")?,
                None => writeln!(f, "{glob} = {AS_STORED}")?,
            }
        }
        Ok(())
    }
}
