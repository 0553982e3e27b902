// The state of a sequence. The host sets it before each prompt; `sample` advances it.
struct State {
    position: u32,  // of the first token of this run
    tokens: u32,    // of this run
    step: u32,      // tokens sampled so far
}
