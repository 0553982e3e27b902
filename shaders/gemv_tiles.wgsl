// The entry point of gemv whose workgroups sum a tile of rows each.
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
    sum_tile(row0, lane);
}
