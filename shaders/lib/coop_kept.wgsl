// Weights that are not kept are staged as zeros. Their products are zero, except by NaN and infinity, which must not
// reach y through them: a tile whose x is odd, that is, has such numbers as halves, is summed anew, product by product.
// That is rare. Const: MARKED = what is not kept is decoded too, as -0, which no kept weight is then.
const NOT_KEPT: u32 = 0x80000000u;

// The bits of the least number that rounds to infinity.
const ODD: u32 = 0x477ff000u;

var<workgroup> odd: atomic<u32>;

fn forget(lane: u32) {
    if lane == 0u {
        atomicStore(&odd, 0u);
    }
}

fn look_at(x: vec4<f32>) {
    if any((bitcast<vec4<u32>>(x) & vec4(0x7fffffffu)) >= vec4(ODD)) {
        atomicStore(&odd, 1u);
    }
}

fn is_odd() -> bool {
    return atomicLoad(&odd) != 0u;
}

// Writes the tile if its x is odd. Matrices have left no element of it then.
fn mend(row0: u32, vector0: u32, lane: u32) {
    if !is_odd() {
        return;
    }
    for (var i = lane; i < TILE_ROWS * TILE_BATCH; i += WORKGROUP) {
        let row = row0 + i % TILE_ROWS;
        let vector = vector0 + i / TILE_ROWS;
        if row < params.rows && vector < params.batch {
            store(row, vector, sum_of_kept(row, vector));
        }
    }
}

fn sum_of_kept(row: u32, vector: u32) -> f32 {
    var sum = 0.0;
    let packets = (params.slots + SPAN - 1u) / SPAN;
    for (var packet = 0u; packet < packets; packet++) {
        let values = decode_packet(fetch_packet(row, packet), packet);
        for (var s = 0u; s < SPAN; s++) {
            let slot = packet * SPAN + s;
            let col = column(row / V, min(slot, params.slots - 1u));
            let kept = !MARKED || bitcast<u32>(values[s]) != NOT_KEPT;
            if kept && slot < params.slots && col < params.cols {
                sum += f32(f16(values[s])) * f32(f16(x_at(vector, col)));
            }
        }
    }
    return sum;
}
