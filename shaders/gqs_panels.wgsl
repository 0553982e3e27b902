// The entry point of gqs_gemv whose workgroups sum a panel each: no second launch, but the heaviest panel decides
// how long it takes.
@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let panel = group.x + group.y * groups.x;
    if panel * PANEL >= params.rows {
        return;
    }
    sum_slots(words[params.indices + panel], words[params.indices + panel + 1u], lane);
    for (var i = lane; i < SUMS; i += WORKGROUP) {
        let row = panel * PANEL + i / BATCH;
        if row < params.rows {
            store(row, i % BATCH, sums[i * WORKGROUP]);
        }
    }
}
