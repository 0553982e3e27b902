//! Checkpoints small enough to be made by a test.

use half::bf16;
use lacuna::format::{Dtype, Values};
use lacuna_io::{RawTensor, save};
use lacuna_llm::Linear;
use serde_json::{Value, json};
use std::{collections::BTreeMap, fs, path::PathBuf};
use tempfile::TempDir;

/// Values by which a test can tell where they came from.
pub fn ramp(count: usize) -> Vec<f32> {
    (0..count)
        .map(|i| bf16::from_f32((i % 251) as f32 / 64.0 - 1.5).to_f32())
        .collect()
}

/// A configuration of two layers: hidden 8, ffn 12, two heads of 4, one of them for keys.
pub fn config(model_type: &str) -> Value {
    json!({
        "model_type": model_type,
        "vocab_size": 16,
        "hidden_size": 8,
        "intermediate_size": 12,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 4,
        "max_position_embeddings": 64,
        "rms_norm_eps": 1e-5,
        "tie_word_embeddings": true,
    })
}

/// `object` with `changes` applied; null removes a key.
pub fn with(mut object: Value, changes: Value) -> Value {
    let Value::Object(changes) = changes else {
        panic!("changes are an object")
    };
    let map = object.as_object_mut().unwrap();
    for (key, value) in changes {
        if value.is_null() {
            map.remove(&key);
        } else {
            map.insert(key, value);
        }
    }
    object
}

/// Shapes of the tensors of [`config`], by Hugging Face's names.
pub fn shapes(gemma: bool) -> BTreeMap<String, Vec<usize>> {
    let mut shapes = BTreeMap::from([
        ("model.embed_tokens.weight".into(), vec![16, 8]),
        ("model.norm.weight".into(), vec![8]),
    ]);
    for layer in 0..2 {
        let mut add = |name: &str, shape: &[usize]| {
            let name = format!("model.layers.{layer}.{name}.weight");
            shapes.insert(name, shape.to_vec());
        };
        add("self_attn.q_proj", &[8, 8]);
        add("self_attn.k_proj", &[4, 8]);
        add("self_attn.v_proj", &[4, 8]);
        add("self_attn.o_proj", &[8, 8]);
        add("mlp.gate_proj", &[12, 8]);
        add("mlp.up_proj", &[12, 8]);
        add("mlp.down_proj", &[8, 12]);
        add("input_layernorm", &[8]);
        add("post_attention_layernorm", &[8]);
        if gemma {
            add("pre_feedforward_layernorm", &[8]);
            add("post_feedforward_layernorm", &[8]);
            add("self_attn.q_norm", &[4]);
            add("self_attn.k_norm", &[4]);
        }
    }
    shapes
}

/// Adds the biases of these products of [`config`].
pub fn add_biases(shapes: &mut BTreeMap<String, Vec<usize>>, linears: &[Linear]) {
    for module in (0..2).flat_map(|layer| linears.iter().map(move |l| l.module(layer))) {
        let rows = shapes[&format!("{module}.weight")][0];
        shapes.insert(format!("{module}.bias"), vec![rows]);
    }
}

/// The products that have a bias in every Qwen 2.
pub const QWEN2: [Linear; 3] = [Linear::Q, Linear::K, Linear::V];

/// A Hugging Face folder.
pub struct Folder {
    pub dir: TempDir,
}

impl Folder {
    pub fn new(config: &Value) -> Self {
        let folder = Self {
            dir: tempfile::tempdir().unwrap(),
        };
        folder.put("config.json", config.to_string().as_bytes());
        folder
    }

    pub fn put(&self, name: &str, bytes: &[u8]) {
        fs::write(self.dir.path().join(name), bytes).unwrap();
    }

    pub fn path(&self) -> PathBuf {
        self.dir.path().to_owned()
    }

    /// Writes bf16 tensors of these shapes.
    pub fn tensors(self, shapes: &BTreeMap<String, Vec<usize>>) -> Self {
        let tensors = shapes.iter().map(|(name, shape)| {
            let values = ramp(shape.iter().product());
            let values = Values::round(Dtype::Bf16, &values).unwrap();
            (name.as_str(), RawTensor::from_values(shape, &values))
        });
        save(self.dir.path().join("model.safetensors"), tensors).unwrap();
        self
    }
}

/// A metadata value of a GGUF file.
#[derive(Clone)]
pub enum Meta {
    U32(u32),
    F32(f32),
    Bool(bool),
    Text(String),
    Texts(Vec<String>),
    F32s(Vec<f32>),
    I32s(Vec<i32>),
}

impl From<&str> for Meta {
    fn from(text: &str) -> Self {
        Self::Text(text.into())
    }
}

fn text(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend((text.len() as u64).to_le_bytes());
    bytes.extend(text.as_bytes());
}

impl Meta {
    fn write(&self, bytes: &mut Vec<u8>) {
        let mut array = |code: u32, len: usize| {
            bytes.extend(9u32.to_le_bytes());
            bytes.extend(code.to_le_bytes());
            bytes.extend((len as u64).to_le_bytes());
        };
        match self {
            Self::U32(v) => {
                bytes.extend(4u32.to_le_bytes());
                bytes.extend(v.to_le_bytes());
            }
            Self::F32(v) => {
                bytes.extend(6u32.to_le_bytes());
                bytes.extend(v.to_le_bytes());
            }
            Self::Bool(v) => {
                bytes.extend(7u32.to_le_bytes());
                bytes.push(u8::from(*v));
            }
            Self::Text(v) => {
                bytes.extend(8u32.to_le_bytes());
                text(bytes, v);
            }
            Self::Texts(v) => {
                array(8, v.len());
                for v in v {
                    text(bytes, v);
                }
            }
            Self::F32s(v) => {
                array(6, v.len());
                for v in v {
                    bytes.extend(v.to_le_bytes());
                }
            }
            Self::I32s(v) => {
                array(5, v.len());
                for v in v {
                    bytes.extend(v.to_le_bytes());
                }
            }
        }
    }
}

/// A GGUF file: metadata, and tensors as shape (outermost first), type and bytes.
#[derive(Clone, Default)]
pub struct Gguf {
    pub metadata: BTreeMap<String, Meta>,
    pub tensors: BTreeMap<String, (Vec<usize>, u32, Vec<u8>)>,
}

impl Gguf {
    /// The same model as [`config`].
    pub fn model(architecture: &str) -> Self {
        let mut file = Self::default();
        file.set("general.architecture", architecture.into());
        for (key, value) in [
            ("block_count", 2),
            ("context_length", 64),
            ("embedding_length", 8),
            ("feed_forward_length", 12),
            ("attention.head_count", 2),
            ("attention.head_count_kv", 1),
            ("attention.key_length", 4),
            ("attention.value_length", 4),
        ] {
            file.set(&format!("{architecture}.{key}"), Meta::U32(value));
        }
        let eps = format!("{architecture}.attention.layer_norm_rms_epsilon");
        file.set(&eps, Meta::F32(1e-5));
        let gemma = architecture == "gemma3";
        if gemma {
            file.set("gemma3.attention.sliding_window", Meta::U32(16));
        }
        for (name, shape) in shapes(gemma) {
            let name = gguf_name(&name, gemma);
            file.f32s(&name, &shape, &ramp(shape.iter().product()));
        }
        file
    }

    pub fn set(&mut self, key: &str, value: Meta) {
        self.metadata.insert(key.into(), value);
    }

    /// A tensor of f32 values.
    pub fn f32s(&mut self, name: &str, shape: &[usize], values: &[f32]) {
        let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.tensors.insert(name.into(), (shape.into(), 0, bytes));
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = b"GGUF".to_vec();
        bytes.extend(3u32.to_le_bytes());
        bytes.extend((self.tensors.len() as u64).to_le_bytes());
        bytes.extend((self.metadata.len() as u64).to_le_bytes());
        for (key, value) in &self.metadata {
            text(&mut bytes, key);
            value.write(&mut bytes);
        }
        let mut data = Vec::new();
        for (name, (shape, code, values)) in &self.tensors {
            text(&mut bytes, name);
            bytes.extend((shape.len() as u32).to_le_bytes());
            for &d in shape.iter().rev() {
                bytes.extend((d as u64).to_le_bytes());
            }
            bytes.extend(code.to_le_bytes());
            bytes.extend((data.len() as u64).to_le_bytes());
            data.extend(values);
            data.resize(data.len().next_multiple_of(32), 0);
        }
        bytes.resize(bytes.len().next_multiple_of(32), 0);
        bytes.extend(data);
        bytes
    }

    /// The file, in a folder that lives as long as the guard.
    pub fn save(&self) -> (TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model.gguf");
        fs::write(&path, self.bytes()).unwrap();
        (dir, path)
    }
}

/// llama.cpp's name of a tensor, written independently of the crate's.
fn gguf_name(name: &str, gemma: bool) -> String {
    let after_attention = if gemma {
        "post_attention_norm"
    } else {
        "ffn_norm"
    };
    [
        ("model.embed_tokens", "token_embd"),
        ("model.norm", "output_norm"),
        ("model.layers", "blk"),
        ("self_attn.q_proj", "attn_q"),
        ("self_attn.k_proj", "attn_k"),
        ("self_attn.v_proj", "attn_v"),
        ("self_attn.o_proj", "attn_output"),
        ("self_attn.q_norm", "attn_q_norm"),
        ("self_attn.k_norm", "attn_k_norm"),
        ("mlp.gate_proj", "ffn_gate"),
        ("mlp.up_proj", "ffn_up"),
        ("mlp.down_proj", "ffn_down"),
        ("input_layernorm", "attn_norm"),
        ("post_attention_layernorm", after_attention),
        ("pre_feedforward_layernorm", "ffn_norm"),
        ("post_feedforward_layernorm", "post_ffw_norm"),
    ]
    .iter()
    .fold(name.to_owned(), |name, (from, to)| name.replace(from, to))
}

/// Asserts that `result` is an error whose message names all of `parts`.
#[track_caller]
pub fn assert_names<T>(result: Result<T, lacuna_llm::Error>, parts: &[&str]) {
    let Err(error) = result else {
        panic!("no error that names {parts:?}")
    };
    let message = error.to_string();
    for part in parts {
        assert!(message.contains(part), "{message:?} lacks {part:?}");
    }
    assert!(!message.contains(char::is_control), "{message:?}");
}
