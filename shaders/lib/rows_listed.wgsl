// Only the rows of a list, ROWS entries of it a workgroup, as `compact` writes it:
// | before[blocks + 1] | tally, padding to 4 words | rows of the whole weight, ascending |.
// y holds what each row's sum is multiplied by: zero where the row is not active.
@group(0) @binding(6) var<storage, read> list: array<u32>;

var<private> tile_rows: array<u32, ROWS>;
// The row at the lane's place in the tile, or the last row.
var<private> own_row: u32;

fn list_blocks() -> u32 {
    return (params.y_stride + 15u) / 16u;
}

// Parts begin at a block.
fn rows_begin() -> u32 {
    return list[params.row_base / 16u];
}

fn rows_end() -> u32 {
    return list[(params.row_base + params.rows + 15u) / 16u];
}

// Workgroups past the end have nothing to do. A CPU adapter gives each of its threads one half
// of a launch, so tiles are dealt to both halves in turns.
fn first_row(tile: u32) -> u32 {
    let half = ((params.rows + ROWS - 1u) / ROWS + 1u) / 2u;
    let first = rows_begin() + (tile % half * 2u + tile / half) * ROWS;
    return select(0xffffffffu, first, tile < 2u * half);
}

fn look_up_rows(row0: u32, lane: u32) {
    let first = (list_blocks() + 7u) / 4u * 4u;
    let last = rows_end() - 1u;
    for (var r = 0u; r < ROWS; r++) {
        tile_rows[r] = list[first + min(row0 + r, last)] - params.row_base;
    }
    own_row = list[first + min(row0 + lane, last)] - params.row_base;
}

fn row_of(row0: u32, r: u32) -> u32 {
    return tile_rows[r];
}

fn put(r: u32, row0: u32, vector: u32, sum: f32) {
    // Any lane may store any sum: r is no constant here, so the row is looked up in the list again.
    let first = (list_blocks() + 7u) / 4u * 4u;
    let row = list[first + row0 + r];
    let at = (params.vector_base + vector) * params.y_stride + row;
    let factor = y[at];
    // Exactly zero means inactive: what is active is beyond a threshold.
    if (bitcast<u32>(factor) & 0x7fffffffu) != 0u {
        y[at] = factor * (params.factor * sum + bias_of(row));
    }
}
