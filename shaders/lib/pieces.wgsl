// The indices of a part in runs: first slots of its runs, first pieces of its panels, pieces.
fn panels() -> u32 {
    return (params.rows + PANEL - 1u) / PANEL;
}

fn run_start(run: u32) -> u32 {
    return words[params.indices + run];
}

fn first_pieces() -> u32 {
    return params.indices + panels() * params.index_stride + 1u;
}

fn pieces_of(panel: u32) -> vec2<u32> {
    return vec2(words[first_pieces() + panel], words[first_pieces() + panel + 1u]);
}

fn piece_count() -> u32 {
    return words[first_pieces() + panels()];
}

// Its number, first run, first slot, last slot + 1.
fn piece_at(place: u32) -> vec4<u32> {
    let at = first_pieces() + panels() + 1u + 4u * place;
    return vec4(words[at], words[at + 1u], words[at + 2u], words[at + 3u]);
}
