//! The model that ships with the sources.

use lacuna_llm::{Checkpoint, EMBEDDING, HEAD, Linear};
use std::path::PathBuf;

fn shakespeare() -> Checkpoint {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../assets/shakespeare");
    Checkpoint::open(path).unwrap()
}

#[test]
fn it_opens() {
    let checkpoint = shakespeare();
    let config = checkpoint.config();
    assert_eq!(
        (config.vocab, config.hidden, config.layers.len()),
        (256, 256, 4)
    );
    assert_eq!((config.bos, config.eos.len()), (None, 0));
    assert!(config.tied_head);
    let [rows, cols] = config.shape(Linear::Down);
    let down = checkpoint.matrix(&Linear::Down.module(3)).unwrap();
    assert_eq!((down.rows(), down.cols()), (rows, cols));
    assert_eq!(checkpoint.stored_format(HEAD).unwrap(), "bf16");
    let all = checkpoint.matrix(EMBEDDING).unwrap();
    assert_eq!(all, checkpoint.matrix_rows(HEAD, 0..256).unwrap());
    assert!(checkpoint.chat_template().unwrap().is_none());
}

#[test]
fn its_tokens_are_bytes() {
    let tokenizer = shakespeare().tokenizer().unwrap();
    assert_eq!(tokenizer.vocab_len(), 256);
    assert_eq!((tokenizer.bos(), tokenizer.add_bos()), (None, false));
    let text = "To be, or\n nöt 🙂\0\u{7f}";
    let ids: Vec<u32> = text.bytes().map(u32::from).collect();
    assert_eq!(tokenizer.encode(text).unwrap(), ids);
    assert_eq!(tokenizer.encode_special(text).unwrap(), ids);
    assert_eq!(tokenizer.decode(&ids), text);
    assert_eq!(tokenizer.id("A"), Some(65));
    assert_eq!(tokenizer.token(65).as_deref(), Some("A"));
    assert_eq!(tokenizer.token(256), None);

    let mut streamer = tokenizer.streamer();
    let parts: Vec<String> = ids.iter().map(|&id| streamer.push(id)).collect();
    assert_eq!(parts.concat(), text);
    assert_eq!(parts.iter().filter(|p| p.is_empty()).count(), 1 + 3);
    assert_eq!(streamer.finish(), "");
}

#[test]
fn broken_bytes_hold_nothing_up() {
    let tokenizer = shakespeare().tokenizer().unwrap();
    let mut streamer = tokenizer.streamer();
    let mut text: String = (0..40).map(|_| streamer.push(0xff)).collect();
    assert!(text.len() >= 36 * 3, "{text:?}");
    for byte in "🙂!".bytes() {
        text += &streamer.push(byte.into());
    }
    assert!(text.ends_with("\u{fffd}🙂!"), "{text:?}");
    assert_eq!(streamer.push(0xf0), "");
    assert_eq!(streamer.finish(), "\u{fffd}");
    // Unknown ids have no text.
    assert_eq!(streamer.push(u32::MAX), "");
    assert_eq!(streamer.push(65), "A");
}
