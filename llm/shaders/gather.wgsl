// x[t] = SCALE · E[ids[t]]   for the rows of E that this part holds
//
// Each invocation copies one packet of SPAN values of a row. Ids of other parts are skipped: each part
// has a launch of its own.
//
// Consts: WORKGROUP; PACKETS = packets of a row; SCALE, which includes the factor of E. Fragments: those
// that read rows of E and bind it.
struct Part {
    tokens: u32,
    cols: u32,
    row_base: u32,      // first row of this part in E
    rows: u32,
    values: u32,        // word offset of the values
    value_stride: u32,  // words from row to row
    scales: u32,
    scale_stride: u32,  // words from the scales of eight rows to those of the next
}

@group(0) @binding(0) var<uniform> params: Part;
@group(0) @binding(1) var<storage, read> ids: array<u32>;
@group(0) @binding(2) var<storage, read_write> x: array<f32>;

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let packet = group.x * WORKGROUP + lane;
    let token = group.y;
    if packet >= PACKETS || token >= params.tokens {
        return;
    }
    let row = ids[token] - params.row_base;
    // An id below the part's first row wraps to a number far past its last.
    if row >= params.rows {
        return;
    }
    let values = decoded(row, packet);
    for (var i = 0u; i < SPAN; i++) {
        let col = packet * SPAN + i;
        if col < params.cols {
            x[token * params.cols + col] = SCALE * values[i];
        }
    }
}
