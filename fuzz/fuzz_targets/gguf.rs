//! `gguf` for libFuzzer.

#![no_main]

// The crate that reads tokenizers panics if a file contradicts itself. These panics are caught, so the
// hook that would abort on them is removed: only a panic that arrives here may end the run.
libfuzzer_sys::fuzz_target!(
    init: drop(std::panic::take_hook()),
    |data: &[u8]| lacuna_fuzz::gguf(data)
);
