//! Selection of weights by name.

use crate::error::{Error, Result};
use globset::{Glob, GlobMatcher};

/// Excluded unless asked for: pruning embeddings, the output layer or norms costs more accuracy
/// than it saves.
const DEFAULT_EXCLUDED: [&str; 3] = ["*embed*", "*lm_head*", "*norm*"];

/// A selection of modules by globs on their names.
///
/// A weight is selected if at least one plain glob and no `!GLOB` matches it, in whatever order
/// they are given. If there is no plain glob, all weights are candidates except `*embed*`,
/// `*lm_head*` and `*norm*`. `*` also matches dots; case matters.
#[derive(Debug, Clone)]
pub struct TensorGlobs {
    given: Vec<Given>,
    default: Vec<GlobMatcher>,
}

#[derive(Debug, Clone)]
struct Given {
    text: String,
    excludes: bool,
    matcher: GlobMatcher,
}

impl TensorGlobs {
    /// Parses globs, each `GLOB` or `!GLOB`. No globs select the default.
    ///
    /// # Errors
    /// [`Error::Glob`].
    pub fn new<T: AsRef<str>>(globs: impl IntoIterator<Item = T>) -> Result<Self> {
        let mut given = Vec::new();
        for text in globs {
            let text = text.as_ref().to_owned();
            let (excludes, glob) = match text.strip_prefix('!') {
                Some(glob) => (true, glob),
                None => (false, text.as_str()),
            };
            given.push(Given {
                matcher: matcher(glob)?,
                excludes,
                text,
            });
        }
        let default = if given.iter().all(|g| g.excludes) {
            DEFAULT_EXCLUDED
                .into_iter()
                .map(matcher)
                .collect::<Result<_>>()?
        } else {
            Vec::new()
        };
        Ok(Self { given, default })
    }

    /// Whether `module` is selected.
    pub fn matches(&self, module: &str) -> bool {
        let plain = || self.given.iter().filter(|g| !g.excludes);
        let included = plain().next().is_none() || plain().any(|g| g.matcher.is_match(module));
        let mut excludes = self.given.iter().filter(|g| g.excludes).map(|g| &g.matcher);
        included
            && !excludes.any(|g| g.is_match(module))
            && !self.default.iter().any(|g| g.is_match(module))
    }

    /// The selected modules of `modules`, in their order.
    ///
    /// # Errors
    /// [`Error::NoMatch`] for the first glob, excluding or not, that matches none of `modules`, or if
    /// nothing at all is selected.
    pub fn select<'a>(&self, modules: impl IntoIterator<Item = &'a str>) -> Result<Vec<&'a str>> {
        let modules: Vec<&str> = modules.into_iter().collect();
        let no_match = |glob: String, reason| {
            Err(Error::NoMatch {
                glob,
                candidates: modules.len(),
                reason,
                example: modules.first().map(|&m| m.to_owned()),
            })
        };
        for glob in &self.given {
            if !modules.iter().any(|m| glob.matcher.is_match(m)) {
                return no_match(glob.text.clone(), "the glob matches none");
            }
        }
        let selected: Vec<&str> = modules
            .iter()
            .copied()
            .filter(|m| self.matches(m))
            .collect();
        if selected.is_empty() {
            let globs: Vec<&str> = self.given.iter().map(|g| g.text.as_str()).collect();
            let globs = if globs.is_empty() {
                "*".into()
            } else {
                globs.join(" ")
            };
            return no_match(globs, "all are excluded, or there are none");
        }
        Ok(selected)
    }
}

fn matcher(glob: &str) -> Result<GlobMatcher> {
    match Glob::new(glob) {
        Ok(glob) => Ok(glob.compile_matcher()),
        Err(e) => Err(Error::Glob {
            glob: glob.into(),
            reason: e.kind().to_string(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Kind;

    const MODULES: [&str; 5] = [
        "lm_head",
        "model.embed_tokens",
        "model.layers.0.mlp.up",
        "model.layers.0.q",
        "model.norm",
    ];

    fn select(globs: &[&str]) -> Result<Vec<&'static str>> {
        TensorGlobs::new(globs)?.select(MODULES)
    }

    #[test]
    fn the_default_leaves_embeddings_head_and_norms_alone() {
        assert_eq!(select(&[]).unwrap(), [MODULES[2], MODULES[3]]);
    }

    #[test]
    fn exclusions_alone_narrow_the_default() {
        assert_eq!(select(&["!*mlp*"]).unwrap(), [MODULES[3]]);
    }

    #[test]
    fn plain_globs_replace_the_default_and_exclusions_win() {
        assert_eq!(
            select(&["!*.q", "model.*"]).unwrap(),
            [MODULES[1], MODULES[2], MODULES[4]]
        );
    }

    #[test]
    fn globs_that_match_nothing_are_usage_errors() {
        for globs in [&["*.k"][..], &["*", "!*.k"], &["*.q", "!*"], &["a[", "*"]] {
            let error = select(globs).unwrap_err();
            assert_eq!(error.kind(), Kind::Usage, "{error}");
        }
        assert!(
            TensorGlobs::new::<&str>([])
                .unwrap()
                .select(["lm_head"])
                .is_err()
        );
    }
}
