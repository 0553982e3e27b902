// Only rows that are active, which a workgroup finds by itself among WINDOW rows: y holds what each
// row's sum is multiplied with, zero for every vector of this launch where it is not active.
var<workgroup> actives: array<u32, WINDOW>;
var<workgroup> chosen: array<u32, WINDOW>;   // rows of the part, ascending
var<workgroup> found: u32;

// The row whose number in the tile is the lane's, or the last.
var<private> own_row: u32;

// Exactly zero means inactive: what is active is beyond a threshold.
fn is_active(factor: f32) -> bool {
    return (bitcast<u32>(factor) & 0x7fffffffu) != 0u;
}

// How many rows of the window are active; they are in `chosen`.
fn search_rows(window: u32, lane: u32) -> u32 {
    for (var i = lane; i < WINDOW; i += WORKGROUP) {
        let row = window * WINDOW + i;
        var any = false;
        for (var b = 0u; b < BATCH; b++) {
            any |= is_active(y[place_of(min(row, params.rows - 1u), b)]);
        }
        actives[i] = select(0u, 1u, any && row < params.rows);
    }
    workgroupBarrier();
    for (var i = lane; i < WINDOW; i += WORKGROUP) {
        var before = 0u;
        for (var k = 0u; k < i; k++) {
            before += actives[k];
        }
        if actives[i] != 0u {
            chosen[before] = window * WINDOW + i;
        }
        if i == WINDOW - 1u {
            found = before + actives[i];
        }
    }
    return workgroupUniformLoad(&found);
}

fn rows_end() -> u32 {
    return found;
}

fn look_up_rows(row0: u32, lane: u32) {
    own_row = chosen[min(row0 + lane, found - 1u)];
}

fn row_of(row0: u32, r: u32) -> u32 {
    return chosen[min(row0 + r, found - 1u)];
}

fn put(r: u32, row0: u32, vector: u32, sum: f32) {
    let row = chosen[row0 + r];
    let at = place_of(row, vector);
    let factor = y[at];
    if is_active(factor) {
        y[at] = factor * finished(row, sum);
    }
}
