// y[b, r] = bias[r] + what workgroups of gqs_gemv or gqs_runs found of pieces of row r, in order.
//
// One lane a row. Reads every piece once.
//
// Consts: WORKGROUP, PANEL, BATCH. Fragments: linear, bias, index_words, tasks or pieces.
@group(0) @binding(1) var<storage, read> pieces: array<f32>;

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = (group.x + group.y * groups.x) * WORKGROUP + lane;
    if row >= params.rows {
        return;
    }
    let these = pieces_of(row / PANEL);
    for (var b = 0u; b < BATCH; b++) {
        var sum = 0.0;
        for (var piece = these.x; piece < these.y; piece++) {
            sum += pieces[(piece * PANEL + row % PANEL) * BATCH + b];
        }
        store(row, b, sum);
    }
}
