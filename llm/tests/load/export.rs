//! GGUF files as folders, which must be the same models.

use crate::files::{Gguf, Meta, assert_names};
use lacuna_io::{RawTensor, save};
use lacuna_llm::{Checkpoint, Config, Message};
use std::fs;

/// A model with a vocabulary of two words and a chat template.
fn model(architecture: &str) -> Gguf {
    let mut file = Gguf::model(architecture);
    if architecture == "qwen3" {
        for norm in ["0.attn_q", "0.attn_k", "1.attn_q", "1.attn_k"] {
            file.f32s(
                &format!("blk.{norm}_norm.weight"),
                &[4],
                &[0.5, 1.0, 1.5, 2.0],
            );
        }
    }
    let texts = |texts: &[&str]| Meta::Texts(texts.iter().map(|t| (*t).to_owned()).collect());
    file.set("tokenizer.ggml.model", "llama".into());
    file.set(
        "tokenizer.ggml.tokens",
        texts(&["<unk>", "<s>", "\u{2581}", "ab", "a", "b"]),
    );
    file.set(
        "tokenizer.ggml.token_type",
        Meta::I32s(vec![2, 3, 1, 1, 1, 1]),
    );
    file.set(
        "tokenizer.ggml.scores",
        Meta::F32s(vec![0.0, 0.0, -3.0, -1.0, -2.0, -2.0]),
    );
    file.set("tokenizer.ggml.bos_token_id", Meta::U32(1));
    file.set(
        "tokenizer.chat_template",
        "{{ messages[0].content }}!".into(),
    );
    file
}

#[test]
fn a_gguf_file_and_the_folder_made_of_it_are_one_model() {
    let biased = |architecture: &str, tensors: &[&str]| {
        let mut file = model(architecture);
        for tensor in tensors {
            let rows = file.tensors[&format!("{tensor}.weight")].0[0];
            file.f32s(&format!("{tensor}.bias"), &[rows], &vec![0.25; rows]);
        }
        (architecture.to_owned(), file)
    };
    for (architecture, file) in [
        biased("llama", &[]),
        biased("qwen2", &[]),
        biased("qwen3", &[]),
        biased("gemma3", &[]),
        // The folder needs all biases of its kind; those that the file lacks are zeros.
        biased("llama", &["blk.0.attn_q", "blk.1.ffn_down"]),
        biased("qwen2", &["blk.1.attn_v"]),
        biased("gemma3", &["blk.0.attn_output"]),
    ] {
        let architecture = architecture.as_str();
        let (_dir, path) = file.save();
        let from = Checkpoint::open(path).unwrap();
        let folder = tempfile::tempdir().unwrap();
        for (name, bytes) in from.files_beside().unwrap() {
            fs::write(folder.path().join(name), bytes).unwrap();
        }
        let mut tensors = vec![];
        for module in from.modules() {
            let weight = from.matrix(&module).unwrap().to_dense();
            let tensor = RawTensor::from_values(&from.shape(&module).unwrap(), weight.values());
            tensors.push((format!("{module}.weight"), tensor));
        }
        for (name, len) in from.vectors().unwrap() {
            let values = from.stored_vector(&name).unwrap();
            assert_eq!(values.len(), len);
            tensors.push((name, RawTensor::from_f32(&[len], &values)));
        }
        save(folder.path().join("model.safetensors"), tensors).unwrap();

        let to = Checkpoint::open(folder.path()).unwrap();
        let mut expected: Config = from.config().clone();
        expected.architecture.clone_from(&to.config().architecture);
        expected.norm_plus_one = architecture == "gemma3";
        assert_eq!(*to.config(), expected);
        for module in from.modules() {
            let dense = |c: &Checkpoint| c.matrix(&module).unwrap().to_dense();
            assert_eq!(dense(&from), dense(&to), "{architecture} {module}");
        }
        for (name, len) in from.vectors().unwrap() {
            let values = |c: &Checkpoint| {
                c.norm(&name)
                    .or_else(|_| c.vector(&name).map(|b| b.unwrap_or(vec![0.0; len])))
            };
            let pairs = values(&from).unwrap().into_iter().zip(values(&to).unwrap());
            // A multiplier near 0 may lose bits, because 1 + w is rounded.
            let far = |(a, b): (f32, f32)| (a - b).abs() > f32::EPSILON / 2.0;
            assert_eq!(
                pairs.filter(|&p| far(p)).count(),
                0,
                "{architecture} {name}"
            );
        }
        let (a, b) = (from.tokenizer().unwrap(), to.tokenizer().unwrap());
        assert_eq!(a.encode("abba").unwrap(), b.encode("abba").unwrap());
        assert_eq!((a.bos(), a.add_bos()), (b.bos(), b.add_bos()));
        let template = to.chat_template().unwrap().expect("it has one");
        let text = template
            .render(&[Message::new("user", "hi")], false)
            .unwrap();
        assert_eq!(text, "hi!");
    }
}

#[test]
fn biases_that_a_folder_cannot_state_are_refused() {
    for (architecture, tensor, bias) in [
        ("qwen2", "blk.0.attn_output", "self_attn.o_proj.bias"),
        ("qwen3", "blk.0.ffn_up", "mlp.up_proj.bias"),
    ] {
        let mut file = model(architecture);
        let rows = file.tensors[&format!("{tensor}.weight")].0[0];
        file.f32s(&format!("{tensor}.bias"), &[rows], &vec![0.25; rows]);
        let (_dir, path) = file.save();
        let c = Checkpoint::open(path).unwrap();
        assert_names(c.files_beside(), &[bias, architecture]);
    }
}
