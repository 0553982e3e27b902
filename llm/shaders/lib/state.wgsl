// Where a sequence stands. The host sets it before a prompt; `sample` moves it on.
struct State {
    position: u32,  // of the first token of this run
    tokens: u32,    // of this run
    step: u32,      // tokens sampled so far
}
