// N:M: the places of a step's columns in a plane of x are staged beside the values, four slots a quad. NM-SpMM
// (https://arxiv.org/abs/2503.01253) calls this the non-packing path.
const PLACES: u32 = TILE_SETS * QUADS;
const COLUMNS_HELD: u32 = (PLACES + WORKGROUP - 1u) / WORKGROUP;
var<workgroup> places: array<vec4<u32>, PLACES>;

// Index fields of four slots each, in the lowest bits.
fn fetch_columns(row0: u32, step: u32, lane: u32) -> array<u32, COLUMNS_HELD> {
    var held: array<u32, COLUMNS_HELD>;
    let last = (params.rows - 1u) / V;
    for (var k = 0u; k < COLUMNS_HELD; k++) {
        let i = k * WORKGROUP + lane;
        let block = min(row0 / V + i / QUADS, last);
        let quad = step * QUADS + i % QUADS;
        if i < PLACES && quad < params.index_stride {
            let at = params.indices + block / INTERLEAVE * params.index_stride + quad;
            held[k] = words[at] >> (block % INTERLEAVE * 4u * INDEX_BITS);
        }
    }
    return held;
}

// Slots that a row does not have fall into windows past the last column, where x is zero.
fn x_place(quad: u32, j: u32, fields: u32) -> u32 {
    let in_window = (fields >> (j * INDEX_BITS)) & INDEX_MASK;
    let col = min((4u * quad + j) / N * M + in_window, TILE_COLS - 1u);
    return col * ACROSS + col / 4u;
}

fn put_columns(held: array<u32, COLUMNS_HELD>, lane: u32) {
    for (var k = 0u; k < COLUMNS_HELD; k++) {
        let i = k * WORKGROUP + lane;
        if i < PLACES {
            let quad = i % QUADS;
            let fields = held[k];
            places[i] = vec4(
                x_place(quad, 0u, fields),
                x_place(quad, 1u, fields),
                x_place(quad, 2u, fields),
                x_place(quad, 3u, fields),
            );
        }
    }
}

fn x_places(quad: u32, row0: u32, tile_row: u32) -> vec4<u32> {
    return places[((row0 + tile_row) / V - row0 / V) * QUADS + quad];
}
