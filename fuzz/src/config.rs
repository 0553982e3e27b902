//! `config.json` of Hugging Face models.

use crate::folder::Folder;
use lacuna_llm::{Config, Linear};

/// `data` is a `config.json`. Sizes that are accepted must be safe to compute with.
pub fn config(data: &[u8]) {
    let folder = Folder::new();
    let config = match Config::from_json_file(folder.put("config.json", data)) {
        Ok(config) => config,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    for linear in Linear::ALL {
        let [rows, cols] = config.shape(linear);
        assert!(rows > 0 && cols > 0 && u32::try_from(rows).is_ok() && u32::try_from(cols).is_ok());
    }
    assert_eq!(config.heads % config.kv_heads, 0);
    assert!(config.norm_eps > 0.0 && config.query_scale.is_finite());
    for layer in &config.layers {
        assert!(layer.rope < config.ropes.len());
    }
    for rope in &config.ropes {
        let frequencies = rope.frequencies(config.head_dim);
        assert!(frequencies.iter().all(|f| f.is_finite()), "{rope:?}");
        assert_eq!(rope.table(config.head_dim, 3).len(), 3 * config.head_dim);
    }
}
