//! `tokenizer` for libFuzzer.

#![no_main]

// The crate that reads tokenizers panics where a file contradicts itself. That is caught, so that only
// what comes through to here may end the run, and not the panic by itself.
libfuzzer_sys::fuzz_target!(
    init: drop(std::panic::take_hook()),
    |data: &[u8]| lacuna_fuzz::tokenizer(data)
);
