// The only row of y is the norm of the row of x of the run's last token.
@group(0) @binding(6) var<storage, read> state: State;

fn source_row(row: u32) -> u32 {
    return clamp(state.tokens, 1u, TOKENS) - 1u;
}
