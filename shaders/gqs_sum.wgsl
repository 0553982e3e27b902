// y[b, r] = bias[r] + the pieces that the tasks of gqs_gemv found of row r, in order.
//
// One lane a row. Reads tasks + panels pieces once.
//
// Consts: WORKGROUP, PANEL, BLOCK, BATCH, TASKS. Fragments: linear, bias, index_words, tasks.
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
    let panel = row / PANEL;
    let begin = words[params.indices + panel];
    let end = words[params.indices + panel + 1u];
    let slots = task_slots();
    for (var b = 0u; b < BATCH; b++) {
        var sum = 0.0;
        // No task has anything of an empty panel.
        for (var task = begin / slots; begin < end && task <= (end - 1u) / slots; task++) {
            sum += pieces[((task + panel) * PANEL + row % PANEL) * BATCH + b];
        }
        store(row, b, sum);
    }
}
