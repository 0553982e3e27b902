//! GGUF files: tensors, and what a language model reads of the metadata.

use crate::{
    folder::Folder,
    safetensors::{check_refusal, check_words},
};
use lacuna::format::Codes;
use lacuna_io::GgufFile;
use lacuna_llm::{ChatTemplate, Checkpoint, Message, Tokenizer};

/// The bytes of a file.
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
        metadata.u32(key).map_or_else(|e| check_refusal(&e), drop);
        metadata.f32(key).map_or_else(|e| check_refusal(&e), drop);
        metadata.str(key).map_or_else(|e| check_refusal(&e), drop);
        metadata
            .strings(key)
            .map_or_else(|e| check_refusal(&e), drop);
        metadata.i32s(key).map_or_else(|e| check_refusal(&e), drop);
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
                    // Rows are whole blocks, and a block is a group.
                    let value = |i| codes.value(i, i / 32);
                    assert!(values.iter().enumerate().all(|(i, &y)| value(i) - y == 0.0));
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
