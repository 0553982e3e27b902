// y[b, r] = bias[r] + Σ_s W[r, s] · x[b, column(s)]   for BATCH vectors
//
// One workgroup sums ROWS rows. Its lanes walk along the stored values, each lane
// taking a packet of SPAN values at a time; the x of a packet is loaded once and
// used by all rows that share it, for all vectors.
//
// Reads the weight once and x once per ROWS rows; 2 · rows · slots · batch FLOPs.
//
// Consts: WORKGROUP, ROWS, BATCH; WORDS = words of a packet; SHARE = rows of this
// workgroup that use the same columns; GUARD = packets do not fill the last
// round of lanes; EDGE = the last one reaches past `cols`; HALVES = lanes alternate between the
// halves of a round; PARTS = 1 or 2, of the rows that share columns.
// Fragments: linear, bias, rows, load, values or codes, x, pick, rounds, reduce (and columns, packet
// for N:M).
const ACC: u32 = ROWS * BATCH;

// x of a column that may lie past the end: nothing beyond `cols` ever reaches a sum.
fn x_or_zero(vector: u32, col: u32) -> f32 {
    if EDGE {
        return select(0.0, x_at(vector, min(col, params.cols - 1u)), col < params.cols);
    }
    return x_at(vector, col);
}

// Sum i of a workgroup belongs to row i / BATCH and vector i % BATCH.
fn store_sum(row0: u32, i: u32, sum: f32) {
    if row0 + i / BATCH < rows_end() {
        put(i / BATCH, row0, i % BATCH, sum);
    }
}

// The packet of a round that a lane takes.
//
// LLVM makes a vector of eight 64-bit values by two plain loads and six masked ones (AVX-512),
// and a line of memory that a masked load is first to touch comes late: on Zen 5 a dense product
// took 2.5 times as long. The first two lanes therefore begin the two lines of a round.
fn place(lane: u32) -> u32 {
    if HALVES {
        return lane % 2u * (WORKGROUP / 2u) + lane / 2u;
    }
    return lane;
}

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    lane: Lane,
) {
    let row0 = first_row(group.x + group.y * groups.x);
    if row0 >= rows_end() {
        return;
    }

    var acc: array<f32, ACC>;
    // Rows past the end repeat the last one; their sums are not stored. Addresses are
    // taken out of the loop by hand: drivers do not move uniform loads.
    var row_at: array<u32, ROWS>;
    look_up_rows(row0, lane.index);
    for (var r = 0u; r < ROWS; r++) {
        row_at[r] = params.values + row_of(row0, r) * params.value_stride;
    }
    add_rounds(&acc, row_at, row0, place(lane.index), (params.slots + SPAN - 1u) / SPAN);

    finish(acc, row0, lane);
}
