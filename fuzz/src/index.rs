//! Shard indices and the configurations beside them.

use crate::{folder::Folder, safetensors::read, sketch::Sketch};

/// Two shards that hold a symmetric GPTQ weight, `a.w`, and a dense one.
const SHARDS: [(&str, &[u8]); 2] = [
    (
        "a.safetensors",
        b"a.w.qweight I32 1 8\na.w.scales F16 1 8\nb.weight F32 1 2\n",
    ),
    ("b.safetensors", b"a.w.qzeros I32 1 1\na.w.g_idx I32 8\n"),
];

/// `data` is a `model.safetensors.index.json`, then after a line feed a `config.json`, and after
/// another one a `quantize_config.json`. Files that are left out do not exist.
pub fn index(data: &[u8]) {
    let folder = Folder::new();
    let mut len = 0;
    for (name, sketch) in SHARDS {
        let file = Sketch::read(sketch).expect("the shards are sketches").file;
        len += file.len() as u64;
        folder.put(name, file);
    }
    let names = [
        "model.safetensors.index.json",
        "config.json",
        "quantize_config.json",
    ];
    for (name, json) in names.into_iter().zip(data.split(|&byte| byte == b'\n')) {
        folder.put(name, json);
    }
    let index = folder.path(names[0]);
    let folder_path = index.parent().expect("it is in a folder");
    let _ = read(&folder, folder_path, len);
}
