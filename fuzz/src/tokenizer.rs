//! `tokenizer.json` and the files beside it.

use crate::folder::Folder;
use lacuna_llm::{ChatTemplate, Message, Tokenizer};

/// Texts with every kind of character that tokenizers treat differently.
const TEXTS: [&str; 4] = [
    "",
    "a b  ab\n1",
    "é\u{301}\u{1f600} \u{fffd}\0",
    "<s><|im_end|>\u{2581}a",
];

/// `data` is a `tokenizer.json` and, after a line feed, a `tokenizer_config.json`.
pub fn tokenizer(data: &[u8]) {
    let folder = Folder::new();
    let names = ["tokenizer.json", "tokenizer_config.json"];
    for (name, json) in names.into_iter().zip(data.split(|&byte| byte == b'\n')) {
        folder.put(name, json);
    }
    let path = folder.path(names[0]);
    let path = path.parent().expect("it is in a folder");
    match Tokenizer::from_folder(path) {
        Ok(tokenizer) => check(&tokenizer),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    if let Ok(Some(template)) = ChatTemplate::from_folder(path) {
        let _ = template.render(&[Message::new("user", "a")], true);
    }
}

/// Ids must be those of the vocabulary, and all of them must decode.
pub(crate) fn check(tokenizer: &Tokenizer) {
    for text in TEXTS {
        for ids in [tokenizer.encode(text), tokenizer.encode_special(text)] {
            let Ok(ids) = ids else { continue };
            assert!(ids.iter().all(|&id| (id as usize) < tokenizer.vocab_len()));
            tokenizer.decode(&ids);
            let mut streamer = tokenizer.streamer();
            ids.iter().take(8).for_each(|&id| drop(streamer.push(id)));
        }
    }
    tokenizer.decode(&[0, 1, u32::MAX]);
    let _ = (
        tokenizer.token(0),
        tokenizer.token(u32::MAX),
        tokenizer.id("a"),
    );
}
