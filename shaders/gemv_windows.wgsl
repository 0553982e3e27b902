// The entry point of gemv whose workgroups find what is active of WINDOW rows each, and sum that,
// tile by tile: no list is read, and few workgroups have nothing to do.
@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    lane: Lane,
) {
    let window = group.x + group.y * groups.x;
    if window * WINDOW >= params.rows {
        return;
    }
    let count = search_rows(window, lane.index);
    for (var row0 = 0u; row0 < count; row0 += ROWS) {
        sum_tile(row0, lane);
        // The next tile's sums lie where these do.
        workgroupBarrier();
    }
}
