//! GGUF files: tensors, and the metadata that a language model reads.

use crate::{
    folder::Folder,
    safetensors::{check_refusal, check_words},
};
use lacuna::format::Codes;
use lacuna_io::GgufFile;
use lacuna_llm::{ChatTemplate, Checkpoint, Message, Tokenizer};

/// Codes must stand for what blocks decode to, apart from the rounding of scales and zeros to halves.
/// Rows are whole groups.
fn check_codes(codes: &Codes, values: &[f32]) {
    let group = codes.quant().group().expect("blocks are shorter than rows");
    for (g, exact) in values.chunks(group).enumerate() {
        let most = exact.iter().fold(0f32, |m, y| m.max(y.abs()));
        let step = codes.factor() * codes.scales()[g].to_f32();
        let span = step * f32::from(codes.quant().max_code());
        let bound = (2.0 * most + span.abs()) / 2048.0;
        for (i, &y) in exact.iter().enumerate() {
            let value = codes.value(g * group + i, g);
            assert!(
                value.to_bits() == y.to_bits() || (value - y).abs() <= bound,
                "{value} for {y}"
            );
        }
    }
}

/// `data` is a GGUF file.
pub fn gguf(data: &[u8]) {
    let folder = Folder::new();
    let path = folder.put("model.gguf", data);
    let file = match GgufFile::open(&path) {
        Ok(file) => file,
        Err(error) => return check_refusal(&error),
    };
    let metadata = file.metadata();
    for (key, value) in metadata.entries() {
        check_words(&value.to_string());
        metadata
            .get::<u32>(key)
            .map_or_else(|e| check_refusal(&e), drop);
        metadata
            .get::<f32>(key)
            .map_or_else(|e| check_refusal(&e), drop);
        metadata
            .get::<&str>(key)
            .map_or_else(|e| check_refusal(&e), drop);
        metadata
            .get::<Vec<&str>>(key)
            .map_or_else(|e| check_refusal(&e), drop);
        metadata
            .get::<Vec<i32>>(key)
            .map_or_else(|e| check_refusal(&e), drop);
    }
    for tensor in file.tensors() {
        assert!(tensor.bytes <= data.len() as u64);
        let (rows, cols) = (tensor.rows(), tensor.cols());
        match file.read_f32(tensor.name) {
            Ok(values) => {
                assert_eq!(Some(values.len()), rows.checked_mul(cols));
                let again = file.read_values(tensor.name).expect("it was read before");
                assert_eq!(again.len(), values.len());
                let codes = file.read_codes(tensor.name).expect("it was read before");
                let quant = file.quant(tensor.name).expect("it was read before");
                assert_eq!(codes.as_ref().map(Codes::quant), quant);
                if let Some(codes) = codes {
                    check_codes(&codes, &values);
                }
                if rows > 0 {
                    let last = file.read_rows_f32(tensor.name, rows - 1..rows);
                    let last = last.expect("the row is there");
                    let bits = |x: &[f32]| x.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
                    assert_eq!(bits(&last), bits(&values[values.len() - cols..]));
                }
            }
            Err(error) => check_refusal(&error),
        }
    }
    let vocabulary = file.without_tensors().expect("the file is there");
    let again = GgufFile::open(folder.put("vocabulary.gguf", vocabulary));
    let again = again.expect("metadata alone are a file");
    assert!(again.metadata().entries().eq(metadata.entries()));

    if let Ok(tokenizer) = Tokenizer::from_gguf(&file) {
        crate::tokenizer::check(&tokenizer);
    }
    if let Ok(Some(template)) = ChatTemplate::from_gguf(&file) {
        let _ = template.render(&[Message::new("user", "a")], true);
    }
    if let Ok(checkpoint) = Checkpoint::open(&path) {
        for module in checkpoint.modules() {
            let _ = checkpoint.matrix(&module);
        }
    }
}
