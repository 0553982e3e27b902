// All rows of the part, ROWS a workgroup.
fn first_row(tile: u32) -> u32 {
    return tile * ROWS;
}

fn rows_end() -> u32 {
    return params.rows;
}

// The row at the lane's place in the tile, or the last row.
var<private> own_row: u32;

fn look_up_rows(row0: u32, lane: u32) {
    own_row = row_of(row0, lane);
}

fn row_of(row0: u32, r: u32) -> u32 {
    return min(row0 + r, params.rows - 1u);
}

fn put(r: u32, row0: u32, vector: u32, sum: f32) {
    store(row0 + r, vector, sum);
}
